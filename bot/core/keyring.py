"""API keys as the running program knows them: found by their hash, and remembered for a moment.

A key that was revoked, or its budget changed, by a command beside the program counts within a second. What is
no key is never remembered, so that a new one counts at once and guesses take no memory.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from bot.core.patience import Tasks
from bot.core.ports import ApiKey, Clock, Store

REMEMBERED: Final = 0.5  # seconds that a key found is good for


class Keyring:
    """See the module."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[ApiKey, float]] = {}  # by digest: the key, and until when it holds
        self._asking: dict[str, asyncio.Task[ApiKey | None]] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Ask no more."""
        await self._tasks.aclose()

    async def find(self, text: str) -> ApiKey | None:
        """The unrevoked key with this text. Looked up by its SHA-256: how long that takes tells nothing of
        the keys there are."""
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        known = self._known.get(digest)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        if (asking := self._asking.get(digest)) is None:  # of many at one time, one asks for all
            asking = self._asking[digest] = self._tasks.start(self._ask(digest))
        return await asyncio.shield(asking)

    async def _ask(self, digest: str) -> ApiKey | None:
        until = self._clock.monotonic() + REMEMBERED  # from before it is read: it may be revoked meanwhile
        try:
            key = await self._store.key(digest)
        finally:
            del self._asking[digest]
        self._known.pop(digest, None)
        if key is not None:
            self._known[digest] = key, until
        return key
