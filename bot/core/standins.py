"""Models that stand in for others: a request for one as another makes it, and what is told of that.

What the member did not say is what the model at hand does best; what they said stays, or keeps the job away.
Knows no lane and no queue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from bot.core.ports import Done, Model, RemoteRef
from bot.core.request import ImageRequest, Limits
from bot.core.resolve import DEFAULT_STRENGTH, UPSCALE_STRENGTH, VARY_STRENGTH

_KEPT: Final = "instead"
"""Where a stored reference says what was handed over: later the best of a model may be another."""


@dataclass(frozen=True, slots=True)
class Swap:
    """What a backend is given in place of what was asked for; note: about it, for people."""

    model: str
    steps: int
    guidance_scale: float
    scheduler: str | None
    strength: float | None
    note: str = ""

    def of(self, request: ImageRequest) -> ImageRequest:
        """The request as it is handed over."""
        return replace(
            request,
            model=self.model,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            scheduler=self.scheduler,
            strength=self.strength,
        )

    def told(self, request: ImageRequest, done: Done) -> Done:
        """What was made, with what differs from the request as it was asked."""
        made = self.of(request)
        changed = {
            name: getattr(made, name)
            for name in ("model", "steps", "guidance_scale", "scheduler", "strength")
            if getattr(made, name) != getattr(request, name)
        }
        return replace(
            done,
            model=done.model or self.model,
            applied={**changed, **done.applied},
            notes=(self.note, *done.notes) if self.note else done.notes,
        )

    def kept(self, ref: RemoteRef) -> RemoteRef:
        """The reference with this in it, for the store; apart() gives both again."""
        return RemoteRef(ref.backend, {**ref.data, _KEPT: asdict(self)})


def apart(ref: RemoteRef | None) -> tuple[RemoteRef | None, Swap | None]:
    """A stored reference as its backend knows it, and what it was given in place of what was asked for."""
    if ref is None or _KEPT not in ref.data:
        return ref, None
    own = RemoteRef(ref.backend, {name: value for name, value in ref.data.items() if name != _KEPT})
    said = ref.data[_KEPT]
    if not isinstance(said, Mapping) or set(said) != {field.name for field in fields(Swap)}:
        return own, None  # of another version
    return own, Swap(**said)  # type: ignore[arg-type]  # as it was stored


def said(request: ImageRequest, asked: Model | None, limits: Limits) -> frozenset[str]:
    """Names of the fields that are not what the model asked for does best, of those that another model could
    fill in: somebody wants them so. None are known of a model that nobody offers."""
    if asked is None:
        return frozenset()
    wanted = {
        "steps": request.steps not in {_steps(asked, limits), _enough(_steps(asked, limits), request)},
        "guidance_scale": request.guidance_scale != _guidance(asked, limits),
        "scheduler": request.scheduler not in (None, asked.scheduler),
        "strength": request.strength not in (None, DEFAULT_STRENGTH, VARY_STRENGTH, UPSCALE_STRENGTH),
    }
    return frozenset(name for name, so in wanted.items() if so)


def swap(
    request: ImageRequest, own: Model, asked: Model | None, params: frozenset[str], limits: Limits
) -> Swap:
    """A request for another model as `own` makes it at a backend that honours `params`."""
    keeps = said(request, asked, limits) if asked is not None else params
    takes = not own.schedulers or request.scheduler in (None, own.scheduler, *own.schedulers)
    scheduler = own.scheduler if "scheduler" in params else None
    return Swap(
        own.id,
        request.steps if "steps" in keeps else _enough(_steps(own, limits), request),
        request.guidance_scale if "guidance_scale" in keeps else _guidance(own, limits),
        request.scheduler if "scheduler" in keeps and request.scheduler and takes else scheduler,
        request.strength if "strength" in params else None,
    )


def note(own: Model, asked: Model | None, name: str, why: str) -> str:
    """ "Made by flux/schnell instead of sd-turbo: the wait would have been long." name: the id asked for."""
    other = _called(asked.id, asked.title) if asked is not None else _called(name, name)
    return f"Made by {_called(own.id, own.title)} instead of {other}: {why}."


def _called(name: str, title: str) -> str:
    """A model's title; where that is its id ("stabilityai/sd-turbo"), without who published it."""
    return title if title != name else name.rpartition("/")[2]


def _steps(model: Model, limits: Limits) -> int:
    return min(model.steps, limits.max_steps)


def _enough(steps: int, request: ImageRequest) -> int:
    """As many that `strength` of them is one at least."""
    if request.init_image is None or not request.strength:
        return steps
    return max(steps, math.ceil(1 / request.strength))


def _guidance(model: Model, limits: Limits) -> float:
    return min(max(model.guidance_scale, limits.min_guidance), limits.max_guidance)
