"""What the program tells its worker at the start, and what an engine owes: the seam between the two.

Knows no engine; both sides import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol, TypeAlias, cast

from backends.local.profile import Profile
from backends.local.wire import Emit
from bot.core.request import JSON, ImageRequest

PARAMS = frozenset(
    {
        "steps",
        "guidance_scale",
        "seed",
        "negative_prompt",
        "scheduler",
        "model",
        "init_image",
        "mask_image",
        "strength",
        "upscale",
    }
)
"""Fields of an ImageRequest that the diffusion engine honours."""

FROM_PICTURES = frozenset({"init_image", "mask_image", "strength", "upscale"})
"""Those among them that only the Stable Diffusion families can do here."""

SMALL_MODEL_BYTES = 200_000_000
"""Models with less than this weight are overhead-bound: a batch of 8 costs little more than one picture."""
SMALL_MODEL_SLOTS = 8


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open the model. kind, location, model_id, folder: see sources.Source; device, dtype: torch's
    names, empty: the best there is; slots: pictures in one model call, None: as fits the device."""

    kind: str
    location: str
    model_id: str
    folder: str | None = None
    device: str = ""
    dtype: str = ""
    threads: int | None = None
    cache_dir: str | None = None
    slots: int | None = None
    previews: bool = True
    safety_checker: bool = True

    def to_json(self) -> Mapping[str, JSON]:
        """Plain JSON; from_json gives the same opening back."""
        return cast(Mapping[str, JSON], asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Opening:
        """The opening in a frame."""
        return cls(**data)  # type: ignore[arg-type]  # made by to_json


@dataclass(frozen=True, slots=True)
class Job:
    """One request inside the worker. alone: it may share no model call."""

    ticket: str
    request: ImageRequest
    alone: bool = False


def params_of(profile: Profile, *, stable: bool = True, previews: bool = False) -> frozenset[str]:
    """The fields of an ImageRequest that a model honours. stable: of the Stable Diffusion families;
    previews: whether there are any."""
    params = PARAMS if stable else PARAMS - FROM_PICTURES
    params |= {"previews"} if previews else frozenset()
    return params - {"upscale"} if profile.flow else params


class Engine(Protocol):
    """What makes pictures inside the worker; used by one thread.

    Frames go out by the `emit` that it was made with: "started" once work on a job begins, events, then
    "failed" or "cancelled" where it does not end with Done.
    """

    def ready(self) -> Mapping[str, JSON]:
        """What the program should know: profile, device, slots, max_batch, checks_content, previews."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; no work yet."""
        ...

    def cancel(self, ticket: str) -> None:
        """Drop a job: within one model call where it runs. Unknown tickets are ignored."""
        ...

    def step(self) -> bool:
        """Do the next piece of work, calling `poll` between model calls. False where there was none."""
        ...


Poll: TypeAlias = Callable[[], None]
"""Hands commands that came meanwhile to the engine; an engine calls it after every model call."""

EngineFactory: TypeAlias = Callable[[Opening, Emit, Poll], Engine]
