"""What watchers of jobs wait for, so that all of them can be let go at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from bot.core.errors import Unavailable
from bot.core.ports import Clock

T = TypeVar("T")


class Steps:
    """Calls that end with Unavailable once close() was called. name: of the backend, for the error."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.closed = False
        self._name = name
        self._clock = clock
        self._tasks: set[asyncio.Future[Any]] = set()

    def check(self, *, taken: bool = False) -> None:
        """Raise Unavailable where all is closed. taken: the service has the job, and goes on with it."""
        if self.closed:
            raise Unavailable(f"{self._name} is closed.", accepted=None if taken else False)

    async def __call__(self, work: Awaitable[T]) -> T:
        """Wait for `work`, which is cancelled with its watcher."""
        task = asyncio.ensure_future(work)
        if self.closed:
            task.cancel()
        self._tasks.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self.closed and current is not None and not current.cancelling():
                raise Unavailable(f"{self._name} was closed.", accepted=None) from None
            raise
        finally:
            self._tasks.discard(task)

    async def pause(self, seconds: float, nudged: asyncio.Event) -> None:
        """Sleep, or until somebody nudges."""
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        nudge = asyncio.ensure_future(nudged.wait())
        try:
            await self(asyncio.wait({sleep, nudge}, return_when=asyncio.FIRST_COMPLETED))
            nudged.clear()
        finally:
            sleep.cancel()
            nudge.cancel()

    async def close(self, *others: asyncio.Future[Any]) -> None:
        """Let all watchers go, and end `others` too."""
        self.closed = True
        tasks = [*self._tasks, *others]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
