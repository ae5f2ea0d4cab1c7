"""Lets coroutines wait until something has changed."""

from __future__ import annotations

import asyncio


class Changes:
    """Told of each change; wakes whoever waits for one.

    change = changes.next()      # before looking, so that no change is missed
    if not condition():
        await change
    """

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """Wake everybody who waits."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def next(self) -> asyncio.Future[None]:
        """The next change from now."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future
