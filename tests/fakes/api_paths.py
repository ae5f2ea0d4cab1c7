"""One address of each served API: what it is asked, and how it refuses."""

from __future__ import annotations

from typing import Any

from tests.fakes.api import KEY, Answer, House

STOCHASTIC = "/v1/modelApi/submit/x"
BETA = "/api/beta/organizations/acme/inference-endpoints/x"
JOBS = "/api/public/organizations/acme/inference-endpoints/x/jobs"
OPENAI = "/v1/images/generations"
HEADERS = {STOCHASTIC: "apiKey", BETA: "Salad-Api-Key", JOBS: "Salad-Api-Key", OPENAI: "Authorization"}
BODIES: dict[str, dict[str, Any]] = {
    STOCHASTIC: {"prompt": "a fox", "params": {}},
    BETA: {"modelInputs": {"prompt": "a fox"}},
    JOBS: {"input": {"modelInputs": {"prompt": "a fox"}}},
    OPENAI: {"prompt": "a fox"},
}
APIS = [STOCHASTIC, BETA, JOBS, OPENAI]


def keyed(path: str, key: str) -> dict[str, str]:
    """The header that carries a key to this API."""
    return {HEADERS[path]: f"Bearer {key}" if path == OPENAI else key}


async def post(home: House, path: str, key: str = KEY, **more: Any) -> Answer:
    """A request to an API; its usual body unless another is given."""
    if "data" not in more:
        more.setdefault("json", BODIES[path])
    headers = {**keyed(path, key), **more.pop("headers", {})}
    return await home.call("POST", path, key="", headers=headers, **more)


def in_form(path: str, answer: Answer) -> str:
    """The message of an error, which must have the API's own form."""
    if path == STOCHASTIC:
        assert answer.data["success"] is False
        return str(answer.data["message"])
    if path == OPENAI:
        assert set(answer.data["error"]) == {"message", "type", "param", "code"}
        return str(answer.data["error"]["message"])
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.data["type"] == "about:blank"
    assert answer.data["status"] == answer.status
    assert answer.data["title"]
    assert answer.data["instance"] == path
    return str(answer.data["detail"])
