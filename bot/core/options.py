"""What a person asked for, as far as they said it: the common form of typed text, forms and stored recipes.

It knows no limits and no defaults; resolve.py turns options into requests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from bot.core.errors import InvalidRequest
from bot.core.request import JSON

_SOURCE: Final = re.compile(r"[0-9A-Z]{8}(?: #[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Options:
    """What was said; None is "not said". Any number may be out of range still.

    prompt: may hold `{a, b}` permutations, with \\{ and \\} for braces; aspect: width and height of a ratio;
    scheduler, model, style: as typed, not yet looked up; upscale: the picture that came along is to be made
    again at twice its sides; source: the result that it comes from ("7K2QABCD", "7K2QABCD #2").
    """

    prompt: str = ""
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    aspect: tuple[int, int] | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    count: int | None = None
    scheduler: str | None = None
    model: str | None = None
    style: str | None = None
    strength: float | None = None
    spoiler: bool = False
    upscale: bool = False
    source: str = ""

    def said(self) -> frozenset[str]:
        """The names of the fields that were said."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) != f.default)


_FIELDS: Final = tuple((field.name, field.default) for field in fields(Options))


def merge(base: Options, over: Options) -> Options:
    """`base` with everything that `over` says put over it; an empty prompt says nothing.

    A shape replaces a shape: an aspect puts width and height out of force, and either of them an aspect.
    """
    said = {name: getattr(over, name) for name in over.said()}
    if "aspect" in said:
        base = replace(base, width=None, height=None)
    elif "width" in said or "height" in said:
        base = replace(base, aspect=None)
    return replace(base, **said)


def options_to_json(options: Options) -> dict[str, JSON]:
    """The said fields alone; aspect as [width, height]."""
    found: dict[str, JSON] = {}
    for name, default in _FIELDS:
        value = getattr(options, name)
        if value != default:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def options_from_json(data: Mapping[str, JSON]) -> Options:
    """The inverse; unknown keys are ignored, missing ones and nulls are "not said".

    Raises InvalidRequest (with the field) where a value has the wrong type or is not finite.
    """
    return Options(
        prompt=_text(data, "prompt") or "",
        negative_prompt=_text(data, "negative_prompt"),
        width=_whole(data, "width"),
        height=_whole(data, "height"),
        aspect=_pair(data, "aspect"),
        steps=_whole(data, "steps"),
        guidance_scale=_real(data, "guidance_scale"),
        seed=_whole(data, "seed"),
        count=_whole(data, "count"),
        scheduler=_text(data, "scheduler"),
        model=_text(data, "model"),
        style=_text(data, "style"),
        strength=_real(data, "strength"),
        spoiler=_flag(data, "spoiler"),
        upscale=_flag(data, "upscale"),
        source=_source(data),
    )


def _wrong(name: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{name} must be {wanted}; correct it or leave it out.", field=name)


def _text(data: Mapping[str, JSON], name: str) -> str | None:
    value = data.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _wrong(name, "a text")


def _whole(data: Mapping[str, JSON], name: str) -> int | None:
    value = data.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise _wrong(name, "a whole number")


def _real(data: Mapping[str, JSON], name: str) -> float | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            if math.isfinite(number := float(value)):
                return number
        except OverflowError:
            pass
    raise _wrong(name, "a finite number")


def _pair(data: Mapping[str, JSON], name: str) -> tuple[int, int] | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        first, second = value
        if type(first) is int and type(second) is int:
            return first, second
    raise _wrong(name, "two whole numbers, such as [16, 9]")


def _source(data: Mapping[str, JSON]) -> str:
    value = _text(data, "source") or ""
    if value and not _SOURCE.fullmatch(value):  # it is shown to others
        raise _wrong("source", "a result's id, such as 7K2QABCD")
    return value


def _flag(data: Mapping[str, JSON], name: str) -> bool:
    value = data.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise _wrong(name, "true or false")
