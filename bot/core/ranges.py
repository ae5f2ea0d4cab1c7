"""The ranges of the numbers that people may ask for, and the one wording of every refusal of a number.

It knows names, limits and words; not where a number came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from bot.core.errors import InvalidRequest
from bot.core.request import MAX_SEED, Limits


@dataclass(frozen=True, slots=True)
class Range:
    """Inclusive bounds of one field of a request; flag: what people type; example: a usual value; tightened:
    the upper one is a guild's own; guild: what that is called."""

    field: str
    flag: str
    label: str
    low: float
    high: float
    example: float
    whole: bool = True
    multiple: int = 1
    tightened: bool = False
    guild: str = "server"

    def wanted(self) -> str:
        """The range in words: "a whole number from 1 to 150"."""
        kind = "a whole number" if self.whole else "a number"
        if self.multiple > 1:
            kind = f"a multiple of {self.multiple}"
        whose = f" (this {self.guild}'s limit)" if self.tightened else ""
        return f"{kind} from {number(self.low)} to {number(self.high)}{whose}"

    def suggestion(self) -> str:
        """A usual value as people type it, within the range: "--steps 30"."""
        return f"--{self.flag} {number(self.nearest(self.example))}"

    def nearest(self, value: float) -> float:
        """The allowed number next to `value`."""
        inside = min(max(value, self.low), self.high)
        if self.multiple > 1:
            inside = self.multiple * round(inside / self.multiple)
            inside += self.multiple * ((inside < self.low) - (inside > self.high))
        return inside

    def refusal(self, given: str, *, instead: float | None = None) -> InvalidRequest:
        """The error for what was `given`; instead: the value to propose."""
        way_out = self.suggestion() if instead is None else f"--{self.flag} {number(instead)}"
        return InvalidRequest(
            f"{self.label} must be {self.wanted()}, not {given}. Try {way_out}.", field=self.field
        )

    def check(self, value: float) -> None:
        """Raise InvalidRequest where `value` is outside or off the grid; NaN and infinities are outside."""
        on_grid = self.multiple == 1 or value % self.multiple == 0
        if not (self.low <= value <= self.high and on_grid):
            instead = None if value != value else self.nearest(value)
            raise self.refusal(_shown(value), instead=instead)


@lru_cache(maxsize=256)  # each request asks several times, and guilds' own limits are few
def ranges(limits: Limits) -> Mapping[str, Range]:
    """Field of ImageRequest -> its range."""
    low, high, multiple = limits.min_side, limits.max_side, limits.side_multiple
    table = (
        Range("steps", "steps", "Steps", limits.min_steps, limits.max_steps, 30),
        Range(
            "guidance_scale",
            "guidance",
            "Guidance",
            limits.min_guidance,
            limits.max_guidance,
            7.5,
            whole=False,
        ),
        Range("seed", "seed", "Seed", 0, MAX_SEED, 42),
        Range("count", "count", "Count", 1, limits.max_count, 4),
        Range("width", "width", "Width", low, high, 512, multiple=multiple),
        Range("height", "height", "Height", low, high, 512, multiple=multiple),
        Range("strength", "strength", "Strength", 0.01, 1, 0.6, whole=False),
    )
    guild = limits.nouns.guild
    return MappingProxyType(
        {
            entry.field: replace(entry, tightened=_limit(entry) in limits.tightened, guild=guild)
            for entry in table
        }
    )


def _limit(entry: Range) -> str:
    """The field of Limits that bounds it above."""
    return "max_side" if entry.field in ("width", "height") else f"max_{entry.field}"


def _shown(value: float) -> str:
    # Python refuses to print integers of thousands of digits, and nobody wants to read one.
    return "a number of that size" if abs(value) >= 1e18 and value != math.inf else number(value)


def number(value: float) -> str:
    """A number as people write and parse() reads it: "7.5", "30", "1048576"."""
    return repr(value).removesuffix(".0")
