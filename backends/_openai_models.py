"""What OpenAI's image models take and cost. Data, and the arithmetic of sizes and prices; no I/O.

Sources: OpenAI's image generation guide, model pages and price list, as of November 2026. Prices are US
dollars; those per picture are for the text of a short prompt, and an answer with `usage` is charged by that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from backends._answers import number
from bot.core.ports import Price
from bot.core.request import JSON

Size = tuple[int, int]

_STEP: Final = 16
_MIN_PIXELS: Final = 655_360
_MAX_PIXELS: Final = 8_294_400
_MAX_SIDE: Final = 3840
_MAX_RATIO: Final = 3.0
_DATE: Final = re.compile(r"-20\d\d-\d\d-\d\d\Z")


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens."""

    text: float
    image: float
    output: float

    def of(self, usage: Mapping[str, JSON]) -> float | None:
        """The price of an answer's `usage`; None where that does not say enough."""
        details = usage.get("input_tokens_details")
        image = _count(details.get("image_tokens")) if isinstance(details, Mapping) else None
        given, made = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
        if given is None or made is None:
            return None
        image = min(image or 0, given)
        return (self.text * (given - image) + self.image * image + self.output * made) / 1e6


@dataclass(frozen=True, slots=True)
class Known:
    """One model of OpenAI's. sizes: all it makes, empty for any multiple of 16 within its limits; prices: of
    a picture by quality, for its square and its other sizes; most: pictures in one call; gpt: of the GPT
    Image family: base64 alone, streams, takes pictures to edit; retired: when OpenAI shut it down."""

    title: str
    sizes: tuple[Size, ...]
    prices: Mapping[str, tuple[float, float]]
    quality: str
    rates: Rates | None = None
    most: int = 10
    gpt: bool = True
    retired: str = ""
    more_qualities: tuple[str, ...] = field(default=())

    @property
    def qualities(self) -> tuple[str, ...]:
        """What ;quality= may be."""
        return (*self.prices, *self.more_qualities)

    def price_of(self, quality: str, size: Size) -> float | None:
        """What a picture costs, where it is known; that of a free size is an upper end."""
        if (pair := self.prices.get(quality)) is None:
            return None
        if not self.sizes:
            # Tokens grow far slower than the area: 1.76 times from 1 to 7 megapixels at high quality.
            return max(pair) * (1 + 0.15 * max(0.0, size[0] * size[1] / 2**20 - 1))
        if len(self.prices) == 1 and not self.gpt:
            return _DALL_E_2[size]
        return pair[0] if size[0] == size[1] else pair[1]

    def price(self, quality: str) -> Price | None:
        """The price for estimates and caps: the most that a picture costs; None where it is not known."""
        if (pair := self.prices.get(quality)) is None:
            return None
        most = max(pair)
        return Price(per_image=most) if self.sizes else Price(most, per_megapixel=0.15 * most)


_DALL_E_2: Final[Mapping[Size, float]] = {(256, 256): 0.016, (512, 512): 0.018, (1024, 1024): 0.02}
_THREE: Final[tuple[Size, ...]] = ((1024, 1024), (1536, 1024), (1024, 1536))
_GPT_2: Final = Rates(5.0, 8.0, 30.0)
_GPT_2_PRICES: Final = {"low": (0.006, 0.006), "medium": (0.053, 0.053), "high": (0.211, 0.211)}
_GPT_15: Final = Rates(5.0, 8.0, 32.0)
_GPT_15_PRICES: Final = {"low": (0.009, 0.013), "medium": (0.034, 0.05), "high": (0.133, 0.2)}


def _later(title: str) -> Known:
    """GPT Image 2.5 and 2.6: the rates of 2; fewer tokens a picture, so that 2's prices are an upper end."""
    return Known(title, (), _GPT_2_PRICES, "medium", _GPT_2, more_qualities=("xhigh", "max"))


KNOWN: Final[Mapping[str, Known]] = MappingProxyType(
    {
        "gpt-image-2.6-sunburst": _later("GPT Image 2.6 Sunburst"),
        "gpt-image-2.6-flare": _later("GPT Image 2.6 Flare"),
        "gpt-image-2.5-sunburst": _later("GPT Image 2.5 Sunburst"),
        "gpt-image-2.5-flare": _later("GPT Image 2.5 Flare"),
        "gpt-image-2": Known("GPT Image 2", (), _GPT_2_PRICES, "medium", _GPT_2),
        "gpt-image-1.5": Known("GPT Image 1.5", _THREE, _GPT_15_PRICES, "medium", _GPT_15),
        "chatgpt-image-latest": Known("ChatGPT Image", _THREE, _GPT_15_PRICES, "medium", _GPT_15),
        "gpt-image-1-mini": Known(
            "GPT Image 1 mini",
            _THREE,
            {"low": (0.005, 0.006), "medium": (0.011, 0.015), "high": (0.036, 0.052)},
            "medium",
            Rates(2.0, 2.5, 8.0),
        ),
        "gpt-image-1": Known(
            "GPT Image 1",
            _THREE,
            {"low": (0.011, 0.016), "medium": (0.042, 0.063), "high": (0.167, 0.25)},
            "medium",
            Rates(5.0, 10.0, 40.0),
            retired="on 23 October 2026",
        ),
        "dall-e-3": Known(
            "DALL·E 3",
            ((1024, 1024), (1792, 1024), (1024, 1792)),
            {"standard": (0.04, 0.08), "hd": (0.08, 0.12)},
            "standard",
            most=1,
            gpt=False,
            retired="on 12 May 2026",
        ),
        "dall-e-2": Known(
            "DALL·E 2",
            tuple(_DALL_E_2),
            {"standard": (0.02, 0.02)},
            "standard",
            gpt=False,
            retired="on 12 May 2026",
        ),
    }
)


def known(model: str) -> Known | None:
    """What is known of a model, dated snapshots included.

    >>> known("gpt-image-2-2026-04-21").title
    'GPT Image 2'
    """
    return KNOWN.get(_DATE.sub("", model))


def nearest(sizes: Sequence[Size], width: int, height: int) -> Size:
    """Of a list, the size that is asked for in place of width x height: that with the nearest ratio, of those
    one that is at least as large, of those the nearest area."""

    def distance(size: Size) -> tuple[float, bool, float]:
        bent = abs(math.log(size[0] / size[1] * height / width))
        small = size[0] < width or size[1] < height
        return round(bent, 6), small, abs(math.log(size[0] * size[1] / (width * height)))

    return min(sizes, key=distance)


def free_size(width: int, height: int) -> Size:
    """The size that a model with free sizes is asked for, to be cut or scaled to width x height: the least
    one that covers it, larger where it would have too few pixels, up to 3:1.

    >>> free_size(512, 512), free_size(1024, 1024), free_size(2048, 512)
    ((816, 816), (1024, 1024), (2048, 688))
    """
    wide, high = float(width), float(height)
    wide, high = max(wide, high / _MAX_RATIO), max(high, wide / _MAX_RATIO)
    scale = max(1.0, math.sqrt(_MIN_PIXELS / (wide * high)))
    scale = min(scale, _MAX_SIDE / max(wide, high), math.sqrt(_MAX_PIXELS / (wide * high)))
    size = (_up(wide * scale), _up(high * scale))
    if max(size) > _MAX_RATIO * min(size):  # rounding the longer side up may have passed 3:1
        size = (_up(max(size[0], size[1] / _MAX_RATIO)), _up(max(size[1], size[0] / _MAX_RATIO)))
    return size


def _up(side: float) -> int:
    return math.ceil(round(side / _STEP, 6)) * _STEP


def _count(value: JSON) -> int | None:
    found = number(value, 0, 10**12)
    return int(found) if found is not None and isinstance(value, int) else None
