"""What a service that is submitted to, polled and collected from must say: the Wire, and what its looks are.

A Wire holds no state of jobs: what finds a job again is the JSON that send() gave. It raises errors of the
one tree and never waits: Remote, in _remote.py, does the waiting, trying again, downloading and storing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from backends._http import Http
from bot.core.errors import FairbrushError
from bot.core.ports import CancelOutcome, Capabilities
from bot.core.request import JSON, MAX_SEED, ImageRequest

Handle: TypeAlias = Mapping[str, JSON]
"""How the service finds one job again: plain JSON without secrets, stored with ours."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a remote job after a restart too. count, seed: of its own pictures; at: Unix time of
    handing it in; model: the id asked for."""

    count: int
    seed: int
    width: int
    height: int
    model: str = ""
    at: float = 0.0

    def seed_of(self, index: int) -> int:
        """The seed of picture `index` (0-based) of this remote job."""
        return (self.seed + index) % (MAX_SEED + 1)


@dataclass(frozen=True, slots=True)
class Found:
    """One picture of a finished job: its bytes, its base64 text or a link to it. index: 0-based within this
    remote job; seed: None for the one asked for; rejected: the service kept it back, and why (for people)."""

    index: int
    url: str = ""
    base64: str = field(default="", repr=False)
    data: bytes | None = field(default=None, repr=False)
    seed: int | None = None
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """In the service's own queue. ahead: jobs before it; eta: seconds until it starts, None where unknown."""

    ahead: int = 0
    eta: float | None = None


@dataclass(frozen=True, slots=True)
class Working:
    """Being made. fraction: 0 to 1, None where the service does not say; pictures: those made so far."""

    fraction: float | None = None
    step: int | None = None
    total: int | None = None
    phase: str = ""
    pictures: Sequence[Found] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """Ended with pictures. device_seconds, money (US dollars): what the service reports, None where it does
    not; model: None for the one asked for."""

    pictures: Sequence[Found]
    device_seconds: float | None = None
    money: float | None = None
    model: str | None = None
    notes: tuple[str, ...] = ()
    applied: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """Ended without pictures: the service itself says so. error.accepted: True, or as it says."""

    error: FairbrushError


Look: TypeAlias = Waiting | Working | Finished | Ended


class Wire(Protocol):
    """One service; inherit it. findable: find() surely tells whether a job of ours is there."""

    findable: bool = False

    async def offered(self, http: Http) -> Capabilities:
        """What it offers now. Called in the background every 45 s; its errors leave the last answer."""
        ...

    def check(self, request: ImageRequest) -> None:
        """Raise InvalidRequest, with its field, for what the service cannot do; the model is checked already.
        Nothing has been sent."""
        return

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        """The remote jobs that a request becomes, pictures and seeds in order; one is usual."""
        return (request,)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        """Hand in one remote job by http.post; ticket: our own id of it, unique. Errors as post() raises."""
        ...

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        """One poll, by http.poll. What it raises means that nothing was learnt (Missing: that it is gone)."""
        ...

    async def find(self, http: Http, ticket: str, facts: Facts) -> Handle | None:
        """The job with our ticket after a crash in between; None: it is not there, and will not turn up."""
        return None

    async def again(self, http: Http, sibling: Handle, facts: Facts, ticket: str) -> Handle | None:
        """After a crash, hand in a remote job that never was, from what the service still knows of another
        one of the same request; None where it does not. Of findable services alone."""
        return None

    async def stop(self, http: Http, job: Handle) -> CancelOutcome:
        """Ask the service to stop it."""
        return CancelOutcome.UNSUPPORTED


def one_by_one(request: ImageRequest) -> tuple[ImageRequest, ...]:
    """A request as one remote job a picture, for services that choose later pictures' seeds themselves."""
    return tuple(replace(request, count=1, seed=request.seed_of(index)) for index in range(request.count))
