"""Jobs at a hosted service, as this process knows them, and their references. Pure; no I/O."""

from __future__ import annotations

import asyncio
import copy
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from backends._wire import Facts, Handle
from bot.core.errors import FairbrushError
from bot.core.ports import CancelOutcome, RemoteRef
from bot.core.request import JSON, ImageRequest

REMEMBERED: Final = 1000  # jobs; beyond that those are forgotten that nobody watches


@dataclass(slots=True, eq=False)
class Part:
    """One remote job of a request. offset: its first picture; request: what is to be sent, None once it was,
    or where this process never knew it; handle: how the service finds it; sending: the POST."""

    offset: int
    facts: Facts
    request: ImageRequest | None = None
    handle: Handle | None = None
    sending: asyncio.Task[None] | None = None
    ended: bool = False

    @property
    def on_its_way(self) -> bool:
        """Whether it is being posted."""
        return self.sending is not None and not self.sending.done()


@dataclass(slots=True, eq=False)
class Job:
    """One request. facts: of the whole; halted: nothing more of it is sent; stopped: how the service answered
    a wish to cancel; ended: Done, or an error, was told; failure: that error; shortfall: why there are fewer
    pictures; restored: read from a reference, not yet asked about; renewing: parts that never were sent are
    sent after all; watchers: of its events, now."""

    ticket: str
    facts: Facts
    parts: list[Part]
    halted: bool = False
    stopped: CancelOutcome | None = None
    ended: bool = False
    restored: bool = False
    renewing: bool = False
    watchers: int = 0
    failure: FairbrushError | None = None
    shortfall: list[FairbrushError] = field(default_factory=list)
    nudged: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def taken(self) -> list[Part]:
        """The parts that the service has."""
        return [part for part in self.parts if part.handle is not None]

    def ticket_of(self, part: Part) -> str:
        """Our id of a remote job."""
        return self.ticket if len(self.parts) == 1 else f"{self.ticket}-{self.parts.index(part)}"

    def ref(self, backend: str) -> RemoteRef:
        """How this job is found again."""
        facts = self.facts
        data: dict[str, JSON] = {
            "job": self.ticket,
            "sent": bool(self.taken),
            "counts": [part.facts.count for part in self.parts],
            "remote": [part.handle for part in self.parts],
            "count": facts.count,
            "seed": facts.seed,
            "width": facts.width,
            "height": facts.height,
            "model": facts.model,
            "at": facts.at,
        }
        return RemoteRef(backend, data)

    def end(self, failure: FairbrushError | None = None) -> None:
        """Nothing more is told of it. What was to be sent is dropped, and the errors that hold on to it."""
        self.ended, self.renewing = True, False
        self.failure = copy.copy(failure)
        self.shortfall.clear()
        for part in self.parts:
            part.request = None
            if not part.on_its_way:
                part.sending = None

    @property
    def forgettable(self) -> bool:
        """Whether nothing is lost without it: it is over, or its reference tells all that is to be known."""
        busy = self.watchers or any(part.on_its_way for part in self.parts)
        return not busy and bool(self.ended or self.halted or self.taken)


def new_job(
    requests: Sequence[ImageRequest], whole: ImageRequest, model: str, job_id: str, now: float
) -> Job:
    """A job that nothing was sent of."""
    facts = Facts(whole.count, whole.seed, whole.width, whole.height, model, now)
    parts, offset = [], 0
    for request in requests:
        part = replace(facts, count=request.count, seed=request.seed)
        parts.append(Part(offset, part, request))
        offset += request.count
    return Job(f"{job_id}-{secrets.token_hex(4)}", facts, parts)


def read_job(data: Mapping[str, JSON]) -> Job | None:
    """The job of a stored reference; None where it is not one of ours."""
    ticket, counts, handles = data.get("job"), data.get("counts"), data.get("remote")
    numbers = [data.get(name) for name in ("count", "seed", "width", "height")]
    model, at = data.get("model"), data.get("at")
    if not (
        isinstance(ticket, str)
        and isinstance(model, str)
        and isinstance(at, int | float)
        and isinstance(counts, list | tuple)
        and isinstance(handles, list | tuple)
        and len(counts) == len(handles)
    ):
        return None
    whole = [number for number in (*numbers, *counts) if isinstance(number, int)]
    if len(whole) != len(numbers) + len(counts):
        return None
    count, seed, width, height, *each = whole
    facts = Facts(count, seed, width, height, model, float(at))
    parts, offset = [], 0
    for handle, many in zip(handles, each, strict=True):
        own = replace(facts, count=many, seed=facts.seed_of(offset))
        parts.append(Part(offset, own, None, handle if isinstance(handle, Mapping) else None))
        offset += many
    return Job(ticket, facts, parts, restored=True)


class Jobs:
    """The jobs of this process, by ticket."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def add(self, job: Job) -> None:
        """Remember a job, and forget what was long ago."""
        if len(self._jobs) >= REMEMBERED:
            old = [ticket for ticket, one in self._jobs.items() if one.forgettable]
            for ticket in old[: REMEMBERED // 2]:
                del self._jobs[ticket]
        self._jobs[job.ticket] = job

    def get(self, ref: RemoteRef) -> Job | None:
        """A job of this process, or one that the reference tells all about; None: lost."""
        ticket = ref.data.get("job")
        known = self._jobs.get(ticket) if isinstance(ticket, str) else None
        if known is not None:
            return known
        job = read_job(ref.data)
        if job is not None:
            self.add(job)
        return job

    def running(self) -> int:
        """Remote jobs that are polled: those that somebody watches and that have not ended."""
        return sum(
            not part.ended
            for job in self._jobs.values()
            if job.watchers and not job.ended
            for part in job.parts
            if part.handle
        )

    def all(self) -> Sequence[Job]:
        """Every job that is remembered."""
        return tuple(self._jobs.values())
