"""Who may come in: keys, and how often each may ask.

A key is needed everywhere, also on loopback; it comes in a header, never in a cookie, so that no page of
another site can ask in somebody's name. Right keys are let in whatever else comes from their address: behind
a proxy all clients share one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters._incoming import Problem, Throttle
from adapters.api.bodies import Room
from bot.core.request import Nouns, Requester

if TYPE_CHECKING:
    from bot.core.ports import ApiKey
    from bot.core.studio import Studio

KEY_LENGTHS: Final = range(16, 201)
NOUNS: Final = Nouns(member="key", guild="key")
ANSWER_SECONDS: Final = 0.1  # what every wrong key waits, whatever is wrong with it


@dataclass(frozen=True, slots=True)
class Visit:
    """A known client and the core. room: makes room for a large body of the key's, see bodies.py."""

    studio: Studio
    key: ApiKey
    requester: Requester
    room: Callable[[], AbstractAsyncContextManager[None]]


class Door:
    """Lets clients in, once the core is there. now: monotonic seconds; studio: the core, None before."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._throttle = Throttle(now)
        self._pace: Pace | None = None
        self._visits: dict[str, Visit] = {}  # the last of each key, for the next request
        self._room = Room()
        self.studio: Studio | None = None

    def open(self, studio: Studio) -> None:
        """From now on requests reach the core."""
        self.studio = studio
        self._pace = Pace(studio.settings.requests_per_second, self._now)

    def close(self) -> None:
        """From now on every request is answered 503."""
        self.studio = None

    async def visit(self, request: web.Request, text: str) -> Visit:
        """Who asks with the key `text`. Problem 401 for a wrong one, 429 after many wrong ones or where a
        right one asks too often, 503 before open()."""
        studio, pace = self.studio, self._pace
        if studio is None or pace is None:
            raise Problem(503, "Fairbrush is starting. Ask again in a second.", retry_after=1)
        answer_at = self._now() + ANSWER_SECONDS
        key = await studio.key(text) if len(text) in KEY_LENGTHS and text.isascii() else None
        if key is None:
            await asyncio.sleep(max(0.0, answer_at - self._now()))
            raise self._wrong(request.remote or "", given=bool(text))
        if (wait := pace.wait(key.key_id)) > 0:
            raise Problem(
                429,
                f"More than {pace.per_second:g} requests a second came with this key. Ask less often.",
                retry_after=wait,
            )
        visit = self._visits.get(key.key_id)
        if visit is None or visit.key is not key or visit.studio is not studio:
            room = partial(self._room.of, key.key_id)
            visit = self._visits[key.key_id] = Visit(studio, key, requester_of(key), room)
        return visit

    def _wrong(self, address: str, *, given: bool) -> Problem:
        if not given:
            return Problem(401, "An API key is needed. Make one with: fairbrush key create NAME")
        if (wait := self._throttle.wait(address)) > 0:
            return Problem(
                429, "Too many wrong keys came from here. Try again in a minute.", retry_after=wait
            )
        self._throttle.failed(address)
        return Problem(401, "This API key is not valid. Make one with: fairbrush key create NAME")


def requester_of(key: ApiKey) -> Requester:
    """Whoever asks with this key: a tenant, and its only user."""
    return Requester("api", f"key:{key.key_id}", key.key_id, name=key.name, nouns=NOUNS)


class Pace:
    """How often each key may ask: `per_second` on the long run, and as many at once. now: monotonic
    seconds."""

    def __init__(self, per_second: float, now: Callable[[], float]) -> None:
        self.per_second = per_second
        self._now = now
        self._most = max(1.0, per_second)
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, key_id: str) -> float:
        """0 where it may ask now, which is counted; else seconds until it may."""
        now = self._now()
        left, at = self._left.get(key_id, (self._most, now))
        left = min(self._most, left + (now - at) * self.per_second)
        if left < 1.0:
            return (1.0 - left) / self.per_second
        self._left[key_id] = (left - 1.0, now)
        return 0.0
