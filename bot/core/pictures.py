"""Pictures: checked when they come in, made to fit when they go out. The one door to everything about them.

All functions are synchronous and take milliseconds to seconds of CPU: callers on an event loop run them in a
thread. Nothing here knows a platform or a backend, and nothing changes a global of the image library.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Final

from PIL import Image as Raster
from PIL import ImageOps

from bot.core.containers import Marks, container, damaged, xmp
from bot.core.errors import InvalidRequest, ProtocolError, Refused
from bot.core.picturefiles import is_ours, is_picture_name, picture_name, write_file
from bot.core.recipe import make_recipe, recipe_options
from bot.core.request import Image, Limits
from bot.core.stamps import Found, alt_text, marks_in, read_recipe, stamp, with_marks

__all__ = [
    "Found",
    "alt_text",
    "as_type",
    "check_image",
    "contact_sheet",
    "exact_size",
    "fit_to_bytes",
    "is_ours",
    "is_picture_name",
    "make_recipe",
    "mime_of",
    "picture_name",
    "read_recipe",
    "recipe_options",
    "size_of",
    "stamp",
    "thumbnail",
    "write_file",
]

_MAX_PIXELS: Final = 8192 * 8192  # of a picture of our own; a backend that answers more is not believed
_FORMATS: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_QUALITIES: Final = (92, 75, 50)
_SHRINK: Final = 0.75
_MIN_SIDE: Final = 64
# Modes that every backend and encoder here takes; others (CMYK, 16 bits, palettes) become RGB or RGBA.
_MODES: Final = frozenset({"RGB", "RGBA", "L"})
_GROUND: Final = (255, 255, 255)
_UPRIGHT: Final = {
    2: Raster.Transpose.FLIP_LEFT_RIGHT,
    3: Raster.Transpose.ROTATE_180,
    4: Raster.Transpose.FLIP_TOP_BOTTOM,
    5: Raster.Transpose.TRANSPOSE,
    6: Raster.Transpose.ROTATE_270,
    7: Raster.Transpose.TRANSVERSE,
    8: Raster.Transpose.ROTATE_90,
}


def mime_of(data: bytes) -> str:
    """image/png, image/jpeg or image/webp, by the first bytes; InvalidRequest for anything else."""
    return str(container(data).MIME)


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height from the header, as stored; InvalidRequest where there is none."""
    header = container(data).header(data)
    return header.width, header.height


# --- coming in --------------------------------------------------------------------------------------------


def check_image(data: bytes, *, limits: Limits) -> Image:
    """A picture from outside as a whole, upright, still picture without any other data (places, comments).

    Size and sides are checked before anything is decoded. Raises InvalidRequest alone, with the way out.
    """
    if len(data) > limits.max_image_bytes:
        most = limits.max_image_bytes // 1024**2
        raise InvalidRequest(f"The picture is over {most} MB. Send a smaller one.", field="image")
    width, height = size_of(data)
    if width * height > limits.max_image_pixels:
        raise InvalidRequest(_too_large(width, height, limits.max_image_pixels), field="image")
    module = container(data)
    turn = _UPRIGHT.get(module.orientation(data))
    plain: bytes = module.bare(data)
    raster = _decoded(plain)
    if turn is not None or raster.mode not in _MODES:
        raster = _plain_mode(raster if turn is None else raster.transpose(turn))
        plain = _encoded(raster, module.MIME, quality=95)
    return Image(plain, module.MIME, raster.width, raster.height)


def _too_large(width: int, height: int, most: int) -> str:
    side = math.isqrt(most)
    return (
        f"The picture has {width:,} × {height:,} pixels; at most {most:,} ({side:,} × {side:,}) are allowed. "
        "Send a smaller one."
    )


def _decoded(data: bytes) -> Raster.Image:
    """Pixels of a bare file."""
    try:
        raster = Raster.open(io.BytesIO(data), formats=list(_FORMATS.values()))
        raster.load()
    except MemoryError:
        raise
    except Exception as error:
        # Decoders fail on hostile bytes with whatever they stumble over; the library names no closed set.
        raise damaged(repr(error)) from error
    return raster


# --- a backend's answer -----------------------------------------------------------------------------------


def exact_size(data: bytes, width: int, height: int) -> bytes:
    """A backend's picture at exactly width x height pixels.

    The same bytes where it is so already, else a PNG, scaled (Lanczos) to cover and cut evenly at both ends.
    Raises ProtocolError where the backend's answer is not a whole picture.
    """
    try:
        raster = _own(data)
    except InvalidRequest as error:
        raise ProtocolError(
            "The backend answered something that is not a picture.", detail=f"{error.message} {error.detail}"
        ) from error
    if raster.size == (width, height):
        return data
    return _encoded(_fitted(raster, width, height), "image/png")


def _own(data: bytes) -> Raster.Image:
    """Pixels of a result, of a mode that can be scaled and encoded."""
    width, height = size_of(data)
    if width * height > _MAX_PIXELS:
        raise InvalidRequest(_too_large(width, height, _MAX_PIXELS), field="image")
    return _plain_mode(_decoded(container(data).bare(data)))


def _fitted(raster: Raster.Image, width: int, height: int) -> Raster.Image:
    return ImageOps.fit(raster, (width, height), Raster.Resampling.LANCZOS)


# --- going out --------------------------------------------------------------------------------------------


def fit_to_bytes(data: bytes, limit: int, *, mime: str = "image/webp") -> tuple[bytes, str]:
    """A picture of ours in at most `limit` bytes, and its type: as it is where that fits, else as `mime`
    (image/webp or image/jpeg) with falling quality, then with smaller sides.

    Recipe, mark and alt text come along. Raises Refused where not even 64 pixels fit.
    """
    if len(data) <= limit:
        return data, mime_of(data)
    marks = marks_in(data)
    raster = _own(data)
    for quality in _QUALITIES:
        smaller = with_marks(_encoded(raster, mime, quality=quality), marks)
        if len(smaller) <= limit:
            return smaller, mime
    while min(raster.size) > _MIN_SIDE:
        # Bytes go with the area, roughly; a large picture is slow to encode, so big steps are taken at once.
        factor = min(_SHRINK, math.sqrt(max(limit, 1) / len(smaller)))
        raster = _scaled(raster, max(factor, _MIN_SIDE / min(raster.size)))
        smaller = with_marks(_encoded(raster, mime, quality=_QUALITIES[-1]), marks)
        if len(smaller) <= limit:
            return smaller, mime
    raise Refused(f"No form of the picture fits into {limit:,} bytes.")


def as_type(data: bytes, mime: str, *, quality: int = 95) -> bytes:
    """A picture of ours as image/png, image/jpeg or image/webp, with its recipe, mark and alt text; the same
    bytes where it is that already. quality: 1 to 100, for JPEG and WebP."""
    if mime_of(data) == mime:
        return data
    return with_marks(_encoded(_own(data), mime, quality=quality), marks_in(data))


def thumbnail(data: bytes, side: int) -> bytes:
    """A JPEG of a picture of ours with no side over `side` pixels, its recipe and mark kept."""
    raster = _own(data)
    return with_marks(_encoded(_within(raster, side, side), "image/jpeg", quality=85), marks_in(data))


def contact_sheet(pictures: Sequence[bytes], *, max_side: int = 512) -> bytes:
    """One JPEG that shows all pictures (at least one) in reading order, no side over `max_side` pixels.

    It carries the mark of synthetic pictures, and no recipe.
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    gap = 0 if len(pictures) == 1 else max(2, max_side // 128)
    cell = (max_side - gap * (columns - 1)) // columns
    tiles = [_within(_own(data), cell, cell) for data in pictures]
    wide, high = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    size = (columns * wide + gap * (columns - 1), rows * high + gap * (rows - 1))
    sheet = Raster.new("RGB", size, _GROUND)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        left = column * (wide + gap) + (wide - tile.width) // 2
        sheet.paste(_opaque(tile), (left, row * (high + gap) + (high - tile.height) // 2))
    what = "Generated picture" if len(pictures) == 1 else f"{len(pictures)} generated pictures"
    return with_marks(
        _encoded(sheet, "image/jpeg", quality=85), Marks(xmp=xmp.packet(tool="Fairbrush", alt_text=what))
    )


# --- pixels -----------------------------------------------------------------------------------------------


def _plain_mode(raster: Raster.Image) -> Raster.Image:
    if raster.mode in _MODES:
        return raster
    if raster.mode.startswith("I"):
        # 16 bits: convert() would clip instead of scaling.
        return raster.convert("I").point(lambda value: value / 257).convert("L")
    converted = raster.convert("RGBA" if raster.has_transparency_data else "RGB")
    if raster.mode != "P":
        converted.info.pop("icc_profile", None)  # it describes CMYK or grey
    return converted


def _scaled(raster: Raster.Image, factor: float) -> Raster.Image:
    size = (max(1, round(raster.width * factor)), max(1, round(raster.height * factor)))
    return raster.resize(size, Raster.Resampling.LANCZOS)


def _within(raster: Raster.Image, width: int, height: int) -> Raster.Image:
    return _scaled(raster, min(1.0, width / raster.width, height / raster.height))


def _opaque(raster: Raster.Image) -> Raster.Image:
    """RGB or grey, on white: JPEG knows no transparency."""
    if raster.mode != "RGBA":
        return raster
    ground = Raster.new("RGB", raster.size, _GROUND)
    ground.paste(raster, mask=raster.getchannel("A"))
    return ground


def _encoded(raster: Raster.Image, mime: str, *, quality: int = 95) -> bytes:
    """quality: 0 to 100, for JPEG and WebP."""
    buffer = io.BytesIO()
    profile = raster.info.get("icc_profile")
    if mime == "image/png":
        raster.save(buffer, "PNG", icc_profile=profile)
    elif mime == "image/jpeg":
        _opaque(raster).save(buffer, "JPEG", quality=quality, icc_profile=profile, optimize=True)
    else:
        raster.save(buffer, "WEBP", quality=quality, method=2, icc_profile=profile)
    return buffer.getvalue()
