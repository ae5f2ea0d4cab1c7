"""Picture sizes: the allowed size nearest to a wish, and the ratio that a size stands for.

It knows limits and arithmetic; not who asks nor what a model likes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from bot.core.errors import InvalidRequest
from bot.core.ranges import number
from bot.core.request import Limits
from bot.core.text import clip

AREA_TOLERANCE: Final = 0.05
"""How far the area may stray for the sake of a closer ratio, as a share."""

RATIO_TOLERANCE: Final = 0.05
"""How far the ratio may stray where no size has both, as a share."""

USUAL_RATIOS: Final = (
    (1, 1),
    (16, 9),
    (9, 16),
    (3, 2),
    (2, 3),
    (4, 3),
    (3, 4),
    (2, 1),
    (1, 2),
    (5, 4),
    (4, 5),
    (21, 9),
    (9, 21),
    (3, 1),
    (1, 3),
    (4, 1),
    (1, 4),
)


def nearest_size(ratio: float, area: float, limits: Limits, *, at_most: float = math.inf) -> tuple[int, int]:
    """The allowed (width, height) nearest to `ratio` (width / height) with about `area` pixels.

    Of the sizes whose area is within AREA_TOLERANCE that with the nearest ratio; where none is, the nearest
    area whose ratio is within RATIO_TOLERANCE. Sizes over `at_most` pixels only where there are no others.
    """
    wanted = min(max(ratio, 1 / limits.max_ratio), limits.max_ratio)
    long = max(wanted, 1 / wanted)
    area = max(min(area, limits.max_side**2 / long), limits.min_side**2 * long)

    def distance(size: tuple[int, int]) -> tuple[bool, float, float, float, float]:
        width, height = size
        bent = abs(math.log(width / height / wanted))
        stray = abs(math.log(width * height / area))
        too_bent, too_far = max(0.0, bent - RATIO_TOLERANCE), max(0.0, stray - AREA_TOLERANCE)
        return width * height > at_most, too_bent, too_far, bent, stray

    return min(_sizes(wanted, limits), key=distance)


def _sizes(ratio: float, limits: Limits) -> Iterator[tuple[int, int]]:
    """For every allowed width the heights on both sides of the ratio, as far as they are allowed."""
    step = limits.side_multiple
    first, last = -(-limits.min_side // step) * step, limits.max_side // step * step
    for width in range(first, last + 1, step):
        below = math.floor(width / ratio / step) * step
        for height in {min(max(below, first), last), min(max(below + step, first), last)}:
            if max(width, height) <= min(width, height) * limits.max_ratio:
                yield width, height


def check_ratio(width: int, height: int, limits: Limits, *, field: str) -> None:
    """Raise InvalidRequest where a side is over `limits.max_ratio` times the other, or not positive."""
    most = limits.max_ratio
    if min(width, height) >= 1 and max(width, height) <= min(width, height) * most:
        return
    shown = clip(f"{width}:{height}" if field == "aspect" else f"{width}×{height}", 40)
    longest = f"{number(most)}:1" if width >= height else f"1:{number(most)}"
    way_out = f"--ar {longest}"
    if field != "aspect":
        step, long = limits.side_multiple, max(width, height)
        short = -(-math.ceil(long / most) // step) * step
        way_out = f"--size {long}x{short}" if width >= height else f"--size {short}x{long}"
    raise InvalidRequest(
        f"The aspect ratio must be from 1:{number(most)} to {number(most)}:1, which {shown} is not. "
        f"Try {way_out}.",
        field=field,
    )


def ratio_name(width: int, height: int, area: float, limits: Limits) -> str:
    """ "16:9" where the size is what that ratio gives at `area` pixels, else "768×512"."""
    for across, down in USUAL_RATIOS:
        near = abs(math.log(width / height * down / across)) < 2 * RATIO_TOLERANCE
        if near and nearest_size(across / down, area, limits) == (width, height):
            return f"{across}:{down}"
    return f"{width}×{height}"
