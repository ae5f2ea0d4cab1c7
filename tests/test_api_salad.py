"""Salad's Inference Endpoints, beta and current, as clients of them use them."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from bot.core.errors import QueueFull, Unavailable
from bot.core.pictures import read_recipe, size_of
from bot.core.ports import Price
from tests.fakes import api_spec
from tests.fakes.api import OTHER_KEY, Answer, House, house
from tests.fakes.backend import FAKE_MODEL, FakeBackend, flat_png
from tests.fakes.memory_store import MemoryStore

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


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, header="Salad-Api-Key") as made:
        yield made


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


# --- beta -------------------------------------------------------------------------------------------------


async def test_the_documented_request_of_the_beta_ends_with_its_picture(home: House) -> None:
    answer = await home.call("POST", BETA, json=DOCUMENTED)
    assert answer.status == 202
    assert UUID(answer.data["requestId"]).version == 4
    assert answer.data["resultUrl"] == f"{home.url}{BETA}/{answer.data['requestId']}"
    ended = await home.until(answer.data["resultUrl"], lambda answer: answer.data["status"] != "pending")
    assert ended.data["requestId"] == answer.data["requestId"]
    assert ended.data["status"] == "success"
    outputs = ended.data["modelOutputs"]
    (image,) = outputs["images"]
    assert outputs["image_base64"] == image
    assert size_of(base64.b64decode(image)) == (512, 512)
    found = read_recipe(base64.b64decode(image))
    assert found is not None
    assert found.recipe["seed"] == outputs["seeds"][0]
    assert (found.recipe["steps"], found.recipe["guidance_scale"]) == (50, 20)


async def test_a_request_that_waits_is_pending(home: House) -> None:
    hold = home.backend.hold("start")
    answer = await home.call("POST", BETA, json=DOCUMENTED)
    await hold.reached.wait()
    poll = await home.call("GET", answer.data["resultUrl"])
    assert poll.data == {"requestId": answer.data["requestId"], "status": "pending", "modelOutputs": None}


async def test_several_pictures_and_prompts_come_in_order(home: House) -> None:
    outputs = (await beta(home, inputs(prompt=["a", "{b, c} --seed 9"], num_images_per_prompt=2, seed=3)))[
        "modelOutputs"
    ]
    assert "image_base64" not in outputs
    assert outputs["seeds"] == [3, 4, 3, 4]
    recipes = [read_recipe(base64.b64decode(image)) for image in outputs["images"]]
    assert [found and found.recipe["prompt"] for found in recipes] == [
        "a",
        "a",
        "{b, c} --seed 9",
        "{b, c} --seed 9",
    ]


@pytest.mark.parametrize("field", ["init_image", "image"])
@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
async def test_pictures_come_in_as_base64_or_data_urls(home: House, field: str, head: str) -> None:
    body = inputs(**{field: head + PNG}, strength=0.5, PIPELINE="StableDiffusionImg2ImgPipeline")
    assert (await beta(home, body))["status"] == "success"
    request = home.backend.submitted[0][1]
    assert request.init_image is not None
    assert (request.init_image.width, request.strength) == (64, 0.5)


async def test_a_mask_says_what_is_repainted(home: House) -> None:
    body = inputs(init_image=PNG, mask_image=MASK, PIPELINE="StableDiffusionInpaintPipeline")
    assert (await beta(home, body))["status"] == "success"
    assert home.backend.submitted[0][1].mask_image is not None


@pytest.mark.parametrize(
    ("name", "found"), [("EulerAncestralDiscreteScheduler", "Euler a"), ("EulerDiscreteScheduler", "Euler")]
)
async def test_schedulers_go_by_their_class_names(home: House, name: str, found: str) -> None:
    await beta(home, inputs(SCHEDULER=name))
    assert home.backend.submitted[0][1].scheduler == found


@pytest.mark.parametrize("wanted", [True, "true", "True"])
async def test_a_content_check_that_is_not_there_is_said(home: House, wanted: Any) -> None:
    answer = await home.call("POST", BETA, json=inputs(safety_checker=wanted))
    assert "no content check" in answer.data["warnings"][0]
    ended = await home.until(answer.data["resultUrl"], lambda answer: answer.data["status"] != "pending")
    assert ended.data["modelOutputs"]["warnings"] == answer.data["warnings"]


@pytest.mark.parametrize("wanted", [False, "false"])
async def test_a_content_check_is_not_turned_off_and_that_is_said(tmp_path: Path, wanted: Any) -> None:
    async with house(tmp_path, header="Salad-Api-Key", backend=FakeBackend(reject={0})) as home:
        answer = await home.call("POST", BETA, json=inputs(safety_checker=wanted))
        assert "stays on" in answer.data["warnings"][0]
    async with house(tmp_path, header="Salad-Api-Key") as home:
        assert "warnings" not in (await home.call("POST", BETA, json=inputs(safety_checker=wanted))).data


async def test_a_failed_request_says_why_and_no_more(home: House) -> None:
    home.backend.fail(Unavailable("The card is on fire.", detail="secret stack", accepted=None), at="start")
    ended = await beta(home, DOCUMENTED)
    assert ended["status"] == "failed"
    error = ended["modelOutputs"]["$error"]
    assert (error["code"], error["name"]) == ("APP_INFERENCE_ERROR", "Error")
    assert "The card is on fire." in error["message"]
    assert "secret" not in json.dumps(ended)


async def test_withheld_pictures_are_an_error(tmp_path: Path) -> None:
    async with house(tmp_path, header="Salad-Api-Key", backend=FakeBackend(reject={0})) as home:
        ended = await beta(home, inputs())
        assert ended["status"] == "failed"
        assert ended["modelOutputs"]["$error"]["code"] == "CONTENT_WITHHELD"


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"callInputs": {}}, "modelInputs", "INVALID_INPUTS"),
    ({"modelInputs": []}, "modelInputs", "INVALID_INPUTS"),
    ({"modelInputs": {}}, "modelInputs.prompt", "INVALID_INPUTS"),
    (inputs(prompt=""), "modelInputs.prompt", "INVALID_INPUTS"),
    (inputs(width=100_000), "modelInputs.width", "INVALID_INPUTS"),
    (inputs(width="512"), "modelInputs.width", "INVALID_INPUTS"),
    (inputs(num_inference_steps=0), "modelInputs.num_inference_steps", "INVALID_INPUTS"),
    (inputs(guidance_scale="7"), "modelInputs.guidance_scale", "INVALID_INPUTS"),
    (inputs(seed=2**64), "modelInputs.seed", "INVALID_INPUTS"),
    (inputs(num_images_per_prompt=99), "modelInputs.num_images_per_prompt", "INVALID_INPUTS"),
    (inputs(strength=0.5), "modelInputs.strength", "INVALID_INPUTS"),
    (inputs(init_image=PNG, strength=7), "modelInputs.strength", "INVALID_INPUTS"),
    (inputs(eta=0.5), "modelInputs.eta", "INVALID_INPUTS"),
    (inputs(is_url=True, init_image="x"), "modelInputs.is_url", "INVALID_INPUTS"),
    (inputs(init_image="https://evil.example/x.png"), "modelInputs.init_image", "INVALID_INPUTS"),
    (inputs(image="file:///etc/passwd"), "modelInputs.image", "INVALID_INPUTS"),
    (inputs(mask_image="%%%", init_image=PNG), "modelInputs.mask_image", "INVALID_INPUTS"),
    (inputs(init_image=base64.b64encode(b"<svg/>").decode()), "modelInputs.init_image", "INVALID_INPUTS"),
    (inputs(init_image=PNG, image=PNG), "modelInputs.image", "INVALID_INPUTS"),
    (inputs(SEND_URL="https://evil.example"), "callInputs.SEND_URL", "INVALID_INPUTS"),
    (inputs(MODEL_URL="s3://m"), "callInputs.MODEL_URL", "INVALID_INPUTS"),
    (inputs(CHECKPOINT_URL=""), "callInputs.CHECKPOINT_URL", "INVALID_INPUTS"),
    (inputs(MODEL_ID="https://evil.example/m"), "callInputs.MODEL_ID", "MODEL_MISMATCH"),
    (inputs(PIPELINE="lpw_stable_diffusion"), "callInputs.PIPELINE", "NO_SUCH_PIPELINE"),
    (inputs(PIPELINE="StableDiffusionImg2ImgPipeline"), "modelInputs.init_image", "INVALID_INPUTS"),
    (inputs(PIPELINE="StableDiffusionPipeline", image=PNG), "modelInputs.init_image", "INVALID_INPUTS"),
    (
        inputs(PIPELINE="StableDiffusionInpaintPipeline", image=PNG),
        "modelInputs.mask_image",
        "INVALID_INPUTS",
    ),
    (inputs(SCHEDULER="NoSuchScheduler"), "callInputs.SCHEDULER", "INVALID_SCHEDULER"),
    (inputs(SCHEDULER="DDIMScheduler"), "callInputs.SCHEDULER", "INVALID_SCHEDULER"),
    (inputs(safety_checker="maybe"), "callInputs.safety_checker", "INVALID_INPUTS"),
    (inputs(XFORMERS=True), "callInputs.XFORMERS", "INVALID_INPUTS"),
    ({**inputs(), "webhook": 1}, "webhook", "INVALID_INPUTS"),
]


@pytest.mark.parametrize(("body", "field", "code"), BAD)
async def test_what_is_wrong_is_refused_by_its_own_name(
    home: House, body: dict[str, Any], field: str, code: str
) -> None:
    answer = await home.call("POST", BETA, json=body)
    assert answer.status == 400
    assert (answer.data["field"], answer.data["code"]) == (field, code)
    assert field.rpartition(".")[2] in answer.data["detail"]
    assert not home.backend.submitted
    if "webhook" in body or "modelInputs" not in body:
        return
    answer = await checked(home, "POST", JOBS, api_spec.JOBS, 400, json={"input": body})
    assert (answer.data["field"], answer.data["code"]) == (f"input.{field}", code)


async def test_model_id_names_a_model_or_is_said_to_be_another(tmp_path: Path) -> None:
    aliases = {"stabilityai/stable-diffusion-2-1": "fake"}
    async with house(tmp_path, header="Salad-Api-Key", aliases=aliases) as home:
        known = await home.call("POST", BETA, json=inputs(MODEL_ID="stabilityai/stable-diffusion-2-1"))
        assert (known.status, known.data.get("warnings")) == (202, None)
        other = await home.call("POST", BETA, json=inputs(MODEL_ID="runwayml/stable-diffusion-v1-5"))
        assert "runwayml/stable-diffusion-v1-5 is not offered here" in other.data["warnings"][0]


@pytest.mark.parametrize("path", ["x", "00000000-0000-4000-8000-000000000000", "..%2F..%2Fetc%2Fpasswd"])
async def test_an_id_that_is_none_is_not_there(home: House, path: str) -> None:
    for base in (BETA, JOBS):
        answer = await home.call("GET", f"{base}/{path}")
        assert answer.status == 404
        assert answer.data["title"] == "Not Found"


async def test_a_request_is_its_own_keys_and_endpoints_alone(home: House) -> None:
    answer = await home.call("POST", BETA, json=DOCUMENTED)
    path = answer.data["resultUrl"]
    assert (await home.call("GET", path, key=OTHER_KEY)).status == 404
    assert (await home.call("GET", path.replace("acme-corp", "other-corp"))).status == 404
    assert (await home.call("GET", path.replace("diffusion-2-1", "diffusion-2"))).status == 404
    assert (await home.call("GET", f"{JOBS}/{answer.data['requestId']}")).status == 404
    assert (await home.call("GET", path.replace("acme-corp", "Acme"))).status == 404


# --- current ----------------------------------------------------------------------------------------------


async def test_a_job_is_created_runs_and_has_its_output(home: House) -> None:
    hold = home.backend.hold("done")
    metadata = {"order": 7, "nested": {"a": [None, 1.5]}}
    created = await job(home, metadata=metadata)
    assert created.headers["Location"] == f"{home.url}{JOBS}/{created.data['id']}"
    assert (created.data["status"], created.data["input"]) == ("pending", DOCUMENTED)
    assert created.data["metadata"] == metadata
    assert [event["action"] for event in created.data["events"]] == ["created"]
    await hold.reached.wait()
    path = created.headers["Location"]
    await home.until(path, lambda answer: answer.data["status"] == "running")
    running = (await checked(home, "GET", path, api_spec.JOB, 200)).data
    assert [event["action"] for event in running["events"]] == ["created", "started"]
    assert "output" not in running
    hold.release()
    ended = await over(home, created)
    assert ended["status"] == "succeeded"
    assert [event["action"] for event in ended["events"]] == ["created", "started", "succeeded"]
    assert ended["create_time"] == created.data["create_time"]
    times = [datetime.fromisoformat(event["time"]) for event in ended["events"]]
    assert times == sorted(times)
    assert ended["update_time"] == ended["events"][-1]["time"]
    assert (ended["metadata"], ended["input"]) == (metadata, DOCUMENTED)
    (image,) = ended["output"]["images"]
    assert ended["output"]["image_base64"] == image
    assert size_of(base64.b64decode(image)) == (512, 512)


async def test_a_job_in_hand_is_looked_at_without_the_store(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = home.backend.hold("done")
    created = await job(home)
    await hold.reached.wait()
    await home.until(created.headers["Location"], lambda answer: answer.data["status"] == "running")

    async def never(*args: Any) -> None:
        raise AssertionError("it was asked")

    monkeypatch.setattr(home.store, "group", never)
    assert (await home.call("GET", created.headers["Location"])).data["status"] == "running"


async def test_a_waiting_job_is_cancelled(tmp_path: Path) -> None:
    async with house(tmp_path, header="Salad-Api-Key", backend=FakeBackend(slots=1)) as home:
        hold = home.backend.hold("start")
        running = await job(home)
        await hold.reached.wait()
        waiting = await job(home)
        for created in (waiting, running):
            path = created.headers["Location"]
            await checked(home, "DELETE", path, api_spec.JOB, 202)
            ended = await over(home, created)
            assert ended["status"] == "cancelled"
            assert ended["events"][-1]["action"] == "cancelled"
            assert ended["output"]["$error"]["code"] == "CANCELLED"
        assert len(home.backend.submitted) == 1


async def test_cancelling_what_has_ended_changes_nothing(home: House) -> None:
    created = await job(home)
    before = await over(home, created)
    await checked(home, "DELETE", created.headers["Location"], api_spec.JOB, 202)
    assert await over(home, created) == before
    await checked(home, "DELETE", created.headers["Location"], api_spec.JOB, 404, key=OTHER_KEY)


async def test_a_failed_job_says_why(home: House) -> None:
    home.backend.fail(Unavailable("The card is on fire.", accepted=None), at="start")
    ended = await over(home, await job(home))
    assert ended["status"] == "failed"
    assert "The card is on fire." in ended["output"]["$error"]["message"]


async def test_jobs_are_listed_newest_first_by_page(home: House) -> None:
    created = [await job(home, inputs(prompt=f"fox {n}")) for n in range(5)]
    await home.call("POST", BETA, json=DOCUMENTED)
    await home.call("POST", JOBS.replace("2-1", "3"), json={"input": DOCUMENTED})
    await home.call("POST", JOBS, key=OTHER_KEY, json={"input": DOCUMENTED})
    for each in created:
        await over(home, each)
    ids = [each.data["id"] for each in reversed(created)]
    pages = []
    for page in (1, 2, 3, 4):
        found = (await checked(home, "GET", f"{JOBS}?page={page}&page_size=2", api_spec.JOBS, 200)).data
        assert (found["page"], found["page_size"], found["total_size"]) == (page, 2, 5)
        pages.append([item["id"] for item in found["items"]])
    assert pages == [ids[:2], ids[2:4], ids[4:], []]
    whole = (await checked(home, "GET", JOBS, api_spec.JOBS, 200)).data
    assert [item["status"] for item in whole["items"]] == ["succeeded"] * 5
    assert "output" not in whole["items"][0]
    assert whole["items"][0]["create_time"] == created[-1].data["create_time"]


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "page=-1", "page_size=101", "page_size=0", "page=2147483648", "page="]
)
async def test_a_page_out_of_range_is_refused(home: House, query: str) -> None:
    for path, template in ((JOBS, api_spec.JOBS), (ENDPOINTS, api_spec.ENDPOINTS)):
        answer = await checked(home, "GET", f"{path}?{query}", template, 400)
        assert answer.data["field"] == query.partition("=")[0]


async def test_large_pictures_in_an_input_are_not_sent_back(home: House) -> None:
    created = await job(home, inputs(init_image=PNG))
    assert created.data["input"]["modelInputs"]["init_image"] == PNG
    noise = base64.b64encode(_noisy_png()).decode()
    created = await job(home, inputs(init_image=noise))
    shown = created.data["input"]["modelInputs"]["init_image"]
    assert len(shown) < 400
    assert f"{len(noise) - 256:,} more characters" in shown
    assert created.data["input"]["modelInputs"]["prompt"] == "a fox"


def _noisy_png() -> bytes:
    """A picture that does not compress."""
    data = io.BytesIO()
    Image.frombytes("RGB", (256, 256), random.Random(1).randbytes(256 * 256 * 3)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"metadata": [1]}, "metadata"),
        ({"metadata": {str(n): n for n in range(21)}}, "metadata"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata"),
        ({"webhook_url": 7}, "webhook_url"),
        ({"webhook_url": "http://hooks.example/x"}, "webhook_url"),
        ({"webhook": "https://127.0.0.1/x"}, "webhook"),
        ({"priority": 1}, "priority"),
    ],
)
async def test_what_is_wrong_beside_the_input_is_refused(
    home: House, more: dict[str, Any], field: str
) -> None:
    answer = await checked(home, "POST", JOBS, api_spec.JOBS, 400, json={"input": DOCUMENTED, **more})
    assert answer.data["field"] == field


async def test_an_infinite_number_in_metadata_is_refused(home: House) -> None:
    body = json.dumps({"input": DOCUMENTED, "metadata": {"a": 1}}).replace('"a": 1', '"a": 1e999')
    answer = await checked(home, "POST", JOBS, api_spec.JOBS, 400, data=body)
    assert answer.data["field"] == "metadata"


async def test_an_input_is_needed(home: House) -> None:
    answer = await checked(home, "POST", JOBS, api_spec.JOBS, 400, json={})
    assert answer.data["field"] == "input"


async def test_errors_have_the_documented_form(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await checked(home, "GET", JOBS, api_spec.JOBS, 401, key="")
    await checked(home, "GET", f"{JOBS}/x", api_spec.JOB, 404)
    await home.add_key("fb_" + "m" * 43, "bbbbbbbbbbbbbbbb", organization="other-corp")
    await checked(home, "GET", JOBS, api_spec.JOBS, 403, key="fb_" + "m" * 43)

    async def submit(*args: Any, **more: Any) -> None:
        raise QueueFull("x" * 5000, retry_after=3)

    monkeypatch.setattr(home.studio, "submit", submit)
    late = await checked(home, "POST", JOBS, api_spec.JOBS, 429, json={"input": DOCUMENTED})
    assert late.headers["Retry-After"] == "3"


async def test_a_job_survives_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, header="Salad-Api-Key") as home:
        done = await over(home, first := await job(home, metadata={"a": 1}))
        hold = home.backend.hold("start")
        second = await job(home, metadata={"b": 2})
        await hold.reached.wait()
        store = home.store
    assert isinstance(store, MemoryStore)
    async with house(tmp_path, header="Salad-Api-Key", store=MemoryStore(store.data)) as home:
        for created, metadata in ((first, {"a": 1}), (second, {"b": 2})):
            path = f"{JOBS}/{created.data['id']}"
            await home.until(path, lambda answer: answer.data["status"] == "succeeded")
            again = (await checked(home, "GET", path, api_spec.JOB, 200)).data
            assert (again["metadata"], again["create_time"]) == (metadata, created.data["create_time"])
        assert (await home.call("GET", f"{JOBS}/{first.data['id']}")).data == done


# --- what is offered --------------------------------------------------------------------------------------


async def test_endpoints_are_the_models_and_aliases(tmp_path: Path) -> None:
    paid = replace(FAKE_MODEL, id="acme/Paid_Model", title="Paid: 2.0 (β)", price=Price(per_image=0.04))
    backend = FakeBackend(models=(FAKE_MODEL, paid))
    aliases = {"stable-diffusion-2-1": "acme/Paid_Model"}
    async with house(tmp_path, header="Salad-Api-Key", backend=backend, aliases=aliases) as home:
        found = (await checked(home, "GET", ENDPOINTS, api_spec.ENDPOINTS, 200)).data
        assert [item["name"] for item in found["items"]] == [
            "acme-paid-model",
            "fake",
            "stable-diffusion-2-1",
        ]
        one = (await checked(home, "GET", f"{ENDPOINTS}/stable-diffusion-2-1", api_spec.ENDPOINT, 200)).data
        assert one["price_description"] == "$0.04 a picture"
        assert one == found["items"][2]
        other = (await checked(home, "GET", f"{ENDPOINTS}/transcribe", api_spec.ENDPOINT, 200)).data
        assert "Flat colours" in other["description"]
        second = (await checked(home, "GET", f"{ENDPOINTS}?page=2&page_size=2", api_spec.ENDPOINTS, 200)).data
        assert ([item["name"] for item in second["items"]], second["total_size"]) == (
            ["stable-diffusion-2-1"],
            3,
        )
        name = "acme%2FPaid_Model"
        created = await home.call("POST", f"{ENDPOINTS}/{name}/jobs", json={"input": inputs()})
        assert created.data["inference_endpoint_name"] == "acme-paid-model"
        await over(home, created)
        assert home.backend.submitted[0][1].model == "acme/Paid_Model"


async def test_an_endpoints_schema_tells_good_inputs_from_bad(home: House) -> None:
    one = (await home.call("GET", f"{ENDPOINTS}/fake")).data
    takes = Draft202012Validator(json.loads(one["input_schema"]))
    assert takes.is_valid(DOCUMENTED)
    assert takes.is_valid(inputs(init_image=PNG, strength=0.5))
    for body in (inputs(width=65), inputs(eta=1), inputs(prompt=7), inputs(SEND_URL="x"), {}):
        assert not takes.is_valid(body)
    ended = await over(home, await job(home))
    Draft202012Validator(json.loads(one["output_schema"])).validate(ended["output"])
