"""What a checkpoint is best run with, guessed from its file's name, for servers that tell no more of it.

A guess sets defaults alone; it refuses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from backends._licences import licence_of
from bot.core.ports import Model


@dataclass(frozen=True, slots=True)
class Habit:
    """Defaults of a family of models: side in pixels, steps, guidance; flow: it samples by rectified flow."""

    side: int = 512
    steps: int = 20
    guidance_scale: float = 7.0
    flow: bool = False


_SD1: Final = Habit()
_SD2: Final = Habit(side=768)
_SDXL: Final = Habit(side=1024, steps=25, guidance_scale=6.0)
_FLUX: Final = Habit(side=1024, steps=20, guidance_scale=1.0, flow=True)
_SD3: Final = Habit(side=1024, steps=28, guidance_scale=4.5, flow=True)

_FAMILIES: Final = (
    (re.compile(r"flux|chroma"), _FLUX),
    (re.compile(r"sd[_.-]?3|stable[_ -]?diffusion[_ -]?3|auraflow|qwen|z[_-]image"), _SD3),
    (re.compile(r"xl|pony|illustrious|noob(?:ai)?|playground[_ -]?v2"), _SDXL),
    (re.compile(r"768|sd[_.-]?2|v2[_.-][01]|stable[_ -]?diffusion[_ -]?2"), _SD2),
)
# Distilled models: a few steps without guidance, whatever they were distilled from.
_FAST: Final = re.compile(r"turbo|lightning|hyper|lcm|schnell|\bdmd")
_FAST_STEPS: Final = 6


def checkpoint(name: str, scheduler: str | None, schedulers: Iterable[str]) -> Model:
    """A checkpoint as a server offers it. name: the file's, without its ending."""
    habit, (licence, commercial) = habit_of(name), licence_of(name)
    return Model(
        id=name,
        title=name,
        width=habit.side,
        height=habit.side,
        steps=habit.steps,
        guidance_scale=habit.guidance_scale,
        scheduler=scheduler,
        licence=licence,
        commercial=commercial,
        schedulers=tuple(schedulers),
    )


def habit_of(name: str) -> Habit:
    """The defaults for a checkpoint of this name.

    >>> habit_of("sd_xl_base_1.0.safetensors").side, habit_of("v1-5-pruned-emaonly").side
    (1024, 512)
    >>> habit_of("sdxl_lightning_8step").guidance_scale
    1.0
    """
    name = name.casefold()
    habit = next((habit for pattern, habit in _FAMILIES if pattern.search(name)), _SD1)
    if "sd-turbo" in name or "sd_turbo" in name:
        habit = _SD1
    if _FAST.search(name):
        return Habit(habit.side, _FAST_STEPS, 1.0, habit.flow)
    return habit
