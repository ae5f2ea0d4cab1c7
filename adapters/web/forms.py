"""Bodies, read within limits: a JSON object, and a form where a picture comes with it."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import BodyPartReader, web

from adapters import _strictjson as strictjson
from adapters._incoming import Problem, read_body, too_large
from bot.core.request import JSON

_SECONDS: Final = 120.0
_PARTS: Final = ("request", "image")


async def read_object(request: web.Request, limit: int) -> dict[str, JSON]:
    """The body as a JSON object of at most `limit` bytes. Problem 413, 408 or 400."""
    return _object(await read_body(request, limit))


async def read_form(
    request: web.Request, json_limit: int, image_limit: int
) -> tuple[dict[str, JSON], bytes | None]:
    """The JSON object and the picture, None where there is none. A plain JSON body has no picture.

    Raises Problem: 413 where either is over its limit in bytes, 400 where the body is malformed.
    """
    if request.content_type != "multipart/form-data":
        return await read_object(request, json_limit), None
    if (request.content_length or 0) > json_limit + image_limit:
        raise too_large(image_limit)
    try:
        async with asyncio.timeout(_SECONDS):
            parts = await _parts(request, {"request": json_limit, "image": image_limit})
    except TimeoutError:
        raise Problem(408, "The request came too slowly.") from None
    except (ValueError, AssertionError):  # what aiohttp raises for a malformed multipart body
        raise Problem(400, "The form is malformed.") from None
    return _object(parts.get("request", b"")), parts.get("image") or None


async def _parts(request: web.Request, limits: dict[str, int]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        name = part.name if isinstance(part, BodyPartReader) else None
        if not isinstance(part, BodyPartReader) or name not in limits or name in found:
            raise Problem(400, f"The form may have one {' and one '.join(_PARTS)} part.")
        found[name] = await _part(part, limits[name])
    return found


async def _part(part: BodyPartReader, limit: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(64 * 1024):
        data += chunk
        if len(data) > limit:
            raise too_large(limit)
    return bytes(data)


def _object(body: bytes) -> dict[str, JSON]:
    try:
        data = strictjson.loads(body)
    except ValueError as error:
        raise Problem(400, str(error)) from None
    if not isinstance(data, dict):
        raise Problem(400, "The body must be a JSON object.")
    return data
