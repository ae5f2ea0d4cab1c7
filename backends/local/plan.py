"""From a request to what the model is really run with: size, guidance, scheduler, prompt, kind of work.

Pure arithmetic and words. The program uses it to refuse early, the worker to work; neither the engine nor
any picture is touched here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Protocol

from backends.local.profile import Profile
from backends.local.second_pass import SecondPass, plan_second_pass
from bot.core.errors import InvalidRequest
from bot.core.request import JSON, ImageRequest
from bot.core.schedulers import SCHEDULERS, find_scheduler

DEFAULT_STRENGTH = 0.75


class Wording(Protocol):
    """How a model that knows few words is spoken to."""

    def prompt(self, text: str) -> tuple[str, Sequence[str]]:
        """The prompt in the model's own words, and notes for people on what was changed."""
        ...

    def negative(self, text: str) -> str:
        """The negative prompt in the model's own words."""
        ...


class Kind(StrEnum):
    """What is to be done."""

    TEXT = "text"
    IMAGE = "image"
    INPAINT = "inpaint"
    UPSCALE = "upscale"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the model is run with. width, height: the size made, in pixels, before it is fitted to the size
    asked; scheduler: a key of SCHEDULERS, None: the model's own, which has no name there; notes: what
    differs, for people; second: how an upscale is made."""

    kind: Kind
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance: float
    scheduler: str | None
    strength: float
    notes: tuple[str, ...]
    applied: Mapping[str, JSON]
    second: SecondPass | None = None

    @property
    def guided(self) -> bool:
        """Whether the model is called with and without the prompt (classifier-free guidance)."""
        return self.guidance > 1


def make_plan(request: ImageRequest, profile: Profile, wording: Wording | None = None) -> Plan:
    """How a request is made with a model. Raises InvalidRequest where the model cannot do it."""
    prompt, notes = wording.prompt(request.prompt) if wording else (request.prompt, ())
    negative = wording.negative(request.negative_prompt) if wording else request.negative_prompt
    scheduler = _scheduler(request.scheduler, profile)
    guidance = profile.own_guidance(request.guidance_scale)
    second = plan_second_pass(request, profile) if request.upscale else None
    width, height = _size(request, profile)
    applied: dict[str, JSON] = {"width": width, "height": height, "guidance_scale": guidance}
    applied |= {"prompt": prompt, "negative_prompt": negative}
    if second is not None:
        applied |= {"steps": second.steps, "strength": second.strength}
    applied = {name: value for name, value in applied.items() if value != getattr(request, name)}
    if scheduler is not None:
        applied |= {"scheduler": scheduler, "scheduler_class": SCHEDULERS[scheduler].class_name}
    return Plan(
        kind=_kind(request),
        prompt=prompt,
        negative_prompt=negative,
        width=width,
        height=height,
        steps=second.steps if second else request.steps,
        guidance=guidance,
        scheduler=scheduler,
        strength=second.strength if second else _strength(request),
        notes=(*notes, *(_pass_note(request, second) if second else _size_note(request, width, height))),
        applied=applied,
        second=second,
    )


def _kind(request: ImageRequest) -> Kind:
    if request.upscale:
        return Kind.UPSCALE
    if request.mask_image is not None and request.init_image is None:
        raise InvalidRequest("A mask needs a picture to apply to: attach one.", field="mask_image")
    if request.init_image is None:
        return Kind.TEXT
    return Kind.INPAINT if request.mask_image is not None else Kind.IMAGE


def _scheduler(asked: str | None, profile: Profile) -> str | None:
    if asked is None:
        return profile.default_scheduler
    name = find_scheduler(asked)
    reason = profile.refusal_of(name) if name else "there is no such scheduler"
    if name and not reason:
        return name
    near = get_close_matches(asked, profile.schedulers, n=3, cutoff=0.4) or list(profile.schedulers[:3])
    raise InvalidRequest(
        f"{profile.title} cannot use the scheduler {asked!r}: {reason}. Use for example {', '.join(near)}.",
        field="scheduler",
    )


def _strength(request: ImageRequest) -> float:
    """diffusers runs int(steps x strength) steps; none at all is an error that the user can mend."""
    if request.init_image is None:
        return 1.0
    strength = DEFAULT_STRENGTH if request.strength is None else request.strength
    if int(request.steps * strength) < 1:
        least = math.ceil(100 / request.steps) / 100
        raise InvalidRequest(
            f"A strength of {strength:g} at {request.steps} steps leaves nothing to paint. "
            f"Use a strength of at least {least:g}, or more steps.",
            field="strength",
        )
    return strength


def _size(request: ImageRequest, profile: Profile) -> tuple[int, int]:
    if request.upscale:  # at the size asked: the parts are of the model's own
        multiple = profile.side_multiple
        return -(-request.width // multiple) * multiple, -(-request.height // multiple) * multiple
    return native_size(request.width, request.height, profile)


def _pass_note(request: ImageRequest, second: SecondPass) -> tuple[str, ...]:
    parts = f" in {second.parts} overlapping parts" if second.parts > 1 else ""
    return (f"second pass at {request.width}×{request.height}{parts}, strength {second.strength:g}",)


def _size_note(request: ImageRequest, width: int, height: int) -> tuple[str, ...]:
    if (width, height) == (request.width, request.height):
        return ()
    larger = request.width * request.height > width * height
    change = "enlarged" if larger else "reduced"
    return (f"made at {width}×{height} and {change} to {request.width}×{request.height}",)


def native_size(width: int, height: int, profile: Profile) -> tuple[int, int]:
    """The size to make a picture of width x height at: sides that the model can do, near native_pixels.

    The asked size itself where it is within 2 % of the sides' limits and half to 1.1 of the native area;
    without native_pixels the next multiples. The aspect ratio is kept as nearly as the multiples allow.
    """
    multiple, low, high = profile.side_multiple, profile.min_side, profile.max_side
    if profile.native_pixels is None:
        return _up(width, multiple, low, high), _up(height, multiple, low, high)
    fits = all(low <= side <= high and side % multiple == 0 for side in (width, height))
    if fits and 0.5 <= width * height / profile.native_pixels <= 1.1:
        return width, height
    ratio, area = width / height, profile.native_pixels
    low, high = _up(low, multiple, multiple, low + multiple), high // multiple * multiple

    def misfit(size: tuple[int, int]) -> float:
        w, h = size
        return 4 * abs(math.log(w / h / ratio)) + abs(math.log(w * h / area))

    sides = range(low, high + 1, multiple)
    candidates = ((w, min(high, max(low, round(w / ratio / multiple) * multiple))) for w in sides)
    return min(candidates, key=misfit)


def _up(side: int, multiple: int, low: int, high: int) -> int:
    return min(high, max(low, -(-side // multiple) * multiple))
