"""Requests of Salad's two APIs, and calls whose answers are held against its OpenAPI file."""

from __future__ import annotations

import base64
from typing import Any

from tests.fakes import api_spec
from tests.fakes.api import Answer, House
from tests.fakes.backend import flat_png

AT = "/organizations/acme-corp/inference-endpoints"
BETA = f"/api/beta{AT}/stable-diffusion-2-1"
ENDPOINTS = f"/api/public{AT}"
JOBS = f"{ENDPOINTS}/stable-diffusion-2-1/jobs"
DOCUMENTED = {
    "modelInputs": {
        "prompt": "a red fox in snow",
        "num_inference_steps": 50,
        "guidance_scale": 20,
        "width": 512,
        "height": 512,
        "num_images_per_prompt": 1,
    },
    "callInputs": {
        "PIPELINE": "StableDiffusionPipeline",
        "SCHEDULER": "EulerDiscreteScheduler",
        "safety_checker": "true",
    },
}
PNG = base64.b64encode(flat_png(64, 64, 5)).decode()
MASK = base64.b64encode(flat_png(64, 64, 0xFFFFFF)).decode()


def inputs(**more: Any) -> dict[str, Any]:
    """A request's body; upper-case names and safety_checker are callInputs."""
    calls = {name: more.pop(name) for name in list(more) if name.isupper() or name == "safety_checker"}
    return {"modelInputs": {"prompt": "a fox", **more}, "callInputs": calls}


async def beta(home: House, body: dict[str, Any]) -> dict[str, Any]:
    """The answer that ends a request of the beta API."""
    answer = await home.call("POST", BETA, json=body)
    assert answer.status == 202, answer.body
    ended = await home.until(answer.data["resultUrl"], lambda answer: answer.data["status"] != "pending")
    found: dict[str, Any] = ended.data
    return found


async def checked(home: House, method: str, path: str, template: str, status: int, **more: Any) -> Answer:
    """A call whose answer must have this status and the form of Salad's OpenAPI file."""
    answer = await home.call(method, path, **more)
    assert answer.status == status, answer.body
    assert not api_spec.problems(method, template, status, answer.data)
    return answer


async def job(home: House, body: dict[str, Any] | None = None, **more: Any) -> Answer:
    """A created job."""
    body = {"input": body or DOCUMENTED, **more}
    return await checked(home, "POST", JOBS, api_spec.JOBS, 201, json=body)


async def over(home: House, created: Answer) -> dict[str, Any]:
    """A job once it has ended."""
    path = created.headers["Location"]
    await home.until(path, lambda answer: answer.data["status"] not in ("pending", "running"))
    found: dict[str, Any] = (await checked(home, "GET", path, api_spec.JOB, 200)).data
    return found
