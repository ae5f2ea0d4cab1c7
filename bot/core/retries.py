"""Whether a job that failed is tried again, where and when. Counts tries; starts nothing.

What fails where it is free of charge is tried there again; only the last try may cost money.
"""

from __future__ import annotations

from bot.core.desk import LiveJob
from bot.core.errors import (
    AuthFailed,
    Cancelled,
    ContentRejected,
    FairbrushError,
    Fault,
    InvalidRequest,
    QuotaExceeded,
    RateLimited,
)
from bot.core.lanes import Lane
from bot.core.routing import Routing


def may_have(lane: Lane, job: LiveJob) -> bool:
    """Whether a lane can run a job and has not just failed at it."""
    return lane.name not in job.avoid and lane.can_run(job.request)


def worth_retrying(lane: Lane, job: LiveJob, error: FairbrushError, routing: Routing, attempts: int) -> bool:
    """Whether a job that failed on `lane` is tried again, on another one where there is one."""
    match error:
        case ContentRejected() | Cancelled():
            return False
        case InvalidRequest() | AuthFailed() | QuotaExceeded():  # of this lane; another may take it
            return bool(_elsewhere(lane, job, routing))
        case RateLimited():
            return error.accepted is not True
        case Fault() if error.accepted is None:
            return False  # sent but unanswered: it may have been made and paid for
        case Fault():
            job.failures += 1
            others, model = _elsewhere(lane, job, routing), job.request.model
            for_money = all(other.charges(model) for other in others) and not lane.charges(model)
            if not others or (for_money and job.failures < attempts - 1):
                job.avoid.clear()
            return job.failures < attempts
        case _:
            return False


def _elsewhere(lane: Lane, job: LiveJob, routing: Routing) -> list[Lane]:
    """Keep a job from this lane; the others that can run it, and that it can be paid for at."""
    job.avoid.add(lane.name)
    return [other for other in routing.lanes if may_have(other, job) and routing.affords(other, job)]


def pause(job: LiveJob, error: FairbrushError) -> float:
    """Seconds until a job is tried again; at a rate limit the lane rests, and another may take it at once."""
    if isinstance(error, RateLimited):
        return 0.0
    return error.retry_after if error.retry_after is not None else min(30.0, 0.25 * 4.0**job.failures)
