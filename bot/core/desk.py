"""What is in hand: the groups that have not been delivered yet, as they stand now.

Memory only; the store holds the truth and the desk is rebuilt from it on start. Knows no platform and no
backend.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Protocol

from bot.core.ports import (
    Clock,
    ImageReady,
    JobStatus,
    Position,
    Preview,
    Progress,
    RemoteRef,
    StoredGroup,
    StoredJob,
)
from bot.core.request import Image, ImageRequest, Requester, State
from bot.core.standins import Swap


@dataclass(slots=True, eq=False)
class LiveJob:
    """One ImageRequest in hand.

    request: its input pictures without their bytes, which lie in the files named by `inputs` until a
    backend needs them; failures: tries that failed in this run of the program; not_before: monotonic time
    before which it is not tried again; dispatched: taken from the fair queue, and neither completed nor given
    back; stop_by: monotonic time at which a backend that was asked to stop is left behind; unserved_since:
    since when no backend can run it; waiting_inside: jobs before it inside the backend; rejected, flagged:
    why pictures are withheld, or shown behind a spoiler, by index; money: US dollars that it cost; held:
    that it may cost while it runs, None where it is free of charge; swap: what its backend was given in place
    of the request, where another model stands in for its own.
    """

    job_id: str
    index: int
    request: ImageRequest
    cost: float
    group: LiveGroup
    state: State = State.ACCEPTED
    inputs: tuple[str | None, str | None] = (None, None)
    attempt: int = 0
    failures: int = 0
    not_before: float = 0.0
    avoid: set[str] = field(default_factory=set)
    backend: str = ""
    ref: RemoteRef | None = None
    dispatched: bool = False
    cancelling: bool = False
    cancel_message: str = ""
    stop_by: float = math.inf
    unserved_since: float | None = None
    predicted_at: float = 0.0
    predicted: float | None = None
    progress: Progress | None = None
    preview: Preview | None = None
    waiting_inside: int | None = None
    images: dict[int, ImageReady] = field(default_factory=dict)
    rejected: dict[int, str] = field(default_factory=dict)
    flagged: dict[int, str] = field(default_factory=dict)
    message: str = ""
    reference: str = ""
    money: float | None = None
    held: float | None = None
    swap: Swap | None = None

    @property
    def made(self) -> ImageRequest:
        """The request as its backend has it."""
        return self.swap.of(self.request) if self.swap is not None else self.request

    def stopping(self) -> bool:
        """Whether a cancel was asked for; asked anew after each await."""
        return self.cancelling

    def forget_attempt(self) -> None:
        """Drop what a failed attempt left behind."""
        self.ref, self.waiting_inside, self.backend, self.held, self.swap = None, None, "", None, None
        self.rejected.clear()
        self.flagged.clear()
        self.forget_pictures()

    def forget_pictures(self) -> None:
        """Drop what is large: a platform may be away for hours before an ended group leaves the desk."""
        self.progress, self.preview = None, None
        self.images.clear()


class Watcher(Protocol):
    """Who is told what happens to a group as it happens; see bot/core/watching.py."""

    def tell(self, index: int, event: Preview | Progress | ImageReady) -> None:
        """Something happened to the group's job `index`."""
        ...

    def end(self) -> None:
        """The group has ended."""
        ...


@dataclass(slots=True, eq=False)
class LiveGroup:
    """One accepted message in hand. since: monotonic time of its acceptance, whatever happens to the time of
    day; quiet: nobody is shown how it stands, only what comes of it."""

    group_id: str
    event_key: str
    requester: Requester
    created_at: float
    since: float = 0.0
    jobs: list[LiveJob] = field(default_factory=list)
    restarted: bool = False
    position: Position | None = None
    by: float | None = None
    quiet: bool = False
    watchers: list[Watcher] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        """The first job's prompt, for people."""
        return self.jobs[0].request.prompt if self.jobs else ""

    @property
    def ended(self) -> bool:
        """Whether every job has ended."""
        return all(job.state.ended for job in self.jobs)

    def tell(self, index: int, event: Preview | Progress | ImageReady) -> None:
        """Tell those who watch what happened to the job `index`."""
        for watcher in self.watchers:
            watcher.tell(index, event)

    def end_watches(self) -> None:
        """It has ended, and its result is stored."""
        for watcher in self.watchers:
            watcher.end()

    @property
    def spoiler(self) -> bool:
        """Whether the pictures are to be hidden until clicked."""
        return any(job.request.spoiler for job in self.jobs)


def group_state(states: list[State]) -> State:
    """A group's state: that of its most active job, or what came of all of them."""
    order = (
        State.RUNNING,
        State.QUEUED,
        State.ACCEPTED,
        State.DONE,
        State.WITHHELD,
        State.FAILED,
        State.CANCELLED,
    )
    return next(state for state in order if state in states)


class Desk:
    """The groups in hand, by id, and how many jobs wait for whom."""

    def __init__(self) -> None:
        self.groups: dict[str, LiveGroup] = {}
        self._jobs: dict[str, LiveJob] = {}
        self._events: set[str] = set()
        self._by_member: dict[tuple[str, str], dict[str, LiveGroup]] = {}
        self._reserved: Counter[str] = Counter()

    def add(self, group: LiveGroup) -> None:
        """Take a group in hand."""
        self.groups[group.group_id] = group
        self._events.add(group.event_key)
        self._jobs.update((job.job_id, job) for job in group.jobs)
        self._by_member.setdefault(_member(group.requester), {})[group.group_id] = group

    def remove(self, group_id: str) -> None:
        """Let go of a group; idempotent."""
        group = self.groups.pop(group_id, None)
        if group is None:
            return
        self._events.discard(group.event_key)
        for job in group.jobs:
            self._jobs.pop(job.job_id, None)
        mine = self._by_member.get(_member(group.requester), {})
        mine.pop(group_id, None)
        if not mine:
            self._by_member.pop(_member(group.requester), None)

    def job(self, job_id: str) -> LiveJob | None:
        """A job in hand, None where there is none."""
        return self._jobs.get(job_id)

    def knows(self, event_key: str) -> bool:
        """Whether a group in hand came from this event."""
        return event_key in self._events

    def of(self, requester: Requester) -> list[LiveGroup]:
        """A member's unfinished groups within the guild, oldest first."""
        mine = self._by_member.get(_member(requester), {})
        return [group for group in mine.values() if not group.ended]

    def reserve(self, requester: Requester, jobs: int) -> None:
        """Count jobs that are being committed as waiting already; undone by release()."""
        for name in _counted(requester):
            self._reserved[name] += jobs

    def release(self, requester: Requester, jobs: int) -> None:
        """Undo a reserve()."""
        for name in _counted(requester):
            self._reserved[name] -= jobs
            if self._reserved[name] <= 0:
                del self._reserved[name]

    def waiting(self, name: str) -> int:
        """Jobs reserved under a member's or a tenant's name: accepted and neither running nor ended."""
        return self._reserved[name]

    def waiting_here(self, requester: Requester) -> int:
        """Jobs of a member reserved within the guild alone."""
        return self._reserved[_here(requester)]


def _counted(requester: Requester) -> tuple[str, str, str]:
    """The names under which jobs are counted."""
    return requester.member, requester.tenant, _here(requester)


def _here(requester: Requester) -> str:
    return f"{requester.member} in {requester.tenant}"


def _member(requester: Requester) -> tuple[str, str]:
    return requester.tenant, requester.member


def live_group(
    stored: StoredGroup, requests: list[ImageRequest], clock: Clock, *, restarted: bool = False
) -> LiveGroup:
    """A stored group taken in hand, its requests decoded by the caller."""
    group = LiveGroup(
        stored.group_id,
        stored.event_key,
        stored.requester,
        stored.created_at,
        clock.monotonic() - max(0.0, clock.now() - stored.created_at),
        restarted=restarted,
    )
    group.jobs = [_live_job(job, request, group) for job, request in zip(stored.jobs, requests, strict=True)]
    return group


def _live_job(stored: StoredJob, request: ImageRequest, group: LiveGroup) -> LiveJob:
    init_image, mask_image = (stored.request.get(name) for name in ("init_image", "mask_image"))
    if request.init_image is not None or request.mask_image is not None:
        request = replace(
            request, init_image=_outline(request.init_image), mask_image=_outline(request.mask_image)
        )
    return LiveJob(
        stored.job_id,
        stored.index,
        request,
        stored.cost,
        group,
        state=stored.state,
        inputs=(str(init_image) if init_image else None, str(mask_image) if mask_image else None),
        attempt=stored.attempt,
        backend=stored.backend,
        ref=stored.ref,
        message=stored.message,
        reference=stored.reference,
        money=stored.money if stored.state.ended else None,
        held=stored.money if stored.state is State.RUNNING else None,
    )


def _outline(image: Image | None) -> Image | None:
    return replace(image, data=b"") if image else None


def status_of(group: LiveGroup) -> JobStatus:
    """How a group stands, for people: the running job's progress, or the place of the first that waits."""
    running = [job for job in group.jobs if job.state is State.RUNNING and job.waiting_inside is None]
    total = sum(job.request.count for job in group.jobs)
    state = group_state([job.state for job in group.jobs])
    if state is State.RUNNING and not running:
        state = State.QUEUED
    return JobStatus(
        group.group_id,
        group.prompt,
        state,
        made=sum(_made(job) for job in group.jobs),
        total=total,
        position=group.position if state is State.QUEUED else None,
        by=group.by,
        progress=_overall(group, running),
        preview=next((job.preview for job in running if job.preview), None),
        message=next((job.message for job in group.jobs if job.message), ""),
        reference=next((job.reference for job in group.jobs if job.reference), ""),
        restarted=group.restarted,
        charged=any(job.money for job in group.jobs),
    )


def _made(job: LiveJob) -> int:
    return job.request.count if job.state is State.DONE else len(job.images)


def _overall(group: LiveGroup, running: list[LiveJob]) -> Progress | None:
    if not running:
        return None
    first = running[0].progress or Progress(0.0)
    if len(group.jobs) == 1:
        return first
    done = sum(job.request.count for job in group.jobs if job.state.ended)
    part = sum((job.progress.fraction if job.progress else 0.0) * job.request.count for job in running)
    return Progress((done + part) / sum(job.request.count for job in group.jobs), phase=first.phase)
