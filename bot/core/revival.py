"""After a restart: take in hand what the store holds unfinished.

Jobs that waited keep their places; jobs that ran are looked for at their backends, which either go on
showing them or say that they are lost, and then they go to the head of their user's line.
"""

from __future__ import annotations

import asyncio
import logging

from bot.core.codec import request_from_json
from bot.core.delivery import Courier
from bot.core.desk import Desk, LiveJob, live_group
from bot.core.dispatcher import Dispatcher
from bot.core.fairqueue import FairQueue
from bot.core.gallery import Gallery
from bot.core.ports import Store, StoredGroup
from bot.core.request import ImageRequest, State

log = logging.getLogger(__name__)


async def revive(
    store: Store, desk: Desk, queue: FairQueue, dispatcher: Dispatcher, courier: Courier, gallery: Gallery
) -> int:
    """Rebuild the desk and the queue from the store. Returns how many groups were unfinished."""
    queue.restore(await store.tags())
    groups = [group for group in await store.unfinished() if _served(group, courier)]
    for stored in groups:
        requests = await asyncio.to_thread(_requests, stored, gallery)
        group = live_group(stored, requests, restarted=True)
        desk.add(group)
        waiting = sum(job.state in (State.ACCEPTED, State.QUEUED) for job in group.jobs)
        desk.reserve(group.requester, waiting)
    jobs = [job for stored in groups for job in desk.groups[stored.group_id].jobs]
    for job in jobs:  # in order of acceptance, which is the order of the queue
        if job.state is State.QUEUED:
            dispatcher.push(job)
        elif job.state is State.RUNNING:
            await _resume(job, store, desk, queue, dispatcher)
    for stored in groups:
        courier.open(desk.groups[stored.group_id])
    await courier.resume()
    return len(groups)


def _served(group: StoredGroup, courier: Courier) -> bool:
    if courier.serves(group.requester.platform):
        return True
    log.warning(
        "group %s waits until its platform %s is enabled again", group.group_id, group.requester.platform
    )
    return False


def _requests(stored: StoredGroup, gallery: Gallery) -> list[ImageRequest]:
    return [request_from_json(job.request, load=gallery.load_input) for job in stored.jobs]


async def _resume(job: LiveJob, store: Store, desk: Desk, queue: FairQueue, dispatcher: Dispatcher) -> None:
    lane = next((lane for lane in dispatcher.lanes if lane.name == job.backend), None)
    if lane is not None and job.ref is not None and lane.capabilities.resumable:
        dispatcher.adopt(job, lane)
        return
    queue.adopt_running(dispatcher.entry(job))
    queue.requeue(job.job_id)
    await store.requeue(job.job_id, attempt=job.attempt, tags=queue.changed())
    job.attempt += 1
    job.forget_attempt()
    job.state = State.QUEUED
    desk.reserve(job.group.requester, 1)
