"""The backend for ComfyUI, against a server that speaks its API and its websocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from yarl import URL

from backends._comfyui_history import read_end
from backends._wire import Ended
from backends.comfyui import ComfyUI, build, create
from bot.core.errors import (
    Cancelled,
    ConfigurationError,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    Unavailable,
)
from bot.core.ports import Backend, CancelOutcome, Done, Event, ImageReady, Preview, Progress, Queued, Taken
from bot.core.request import Image, ImageRequest, State
from bot.core.settings import BackendEntry, Settings
from tests.backend_contract import BackendContract, collect
from tests.fakes.backend import flat_png
from tests.fakes.clock import HurriedClock
from tests.fakes.comfyui import ComfyFake
from tests.fakes.house import house
from tests.hosted_contract import HostedContract, World, as_stored, hosted_world

REQUEST = ImageRequest("a red fox", 64, 64, steps=4, guidance_scale=7.5, seed=7)


@asynccontextmanager
async def a_world(fake: ComfyFake, **options: str) -> AsyncIterator[World]:
    clock = HurriedClock()
    make = lambda: build(BackendEntry("comfyui", fake.url, options), clock=clock.clock)  # noqa: E731
    async with hosted_world(fake, clock, make) as world:
        yield world


@pytest.fixture
async def fake() -> ComfyFake:
    return ComfyFake()


@pytest.fixture
async def backend(fake: ComfyFake) -> AsyncIterator[Backend]:
    async with a_world(fake) as world:
        yield world.backend


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image:
    return Image(flat_png(width, height, seed), "image/png", width, height)


async def make(backend: Backend, request: ImageRequest = REQUEST) -> list[Event]:
    return await collect(backend.events(await backend.submit(request, job_id="j1")))


async def fail(backend: Backend, request: ImageRequest = REQUEST) -> FairbrushError:
    with pytest.raises(FairbrushError) as caught:
        await make(backend, request)
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def previews(events: list[Event]) -> int:
    return sum(isinstance(event, Preview) for event in events)


class TestContract(HostedContract):
    """All that is owed, but that nothing is paid and a prompt's id is ours: one that is not there may be
    handed in again."""

    lacks = ComfyFake.cannot

    @pytest.fixture
    async def world(self, fake: ComfyFake) -> AsyncIterator[World]:
        async with a_world(fake) as world:
            yield world

    @pytest.mark.parametrize("what", ["500", "html", "truncated", "drop"])
    async def test_a_job_that_may_have_been_taken_is_never_sent_again(self, world: World, what: str) -> None:
        world.trouble(f"submit:{what}")
        await self.fails(world, FairbrushError, False)
        assert (world.fake.attempts, world.fake.taken) == (1, 0)

    async def test_a_service_that_stays_away_leaves_the_job_in_doubt(self, world: World) -> None:
        ref = await self.begun(world)
        await world.fake.stop()
        with pytest.raises(Unavailable) as caught:
            await self.watch(world, ref)
        assert caught.value.accepted is False
        assert "charged" not in caught.value.message


class TestContractOfAnOlderServer(BackendContract):
    @pytest.fixture
    async def backend(self) -> AsyncIterator[Backend]:
        async with a_world(ComfyFake(old=True)) as world:
            yield world.backend


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("", {}, "comfyui needs an address"),
        ("gpu1:8188", {}, "is not an address"),
        ("http://me:secret@gpu1:8188", {}, "no user name, password"),
        ("http://gpu1", {"workflw": "x"}, 'no option "workflw"'),
        ("http://gpu1", {"img2img": "x.json"}, "img2img= goes with workflow= alone"),
        ("http://gpu1", {"workflow": "x.json", "inpaint": "y.json"}, "inpaint= goes with img2img= alone"),
        ("http://gpu1", {"workflow": "/nowhere/x.json"}, "/nowhere/x.json cannot be read: No such file"),
    ],
)
def test_a_wrong_entry_is_named(target: str, options: dict[str, str], words: str) -> None:
    settings = Settings(Path("data"), backends=(BackendEntry("comfyui", target, options),))
    with pytest.raises(ConfigurationError, match=words) as caught:
        create(target, settings)
    assert "secret" not in caught.value.message


TEMPLATE: dict[str, Any] = {
    "1": {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "SDXL/sd_xl_base_1.0.safetensors"},
    },
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "masterpiece, {{prompt}}", "clip": ["1", 1]}},
    "4": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": "{{width}}", "height": "{{height}}", "batch_size": 1},
    },
    "5": {
        "class_type": "KSampler",
        "inputs": {
            "seed": "{{seed}}",
            "steps": 2,
            "cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
            "latent_image": ["4", 0],
        },
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["6", 0]}},
}


def template(tmp_path: Path, **nodes: Any) -> str:
    """A file with TEMPLATE, nodes changed or, with None, left out."""
    graph = {key: value for key, value in {**TEMPLATE, **nodes}.items() if value is not None}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(graph))
    return str(path)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ({"2": None}, "there is no {{prompt}} in it, which workflow= needs"),
        ({"4": None}, "there is no {{width}} in it"),
        ({"9": None}, "no node gives pictures"),
        ({"10": {"class_type": "PreviewImage", "inputs": {}}}, "more than one node gives pictures"),
        (
            {"7": {"class_type": "X", "inputs": {"a": "{{sede}}"}}},
            "{{sede}} in node '7' is unknown; there is prompt",
        ),
        (
            {"7": {"class_type": "X", "inputs": {"a": "s {{seed}}"}}},
            "{{seed}} in node '7' must be the whole value of 'a'",
        ),
        ({"7": {"class_type": "X", "inputs": {"a": "{{init_image}}"}}}, "belongs in the file that img2img="),
        ({"7": {"inputs": {}}}, "node '7' has no class_type"),
        ({"nodes": [], "links": []}, "use Export (API)"),
    ],
)
def test_a_wrong_workflow_is_named_with_what_is_wrong(
    tmp_path: Path, nodes: dict[str, Any], words: str
) -> None:
    path = template(tmp_path, **nodes)
    settings = Settings(Path("data"), backends=(BackendEntry("comfyui", "http://gpu1", {"workflow": path}),))
    with pytest.raises(ConfigurationError) as caught:
        create("http://gpu1", settings)
    assert words in caught.value.message
    assert path in caught.value.message


def test_a_workflow_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    for data, words in (
        (b"{", "it is no JSON"),
        (b"\xff", "no text in UTF-8"),
        (b"[]", "API format"),
        (b"[NaN]", "NaN is no number"),
    ):
        path.write_bytes(data)
        with pytest.raises(ConfigurationError, match=words):
            build(BackendEntry("comfyui", "http://gpu1", {"workflow": str(path)}))


def test_a_workflow_may_begin_with_the_mark_of_windows(tmp_path: Path) -> None:
    path = Path(template(tmp_path))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    build(BackendEntry("comfyui", "http://gpu1", {"workflow": str(path)}))


# --- what is offered --------------------------------------------------------------------------------------


@pytest.mark.parametrize("combo", [False, True])
async def test_models_and_schedulers_are_those_of_the_nodes(combo: bool) -> None:
    async with a_world(ComfyFake(combo=combo), model="SDXL/sd_xl_base_1.0") as world:
        capabilities = await world.backend.capabilities()
    first, second = capabilities.models
    assert (first.id, first.width) == ("SDXL/sd_xl_base_1.0", 1024)
    assert (second.id, second.width) == ("v1-5-pruned-emaonly", 512)
    assert first.scheduler == "Euler"
    assert {"Euler", "Euler a Karras", "DPM++ 2M", "DPM++ 2M Karras", "UniPC"} - set(first.schedulers) == {
        "Euler a Karras"
    }
    assert capabilities.params == {
        "seed",
        "steps",
        "guidance_scale",
        "negative_prompt",
        "scheduler",
        "init_image",
        "strength",
        "mask_image",
        "upscale",
    }
    assert capabilities.resumable


async def test_a_workflow_offers_what_stands_in_it(tmp_path: Path, fake: ComfyFake) -> None:
    async with a_world(fake, workflow=template(tmp_path)) as world:
        capabilities = await world.backend.capabilities()
        assert capabilities.params == {"seed"}
        (model,) = capabilities.models
        assert model.id == "SDXL/sd_xl_base_1.0"
        assert model.schedulers == ()
        events = await make(world.backend, replace(REQUEST, prompt="a fox {{seed}} {{negative_prompt}}"))
        assert isinstance(events[-1], Done)
        (prompt,) = fake.prompts
        assert prompt.inputs("CLIPTextEncode")["text"] == "masterpiece, a fox {{seed}} {{negative_prompt}}"
        assert prompt.inputs("KSampler")["seed"] == 7
        refused = await fail(world.backend, replace(REQUEST, negative_prompt="blur"))
        assert refused.field == "negative_prompt"
        assert refused.message == "The workflow mine.json takes no negative prompt."  # no folder of ours
        assert (await fail(world.backend, replace(REQUEST, init_image=picture()))).field == "init_image"


async def test_a_workflow_that_names_no_model_goes_by_its_files_name(tmp_path: Path, fake: ComfyFake) -> None:
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": ["8", 0]}}
    async with a_world(fake, workflow=template(tmp_path, **{"1": loader})) as world:
        assert [model.id for model in (await world.backend.capabilities()).models] == ["mine"]


@pytest.mark.parametrize(("name", "warnings"), [("v1-5-pruned-emaonly.safetensors", 0), ("gone", 1)])
async def test_a_default_model_that_is_missing_is_said_once(
    fake: ComfyFake, caplog: pytest.LogCaptureFixture, name: str, warnings: int
) -> None:
    async with a_world(fake, model=name) as world:
        assert isinstance(world.backend, ComfyUI)
        for _ in range(3):
            await world.backend._comfy.offered(world.backend.http)
    assert caplog.text.count("there is no model") == warnings


async def test_a_picture_that_the_server_did_not_take_leaves_no_doubt(
    fake: ComfyFake, backend: Backend
) -> None:
    """A proxy's page in place of the answer to the upload: the job itself was not handed in."""
    fake.upload_page = True
    failure = await fail(backend, replace(REQUEST, init_image=picture()))
    assert failure.accepted is False
    assert not fake.prompts


async def test_a_server_that_lacks_a_node_offers_nothing_and_says_so() -> None:
    async with a_world(ComfyFake(lacks=frozenset({"ImageToMask"}))) as world:
        assert (await world.backend.capabilities()).models == ()
        health = await world.backend.health()
        assert not health.ok
        assert "lacks the node ImageToMask, which the workflow inpaint.json is made of" in health.detail


# --- what is sent -----------------------------------------------------------------------------------------


async def test_every_parameter_stands_in_the_graph(fake: ComfyFake, backend: Backend) -> None:
    request = replace(
        REQUEST, negative_prompt="blur", scheduler="dpmpp_2m_karras", model="SDXL/sd_xl_base_1.0", width=96
    )
    done = (await make(backend, request))[-1]
    (prompt,) = fake.prompts
    assert prompt.inputs("CheckpointLoaderSimple")["ckpt_name"] == "SDXL/sd_xl_base_1.0.safetensors"
    assert prompt.size == (96, 64)
    sampler = prompt.inputs("KSampler")
    values = {name: value for name, value in sampler.items() if not isinstance(value, list)}
    assert values == {
        "seed": 7,
        "steps": 4,
        "cfg": 7.5,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "denoise": 1.0,
    }
    texts = {
        node["inputs"]["text"] for node in prompt.graph.values() if node["class_type"] == "CLIPTextEncode"
    }
    assert texts == {"a red fox", "blur"}
    assert isinstance(done, Done)
    assert (done.model, done.money, done.device_seconds) == ("SDXL/sd_xl_base_1.0", None, 2.5)
    assert done.applied == {"scheduler": "DPM++ 2M Karras"}


async def test_each_picture_is_a_prompt_of_its_own(fake: ComfyFake, backend: Backend) -> None:
    events = await make(backend, replace(REQUEST, count=3))
    assert [prompt.inputs("KSampler")["seed"] for prompt in fake.prompts] == [7, 8, 9]
    assert [event.seed for event in events if isinstance(event, ImageReady)] == [7, 8, 9]


@pytest.mark.parametrize(
    ("change", "classes"),
    [
        ({}, {"VAEEncode"}),
        ({"mask_image": picture(seed=2)}, {"VAEEncode", "SetLatentNoiseMask", "ImageCompositeMasked"}),
        ({"upscale": True, "width": 128, "height": 128}, {"VAEEncode", "ImageScale"}),
    ],
)
async def test_pictures_are_uploaded_and_painted_over(
    fake: ComfyFake, backend: Backend, change: dict[str, Any], classes: set[str]
) -> None:
    request = replace(REQUEST, init_image=picture(seed=1), **change)
    done = (await make(backend, request))[-1]
    (prompt,) = fake.prompts
    assert classes <= {node["class_type"] for node in prompt.graph.values()}
    strength = 0.35 if request.upscale else 0.75
    assert prompt.inputs("KSampler")["denoise"] == strength
    assert isinstance(done, Done)
    assert done.applied["strength"] == strength
    name = prompt.inputs("LoadImage")["image"]
    assert fake.uploads[name.removesuffix(" [temp]")] == flat_png(64, 64, 1)
    assert len(fake.uploads) == (2 if request.mask_image else 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "sdxl"}, "model"),
        ({"scheduler": "DPM++ 2M SDE"}, "scheduler"),
        ({"mask_image": picture()}, "mask_image"),
        ({"upscale": True}, "upscale"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_is_sent(
    fake: ComfyFake, backend: Backend, change: dict[str, Any], field: str
) -> None:
    await backend.capabilities()
    refused = await fail(backend, replace(REQUEST, **change))
    assert isinstance(refused, InvalidRequest)
    assert refused.field == field
    assert not fake.prompts


async def test_a_model_that_was_removed_is_named(fake: ComfyFake, backend: Backend) -> None:
    await backend.capabilities()
    fake.nodes.checkpoints.pop()
    refused = await fail(backend, replace(REQUEST, model="SDXL/sd_xl_base_1.0"))
    assert isinstance(refused, InvalidRequest)
    assert (refused.field, refused.accepted) == ("model", False)


async def test_too_little_memory_is_a_matter_of_size(fake: ComfyFake, backend: Backend) -> None:
    fake.out_of_memory = True
    refused = await fail(backend)
    assert isinstance(refused, InvalidRequest)
    assert refused.field == "size"


# --- while it runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
async def test_places_steps_and_previews_are_told(old: bool) -> None:
    fake = ComfyFake(old=old)
    async with a_world(fake) as world:
        await world.backend.capabilities()
        fake.hold()
        theirs = fake.somebody_else()
        await until(lambda: fake.running is theirs)
        events: list[Event] = []
        ref = await world.backend.submit(replace(REQUEST, count=2), job_id="j1")

        async def watch() -> None:
            async for event in world.backend.events(ref):
                events.append(event)  # noqa: PERF401 - looked at while it grows

        watching = asyncio.ensure_future(watch())
        await until(lambda: Queued(1) in events)
        fake.sampling.clear()
        fake._free.set()  # theirs ends; ours is held in the middle
        await until(lambda: any(isinstance(event, Preview) for event in events))
        await until(lambda: Progress(0.25) in events)
        fake.release()
        await watching
        preview = next(event for event in events if isinstance(event, Preview))
        assert (preview.mime, preview.index) == ("image/jpeg", 0)
        assert len(preview.data) <= 20_000
        assert not any(isinstance(event, Queued) and event.ahead > 1 for event in events)
        assert isinstance(events[-1], Done)


async def test_previews_can_be_turned_off(fake: ComfyFake) -> None:
    await fake.start()
    backend = build(BackendEntry("comfyui", fake.url), previews=False)
    assert not (await backend.capabilities()).previews
    assert not any(isinstance(event, Preview) for event in await make(backend))
    assert "preview_method" not in fake.prompts[0].extra
    await backend.aclose()
    await fake.stop()


async def test_without_a_websocket_the_server_is_asked(fake: ComfyFake, backend: Backend) -> None:
    fake.deaf = True
    events = await make(backend)
    assert sum(isinstance(event, ImageReady) for event in events) == 1


async def test_a_websocket_that_drops_does_no_harm(fake: ComfyFake, backend: Backend) -> None:
    fake.hold()
    ref = await backend.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await fake.sampling.wait()
    await fake.hang_up()
    await until(lambda: bool(fake.clients))
    fake.release()
    assert isinstance((await watching)[-1], Done)


async def test_a_preview_is_shown_to_nobody_else_after_the_websocket_dropped() -> None:
    """An older server does not say whose a preview is. While the websocket is down one's picture ends and
    another's begins; what the server greets us with then names a node and no prompt."""
    fake = ComfyFake(old=True)
    async with a_world(fake) as world:
        await world.backend.capabilities()
        fake.hold()
        shown: dict[str, list[Event]] = {"one": [], "two": []}

        async def watch(who: str) -> None:
            ref = await world.backend.submit(replace(REQUEST, count=2), job_id=who)
            async for event in world.backend.events(ref):
                shown[who].append(event)

        one = asyncio.ensure_future(watch("one"))
        await until(lambda: len(fake.prompts) == 2)
        await fake.sampling.wait()
        await until(lambda: previews(shown["one"]) == 1)
        two = asyncio.ensure_future(watch("two"))
        await until(lambda: len(fake.prompts) == 4)
        mine = fake.prompts[2].id
        fake.prompts[2].number = 0  # it goes before the second picture of the other one
        fake.deaf = True
        await fake.hang_up()
        fake.sampling.clear()
        fake._free.set()
        await fake.sampling.wait()
        fake.deaf = False
        await until(lambda: bool(fake.clients))
        before = previews(shown["one"])
        assert fake.running is not None
        assert fake.running.id == mine
        await fake.show(fake.running)
        sent = len(shown["two"])
        await until(lambda: len(shown["two"]) > sent + 4)
        assert previews(shown["one"]) == before
        fake.release()
        await asyncio.gather(one, two)


async def test_nonsense_over_the_websocket_does_no_harm(fake: ComfyFake, backend: Backend) -> None:
    fake.hold()
    ref = await backend.submit(REQUEST, job_id="j1")
    events: list[Event] = []

    async def watch() -> None:
        async for event in backend.events(ref):
            events.append(event)  # noqa: PERF401 - looked at while it grows

    watching = asyncio.ensure_future(watch())
    await until(lambda: previews(events) == 1)
    (client,) = fake.clients.values()
    own = f'"prompt_id": "{fake.prompts[0].id}", "node": "5"'
    for text in ("{", "[]", '{"data": 3}', f'{{"type": "progress", "data": {{{own}, "value": NaN}}}}'):
        await client.socket.send_str(text)
    for value, most in (
        ("Infinity", "4"),
        ("9" * 400, "4"),
        ("4", "1e999"),
        ("-9", "4"),
        ('"4"', "[]"),
        ("9", "-1"),
    ):
        data = f'{{{own}, "value": {value}, "max": {most}}}'
        await client.socket.send_str(f'{{"type": "progress", "data": {data}}}')
    for frame in (
        b"",
        b"\0" * 8,
        b"\0\0\0\4\xff\xff\xff\xff{}",
        b"\0\0\0\4\0\0\0\2[]",
        b"\0\0\0\1\0\0\0\1GIF89a",
    ):
        await client.socket.send_bytes(frame)
    await fake.show(fake.prompts[0])
    await until(lambda: previews(events) == 2)
    fake.release()
    await watching
    steps = [event for event in events if isinstance(event, Progress)]
    assert [event.fraction for event in steps] == sorted(event.fraction for event in steps)
    assert all((event.step or 0) >= 0 for event in steps)


def test_a_picture_is_taken_from_the_workflows_own_output_alone() -> None:
    """A graph may show other pictures besides, such as the one that it starts from."""
    shown = {"images": [{"filename": "theirs.png", "subfolder": "", "type": "input"}]}
    end = read_end({"outputs": {"3": shown}}, "7", URL("http://gpu1"), {})
    assert isinstance(end, Ended)
    assert isinstance(end.error, ProtocolError)


async def test_a_job_that_is_over_is_not_looked_out_for(fake: ComfyFake) -> None:
    """However it ends: refused, lost, or watched no longer."""
    async with a_world(fake) as world:
        assert isinstance(world.backend, ComfyUI)
        sights = world.backend._socket._sights
        await world.backend.capabilities()
        fake.nodes.checkpoints.pop()
        await fail(world.backend, replace(REQUEST, model="SDXL/sd_xl_base_1.0"))
        assert not sights
        fake.trouble("submit:500")
        await fail(world.backend)
        assert not sights
        fake.hold()
        ref = await world.backend.submit(REQUEST, job_id="j1")
        events = world.backend.events(ref)
        assert isinstance(await anext(events), Taken)
        assert sights
        await cast("Any", events).aclose()
        assert not sights


async def test_a_server_that_was_restarted_has_lost_the_job(fake: ComfyFake, backend: Backend) -> None:
    fake.hold()
    ref = await backend.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await fake.sampling.wait()
    fake.restart()
    await fake.hang_up()
    with pytest.raises(Unavailable) as caught:
        await watching
    assert caught.value.accepted is False


async def test_a_prompt_whose_answer_was_lost_is_found_and_made_once(
    fake: ComfyFake, backend: Backend
) -> None:
    fake.answers_lost = 1
    events = await make(backend)
    assert isinstance(events[-1], Done)
    assert fake.taken == 1


# --- restarts and cancelling ------------------------------------------------------------------------------


async def test_a_crash_between_handing_in_and_storing_is_looked_up(fake: ComfyFake) -> None:
    """Of two pictures one was handed in, and the store knows of neither: the other one is made after it."""
    async with a_world(fake) as world:
        await world.backend.capabilities()
        fake.hold()
        ref = as_stored(await world.backend.submit(replace(REQUEST, count=2), job_id="j1"))
        async for event in world.backend.events(ref):
            if isinstance(event, Taken):
                break
        assert fake.taken == 1
        await world.restart()
        fake.release()
        events = await collect(world.backend.events(ref))
        assert [event.seed for event in events if isinstance(event, ImageReady)] == [7, 8]
        assert [prompt.inputs("KSampler")["seed"] for prompt in fake.prompts] == [7, 8]


@pytest.mark.parametrize("old", [False, True])
async def test_cancelling_leaves_others_alone(old: bool) -> None:
    fake = ComfyFake(old=old)
    async with a_world(fake) as world:
        await world.backend.capabilities()
        fake.hold()
        theirs = fake.somebody_else()
        await until(lambda: fake.running is theirs)
        ref = await world.backend.submit(REQUEST, job_id="j1")
        watching = asyncio.ensure_future(collect(world.backend.events(ref)))
        await until(lambda: bool(fake.pending))
        assert await world.backend.cancel(ref) is CancelOutcome.CANCELLED
        with pytest.raises(Cancelled):
            await watching
        assert not fake.pending
        assert not fake.interrupts
        fake.release()


async def test_a_job_whose_handing_in_fails_after_it_was_cancelled_is_cancelled(
    fake: ComfyFake, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, free, answer = asyncio.Event(), asyncio.Event(), fake.spoil

    async def slow(request: Any, stage: str) -> Any:
        reached.set()
        await free.wait()
        return await answer(request, stage)

    monkeypatch.setattr(fake, "spoil", slow)
    fake.trouble("submit:html")
    ref = await backend.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await reached.wait()
    cancelling = asyncio.ensure_future(backend.cancel(ref))
    await asyncio.sleep(0)
    free.set()
    assert await cancelling is CancelOutcome.CANCELLED
    with pytest.raises(Cancelled):
        await watching


async def test_a_prompt_that_is_gone_before_its_cancel_has_returned_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = ComfyFake(old=True)
    async with a_world(fake) as world:
        await world.backend.capabilities()
        fake.hold()
        fake.somebody_else()
        ref = await world.backend.submit(REQUEST, job_id="j1")
        stream = world.backend.events(ref)
        while not isinstance(await anext(stream), Queued):
            pass
        watching = asyncio.ensure_future(collect(stream))
        assert isinstance(world.backend, ComfyUI)
        wire, ended = world.backend._comfy, asyncio.Event()
        watching.add_done_callback(lambda _: ended.set())
        stop = wire.stop

        async def slow(http: Any, job: Any) -> CancelOutcome:
            outcome = await stop(http, job)
            await ended.wait()
            return outcome

        monkeypatch.setattr(wire, "stop", slow)
        assert await world.backend.cancel(ref) is CancelOutcome.CANCELLED
        with pytest.raises(Cancelled):
            await watching
        fake.release()


@pytest.mark.parametrize("old", [False, True])
async def test_cancelling_interrupts_our_own_prompt(old: bool) -> None:
    fake = ComfyFake(old=old)
    async with a_world(fake) as world:
        fake.hold()
        ref = await world.backend.submit(REQUEST, job_id="j1")
        watching = asyncio.ensure_future(collect(world.backend.events(ref)))
        await fake.sampling.wait()
        assert await world.backend.cancel(ref) is CancelOutcome.CANCELLED
        with pytest.raises(Cancelled):
            await watching
        assert fake.interrupts == [fake.prompts[0].id]


async def test_a_prompt_that_somebody_stops_there_may_be_tried_again(
    fake: ComfyFake, backend: Backend
) -> None:
    fake.hold()
    ref = await backend.submit(REQUEST, job_id="j1")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await fake.sampling.wait()
    assert fake.running is not None
    fake._leave(fake.running)
    with pytest.raises(Unavailable) as caught:
        await watching
    assert caught.value.accepted is True


def test_it_is_a_backend_by_its_entry() -> None:
    settings = Settings(Path("data"), backends=(BackendEntry("comfyui", "http://gpu1:8188"),))
    backend = create("http://gpu1:8188", settings)
    assert isinstance(backend, ComfyUI)
    assert backend.name == "comfyui:http://gpu1:8188"


async def test_a_request_goes_through_the_whole_program(tmp_path: Path, fake: ComfyFake) -> None:
    await fake.start()
    entry = BackendEntry("comfyui", fake.url)
    async with house(tmp_path, backends=[build(entry)], entries=[entry]) as home:
        ticket = await home.ask("a red fox --size 64x64 --steps 4 --count 2")
        page = home.page("k0")
        await home.until_passing(lambda: bool(page.delivered))
        result = page.delivered[-1]
        assert result.group_id == ticket.group_id
        assert (result.state, len(result.pictures), result.money) == (State.DONE, 2, None)
        assert result.model == "v1-5-pruned-emaonly"
    await fake.stop()
