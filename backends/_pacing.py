"""When to call a remote again: how long to wait after a failure, how often to poll, and how many calls a
minute may go out at all. Knows no HTTP but the Retry-After header."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final

from bot.core.ports import Clock

REAL_CLOCK: Final = Clock(now=time.time, monotonic=time.monotonic, sleep=asyncio.sleep)
_LONGEST_WAIT: Final = 3600.0  # seconds that a Retry-After is believed


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as an HTTP date; None where it says nothing
    that can be read. now: Unix seconds."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, seconds), _LONGEST_WAIT) if seconds == seconds else None


class Backoff:
    """Waits between tries of one call, in seconds: full jitter under a doubling roof, and never less than
    the remote asks for."""

    def __init__(self, first: float = 0.5, most: float = 15.0) -> None:
        self._roof = first
        self._most = most

    def wait(self, asked: float | None = None) -> float:
        """The next wait. asked: the remote's own wish, which is kept, with a little on top of it."""
        roof, self._roof = self._roof, min(self._roof * 2, self._most)
        jitter = random.uniform(0.0, roof)
        return jitter if asked is None else asked + min(jitter, 1.0)


def poll_delays(first: float = 0.5, most: float = 5.0, factor: float = 1.25) -> Iterator[float]:
    """Seconds to wait before each poll of one job: quick at first, slower later, for ever."""
    delay = first
    while True:
        yield delay
        delay = min(delay * factor, most)


OWN_SERVER: Final = 2400
"""Calls a minute to a server of one's own that speaks a service's format, such as another Fairbrush."""


class Pace:
    """At most `per_minute` calls in any 60 seconds, a sixth of them at once. Calls wait in their order."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._burst = max(1, per_minute // 6)
        self._per_second = (per_minute - self._burst) / 60 or 1.0
        self._clock = clock
        self._due = float("-inf")  # when the bucket is full again

    async def turn(self) -> None:
        """Wait until a call may go out."""
        now = self._clock.monotonic()
        self._due = max(self._due, now) + 1 / self._per_second
        wait = self._due - now - self._burst / self._per_second
        if wait > 0:
            await self._clock.sleep(wait)
