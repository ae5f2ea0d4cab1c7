"""A backend as the dispatcher sees it: what it can do and costs, what it is doing, whether it is resting.

Knows nothing of the queue.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bot.core.errors import AuthFailed, Fault, QuotaExceeded, RateLimited
from bot.core.ports import Backend, Capabilities, Clock, Health, Model, Price
from bot.core.request import ImageRequest, Limits
from bot.core.standins import Swap, said, swap
from bot.core.terms import Terms

log = logging.getLogger(__name__)

REST_FIRST, REST_MOST = 0.5, 60.0
OFFERED_BY = 60  # seconds in which every backend should have said what it offers
DOWN_MOST = 10.0  # seconds that a job waits for a backend that is down; then one is tried there

UNKNOWN = Capabilities(models=())
"""Of a backend that could not be asked yet: it runs nothing."""


@dataclass(frozen=True, slots=True)
class _Catalogue:
    """What follows from capabilities, worked out once for each: every request asks, and there may be hundreds
    of models. models: by the names that they go by here, those that the default one stands in for among them;
    hosted: whether any of them costs money."""

    of: Capabilities
    models: Mapping[str, Model]
    hosted: bool


@dataclass(slots=True, eq=False)
class Lane:
    """One backend with its running jobs. terms: what the operator says about it. Monotonic times: rest_until:
    before it gets nothing new; last_sign: of its last event, for whichever job; loading_at: when it last said
    that it loads; down_since: since when it says that it is down. faults: failures in a row; trouble: why it
    could not be asked last; limits: the operator's; others: finds a model that any lane offers, by its id."""

    backend: Backend
    capabilities: Capabilities = UNKNOWN
    running: set[str] = field(default_factory=set)
    faults: int = 0
    rest_until: float = -math.inf
    last_sign: float = -math.inf
    loading_at: float = -math.inf
    trouble: str = ""
    terms: Terms = field(default_factory=Terms)
    down_since: float | None = None
    limits: Limits = field(default_factory=Limits)
    others: Callable[[str], Model | None] = lambda name: None
    _catalogue: _Catalogue = field(default_factory=lambda: _Catalogue(UNKNOWN, {}, hosted=False))

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
    def slots(self) -> int:
        """Jobs that it takes at a time."""
        return self.terms.slots or self.capabilities.slots

    @property
    def _devices(self) -> int:
        return 1 if self.capabilities.max_batch > 1 else self.slots

    @property
    def places(self) -> int:
        """Devices that make pictures; none where no model is offered."""
        return self._devices if self.capabilities.models else 0

    async def refresh(self, clock: Clock) -> None:
        """Ask anew what it can do, since a model that loads changes it. Never raises."""
        try:
            self.capabilities = await self.backend.capabilities()
            self._note_health(await self.backend.health(), clock.monotonic())
            trouble = ""
        except Exception as error:  # one backend's bug must not stop the others
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self.trouble:  # said once, not every second
                log.warning("%s: cannot be asked", self.name, exc_info=error)
        self.trouble = trouble

    def _note_health(self, health: Health, now: float) -> None:
        if health.loading:
            self.loading_at = now
        if health.ok or health.loading:
            self.down_since = None
        elif self.down_since is None:
            self.down_since = now

    @property
    def up(self) -> bool:
        """Whether it has not said that it is down; loading a model is not being down."""
        return self.down_since is None

    def may_resume(self, *, paid: bool) -> bool:
        """Whether a reference from before a restart may still be known to it. Where money is involved only
        the backend itself can say that a job is surely lost."""
        return paid or self.capabilities.resumable or not self.capabilities.models

    def free(self, now: float) -> bool:
        """Whether it takes another job: it has a slot and does not rest. After a fault it gets one job at a
        time until one succeeds, and so it does while it says that it is down, once that has lasted."""
        if now < self.rest_until or len(self.running) >= self.slots:
            return False
        if self.down_since is not None:
            return now - self.down_since > DOWN_MOST and not self.running
        return not (self.faults and self.running)

    def works(self, now: float) -> bool:
        """Whether it can be expected to make pictures now."""
        return self.up and now >= self.rest_until

    # --- what it costs ---

    @property
    def hosted(self) -> bool:
        """Whether any of its models costs money."""
        return self._offer().hosted

    def charges(self, name: str | None) -> bool:
        """Whether this model (None: its default) costs money here."""
        model = self.model(name)
        return model is not None and _costs(model)

    def price(self, request: ImageRequest, seconds: float) -> float:
        """US dollars for a request that takes so many device-seconds."""
        model = self.model(request.model)
        return model.price.of(request, seconds) if model is not None and model.price is not None else 0.0

    # --- what it can do ---

    def model(self, name: str | None) -> Model | None:
        """The model with this id, or the one that stands in for it here, or the default for None; None where
        it has no such model."""
        if name is not None:
            return self._offer().models.get(name)
        models = self.capabilities.models
        return models[0] if models else None

    def own(self, name: str | None) -> Model | None:
        """The same without stand-ins: what it offers."""
        return None if self.stands_in(name) else self.model(name)

    def stands_in(self, name: str | None) -> bool:
        """Whether requests for this model are made by another one here."""
        found = self.model(name)
        return found is not None and name is not None and found.id != name

    def _offer(self) -> _Catalogue:
        if self._catalogue.of is not self.capabilities:
            models = self.capabilities.models
            hosted = any(_costs(model) for model in models)
            named = {name: models[0] for name in self.terms.stands_for if models}
            named |= {model.id: model for model in reversed(models)}
            self._catalogue = _Catalogue(self.capabilities, named, hosted)
        return self._catalogue

    def swap(self, request: ImageRequest) -> Swap | None:
        """What is handed over in place of a request where another model stands in for its own."""
        own = self.model(request.model)
        if own is None or request.model is None or own.id == request.model:
            return None
        return swap(request, own, self.others(request.model), self.capabilities.params, self.limits)

    def made_as(self, request: ImageRequest) -> ImageRequest:
        """The request as it is handed over, at the size that is really made: a model works at its native area
        and enlarges, but for an upscale, which is a pass at its full size."""
        if (swapped := self.swap(request)) is not None:
            request = swapped.of(request)
        model = self.model(request.model)
        native = model.native_pixels if model else None
        if native is None or request.upscale:
            return request
        scale = math.sqrt(native / (request.width * request.height))
        return replace(request, width=round(request.width * scale), height=round(request.height * scale))

    def can_run(self, request: ImageRequest) -> bool:
        """Whether it has the model, or one that stands in for it, and honours every field that is set."""
        name, wanted = request.model, frozenset[str]()
        if name is not None and self.stands_in(name):
            wanted = said(request, self.others(name), self.limits)
        return self.offers(name, needs(request), request.scheduler, wanted)

    def offers(
        self, model: str | None, fields: frozenset[str], scheduler: str | None, wanted: frozenset[str]
    ) -> bool:
        """Whether it has the model and this scheduler (None: any) and honours these fields. wanted: what has
        to be honoured by a model that stands in for it, which fills in the rest; see standins.said()."""
        found = self.model(model)
        if found is not None and model not in (None, found.id):
            fields = fields - {"scheduler"} | wanted
            scheduler = scheduler if "scheduler" in wanted else None
        if found is None or not fields <= self.capabilities.params:
            return False
        return scheduler is None or not found.schedulers or scheduler in (found.scheduler, *found.schedulers)

    def failed(self, error: Fault, now: float) -> None:
        """Rest after a fault: longer each time in a row, and no less than the backend said."""
        self.faults += 1
        rest = min(REST_MOST, REST_FIRST * 2.0 ** min(self.faults - 1, 16))
        if isinstance(error, AuthFailed | QuotaExceeded):
            rest = REST_MOST
        if isinstance(error, RateLimited) and error.retry_after is not None:
            rest = max(rest, error.retry_after)
        self.rest_until = now + rest

    def succeeded(self) -> None:
        """It works: forget its faults, though not what it asked for by a rate limit."""
        self.faults = 0


async def tell_of_idle_stand_ins(lanes: Sequence[Lane], clock: Clock) -> None:
    """Once all have said what they offer, or have had the time, the log says which `as` is for nothing."""
    for _ in range(OFFERED_BY):
        if all(lane.capabilities.models for lane in lanes):
            break
        await clock.sleep(1.0)
    offered = {model.id for lane in lanes for model in lane.capabilities.models}
    for lane in lanes:
        for name in lane.terms.stands_for:
            if name not in offered:
                log.warning("FAIRBRUSH_BACKENDS: %s;as=%s: no backend offers that model", lane.name, name)


def _costs(model: Model) -> bool:
    return model.price is not None and model.price != Price()


_OPTIONAL: Mapping[str, object] = {
    "negative_prompt": "",
    "scheduler": None,
    "init_image": None,
    "mask_image": None,
    "upscale": False,
}


def needs(request: ImageRequest) -> frozenset[str]:
    """The optional fields that a request uses, which a backend must honour."""
    return frozenset([name for name, unset in _OPTIONAL.items() if getattr(request, name) != unset])
