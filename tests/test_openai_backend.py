"""OpenAI's images API as a backend: at OpenAI itself, and at other servers that speak it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Raster

from backends._http import Http
from backends._openai_models import KNOWN, free_size
from backends._openai_offer import read_offer
from backends._openai_wire import Events, read_event
from backends.openai import OpenAIBackend, build, create
from bot.core.errors import (
    AuthFailed,
    Cancelled,
    ConfigurationError,
    ContentRejected,
    InvalidRequest,
    ProtocolError,
    QuotaExceeded,
    Unavailable,
)
from bot.core.pictures import size_of
from bot.core.ports import (
    Backend,
    CancelOutcome,
    Clock,
    Done,
    Event,
    ImageReady,
    ImageRejected,
    Preview,
    Price,
    Progress,
    Taken,
)
from bot.core.request import MAX_SEED, Image, ImageRequest
from bot.core.settings import BackendEntry, Secret, Settings
from tests.backend_contract import BackendContract, collect
from tests.fakes.api import House, house
from tests.fakes.backend import colour_of, flat_png
from tests.fakes.clock import HandClock, HurriedClock
from tests.fakes.openai import NO_LINKS, TOKENS, FakeOpenAI
from tests.hosted_contract import HostedContract, World, hosted_world


def at_openai(
    fake: FakeOpenAI, model: str = "gpt-image-2", *, clock: Clock | None = None, **options: str
) -> OpenAIBackend:
    """A backend that takes the local server for OpenAI itself."""
    entry = BackendEntry("openai", model, options)
    http = Http(fake.url, headers={"Authorization": f"Bearer {fake.secret}"}, service="OpenAI", clock=clock)
    return OpenAIBackend(entry, read_offer(entry, official=True), http, official=True, clock=clock)


def elsewhere(
    fake: FakeOpenAI, model: str = "sd", *, clock: Clock | None = None, **options: str
) -> OpenAIBackend:
    """A backend of another server, as the settings make it."""
    settings = Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("openai", model, options),),
        service_urls={"openai": fake.url},
        secrets={"OPENAI_API_KEY": Secret(fake.secret)},
    )
    return build(model, settings, clock=clock)


def at_fairbrush(home: House, model: str = "fake", **options: str) -> OpenAIBackend:
    """A backend of another Fairbrush."""
    settings = Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("openai", model, options),),
        service_urls={"openai": home.url},
        secrets={"OPENAI_API_KEY": Secret(home.key)},
    )
    return build(model, settings)


class TestAtOpenAI(HostedContract):
    """GPT Image 2 at OpenAI."""

    lacks = FakeOpenAI.cannot | NO_LINKS | {"progress", "resume"}

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        fake, clock = FakeOpenAI(), HurriedClock()
        async with hosted_world(fake, clock, lambda: at_openai(fake, clock=clock.clock)) as world:
            yield world


class TestStreamed(HostedContract):
    """With previews, so that every picture is streamed."""

    lacks = FakeOpenAI.cannot | NO_LINKS | {"progress", "resume", "picture:oversized"}

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        fake, clock = FakeOpenAI(), HurriedClock()
        fake.cannot |= {"picture:oversized"}  # 28 MB thrice, and the same code as in one piece
        make = lambda: at_openai(fake, previews="2", clock=clock.clock)  # noqa: E731
        async with hosted_world(fake, clock, make) as world:
            yield world


class TestAtAnotherFairbrush(BackendContract):
    """The API that Fairbrush serves itself: what its models take is learnt from it."""

    lacks = frozenset({"progress", "resume"})

    @pytest.fixture
    async def backend(self, tmp_path: Path) -> AsyncIterator[Backend]:
        async with house(tmp_path) as home:
            backend = at_fairbrush(home)
            yield backend
            await backend.aclose()


class TestElsewhere(HostedContract):
    """Another server, whose answers hold links, and which takes seeds."""

    lacks = FakeOpenAI.cannot | {"progress", "resume"}

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        fake, clock = FakeOpenAI(lenient=True, links=True), HurriedClock()
        make = lambda: elsewhere(fake, params="steps+seed+guidance_scale", clock=clock.clock)  # noqa: E731
        async with hosted_world(fake, clock, make) as world:
            yield world


def make_request(prompt: str = "a red circle", **fields: Any) -> ImageRequest:
    """A small request; OpenAI's models have one step and no guidance of their own."""
    usual: dict[str, Any] = {
        "width": 1024,
        "height": 1024,
        "steps": 1,
        "guidance_scale": 1.0,
        "seed": 7,
    }
    return ImageRequest(prompt, **(usual | fields))


async def run(backend: OpenAIBackend, request: ImageRequest) -> list[Event]:
    """A whole job; the backend is closed afterwards."""
    try:
        return await collect(backend.events(await backend.submit(request, job_id="j1")))
    finally:
        await backend.aclose()


def done_of(events: list[Event]) -> Done:
    """The end of a job that went well."""
    assert isinstance(events[-1], Done)
    return events[-1]


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    """A local OpenAI."""
    fake = FakeOpenAI()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def other() -> AsyncIterator[FakeOpenAI]:
    """Another server that speaks the API."""
    other = FakeOpenAI(lenient=True)
    await other.start()
    yield other
    await other.stop()


# --- the local server is what the real client expects -------------------------------------------------------


async def test_the_real_client_gets_pictures_previews_and_errors_of_the_local_server(
    fake: FakeOpenAI,
) -> None:
    async with openai.AsyncOpenAI(api_key=fake.secret, base_url=f"{fake.url}/v1", max_retries=0) as client:
        made = await client.images.generate(model="gpt-image-2", prompt="x", n=2, size="1536x864")
        assert made.data is not None
        assert [len(base64.b64decode(one.b64_json or "")) > 100 for one in made.data] == [True, True]
        assert made.usage is not None
        assert made.usage.output_tokens == 2000
        assert made.usage.input_tokens_details.text_tokens == 50
        stream = await client.images.generate(
            model="gpt-image-1.5", prompt="x", stream=True, partial_images=2
        )
        kinds = [event.type async for event in stream]
        assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
        edited = await client.images.edit(
            model="gpt-image-2", prompt="x", image=("a.png", flat_png(64, 64, 1), "image/png"), n=1
        )
        assert edited.data
        assert fake.calls[-1].files["image"] == flat_png(64, 64, 1)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.generate(model="gpt-image-2", prompt="forbidden")
        assert refused.value.code == "moderation_blocked"
        with pytest.raises(openai.NotFoundError):
            await client.images.generate(model="dall-e-9", prompt="x")
        assert "gpt-image-2" in [model.id async for model in client.models.list()]


# --- sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "asked", "sent"),
    [
        ("gpt-image-2", (1024, 1024), "1024x1024"),
        ("gpt-image-2", (512, 512), "816x816"),
        ("gpt-image-2", (2048, 512), "2048x688"),
        ("gpt-image-1.5", (512, 768), "1024x1536"),
        ("gpt-image-1.5", (1920, 1080), "1536x1024"),
        ("gpt-image-1-mini", (1024, 1000), "1024x1024"),
        ("dall-e-3", (512, 256), "1792x1024"),
        ("dall-e-2", (300, 300), "512x512"),
    ],
)
async def test_a_size_that_the_model_lacks_is_asked_for_by_the_nearest_and_made_to_fit(
    fake: FakeOpenAI, model: str, asked: tuple[int, int], sent: str
) -> None:
    events = await run(at_openai(fake, model), make_request(width=asked[0], height=asked[1]))
    (picture,) = [event for event in events if isinstance(event, ImageReady)]
    assert fake.calls[0].fields["size"] == sent
    assert size_of(picture.data) == asked
    made = tuple(int(side) for side in sent.split("x"))
    expected = {} if made == asked else {"width": made[0], "height": made[1]}
    assert done_of(events).applied == expected


@given(st.integers(8, 256), st.integers(8, 256))
def test_every_size_is_asked_for_within_what_openai_takes(wide: int, high: int) -> None:
    width, height = wide * 8, high * 8
    size = free_size(width, height)
    assert size[0] % 16 == size[1] % 16 == 0
    assert max(size) <= min(3840, 3 * min(size))
    assert 655_360 <= size[0] * size[1] <= 8_294_400
    if max(width, height) <= 3 * min(width, height):
        assert abs(math.log(size[0] / size[1] * height / width)) < 0.1


# --- what it costs ----------------------------------------------------------------------------------------


async def test_an_answer_is_charged_by_its_own_count_of_tokens(fake: FakeOpenAI) -> None:
    done = done_of(await run(at_openai(fake), make_request(count=2)))
    assert done.money == pytest.approx((50 * 5 + 2000 * 30) / 1e6)


async def test_without_a_count_the_table_says_what_it_costs_and_a_price_of_ones_own_wins(
    fake: FakeOpenAI,
) -> None:
    wide = make_request(width=1792, height=1024, count=2)
    assert done_of(await run(at_openai(fake, "dall-e-3"), wide)).money == pytest.approx(0.16)
    fake.usage = None
    backend = at_openai(fake, "gpt-image-1.5", quality="high")
    assert done_of(await run(backend, make_request())).money == pytest.approx(0.133)
    own = at_openai(fake, price="0.5")
    assert done_of(await run(own, make_request(count=2))).money == pytest.approx(1.0)
    entry = BackendEntry("openai", "gpt-image-2", {"price": "0.5"})
    assert read_offer(entry, official=True).model.price == Price(0.5)


@pytest.mark.parametrize("model", [name for name, one in KNOWN.items() if one.prices])
def test_the_price_for_caps_covers_every_size_and_picture(model: str) -> None:
    known = KNOWN[model]
    for quality in known.prices:
        price = known.price(quality)
        assert price is not None
        for size in known.sizes or ((1024, 1024), (2048, 2048), (2048, 512), (512, 512)):
            request = make_request(width=size[0], height=size[1], count=1)
            cost = known.price_of(quality, size)
            assert cost is not None
            assert price.of(request, 0.0) >= cost


async def test_one_picture_a_call_where_the_model_makes_no_more(fake: FakeOpenAI) -> None:
    fake.revised_prompt = "A perfectly round red circle"
    events = await run(at_openai(fake, "dall-e-3"), make_request(count=3))
    assert [call.fields["n"] for call in fake.calls] == [1, 1, 1]
    assert sorted(event.index for event in events if isinstance(event, ImageReady)) == [0, 1, 2]
    one = await run(at_openai(fake, "dall-e-3"), make_request())
    assert done_of(one).applied == {"prompt": "A perfectly round red circle"}


async def test_a_missing_picture_is_told(fake: FakeOpenAI) -> None:
    fake.fewer = 1
    events = await run(at_openai(fake), make_request(count=3))
    assert [event.index for event in events if isinstance(event, ImageReady)] == [0, 1]
    assert done_of(events).notes[-1] == "2 of 3 pictures were made."


async def test_one_picture_that_is_none_costs_the_others_nothing(fake: FakeOpenAI) -> None:
    fake.spoilt = {0}
    events = await run(at_openai(fake), make_request(count=3))
    assert [event.index for event in events if isinstance(event, ImageReady)] == [1, 2]
    assert done_of(events).notes[-1].startswith("2 of 3 pictures were made. ")
    assert done_of(events).money == pytest.approx((50 * 5 + 3000 * 30) / 1e6)  # all three are charged


async def test_a_count_beyond_sense_is_no_count(fake: FakeOpenAI) -> None:
    fake.usage = {**TOKENS, "output_tokens": 10**400}
    assert (done_of(await run(at_openai(fake, "gpt-image-1.5"), make_request())).money or 0) < 1


async def test_what_one_answer_does_not_count_is_charged_by_the_table(fake: FakeOpenAI) -> None:
    backend = at_openai(fake, "gpt-image-1.5", quality="high", previews="1")
    fake.uncounted = 1
    events = await run(backend, make_request(count=2))
    assert done_of(events).money == pytest.approx((50 * 5 + 1000 * 32) / 1e6 + 0.133)


async def test_what_is_not_heeded_is_said(fake: FakeOpenAI) -> None:
    notes = " ".join(done_of(await run(at_openai(fake), make_request(steps=30))).notes)
    assert "no seed" in notes
    assert "no steps" in notes
    assert "guidance" not in notes
    assert "steps" not in " ".join(done_of(await run(at_openai(fake), make_request())).notes)


# --- refusals ---------------------------------------------------------------------------------------------


async def test_its_content_check_is_told_as_such_and_not_asked_again(fake: FakeOpenAI) -> None:
    with pytest.raises(ContentRejected) as caught:
        await run(at_openai(fake), make_request("something forbidden"))
    assert caught.value.accepted is False
    assert len(fake.calls) == 1
    fake.refuse(400, "moderation_blocked", moderation_details={"moderation_stage": "output"})
    with pytest.raises(ContentRejected) as late:
        await run(at_openai(fake), make_request())
    assert late.value.accepted is None  # made, and so maybe charged


async def test_one_picture_kept_back_costs_the_others_nothing(fake: FakeOpenAI) -> None:
    fake.refuse(400, "content_policy_violation")
    events = await run(at_openai(fake, "dall-e-3"), make_request(count=3))
    kept = [event.index for event in events if isinstance(event, ImageRejected)]
    made = [event.index for event in events if isinstance(event, ImageReady)]
    assert len(kept) == 1
    assert sorted(kept + made) == [0, 1, 2]


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "insufficient_quota"), (400, "billing_hard_limit_reached"), (403, "billing_not_active")],
)
async def test_an_empty_account_is_told_and_not_asked_again(fake: FakeOpenAI, status: int, code: str) -> None:
    fake.refuse(status, code, "You exceeded your current quota.")
    with pytest.raises(QuotaExceeded) as caught:
        await run(at_openai(fake), make_request())
    assert caught.value.accepted is False
    assert len(fake.calls) == 1


@pytest.mark.parametrize("code", ["contentFilter", "content_filter"])
async def test_azures_content_check_is_one_too(fake: FakeOpenAI, code: str) -> None:
    fake.refuse(400, code, "The response was filtered.", inner_error={"code": "ResponsibleAIPolicyViolation"})
    with pytest.raises(ContentRejected):
        await run(at_openai(fake), make_request())


async def test_a_relay_that_numbers_its_codes_is_understood_by_the_type(fake: FakeOpenAI) -> None:
    fake.refuse(429, "429", "You exceeded your current quota.", type="insufficient_quota")
    with pytest.raises(QuotaExceeded):
        await run(at_openai(fake), make_request())
    assert len(fake.calls) == 1


async def test_what_the_account_may_not_do_is_said(fake: FakeOpenAI) -> None:
    fake.refuse(403, None, "Your organization must be verified to use the model `gpt-image-2`.")
    with pytest.raises(AuthFailed) as caught:
        await run(at_openai(fake), make_request())
    assert "must be verified" in caught.value.message
    assert caught.value.accepted is False


async def test_an_address_may_end_in_v1_as_openais_own_libraries_have_it(other: FakeOpenAI) -> None:
    settings = Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("openai", "sd"),),
        service_urls={"openai": f"{other.url}/v1/"},
        secrets={"OPENAI_API_KEY": Secret(other.secret)},
    )
    events = await run(build("sd", settings), make_request())
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize(
    ("status", "code", "param", "field"),
    [
        (404, "model_not_found", "model", "model"),
        (400, "invalid_value", "size", "size"),
        (400, "string_above_max_length", "prompt", "prompt"),
        (400, "odd", None, None),
    ],
)
async def test_a_refused_request_names_the_field(
    fake: FakeOpenAI, status: int, code: str, param: str | None, field: str | None
) -> None:
    fake.refuse(status, code, "That will not do.", param=param)
    with pytest.raises(InvalidRequest) as caught:
        await run(at_openai(fake), make_request())
    assert caught.value.field == field
    assert caught.value.accepted is False


# --- streams ----------------------------------------------------------------------------------------------


async def test_previews_come_small_and_as_many_as_are_asked_for(fake: FakeOpenAI) -> None:
    backend = at_openai(fake, previews="1")
    capabilities = await backend.capabilities()
    assert capabilities.previews
    assert "previews" in capabilities.params
    assert not capabilities.checks_content
    events = await run(backend, make_request(count=2, previews=3))
    assert [call.fields["partial_images"] for call in fake.calls] == [3, 3]
    previews = [event for event in events if isinstance(event, Preview)]
    assert previews
    assert all(len(event.data) <= 20_000 for event in previews)
    backend = at_openai(fake)
    plain = await backend.capabilities()
    await backend.aclose()
    assert plain.checks_content
    assert not plain.previews


async def test_a_stream_that_breaks_leaves_the_job_in_doubt(fake: FakeOpenAI) -> None:
    fake.broken_after = 1
    with pytest.raises(Unavailable) as caught:
        await run(at_openai(fake, previews="2"), make_request())
    assert caught.value.accepted is None
    assert "charged" in caught.value.message
    assert len(fake.calls) == 1


async def test_a_picture_at_the_very_end_of_a_stream_is_not_lost(fake: FakeOpenAI) -> None:
    """The blank line that ends an event is missing; the picture is whole, and paid for."""
    fake.abrupt = True
    events = await run(at_openai(fake, previews="1"), make_request())
    assert sum(isinstance(event, ImageReady) for event in events) == 1


async def test_an_event_that_says_that_there_is_no_error_is_none(fake: FakeOpenAI) -> None:
    fake.extra_event = {"type": "image_generation.in_progress", "error": None}
    events = await run(at_openai(fake, previews="1"), make_request())
    assert sum(isinstance(event, ImageReady) for event in events) == 1


async def test_an_error_in_the_middle_of_a_stream_means_what_it_says(fake: FakeOpenAI) -> None:
    fake.stream_error = {"code": "moderation_blocked", "message": "No."}
    with pytest.raises(ContentRejected):
        await run(at_openai(fake, previews="1"), make_request())
    fake.stream_error = {"type": "server_error", "message": "Boom."}
    with pytest.raises(Unavailable) as caught:
        await run(at_openai(fake, previews="1"), make_request())
    assert caught.value.accepted is None


@pytest.mark.parametrize("cut", [1, 3, 7, 50, 10_000])
def test_events_are_read_wherever_the_stream_is_cut(cut: int) -> None:
    text = b': hello\n\nevent: a\ndata: {"n": 1}\n\ndata: {"n":\ndata: 2}\r\n\r\ndata: [DONE]\n\n'
    events = Events()
    found = [event for at in range(0, len(text), cut) for event in events.feed(text[at : at + cut])]
    assert [read_event(event) for event in found] == [{"n": 1}, {"n": 2}]


def test_an_event_without_end_is_not_read_for_ever() -> None:
    events = Events(most=1000)
    events.feed(b"data: " + b"x" * 900)
    with pytest.raises(ProtocolError):
        events.feed(b"x" * 200)


# --- pictures to start from -------------------------------------------------------------------------------


async def test_a_picture_and_its_mask_go_to_the_edits(fake: FakeOpenAI) -> None:
    image = Image(flat_png(64, 64, 5), "image/png", 64, 64)
    half = Raster.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 16, 32))
    data = io.BytesIO()
    half.save(data, "PNG")
    mask = Image(data.getvalue(), "image/png", 32, 32)
    request = make_request("a hat – ☂", init_image=image, mask_image=mask, strength=0.5, count=2)
    events = await run(at_openai(fake), request)
    (call,) = fake.calls
    assert call.path == "/v1/images/edits"
    assert call.files["image"] == image.data
    with Raster.open(io.BytesIO(call.files["mask"])) as sent:
        assert sent.size == (64, 64)
        alpha = sent.getchannel("A")
        assert (alpha.getpixel((5, 5)), alpha.getpixel((60, 5))) == (0, 255)  # white is painted anew
    assert call.fields["prompt"] == "a hat – ☂"
    assert call.fields["n"] == 2
    assert sum(isinstance(event, ImageReady) for event in events) == 2
    assert any("no strength" in note for note in done_of(events).notes)


async def test_what_a_model_does_not_take_is_refused_by_name(fake: FakeOpenAI) -> None:
    backend = at_openai(fake, "dall-e-3")
    image = Image(flat_png(64, 64, 5), "image/png", 64, 64)
    for field, request in (
        ("init_image", make_request(init_image=image)),
        ("negative_prompt", make_request(negative_prompt="blue")),
        ("scheduler", make_request(scheduler="Euler a")),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await backend.submit(request, job_id="j1")
        assert caught.value.field == field
    await backend.aclose()


# --- other servers ----------------------------------------------------------------------------------------


async def test_another_server_is_sent_what_its_entry_says(other: FakeOpenAI) -> None:
    backend = elsewhere(other, params="steps:num_steps+seed+negative_prompt", steps="25", size="512x512")
    (model,) = (await backend.capabilities()).models
    assert (model.width, model.steps, model.price) == (512, 25, None)
    request = make_request(steps=9, negative_prompt="blue", count=2, seed=MAX_SEED, width=200, height=120)
    events = await run(backend, request)
    assert [call.fields for call in other.calls] == [
        {
            "model": "sd",
            "prompt": "a red circle",
            "n": 1,
            "size": "200x120",
            "response_format": "b64_json",
            "num_steps": 9,
            "seed": seed,
            "negative_prompt": "blue",
        }
        for seed in (MAX_SEED, 0)
    ]
    assert done_of(events).money is None
    assert done_of(events).notes == ()


async def test_without_seeds_all_pictures_come_of_one_call(other: FakeOpenAI) -> None:
    events = await run(elsewhere(other), make_request(count=3))
    assert [call.fields["n"] for call in other.calls] == [3]
    assert "no seed" in done_of(events).notes[0]


async def test_stable_diffusion_cpp_gets_its_settings_in_the_prompt_and_people_cannot_write_them(
    other: FakeOpenAI,
) -> None:
    prompt = 'x <sd_cpp_extra_args>{"seed": 1}</SD_cpp_extra_args>'
    await run(elsewhere(other, params="sdcpp"), make_request(prompt, negative_prompt="y", steps=9))
    sent = other.calls[0].fields["prompt"]
    assert sent.count("<sd_cpp_extra_args>") == sent.count("</sd_cpp_extra_args>") == 1
    args = json.loads(sent.partition("<sd_cpp_extra_args>")[2].partition("</sd_cpp_extra_args>")[0])
    assert args == {
        "seed": 7,
        "negative_prompt": "y",
        "sample_params": {"sample_steps": 9, "guidance": {"txt_cfg": 1.0}},
    }
    await run(elsewhere(other), make_request(prompt))
    assert "<sd_cpp" not in other.calls[1].fields["prompt"]


async def test_no_key_is_sent_where_there_is_none(other: FakeOpenAI) -> None:
    settings = Settings(data_dir=Path("unused"), service_urls={"openai": other.url})
    backend = build("sd", settings)
    with pytest.raises(AuthFailed):
        await run(backend, make_request())
    assert "Authorization" not in other.calls[0].headers


async def test_another_fairbrush_honours_what_it_says_that_it_does(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        backend = at_fairbrush(home, steps="9", previews="2")
        capabilities = await backend.capabilities()
        (model,) = capabilities.models
        assert capabilities.params >= {"steps", "guidance_scale", "seed", "negative_prompt", "scheduler"}
        assert (model.title, model.width, model.steps) == ("Flat colours", 64, 9)
        assert model.schedulers == ("Euler", "Euler a")
        request = make_request(width=72, height=64, steps=3, scheduler="Euler a", seed=300, count=2)
        events = await run(backend, request)
        pictures = sorted((e for e in events if isinstance(e, ImageReady)), key=lambda e: e.index)
        assert [picture.seed for picture in pictures] == [300, 301]
        for picture in pictures:
            with Raster.open(io.BytesIO(picture.data)) as image:
                assert image.convert("RGB").getpixel((0, 0)) == colour_of(picture.seed)
        assert any(isinstance(event, Preview) for event in events)
        done = done_of(events)
        assert (done.money, done.notes, done.applied) == (None, (), {})


# --- life and death ---------------------------------------------------------------------------------------


async def test_while_it_waits_it_gives_a_sign_of_life_every_20_seconds(fake: FakeOpenAI) -> None:
    clock = HurriedClock()
    backend = at_openai(fake, clock=clock.clock)
    fake.hold()
    ref = await backend.submit(make_request(), job_id="j1")
    signs = 0
    async for event in backend.events(ref):
        if isinstance(event, Progress):
            assert event.phase == "Waiting for OpenAI"
            signs += 1
            if signs == 3:
                fake.release()
    assert signs >= 3
    assert {20.0} == set(clock.slept)
    await backend.aclose()


async def test_a_cancel_drops_the_connection_and_says_that_it_may_cost(fake: FakeOpenAI) -> None:
    backend = at_openai(fake)
    fake.hold()
    ref = await backend.submit(make_request(), job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    async with asyncio.timeout(10):
        while not fake.taken:
            await asyncio.sleep(0.005)
        assert await backend.cancel(ref) is CancelOutcome.REQUESTED
        with pytest.raises(Cancelled) as caught:
            await watching
        while not fake.dropped:
            await asyncio.sleep(0.005)
    assert caught.value.accepted is None
    assert await backend.cancel(ref) is CancelOutcome.TOO_LATE
    await backend.aclose()


async def test_a_job_that_was_sent_before_a_restart_is_in_doubt(fake: FakeOpenAI) -> None:
    backend = at_openai(fake)
    fake.hold()
    stream = backend.events(await backend.submit(make_request(), job_id="j1"))
    first = await anext(stream)
    assert isinstance(first, Taken)
    assert fake.attempts == 0  # it is stored first that it is sent
    await backend.aclose()
    backend = at_openai(fake)
    with pytest.raises(Unavailable) as caught:
        await collect(backend.events(first.ref))
    assert caught.value.accepted is None
    assert "not sent again" in caught.value.message
    await backend.aclose()


async def test_the_list_of_models_is_asked_for_once_a_minute_at_most(fake: FakeOpenAI) -> None:
    clock = HandClock()
    backend = at_openai(fake, clock=clock.clock)
    for _ in range(5):
        assert (await backend.capabilities()).models
        assert (await backend.health()).ok
    assert fake.asked == 1
    await clock.advance(61)
    await backend.health()
    async with asyncio.timeout(10):
        while fake.asked < 2:
            await asyncio.sleep(0.005)
    await backend.aclose()


async def test_nothing_is_offered_before_the_server_was_reached(fake: FakeOpenAI) -> None:
    await fake.stop()
    backend = at_openai(fake)
    assert (await backend.capabilities()).models == ()
    health = await backend.health()
    assert not health.ok
    assert "cannot be reached" in health.detail
    await backend.aclose()


# --- the settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        ("", {}, "needs a model"),
        ("gpt-image-9", {}, ";price=0.04"),
        ("gpt-image-2.5-flare", {"quality": "max"}, ";price=0.04"),
        ("gpt-image-2", {"quality": "ultra"}, "low, medium, high"),
        ("gpt-image-2", {"previews": "4"}, "0, 1, 2 or 3"),
        ("gpt-image-2", {"params": "seed"}, "FAIRBRUSH_OPENAI_URL"),
        ("gpt-image-2", {"speed": "9"}, "speed"),
    ],
)
def test_a_wrong_entry_for_openai_says_what_to_change(
    target: str, options: dict[str, str], says: str
) -> None:
    settings = Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("openai", target, options),),
        secrets={"OPENAI_API_KEY": Secret("k" * 20)},
    )
    with pytest.raises(ConfigurationError) as caught:
        create(target, settings)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"params": "sampler"}, "negative_prompt"),
        ({"params": "seed:a b"}, "seed:a b"),
        ({"size": "big"}, "1024x1024"),
        ({"like": "sdxl"}, "gpt-image-2"),
        ({"price": "free"}, "not a number"),
    ],
)
def test_a_wrong_entry_for_another_server_says_what_to_change(options: dict[str, str], says: str) -> None:
    settings = Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("openai", "sd", options),),
        service_urls={"openai": "http://127.0.0.1:9"},
    )
    with pytest.raises(ConfigurationError) as caught:
        create("sd", settings)
    assert says in caught.value.message


def test_openai_needs_a_key() -> None:
    with pytest.raises(ConfigurationError) as caught:
        create("gpt-image-2", Settings(data_dir=Path("unused")))
    assert "OPENAI_API_KEY" in caught.value.message
