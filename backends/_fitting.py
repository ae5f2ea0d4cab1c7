"""Pictures and previews of a server brought to the size that they are wanted in, in threads."""

from __future__ import annotations

import asyncio
from typing import Final

from bot.core import pictures
from bot.core.errors import FairbrushError

MAX_PREVIEW: Final = 20_000  # bytes
_PREVIEW_SIDE: Final = 256


async def fitted(data: bytes, width: int, height: int) -> tuple[bytes, str, tuple[int, int]]:
    """A picture at exactly width x height, its MIME type, and the size that it came in.

    Raises ProtocolError where it is not a whole picture.
    """
    return await asyncio.to_thread(_fitted, data, width, height)


def _fitted(data: bytes, width: int, height: int) -> tuple[bytes, str, tuple[int, int]]:
    exact = pictures.exact_size(data, width, height)
    return exact, pictures.mime_of(exact), pictures.size_of(data)


async def small(data: bytes) -> bytes | None:
    """A preview as a JPEG of at most MAX_PREVIEW bytes; None where it is no picture."""
    return await asyncio.to_thread(_small, data)


def _small(data: bytes) -> bytes | None:
    try:
        return pictures.fit_to_bytes(pictures.thumbnail(data, _PREVIEW_SIDE), MAX_PREVIEW, mime="image/jpeg")[
            0
        ]
    except FairbrushError:
        return None
