"""The backend for AUTOMATIC1111's API, against a server that speaks it."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image as Raster

from backends._a1111_calls import read_stand
from backends.a1111 import A1111, create
from bot.core.errors import (
    AuthFailed,
    Cancelled,
    ConfigurationError,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    Unavailable,
)
from bot.core.ports import (
    Backend,
    CancelOutcome,
    Done,
    Event,
    ImageReady,
    Preview,
    Progress,
    Queued,
    RemoteRef,
)
from bot.core.request import Image, ImageRequest, State
from bot.core.settings import BackendEntry, Secret, Settings
from tests.backend_contract import BackendContract, collect
from tests.fakes.a1111 import FakeA1111, error, fake_a1111, hang_up, reply
from tests.fakes.backend import flat_png
from tests.fakes.clock import HandClock
from tests.fakes.house import house

CANARY = "hush:canary-1f9d2c7b"
TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
REQUEST = ImageRequest("a red fox", 64, 64, steps=4, guidance_scale=7.5, seed=7)


HUGE = flat_png(64, 64, 0).replace((64).to_bytes(4, "big") * 2, (50_000).to_bytes(4, "big") * 2)


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
async def server() -> AsyncIterator[FakeA1111]:
    async with fake_a1111() as server:
        yield server


@pytest.fixture
async def backend(server: FakeA1111) -> AsyncIterator[A1111]:
    backend = backend_of(server)
    yield backend
    await backend.aclose()


def backend_of(server: FakeA1111, **more: Any) -> A1111:
    return A1111("a1111:test", server.url, poll=0.01, **more)


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image:
    return Image(flat_png(width, height, seed), "image/png", width, height)


async def make(backend: Backend, request: ImageRequest) -> list[Event]:
    return await collect(backend.events(await backend.submit(request, job_id="j1")))


async def fail(backend: Backend, request: ImageRequest = REQUEST) -> FairbrushError:
    with pytest.raises(FairbrushError) as caught:
        await make(backend, request)
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_an_entry_names_the_server() -> None:
    address = "http://gpu1:7860"
    settings = Settings(Path("data"), backends=(BackendEntry("a1111", address, {"batch": "2"}),))
    assert create(address, settings).name == "a1111:http://gpu1:7860"


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("", {}, "a1111 needs an address"),
        ("gpu1:7860", {}, "is not an address"),
        ("http://me:secret@gpu1:7860", {}, "no user name, password"),
        ("http://gpu1", {"batch": "17"}, "batch is a whole number from 1 to 16"),
        ("http://gpu1", {"batch": "2.5"}, "batch is a whole number"),
        ("http://gpu1", {"btach": "2"}, 'no option "btach"'),
    ],
)
def test_a_wrong_entry_is_named(target: str, options: dict[str, str], words: str) -> None:
    settings = Settings(Path("data"), backends=(BackendEntry("a1111", target, options),))
    with pytest.raises(ConfigurationError, match=words) as caught:
        create(target, settings)
    assert "secret" not in caught.value.message


class TestContract(BackendContract):
    lacks = frozenset({"resume"})

    @pytest.fixture
    async def backend(self, server: FakeA1111) -> AsyncIterator[Backend]:
        backend = backend_of(server)
        yield backend
        await backend.aclose()


class TestContractOfAnOlderServer(TestContract):
    lacks = frozenset({"resume", "progress", "cancel"})

    @pytest.fixture
    async def server(self) -> AsyncIterator[FakeA1111]:
        async with fake_a1111(old=True, nowebui=True) as server:
            yield server


# --- what is offered --------------------------------------------------------------------------------------


async def test_models_and_schedulers_are_those_of_the_server(backend: A1111) -> None:
    capabilities = await backend.capabilities()
    first, second = capabilities.models
    assert (first.id, first.width, second.id, second.width) == (
        "v1-5-pruned-emaonly",
        512,
        "sd_xl_base_1.0",
        1024,
    )
    assert first.licence.startswith("CreativeML")
    assert first.scheduler == "Euler"
    # "DPM fast" has no name here.
    assert set(first.schedulers) == {
        "DPM++ 2M",
        "DPM++ 2M Karras",
        "DPM++ 2M Exponential",
        "Euler a",
        "Euler",
        "Euler Karras",
        "Euler Exponential",
        "DDIM",
    }
    assert capabilities.previews
    assert capabilities.cancel
    assert not capabilities.resumable


async def test_the_model_that_is_loaded_is_the_default() -> None:
    async with fake_a1111(current="sd_xl_base_1.0") as server:
        backend = backend_of(server)
        assert [model.id for model in (await backend.capabilities()).models] == [
            "sd_xl_base_1.0",
            "v1-5-pruned-emaonly",
        ]
        await backend.aclose()


async def test_an_older_server_names_schedules_with_the_sampler_and_tells_no_progress() -> None:
    async with fake_a1111(old=True, nowebui=True) as server:
        backend = backend_of(server)
        capabilities = await backend.capabilities()
        assert set(capabilities.models[0].schedulers) == {"Euler a", "Euler", "DPM++ 2M", "DPM++ 2M Karras"}
        assert (capabilities.progress, capabilities.previews, capabilities.cancel) == (False, False, False)
        events = await make(backend, replace(REQUEST, scheduler="DPM++ 2M Karras"))
        assert isinstance(events[-1], Done)
        assert server.made[0]["sampler_name"] == "DPM++ 2M Karras"
        assert "scheduler" not in server.made[0]
        await backend.aclose()


async def test_two_models_of_one_name_are_told_apart() -> None:
    async with fake_a1111(titles=["one/dream", "two/dream"]) as server:
        backend = backend_of(server)
        ids = {model.id for model in (await backend.capabilities()).models}
        assert ids == {f"{name}.safetensors [6ce0161689]" for name in ("one/dream", "two/dream")}
        await backend.aclose()


async def test_a_server_that_is_down_offers_nothing_and_says_why() -> None:
    async with fake_a1111() as server:
        pass
    backend = backend_of(server)
    assert (await backend.capabilities()).models == ()
    health = await backend.health()
    assert not health.ok
    assert "cannot be reached" in health.detail
    assert (await fail(backend)).accepted is False
    await backend.aclose()


async def test_a_server_without_the_api_says_how_to_start_it(server: FakeA1111) -> None:
    server.trouble("/sdapi/v1/sd-models", reply(404, {"detail": "Not Found"}))
    backend = backend_of(server)
    assert (await backend.capabilities()).models == ()
    assert "--api" in (await backend.health()).detail
    await backend.aclose()


# --- what is sent -----------------------------------------------------------------------------------------


async def test_every_parameter_is_sent(backend: A1111, server: FakeA1111) -> None:
    request = replace(
        REQUEST,
        negative_prompt="blur",
        scheduler="k_dpmpp_2m_karras",
        model="sd_xl_base_1.0",
        width=96,
        height=128,
    )
    done = (await make(backend, request))[-1]
    (body,) = server.made
    task = body.pop("force_task_id")
    assert task.startswith("task(fairbrush-")
    assert body == {
        "prompt": "a red fox",
        "negative_prompt": "blur",
        "steps": 4,
        "cfg_scale": 7.5,
        "width": 96,
        "height": 128,
        "seed": 7,
        "batch_size": 1,
        "n_iter": 1,
        "sampler_name": "DPM++ 2M",
        "scheduler": "Karras",
        "override_settings": {
            "sd_model_checkpoint": "sd_xl_base_1.0.safetensors [6ce0161689]",
            "return_grid": False,
        },
        "override_settings_restore_afterwards": True,
        "send_images": True,
        "save_images": False,
    }
    assert isinstance(done, Done)
    assert done.model == "sd_xl_base_1.0"
    assert done.money is None
    assert done.applied == {"scheduler": "DPM++ 2M Karras"}


async def test_a_plain_sampler_is_asked_for_without_its_own_schedule(
    backend: A1111, server: FakeA1111
) -> None:
    await make(backend, replace(REQUEST, scheduler="DPM++ 2M"))
    assert (server.made[0]["sampler_name"], server.made[0]["scheduler"]) == ("DPM++ 2M", "Uniform")


async def test_pictures_are_batched_by_their_size_and_seeds_count_up(server: FakeA1111) -> None:
    backend = backend_of(server, batch=2)
    await make(backend, replace(REQUEST, count=6, width=512, height=512))
    sent = [(body["seed"], body["batch_size"], body["n_iter"]) for body in server.made]
    assert sent == [(7, 2, 2), (11, 2, 1)]
    await make(backend, replace(REQUEST, count=3, width=1024, height=512))
    assert [(body["batch_size"], body["n_iter"]) for body in server.made[2:]] == [(1, 3)]
    await backend.aclose()


async def test_a_picture_and_a_mask_are_painted_over(backend: A1111, server: FakeA1111) -> None:
    request = replace(REQUEST, init_image=picture(seed=1), mask_image=picture(seed=2), strength=0.4)
    events = await make(backend, request)
    assert isinstance(events[-1], Done)
    assert f"POST {IMG2IMG}" in server.seen
    body = server.made[0]
    assert body["denoising_strength"] == 0.4
    assert len(body["init_images"]) == 1
    assert body["mask"]
    assert (body["inpainting_mask_invert"], body["inpaint_full_res"]) == (0, False)


async def test_an_upscale_is_a_second_pass_at_twice_the_sides(backend: A1111, server: FakeA1111) -> None:
    request = replace(REQUEST, width=128, height=128, init_image=picture(), upscale=True)
    done = (await make(backend, request))[-1]
    assert isinstance(done, Done)
    assert done.applied["strength"] == 0.35
    assert server.made[0]["denoising_strength"] == 0.35
    assert (await fail(backend, replace(request, width=192))).field == "size"
    assert (await fail(backend, replace(request, mask_image=picture()))).field == "mask_image"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "sdxl"}, "model"),
        ({"scheduler": "Heun"}, "scheduler"),
        ({"scheduler": "no such thing"}, "scheduler"),
        ({"mask_image": picture()}, "mask_image"),
        ({"upscale": True}, "upscale"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_is_sent(
    backend: A1111, server: FakeA1111, change: dict[str, Any], field: str
) -> None:
    refused = await fail(backend, replace(REQUEST, **change))
    assert isinstance(refused, InvalidRequest)
    assert refused.field == field
    assert not server.made


# --- what comes back --------------------------------------------------------------------------------------


async def test_a_grid_is_left_out_and_seeds_are_those_of_the_server() -> None:
    async with fake_a1111(grid=True) as server:
        backend = backend_of(server)
        await backend.capabilities()
        server.options["return_grid"] = True

        async def with_grid(request: Any) -> Any:
            body = await request.json()
            body["override_settings"] = {}
            return await server._generate(body)

        server.trouble(TXT2IMG, with_grid)
        events = await make(backend, replace(REQUEST, count=2))
        ready = [event for event in events if isinstance(event, ImageReady)]
        assert [(event.index, event.seed) for event in ready] == [(0, 7), (1, 8)]
        with Raster.open(io.BytesIO(ready[0].data)) as raster:
            assert raster.size == (64, 64)
        await backend.aclose()


async def test_pictures_of_another_size_are_fitted_and_said(server: FakeA1111) -> None:
    server.made_size = (80, 64)
    backend = backend_of(server)
    events = await make(backend, REQUEST)
    (ready,) = (event for event in events if isinstance(event, ImageReady))
    with Raster.open(io.BytesIO(ready.data)) as raster:
        assert raster.size == (64, 64)
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.applied["width"], done.applied["height"]) == (80, 64)
    assert done.notes == ("made at 80×64 and fitted to 64×64",)
    await backend.aclose()


async def test_progress_and_previews_are_our_own_tasks(backend: A1111, server: FakeA1111) -> None:
    """And nobody's picture is ever asked for by the API's own progress (the server would fail)."""
    theirs_held = server.hold("start")
    theirs = await server.somebody_else()
    await theirs_held.reached.wait()
    ref = await backend.submit(REQUEST, job_id="j1")
    events: list[Event] = []

    async def watch() -> None:
        async for event in backend.events(ref):
            events.append(event)  # noqa: PERF401 - looked at while it grows

    watching = asyncio.ensure_future(watch())
    await until(lambda: Queued(1) in events)
    assert not any(isinstance(event, Preview) for event in events)
    middle = server.hold("middle")
    theirs_held.release()
    await until(lambda: len(server.begun) == 2)
    await until(lambda: any(isinstance(event, Preview) for event in events))
    assert any(isinstance(event, Progress) and event.fraction == 0.5 for event in events)
    middle.release()
    await watching
    await theirs
    (preview,) = (event for event in events if isinstance(event, Preview))
    assert preview.mime == "image/jpeg"
    assert len(preview.data) <= 20_000
    assert set(server.asked) <= {"nobody", server.begun[1]}
    assert "GET /sdapi/v1/progress" not in server.seen


@pytest.mark.parametrize(
    "told",
    [
        {"active": False, "queued": True, "textinfo": f"In queue: {'9' * 5000}/2"},
        {"active": True, "progress": 10**400},
        {"active": True, "progress": -5, "id_live_preview": "x", "live_preview": 7},
    ],
)
def test_an_odd_stand_is_read_as_far_as_it_makes_sense(told: dict[str, Any]) -> None:
    stand = read_stand(told)
    assert 0.0 <= stand.fraction <= 1.0
    assert stand.ahead in (None, 1)
    assert stand.preview == ""


async def test_previews_can_be_turned_off(server: FakeA1111) -> None:
    backend = backend_of(server, previews=False)
    assert not (await backend.capabilities()).previews
    assert not any(isinstance(event, Preview) for event in await make(backend, REQUEST))
    await backend.aclose()


# --- cancelling -------------------------------------------------------------------------------------------


async def test_cancelling_interrupts_our_own_task(backend: A1111, server: FakeA1111) -> None:
    hold = server.hold("start")
    ref = await backend.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await hold.reached.wait()
    assert await backend.cancel(ref) is CancelOutcome.CANCELLED
    with pytest.raises(Cancelled):
        await watching
    assert server.interrupted == server.begun


async def test_somebody_elses_task_is_never_interrupted(backend: A1111, server: FakeA1111) -> None:
    """Ours waits behind theirs when it is cancelled: it is stopped once it begins, and theirs goes on."""
    hold = server.hold("start")
    theirs = await server.somebody_else()
    await hold.reached.wait()
    ref = await backend.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await until(lambda: bool(server.queue))
    (ours,) = server.queue
    assert await backend.cancel(ref) is CancelOutcome.CANCELLED
    with pytest.raises(Cancelled):
        await watching
    assert not server.interrupted
    ours_held = server.hold("middle")
    hold.release()
    server._holds.pop("start")
    await until(lambda: server.interrupted == [ours] or ours_held.reached.is_set())
    await until(lambda: server.interrupted == [ours])
    assert (await theirs).status == 200


async def test_without_our_own_progress_a_task_cannot_be_cancelled() -> None:
    async with fake_a1111(nowebui=True) as server:
        backend = backend_of(server)
        hold = server.hold("start")
        ref = await backend.submit(REQUEST, job_id="j1")
        watching = asyncio.ensure_future(collect(backend.events(ref)))
        await hold.reached.wait()
        assert await backend.cancel(ref) is CancelOutcome.UNSUPPORTED
        hold.release()
        assert isinstance((await watching)[-1], Done)
        assert not server.interrupted
        await backend.aclose()


async def test_a_task_from_before_a_restart_is_stopped_and_made_again(server: FakeA1111) -> None:
    before, after = backend_of(server), backend_of(server)
    hold = server.hold("start")
    ref = await before.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(before.events(ref)))
    await hold.reached.wait()
    with pytest.raises(Unavailable) as caught:
        await collect(after.events(RemoteRef(ref.backend, ref.data)))
    assert caught.value.accepted is False
    assert server.interrupted == server.begun
    await watching
    await after.aclose()
    await before.aclose()


async def test_closing_stops_what_is_being_made_for_us(server: FakeA1111) -> None:
    backend = backend_of(server)
    hold = server.hold("start")
    ref = await backend.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await hold.reached.wait()
    await backend.aclose()
    with pytest.raises(Unavailable):
        await watching
    assert server.interrupted == server.begun


# --- trouble ----------------------------------------------------------------------------------------------


async def test_watching_twice_sends_once(backend: A1111, server: FakeA1111) -> None:
    hold = server.hold("start")
    ref = await backend.submit(REQUEST, job_id="j1")
    stream = backend.events(ref)
    await anext(stream)
    await hold.reached.wait()
    await cast("Any", stream).aclose()
    hold.release()
    events = await collect(backend.events(ref))
    assert isinstance(events[-1], Done)
    assert len(server.begun) == 1


@pytest.mark.parametrize(
    ("handler", "kind", "field", "accepted"),
    [
        (error(500, "OutOfMemoryError", errors="CUDA out of memory."), InvalidRequest, "size", False),
        (error(500, "RuntimeError", errors="/srv/x.py: boom"), Unavailable, None, True),
        (
            reply(422, {"detail": [{"loc": ["body", "steps"], "msg": "bad"}]}),
            InvalidRequest,
            "steps",
            False,
        ),
        (reply(404, {"detail": "Sampler not found"}), InvalidRequest, "scheduler", False),
        (reply(401, {"detail": "Not authenticated"}), AuthFailed, None, False),
        (reply(500, "<html>boom</html>"), Unavailable, None, True),
        (reply(200, "<html>hello</html>"), ProtocolError, None, None),
        (reply(200, '{"images": ["iVBOR'), ProtocolError, None, None),
        (reply(200, {"images": ["PHN2Zz48L3N2Zz4="], "info": "{}"}), ProtocolError, None, None),
        (reply(200, {"images": [], "info": "{}"}), ProtocolError, None, True),
        (reply(200, {"images": [coded(flat_png(64, 64, 0)[:90])]}), ProtocolError, None, None),
        (reply(200, {"images": [coded(HUGE)]}), ProtocolError, None, None),
        (reply(200, b"[" + b"1," * 2**25), ProtocolError, None, None),
        (hang_up, Unavailable, None, False),
    ],
)
async def test_trouble_is_told_as_what_it_is(
    backend: A1111, server: FakeA1111, handler: Any, kind: type, field: str | None, accepted: bool | None
) -> None:
    server.trouble(TXT2IMG, handler, times=9)
    failure = await fail(backend)
    assert isinstance(failure, kind)
    assert (failure.field, failure.accepted) == (field, accepted)
    assert not any(sign in failure.message for sign in ("<", "/srv", "boom"))


async def test_a_busy_server_is_asked_again(backend: A1111, server: FakeA1111) -> None:
    server.trouble(TXT2IMG, reply(503, {"detail": "busy"}, **{"Retry-After": "0"}))
    assert isinstance((await make(backend, REQUEST))[-1], Done)


async def test_a_poll_that_fails_does_no_harm(backend: A1111, server: FakeA1111) -> None:
    await backend.capabilities()
    server.trouble("/internal/progress", reply(500, "oh"), times=3)
    hold = server.hold("start")
    ref = await backend.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await until(lambda: len(server.asked) > 2)
    hold.release()
    assert isinstance((await watching)[-1], Done)


async def test_an_answer_that_never_comes_is_not_waited_for_for_ever(server: FakeA1111) -> None:
    """The server has ended the task, and the connection on which it would say so is dead."""
    clock = HandClock()
    backend = backend_of(server, clock=clock.clock)
    begun, ended = server.hold("start"), server.hold("answer")
    watching = asyncio.ensure_future(collect(backend.events(await backend.submit(REQUEST, job_id="j1"))))
    await begun.reached.wait()
    await until(lambda: server.asked.count(server.begun[0]) > 1)
    begun.release()
    await ended.reached.wait()
    asked = len(server.asked)
    await until(lambda: len(server.asked) > asked + 2)
    assert not watching.done()
    await clock.advance(121)
    with pytest.raises(Unavailable) as caught:
        await watching
    assert caught.value.accepted is False
    await backend.aclose()


async def test_pictures_that_are_missing_are_told(backend: A1111, server: FakeA1111) -> None:
    """Somebody pressed Interrupt at the server: it answers with what it has."""

    async def stopped(request: Any) -> Any:
        return await server._generate({**await request.json(), "batch_size": 1, "n_iter": 1})

    server.trouble(TXT2IMG, stopped)
    events = await make(backend, replace(REQUEST, count=3))
    assert sum(isinstance(event, ImageReady) for event in events) == 1
    done = events[-1]
    assert isinstance(done, Done)
    assert done.notes == ("1 of 3 pictures were made.",)


async def test_the_password_is_sent_and_shown_nowhere(
    server: FakeA1111, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user, password = CANARY.split(":")
    server.auth = (user, password)
    address = server.url
    settings = Settings(
        Path("data"),
        backends=(BackendEntry("a1111", address),),
        secrets={"FAIRBRUSH_A1111_AUTH": Secret(CANARY)},
    )
    backend = create(address, settings)
    assert isinstance((await make(backend, REQUEST))[-1], Done)
    server.trouble(TXT2IMG, reply(500, f"you sent {CANARY}"))
    failure = await fail(backend)
    server.auth = (user, "another")
    refused = await fail(backend)
    assert isinstance(refused, AuthFailed)
    told = f"{failure.message} {failure.detail} {refused.message} {refused.detail} {caplog.text} {backend!r}"
    assert password not in told
    await backend.aclose()


async def test_a_request_goes_through_the_whole_program(tmp_path: Path, server: FakeA1111) -> None:
    entry = BackendEntry("a1111", server.url)
    async with house(tmp_path, backends=[backend_of(server)], entries=[entry]) as home:
        ticket = await home.ask("a red fox --size 64x64 --steps 4 --count 2 --scheduler ddim")
        page = home.page("k0")
        await home.until_passing(lambda: bool(page.delivered))
        result = page.delivered[-1]
        assert result.group_id == ticket.group_id
        assert (result.state, len(result.pictures), result.money) == (State.DONE, 2, None)
        assert result.pictures[0].recipe["scheduler"] == "DDIM"
