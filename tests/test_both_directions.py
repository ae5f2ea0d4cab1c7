"""Our backends against the APIs that we serve: one program as the hosted service of another."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backends import salad, stochastic
from backends._remote import Remote
from bot.core.errors import Cancelled
from bot.core.ports import CancelOutcome, ImageReady, Taken
from bot.core.request import Image, ImageRequest
from bot.core.settings import BackendEntry, Secret, Settings
from tests.backend_contract import collect
from tests.fakes.api import KEY, House, house
from tests.fakes.backend import FakeBackend, flat_png
from tests.hosted_contract import as_stored

SALAD = "acme/stable-diffusion-2-1"
KINDS = (("salad", SALAD, "jobs"), ("salad", SALAD, "beta"), ("stochastic", "stable-diffusion-2", ""))
ASKED = ImageRequest("a red fox", 64, 64, steps=4, guidance_scale=7.5, seed=7)


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[tuple[House, FakeBackend]]:
    """The program that serves."""
    backend = FakeBackend(slots=4)
    async with house(tmp_path, backend=backend) as home:
        yield home, backend


@pytest.fixture
async def opened(remote: tuple[House, FakeBackend]) -> AsyncIterator[Callable[..., Remote]]:
    """Opens backends of the program that asks; closed afterwards."""
    backends: list[Remote] = []

    def make(kind: str, target: str, api: str) -> Remote:
        settings = Settings(
            data_dir=Path("unused"),
            backends=(BackendEntry(kind, target, {"api": api} if api else {}),),
            service_urls={kind: remote[0].url},
            secrets={"SALAD_API_KEY": Secret(KEY), "STOCHASTIC_API_KEY": Secret(KEY)},
        )
        build = {"salad": salad.build, "stochastic": stochastic.build}[kind]
        backends.append(build(target, settings, delays=lambda: itertools.repeat(0.02)))
        return backends[-1]

    yield make
    for backend in backends:
        await backend.aclose()


@pytest.mark.parametrize(("kind", "target", "api"), KINDS)
async def test_pictures_come_with_their_seeds(
    kind: str, target: str, api: str, opened: Callable[..., Remote]
) -> None:
    backend = opened(kind, target, api)
    asked = replace(ASKED, count=2, width=128)
    events = await collect(backend.events(await backend.submit(asked, job_id="j1")))
    made = {event.seed: event.data for event in events if isinstance(event, ImageReady)}
    assert set(made) == {7, 8}
    assert made[7] != made[8]


async def test_a_picture_can_be_sent_along(opened: Callable[..., Remote]) -> None:
    backend = opened(*KINDS[0])
    given = Image(flat_png(64, 64, 1), "image/png", 64, 64)
    asked = replace(ASKED, init_image=given, strength=0.5, negative_prompt="snow", scheduler="Euler a")
    events = await collect(backend.events(await backend.submit(asked, job_id="j1")))
    assert sum(isinstance(event, ImageReady) for event in events) == 1


async def test_a_crash_costs_nothing_twice(
    remote: tuple[House, FakeBackend], opened: Callable[..., Remote]
) -> None:
    first = opened(*KINDS[0])
    ref = await first.submit(replace(ASKED, count=2), job_id="j1")
    async for event in first.events(ref):
        assert isinstance(event, Taken)  # and is lost
        break
    await first.aclose()
    events = await collect(opened(*KINDS[0]).events(as_stored(ref)))
    assert sorted(event.seed for event in events if isinstance(event, ImageReady)) == [7, 8]
    assert len(remote[1].submitted) == 2


async def test_a_cancel_reaches_the_other_program(
    remote: tuple[House, FakeBackend], opened: Callable[..., Remote]
) -> None:
    hold = remote[1].hold("start")
    backend = opened(*KINDS[0])
    ref = await backend.submit(ASKED, job_id="j1")
    async for event in backend.events(ref):
        if isinstance(event, Taken):
            ref = event.ref
            break
    assert await backend.cancel(ref) in (CancelOutcome.REQUESTED, CancelOutcome.CANCELLED)
    hold.release()
    with pytest.raises(Cancelled):
        await collect(backend.events(ref))
