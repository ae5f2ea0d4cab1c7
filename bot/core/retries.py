"""Whether a job that failed is tried again, where and when. Counts tries; starts nothing."""

from __future__ import annotations

from collections.abc import Sequence

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


def may_have(lane: Lane, job: LiveJob) -> bool:
    """Whether a lane can run a job and has not just failed at it."""
    return lane.name not in job.avoid and lane.can_run(job.request)


def worth_retrying(
    lane: Lane, job: LiveJob, error: FairbrushError, lanes: Sequence[Lane], attempts: int
) -> bool:
    """Whether a job that failed on `lane` is tried again, on another one where there is one."""
    match error:
        case InvalidRequest() | ContentRejected() | Cancelled():
            return False
        case AuthFailed() | QuotaExceeded():
            return _elsewhere(lane, job, lanes)
        case RateLimited():
            return error.accepted is not True
        case Fault() if error.accepted is None:
            return False  # sent but unanswered: it may have been made and paid for
        case Fault():
            job.failures += 1
            if not _elsewhere(lane, job, lanes):
                job.avoid.clear()
            return job.failures < attempts
        case _:
            return False


def _elsewhere(lane: Lane, job: LiveJob, lanes: Sequence[Lane]) -> bool:
    """Keep a job from this lane; whether another one can run it."""
    job.avoid.add(lane.name)
    return any(may_have(other, job) for other in lanes)


def pause(job: LiveJob, error: FairbrushError) -> float:
    """Seconds until a job is tried again; at a rate limit the lane rests, and another may take it at once."""
    if isinstance(error, RateLimited):
        return 0.0
    return error.retry_after if error.retry_after is not None else min(30.0, 0.25 * 4.0**job.failures)
