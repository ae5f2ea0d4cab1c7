"""Where everybody stands: one snapshot of the queue, noted in each group. Decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bot.core.desk import Desk, LiveGroup, LiveJob
from bot.core.estimator import Estimator, shown_ahead
from bot.core.fairqueue import FairQueue, Place
from bot.core.lanes import Lane, serving
from bot.core.ports import Clock, Position

SOON = 2.0  # seconds before the time shown passes at which a later one is shown


def note_places(
    queue: FairQueue,
    desk: Desk,
    running: Sequence[tuple[LiveJob, Lane]],
    lanes: Sequence[Lane],
    estimator: Estimator,
    clock: Clock,
) -> Collection[LiveGroup]:
    """Note in each waiting group the place of its first job and the time of its last; and in each group that
    only runs a later time, where the one shown is about to pass. Returns these groups."""
    before = sum(job.cost for job, _ in running)
    power = serving(lanes)
    waiting: dict[str, LiveGroup] = {}
    for job_id, place in queue.places().items():  # in the order in which they go
        job = desk.job(job_id)
        if job is None:
            continue
        _predict(job, before + place.cost_ahead, power, estimator, clock)
        low, high = estimator.wait(before + place.cost_ahead, job.cost, power)
        group = job.group
        first = group.group_id not in waiting
        waiting[group.group_id] = group
        group.position = _position(group.position, place, low, high, first=first)
        group.by = clock.now() + high
    for job, lane in running:
        if job.group.group_id not in waiting:
            _extend(job, lane, estimator, clock)
            waiting[job.group.group_id] = job.group
    return waiting.values()


def _position(shown: Position | None, place: Place, low: float, high: float, *, first: bool) -> Position:
    """A place as it is shown: a later arrival may overtake, so small rises are not. Of further jobs of the
    same group only the times count."""
    if shown is not None and not first:
        return Position(shown.own_rank, shown.own_total, shown.ahead, low, high)
    ahead = shown_ahead(shown.ahead if shown else None, place.ahead)
    return Position(place.own_rank, place.own_total, ahead, low, high)


def _predict(job: LiveJob, cost_ahead: float, power: float, estimator: Estimator, clock: Clock) -> None:
    """Note what was expected when it came, to learn from later."""
    if job.predicted is None:
        job.predicted = estimator.predict(cost_ahead, job.cost, power)
        job.predicted_at = clock.monotonic()


def _extend(job: LiveJob, lane: Lane, estimator: Estimator, clock: Clock) -> None:
    group, now = job.group, clock.now()
    if group.by is None or group.by < now + SOON:
        left = job.cost * (1.0 - (job.progress.fraction if job.progress else 0.0))
        _, high = estimator.wait(0.0, left, lane.capabilities.speed)
        group.by = now + max(high, 2 * SOON)
