"""A free and a paid backend side by side, and what is asked about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bot.core.budget import Budget
from bot.core.lanes import Lane
from bot.core.ports import Price, Store
from bot.core.settings import BackendEntry
from tests.fakes.backend import FAKE_MODEL, FakeBackend
from tests.fakes.house import House, house

PRICE = 0.04
PAID_MODEL = replace(FAKE_MODEL, price=Price(per_image=PRICE))
OTHER_MODEL = replace(PAID_MODEL, id="flux", title="Flux")


def local(**options: Any) -> FakeBackend:
    """A backend that costs nothing."""
    return FakeBackend("local:", **options)


def paid(name: str = "fal:flux", **options: Any) -> FakeBackend:
    """A hosted one: 4 cents a picture."""
    return FakeBackend(name, **{"models": (PAID_MODEL,), "resumable": True, **options})


def flux(**options: Any) -> FakeBackend:
    """A hosted one with a model that nobody else has."""
    return paid(**{"models": (OTHER_MODEL,), **options})


@asynccontextmanager
async def hosted(
    folder: Path,
    *backends: FakeBackend,
    store: Store | None = None,
    options: dict[str, dict[str, str]] | None = None,
    **settings: Any,
) -> AsyncIterator[House]:
    """A house with these backends. options: of their entries, by name."""
    entries = []
    for backend in backends:
        kind, _, target = backend.name.partition(":")
        entries.append(BackendEntry(kind, target, (options or {}).get(backend.name, {})))
    async with house(folder, backends=backends, store=store, entries=entries, **settings) as home:
        yield home


def budget_of(home: House) -> Budget:
    """What is spent and held."""
    return home.app._budget


def lane_of(home: House, name: str) -> Lane:
    """A lane by its name."""
    return next(lane for lane in home.app._dispatcher.lanes if lane.name == name)


async def spent(home: House) -> float:
    """US dollars that the store says were spent."""
    return round(sum(money for *_, money in await home.store.charges(0.0)), 6)


def names_of(submitted: Sequence[tuple[str, object]]) -> list[str]:
    """Job ids in the order in which a backend was given them."""
    return [job_id for job_id, _ in submitted]
