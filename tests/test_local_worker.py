"""The local backend end to end: a real worker process, real diffusers, models that are tiny or embedded."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pillow

from backends.local import LocalBackend, LocalOptions, create, sources
from backends.local.sources import find_source
from bot.core.errors import Cancelled, ConfigurationError
from bot.core.ports import Backend, Done, Event, ImageReady, Progress
from bot.core.request import Image, ImageRequest
from bot.core.settings import BackendEntry, Settings
from tests.backend_contract import collect
from tests.fakes.tiny_model import SIDE, save_tiny_model

PATIENCE = 240.0  # importing torch takes seconds on a quiet machine, and minutes on a busy one


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "tiny", title="Tiny", native_pixels=SIDE * SIDE, max_side=64)


def make_settings(tmp_path: Path, target: str) -> Settings:
    return Settings(data_dir=tmp_path, backends=(BackendEntry("local", target),), threads=1)


def make_request(seed: int = 1, **changes: object) -> ImageRequest:
    request = ImageRequest("a red circle", 128, 64, steps=4, guidance_scale=7.5, seed=seed)
    return replace(request, **changes)  # type: ignore[arg-type]  # fields of a request


async def result(backend: Backend, request: ImageRequest, job_id: str = "j") -> list[Event]:
    """All events of one request, however slow the machine."""
    ref = await backend.submit(request, job_id=job_id)
    async with asyncio.timeout(PATIENCE):
        return [event async for event in backend.events(ref)]


async def test_a_request_becomes_pictures_in_a_process_of_its_own(tmp_path: Path, tiny: Path) -> None:
    backend = create(str(tiny), make_settings(tmp_path, str(tiny)))
    assert backend.name == f"local:{tiny}"
    events = await result(backend, make_request(count=2))
    pictures = [event for event in events if isinstance(event, ImageReady)]
    assert [picture.seed for picture in pictures] == [1, 2]
    for picture in pictures:
        with Pillow.open(io.BytesIO(picture.data)) as image:
            assert image.size == (128, 64)
    assert [e.fraction for e in events if isinstance(e, Progress)][-1] == 1
    done = events[-1]
    assert isinstance(done, Done)
    assert done.model == "tiny"
    assert done.device_seconds > 0
    assert any("enlarged to 128×64" in note for note in done.notes)
    again = await result(backend, make_request(count=2))
    assert [e.data for e in again if isinstance(e, ImageReady)] == [p.data for p in pictures]
    await _upscaled(backend, pictures[0])
    await _cancel_stops_a_long_job(backend)
    await backend.aclose()


async def _upscaled(backend: Backend, picture: ImageReady) -> None:
    assert "upscale" in (await backend.capabilities()).params
    image = Image(picture.data, picture.mime, 128, 64)
    events = await result(backend, make_request(width=256, height=128, init_image=image, upscale=True))
    ready = next(event for event in events if isinstance(event, ImageReady))
    with Pillow.open(io.BytesIO(ready.data)) as made:
        assert made.size == (256, 128)
    assert isinstance(events[-1], Done)
    assert any("second pass at 256×128" in note for note in events[-1].notes)


async def _cancel_stops_a_long_job(backend: Backend) -> None:
    """In the same process, for its start is what costs: the next job does not wait for the cancelled one."""
    long = await backend.submit(make_request(steps=150, count=8), job_id="long")
    stream = backend.events(long)
    async with asyncio.timeout(PATIENCE):
        while not (isinstance(event := await anext(stream), Progress) and event.step):
            pass
    await backend.cancel(long)
    with pytest.raises(Cancelled):
        await collect(stream)
    following = await result(backend, make_request(9), "following")
    assert isinstance(following[-1], Done)


async def test_a_hub_out_of_reach_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    options = LocalOptions(cache_dir=str(tmp_path), pause=lambda falls: 3600.0)
    backend = LocalBackend(find_source("some/model", tmp_path), options, name="local:some/model")
    assert (await backend.capabilities()).models[0].id == "some/model"
    async with asyncio.timeout(PATIENCE):
        while "hub cannot be reached" not in (health := await backend.health()).detail:
            await asyncio.sleep(0.05)
    assert "local:/path/to/folder" in health.detail
    await backend.aclose()


def test_missing_embedded_weights_are_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "embedded_folder", lambda: tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="Install the package again"):
        create("", make_settings(tmp_path, ""))


@pytest.mark.skipif(
    not (sources.embedded_folder() / "model_index.json").is_file(), reason="a checkout without the weights"
)
async def test_the_embedded_model_makes_what_it_says(tmp_path: Path) -> None:
    backend = create("", make_settings(tmp_path, ""))
    model = (await backend.capabilities()).models[0]
    assert model.id == "embedded"
    assert model.native_pixels
    assert len(model.examples) == 6
    request = ImageRequest(
        "a red star on a blue background", 512, 512, model.steps, model.guidance_scale, seed=1
    )
    events = await result(backend, request)
    picture = next(event for event in events if isinstance(event, ImageReady))
    with Pillow.open(io.BytesIO(picture.data)) as image:
        assert image.size == (512, 512)
        red, green, blue = image.convert("RGB").getpixel((16, 16))  # type: ignore[misc]  # a colour is three
        assert blue > max(red, green)
    await backend.aclose()
