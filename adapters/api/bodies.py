"""Bodies, read within their cap and parsed strictly; a large one in a thread."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from adapters import _strictjson as strictjson
from adapters._incoming import Problem, read_body
from bot.core.request import JSON

_AT_ONCE: Final = 64 * 1024  # bytes that are parsed in less time than a thread costs


async def read_json(request: web.Request, limit: int) -> JSON:
    """The body. Problem 413 over `limit` bytes, 408 where it comes too slowly, 400 where it is malformed."""
    body = await read_body(request, limit)
    try:
        if len(body) <= _AT_ONCE:
            return strictjson.loads(body)
        return await asyncio.to_thread(strictjson.loads, body)
    except ValueError as error:
        raise Problem(400, str(error)[:300]) from None
