"""Requests that come in over HTTP: how much of a body is read, how often keys may be wrong, and the HTTP
status of what goes wrong.

Shared by the adapters that are web servers. What an error looks like in JSON is each one's own.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from aiohttp import web

from bot.core.errors import (
    ContentRejected,
    FairbrushError,
    Forbidden,
    InvalidRequest,
    NotFound,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    TimedOut,
    Unavailable,
)

_PATIENCE_SECONDS: Final = 8.5  # so that with its refusal a connection is closed within ten
_SLOWEST_BYTES_PER_SECOND: Final = 20_000
_STATUS: Final = (
    (InvalidRequest, 400),
    (ContentRejected, 422),
    (Forbidden, 403),
    (NotFound, 404),
    (QueueFull, 429),
    (QuotaExceeded, 429),
    (RateLimited, 429),
    (Unavailable, 503),
    (TimedOut, 504),
)


class Problem(Exception):
    """An HTTP request that is refused before the core sees it. message: safe to show."""

    def __init__(
        self, status: int, message: str, *, field: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.retry_after = retry_after


def status_of(problem: Problem | FairbrushError) -> int:
    """The HTTP status that says what went wrong."""
    if isinstance(problem, Problem):
        return problem.status
    return next((status for kind, status in _STATUS if isinstance(problem, kind)), 500)


async def read_body(request: web.Request, limit: int) -> bytes:
    """The body, unpacked, up to `limit` bytes. Problem 413 beyond it, 408 where it comes too slowly."""
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    if request.content.is_eof():  # it came with its head, as short ones do
        whole = await request.content.read()
        if len(whole) > limit:
            raise too_large(limit)
        return whole
    body = bytearray()
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS) as deadline:
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise too_large(limit)
                deadline.reschedule(begun + _PATIENCE_SECONDS + len(body) / _SLOWEST_BYTES_PER_SECOND)
    except TimeoutError:
        raise Problem(408, "The request came too slowly.") from None
    return bytes(body)


def too_large(limit: int) -> Problem:
    """The answer to a body over its cap."""
    size = f"{limit // 2**20} MB" if limit >= 2**20 else f"{limit // 2**10} KB"
    return Problem(413, f"That is too large: at most {size} are read.")


class Throttle:
    """Wrong keys by address: `allowed` in any `window` seconds, then none is looked at for a while.

    now: monotonic seconds. At most `remembered` addresses are kept, the quietest are forgotten first.
    """

    def __init__(
        self, now: Callable[[], float], *, allowed: int = 10, window: float = 60.0, remembered: int = 4096
    ) -> None:
        self._now = now
        self._allowed = allowed
        self._window = window
        self._remembered = remembered
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0: now."""
        recent = self._recent(address)
        return recent[0] + self._window - self._now() if len(recent) >= self._allowed else 0.0

    def failed(self, address: str) -> None:
        """Note a wrong key. Call it before the key is looked up, so that tries at once are counted too."""
        self._failures[address] = [*self._recent(address), self._now()][-self._allowed :]
        self._failures.move_to_end(address)
        while len(self._failures) > self._remembered:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """A right key clears what was noted."""
        self._failures.pop(address, None)

    def _recent(self, address: str) -> list[float]:
        since = self._now() - self._window
        return [at for at in self._failures.get(address, []) if at > since]
