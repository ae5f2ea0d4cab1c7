"""The OpenAPI document: it says what is served, all of it, and its examples are true; and the page of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from adapters.api.adapter import Api
from adapters.api.openai_request import KNOWN
from adapters.api.openapi import document, operations
from adapters.api.openapi_page import page_of
from bot.core.errors import InvalidRequest
from bot.core.request import Limits
from bot.core.settings import Secret, Settings
from tests.fakes.api import House, house
from tests.fakes.backend import FAKE_MODEL, FakeBackend

BASE = "https://pictures.example"
UNDOCUMENTED = {"/docs"}  # for people
BESIDE_THE_ADAPTER = {"/livez", "/readyz", "/pictures/{name}"}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    secrets = {"FAIRBRUSH_SECRET_KEY": Secret("canary" * 8), "OPENAI_API_KEY": Secret("canary")}
    backend = FakeBackend(models=(replace(FAKE_MODEL, schedulers=()),))
    aliases = {"stable-diffusion-2": "fake"}
    async with house(tmp_path, backend=backend, aliases=aliases, secrets=secrets) as made:
        yield made


def doc(limits: Limits, base: str) -> Any:
    return document(limits, base)


def of_document(made: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def plain(path: str) -> str:
    """A route's path as the document writes it: without patterns in its variables."""
    return "".join(
        f"{{{part.split(':')[0]}}}" if index % 2 else part
        for index, part in enumerate(path.replace("}", "{").split("{"))
    )


def test_the_document_and_the_routes_say_the_same(tmp_path: Path) -> None:
    served = {
        (route.method, plain(route.path))
        for route in Api(Settings(tmp_path)).routes()
        if isinstance(route, web.RouteDef) and route.method not in ("*", "HEAD")
    }
    served = {(method, path) for method, path in served if path.split("/{file}")[0] not in UNDOCUMENTED}
    said = {(method, path) for method, path, _ in of_document(doc(Limits(), BASE))}
    beside = {("GET", path) for path in BESIDE_THE_ADAPTER}
    assert beside <= said
    assert said - beside == served


async def test_what_is_served_beside_the_adapter_is_there(home: House) -> None:
    for path in ("/livez", "/readyz"):
        async with home.client.get(path) as answer:
            assert answer.status == 200
    async with home.client.get("/pictures/x.png") as answer:
        assert answer.status == 404


def test_it_is_valid_and_every_name_is_used_once() -> None:
    made = doc(Limits(), BASE)
    names = [operation["operationId"] for _, _, operation in of_document(made)]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in made["tags"]}
    used = {tag for _, _, operation in of_document(made) for tag in operation["tags"]}
    assert used == tags
    for schema in made["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    text = json.dumps(made)
    for name in made["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


@pytest.mark.parametrize("operation", operations(Limits()), ids=lambda each: each.name)
def test_every_example_fits_its_schema(operation: Any) -> None:
    made = doc(Limits(), BASE)
    shown = made["paths"][operation.path][operation.method]
    contents = [
        content for answer in shown["responses"].values() for content in answer.get("content", {}).values()
    ]
    found = [(content["schema"], content["example"]) for content in contents if "example" in content]
    body = shown.get("requestBody", {"content": {}})["content"].get("application/json")
    if body:
        assert body["examples"]
        found += [(body["schema"], example["value"]) for example in body["examples"].values()]
    found += [(each["schema"], each["example"]) for each in shown.get("parameters", ()) if "example" in each]
    for schema, example in found:
        whole = {**schema, "components": made["components"]}
        jsonschema.validate(example, whole, cls=Draft202012Validator)


async def test_every_example_of_a_body_is_accepted(home: House) -> None:
    made = doc(Limits(), home.url)
    headers = {**home.bearer, **home.salad, **home.stochastic}
    tried = 0
    for method, path, operation in of_document(made):
        for parameter in operation.get("parameters", ()):
            path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example")))
        examples = operation.get("requestBody", {"content": {"application/json": {"examples": {}}}})
        for example in examples["content"]["application/json"]["examples"].values():
            sent = json.loads(json.dumps(example["value"]).replace("512", "64"))
            async with home.client.request(method, path, headers=headers, json=sent) as answer:
                text = await answer.text()
                assert answer.status in (200, 201, 202), (path, answer.status, text)
                tried += 1
    assert tried >= 9


async def test_answers_fit_their_schemas(home: House) -> None:
    made = doc(Limits(), home.url)
    headers = {**home.bearer, **home.salad, **home.stochastic}
    job = {"modelInputs": {"prompt": "a red fox", "num_images_per_prompt": 2}}
    at = "/api/public/organizations/acme/inference-endpoints"
    beta = await _fits(home, made, "POST", "/api/beta/organizations/acme/inference-endpoints/x-1", 202, job)
    public = await _fits(home, made, "POST", f"{at}/x-1/jobs", 201, {"input": job, "metadata": {"a": 1}})
    body = {"prompt": ["a", "b"], "params": {}}
    asked = await _fits(home, made, "POST", "/v1/modelApi/submit/x", 200, body)
    await home.when(lambda: not home.studio._desk.groups)
    ask_at = asked["data"]["responseUrl"].removeprefix(home.url)
    answer = await _fits(home, made, "GET", ask_at, 200)
    assert len(answer["data"]["generatedImages"]) == 2
    answer = await _fits(home, made, "GET", beta["resultUrl"].removeprefix(home.url), 200)
    assert answer["status"] == "success"
    answer = await _fits(home, made, "GET", f"{at}/x-1/jobs/{public['id']}", 200)
    assert answer["status"] == "succeeded"
    await _fits(home, made, "GET", f"{at}/x-1/jobs", 200)
    for path in (at, f"{at}/fake", "/v1/models", "/v1/models/fake", "/readyz", "/openapi.json"):
        await _fits(home, made, "GET", path, 200)
    await _fits(home, made, "GET", "/api/public/organizations/acme/webhook-secret-key", 200)
    await _fits(home, made, "POST", "/v1/images/generations", 200, {"prompt": "a red fox", "n": 2})
    await _fits(home, made, "POST", "/v1/images/generations", 400, {"prompt": "a red fox", "n": 99})
    await _fits(home, made, "POST", "/v1/modelApi/submit/x", 400, {"prompt": 7})
    await _fits(home, made, "POST", f"{at}/x-1/jobs", 400, {"input": {}})
    await _fits(home, made, "GET", "/v1/models/none", 404)
    async with home.client.delete(f"{at}/x-1/jobs/{public['id']}", headers=headers) as gone:
        assert gone.status == 202


async def test_the_events_of_a_stream_fit_their_schemas(home: House) -> None:
    made, seen = doc(Limits(), home.url), set()
    for prompt, size in (("a red fox", "64x64"), ("kept back", "128x64")):
        if prompt == "kept back":
            assert isinstance(home.app._backends[0], FakeBackend)
            home.app._backends[0].fail(InvalidRequest("Not that."), at="start")
        body = {"prompt": prompt, "size": size, "stream": True, "partial_images": 1}
        async with home.client.post("/v1/images/generations", headers=home.bearer, json=body) as answer:
            blocks = (await answer.text()).strip().split("\n\n")
        for block in blocks:
            event = dict(line.split(": ", 1) for line in block.split("\n"))
            schema = made["components"]["schemas"]["ImageEvent"]
            jsonschema.validate(event, schema, cls=Draft202012Validator)
            inner = schema["properties"]["data"]["contentSchema"] | {"components": made["components"]}
            jsonschema.validate(json.loads(event["data"]), inner, cls=Draft202012Validator)
            seen.add(event["event"])
    assert seen == {"image_generation.partial_image", "image_generation.completed", "error"}


async def _fits(
    home: House, made: Mapping[str, Any], method: str, path: str, status: int, body: object = None
) -> Any:
    headers = {**home.bearer, **home.salad, **home.stochastic}
    async with home.client.request(method, path, headers=headers, json=body) as answer:
        assert answer.status == status, (path, await answer.text())
        told, kind = await answer.json(content_type=None), answer.content_type
    found = [
        (len(said), shown) for verb, said, shown in of_document(made) if verb == method and _is(path, said)
    ]
    _, operation = min(found, key=lambda each: each[1].get("parameters", []) and len(each[1]["parameters"]))
    schema = operation["responses"][str(status)]["content"][kind]["schema"]
    jsonschema.validate(told, {**schema, "components": made["components"]}, cls=Draft202012Validator)
    return told


def _is(path: str, template: str) -> bool:
    parts, wanted = path.split("?")[0].split("/"), template.split("/")
    return len(parts) == len(wanted) and all(
        want.startswith("{") or part == want for part, want in zip(parts, wanted, strict=True)
    )


async def test_it_is_served_without_a_key_and_says_no_secret(home: House) -> None:
    async with home.client.get("/openapi.json") as answer:
        assert answer.status == 200
        text = await answer.text()
    assert json.loads(text)["servers"] == [{"url": home.url}]
    async with home.client.get("/docs") as page:
        assert home.url in await page.text()
        text += await page.text()
    assert "canary" not in text


async def test_the_public_address_is_the_one_that_is_told(tmp_path: Path) -> None:
    async with house(tmp_path, public_url=BASE) as home:
        assert (await home.asked("GET", "/openapi.json", 200))["servers"] == [{"url": BASE}]


def test_the_limits_are_those_of_the_settings() -> None:
    limits = replace(Limits(), max_steps=77, max_count=3, max_side=1024, max_prompt=555)
    schemas: Any = doc(limits, BASE)["components"]["schemas"]
    fields = schemas["ImageRequest"]["properties"]
    assert (fields["steps"]["maximum"], fields["n"]["maximum"], fields["prompt"]["maxLength"]) == (77, 3, 555)
    assert schemas["SaladModelInputs"]["properties"]["width"]["maximum"] == 1024
    params = schemas["StochasticRequest"]["properties"]["params"]["properties"]
    assert params["num_images_per_prompt"]["maximum"] == 3


def test_the_fields_of_a_request_are_those_that_are_read() -> None:
    schemas: Any = doc(Limits(), BASE)["components"]["schemas"]
    assert set(schemas["ImageRequest"]["properties"]) == KNOWN


def test_every_operation_has_its_key_and_its_errors() -> None:
    for method, path, operation in of_document(doc(Limits(), BASE)):
        keyed = path.startswith(("/v1/", "/api/"))
        assert bool(operation["security"]) is keyed, path
        if keyed:
            assert {"401", "429", "500", "503"} <= set(operation["responses"]), path
        if method == "POST":
            assert {"400", "408", "413"} <= set(operation["responses"]), path


# --- the page ---------------------------------------------------------------------------------------------


async def test_the_page_needs_nothing_from_elsewhere(home: House) -> None:
    async with home.client.get("/docs") as page:
        assert page.content_type == "text/html"
        policy, text = page.headers["Content-Security-Policy"], await page.text()
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self';")
    assert "script" not in text.split("<main>")[0]
    assert "<style" not in text
    assert " style=" not in text
    for file in ("docs.css", "mark.svg"):
        assert f'"/docs/{file}"' in text
        async with home.client.get(f"/docs/{file}") as answer:
            assert answer.status == 200
    async with home.client.get("/docs/..%2fadapter.py") as answer:
        assert answer.status == 404


def test_the_page_shows_every_operation_and_escapes_all() -> None:
    made: Any = doc(Limits(), 'http://evil"><script>alert(1)</script>')
    text = page_of(made)
    for _, _, operation in of_document(made):
        assert f'id="{operation["operationId"]}"' in text
    assert "<script" not in text
