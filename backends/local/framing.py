"""Between the sizes asked and the sizes made: fit pictures, read what was sent, encode what goes out."""

from __future__ import annotations

import io

from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from bot.core.errors import InvalidRequest
from bot.core.request import Image

_PNG_LEVEL = 4  # 6 takes twice as long for 3 % fewer bytes


def cover(picture: Pillow.Image, width: int, height: int) -> Pillow.Image:
    """Scaled to cover width x height, the middle cut out of it; itself where it fits already.

    By Lanczos; masks by area, which does not ring, so that black stays black.
    """
    if picture.size == (width, height):
        return picture
    method = Pillow.Resampling.BOX if picture.mode == "L" else Pillow.Resampling.LANCZOS
    return ImageOps.fit(picture, (width, height), method)


def open_picture(image: Image, width: int, height: int, *, field: str) -> Pillow.Image:
    """A picture that was sent, as RGB (a mask: as L) of the given size. Raises InvalidRequest."""
    try:
        with Pillow.open(io.BytesIO(image.data)) as picture:
            upright = ImageOps.exif_transpose(picture)
            return cover(upright.convert("L" if field == "mask_image" else "RGB"), width, height)
    except (UnidentifiedImageError, OSError, ValueError, Pillow.DecompressionBombError) as error:
        text = "The attached picture cannot be read. Send a PNG, JPEG or WebP."
        raise InvalidRequest(text, field=field, detail=str(error)) from error


def keep_unmasked(made: Pillow.Image, original: Pillow.Image, mask: Pillow.Image) -> Pillow.Image:
    """The original where the mask is black, exactly; what was made where it is white."""
    return Pillow.composite(made, original, mask)


def png(picture: Pillow.Image) -> bytes:
    """An encoded picture without metadata."""
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=_PNG_LEVEL)
    return data.getvalue()
