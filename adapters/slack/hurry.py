"""Acknowledgements first: Slack waits three seconds for them, and for messages nobody is counting.

In a burst, what would begin to talk to Slack waits a moment until what has arrived is acknowledged; and what
has arrived is taken in a few at a time, so that the first is acknowledged long before the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

PATIENCE: Final = 1.0  # seconds that a message waits for acknowledgements, at most
AT_ONCE: Final = 32  # taken in together: one commit serves them all
TURN: Final = 0.1  # seconds; who takes longer waits for something, and the next one's turn begins


class Hurry:
    """What is being acknowledged now."""

    def __init__(self) -> None:
        self._open = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    @contextmanager
    def acknowledging(self) -> Iterator[None]:
        """From when something arrives until it is acknowledged."""
        self._open += 1
        self._calm.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._calm.set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Around what is done for one acknowledgement; first come, first served."""
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        end = loop.call_later(TURN, self._turns.release)
        try:
            yield
        finally:
            if end.when() > loop.time():
                end.cancel()
                self._turns.release()

    async def over(self) -> None:
        """Until nothing waits for its acknowledgement; not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):  # wait_for() may swallow a cancellation
                await self._calm.wait()
