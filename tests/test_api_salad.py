"""Salad's Inference Endpoints, beta, and what an input means in both of its APIs."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bot.core.errors import Unavailable
from bot.core.pictures import read_recipe, size_of
from tests.fakes import api_spec
from tests.fakes.api import OTHER_KEY, House, house
from tests.fakes.backend import FakeBackend
from tests.fakes.salad_requests import (
    BETA,
    DOCUMENTED,
    JOBS,
    MASK,
    PNG,
    beta,
    checked,
    inputs,
)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, header="Salad-Api-Key") as made:
        yield made


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
