"""WebP as bytes. Source: the WebP container specification (RFC 9649)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from bot.core.containers import MAX_TEXT, Header, Marks, animated, damaged, exif, trailing, xmp

MIME: Final = "image/webp"

_PIXELS: Final = frozenset({b"ICCP", b"ALPH", b"VP8 ", b"VP8L"})
_ANIMATION, _XMP, _EXIF, _ALPHA, _ICC = 0x02, 0x04, 0x08, 0x10, 0x20


def header(data: bytes) -> Header:
    """Sides from VP8X, else from the bit stream: the first of them is what a decoder allocates."""
    for kind, body in _chunks(data, lenient=True):
        if kind in _SIZES:
            width, height = _SIZES[kind](body)
            if width and height:
                return Header(MIME, width, height)
            break
    raise damaged("no WebP bit stream, or a side of 0")


def orientation(data: bytes) -> int:
    """Of the EXIF chunk."""
    bodies = (body for kind, body in _chunks(data, lenient=True) if kind == b"EXIF")
    return exif.read(next(bodies, b"").removeprefix(b"Exif\0\0")).orientation


def bare(data: bytes) -> bytes:
    """The bit stream, its alpha plane and colour profile."""
    return _assemble(_pixel_chunks(data))


def mark(data: bytes, marks: Marks) -> bytes:
    """EXIF and XMP chunks behind the pixels, where the specification wants them."""
    chunks = _pixel_chunks(data)
    if marks.parameters:
        chunks.append((b"EXIF", exif.write(marks.parameters, limit=MAX_TEXT)))
    packet = xmp.with_recipe(marks.xmp, marks.recipe)
    if packet:
        chunks.append((b"XMP ", packet))
    return _assemble(chunks)


def texts(data: bytes) -> Marks:
    """EXIF's UserComment and the XMP packet."""
    comment, packet = "", ""
    for kind, body in _chunks(data, lenient=True):
        if kind == b"EXIF" and not comment:
            comment = exif.read(body.removeprefix(b"Exif\0\0")).comment
        elif kind == b"XMP " and not packet:
            packet = body[:MAX_TEXT].decode("utf-8", "replace")
    return Marks(comment, xmp.recipe_in(packet), packet)


def _chunks(data: bytes, *, lenient: bool = False) -> Iterator[tuple[bytes, bytes]]:
    end = 8 + struct.unpack_from("<I", data, 4)[0] if len(data) >= 12 else 0
    position = 12
    while position + 8 <= min(end, len(data)):
        kind, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if len(body) < length:
            break
        yield kind, body
        position += 8 + length + length % 2
    if lenient:
        return
    if position != end or end > len(data):
        raise damaged(f"WebP ends or breaks at byte {position}")
    if len(data) > end:
        raise trailing()


def _pixel_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    kept = []
    sizes = set()
    for kind, body in _chunks(data):
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and body[:1] and body[0] & _ANIMATION):
            raise animated()
        if kind in _SIZES:
            sizes.add(_SIZES[kind](body))
        if kind in _PIXELS:
            kept.append((kind, body))
    if len(sizes) != 1 or 0 in sum(sizes, ()) or not any(kind in (b"VP8 ", b"VP8L") for kind, _ in kept):
        raise damaged(f"no picture, or canvas and stream differ: {sizes}")
    return kept


def _assemble(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A file of these chunks, with the VP8X header that they need."""
    kinds = {kind for kind, _ in chunks}
    flags = _XMP * (b"XMP " in kinds) | _EXIF * (b"EXIF" in kinds) | _ICC * (b"ICCP" in kinds)
    flags |= _ALPHA * (b"ALPH" in kinds or any(kind == b"VP8L" and _has_alpha(body) for kind, body in chunks))
    if flags:
        width, height = next(_SIZES[kind](body) for kind, body in chunks if kind in _SIZES)
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks = [(b"VP8X", bytes((flags, 0, 0, 0)) + sides), *chunks]
    content = b"WEBP" + b"".join(_chunk(kind, body) for kind, body in chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _has_alpha(body: bytes) -> bool:
    return len(body) >= 5 and bool(body[4] & 0x10)


def _canvas(body: bytes) -> tuple[int, int]:
    if len(body) < 10:
        raise damaged("short VP8X")
    return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1


def _lossy(body: bytes) -> tuple[int, int]:
    if len(body) < 10 or body[3:6] != b"\x9d\x01\x2a":
        raise damaged("no VP8 key frame")
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless(body: bytes) -> tuple[int, int]:
    if len(body) < 5 or body[0] != 0x2F:
        raise damaged("no VP8L signature")
    (bits,) = struct.unpack_from("<I", body, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_SIZES: Final = {b"VP8X": _canvas, b"VP8 ": _lossy, b"VP8L": _lossless}
