"""Pictures that hosted services answer with: believed only as far as their bytes go."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import pytest
from PIL import Image

from backends._http import checked_picture, decoded_picture
from bot.core.errors import ProtocolError
from tests.fakes.backend import flat_png

PNG = flat_png(16, 16, 5)


def encoded(kind: str, **how: object) -> bytes:
    """A small picture in a format."""
    data = io.BytesIO()
    Image.new("RGB", (12, 10), (9, 99, 199)).save(data, kind, **how)
    return data.getvalue()


def huge_png() -> bytes:
    """A PNG whose header claims 50,000 x 50,000 pixels."""
    body = b"IHDR" + struct.pack(">II", 50_000, 50_000) + PNG[24:29]
    return PNG[:12] + body + struct.pack(">I", zlib.crc32(body)) + PNG[33:]


def animation() -> bytes:
    """A WebP that moves."""
    data = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 200)]
    frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:], duration=50)
    return data.getvalue()


@pytest.mark.parametrize(
    ("kind", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_a_whole_picture_is_known_by_its_bytes(kind: str, mime: str) -> None:
    assert checked_picture(encoded(kind)) == mime
    text = base64.b64encode(encoded(kind)).decode()
    assert decoded_picture(text) == (encoded(kind), mime)
    assert decoded_picture(f"data:image/png;base64,{text[:10]}\n{text[10:]}")[1] == mime


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html></html>",
        b"GIF89a" + bytes(40),
        PNG[:-5],
        PNG[:20],
        PNG + b"<script>alert(1)</script>",
        encoded("JPEG") + b"PK\x03\x04 and a zip",
        encoded("JPEG")[:-30],
        encoded("WEBP")[:-3],
        encoded("WEBP") + b"more",
        huge_png(),
        animation(),
        PNG + bytes(20 * 2**20),
    ],
    ids=lambda data: f"{data[:6]!r}{len(data)}",
)
def test_what_is_not_one_whole_still_picture_is_refused_undecoded(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        checked_picture(data)
    assert caught.value.accepted is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no base64!",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:text/html,<b>",
        "http://x/",
        "AAAA",
        "A" * (31 * 2**20),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_that_holds_no_picture_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        decoded_picture(text)
