"""Acknowledgements first: Slack waits three seconds for them, and for messages nobody is counting.

In a burst, what would begin to talk to Slack waits a moment until what has arrived is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE: Final = 1.0  # seconds that a message waits for acknowledgements, at most


class Hurry:
    """What is being acknowledged now."""

    def __init__(self) -> None:
        self._open = 0
        self._calm = asyncio.Event()
        self._calm.set()

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

    async def over(self) -> None:
        """Until nothing waits for its acknowledgement; not for ever."""
        if self._open:
            try:
                await asyncio.wait_for(self._calm.wait(), PATIENCE)
            except TimeoutError:
                pass
