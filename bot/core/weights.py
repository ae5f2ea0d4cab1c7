"""The weights of tenants: shares of guilds, workspaces and keys in the fair queue, set by an operator.

Each is a row of its own on a shelf, so that a command beside the running program and the program itself never
undo each other's. The program looks again every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from bot.core.errors import InvalidRequest, Unavailable
from bot.core.fairqueue import FairQueue
from bot.core.ports import Clock, Store
from bot.core.ranges import number
from bot.core.request import JSON

log = logging.getLogger(__name__)

SHELF: Final = "weights"
MIN_WEIGHT: Final = 0.1
MAX_WEIGHT: Final = 100.0
LOOK_AGAIN: Final = 2.0  # seconds

_TENANT: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}:[\x21-\x7e]{1,128}")


def checked_tenant(tenant: str) -> str:
    """A tenant's name. Raises InvalidRequest where it cannot be one."""
    if not _TENANT.fullmatch(tenant):
        raise InvalidRequest(
            "TENANT must be a platform and a server, workspace or key, such as discord:80351110224678912, "
            "slack:T024BE7LD or key:1f2e3d4c5b6a7988.",
            field="tenant",
        )
    return tenant


def checked_weight(weight: float) -> float:
    """A tenant's weight. Raises InvalidRequest outside of 0.1 to 100."""
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidRequest(
            f"The weight must be a number from {number(MIN_WEIGHT)} to {number(MAX_WEIGHT)}, not "
            f"{number(weight)}. 1 is everybody's.",
            field="weight",
        )
    return float(weight)


async def stored_weight(store: Store, tenant: str) -> float:
    """A tenant's weight as stored; 1 where none is."""
    return _weight(await store.shelf_get(SHELF, checked_tenant(tenant))) or 1.0


async def store_weight(store: Store, tenant: str, weight: float) -> float:
    """Set a tenant's weight; 1 is what everybody has, and takes no row. Raises InvalidRequest."""
    tenant, weight = checked_tenant(tenant), checked_weight(weight)
    await store.shelf_put(SHELF, tenant, None if weight == 1.0 else weight)
    return weight


def _weight(value: JSON) -> float | None:
    """A stored value; None for what is no weight."""
    if not isinstance(value, int | float) or not MIN_WEIGHT <= value <= MAX_WEIGHT:
        return None
    return float(value)


class Weights:
    """The weights in force in this program."""

    def __init__(self, store: Store, queue: FairQueue, clock: Clock) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._known: dict[str, float] = {}
        self._one_at_a_time = asyncio.Lock()

    def of(self, tenant: str) -> float:
        """A tenant's weight; 1 where none is set."""
        return self._known.get(tenant, 1.0)

    async def set(self, tenant: str, weight: float) -> None:
        """Store it and let it count. Raises InvalidRequest."""
        async with self._one_at_a_time:
            self._count(tenant, await store_weight(self._store, tenant, weight))

    async def look(self) -> None:
        """Let what is stored count: at start, before the queue is restored, and now and then."""
        async with self._one_at_a_time:
            stored = await self._store.shelf_items(SHELF)
            found = {tenant: weight for tenant, value in stored.items() if (weight := _weight(value))}
            for tenant in [*found, *(self._known.keys() - found.keys())]:
                self._count(tenant, found.get(tenant, 1.0))

    async def watch(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_AGAIN)
            try:
                await self.look()
            except Unavailable as error:
                log.warning("weights are not read: %s", error.message)

    def _count(self, tenant: str, weight: float) -> None:
        if weight != self.of(tenant):
            self._queue.set_weight(tenant, weight)
            log.info("%s has weight %s now", tenant, number(weight))
        self._known.pop(tenant, None)
        if weight != 1.0:
            self._known[tenant] = weight
