"""The twelve colours of the training scenes, and which of them a pixel is.

Knows no shapes and no captions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RGB = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

COLOURS: dict[str, RGB] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (250, 215, 40),
    "orange": (245, 135, 30),
    "purple": (130, 50, 170),
    "pink": (250, 140, 190),
    "cyan": (40, 205, 220),
    "brown": (120, 75, 40),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "gray": (140, 140, 140),
}
NAMES: tuple[str, ...] = tuple(COLOURS)


def distance(pixels: Pixels, colour: RGB) -> Floats:
    """Euclidean RGB distance of every pixel (..., 3) to one colour, as (...)."""
    difference = pixels.astype(np.float32) - np.asarray(colour, dtype=np.float32)
    lengths: Floats = np.sqrt((difference * difference).sum(axis=-1))
    return lengths


def nearest(colour: npt.ArrayLike) -> str:
    """The palette name nearest to one RGB colour."""
    table = np.asarray(list(COLOURS.values()), dtype=np.float32)
    gaps = ((table - np.asarray(colour, dtype=np.float32)) ** 2).sum(axis=1)
    return NAMES[int(gaps.argmin())]
