"""The AI Horde as a backend, against a local one."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Raster

from backends._horde_format import SAMPLERS, fitted, models_in
from backends._remote import Remote
from backends._wire import Facts, Finished
from backends.horde import _finished, build, create
from bot.core.errors import (
    AuthFailed,
    ConfigurationError,
    ContentRejected,
    InvalidRequest,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from bot.core.pictures import size_of
from bot.core.ports import CancelOutcome, Done, Event, ImageReady, ImageRejected, Progress, Queued, Taken
from bot.core.request import JSON, MAX_SEED, Image, ImageRequest
from bot.core.schedulers import SCHEDULERS
from bot.core.settings import BackendEntry, Secret, Settings
from tests.backend_contract import collect
from tests.fakes.backend import flat_png
from tests.fakes.clock import HurriedClock
from tests.fakes.horde import SAMPLERS as HORDE_SAMPLERS
from tests.fakes.horde import HordeFake
from tests.hosted_contract import HostedContract, World, hosted_world


def backend_on(
    fake: HordeFake, target: str = "", *, clock: HurriedClock | None = None, key: str = "", **options: str
) -> Remote:
    """A backend on a local Horde. key: "" for the fake's own, "-" for none."""
    secrets = {} if key == "-" else {"HORDE_API_KEY": Secret(key or fake.secret)}
    settings = Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("horde", target, options),),
        service_urls={"horde": fake.url},
        secrets=secrets,
    )
    return build(target, settings, clock=(clock or HurriedClock()).clock)


class TestHordeBackend(HostedContract):
    """All that is owed."""

    lacks = frozenset({"progress"})

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        fake, clock = HordeFake(), HurriedClock()
        async with hosted_world(fake, clock, lambda: backend_on(fake, clock=clock)) as world:
            yield world


@pytest.fixture
async def fake() -> AsyncIterator[HordeFake]:
    """A local Horde."""
    fake = HordeFake()
    await fake.start()
    yield fake
    await fake.stop()


def make_request(prompt: str = "a red circle", **fields: Any) -> ImageRequest:
    """A small request."""
    usual: dict[str, Any] = {
        "width": 512,
        "height": 512,
        "steps": 20,
        "guidance_scale": 7.0,
        "seed": 7,
        "model": "Deliberate",
    }
    return ImageRequest(prompt, **(usual | fields))


async def run(backend: Remote, request: ImageRequest) -> list[Event]:
    """A whole job; the backend is closed afterwards."""
    try:
        return await collect(backend.events(await backend.submit(request, job_id="j1")))
    finally:
        await backend.aclose()


def done_of(events: list[Event]) -> Done:
    """The end of a job that went well."""
    assert isinstance(events[-1], Done)
    return events[-1]


# --- what goes out ----------------------------------------------------------------------------------------


async def test_each_picture_is_a_request_of_its_own_with_its_own_seed(fake: HordeFake) -> None:
    request = make_request(count=3, seed=MAX_SEED, negative_prompt="blue", scheduler="DPM++ 2M Karras")
    events = await run(backend_on(fake), request)
    assert [body["params"]["seed"] for body in fake.bodies] == [str(MAX_SEED), "0", "1"]
    assert fake.bodies[0] == {
        "prompt": "a red circle ### blue",
        "params": {
            "n": 1,
            "width": 512,
            "height": 512,
            "steps": 20,
            "cfg_scale": 7.0,
            "seed": str(MAX_SEED),
            "sampler_name": "k_dpmpp_2m",
            "karras": True,
        },
        "models": ["Deliberate"],
        "nsfw": False,
        "censor_nsfw": True,
        "r2": True,
        "shared": False,
    }
    pictures = sorted((e for e in events if isinstance(e, ImageReady)), key=lambda e: e.index)
    assert [picture.seed for picture in pictures] == [MAX_SEED, 0, 1]
    assert {agent.split(":")[0] for agent in fake.agents} == {"fairbrush"}
    assert all(agent.count(":") == 2 for agent in fake.agents)


async def test_nobody_writes_a_negative_prompt_into_the_prompt(fake: HordeFake) -> None:
    await run(backend_on(fake), make_request("a ### b ##### c"))
    assert fake.bodies[0]["prompt"] == "a ## b ## c"


@pytest.mark.parametrize(
    ("asked", "sent"), [((1000, 600), (1024, 576)), ((64, 96), (64, 128)), ((512, 768), (512, 768))]
)
async def test_sides_are_made_in_steps_of_64_and_come_out_as_asked_for(
    fake: HordeFake, asked: tuple[int, int], sent: tuple[int, int]
) -> None:
    events = await run(backend_on(fake), make_request(width=asked[0], height=asked[1]))
    params = fake.bodies[0]["params"]
    assert (params["width"], params["height"]) == sent == fitted(*asked)
    (picture,) = [event for event in events if isinstance(event, ImageReady)]
    assert size_of(picture.data) == asked
    expected = {} if sent == asked else {"width": sent[0], "height": sent[1]}
    assert done_of(events).applied == expected


async def test_a_picture_to_start_from_and_a_mask_are_sent_in_the_size_that_is_made(
    fake: HordeFake,
) -> None:
    image = Image(flat_png(100, 50, 5), "image/png", 100, 50)
    await run(backend_on(fake), make_request(init_image=image, strength=0.0, width=200, height=120))
    body = fake.bodies[0]
    assert body["source_processing"] == "img2img"
    assert body["params"]["denoising_strength"] == 0.01
    with Raster.open(io.BytesIO(base64.b64decode(body["source_image"]))) as sent:
        assert (sent.format, sent.size) == ("WEBP", (192, 128))
    masked = make_request(init_image=image, mask_image=image, strength=0.7)
    await run(backend_on(fake), masked)
    assert fake.bodies[1]["source_processing"] == "inpainting"
    assert fake.bodies[1]["source_mask"]


def test_samplers_are_names_of_ours_and_of_the_hordes() -> None:
    assert set(SAMPLERS) <= set(SCHEDULERS)
    assert {sampler for sampler, _ in SAMPLERS.values()} <= HORDE_SAMPLERS


async def test_without_the_content_check_volunteers_do_not_censor(fake: HordeFake) -> None:
    settings = Settings(data_dir=Path("unused"), safety_checker=False, service_urls={"horde": fake.url})
    await run(build("", settings, clock=HurriedClock().clock), make_request())
    assert (fake.bodies[0]["nsfw"], fake.bodies[0]["censor_nsfw"]) == (True, False)


# --- what comes back --------------------------------------------------------------------------------------


async def test_the_queue_the_work_and_the_end_are_told(fake: HordeFake) -> None:
    events = await run(backend_on(fake), make_request())
    assert Queued(4, 12.0) in events
    assert any(isinstance(event, Progress) and "volunteer" in event.phase for event in events)
    done = done_of(events)
    assert done.money is None
    assert done.model == "Deliberate"
    assert "could read the prompt" in done.notes[0]
    assert [job.seen for job in fake.jobs.values()] == [1]  # the full state may seldom be asked for


async def test_a_picture_that_a_volunteer_keeps_back_is_rejected_and_the_others_come(
    fake: HordeFake,
) -> None:
    fake.censor = 1
    events = await run(backend_on(fake), make_request(count=2))
    assert sum(isinstance(event, ImageRejected) for event in events) == 1
    assert sum(isinstance(event, ImageReady) for event in events) == 1


async def test_pictures_in_base64_are_taken_too(fake: HordeFake) -> None:
    fake.r2 = False
    events = await run(backend_on(fake), make_request())
    (picture,) = [event for event in events if isinstance(event, ImageReady)]
    assert picture.mime == "image/webp"


def test_a_models_name_that_nobody_can_read_is_not_told() -> None:
    made = {"img": "x", "seed": "1", "model": "a\ud800" + "b" * 300}
    look = _finished({"generations": [made]}, Facts(1, 5, 64, 64, "Deliberate"))
    assert isinstance(look, Finished)
    assert look.model is None


async def test_what_nobody_can_make_ends_after_a_minute_and_is_taken_back(fake: HordeFake) -> None:
    fake.possible = False
    clock = HurriedClock()
    with pytest.raises(Unavailable) as caught:
        await run(backend_on(fake, clock=clock), make_request())
    assert caught.value.accepted is False
    assert "Deliberate at 512×512" in caught.value.message
    assert all(job.cancelled for job in fake.jobs.values())
    assert 60 <= sum(clock.slept) < 90


async def test_a_cancel_takes_every_request_back(fake: HordeFake) -> None:
    backend = backend_on(fake)
    fake.hold()
    ref = await backend.submit(make_request(count=2), job_id="j1")
    stream = backend.events(ref)
    async with asyncio.timeout(10):
        async for event in stream:
            ref = event.ref if isinstance(event, Taken) else ref
            if fake.taken == 2 and isinstance(event, Queued):
                break
    assert await backend.cancel(ref) is CancelOutcome.CANCELLED
    assert all(job.cancelled for job in fake.jobs.values())
    await backend.aclose()


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind", "field"),
    [
        (400, "CorruptPrompt", ContentRejected, "CorruptPrompt"),
        (403, "KudosUpfront", QuotaExceeded, None),
        (403, "TimeoutIP", Unavailable, None),
        (403, "UntrustedUnsafeIP", InvalidRequest, "init_image"),
        (400, "UnsupportedSampler", InvalidRequest, "scheduler"),
        (400, "TooManySteps", InvalidRequest, "steps"),
        (400, "BadRequest", InvalidRequest, None),
        (403, "AnonForbidden", AuthFailed, None),
    ],
)
async def test_a_refusal_means_what_it_says_and_nothing_was_taken(
    fake: HordeFake, status: int, code: str, kind: type[Exception], field: str | None
) -> None:
    fake.refuse(status, code)
    with pytest.raises(kind) as caught:
        await run(backend_on(fake), make_request())
    assert caught.value.accepted is False  # type: ignore[attr-defined]  # of our tree
    assert caught.value.field == field  # type: ignore[attr-defined]
    assert len(fake.bodies) == 1


async def test_too_many_requests_at_once_are_tried_again_and_then_told(fake: HordeFake) -> None:
    for _ in range(9):
        fake.refuse(429, "TooManyPrompts", "Parallel requests exceeded user limit (1).")
    with pytest.raises(RateLimited) as caught:
        await run(backend_on(fake), make_request())
    assert caught.value.accepted is False
    assert 1 < len(fake.bodies) < 9


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"steps": 51}, "steps", "--steps 50"),
        ({"steps": 40, "scheduler": "Heun"}, "steps", "--steps 25"),
        ({"steps": 11, "scheduler": "LCM"}, "steps", "--steps 10"),
        ({"width": 1216, "height": 1024}, "size", "1024×1024"),
    ],
)
async def test_what_nobody_anonymous_gets_is_refused_before_it_is_sent(
    fake: HordeFake, fields: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await run(backend_on(fake, key="-"), make_request(**fields))
    assert caught.value.field == field
    assert says in caught.value.message
    assert fake.attempts == 0
    assert isinstance((await run(backend_on(fake), make_request(**fields)))[-1], Done)


async def test_a_scheduler_that_the_horde_lacks_is_refused_by_name(fake: HordeFake) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await run(backend_on(fake), make_request(scheduler="UniPC"))
    assert caught.value.field == "scheduler"


# --- what is offered --------------------------------------------------------------------------------------


async def test_models_come_by_their_workers_and_say_who_reads_the_prompt(fake: HordeFake) -> None:
    fake.models["Nobody's"] = 0
    backend = backend_on(fake)
    capabilities = await backend.capabilities()
    await backend.aclose()
    names = [model.id for model in capabilities.models]
    assert names == ["AlbedoBase XL (SDXL)", "Deliberate", "Flux.1-Schnell fp8 (Compact)"]
    large, small, flux = capabilities.models
    assert (large.width, small.width, flux.guidance_scale) == (1024, 512, 1.0)
    assert "can read it" in small.advice
    assert "public" not in small.advice
    assert small.price is None
    assert capabilities.resumable
    assert capabilities.checks_content


async def test_nobody_anonymous_is_offered_first_what_needs_kudos_while_it_is_busy(
    fake: HordeFake,
) -> None:
    backend = backend_on(fake, key="-")
    first, *_ = (await backend.capabilities()).models
    await backend.aclose()
    assert (first.id, first.width, first.height) == ("Deliberate", 512, 512)
    assert "public" in first.advice


async def test_a_busy_horde_says_up_to_which_size_it_takes_pictures(fake: HordeFake) -> None:
    fake.refuse(403, "KudosUpfront", "Due to heavy demand, for requests over 576x576 or over 50 steps ...")
    with pytest.raises(QuotaExceeded) as caught:
        await run(backend_on(fake, key="-"), make_request(width=768, height=768))
    assert "above 576×576" in caught.value.message
    assert "HORDE_API_KEY" in caught.value.message


async def test_one_model_alone_where_the_entry_names_it(fake: HordeFake) -> None:
    fake.models |= {f"Model {number}": 10 + number for number in range(80)}
    backend = backend_on(fake, "deliberate", size="640x512", steps="12", guidance="5")
    (model,) = (await backend.capabilities()).models
    await backend.aclose()
    assert (model.id, model.width, model.height) == ("Deliberate", 640, 512)
    assert (model.steps, model.guidance_scale) == (12, 5.0)
    everything = backend_on(fake)
    models = (await everything.capabilities()).models
    await everything.aclose()
    assert len(models) == 50
    assert models[0].id == "Model 79"


def test_an_odd_listing_offers_what_can_be_read() -> None:
    good: JSON = {"name": "A", "count": 1, "type": "image"}
    odd: JSON = [good, good, {"name": 5, "count": 1}, {"name": "B", "count": "many"}, None, {"name": "C\n"}]
    assert [model.id for model in models_in(odd, "", anonymous=False)] == ["A"]
    assert models_in({"message": "no"}, "", anonymous=False) == ()


@pytest.mark.parametrize("options", [{"size": "big"}, {"price": "1"}, {"steps": "few"}])
def test_a_wrong_entry_says_what_to_change(options: dict[str, str]) -> None:
    settings = Settings(data_dir=Path("unused"), backends=(BackendEntry("horde", "", options),))
    with pytest.raises(ConfigurationError) as caught:
        create("", settings)
    assert next(iter(options)) in caught.value.message
