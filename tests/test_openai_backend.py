"""OpenAI's images API as a backend: at OpenAI itself, and at other servers that speak it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends._http import Http
from backends._openai_offer import read_offer
from backends.openai import OpenAIBackend, build
from bot.core.ports import Clock
from bot.core.settings import BackendEntry, Secret, Settings
from tests.fakes.clock import HurriedClock
from tests.fakes.openai import FakeOpenAI
from tests.hosted_contract import HostedContract, World, hosted_world


def at_openai(
    fake: FakeOpenAI, model: str = "gpt-image-2", *, clock: Clock | None = None, **options: str
) -> OpenAIBackend:
    """A backend that takes the local server for OpenAI itself."""
    entry = BackendEntry("openai", model, options)
    http = Http(
        fake.url, headers={"Authorization": f"Bearer {fake.secret}"}, service="OpenAI", clock=clock
    )
    return OpenAIBackend(entry.name, read_offer(entry, official=True), http, official=True, clock=clock)


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


class TestAtOpenAI(HostedContract):
    """GPT Image 2 at OpenAI."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        fake, clock = FakeOpenAI(), HurriedClock()
        async with hosted_world(fake, clock, lambda: at_openai(fake, clock=clock.clock)) as world:
            yield world


class TestStreamed(HostedContract):
    """With previews, so that every picture is streamed."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        fake, clock = FakeOpenAI(), HurriedClock()
        make = lambda: at_openai(fake, previews="2", clock=clock.clock)  # noqa: E731
        async with hosted_world(fake, clock, make) as world:
            yield world


class TestElsewhere(HostedContract):
    """Another server, whose answers hold links, and which takes seeds."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        fake, clock = FakeOpenAI(lenient=True, links=True), HurriedClock()
        make = lambda: elsewhere(fake, params="steps+seed+guidance_scale", clock=clock.clock)  # noqa: E731
        async with hosted_world(fake, clock, make) as world:
            yield world
