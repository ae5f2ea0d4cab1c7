"""What jobs on paid lanes cost: held while they run, and a charge or nothing once they end.

Money is counted as spent where it surely or possibly was: of a job that was sent and never answered, or left
behind, nobody knows. Knows no queue; charges are stored by whoever ends the job.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bot.core.budget import Budget
from bot.core.desk import LiveJob
from bot.core.errors import AuthFailed, Cancelled, FairbrushError, Fault, QuotaExceeded, RateLimited
from bot.core.lanes import Lane
from bot.core.ports import Charge, Clock, Done
from bot.core.routing import Routing


class Ledger:
    """See the module."""

    def __init__(self, budget: Budget, routing: Routing, clock: Clock) -> None:
        self._budget = budget
        self._routing = routing
        self._clock = clock

    def begin(self, job: LiveJob, lane: Lane) -> None:
        """A job runs on a lane, or still does after a restart: hold its estimate, as it was at its start."""
        if job.held is None and lane.charges(job.made.model):
            job.held = self._routing.price(lane, job.made)
        if job.held is not None and not self._budget.held(job.job_id):
            self._budget.hold(job.job_id, lane.name, job.group.requester, job.held)

    def priced(self, job: LiveJob, lane: Lane, done: Done) -> Done:
        """What a job that was made cost: as the backend says, else by the price of its model, which may be
        offered no more."""
        if done.money is not None or job.held is None:
            return done
        charged = lane.charges(job.made.model)
        money = lane.price(job.made, done.device_seconds) if charged else job.held
        return replace(done, money=money)

    def lost(self, job: LiveJob, error: BaseException, *, left_behind: bool) -> float | None:
        """What a job that was not made has cost, or may have; None where it surely cost nothing."""
        if isinstance(error, FairbrushError) and error.money is not None and 0.0 <= error.money < math.inf:
            return error.money
        if job.ref is None:
            return None
        if left_behind or not isinstance(error, FairbrushError) or _unclear(error):
            return job.held
        return None

    def charge(self, job: LiveJob, money: float | None) -> Charge | None:
        """What is stored of it."""
        if not money:
            return None
        who = job.group.requester
        return Charge(self._clock.now(), job.backend, who.tenant, who.member, job.job_id, job.attempt, money)

    def end(self, job: LiveJob, charge: Charge | None) -> None:
        """The job has ended, or waits again, and the store knows of the charge."""
        self._budget.release(job.job_id)
        if charge is not None:
            self._budget.spend(charge)


def _unclear(error: FairbrushError) -> bool:
    """Whether the job may have been made all the same."""
    refused = isinstance(error, AuthFailed | QuotaExceeded | RateLimited | Cancelled)
    return isinstance(error, Fault) and not refused and error.accepted is None
