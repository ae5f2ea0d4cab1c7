"""After a restart: take in hand what the store holds unfinished.

Jobs that waited keep their places; jobs that ran are looked for at their backends, which either go on
showing them or say that they are lost, and then they go to the head of their user's line; one that cost money
at a backend that is not configured any more has failed. What cannot be read
any more fails by itself, and what belongs to a platform that is not enabled now waits in the store.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from bot.core import outcomes
from bot.core.codec import request_from_json
from bot.core.delivery import Courier
from bot.core.desk import Desk, LiveGroup, LiveJob, live_group
from bot.core.dispatcher import Dispatcher
from bot.core.errors import ProtocolError
from bot.core.fairqueue import FairQueue
from bot.core.lanes import Lane
from bot.core.ports import Clock, Store, StoredGroup
from bot.core.request import Image, Requester, State

log = logging.getLogger(__name__)


async def revive(
    store: Store,
    desk: Desk,
    queue: FairQueue,
    dispatcher: Dispatcher,
    courier: Courier,
    clock: Clock,
    weigh: Callable[[Requester], Awaitable[None]],
) -> int:
    """Rebuild the desk and the queue from the store. Returns how many groups were unfinished.

    weigh: sets a member's weight in the queue, for weights are as they are set now, not as they were stored.
    """
    queue.restore(replace(tag, weight=1.0) for tag in await store.tags())
    taken: list[tuple[StoredGroup, LiveGroup]] = []
    for stored in await store.unfinished():
        if _served(stored, courier) and (group := await _read(stored, store, clock)):
            taken.append((stored, group))
            desk.add(group)
            desk.reserve(group.requester, sum(_waits(job) for job in group.jobs))
            await weigh(group.requester)
    jobs = [job for _, group in taken for job in group.jobs]  # in order of acceptance
    running = [job for job in jobs if job.state is State.RUNNING]
    for job in jobs:  # all of them before anything else is asked of the queue
        if job.state is State.QUEUED:
            dispatcher.push(job)
        elif job.state is State.RUNNING:
            queue.adopt_running(dispatcher.entry(job))
    for job in running:
        await _resume(job, store, desk, queue, dispatcher)
    for stored, group in taken:
        courier.open(stored, group)
    await courier.resume()
    return len(taken)


def _served(group: StoredGroup, courier: Courier) -> bool:
    if courier.serves(group.requester.platform):
        return True
    log.warning(
        "group %s waits until its platform %s is enabled again", group.group_id, group.requester.platform
    )
    return False


async def _read(stored: StoredGroup, store: Store, clock: Clock) -> LiveGroup | None:
    """The group in hand; None where it is damaged, and then it has failed."""
    try:
        requests = [request_from_json(job.request, load=_outline) for job in stored.jobs]
    except ProtocolError as error:
        outcome = outcomes.failed(error, outcomes.new_reference())
        log.error("group %s cannot be read: %s; ref %s", stored.group_id, error.detail, outcome.reference)
        for job in stored.jobs:
            if not job.state.ended:
                await store.finish(job.job_id, attempt=job.attempt, outcome=outcome, at=clock.now(), tags=())
        return None
    return live_group(stored, requests, clock, restarted=True)


def _outline(name: str) -> Image:
    """An input picture, whose bytes are read when a backend needs them."""
    return Image(b"", "", 0, 0)


def _waits(job: LiveJob) -> bool:
    return job.state in (State.ACCEPTED, State.QUEUED)


async def _resume(job: LiveJob, store: Store, desk: Desk, queue: FairQueue, dispatcher: Dispatcher) -> None:
    lane = _lane(job, dispatcher.lanes)
    if lane is not None:
        dispatcher.adopt(job, lane)
        return
    if job.ref is not None and job.held is not None:
        await dispatcher.abandon(job)
        return
    queue.requeue(job.job_id)
    await store.requeue(job.job_id, attempt=job.attempt, tags=queue.changed())
    job.attempt += 1
    job.forget_attempt()
    job.state = State.QUEUED
    desk.reserve(job.group.requester, 1)


def _lane(job: LiveJob, lanes: Sequence[Lane]) -> Lane | None:
    """The lane that may still be running a job."""
    found = (
        lane for lane in lanes if lane.name == job.backend and lane.may_resume(paid=job.held is not None)
    )
    return next(found, None) if job.ref is not None else None
