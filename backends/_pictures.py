"""Pictures that hosted services answer with: believed only as far as their bytes show, before anything is
decoded. Synchronous, milliseconds for a picture of 20 MB."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from bot.core.containers import container
from bot.core.errors import InvalidRequest, ProtocolError
from bot.core.request import Limits

MAX_BYTES: Final = Limits().max_image_bytes
MAX_PIXELS: Final = 8192 * 8192
_DATA_URL: Final = re.compile(r"data:image/[a-z+.-]{1,20};base64,", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")


def checked_picture(data: bytes) -> str:
    """The MIME type of a PNG, JPEG or WebP that is whole, still and nothing else besides, by its header.

    Raises ProtocolError (accepted None: it was made, so nothing asks for it again by itself).
    """
    if len(data) > MAX_BYTES:
        raise _odd(f"{len(data):,} bytes, more than {MAX_BYTES:,}")
    try:
        module = container(data)
        header = module.header(data)
        if header.width * header.height > MAX_PIXELS:
            raise _odd(f"{header.width} x {header.height} pixels")
        module.bare(data)
    except InvalidRequest as error:
        raise _odd(f"{error.message} {error.detail}") from None
    return str(module.MIME)


def decoded_picture(text: str) -> tuple[bytes, str]:
    """The picture in a base64 text or a data: URL, and its MIME type. Raises ProtocolError."""
    start = _DATA_URL.match(text)
    coded = text[start.end() :] if start else text
    if len(coded) > MAX_BYTES * 3 // 2:
        raise _odd(f"{len(coded):,} characters of base64")
    try:
        data = base64.b64decode(_SPACE.sub("", coded), validate=True)
    except (binascii.Error, ValueError):
        raise _odd("no base64") from None
    return data, checked_picture(data)


def _odd(why: str) -> ProtocolError:
    return ProtocolError(
        "The service answered something that is not a picture that can be used.", detail=why, accepted=None
    )
