"""Which lane makes a job: what is free of charge before what is paid, and paid only where there is need.

Jobs are told apart by kind: the model, the fields that a backend must honour, the lanes that they failed on,
and how long they would wait for what is free of charge. So a queue of any length is asked about kinds, not
about jobs. Chooses; starts nothing and spends nothing.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bot.core.budget import Budget, Cap
from bot.core.desk import LiveJob
from bot.core.errors import QuotaExceeded
from bot.core.estimator import Estimator
from bot.core.fairqueue import Entry
from bot.core.lanes import Lane, needs
from bot.core.messages import price as dollars
from bot.core.ports import Model
from bot.core.request import ImageRequest, Requester
from bot.core.standins import Swap, note, said

log = logging.getLogger(__name__)

IDLE = 1.0  # seconds
UNIT = ImageRequest("", 512, 512, 30, 7.5, 0)


@dataclass(frozen=True, slots=True)
class Kind:
    """What jobs of one kind ask for. wanted: what stand-ins for the model have to honour besides; level: of
    how many `after` their wait is over; least: US dollars that they cost at least, wherever they cost any."""

    model: str | None
    fields: frozenset[str]
    scheduler: str | None
    wanted: frozenset[str]
    avoid: frozenset[str]
    level: int
    least: float


class Routing:
    """See the module."""

    def __init__(self, lanes: Sequence[Lane], budget: Budget, estimator: Estimator) -> None:
        self.lanes = lanes
        self.budget = budget
        self._estimator = estimator
        self._asked: dict[str, Model] = {}
        self._stood_for = dict.fromkeys(name for lane in lanes for name in lane.terms.stands_for)
        for lane in lanes:
            lane.others = self.offered
        self._steps = sorted({lane.terms.after for lane in lanes})
        self._spent: dict[str, float] = {}
        self._spent_at = self._idle_at = -1
        self._idle_until = -math.inf
        self._kinds = {"": Kind(None, frozenset(), None, frozenset(), frozenset(), 0, 0.0)}

    # --- kinds ---

    def kind(self, job: LiveJob) -> str:
        """The kind of a job that has not waited yet."""
        request, level = job.request, bisect_right(self._steps, 0.0)
        least = _rounded_down(self._least(request))
        fields, avoid = needs(request), frozenset(job.avoid)
        wanted = self._wanted(request)
        return self._named(Kind(request.model, fields, request.scheduler, wanted, avoid, level, least))

    def _wanted(self, request: ImageRequest) -> frozenset[str]:
        if request.model is None or request.model not in self._stood_for:
            return frozenset()
        return said(request, self.offered(request.model), self.lanes[0].limits)

    def after(self, kind: str, wait: float) -> str:
        """The kind of such a job that would wait so many seconds in all for what is free of charge."""
        known, level = self._kinds[kind], bisect_right(self._steps, wait)
        return kind if level == known.level else self._named(replace(known, level=level))

    def _named(self, kind: Kind) -> str:
        parts = (
            kind.model or "",
            *map(",".join, map(sorted, (kind.fields, kind.wanted, kind.avoid))),
            kind.scheduler or "",
        )
        name = "\n".join((*parts, str(kind.level), f"{kind.least:g}", "" if kind.model is None else "="))
        self._kinds.setdefault(name, kind)
        return name

    def _least(self, request: ImageRequest) -> float:
        charging = [lane for lane in self.lanes if lane.charges(request.model)]
        return min((lane.price(request, self.seconds(lane, request) / 2.0) for lane in charging), default=0.0)

    @property
    def prices(self) -> Sequence[object]:
        """All that kinds follow from but jobs: where it changes, they are to be named anew. Times count where
        they halve or double."""
        stood_for = [(name, self.offered(name)) for name in self._stood_for]
        best = [
            (name, model and (model.steps, model.guidance_scale, model.scheduler))
            for name, model in stood_for
        ]
        return best + [
            (model.id, model.price, math.floor(math.log2(self._estimator.cost(UNIT, model.id, lane.name))))
            for lane in self.lanes
            for model in lane.capabilities.models
            if model.price is not None
        ]

    def offering(self, kind: str) -> list[Lane]:
        """The lanes that can make such jobs, whatever that costs and however they are."""
        of = self._kinds[kind]
        return [
            lane
            for lane in self.lanes
            if lane.name not in of.avoid and lane.offers(of.model, of.fields, of.scheduler, of.wanted)
        ]

    def allowed(self, kind: str) -> list[Lane]:
        """Of these, those that such jobs may have by now: paid ones where nothing is free of charge, or the
        wait is over their `after`."""
        of, offering = self._kinds[kind], self.offering(kind)
        if all(lane.charges(of.model) for lane in offering) and not self._may_come(of.model):
            return offering
        return [
            lane
            for lane in offering
            if not lane.charges(of.model) or bisect_right(self._steps, lane.terms.after) <= of.level
        ]

    def pays(self, kind: str, lane: Lane) -> bool:
        """Whether such jobs cost money on a lane."""
        return lane.charges(self._kinds[kind].model)

    def least(self, kind: str) -> float:
        """US dollars that any such job costs at least, where it costs any."""
        return self._kinds[kind].least

    # --- stand-ins ---

    def offered(self, name: str) -> Model | None:
        """The model with this id as a lane offers it, or did last; None where none ever has."""
        if found := next((model for lane in self.lanes if (model := lane.own(name)) is not None), None):
            self._asked[name] = found
        return self._asked.get(name)

    def _may_come(self, name: str | None) -> bool:
        """Whether a model that has stand-ins has not been offered since the start, and may be by a backend
        that was not reached yet."""
        unknown = name in self._stood_for and self.offered(str(name)) is None
        return unknown and not all(lane.capabilities.models for lane in self.lanes)

    def instead(self, lane: Lane, job: LiveJob) -> Swap | None:
        """What a lane is given now in place of a job's request where its model stands in for that one."""
        request = job.request
        own, swapped = lane.model(request.model), lane.swap(request)
        if swapped is None or own is None or request.model is None:
            return None
        there = [
            each for each in self.offering(self.kind(job)) if each.up and not each.stands_in(request.model)
        ]
        why = "the wait would have been long" if lane.charges(request.model) else "it was busy"
        why = why if there else "it could not be had"
        return replace(swapped, note=note(own, self.offered(request.model), request.model, why))

    # --- a free slot ---

    def turn(self, kinds: Iterable[str], now: float, job_of: Callable[[str], LiveJob | None]) -> Turn:
        """What the lanes that are free now can take of these kinds. job_of: by id."""
        free = [lane for lane in self.lanes if _is_free(lane, now)]
        idle = now < self._idle_until and self._idle_at == self.budget.changes
        routes, up = {}, {}
        for kind in list(kinds) if free else ():
            allowed = self.allowed(kind)
            up[kind] = [lane for lane in allowed if lane.up]
            if idle:
                allowed = [lane for lane in allowed if not self.pays(kind, lane)]
            if found := [lane for lane in allowed if lane in free]:
                routes[kind] = found
        return Turn(self, routes, up, now, job_of)

    def forget(self) -> None:
        """Other prices: who can pay for what is to be found out anew."""
        self.budget.changes += 1

    def idle(self, now: float) -> None:
        """Nothing was found that could be paid for: the line is not looked along again for a moment, unless
        there is room in a budget again."""
        self._idle_until, self._idle_at = now + IDLE, self.budget.changes

    def best(self, lanes: Sequence[Lane], request: ImageRequest) -> Lane:
        """The one that makes a request: free of charge, healthy, by the model itself, fast, cheap, in this
        order."""
        return min(lanes, key=lambda lane: self._rank(lane, request))

    def _rank(self, lane: Lane, request: ImageRequest) -> tuple[bool, bool, bool, bool, float, float]:
        seconds, name = self.seconds(lane, request), request.model
        money = lane.price(request, seconds)
        return lane.charges(name), not lane.up, lane.faults > 0, lane.stands_in(name), seconds, money

    def seconds(self, lane: Lane, request: ImageRequest) -> float:
        """Device-seconds that a request is expected to take there."""
        model = lane.model(request.model)
        return self._estimator.cost(lane.made_as(request), model.id if model else "", lane.name)

    # --- money ---

    @property
    def spent(self) -> dict[str, float]:
        """What room was left for tenants and members, by their scopes, when they could not pay for a job: no
        more, as long as nothing is given back."""
        if self._spent_at != self.budget.changes:
            self._spent, self._spent_at = {}, self.budget.changes
        return self._spent

    @property
    def _charges(self) -> bool:
        """Whether any lane costs money for anything."""
        return any(lane.hosted for lane in self.lanes)

    def price(self, lane: Lane, request: ImageRequest) -> float:
        """US dollars that a request is expected to cost there; 0 where it is free of charge."""
        return lane.price(request, self.seconds(lane, request)) if lane.charges(request.model) else 0.0

    def costly(self, request: ImageRequest) -> float | None:
        """The price of a request that only paid lanes can make, at the cheapest; None for any other."""
        lanes = [lane for lane in self.lanes if lane.can_run(request)]
        if not lanes or not all(lane.charges(request.model) for lane in lanes):
            return None
        return min(self.price(lane, request) for lane in lanes)

    def about(self, requests: Sequence[ImageRequest]) -> Sequence[str]:
        """What requests will cost that only paid lanes can make, for a receipt: "about $0.04"; nothing for
        others."""
        if not self._charges:
            return []
        moneys = [money for request in requests if (money := self.costly(request)) is not None]
        return [f"about {dollars(sum(moneys))}"] if moneys else []

    def check_paid(self, requests: Sequence[ImageRequest], who: Requester) -> None:
        """Raise QuotaExceeded where only paid lanes can make these (which differ in their prompts alone), and
        at none of them the caps have room for all."""
        if not self._charges or self.costly(requests[0]) is None:
            return
        lanes = [lane for lane in self.lanes if lane.can_run(requests[0])]
        moneys = [sum(self.price(lane, request) for request in requests) for lane in lanes]
        caps = [self.budget.full(lane, who, money) for lane, money in zip(lanes, moneys, strict=True)]
        full = [(money, cap) for money, cap in zip(moneys, caps, strict=True) if cap is not None]
        if len(full) == len(lanes):
            money, cap = min(full, key=lambda each: each[0])
            raise self.budget.refusal(cap, money)

    def refusal(self, cap: Cap, request: ImageRequest) -> QuotaExceeded:
        """What is said of a request that a cap has no room for."""
        return self.budget.refusal(cap, self.costly(request) or 0.0)

    def unpaid(self, kind: str, job: LiveJob) -> Cap | None:
        """The cap for want of which nothing may make a job now; None where some lane may."""
        lanes = self.allowed(kind)
        if not lanes or any(not self.pays(kind, lane) for lane in lanes):
            return None
        caps = [self._refusing(lane, job) for lane in lanes]
        return None if None in caps else caps[0]

    def _refusing(self, lane: Lane, job: LiveJob) -> Cap | None:
        return self.budget.full(lane, job.group.requester, self.price(lane, job.request))

    def open(self, lane: Lane) -> bool:
        """Whether anybody's job may still be paid for there today."""
        return all(self.budget.room(cap) > 0.0 for cap in self.budget.common(lane))

    def affords(self, lane: Lane, job: LiveJob) -> bool:
        """Whether a job may start there as far as money goes."""
        return not lane.charges(job.request.model) or self._refusing(lane, job) is None


class Turn:
    """One look for a job to start. Functions of it are given to FairQueue.pop. routes: the free lanes that
    jobs of each kind may have; up: all that these may have and that are not down."""

    def __init__(
        self,
        routing: Routing,
        routes: dict[str, list[Lane]],
        up: dict[str, list[Lane]],
        now: float,
        job_of: Callable[[str], LiveJob | None],
    ) -> None:
        self._routing = routing
        self._routes = routes
        self._up = up
        self._now = now
        self._job_of = job_of
        self._paid_alone = self._is_paid_alone()
        self._poor = False
        self._spent = routing.spent
        self._least = min(map(routing.least, routes), default=0.0)

    def __bool__(self) -> bool:
        return bool(self._routes)

    def _is_paid_alone(self) -> bool:
        routes = self._routes.items()
        return all(self._routing.pays(kind, lane) for kind, lanes in routes for lane in lanes)

    def took(self, lane: Lane) -> None:
        """A job was started on a lane."""
        if not _is_free(lane, self._now):
            for kind in list(self._routes):
                self._drop(kind, lane)
            self._paid_alone = self._is_paid_alone()

    def over(self) -> None:
        """Nothing was found, perhaps for want of money."""
        if self._paid_alone and self._poor:
            self._routing.idle(self._now)

    def serves(self, kind: str) -> bool:
        """Whether jobs of this kind can run at all."""
        return kind in self._routes

    def skips(self, tenant: str, member: str | None) -> bool:
        """Whether these can pay for nothing more today, where nothing here is free of charge."""
        if not self._paid_alone or not self._lacks(tenant, member, self._least):
            return False
        self._poor = True
        return True

    def _lacks(self, tenant: str, member: str | None, money: float) -> bool:
        """Whether these are known to have less."""
        spent = self._spent
        return bool(spent) and (
            spent.get(f"tenant:{tenant}", money) < money or spent.get(f"member:{member}", money) < money
        )

    def can_run(self, entry: Entry) -> bool:
        """Whether this job can start now."""
        job = self._job_of(entry.job_id)
        if job is None:
            return True  # to be dropped
        return job.not_before <= self._now and bool(self._lanes(entry, job))

    def lane_for(self, entry: Entry, job: LiveJob) -> Lane:
        """The best lane for a job that can run."""
        return self._routing.best(self._lanes(entry, job), job.request)

    def _lanes(self, entry: Entry, job: LiveJob) -> list[Lane]:
        """Who is down is tried where nobody else is there who can be paid for."""
        kind = entry.kind
        found = [lane for lane in self._routes.get(kind, ()) if self._affords(kind, lane, job)]
        if all(lane.up for lane in found):
            return found
        there = any(self._affords(kind, lane, job) for lane in self._up[kind])
        return [lane for lane in found if lane.up] if there else found

    def _affords(self, kind: str, lane: Lane, job: LiveJob) -> bool:
        """Whether it can be paid for. Whose cap has no room for any job that waits is not asked again."""
        routing = self._routing
        if not routing.pays(kind, lane):
            return True
        who = job.group.requester
        if self._lacks(who.tenant, who.member, routing.least(kind)):
            self._poor = True
            return False
        cap = routing.budget.full(lane, who, routing.price(lane, job.request))
        if cap is None:
            return True
        self._poor = True
        routing.budget.tell(cap)
        room = routing.budget.room(cap)
        if not cap.personal:
            self._close(lane, room)
        else:
            self._spent[cap.scope] = room
        return False

    def _close(self, lane: Lane, room: float) -> None:
        """Nobody may have this lane any more for what costs more than this."""
        for kind in list(self._routes):
            if self._routing.least(kind) > room:
                self._drop(kind, lane)

    def _drop(self, kind: str, lane: Lane) -> None:
        if left := [each for each in self._routes[kind] if each is not lane]:
            self._routes[kind] = left
        else:
            del self._routes[kind]


def _rounded_down(money: float) -> float:
    """By less than a fifth, so that prices make few kinds."""
    return 2.0 ** (math.floor(4.0 * math.log2(money)) / 4.0) * (1.0 - 1e-9) if money > 0.0 else 0.0


def _is_free(lane: Lane, now: float) -> bool:
    try:
        return lane.free(now)
    except Exception:  # one backend's bug must not stop the others
        log.exception("%s: nothing can be started there", lane.name)
        return False
