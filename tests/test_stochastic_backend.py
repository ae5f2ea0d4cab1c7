"""The backend of Stochastic's model API, against a local server of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.stochastic import build
from bot.core.settings import BackendEntry, Secret, Settings
from tests.fakes.clock import HurriedClock
from tests.fakes.stochastic import StochasticFake
from tests.hosted_contract import HostedContract, World, hosted_world


def settings_for(fake: StochasticFake, **options: str) -> Settings:
    """Settings with a backend on a local server."""
    return Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("stochastic", "stable-diffusion-2", options),),
        service_urls={"stochastic": fake.url},
        secrets={"STOCHASTIC_API_KEY": Secret(fake.secret)},
    )


class TestStochasticBackend(HostedContract):
    """All that is owed."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        """A local server and the backend on it."""
        fake, clock = StochasticFake(), HurriedClock()
        make = lambda: build("stable-diffusion-2", settings_for(fake), clock=clock.clock)  # noqa: E731
        async with hosted_world(fake, clock, make) as world:
            yield world
