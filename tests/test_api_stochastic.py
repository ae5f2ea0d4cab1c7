"""Stochastic's model API as clients of it use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import pytest

from bot.core.errors import ContentRejected, QueueFull, QuotaExceeded, Unavailable
from bot.core.pictures import read_recipe, size_of
from bot.core.request import Limits
from tests.fakes.api import OTHER_KEY, Answer, House, house
from tests.fakes.backend import FAKE_MODEL, FakeBackend
from tests.fakes.memory_store import MemoryStore

SUBMIT = "/v1/modelApi/submit/stable-diffusion-2"
DOCUMENTED = {
    "prompt": "a red fox in snow",
    "params": {
        "img_height": 512,
        "img_width": 512,
        "num_inference_steps": 50,
        "guidance_scale": 7.5,
        "seed": None,
    },
}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def submitted(home: House, **more: Any) -> dict[str, Any]:
    """The data of an accepted request."""
    answer = await home.call("POST", SUBMIT, json={**DOCUMENTED, **more})
    assert answer.status == 200, answer.body
    assert answer.data["success"] is True
    data: dict[str, Any] = answer.data["data"]
    return data


async def done(home: House, data: dict[str, Any]) -> list[dict[str, Any]]:
    """The pictures of a request, once they are there."""
    answer = await home.until(data["responseUrl"], lambda answer: "generatedImages" in answer.data["data"])
    images: list[dict[str, Any]] = answer.data["data"]["generatedImages"]
    return images


async def refused(home: House, body: Any, status: int = 400) -> dict[str, Any]:
    """The error that a submit is answered with."""
    answer = await home.call("POST", SUBMIT, json=body)
    assert answer.status == status, answer.body
    assert answer.data["success"] is False
    assert not home.backend.submitted
    error: dict[str, Any] = answer.data
    return error


async def test_the_documented_request_ends_with_its_picture(home: House) -> None:
    data = await submitted(home)
    assert len(data["id"]) == 24
    assert int(data["id"], 16) >= 0
    assert data["responseUrl"] == f"{home.url}/v1/modelApi/inference/{data['id']}"
    assert data["queuePosition"] == "0"
    (image,) = await done(home, data)
    picture = await home.call("GET", image["presigned_url"], key="")
    assert picture.status == 200
    assert picture.headers["Content-Type"] == "image/png"
    assert size_of(picture.body) == (512, 512)
    found = read_recipe(picture.body)
    assert found is not None
    recipe = found.recipe
    assert (recipe["prompt"], recipe["steps"], recipe["guidance_scale"]) == ("a red fox in snow", 50, 7.5)
    assert recipe["seed"] == image["seed"]


async def test_while_it_waits_there_are_no_pictures_and_its_place_is_current(tmp_path: Path) -> None:
    backend = FakeBackend(slots=1)
    async with house(tmp_path, backend=backend) as home:
        hold = backend.hold("start")
        first = await submitted(home)
        await hold.reached.wait()
        second, third = await submitted(home), await submitted(home)
        assert (second["queuePosition"], third["queuePosition"]) == ("0", "1")
        for data, place in ((first, "0"), (third, "1")):
            poll = (await home.call("GET", data["responseUrl"])).data
            assert poll == {"success": True, "data": {**data, "queuePosition": place}}
        hold.release()
        for data in (first, second, third):
            assert len(await done(home, data)) == 1


async def test_prompts_in_an_array_are_one_request_with_pictures_in_order(home: House) -> None:
    params = {"img_width": 64, "img_height": 64, "num_images_per_prompt": 2, "seed": 7}
    data = await submitted(home, prompt=["a fox", "{a, b} --steps 3"], params=params)
    images = await done(home, data)
    recipes = []
    for image in images:
        found = read_recipe((await home.call("GET", image["presigned_url"], key="")).body)
        assert found is not None
        recipes.append((found.recipe["prompt"], found.recipe["seed"]))
    assert recipes == [("a fox", 7), ("a fox", 8), ("{a, b} --steps 3", 7), ("{a, b} --steps 3", 8)]
    assert [image["seed"] for image in images] == [7, 8, 7, 8]


async def test_each_poll_gives_fresh_links_that_need_no_key_and_expire(home: House) -> None:
    data = await submitted(home)
    (image,) = await done(home, data)
    parts = urlsplit(image["presigned_url"])
    query = dict(pair.split("=") for pair in parts.query.split("&"))
    assert 3500 <= int(query["expires"]) - time.time() <= 3600
    for changed in ({"expires": str(int(query["expires"]) + 1)}, {"signature": "0" * 64}):
        forged = urlunsplit(parts._replace(query=urlencode({**query, **changed})))
        assert (await home.call("GET", forged, key="")).status == 403
    (again,) = await done(home, data)
    assert urlsplit(again["presigned_url"]).path == parts.path


async def test_the_seed_that_was_asked_for_is_used(home: House) -> None:
    data = await submitted(home, params={"seed": 4242})
    (image,) = await done(home, data)
    assert image["seed"] == 4242
    assert home.backend.submitted[0][1].seed == 4242


async def test_what_is_not_said_is_the_models_own(home: House) -> None:
    await done(home, await submitted(home, params={}))
    request = home.backend.submitted[0][1]
    assert (request.width, request.height, request.steps, request.guidance_scale) == (64, 64, 4, 7.5)


async def test_a_negative_prompt_is_taken_too(home: House) -> None:
    await done(home, await submitted(home, params={"negative_prompt": "blurry"}))
    assert home.backend.submitted[0][1].negative_prompt == "blurry"


# --- what ends otherwise ----------------------------------------------------------------------------------


async def ended(home: House, data: dict[str, Any]) -> Answer:
    """The answer that ends a client's loop without pictures."""
    answer = await home.until(data["responseUrl"], lambda answer: answer.status != 200)
    assert answer.data["success"] is False
    return answer


async def test_a_failed_request_ends_the_loop_of_its_client(home: House) -> None:
    home.backend.fail(Unavailable("The card is on fire.", detail="secret stack", accepted=None), at="start")
    answer = await ended(home, await submitted(home))
    assert answer.status == 422
    assert "The card is on fire." in answer.data["message"]
    assert answer.data["data"]["status"] == "failed"
    assert b"secret stack" not in answer.body


async def test_a_withheld_request_ends_the_loop_of_its_client(tmp_path: Path) -> None:
    async with house(tmp_path, backend=FakeBackend(reject={0})) as home:
        answer = await ended(home, await submitted(home))
        assert (answer.status, answer.data["data"]["status"]) == (422, "withheld")


async def test_a_cancelled_request_ends_the_loop_of_its_client(home: House) -> None:
    hold = home.backend.hold("start")
    data = await submitted(home)
    await hold.reached.wait()
    (group,) = home.store.data.groups.values()  # type: ignore[attr-defined]
    await home.studio.cancel(group.group_id, group.requester)
    answer = await ended(home, data)
    assert (answer.status, answer.data["data"]["status"]) == (410, "cancelled")


async def test_of_several_pictures_those_that_were_made_are_given(tmp_path: Path) -> None:
    async with house(tmp_path, backend=FakeBackend(reject={1})) as home:
        params = {"num_images_per_prompt": 3, "seed": 1}
        data = await submitted(home, params=params)
        assert [image["seed"] for image in await done(home, data)] == [1, 3]
        poll = await home.call("GET", data["responseUrl"])
        assert "1 of 3 withheld" in poll.data["data"]["message"]


async def test_deleted_pictures_are_not_there_any_more(home: House) -> None:
    data = await submitted(home)
    (image,) = await done(home, data)
    (group,) = home.store.data.groups.values()  # type: ignore[attr-defined]
    await home.studio.delete(group.group_id, group.requester)
    assert (await home.call("GET", data["responseUrl"])).status == 404
    assert (await home.call("GET", image["presigned_url"], key="")).status == 404


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"img_width": 100_000}, "params.img_width"),
        ({"img_height": 65}, "params.img_height"),
        ({"img_width": "512"}, "params.img_width"),
        ({"num_inference_steps": 0}, "params.num_inference_steps"),
        ({"num_inference_steps": 10**9}, "params.num_inference_steps"),
        ({"guidance_scale": 31}, "params.guidance_scale"),
        ({"guidance_scale": True}, "params.guidance_scale"),
        ({"seed": -1}, "params.seed"),
        ({"seed": 2**64}, "params.seed"),
        ({"seed": "7"}, "params.seed"),
        ({"num_images_per_prompt": 9999}, "params.num_images_per_prompt"),
        ({"negative_prompt": "x" * 2001}, "params.negative_prompt"),
        ({"eta": 0.5}, "params.eta"),
    ],
)
async def test_what_is_out_of_range_or_unknown_is_refused_by_its_own_name(
    home: House, params: dict[str, Any], field: str
) -> None:
    error = await refused(home, {"prompt": "a fox", "params": params})
    assert error["field"] == field
    assert error["message"].startswith(field)
    assert "--" not in error["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"params": {}}, "prompt"),
        ({"prompt": "a fox"}, "params"),
        ({"prompt": "a fox", "params": None}, "params"),
        ({"prompt": "a fox", "params": []}, "params"),
        ({"prompt": "  ", "params": {}}, "prompt"),
        ({"prompt": [], "params": {}}, "prompt"),
        ({"prompt": ["a", 5], "params": {}}, "prompt[1]"),
        ({"prompt": ["a"] * 17, "params": {}}, "prompt"),
        ({"prompt": "x" * 2001, "params": {}}, "prompt"),
        ({"prompt": "a fox", "params": {}, "webhook": "x"}, "webhook"),
    ],
)
async def test_a_body_without_what_it_needs_is_refused(home: House, body: dict[str, Any], field: str) -> None:
    error = await refused(home, body)
    assert error["field"] == field
    assert field in error["message"]


async def test_work_that_is_too_much_altogether_is_refused(home: House) -> None:
    params = {"img_width": 1024, "img_height": 1024, "num_inference_steps": 150, "num_images_per_prompt": 10}
    message = (await refused(home, {"prompt": "a fox", "params": params}))["message"]
    assert "Try params.num_inference_steps 20 or params.num_images_per_prompt 1" in message


async def test_forbidden_content_is_refused_without_being_repeated(tmp_path: Path) -> None:
    async with house(tmp_path, blocked_words=("zebra",)) as home:
        error = await refused(home, {"prompt": "a zebra", "params": {}}, 422)
        assert "zebra" not in error["message"]


@pytest.mark.parametrize("name", ["https:%2F%2Fevil.example%2Fm", "..%2F..%2Fm", "m.ckpt"])
async def test_a_model_that_is_an_address_or_a_file_is_refused(home: House, name: str) -> None:
    answer = await home.call("POST", f"/v1/modelApi/submit/{name}", json=DOCUMENTED)
    assert (answer.status, answer.data["field"]) == (400, "model")


@pytest.mark.parametrize("name", ["acme/flat-2", "acme%2Fflat-2", "sd2"])
async def test_a_model_is_named_by_its_id_or_an_alias(tmp_path: Path, name: str) -> None:
    backend = FakeBackend(models=(FAKE_MODEL, replace(FAKE_MODEL, id="acme/flat-2")))
    async with house(tmp_path, backend=backend, aliases={"sd2": "acme/flat-2"}) as home:
        answer = await home.call("POST", f"/v1/modelApi/submit/{name}", json=DOCUMENTED)
        await done(home, answer.data["data"])
        assert backend.submitted[0][1].model == "acme/flat-2"


async def test_an_alias_of_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    async with house(tmp_path, aliases={"stable-diffusion-2": "gone"}) as home:
        assert (await refused(home, DOCUMENTED))["field"] == "model"


async def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    backend = FakeBackend(slots=1)
    async with house(tmp_path, backend=backend, limits=Limits(waiting_per_key=2)) as home:
        hold = backend.hold("start")
        await submitted(home)
        await hold.reached.wait()
        await submitted(home)
        await submitted(home)
        answer = await home.call("POST", SUBMIT, json=DOCUMENTED)
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert "this key's 2 places" in answer.data["message"]
        assert (await home.call("POST", SUBMIT, key=OTHER_KEY, json=DOCUMENTED)).status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (QueueFull("full", retry_after=12.2), 429),
        (QuotaExceeded("budget spent", retry_after=12.2), 429),
        (Unavailable("restarting", retry_after=12.2), 503),
        (ContentRejected("no", field="rule"), 422),
    ],
)
async def test_refusals_of_the_core_have_their_status(
    home: House, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    async def submit(*args: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr(home.studio, "submit", submit)
    answer = await home.call("POST", SUBMIT, json=DOCUMENTED)
    assert answer.status == status
    assert answer.headers.get("Retry-After") == ("13" if status != 422 else None)
    assert "field" not in answer.data


# --- whose it is ------------------------------------------------------------------------------------------


async def test_a_request_is_its_own_keys_alone(home: House) -> None:
    data = await submitted(home)
    await done(home, data)
    answer = await home.call("GET", data["responseUrl"], key=OTHER_KEY)
    assert answer.status == 404
    assert (await home.call("GET", data["responseUrl"], key="")).status == 401


@pytest.mark.parametrize(
    "name", ["x", "0" * 24, "f" * 23, "F" * 24, "..%2F..%2Fetc%2Fpasswd", "%00", "ü" * 24]
)
async def test_an_id_that_is_none_is_not_there(home: House, name: str) -> None:
    assert (await home.call("GET", f"/v1/modelApi/inference/{name}")).status == 404


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        data = await submitted(home, params={"seed": 9})
        (image,) = await done(home, data)
        store = home.store
    assert isinstance(store, MemoryStore)
    async with house(tmp_path, store=MemoryStore(store.data)) as home:
        answer = await home.call("GET", f"/v1/modelApi/inference/{data['id']}")
        (again,) = answer.data["data"]["generatedImages"]
        assert again["seed"] == image["seed"] == 9
        assert (await home.call("GET", again["presigned_url"], key="")).status == 200


async def test_one_that_waits_keeps_its_id_and_place_over_a_restart(tmp_path: Path) -> None:
    backend = FakeBackend(slots=1)
    async with house(tmp_path, backend=backend) as home:
        hold = backend.hold("start")
        data = await submitted(home)
        await hold.reached.wait()
        waiting = await submitted(home)
        store = home.store
    assert isinstance(store, MemoryStore)
    async with house(tmp_path, store=MemoryStore(store.data)) as home:
        for each in (data, waiting):
            path = f"/v1/modelApi/inference/{each['id']}"
            answer = await home.until(path, lambda answer: "generatedImages" in answer.data["data"])
            assert answer.data["data"]["id"] == each["id"]


async def test_links_and_addresses_are_those_that_the_operator_names(tmp_path: Path) -> None:
    async with house(tmp_path, public_url="https://art.example/") as home:
        data = await submitted(home)
        assert data["responseUrl"] == f"https://art.example/v1/modelApi/inference/{data['id']}"
        path = f"/v1/modelApi/inference/{data['id']}"
        answer = await home.until(path, lambda answer: "generatedImages" in answer.data["data"])
        (image,) = answer.data["data"]["generatedImages"]
        assert image["presigned_url"].startswith("https://art.example/pictures/")


async def test_a_poll_of_what_waits_asks_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend(slots=1)
    async with house(tmp_path, backend=backend) as home:
        backend.hold("start")
        data = await submitted(home)

        async def never(*args: Any) -> None:
            raise AssertionError("it was asked")

        monkeypatch.setattr(home.store, "group", never)
        polls = await asyncio.gather(*(home.call("GET", data["responseUrl"]) for _ in range(5)))
        assert [poll.status for poll in polls] == [200] * 5
