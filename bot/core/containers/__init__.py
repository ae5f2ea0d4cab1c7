"""PNG, JPEG and WebP files taken apart and put together again as bytes, without touching their pixels.

Each of `png`, `jpeg` and `webp` offers the same functions:

    header(data) -> Header        sides from the header alone, whatever follows it
    orientation(data) -> int      EXIF's 1 to 8; 1 where there is none
    bare(data) -> bytes           only what makes the pixels: no comments, places, previews or files behind
    mark(data, marks) -> bytes    bare(data) with our marks
    texts(data) -> Marks          the marks found, "" where there is none

`bare` and `mark` raise InvalidRequest for bytes that are not one such file, whole and still. `texts` is
lenient, since a picture whose end was cut may still tell its recipe. No decoder is used here, so hostile
pixels do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Final

from bot.core.errors import InvalidRequest

MAX_TEXT: Final = 1024 * 1024
"""Bytes of one text inside a picture, after decompression; longer ones are not read."""

WAY_OUT: Final = "Save it again as a PNG, JPEG or WebP and try once more."


@dataclass(frozen=True, slots=True)
class Header:
    """What a file's header says; sides as stored (before its orientation is applied), in pixels."""

    mime: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Marks:
    """Texts inside a picture. parameters: A1111's; recipe: our JSON; xmp: an XMP packet."""

    parameters: str = ""
    recipe: str = ""
    xmp: str = ""


def damaged(why: str) -> InvalidRequest:
    """The error for a file that breaks its format's rules; `why` is for the log."""
    return InvalidRequest(f"The picture is damaged or incomplete. {WAY_OUT}", detail=why, field="image")


def animated() -> InvalidRequest:
    """The error for moving pictures."""
    return InvalidRequest("The picture is animated. Send a single still picture.", field="image")


def trailing() -> InvalidRequest:
    """The error for a file with something else behind the picture."""
    return InvalidRequest(f"The file holds more than a picture. {WAY_OUT}", field="image")


def container(data: bytes) -> ModuleType:
    """The module that reads `data`, by its first bytes. InvalidRequest names what else it seems to be."""
    from bot.core.containers import jpeg, png, webp

    if data.startswith(png.SIGNATURE):
        return png
    if data.startswith(jpeg.SIGNATURE):
        return jpeg
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return webp
    raise InvalidRequest(f"{_guess(data)} {WAY_OUT}", field="image")


def _guess(data: bytes) -> str:
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return "The file is empty."
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return "SVG drawings are not supported."
    if start.startswith(b"gif8"):
        return "GIF is not supported."
    if data[4:8] == b"ftyp":
        return "HEIC, AVIF and videos are not supported."
    return "The file is not a PNG, JPEG or WebP picture."
