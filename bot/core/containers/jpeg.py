"""JPEG as bytes. Sources: ITU-T T.81; APP1 as in Exif 2.32 and the XMP specification, part 3."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from bot.core.containers import Header, Marks, damaged, exif, trailing, xmp

SIGNATURE: Final = b"\xff\xd8\xff"
MIME: Final = "image/jpeg"

_EXIF: Final = b"Exif\0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_SEGMENT: Final = 65_533  # bytes of a segment's body: its length field counts itself
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
# The next marker behind entropy-coded data: not a stuffed zero, a restart or a fill byte.
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def header(data: bytes) -> Header:
    """Sides from the frame header."""
    for kind, body, _ in _segments(data, lenient=True):
        if kind in _FRAMES and len(body) >= 5:
            height, width = struct.unpack(">HH", body[1:5])
            if width and height:
                return Header(MIME, width, height)
            break
    raise damaged("no frame header, or a side of 0")


def orientation(data: bytes) -> int:
    """Of the EXIF segment."""
    segments = _segments(data, lenient=True)
    bodies = (body for kind, body, _ in segments if kind == 0xE1 and body.startswith(_EXIF))
    return exif.read(next(bodies, b"")[len(_EXIF) :]).orientation


def bare(data: bytes) -> bytes:
    """Tables, frames and scans, with JFIF, the colour profile and Adobe's colour transform."""
    kept = [b"\xff\xd8"]
    kept.extend(raw for kind, body, raw in _segments(data) if _makes_pixels(kind, body))
    return b"".join(kept)


def mark(data: bytes, marks: Marks) -> bytes:
    """EXIF and XMP segments behind JFIF. A text that does not fit into one segment is cut or left out: the
    parameters are cut; of the XMP packet the recipe within it is given up, never the mark."""
    plain = bare(data)
    start = 2
    if plain[2:4] == b"\xff\xe0":
        start += 2 + struct.unpack(">H", plain[4:6])[0]
    packet = xmp.with_recipe(marks.xmp, marks.recipe)
    if len(_XMP) + len(packet) > _MAX_SEGMENT:
        packet = marks.xmp.encode()
    inserted = [_segment(_XMP + packet)] if packet else []
    if marks.parameters:
        comment = exif.write(marks.parameters, limit=_MAX_SEGMENT - len(_EXIF))
        inserted.insert(0, _segment(_EXIF + comment))
    return plain[:start] + b"".join(inserted) + plain[start:]


def texts(data: bytes) -> Marks:
    """EXIF's UserComment and the XMP packet."""
    comment, packet = "", ""
    for kind, body, _ in _segments(data, lenient=True):
        if kind == 0xE1 and body.startswith(_EXIF) and not comment:
            comment = exif.read(body[len(_EXIF) :]).comment
        elif kind == 0xE1 and body.startswith(_XMP) and not packet:
            packet = body[len(_XMP) :].decode("utf-8", "replace")
    return Marks(comment, xmp.recipe_in(packet), packet)


def _makes_pixels(kind: int, body: bytes) -> bool:
    if kind == 0xE2:
        return body.startswith(b"ICC_PROFILE\0")
    if 0xE0 <= kind <= 0xEF:
        return kind in (0xE0, 0xEE)
    return kind != 0xFE


def _segments(data: bytes, *, lenient: bool = False) -> Iterator[tuple[int, bytes, bytes]]:
    """(marker, body, whole bytes) up to the end marker; a scan's bytes hold its coded data too."""
    position = 2
    while position + 2 <= len(data) and data[position] == 0xFF:
        kind = data[position + 1]
        if kind == 0xFF:
            position += 1
            continue
        if kind == _END:
            yield kind, b"", b"\xff\xd9"
            if not lenient:
                _check_rest(data, position + 2)
            return
        end = _end_of(data, position, kind)
        if end is None:
            break
        yield kind, data[position + 4 : end[0]], data[position : end[1]]
        position = end[1]
    if not lenient:
        raise damaged(f"JPEG ends or breaks at byte {position}")


def _end_of(data: bytes, position: int, kind: int) -> tuple[int, int] | None:
    """Where a segment's body ends, and where its coded data does (the same, but for scans)."""
    if kind <= 0x01 or 0xD0 <= kind <= 0xD8 or position + 4 > len(data):
        return None
    (length,) = struct.unpack_from(">H", data, position + 2)
    end = position + 2 + length
    if length < 2 or end > len(data):
        return None
    if kind != _SCAN:
        return end, end
    following = _MARKER.search(data, end)
    return (end, following.start()) if following else None


def _check_rest(data: bytes, position: int) -> None:
    # Phones put further views of the same shot behind the first one (CIPA DC-007, "MPO"), or padding. Both
    # are dropped by bare(); anything else is another file in disguise.
    rest = data[position : position + 3]
    if rest != SIGNATURE and data[position:].strip(b"\0"):
        raise trailing()


def _segment(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
