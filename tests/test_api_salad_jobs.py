"""Salad's Inference Endpoints, current: jobs, and what endpoints there are."""

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

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from bot.core.errors import QueueFull, Unavailable
from bot.core.pictures import size_of
from bot.core.ports import Price
from tests.fakes import api_spec
from tests.fakes.api import OTHER_KEY, House, house
from tests.fakes.backend import FAKE_MODEL, FakeBackend
from tests.fakes.memory_store import MemoryStore
from tests.fakes.salad_requests import (
    BETA,
    DOCUMENTED,
    ENDPOINTS,
    JOBS,
    PNG,
    checked,
    inputs,
    job,
    over,
)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, header="Salad-Api-Key") as made:
        yield made


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
