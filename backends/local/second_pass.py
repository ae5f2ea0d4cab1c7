"""The second pass of an upscale: in which parts, steps and strength. Pure arithmetic, before any engine.

The picture is enlarged to the size asked, noised to `strength` and denoised there. A model that is run far
beyond the size it was made for repeats what it paints, so a larger picture is denoised in overlapping parts
of the model's own size, whose predictions are blended at every step (Bar-Tal et al. 2023, MultiDiffusion).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from backends.local.profile import Profile
from bot.core.errors import InvalidRequest
from bot.core.request import ImageRequest

DEFAULT_STRENGTH = 0.35
_LEAST_STEPS = 4  # denoising steps of the pass; few-step models are given more steps to reach them
_MOST_STEPS = 50  # what raising them may come to, noise-free ones counted
_WHOLE = 1.1  # up to this many times the model's own area a picture is one part


@dataclass(frozen=True, slots=True)
class SecondPass:
    """How a picture is made again at twice its sides. steps: of which the last int(steps x strength) are run;
    part_width, part_height: in pixels; parts: how many."""

    steps: int
    strength: float
    part_width: int
    part_height: int
    parts: int


def plan_second_pass(request: ImageRequest, profile: Profile) -> SecondPass:
    """The second pass of an upscale. Raises InvalidRequest where it cannot be made."""
    _check(request, profile)
    width, height = _part(request, profile)
    strength = DEFAULT_STRENGTH if request.strength is None else request.strength
    return SecondPass(
        steps=_steps(request.steps, strength),
        strength=strength,
        part_width=width,
        part_height=height,
        parts=count(request.width, width) * count(request.height, height),
    )


def count(side: int, part: int) -> int:
    """How many parts cover a side where neighbours share at least a quarter of a part."""
    return max(1, -(-(4 * side - part) // (3 * part)))


def starts(side: int, part: int) -> tuple[int, ...]:
    """Where the parts of a side begin, evenly spaced; part: at most the side."""
    number = count(side, part)
    return tuple(round(i * (side - part) / max(1, number - 1)) for i in range(number))


def _check(request: ImageRequest, profile: Profile) -> None:
    image = request.init_image
    if profile.flow:
        raise InvalidRequest(f"{profile.title} cannot make a second pass of a picture.", field="upscale")
    if image is None:
        raise InvalidRequest("An upscale needs the picture that is to be made larger.", field="upscale")
    if request.mask_image is not None:
        raise InvalidRequest("An upscale paints the whole picture: leave out the mask.", field="mask_image")
    if (request.width, request.height) != (2 * image.width, 2 * image.height):
        raise InvalidRequest(
            f"An upscale is made at twice the sides: {2 * image.width}×{2 * image.height}, "
            f"not {request.width}×{request.height}.",
            field="size",
        )


def _part(request: ImageRequest, profile: Profile) -> tuple[int, int]:
    width, height = profile.default_width, profile.default_height
    if request.width * request.height <= _WHOLE * width * height:
        return request.width, request.height
    return min(width, request.width), min(height, request.height)


def _steps(asked: int, strength: float) -> int:
    """As many as asked, or so many that _LEAST_STEPS of them are run."""
    enough = math.ceil(_LEAST_STEPS / max(strength, 1e-6))
    steps = max(asked, min(enough, _MOST_STEPS))
    while steps < _MOST_STEPS and int(steps * strength) < _LEAST_STEPS:
        steps += 1  # 4 / 0.35 and its kin may round to just below
    if int(steps * strength) < 1:
        least = math.ceil(100 / steps) / 100
        raise InvalidRequest(
            f"A strength of {strength:g} leaves nothing to paint. Use a strength of at least {least:g}.",
            field="strength",
        )
    return steps
