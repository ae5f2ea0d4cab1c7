"""Things that go wrong: a store whose disk is full or slow, and backends with bugs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from bot.core.errors import Unavailable
from bot.core.ports import CancelOutcome, Capabilities, Event, Health, RemoteRef
from bot.core.request import ImageRequest
from tests.fakes.backend import FakeBackend, Hold
from tests.fakes.memory_store import Data, MemoryStore

WRITES = (
    "accept",
    "save_address",
    "start",
    "save_ref",
    "renew",
    "requeue",
    "finish",
    "postpone",
    "delivered",
    "forget",
    "shelf_put",
)


class TroubledStore(MemoryStore):
    """full[write]: how many of its next calls find the disk full; calls counts them; hold(write) stops one
    before it is written."""

    def __init__(self, data: Data | None = None) -> None:
        super().__init__(data)
        self.full = Counter[str]()
        self.calls = Counter[str]()
        self._holds: dict[str, Hold] = {}

    def hold(self, write: str) -> Hold:
        """Stop these writes until released."""
        self._holds[write] = Hold()
        return self._holds[write]

    async def meet(self, write: str) -> None:
        """What a write meets before it is done."""
        self.calls[write] += 1
        if (hold := self._holds.get(write)) is not None:
            await hold.wait()
        if self.full[write] > 0:
            self.full[write] -= 1
            raise Unavailable("The disk is full.")


def _troubled(name: str) -> Callable[..., Any]:
    plain: Callable[..., Any] = getattr(MemoryStore, name)

    async def write(self: TroubledStore, *args: Any, **options: Any) -> Any:
        await self.meet(name)
        return await plain(self, *args, **options)

    return write


for _name in WRITES:
    setattr(TroubledStore, _name, _troubled(_name))


class OddBackend(FakeBackend):
    """A FakeBackend that can be given bugs. `script`, where set, replaces the events of every job; asked
    counts calls; broken holds names of methods that raise a RuntimeError, stuck those that never answer;
    cancel_says replaces what cancel() answers, and then it stops nothing."""

    def __init__(self, name: str = "fake:", **options: Any) -> None:
        super().__init__(name, **options)
        self.script: Callable[[], AsyncIterator[Event]] | None = None
        self.cancel_says: CancelOutcome | None = None
        self.broken: set[str] = set()
        self.stuck: set[str] = set()
        self.asked = Counter[str]()
        self.batch = 1

    async def _meet(self, method: str) -> None:
        self.asked[method] += 1
        if method in self.broken:
            raise RuntimeError(f"a bug in {method}")
        if method in self.stuck:
            await asyncio.Event().wait()

    async def capabilities(self) -> Capabilities:
        await self._meet("capabilities")
        return await super().capabilities()

    async def health(self) -> Health:
        await self._meet("health")
        return await super().health()

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        await self._meet("submit")
        return await super().submit(request, job_id=job_id)

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        await self._meet("events")
        async for event in self.script() if self.script else super().events(ref):
            yield event

    async def cancel(self, ref: RemoteRef) -> CancelOutcome:
        await self._meet("cancel")
        return self.cancel_says or await super().cancel(ref)

    async def aclose(self) -> None:
        await super().aclose()
        await self._meet("aclose")
