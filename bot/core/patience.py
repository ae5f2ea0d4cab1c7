"""Waiting well: writes that are tried until they are taken, calls that may not take for ever, and tasks that
outlive whoever began them. Knows nothing of jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from bot.core.errors import FairbrushError, TimedOut, Unavailable
from bot.core.ports import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

AGAIN_FIRST, AGAIN_MOST = 0.5, 30.0


async def insist(write: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """A write that must not be lost: where the disk takes none (it is full), try until it does."""
    delay = AGAIN_FIRST
    while True:
        try:
            return await write()
        except Unavailable as error:
            log.error("the data folder takes no writes: %s %s", error.message, error.detail)
            await clock.sleep(delay)
            delay = min(delay * 2, AGAIN_MOST)


async def within(seconds: float, work: Awaitable[T], clock: Clock) -> T:
    """The result of `work`. Raises TimedOut, and cancels it, where it takes longer."""
    task, timer = asyncio.ensure_future(work), asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise TimedOut(f"No answer within {seconds:g} s.")
    finally:
        task.cancel()
        timer.cancel()


async def every(seconds: float, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do `work` again and again, until cancelled. What it raises is logged: the next time may go better."""
    while True:
        await clock.sleep(seconds)
        try:
            await work()
        except Exception:
            log.exception("a tick failed")


class Tasks:
    """Tasks that somebody holds. A shielded await on one may be cancelled; the task itself goes on."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin; a crash is logged whole, an error of ours in a line: it is left to whoever awaits."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, FairbrushError):
            log.info("a task ended early: %s %s", error.message, error.detail)
        elif error is not None:
            log.error("a task ended early: %s", error, exc_info=error)

    async def aclose(self, *, patience: float = 0.0) -> None:
        """Give them `patience` seconds, then cancel what is left and wait for it."""
        if self._tasks and patience:
            await asyncio.wait(set(self._tasks), timeout=patience)
        while self._tasks:
            for task in set(self._tasks):
                task.cancel()
            await asyncio.wait(set(self._tasks))
