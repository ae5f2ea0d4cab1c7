"""Bodies, read within their cap and parsed strictly; large ones few at a time, and in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from aiohttp import web

from adapters import _strictjson as strictjson
from adapters._incoming import Problem, read_body, too_large
from bot.core.request import JSON

LARGE_AT_ONCE: Final = 4  # of one key; each may take three times MAX_BODY of memory while it is read
WAIT_SECONDS: Final = 60.0
_SMALL: Final = 64 * 1024  # bytes that are parsed in less time than a thread costs


class Room:
    """Where the large bodies of each key are read: few at a time, the others wait on their connections."""

    def __init__(self) -> None:
        self._of_keys: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def of(self, key_id: str) -> AsyncIterator[None]:
        """Within it a large body may be read. Problem 429 where there was no room for long."""
        room = self._of_keys.setdefault(key_id, asyncio.Semaphore(LARGE_AT_ONCE))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await room.acquire()
        except TimeoutError:
            raise Problem(
                429, f"At most {LARGE_AT_ONCE} large bodies are read at once of this key.", retry_after=10
            ) from None
        try:
            yield
        finally:
            room.release()


async def read_json(
    request: web.Request, limit: int, room: Callable[[], AbstractAsyncContextManager[None]]
) -> JSON:
    """The body. room: entered for one that may be large. Problem 413 over `limit` bytes, 408 where it comes
    too slowly, 400 where it is malformed."""
    length = request.content_length
    if length is not None and length <= _SMALL and "Content-Encoding" not in request.headers:
        return _parsed(await read_body(request, limit))
    if length is not None and length > limit:
        raise too_large(limit)
    async with room():
        return await asyncio.to_thread(_parsed, await read_body(request, limit))


def _parsed(body: bytes) -> JSON:
    try:
        return strictjson.loads(body)
    except ValueError as error:
        raise Problem(400, str(error)[:300]) from None
