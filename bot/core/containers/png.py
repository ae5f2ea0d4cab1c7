"""PNG as bytes. Source: the PNG specification, third edition (W3C, 2025)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from bot.core.containers import MAX_TEXT, Header, Marks, animated, damaged, exif, trailing

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MIME: Final = "image/png"

_CRITICAL: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_COLOUR: Final = frozenset({b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"bKGD", b"pHYs"})
_XMP: Final = "XML:com.adobe.xmp"


def header(data: bytes) -> Header:
    """Sides from IHDR, which is always first."""
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":
        raise damaged("no IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    if not width or not height:
        raise damaged("a side of 0")
    return Header(MIME, width, height)


def orientation(data: bytes) -> int:
    """Of the eXIf chunk."""
    bodies = (body for kind, body in _chunks(data, lenient=True) if kind == b"eXIf")
    return exif.read(next(bodies, b"")).orientation


def bare(data: bytes) -> bytes:
    """Critical chunks and those of colour, as they are."""
    kept = [SIGNATURE]
    for kind, body in _chunks(data):
        if kind == b"acTL":
            raise animated()
        if kind in _CRITICAL or kind in _COLOUR:
            kept.append(_chunk(kind, body))
        elif kind[:1].isupper():
            raise damaged(f"unknown critical chunk {kind!r}")
    return b"".join(kept)


def mark(data: bytes, marks: Marks) -> bytes:
    """Marks go right behind IHDR, where readers that stop at the pixels still find them."""
    header(data)
    plain = bare(data)
    end = len(SIGNATURE) + 8 + 13 + 4
    texts = [("parameters", marks.parameters), ("fairbrush", marks.recipe), (_XMP, marks.xmp)]
    inserted = b"".join(_text_chunk(keyword, text) for keyword, text in texts if text)
    return plain[:end] + inserted + plain[end:]


def texts(data: bytes) -> Marks:
    """The first text of each keyword, from tEXt, zTXt and iTXt."""
    found: dict[str, str] = {}
    wanted = {"parameters", "fairbrush", _XMP}
    for kind, body in _chunks(data, lenient=True):
        keyword = body[:80].partition(b"\0")[0].decode("latin-1")
        if kind in _READERS and keyword in wanted and keyword not in found:
            text = _READERS[kind](body[len(keyword) + 1 :])
            if text:
                found[keyword] = text
    return Marks(found.get("parameters", ""), found.get("fairbrush", ""), found.get(_XMP, ""))


def _chunks(data: bytes, *, lenient: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Chunks up to IEND, with right checksums. lenient: ends quietly at the first fault."""
    position = len(SIGNATURE)
    view = memoryview(data)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        body = view[position + 4 : end - 4]
        if zlib.crc32(body) != struct.unpack_from(">I", data, end - 4)[0]:
            break
        kind = bytes(body[:4])
        yield kind, bytes(body[4:])
        if kind == b"IEND":
            if end != len(data) and not lenient:
                raise trailing()
            return
        position = end
    if not lenient:
        raise damaged(f"PNG ends or breaks at byte {position}")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _text_chunk(keyword: str, text: str) -> bytes:
    """tEXt where Latin-1 suffices, as A1111 writes it, else iTXt; XMP is always iTXt (its part 3)."""
    name = keyword.encode("latin-1")
    if keyword != _XMP:
        try:
            return _chunk(b"tEXt", name + b"\0" + text.encode("latin-1"))
        except UnicodeEncodeError:
            pass  # beyond Latin-1
    return _chunk(b"iTXt", name + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))


def _plain(body: bytes) -> str:
    return body[:MAX_TEXT].decode("latin-1")


def _compressed(body: bytes) -> str:
    return _inflate(body[1:]).decode("latin-1") if body[:1] == b"\0" else ""


def _international(body: bytes) -> str:
    flags, rest = body[:2], body[2:]
    _, _, rest = rest.partition(b"\0")  # language
    _, _, text = rest.partition(b"\0")  # translated keyword
    if flags == b"\1\0":
        text = _inflate(text)
    elif flags[:1] != b"\0":
        return ""
    return text[:MAX_TEXT].decode("utf-8", "replace")


def _inflate(body: bytes) -> bytes:
    """At most MAX_TEXT bytes; b"" for broken or larger content: a bomb is not worth a part of it."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(body, MAX_TEXT)
    except zlib.error:
        return b""
    return b"" if inflater.unconsumed_tail else text


_READERS: Final = {b"tEXt": _plain, b"zTXt": _compressed, b"iTXt": _international}
