"""The dispatcher: whenever a slot is free, the fair head of the queue takes it.

Owns slots, leases, retries, failover, time-outs and cancelling. One task a running job follows the
backend's events; one ticker renews leases, notices silence and refreshes places. Knows no platform and no
engine; time comes from the clock passed in.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from bot.core import outcomes
from bot.core.desk import Desk, LiveGroup, LiveJob, status_of
from bot.core.errors import (
    AuthFailed,
    Cancelled,
    ContentRejected,
    FairbrushError,
    Fault,
    InvalidRequest,
    QuotaExceeded,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.estimator import Estimator
from bot.core.fairqueue import Entry, FairQueue
from bot.core.gallery import Gallery
from bot.core.lanes import Lane, serving
from bot.core.moderation import previews_allowed
from bot.core.ports import (
    CancelOutcome,
    Clock,
    Done,
    Event,
    ImageReady,
    ImageRejected,
    JobStatus,
    Outcome,
    Preview,
    Progress,
    Queued,
    Store,
)
from bot.core.request import State
from bot.core.settings import Settings

log = logging.getLogger(__name__)

TICK = 1.0
CANCEL_GRACE = 10.0  # seconds that a backend has to confirm a cancel before it is left behind


class Dispatcher:
    """Runs jobs of the fair queue on the backends' lanes.

    on_status: a group now stands like this; on_ended: its last job ended and its result is in the outbox.
    """

    def __init__(
        self,
        desk: Desk,
        queue: FairQueue,
        store: Store,
        lanes: Sequence[Lane],
        gallery: Gallery,
        estimator: Estimator,
        clock: Clock,
        settings: Settings,
        *,
        on_status: Callable[[JobStatus], None],
        on_ended: Callable[[LiveGroup], None],
    ) -> None:
        self.lanes = lanes
        self._desk = desk
        self._queue = queue
        self._store = store
        self._gallery = gallery
        self._estimator = estimator
        self._clock = clock
        self._settings = settings
        self._on_status = on_status
        self._on_ended = on_ended
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._awake = asyncio.Event()
        self._stopping = False

    # --- what others call ---

    def push(self, job: LiveJob) -> None:
        """Line up a prepared job."""
        if job.state.ended:
            return
        job.state, job.queued_at = State.QUEUED, self._clock.monotonic()
        self._queue.push(self.entry(job))
        self.wake()

    def entry(self, job: LiveJob) -> Entry:
        """A job as the fair queue knows it."""
        requester = job.group.requester
        return Entry(job.job_id, requester.tenant, requester.member, job.cost)

    def adopt(self, job: LiveJob, lane: Lane) -> None:
        """After a restart: watch a job that its backend may still be running."""
        self._queue.adopt_running(self.entry(job))
        self._launch(lane, job, resumed=True)

    def wake(self) -> None:
        """Something changed: look for work."""
        self._awake.set()

    async def run(self) -> None:
        """Fill slots until cancelled."""
        ticker = asyncio.ensure_future(self._tick_forever())
        try:
            while True:
                await self._awake.wait()
                self._awake.clear()
                self._fill()
        finally:
            ticker.cancel()

    async def drain(self, seconds: float) -> None:
        """Start nothing more and give what runs some time; the rest stays with the store."""
        self._stopping = True
        tasks = set(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in set(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def cancel(self, job: LiveJob, *, message: str = "") -> None:
        """End a job that waits, or have its backend stop it. What ran is charged."""
        if job.state.ended or job.cancelling:
            return
        job.cancelling = True
        job.message = message
        if job.job_id in self._tasks:
            await self._stop_running(job)
        else:
            self._queue.cancel(job.job_id)
            await self._end(job, Outcome(State.CANCELLED, message=message))

    # --- slots ---

    def _fill(self) -> None:
        for lane in self.lanes:
            while not self._stopping and lane.free(self._clock.monotonic()):
                entry = self._queue.pop(partial(self._can_run, lane))
                if entry is None:
                    break
                self._launch(lane, self._desk.job(entry.job_id), resumed=False)

    def _can_run(self, lane: Lane, entry: Entry) -> bool:
        job = self._desk.job(entry.job_id)
        return (
            job.not_before <= self._clock.monotonic()
            and lane.name not in job.avoid
            and lane.can_run(job.request)
        )

    def _launch(self, lane: Lane, job: LiveJob, *, resumed: bool) -> None:
        lane.running.add(job.job_id)
        job.backend, job.last_sign = lane.name, self._clock.monotonic()
        task = asyncio.ensure_future(self._run_job(lane, job, resumed=resumed))
        self._tasks[job.job_id] = task
        task.add_done_callback(lambda _: self._landed(lane, job))

    def _landed(self, lane: Lane, job: LiveJob) -> None:
        self._tasks.pop(job.job_id, None)
        lane.running.discard(job.job_id)
        self.wake()

    # --- one job ---

    async def _run_job(self, lane: Lane, job: LiveJob, *, resumed: bool) -> None:
        try:
            done = await self._attempt(lane, job, resumed=resumed)
            if done is not None:
                await self._complete(lane, job, done)
                lane.succeeded()
        except FairbrushError as error:
            await self._failed(lane, job, error)
        except asyncio.CancelledError:
            if not job.cancelling:
                raise  # the program is stopping: the store keeps the job
            await self._end_running(job, Outcome(State.CANCELLED, message=job.message), self._used(job))
        except Exception:  # a backend's bug: one job fails, with a reference into the log
            reference = new_reference()
            log.exception("job %s failed on %s; ref %s", job.job_id, lane.name, reference)
            outcome = Outcome(State.FAILED, message="Something broke while making it.", reference=reference)
            await self._end_running(job, outcome, self._used(job))

    async def _attempt(self, lane: Lane, job: LiveJob, *, resumed: bool) -> Done | None:
        """Start a job and follow it to its Done; None where it was cancelled before it began."""
        if not resumed and not await self._begin(lane, job):
            return None
        job.state = State.RUNNING
        assert job.ref is not None  # noqa: S101 - _begin stored it, and only jobs with a ref are adopted
        events = lane.backend.events(job.ref)
        try:
            async for event in events:
                job.last_sign = self._clock.monotonic()
                if isinstance(event, Done):
                    return event
                self._note(lane, job, event)
        finally:
            if (close := getattr(events, "aclose", None)) is not None:
                await close()
        raise Unavailable("The backend stopped without a result.", accepted=True)

    async def _begin(self, lane: Lane, job: LiveJob) -> bool:
        now = self._clock.now()
        started = await self._store.start(
            job.job_id,
            attempt=job.attempt,
            backend=lane.name,
            at=now,
            lease_until=now + self._settings.lease_seconds,
            tags=self._queue.changed(),
        )
        if job.cancelling or not started:
            await self._end_running(job, Outcome(State.CANCELLED, message=job.message), 0.0)
            return False
        job.state = State.RUNNING
        self._desk.release(job.group.requester, 1)
        job.ref = await lane.backend.submit(job.request, job_id=job.job_id)
        await self._store.save_ref(job.job_id, attempt=job.attempt, ref=job.ref)
        if job.stopping():
            await lane.backend.cancel(job.ref)
        return True

    def _note(self, lane: Lane, job: LiveJob, event: Event) -> None:
        match event:
            case Queued():
                job.waiting_inside = event.ahead
            case Progress():
                job.waiting_inside, job.progress = None, event
            case Preview() if self._settings.previews and previews_allowed(lane.capabilities):
                job.preview = event
            case ImageReady():
                job.images[event.index] = event
            case ImageRejected():
                job.rejected[event.index] = event.reason
            case _:
                return
        self._on_status(status_of(job.group))

    async def _complete(self, lane: Lane, job: LiveJob, done: Done) -> None:
        """Write the pictures, then end the job."""
        pictures = await self._gallery.keep(job, done, backend=lane.name, now=self._clock.now())
        outcome = outcomes.made(job, pictures, done)
        used = done.device_seconds * lane.capabilities.speed
        self._estimator.observe(lane.made_as(job.request), done.model, lane.name, done.device_seconds)
        if job.predicted is not None:
            self._estimator.observe_wait(job.predicted, self._clock.monotonic() - job.queued_at)
        if not await self._end_running(job, outcome, used):
            await self._gallery.remove([picture.name for picture in pictures])

    # --- what goes wrong ---

    async def _failed(self, lane: Lane, job: LiveJob, error: FairbrushError) -> None:
        if job.cancelling:
            await self._end_running(job, Outcome(State.CANCELLED, message=job.message), self._used(job))
            return
        if isinstance(error, Fault) and not isinstance(error, Cancelled):
            lane.failed(error, self._clock.monotonic())
        log.warning("job %s on %s: %s %s", job.job_id, lane.name, error.message, error.detail)
        if self._worth_retrying(lane, job, error):
            await self._again(job, error)
        else:
            reference = new_reference()
            log.warning("job %s failed for good; ref %s", job.job_id, reference)
            await self._end_running(job, outcomes.failed(error, reference), 0.0)

    def _worth_retrying(self, lane: Lane, job: LiveJob, error: FairbrushError) -> bool:
        match error:
            case InvalidRequest() | ContentRejected():
                return False
            case AuthFailed() | QuotaExceeded():
                return self._elsewhere(lane, job)
            case RateLimited():
                return error.accepted is not True
            case Fault() if job.ref is not None and error.accepted is None and lane.capabilities.resumable:
                return False  # sent but unanswered: it may have been made and paid for
            case Fault():
                job.failures += 1
                if not self._elsewhere(lane, job):
                    job.avoid.clear()
                return job.failures < self._settings.attempts
            case _:
                return False

    def _elsewhere(self, lane: Lane, job: LiveJob) -> bool:
        """Keep a job from this lane; whether another one can run it."""
        job.avoid.add(lane.name)
        return any(other.name not in job.avoid and other.can_run(job.request) for other in self.lanes)

    async def _again(self, job: LiveJob, error: FairbrushError) -> None:
        """Refund it and put it at the head of its user's line."""
        delay = error.retry_after if error.retry_after is not None else min(30.0, 0.25 * 4.0**job.failures)
        job.not_before = self._clock.monotonic() + delay
        self._queue.requeue(job.job_id)
        if job.state is State.RUNNING:  # else the store never saw it start
            tags = self._queue.changed()
            await self._insist(lambda: self._store.requeue(job.job_id, attempt=job.attempt, tags=tags))
            job.attempt += 1
            self._desk.reserve(job.group.requester, 1)
        job.forget_attempt()
        job.state = State.QUEUED
        self._on_status(status_of(job.group))
        if job.cancelling:  # asked for while the store was written
            self._queue.cancel(job.job_id)
            await self._end(job, Outcome(State.CANCELLED, message=job.message))

    async def _stop_running(self, job: LiveJob) -> None:
        """Ask the backend; where it cannot or does not answer, stop watching."""
        lane = next(lane for lane in self.lanes if lane.name == job.backend)
        if job.ref is None:
            return  # _begin looks again once the reference is stored
        outcome = await lane.backend.cancel(job.ref)
        if outcome is CancelOutcome.TOO_LATE:
            job.cancelling = False
        elif outcome is CancelOutcome.UNSUPPORTED and (task := self._tasks.get(job.job_id)):
            task.cancel()
        job.last_sign = self._clock.monotonic()

    # --- ends ---

    async def _end_running(self, job: LiveJob, outcome: Outcome, used: float) -> bool:
        self._queue.complete(job.job_id, used)
        return await self._end(job, outcome)

    async def _end(self, job: LiveJob, outcome: Outcome) -> bool:
        """Commit how a job ended. False where it had ended already."""
        tags = self._queue.changed()
        committed = await self._insist(
            lambda: self._store.finish(
                job.job_id, attempt=job.attempt, outcome=outcome, at=self._clock.now(), tags=tags
            )
        )
        if job.state in (State.ACCEPTED, State.QUEUED):
            self._desk.release(job.group.requester, 1)
        job.state, job.message, job.reference = outcome.state, outcome.message, outcome.reference
        self._on_status(status_of(job.group))
        if job.group.ended:
            self._on_ended(job.group)
        self.wake()
        return committed

    async def _insist(self, write: Callable[[], Awaitable[bool]]) -> bool:
        """A write that must not be lost: where the store takes none (a full disk), try until it does."""
        delay = 0.5
        while True:
            try:
                return await write()
            except Unavailable as error:
                log.error("the store does not take writes: %s %s", error.message, error.detail)
                await self._clock.sleep(delay)
                delay = min(delay * 2, 30.0)

    def _used(self, job: LiveJob) -> float:
        """Device-seconds that an unfinished job is charged: its estimate, by its progress."""
        return job.cost * (job.progress.fraction if job.progress else 0.0)

    # --- the ticker ---

    async def _tick_forever(self) -> None:
        while True:
            await self._clock.sleep(TICK)
            await self.tick()

    async def tick(self) -> None:
        """Once a second: notice silence, renew leases, look for work, refresh places."""
        await self._notice_silence()
        for lane in self.lanes:
            await lane.refresh()
        running = list(self._tasks)
        if running:
            until = self._clock.now() + self._settings.lease_seconds
            try:
                await self._store.renew(running, lease_until=until)
            except Unavailable as error:
                log.warning("leases not renewed: %s", error.message)
        self.wake()
        self.show_places()

    async def _notice_silence(self) -> None:
        now = self._clock.monotonic()
        for job_id, task in list(self._tasks.items()):
            job = self._desk.job(job_id)
            silent = now - job.last_sign
            if job.cancelling and silent > CANCEL_GRACE:
                task.cancel()
            elif silent > self._settings.job_timeout and not job.cancelling and job.ref is not None:
                log.warning("job %s on %s: silent for %.0f s", job_id, job.backend, silent)
                await self._abandon(job, task)

    async def _abandon(self, job: LiveJob, task: asyncio.Task[None]) -> None:
        """Take a silent job from its backend."""
        lane = next(lane for lane in self.lanes if lane.name == job.backend)
        ref = job.ref
        task.cancel()
        await asyncio.wait({task})
        if ref is not None:
            await lane.backend.cancel(ref)
        await self._failed(lane, job, TimedOut("It took too long.", detail="no sign of life", accepted=False))

    def show_places(self) -> None:
        """One snapshot of all places; each waiting group is told its own."""
        places = self._queue.places()
        work = sum(self._desk.job(job_id).cost for job_id in self._tasks)
        power = serving(self.lanes)
        for job_id, place in places.items():
            job = self._desk.job(job_id)
            group = job.group
            if any(other.job_id in places and other.index < job.index for other in group.jobs):
                continue
            low, high = self._estimator.wait(place.cost_ahead + work, job.cost, power)
            if job.predicted is None:
                job.predicted = self._estimator.predict(place.cost_ahead + work, job.cost, power)
            group.position = outcomes.position(group.position, place, low, high)
            group.by = self._clock.now() + high
            self._on_status(status_of(group))


def new_reference() -> str:
    """A short id that ties what a user saw to a log line."""
    return "".join(secrets.choice("23456789ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(4))
