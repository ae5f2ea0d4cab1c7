"""Connected regions of a mask, and how well a region fills the outline of a shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from training.palette import Mask
from training.shapes import template

SIDE = 64


@dataclass(frozen=True, slots=True)
class Region:
    """A connected region: its mask within its box, and the box in pixels (end exclusive)."""

    mask: Mask
    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return int(self.mask.sum())

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def x(self) -> float:
        """Middle of the box."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """Middle of the box."""
        return (self.top + self.bottom) / 2

    def moved(self, x: int, y: int) -> Region:
        """The region with its box shifted."""
        right, bottom = self.right + x, self.bottom + y
        return Region(self.mask, self.left + x, self.top + y, right, bottom)


def regions(mask: Mask, least: float) -> list[Region]:
    """The 4-connected regions of at least `least` pixels, largest first."""
    labels, _ = ndimage.label(mask)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[rows, columns] == number
        if part.sum() >= least:
            found.append(Region(part, columns.start, rows.start, columns.stop, rows.stop))
    return sorted(found, key=lambda region: -region.area)


def opened(mask: Mask) -> Mask:
    """The mask without whatever is thinner than three pixels, such as blended edges."""
    result: Mask = ndimage.binary_opening(mask, np.ones((3, 3), dtype=np.bool_))
    return result


GROWTHS = (0.0, 0.03, 0.06, 0.1)


def overlap(region: Region, shape: str) -> float:
    """Best intersection over union of a region with a shape stretched to the region's box.

    The box is also tried somewhat larger, since a star or a triangle whose tips are blurred away
    has a smaller box than the outline it fills.
    """
    wanted = np.asarray(template(shape, SIDE)) > 127
    return max(_overlap(region, wanted, growth) for growth in GROWTHS)


def _overlap(region: Region, wanted: Mask, growth: float) -> float:
    wide, high = round(growth * region.width), round(growth * region.height)
    padded = np.pad(region.mask, ((high, high), (wide, wide))).astype(np.uint8) * 255
    stretched = Image.fromarray(padded).resize((SIDE, SIDE), Image.Resampling.BOX)
    seen = np.asarray(stretched) > 127
    return float((seen & wanted).sum() / (seen | wanted).sum())
