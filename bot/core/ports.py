"""The ports: what the core asks of backends, platforms and the store, and the values that cross.

Everything is called on one event loop. Implementations move blocking work to threads or processes of
their own. Only frozen, plain values cross; pictures cross as encoded bytes, never as links or objects of
a library. The store's port is in records.py, and all its names are here too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from bot.core.records import Address as Address
from bot.core.records import ApiKey as ApiKey
from bot.core.records import Charge as Charge
from bot.core.records import Delivery as Delivery
from bot.core.records import Outcome as Outcome
from bot.core.records import RemoteRef as RemoteRef
from bot.core.records import ShareTag as ShareTag
from bot.core.records import Store as Store
from bot.core.records import StoredGroup as StoredGroup
from bot.core.records import StoredJob as StoredJob
from bot.core.records import StoredPicture as StoredPicture
from bot.core.request import JSON, ImageRequest, ImageResult, State

if TYPE_CHECKING:
    from bot.core.studio import Studio

# --- backends ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Price:
    """What a hosted model costs, in US dollars: for each picture, for each megapixel (2**20 pixels) of each
    picture, and for each second of device time."""

    per_image: float = 0.0
    per_megapixel: float = 0.0
    per_second: float = 0.0

    def of(self, request: ImageRequest, seconds: float) -> float:
        """The price of a request that takes `seconds` of device time."""
        megapixels = request.width * request.height / 2**20
        return request.count * (self.per_image + self.per_megapixel * megapixels) + self.per_second * seconds


@dataclass(frozen=True, slots=True)
class Model:
    """One model that a backend offers, and what it does best.

    id: what --model takes; sides in pixels; native_pixels: larger requests are made at this area and
    enlarged (None: made as asked); schedulers: A1111 names offered; refused_schedulers: name -> why;
    commercial: whether its licence allows commercial use; advice: one line for people, or empty; price: None
    where it costs nothing.
    """

    id: str
    title: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    scheduler: str | None = None
    licence: str = ""
    commercial: bool = True
    demo: bool = False
    native_pixels: int | None = None
    schedulers: tuple[str, ...] = ()
    refused_schedulers: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    advice: str = ""
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, reported truthfully, so that only what works is offered.

    slots: jobs it takes at a time; max_batch: pictures in one model call; params: the names of the
    ImageRequest fields that it honours beyond prompt, width, height, count; checks_content: it looks at
    results and may reject them (then no preview is shown); speed: relative to the machine that estimates
    are learned on, so that a slow card does not charge more.
    """

    models: tuple[Model, ...]
    slots: int = 1
    max_batch: int = 1
    params: frozenset[str] = frozenset()
    progress: bool = False
    previews: bool = False
    cancel: bool = False
    resumable: bool = False
    checks_content: bool = False
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Taken:
    """The remote has taken the job: from now on `ref` finds it, and is stored in place of the one that
    submit() gave before anything else is asked of the backend. So a job is handed over in events(), between
    two stored references: after a crash in between it is known that it may have been sent."""

    ref: RemoteRef


@dataclass(frozen=True, slots=True)
class Queued:
    """Waiting inside the backend; ahead: jobs before it; eta: seconds until it starts, None where unknown."""

    ahead: int
    eta: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Work done so far. fraction: 0 to 1; step and total count model calls; phase: "Loading the model"."""

    fraction: float
    step: int | None = None
    total: int | None = None
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """A rough, small picture of what is forming: encoded bytes."""

    data: bytes
    mime: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class ImageReady:
    """Picture `index` (0-based) is made: encoded bytes without recipe; seed: the one it was made from."""

    index: int
    data: bytes
    mime: str
    seed: int


@dataclass(frozen=True, slots=True)
class ImageRejected:
    """Picture `index` was made and kept back by the backend's own check; reason: safe to show.

    data, mime, seed: the picture itself, where the backend gives it: a server may want it behind a spoiler.
    """

    index: int
    reason: str
    data: bytes | None = None
    mime: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The job is complete. device_seconds: what it used, a shared batch split by pictures; money: US dollars.

    notes: for people, one idea each; applied: what was really used where it differs from the request
    (width, height, guidance_scale, scheduler, prompt), for the recipe.
    """

    device_seconds: float
    money: float | None = None
    model: str = ""
    notes: tuple[str, ...] = ()
    applied: Mapping[str, JSON] = field(default_factory=dict)


Event: TypeAlias = Taken | Queued | Progress | Preview | ImageReady | ImageRejected | Done


class CancelOutcome(Enum):
    """What became of a wish to cancel."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    TOO_LATE = "too late"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Health:
    """ok: it can take jobs; loading: it will be able to shortly; detail: one line, safe for an operator."""

    ok: bool
    loading: bool = False
    detail: str = ""


class Backend(Protocol):
    """One place that makes pictures.

    Errors of submit and events: InvalidRequest, ContentRejected, AuthFailed, QuotaExceeded, RateLimited,
    Unavailable, TimedOut, Cancelled, ProtocolError, each with `accepted` saying whether the remote took the
    job. events() of a lost ref raises Unavailable(accepted=False). Where a job was sent but never answered
    `accepted` is None, and it is never resubmitted by itself: another try might be made, and paid for, twice.
    A resumable backend's RemoteRef survives a restart of this program.
    """

    name: str

    async def capabilities(self) -> Capabilities:
        """What it can do now; may change when a model is loaded. Does not wait for loading."""
        ...

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Hand over a job. For an API that blocks, only prepare: the call happens in events()."""
        ...

    def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """What happens to the job, ending with Done or an error. Closing the iterator only stops watching."""
        ...

    async def cancel(self, ref: RemoteRef) -> CancelOutcome:
        """Stop the work; idempotent; its events() then raise Cancelled, unless it was too late."""
        ...

    async def health(self) -> Health:
        """Whether it can take jobs; answers at once."""
        ...

    async def aclose(self) -> None:
        """Stop and leave nothing behind; idempotent."""
        ...


# --- platforms --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the queue. own_rank of own_total among the member's own; ahead: requests before it;
    low, high: seconds until it is done, the 10 and 90 % ends of the range."""

    own_rank: int
    own_total: int
    ahead: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a group stands, for people. Pictures come by deliver(), never here, but for the preview.

    made of total: pictures; by: the Unix time when it should be done (90 %), None where unknown;
    message: why it failed, safe to show; restarted: the program was restarted since it was accepted; charged:
    what has ended of it cost money, or may have.
    """

    group_id: str
    prompt: str
    state: State
    made: int = 0
    total: int = 1
    position: Position | None = None
    by: float | None = None
    progress: Progress | None = None
    preview: Preview | None = None
    message: str = ""
    reference: str = ""
    restarted: bool = False
    charged: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a platform bears an edit. seconds_per_message: between edits of one message;
    edits_per_minute: over one tenant; 0: nobody looks at statuses there, and only results are delivered."""

    seconds_per_message: float
    edits_per_minute: int

    @property
    def silent(self) -> bool:
        """Whether no status is shown."""
        return self.edits_per_minute == 0


class Conversation(Protocol):
    """Where one group is answered. All calls are idempotent; calls for one group never overlap.

    Errors: Gone, RateLimited, Unavailable or Refused.
    """

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        """Make the messages that status and pictures will be shown in, calling `store` with the address after
        each one; "exists already" is success. Called once more after a restart. Further messages for a large
        result are made in deliver(), as placeholders whose ids are stored (by the same callable) before any
        file goes out."""
        ...

    async def show(self, status: JobStatus) -> None:
        """Show how it stands. Coalesced by the core; a progress may be dropped, an end never."""
        ...

    async def deliver(self, result: ImageResult) -> None:
        """Show the result, whatever its state: an idempotent edit."""
        ...


class Adapter(Protocol):
    """One platform."""

    name: str
    pace: Pace

    def routes(self) -> Sequence[object]:
        """aiohttp route definitions that the program's one server serves for it; may be empty."""
        ...

    async def run(self, studio: Studio) -> None:
        """Serve until cancelled; it is started before the first request reaches routes()."""
        ...

    def conversation(self, address: Address) -> Conversation:
        """The conversation at a stored address; no I/O."""
        ...

    async def aclose(self) -> None:
        """Stop and leave nothing behind; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, passed in. now: Unix seconds; monotonic: seconds; sleep: suspends the caller."""

    now: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
