"""The two EXIF fields that matter here: Orientation and UserComment. Source: Exif 2.32, TIFF 6.0.

A1111 keeps its parameters of JPEG and WebP files in UserComment, as UTF-16 behind "UNICODE\\0".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bot.core.containers import MAX_TEXT

_ORIENTATION, _EXIF_IFD, _USER_COMMENT = 0x0112, 0x8769, 0x9286
_SHORT, _LONG, _UNDEFINED = 3, 4, 7
_MAX_ENTRIES: Final = 512


@dataclass(frozen=True, slots=True)
class Exif:
    """orientation: 1 to 8; comment: UserComment as text."""

    orientation: int = 1
    comment: str = ""


def read(data: bytes) -> Exif:
    """What a TIFF structure says; defaults for whatever is missing or broken."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return Exif()
    orientation, comment = 1, ""
    (first,) = struct.unpack_from(order + "I", data, 4)
    for tag, kind, _, field in _entries(data, order, first):
        if tag == _ORIENTATION and kind == _SHORT:
            (value,) = struct.unpack_from(order + "H", field)
            orientation = value if 1 <= value <= 8 else 1
        elif tag == _EXIF_IFD and kind == _LONG:
            comment = _comment(data, order, struct.unpack(order + "I", field)[0])
    return Exif(orientation, comment)


def write(comment: str, *, limit: int) -> bytes:
    """A TIFF structure with UserComment alone, of at most `limit` bytes: the comment is cut to fit.

    Big-endian with UTF-16BE, since readers differ on whether the text follows the structure's byte order.
    """
    # Header 8, IFD0 with one entry 18, the Exif IFD with one entry 18: the text starts at 44.
    room = (limit - 44 - 8) // 2 * 2
    text = b"UNICODE\0" + comment.encode("utf-16-be", "replace")[:room]
    pointer = struct.pack(">HHHIII", 1, _EXIF_IFD, _LONG, 1, 26, 0)
    field = struct.pack(">HHHIII", 1, _USER_COMMENT, _UNDEFINED, len(text), 44, 0)
    return b"MM\0*" + struct.pack(">I", 8) + pointer + field + text


def _comment(data: bytes, order: str, offset: int) -> str:
    for tag, _, count, field in _entries(data, order, offset):
        if tag == _USER_COMMENT and 8 < count <= MAX_TEXT:
            (start,) = struct.unpack(order + "I", field)
            return _decoded(data[start : start + count], order)
    return ""


def _entries(data: bytes, order: str, offset: int) -> Iterator[tuple[int, int, int, bytes]]:
    """(tag, type, count, the 4 bytes of value or offset) of one directory."""
    if offset + 2 > len(data):
        return
    (number,) = struct.unpack_from(order + "H", data, offset)
    for index in range(min(number, _MAX_ENTRIES)):
        start = offset + 2 + 12 * index
        if start + 12 > len(data):
            return
        tag, kind, count = struct.unpack_from(order + "HHI", data, start)
        yield tag, kind, count, data[start + 8 : start + 12]


def _decoded(raw: bytes, order: str) -> str:
    code, text = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        return text.decode(_byte_order(text, order), "replace").lstrip("\ufeff").rstrip("\0")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        return text.decode("utf-8", "replace").rstrip("\0")
    return ""


def _byte_order(text: bytes, order: str) -> str:
    """Writers disagree, so the text decides: in Latin letters the zero bytes are the high halves."""
    high, low = text[0::2].count(0), text[1::2].count(0)
    if high == low:
        return "utf-16-le" if order == "<" else "utf-16-be"
    return "utf-16-be" if high > low else "utf-16-le"
