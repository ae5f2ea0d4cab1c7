"""Where everybody stands: one look along the queue, noted in each group and in each job's kind.

Starts and ends nothing: who can be made by nobody is told to the dispatcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bot.core.budget import Cap
from bot.core.desk import Desk, LiveGroup, LiveJob
from bot.core.estimator import Estimator, shown_ahead
from bot.core.fairqueue import Entry, FairQueue, Place
from bot.core.lanes import Lane
from bot.core.ports import Clock, Position
from bot.core.request import State
from bot.core.routing import Routing

SOON = 2.0  # seconds before the time shown passes at which a later one is shown
AT_ONCE = 100  # jobs that are looked at in one turn of the event loop
SHARE = 0.05  # of the time may be spent on looking along the queue
UNSERVED_MOST = 60.0  # seconds that a job waits for a lane that may make it

Running = Sequence[tuple[LiveJob, Lane]]


@dataclass(slots=True)
class Crew:
    """The lanes that jobs of one kind compete for. mask: a bit for each; own: of those free of charge. base:
    device-seconds that the latter work off in a second, nominal: if none is down; hired: those of paid ones,
    which join once `after` seconds of work wait; paid: there are any; offered: there is any lane at all;
    for_money: those that the jobs may have by now all cost money."""

    mask: int
    own: int
    base: float
    hired: float
    after: float
    nominal: float
    paid: bool
    offered: bool
    for_money: bool

    def seconds(self, work: float) -> float:
        """How long so much work takes: more work never takes less."""
        if self.base <= 0.0:
            return work / (self.hired or 1.0)
        if self.hired <= 0.0 or work <= self.after * self.base:
            return work / self.base
        return self.after + (work - self.after * self.base) / (self.base + self.hired)


@dataclass(slots=True)
class Snapshot:
    """What a look found. groups: to be shown anew; unserved: jobs that nobody has been able to make for a
    while, with the cap that is in the way, if any."""

    groups: dict[str, LiveGroup] = field(default_factory=dict)
    unserved: list[tuple[LiveJob, Cap | None]] = field(default_factory=list)


class _Ahead:
    """Jobs and their work, by the lanes that they may have."""

    def __init__(self, running: Running, lanes: Sequence[Lane]) -> None:
        self._jobs: dict[int, int] = {}
        self._work: dict[int, float] = {}
        bits = {lane.name: 1 << index for index, lane in enumerate(lanes)}
        for job, lane in running:
            self._work[bits[lane.name]] = self._work.get(bits[lane.name], 0.0) + job.cost

    def jobs(self, mask: int) -> int:
        """Waiting jobs so far that compete for any of these lanes."""
        return sum(count for other, count in self._jobs.items() if other & mask)

    def work(self, mask: int) -> float:
        """Their device-seconds, and those of what runs there."""
        return sum(work for other, work in self._work.items() if other & mask)

    def add(self, mask: int, cost: float) -> None:
        """One more waiting job."""
        self._jobs[mask] = self._jobs.get(mask, 0) + 1
        self._work[mask] = self._work.get(mask, 0.0) + cost


class Places:
    """See the module."""

    def __init__(
        self, queue: FairQueue, desk: Desk, routing: Routing, estimator: Estimator, clock: Clock
    ) -> None:
        self._queue = queue
        self._desk = desk
        self._routing = routing
        self._estimator = estimator
        self._clock = clock
        self._next = 0.0
        self._prices: Sequence[object] = ()

    async def look(self, running: Callable[[], Running]) -> Snapshot:
        """Note in each waiting group the place of its first job and the time of its last, in each job whether
        it may be paid for by now; and in each group that only runs a later time, where the one shown is about
        to pass. A long queue is looked along in pieces, and less often."""
        found, begun = Snapshot(), self._clock.monotonic()
        if begun >= self._next:
            await self._along(found, running())
            ended = self._clock.monotonic()
            self._next = ended + (ended - begun) / SHARE
        for job, lane in running():
            if job.group.group_id not in found.groups:
                _extend(job, lane, self._estimator, self._clock)
                found.groups[job.group.group_id] = job.group
        return found

    async def _along(self, found: Snapshot, running: Running) -> None:
        ahead, crews = _Ahead(running, self._routing.lanes), dict[str, Crew]()
        served = any(lane.capabilities.models for lane in self._routing.lanes)
        prices = self._routing.prices
        if renamed := prices != self._prices:
            self._routing.forget()
        planned = 0
        for jobs in self._queue.prepare():
            if (planned := planned + jobs) >= AT_ONCE:
                planned = 0
                await asyncio.sleep(0)
        for number, (entry, place) in enumerate(self._queue.standings(), 1):
            job = self._desk.job(entry.job_id)
            if job is not None and job.state is State.QUEUED and not job.dispatched:
                if renamed:
                    entry = replace(entry, kind=self._routing.kind(job))
                    self._queue.set_kind(job.job_id, entry.kind)
                crew = crews.get(entry.kind) or crews.setdefault(entry.kind, self._crew(entry.kind))
                self._note(found, job, entry, place, crew, ahead)
                ahead.add(crew.mask, entry.cost)
                if crew.offered and not crew.for_money:
                    job.unserved_since = None
                elif served and not job.cancelling:
                    self._note_unserved(found, job, entry)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._prices = prices

    def _crew(self, kind: str) -> Crew:
        routing, now = self._routing, self._clock.monotonic()
        bits = {lane.name: 1 << index for index, lane in enumerate(routing.lanes)}
        offering = routing.offering(kind)
        free = [lane for lane in offering if not routing.pays(kind, lane)]
        paid = [lane for lane in offering if routing.pays(kind, lane)]
        nominal, allowed = sum(lane.power for lane in free), routing.allowed(kind)
        return Crew(
            mask=sum(bits[lane.name] for lane in allowed),
            own=sum(bits[lane.name] for lane in free),
            base=sum(lane.power for lane in free if lane.works(now)) or nominal,
            hired=sum(lane.power for lane in paid if lane.works(now) and routing.open(lane)),
            after=min((lane.terms.after for lane in paid), default=0.0) if free else 0.0,
            nominal=nominal,
            paid=bool(paid),
            offered=bool(offering),
            for_money=bool(allowed) and all(routing.pays(kind, lane) for lane in allowed),
        )

    def _note(
        self, found: Snapshot, job: LiveJob, entry: Entry, place: Place, crew: Crew, ahead: _Ahead
    ) -> None:
        clock, group, cost_ahead = self._clock, job.group, ahead.work(crew.mask)
        predicted = crew.seconds(cost_ahead + job.cost)
        if job.predicted is None:  # what was expected when it came, to learn from later
            job.predicted, job.predicted_at = predicted, clock.monotonic()
        low, high = self._estimator.spread(predicted)
        first = group.group_id not in found.groups
        found.groups[group.group_id] = group
        group.position = _position(group.position, place, ahead.jobs(crew.mask), low, high, first=first)
        group.by = clock.now() + high
        if crew.paid and (crew.nominal > 0.0 or not crew.mask):
            wait = clock.monotonic() - group.since + ahead.work(crew.own) / (crew.nominal or 1.0)
            self._queue.set_kind(job.job_id, self._routing.after(entry.kind, wait))

    def _note_unserved(self, found: Snapshot, job: LiveJob, entry: Entry) -> None:
        now, cap = self._clock.monotonic(), None
        if self._routing.offering(entry.kind):
            cap = self._routing.unpaid(entry.kind, job)
            if cap is None:
                job.unserved_since = None
                return
        if job.unserved_since is None:
            job.unserved_since = now
        elif now - job.unserved_since > UNSERVED_MOST:
            found.unserved.append((job, cap))


def _position(
    shown: Position | None, place: Place, jobs_ahead: int, low: float, high: float, *, first: bool
) -> Position:
    """A place as it is shown: a later arrival may overtake, so small rises are not. Of further jobs of the
    same group only the times count."""
    if shown is not None and not first:
        return Position(shown.own_rank, shown.own_total, shown.ahead, low, high)
    ahead = shown_ahead(shown.ahead if shown else None, jobs_ahead)
    return Position(place.own_rank, place.own_total, ahead, low, high)


def _extend(job: LiveJob, lane: Lane, estimator: Estimator, clock: Clock) -> None:
    group, now = job.group, clock.now()
    if group.by is None or group.by < now + SOON:
        left = job.cost * (1.0 - (job.progress.fraction if job.progress else 0.0))
        _, high = estimator.wait(0.0, left, lane.capabilities.speed)
        group.by = now + max(high, 2 * SOON)
