"""Salad's endpoints by both APIs: the contract, what goes over the wire, and what its answers mean."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from PIL import Image as Raster
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from backends._remote import Remote
from backends._salad_inputs import OFFERED_SCHEDULERS, read_output
from backends.salad import build, create
from bot.core.errors import (
    ConfigurationError,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    Unavailable,
)
from bot.core.ports import CancelOutcome, Done, Event, ImageReady, ImageRejected, RemoteRef, Taken
from bot.core.request import Image, ImageRequest
from bot.core.settings import BackendEntry, Secret, Settings
from tests.backend_contract import collect
from tests.fakes import salad as salad_fake
from tests.fakes.backend import flat_png
from tests.fakes.clock import HandClock, HurriedClock
from tests.fakes.salad import LINKS, SECONDS, SaladFake
from tests.hosted_contract import HostedContract, World, as_stored, hosted_world

JOBS, BETA = "acme/pictures", "acme/stable-diffusion-2-1"
ASKED = ImageRequest("a red fox", 64, 64, steps=4, guidance_scale=7.5, seed=7)


def settings_for(fake: SaladFake, target: str = JOBS, **options: str) -> Settings:
    """Settings with a backend on the local service."""
    return Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("salad", target, options),),
        service_urls={"salad": fake.url},
        secrets={"SALAD_API_KEY": Secret(fake.secret)},
    )


@asynccontextmanager
async def a_world(fake: SaladFake, target: str, **options: str) -> AsyncGenerator[World, None]:
    """The service, and a backend on it."""
    clock = HurriedClock()

    def make() -> Remote:
        return build(target, settings_for(fake, target, **options), clock=clock.clock)

    async with hosted_world(fake, clock, make) as world:
        yield world


class TestJobs(HostedContract):
    """The current API, pictures in base64."""

    lacks = LINKS | {"progress"}

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        async with a_world(SaladFake(), JOBS) as world:
            yield world


class TestJobsWithLinks(HostedContract):
    """The current API, links to pictures."""

    lacks = frozenset({"progress"})

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        async with a_world(SaladFake(form="links"), JOBS) as world:
            yield world


class TestBeta(HostedContract):
    """The beta."""

    lacks = LINKS | {"progress", "cancel", "cancel:late"}

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        fake = SaladFake(form="images")
        fake.cannot |= {"cancel:late"}
        async with a_world(fake, BETA) as world:
            yield world


@pytest.fixture
async def fake() -> AsyncIterator[SaladFake]:
    """A service by itself."""
    fake = SaladFake()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def opened(fake: SaladFake) -> AsyncIterator[Callable[..., Remote]]:
    """Opens backends on the service; closed afterwards."""
    backends: list[Remote] = []

    def make(target: str = JOBS, **options: str) -> Remote:
        backends.append(build(target, settings_for(fake, target, **options), clock=HurriedClock().clock))
        return backends[-1]

    yield make
    for backend in backends:
        await backend.aclose()


async def run(backend: Remote, request: ImageRequest = ASKED) -> list[Event]:
    """A whole job."""
    return await collect(backend.events(await backend.submit(request, job_id="j1")))


def pictures(events: list[Event]) -> list[ImageReady]:
    """What was made, in order."""
    return sorted((event for event in events if isinstance(event, ImageReady)), key=lambda one: one.index)


def png(size: tuple[int, int]) -> Image:
    """A picture that comes with a request."""
    return Image(flat_png(*size, 3), "image/png", *size)


# --- what it is asked ---------------------------------------------------------------------------------------


async def test_every_parameter_goes_over_the_wire(fake: SaladFake, opened: Callable[..., Remote]) -> None:
    asked = replace(ASKED, negative_prompt="snow", scheduler="Euler a", width=128)
    await run(opened(), asked)
    (job,) = fake.jobs.values()
    assert job.body["input"] == {
        "modelInputs": {
            "prompt": "a red fox",
            "negative_prompt": "snow",
            "num_inference_steps": 4,
            "guidance_scale": 7.5,
            "num_images_per_prompt": 1,
            "seed": 7,
            "width": 128,
            "height": 64,
        },
        "callInputs": {
            "PIPELINE": "StableDiffusionPipeline",
            "SCHEDULER": "EulerAncestralDiscreteScheduler",
            "safety_checker": "true",
        },
    }
    assert job.body["metadata"]["fairbrush"]


async def test_the_beta_gets_the_inputs_bare(fake: SaladFake, opened: Callable[..., Remote]) -> None:
    await run(opened(BETA))
    (job,) = fake.jobs.values()
    assert set(job.body) == {"modelInputs", "callInputs"}
    assert fake.calls["POST beta"] == 1
    assert not fake.calls["POST jobs"]


async def test_a_picture_to_start_from_is_sent_as_large_as_the_result(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    asked = replace(ASKED, width=128, init_image=png((96, 96)), strength=0.6)
    (made,) = pictures(await run(opened(), asked))
    (wanted,) = fake.asked
    with Raster.open(io.BytesIO(base64.b64decode(wanted["image"]))) as sent:
        assert sent.size == (128, 64)
    assert wanted["strength"] == 0.6
    assert "width" not in wanted
    (job,) = fake.jobs.values()
    assert job.input["callInputs"]["PIPELINE"] == "StableDiffusionImg2ImgPipeline"
    with Raster.open(io.BytesIO(made.data)) as made_picture:
        assert made_picture.size == (128, 64)


async def test_a_mask_chooses_the_inpainting_pipeline(fake: SaladFake, opened: Callable[..., Remote]) -> None:
    asked = replace(ASKED, init_image=png((64, 64)), mask_image=png((64, 64)))
    await run(opened(model="stabilityai/stable-diffusion-xl-base-1.0", image="init_image"), asked)
    (job,) = fake.jobs.values()
    assert job.input["callInputs"]["PIPELINE"] == "StableDiffusionXLInpaintPipeline"
    assert {"init_image", "mask_image", "width", "height"} <= set(fake.asked[0])


async def test_each_picture_is_a_job_with_its_own_seed(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    events = await run(opened(), replace(ASKED, count=3))
    assert fake.seeds == [7, 8, 9]
    assert [picture.seed for picture in pictures(events)] == [7, 8, 9]
    assert len({job.body["metadata"]["fairbrush"] for job in fake.jobs.values()}) == 3
    stored = [event.ref for event in events if isinstance(event, Taken)]
    assert [sum(one is not None for one in ref.data["remote"]) for ref in stored] == [1, 2, 3]  # type: ignore[union-attr]


def test_schedulers_are_those_that_a_class_name_tells_alone() -> None:
    assert {"Euler", "Euler a", "DPM++ 2M", "DDIM", "LMS", "PLMS"} <= set(OFFERED_SCHEDULERS)
    assert not [name for name in OFFERED_SCHEDULERS if "Karras" in name or "SDE" in name]


async def test_a_scheduler_with_settings_is_refused_before_anything_is_sent(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await opened().submit(replace(ASKED, scheduler="DPM++ 2M Karras"), job_id="j1")
    assert caught.value.field == "scheduler"
    assert not fake.attempts


# --- what it answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["image_base64", "images_base64", "images", "data", "links"])
async def test_pictures_are_found_in_every_form(
    form: str, fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    fake.form = form
    (made,) = pictures(await run(opened()))
    assert made.data == flat_png(64, 64, 7)
    assert made.mime == "image/png"


async def test_a_clock_that_is_wrong_costs_no_fortune(
    opened: Callable[..., Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salad_fake, "SECONDS", 1e8)
    done = (await run(opened(price_per_hour="0.36")))[-1]
    assert isinstance(done, Done)
    assert done.money is not None
    assert done.money < 1


async def test_time_and_money_are_those_of_the_device(opened: Callable[..., Remote]) -> None:
    done = (await run(opened(price_per_hour="0.36"), replace(ASKED, count=2)))[-1]
    assert isinstance(done, Done)
    assert done.device_seconds == pytest.approx(2 * SECONDS)
    assert done.money == pytest.approx(2 * SECONDS * 0.0001)
    done = (await run(opened(price="0.04"), replace(ASKED, count=2)))[-1]
    assert isinstance(done, Done)
    assert done.money == pytest.approx(0.08)


async def test_a_picture_that_the_safety_checker_flags_is_rejected_alone(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    fake.flagged = {8}
    backend = opened()
    assert (await backend.capabilities()).checks_content
    events = await run(backend, replace(ASKED, count=3))
    assert [picture.index for picture in pictures(events)] == [0, 2]
    (rejected,) = [event for event in events if isinstance(event, ImageRejected)]
    assert (rejected.index, rejected.seed) == (1, 8)
    assert "safety checker" in rejected.reason


async def test_a_picture_that_comes_back_black_without_a_word_is_explained(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    fake.flagged, fake.tells_flags = {8}, False
    events = await run(opened(), replace(ASKED, count=2))
    assert len(pictures(events)) == 2
    assert isinstance(events[-1], Done)
    assert "all black" in events[-1].notes[0]


@pytest.mark.parametrize(
    ("code", "name", "kind", "field"),
    [
        ("INVALID_INPUTS", "", InvalidRequest, None),
        ("INVALID_SCHEDULER", "", InvalidRequest, "scheduler"),
        ("MODEL_MISMATCH", "", InvalidRequest, "model"),
        ("NO_MODEL_ID", "", InvalidRequest, "model"),
        ("NO_SUCH_PIPELINE", "", InvalidRequest, "image"),
        ("PIPELINE_ERROR", "ValueError", InvalidRequest, None),
        ("PIPELINE_ERROR", "OutOfMemoryError", Unavailable, None),
        ("APP_INFERENCE_ERROR", "", Unavailable, None),
        ("SOMETHING_NEW", "", Unavailable, None),
    ],
)
async def test_an_error_in_a_success_is_told_by_its_code_and_never_by_its_stack(
    code: str,
    name: str,
    kind: type[FairbrushError],
    field: str | None,
    fake: SaladFake,
    opened: Callable[..., Remote],
) -> None:
    fake.error = {"code": code, "name": name, "message": "secret path /srv", "stack": "File /srv/app.py"}
    with pytest.raises(kind) as caught:
        await run(opened(BETA))
    assert caught.value.field == field
    assert caught.value.accepted is True
    assert "/srv" not in caught.value.message
    assert "app.py" not in caught.value.detail


@pytest.mark.parametrize("output", [None, "text", [], {}, {"images": []}, {"images": [1]}, {"images": {}}, 7])
def test_an_output_without_pictures_is_not_asked_for_again(output: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_output(output)
    assert caught.value.accepted is None


# --- which API ----------------------------------------------------------------------------------------------


async def test_an_endpoint_that_the_current_api_knows_is_spoken_to_by_it(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    fake.endpoints = ("stable-diffusion-2-1",)
    backend = opened(BETA)
    assert (await backend.capabilities()).cancel
    await run(backend)
    assert fake.calls["POST jobs"] == 1
    assert not fake.calls["POST beta"]


async def test_an_endpoint_of_the_beta_alone_is_found_there(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    fake.beta_endpoints = ("paintings",)
    events = await run(opened("acme/paintings"), replace(ASKED, count=2))
    assert len(pictures(events)) == 2
    assert (fake.calls["POST jobs"], fake.calls["POST beta"]) == (1, 2)


async def test_an_api_that_is_told_is_kept_to(fake: SaladFake, opened: Callable[..., Remote]) -> None:
    fake.endpoints = fake.beta_endpoints = ("paintings",)
    await run(opened("acme/paintings", api="beta"))
    assert not fake.calls["POST jobs"]
    with pytest.raises(Unavailable, match="knows no endpoint acme/nowhere") as caught:
        await run(opened("acme/nowhere", api="jobs"))
    assert caught.value.accepted is False
    assert not fake.calls["POST beta"] > 1


# --- crashes ------------------------------------------------------------------------------------------------


async def test_a_job_whose_answer_was_lost_is_found_by_its_mark(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    fake.lose_answers = 1
    (made,) = pictures(await run(opened()))
    assert made.seed == 7
    assert fake.taken == 1


async def test_a_crash_before_the_reference_was_stored_makes_nothing_twice(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    first = opened()
    ref = await first.submit(replace(ASKED, count=3), job_id="j1")
    seen = 0
    async for _ in first.events(ref):  # the second reference never reaches the store
        seen += 1
        if seen == 1:
            break
    await first.aclose()
    assert fake.seeds == [7]
    events = await collect(opened().events(as_stored(ref)))
    assert [picture.seed for picture in pictures(events)] == [7, 8, 9]
    assert sorted(fake.seeds) == [7, 8, 9]


async def test_a_crash_between_two_pictures_sends_the_missing_ones_with_their_input(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    first = opened()
    ref = await first.submit(replace(ASKED, count=4, negative_prompt="snow"), job_id="j1")
    stored: list[RemoteRef] = []
    async for event in first.events(ref):
        if isinstance(event, Taken):
            stored.append(event.ref)
        if len(stored) == 2:
            break
    await first.aclose()
    events = await collect(opened().events(as_stored(stored[0])))  # the second one was not stored
    assert [picture.index for picture in pictures(events)] == [0, 1, 2, 3]
    assert sorted(fake.seeds) == [7, 8, 9, 10]
    assert all(inputs["negative_prompt"] == "snow" for inputs in fake.asked)


async def test_a_job_that_never_was_sent_may_be_sent_by_somebody_else(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    ref = as_stored(await opened().submit(ASKED, job_id="j1"))
    with pytest.raises(Unavailable) as caught:
        await collect(opened().events(ref))
    assert caught.value.accepted is False
    assert not fake.taken


async def test_a_crash_while_the_beta_was_asked_leaves_the_job_in_doubt(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    ref = as_stored(await opened(BETA).submit(ASKED, job_id="j1"))
    with pytest.raises(Unavailable, match="may have been made and charged") as caught:
        await collect(opened(BETA).events(ref))
    assert caught.value.accepted is None


async def test_a_crash_is_got_over_by_the_current_api_where_it_knows_an_old_endpoint(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    fake.endpoints = ("stable-diffusion-2-1",)
    first = opened(BETA)
    ref = as_stored(await first.submit(ASKED, job_id="j1"))
    await collect(first.events(ref))
    events = await collect(opened(BETA).events(ref))  # no reference but the first one was stored
    assert [picture.seed for picture in pictures(events)] == [7]
    assert fake.taken == 1


async def test_a_list_that_stays_out_of_reach_after_a_crash_leaves_the_job_in_doubt(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    ref = as_stored(await opened().submit(ASKED, job_id="j1"))
    await fake.stop()
    with pytest.raises(Unavailable, match="may have been made and charged") as caught:
        await collect(opened().events(ref))
    assert caught.value.accepted is None


async def test_a_beta_job_of_several_pictures_gives_those_that_are_known_after_a_crash(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    first = opened(BETA)
    ref = await first.submit(replace(ASKED, count=3), job_id="j1")
    async for event in first.events(ref):
        if isinstance(event, Taken):
            ref = as_stored(event.ref)
            break
    await first.aclose()
    events = await collect(opened(BETA).events(ref))
    assert [picture.seed for picture in pictures(events)] == [7]
    assert isinstance(events[-1], Done)
    assert "1 of 3 pictures" in events[-1].notes[0]
    assert "may have been made and charged" in events[-1].notes[0]
    assert fake.seeds == [7]


async def test_all_jobs_together_keep_to_the_calls_a_minute_of_one_key(fake: SaladFake) -> None:
    fake.hold()
    clock = HandClock()
    backend = build(JOBS, settings_for(fake), clock=clock.clock)
    watching = []
    try:
        for number in range(12):
            ref = await backend.submit(replace(ASKED, seed=number), job_id=f"j{number}")
            watching.append(asyncio.ensure_future(collect(backend.events(ref))))
        for _ in range(600):
            await clock.advance(0.1)
            await asyncio.sleep(0.001)
        assert fake.taken == 12
        assert 60 <= sum(fake.calls.values()) <= 240
    finally:
        await backend.aclose()
        await asyncio.gather(*watching, return_exceptions=True)


async def test_a_job_is_found_among_many_from_the_newest_end(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    first = opened()
    ref = as_stored(await first.submit(ASKED, job_id="j1"))
    await collect(first.events(RemoteRef(ref.backend, ref.data)))
    other = opened()
    await run(other, replace(ASKED, seed=100))
    for number in range(50):
        old = replace_job(fake, number)
        fake.jobs = {old.id: old, **fake.jobs}
    fake.calls.clear()
    events = await collect(opened().events(ref))
    assert [picture.seed for picture in pictures(events)] == [7]
    assert fake.calls["GET jobs"] < 8


def replace_job(fake: SaladFake, number: int) -> Any:
    """Somebody else's job, of long ago."""
    job = next(iter(fake.jobs.values()))
    events = [{**event, "time": "2020-01-01T00:00:00Z"} for event in job.events]
    return replace(job, id=f"other-{number}", body={"input": {}}, events=events)


async def test_a_job_from_before_a_restart_can_be_cancelled(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    fake.hold()
    first = opened()
    ref = await first.submit(ASKED, job_id="j1")
    async for event in first.events(ref):
        if isinstance(event, Taken):
            ref = as_stored(event.ref)
            break
    await first.aclose()
    again = opened()
    assert await again.cancel(ref) is CancelOutcome.REQUESTED
    with pytest.raises(FairbrushError) as caught:
        await collect(again.events(ref))
    assert type(caught.value).__name__ == "Cancelled"
    assert [job.status for job in fake.jobs.values()] == ["cancelled"]


# --- settings -----------------------------------------------------------------------------------------------


def test_salads_own_service_needs_a_key_and_a_price() -> None:
    def settings(key: str, **options: str) -> Settings:
        entry = BackendEntry("salad", BETA, options)
        return Settings(Path("x"), backends=(entry,), secrets={"SALAD_API_KEY": Secret(key)})

    with pytest.raises(ConfigurationError, match="SALAD_API_KEY"):
        create(BETA, settings("", price="0.01"))
    with pytest.raises(ConfigurationError, match=r"price=0\.04"):
        create(BETA, settings("k" * 20))
    with pytest.raises(ConfigurationError, match="Keep one"):
        create(BETA, settings("k" * 20, price="0.01", price_per_hour="0.3"))
    with pytest.raises(ConfigurationError, match='no option "prize"'):
        create(BETA, settings("k" * 20, prize="0.01"))
    with pytest.raises(ConfigurationError, match="jobs, beta"):
        create(BETA, settings("k" * 20, price="0", api="gamma"))
    assert create(BETA, settings("k" * 20, price="0")).name == f"salad:{BETA}"


@pytest.mark.parametrize("target", ["", "acme", "acme/", "/x", "acme/a/b", "acme/../../x", "Acme/x y"])
def test_a_target_that_names_no_endpoint_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError, match="ORGANIZATION/ENDPOINT"):
        create(target, Settings(Path("x")))


async def test_the_model_behind_an_endpoint_brings_its_licence(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    (model,) = (await opened(model="stabilityai/sdxl-turbo", size="512x512", steps="4").capabilities()).models
    assert (model.id, model.width, model.steps) == ("stabilityai/sdxl-turbo", 512, 4)
    assert not model.commercial


# --- the local service itself -------------------------------------------------------------------------------


@pytest.mark.skipif("FAIRBRUSH_SPECS" not in os.environ, reason="FAIRBRUSH_SPECS names no folder")
async def test_the_local_service_answers_as_salads_own_description_says(
    fake: SaladFake, opened: Callable[..., Remote]
) -> None:
    backend = opened()
    await run(backend, replace(ASKED, count=2))
    with pytest.raises(FairbrushError):
        await run(opened("other/pictures"))
    with pytest.raises(FairbrushError):
        await run(opened("acme/nowhere", api="jobs"))
    await collect_found(opened, backend)
    checked = answers_checked(fake)
    assert {operation for operation, _ in checked} >= {
        "GET /organizations/{organization_name}/inference-endpoints/{inference_endpoint_name}",
        "GET /organizations/{organization_name}/inference-endpoints/{inference_endpoint_name}/jobs",
        "POST /organizations/{organization_name}/inference-endpoints/{inference_endpoint_name}/jobs",
    }
    assert {status for _, status in checked} >= {200, 201, 403, 404}


async def collect_found(opened: Callable[..., Remote], backend: Remote) -> None:
    """Have the list of jobs read."""
    ref = as_stored(await backend.submit(ASKED, job_id="lost"))
    with pytest.raises(Unavailable):
        await collect(opened().events(ref))


def answers_checked(fake: SaladFake) -> list[tuple[str, int]]:
    """Every answer of the current API, held against the description."""
    document = json.loads((Path(os.environ["FAIRBRUSH_SPECS"]) / "salad-inference-openapi.json").read_text())
    registry: Registry[Any] = Registry().with_resource("urn:salad", DRAFT202012.create_resource(document))
    names = {
        "org": "organization_name",
        "endpoint": "inference_endpoint_name",
        "id": "inference_endpoint_job_id",
    }
    found = []
    for operation, status, body in fake.traffic:
        method, path = operation.split(" ")
        if not path.startswith("/api/public"):
            continue
        for short, name in names.items():
            path = path.replace(f"{{{short}}}", f"{{{name}}}")
        path = path.removeprefix("/api/public")
        responses = document["paths"][path][method.lower()]["responses"]
        pointer = (responses.get(str(status)) or responses["default"])["$ref"]
        content = document["components"]["responses"][pointer.rpartition("/")[2]]["content"]
        schema = {"$ref": "urn:salad" + content["application/json"]["schema"]["$ref"]}
        checker = Draft202012Validator(
            schema, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        checker.validate(body)
        found.append((f"{method} {path}", status))
    return found
