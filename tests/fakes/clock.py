"""Time that tests move by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time

from bot.core.ports import Clock

LONG = 15.0  # seconds of sleep
TURNS = 50  # loop turns after which what can happen without time passing has happened


class HandClock:
    """A clock that stands still until advance(). `clock` is what the program gets. set_forward: seconds by
    which somebody has set the time of day."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now
        self.set_forward = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self.clock = Clock(
            now=lambda: self.time + self.set_forward, monotonic=lambda: self.time, sleep=self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + max(0.0, seconds), next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking sleepers one after the other in their order."""
        end = self.time + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self.time = max(self.time, due)
            if not future.done():
                future.set_result(None)
            await settle()
        self.time = end
        await settle()


class HurriedClock:
    """Time that jumps over every sleep: waits end at once and have lasted as long as they should. `clock` is
    what the program gets; ahead: of real time, seconds; slept: all sleeps, in order.

    Long sleeps take a little longer: a task that does something every 20 seconds must not drive time on while
    a call to a local server is under way.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.slept: list[float] = []
        self.clock = Clock(
            now=lambda: time.time() + self.ahead,
            monotonic=lambda: time.monotonic() + self.ahead,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        due = self.clock.monotonic() + max(0.0, seconds)
        await asyncio.sleep(0.001 if seconds < LONG else 0.04)
        self.ahead = max(self.ahead, due - time.monotonic())


async def settle() -> None:
    """Let everything that needs no time happen."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
