"""A backend as the dispatcher sees it: what it can do, what it is doing, and whether it is resting.

Knows nothing of the queue.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bot.core.errors import AuthFailed, Fault, QuotaExceeded, RateLimited
from bot.core.ports import Backend, Capabilities, Clock, Model
from bot.core.request import ImageRequest

log = logging.getLogger(__name__)

REST_FIRST, REST_MOST = 0.5, 60.0

UNKNOWN = Capabilities(models=())
"""Of a backend that could not be asked yet: it runs nothing."""


@dataclass(slots=True, eq=False)
class Lane:
    """One backend with its running jobs. Monotonic times: rest_until: before it gets nothing new; last_sign:
    of its last event, for whichever job; loading_at: when it last said that it loads. faults: failures in a
    row; trouble: why it could not be asked last."""

    backend: Backend
    capabilities: Capabilities = UNKNOWN
    running: set[str] = field(default_factory=set)
    faults: int = 0
    rest_until: float = -math.inf
    last_sign: float = -math.inf
    loading_at: float = -math.inf
    trouble: str = ""

    @property
    def name(self) -> str:
        """The backend's name: kind:target."""
        return self.backend.name

    @property
    def power(self) -> float:
        """Device-seconds that it works off in a second. Jobs in one batch share a device; hosted slots each
        have one of their own."""
        return max(self._devices * self.capabilities.speed, 1e-6)

    @property
    def _devices(self) -> int:
        return 1 if self.capabilities.max_batch > 1 else self.capabilities.slots

    @property
    def places(self) -> int:
        """Devices that make pictures; none where no model is offered."""
        return self._devices if self.capabilities.models else 0

    async def refresh(self, clock: Clock) -> None:
        """Ask anew what it can do, since a model that loads changes it. Never raises."""
        try:
            self.capabilities = await self.backend.capabilities()
            if (await self.backend.health()).loading:
                self.loading_at = clock.monotonic()
            trouble = ""
        except Exception as error:  # one backend's bug must not stop the others
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self.trouble:  # said once, not every second
                log.warning("%s: cannot be asked", self.name, exc_info=error)
        self.trouble = trouble

    def may_resume(self) -> bool:
        """Whether a reference from before a restart may still be known to it."""
        return self.capabilities.resumable or self.capabilities is UNKNOWN

    def free(self, now: float) -> bool:
        """Whether it takes another job."""
        return len(self.running) < self.capabilities.slots and now >= self.rest_until

    def model(self, name: str | None) -> Model | None:
        """The model with this id, or its default for None; None where it has no such model."""
        models = self.capabilities.models
        if name is None:
            return models[0] if models else None
        return next((model for model in models if model.id == name), None)

    def made_as(self, request: ImageRequest) -> ImageRequest:
        """The request at the size that is really made: a model works at its native area and enlarges, but for
        an upscale, which is a pass at its full size."""
        model = self.model(request.model)
        native = model.native_pixels if model else None
        if native is None or request.upscale:
            return request
        scale = math.sqrt(native / (request.width * request.height))
        return replace(request, width=round(request.width * scale), height=round(request.height * scale))

    def can_run(self, request: ImageRequest) -> bool:
        """Whether it offers the model and honours every field that is set."""
        return self.model(request.model) is not None and needs(request) <= self.capabilities.params

    def failed(self, error: Fault, now: float) -> None:
        """Rest after a fault: longer each time in a row, or as long as the backend said."""
        self.faults += 1
        rest = min(REST_MOST, REST_FIRST * 2.0 ** min(self.faults - 1, 16))
        if isinstance(error, AuthFailed | QuotaExceeded):
            rest = REST_MOST
        if isinstance(error, RateLimited) and error.retry_after is not None:
            rest = error.retry_after
        self.rest_until = now + rest

    def succeeded(self) -> None:
        """It works: forget its faults, though not what it asked for by a rate limit."""
        self.faults = 0


_OPTIONAL: Mapping[str, object] = {
    "negative_prompt": "",
    "scheduler": None,
    "init_image": None,
    "mask_image": None,
    "upscale": False,
}


def needs(request: ImageRequest) -> frozenset[str]:
    """The optional fields that a request uses, which a backend must honour."""
    return frozenset(name for name, unset in _OPTIONAL.items() if getattr(request, name) != unset)


def serving(lanes: Sequence[Lane]) -> float:
    """Device-seconds that all lanes together work off in a second."""
    return sum(lane.power for lane in lanes) or 1.0
