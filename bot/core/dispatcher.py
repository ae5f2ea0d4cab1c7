"""The dispatcher: whenever a slot is free, the fair head of the queue takes it.

Owns slots, leases, retries, failover, time-outs and cancelling. One task a running job follows the
backend's events; a ticker renews leases, notices silence and refreshes places. Whatever a backend or a job
does, the others go on. A job whose model is not offered any more fails after a minute and says so; while no
backend offers anything at all, jobs wait for one. Knows no platform and no engine; time comes from the clock
passed in.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from bot.core import outcomes
from bot.core.budget import Cap
from bot.core.desk import Desk, LiveGroup, LiveJob, status_of
from bot.core.errors import Cancelled, FairbrushError, Fault, Unavailable
from bot.core.estimator import Estimator
from bot.core.fairqueue import Entry, FairQueue
from bot.core.gallery import Gallery
from bot.core.lanes import Lane
from bot.core.ledger import Ledger
from bot.core.patience import Tasks, every, insist
from bot.core.places import Places
from bot.core.ports import CancelOutcome, Charge, Clock, Done, JobStatus, Outcome, Store
from bot.core.request import State
from bot.core.retries import pause, worth_retrying
from bot.core.routing import Routing, Turn
from bot.core.running import Running, drain, notice_silence
from bot.core.settings import Settings
from bot.core.standins import apart
from bot.core.work import CANCEL_GRACE, Work

log = logging.getLogger(__name__)

TICK = 1.0
AT_ONCE = 100  # groups that are told their places in one turn of the event loop
STARTS = 20  # jobs that are started in one turn of the event loop


class Dispatcher:
    """Runs jobs of the fair queue on the backends' lanes.

    on_status: a group now stands like this; on_ended: its last job ended and its result is in the outbox.
    """

    def __init__(
        self,
        desk: Desk,
        queue: FairQueue,
        store: Store,
        routing: Routing,
        gallery: Gallery,
        estimator: Estimator,
        clock: Clock,
        settings: Settings,
        *,
        on_status: Callable[[JobStatus], None],
        on_ended: Callable[[LiveGroup], None],
    ) -> None:
        self.lanes = routing.lanes
        self.routing = routing
        self._ledger = Ledger(routing.budget, routing, clock)
        self._places = Places(queue, desk, routing, estimator, clock)
        self._desk = desk
        self._queue = queue
        self._store = store
        self._gallery = gallery
        self._estimator = estimator
        self._clock = clock
        self._settings = settings
        self._on_status = on_status
        self._on_ended = on_ended
        self._running: dict[str, Running] = {}
        self._endings = Tasks()
        self._awake = asyncio.Event()
        self._stopping = False

    # --- what others call ---

    def push(self, job: LiveJob) -> None:
        """Line up a prepared job."""
        if job.state.ended or job.cancelling:
            return
        job.state = State.QUEUED
        self._queue.push(self.entry(job))
        self.wake()

    def ahead(self, job: LiveJob) -> int:
        """Jobs that go before this one now; 0 where it does not wait."""
        return self._queue.ahead(job.job_id) or 0

    def entry(self, job: LiveJob) -> Entry:
        """A job as the fair queue knows it."""
        requester = job.group.requester
        kind = self.routing.kind(job)
        return Entry(job.job_id, requester.tenant, requester.member, job.cost, kind)

    def adopt(self, job: LiveJob, lane: Lane) -> None:
        """After a restart: watch a job, known to the queue as running, that its backend may still run."""
        self._launch(lane, job, resumed=True)

    async def abandon(self, job: LiveJob) -> None:
        """After a restart: end a job, known to the queue as running, that may have been made and charged
        where nobody can be asked any more."""
        job.dispatched = True
        reference = outcomes.new_reference()
        log.warning("job %s: %s is not there any more; ref %s", job.job_id, job.backend, reference)
        await self._end_running(job, outcomes.abandoned(job, reference), 0.0)

    def wake(self) -> None:
        """Something changed: look for work."""
        self._awake.set()

    async def run(self) -> None:
        """Fill slots until cancelled."""
        helpers = Tasks()
        helpers.start(every(TICK, self.tick, self._clock))
        for lane in self.lanes:  # each by itself: one that does not answer holds up nobody else
            helpers.start(every(TICK, partial(lane.refresh, self._clock), self._clock))
        try:
            while True:
                await self._awake.wait()
                self._awake.clear()
                self._fill()
                await asyncio.sleep(0)
        finally:
            await helpers.aclose()

    async def drain(self, seconds: float) -> None:
        """Start nothing more and give what runs some time; the rest stays with the store."""
        self._stopping = True
        await drain(self._running, seconds)
        await self._endings.aclose()

    async def cancel(self, job: LiveJob, *, message: str = "") -> None:
        """End a job that waits, or have its backend stop it. What ran is charged. Goes on where the caller
        goes away."""
        if job.state.ended or job.cancelling:
            return
        job.cancelling, job.cancel_message = True, message
        running = self._running.get(job.job_id)
        work = self._stop(running) if running and not running.task.done() else self._leave(job)
        await asyncio.shield(self._endings.start(work))

    async def settled(self, group: LiveGroup) -> None:
        """Wait until none of a group's jobs is running."""
        while tasks := {running.task for running in self._running.values() if running.job.group is group}:
            await asyncio.wait(tasks)

    # --- slots ---

    def _fill(self) -> None:
        try:
            turn = self._turn()
            for _ in range(STARTS):
                if self._stopping or not turn or not self._start_next(turn):
                    return
            self.wake()
        except Exception:  # one job's trouble must not stop the others for good
            log.exception("nothing more could be started; again shortly")

    def _turn(self) -> Turn:
        return self.routing.turn(self._queue.kinds, self._clock.monotonic(), self._desk.job)

    def _start_next(self, turn: Turn) -> bool:
        """Start the fair next job among those that a free lane may make; False where there is none."""
        entry = self._queue.pop(turn.can_run, serves=turn.serves, skips=turn.skips)
        if entry is None:
            turn.over()
            return False
        if (job := self._desk.job(entry.job_id)) is None:
            log.error("job %s is in the queue and not in hand; dropped", entry.job_id)
            self._queue.complete(entry.job_id, 0.0)
        else:
            lane = turn.lane_for(entry, job)
            self._launch(lane, job, resumed=False)
            turn.took(lane)
        return True

    def _launch(self, lane: Lane, job: LiveJob, *, resumed: bool) -> None:
        job.backend, job.dispatched = lane.name, True
        if resumed:
            job.ref, job.swap = apart(job.ref)
        else:
            job.swap = self.routing.instead(lane, job)
        self._ledger.begin(job, lane)
        lane.running.add(job.job_id)
        work = Work(
            job,
            lane,
            self._store,
            self._gallery,
            self._clock,
            previews=self._settings.previews,
            on_news=lambda job: self._show(job.group),
        )
        task = asyncio.ensure_future(self._run_job(lane, job, work, resumed=resumed))
        self._running[job.job_id] = Running(job, lane, work, task)
        task.add_done_callback(partial(self._landed, lane, job))

    def _landed(self, lane: Lane, job: LiveJob, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job %s is stuck until a restart", job.job_id, exc_info=error)
        if (running := self._running.get(job.job_id)) is not None and running.task is task:
            self._put_away(lane, job)
        self.wake()

    def _put_away(self, lane: Lane, job: LiveJob) -> None:
        """It has left its slot, and from now on may have another."""
        self._running.pop(job.job_id, None)
        lane.running.discard(job.job_id)
        self._ledger.end(job, None)

    # --- one job ---

    async def _run_job(self, lane: Lane, job: LiveJob, work: Work, *, resumed: bool) -> None:
        try:
            if resumed or await self._begin(lane, job):
                job.state = State.RUNNING
                await self._complete(lane, job, await work.done(resumed=resumed))
        except FairbrushError as error:
            money = self._ledger.lost(job, error, left_behind=work.left_behind(error))
            await self._failed(lane, job, error, money)
        except Exception as error:  # a backend's bug: one job fails, with a reference into the log
            reference = outcomes.new_reference()
            log.exception("job %s failed on %s; ref %s", job.job_id, lane.name, reference)
            money = self._ledger.lost(job, error, left_behind=False)
            await self._end_running(job, outcomes.broken(reference, money), 0.0)

    async def _begin(self, lane: Lane, job: LiveJob) -> bool:
        """Store that it runs; False where it was cancelled before that."""
        tags = self._queue.changed()

        def start() -> Coroutine[Any, Any, bool]:
            now = self._clock.now()
            until = now + self._settings.lease_seconds
            return self._store.start(
                job.job_id,
                attempt=job.attempt,
                backend=lane.name,
                at=now,
                lease_until=until,
                tags=tags,
                money=job.held,
            )

        started = await insist(start, self._clock)
        if job.cancelling or not started:
            await self._end_running(job, outcomes.cancelled(job), 0.0)
            return False
        self._desk.release(job.group.requester, 1)
        job.state = State.RUNNING
        return True

    async def _complete(self, lane: Lane, job: LiveJob, done: Done) -> None:
        """Write the pictures, then end the job."""
        done = outcomes.licensed(self._ledger.priced(job, lane, done), lane.model(job.made.model))
        if job.swap is not None:
            done = job.swap.told(job.request, done)

        def keep() -> Coroutine[Any, Any, Any]:
            return self._gallery.keep(job, done, backend=lane.name, now=self._clock.now())

        pictures = await insist(keep, self._clock)
        names = [picture.name for picture in pictures]
        try:
            used = done.device_seconds * lane.capabilities.speed
            if not await self._end_running(job, outcomes.made(job, pictures, done), used):
                await self._gallery.remove(names)
        except Exception:  # values that no store takes: nothing names the files
            await self._gallery.remove(names)
            raise
        lane.succeeded()
        self._estimator.observe(lane.made_as(job.made), done.model, lane.name, done.device_seconds)
        if job.predicted is not None:
            self._estimator.observe_wait(job.predicted, self._clock.monotonic() - job.predicted_at)

    # --- what goes wrong ---

    async def _failed(self, lane: Lane, job: LiveJob, error: FairbrushError, money: float | None) -> None:
        if job.cancelling:
            await self._end_running(job, outcomes.cancelled(job, money), outcomes.used(job))
            return
        if isinstance(error, Fault) and not isinstance(error, Cancelled):
            lane.failed(error, self._clock.monotonic())
        log.warning("job %s on %s: %s %s", job.job_id, lane.name, error.message, error.detail)
        if worth_retrying(lane, job, error, self.routing, self._settings.attempts):
            await self._again(lane, job, error, money)
        else:
            reference = outcomes.new_reference()
            log.warning("job %s failed for good; ref %s", job.job_id, reference)
            await self._end_running(job, outcomes.failed(error, reference, money), 0.0)

    async def _again(self, lane: Lane, job: LiveJob, error: FairbrushError, money: float | None) -> None:
        """Refund it and put it at the head of its user's line."""
        job.not_before = math.inf  # until the store has it, nobody may take it
        job.dispatched = False
        self._queue.requeue(job.job_id)
        self._queue.set_kind(job.job_id, self.routing.kind(job))
        tags, charge = self._queue.changed(), self._ledger.charge(job, money)
        await insist(
            lambda: self._store.requeue(job.job_id, attempt=job.attempt, tags=tags, charge=charge),
            self._clock,
        )
        self._ledger.end(job, charge)
        job.attempt += 1
        self._desk.reserve(job.group.requester, 1)
        job.forget_attempt()
        job.state = State.QUEUED
        if job.cancelling:  # asked for while the store was written
            await self._leave(job)
            return
        self._put_away(lane, job)
        job.not_before = self._clock.monotonic() + pause(job, error)
        self._show(job.group)

    async def _stop(self, running: Running) -> None:
        """Ask the backend; one that cannot stop is left behind at once, one that does not after a while."""
        running.job.stop_by = self._clock.monotonic() + CANCEL_GRACE
        if await running.work.ask_to_stop() is CancelOutcome.UNSUPPORTED:
            running.work.interrupt(Cancelled("Cancelled."))

    async def _leave(self, job: LiveJob) -> None:
        """Take a waiting job out of the queue."""
        self._queue.cancel(job.job_id)
        await self._end(job, outcomes.cancelled(job))

    # --- ends ---

    async def _end_running(self, job: LiveJob, outcome: Outcome, used: float) -> bool:
        if job.dispatched:
            job.dispatched = False
            self._queue.complete(job.job_id, used)
        return await self._end(job, outcome, self._ledger.charge(job, outcome.money))

    async def _end(self, job: LiveJob, outcome: Outcome, charge: Charge | None = None) -> bool:
        """Commit how a job ended, and what it cost. False where it had ended already."""
        if job.state.ended:
            return False
        tags = self._queue.changed()
        committed = await insist(
            lambda: self._store.finish(
                job.job_id,
                attempt=job.attempt,
                outcome=outcome,
                at=self._clock.now(),
                tags=tags,
                charge=charge,
            ),
            self._clock,
        )
        self._ledger.end(job, charge if committed else None)
        if job.state in (State.ACCEPTED, State.QUEUED):
            self._desk.release(job.group.requester, 1)
        job.state, job.message, job.reference = outcome.state, outcome.message, outcome.reference
        job.money = outcome.money
        job.forget_pictures()
        self._show(job.group)
        if job.group.ended:
            self._on_ended(job.group)
        self.wake()
        return committed

    def _show(self, group: LiveGroup) -> None:
        if not group.quiet:
            self._on_status(status_of(group))

    # --- the ticker ---

    async def tick(self) -> None:
        """Once a second: notice silence, look for work, refresh places, renew leases."""
        now, most = self._clock.monotonic(), self._settings.job_timeout
        notice_silence(self._running.values(), now, most)
        self.wake()
        for running in self._running.values():  # the price was perhaps not known at the restart
            if running.job.dispatched:
                self._ledger.begin(running.job, running.lane)
        await self._show_places()
        if self._running:
            until = self._clock.now() + self._settings.lease_seconds
            try:
                await self._store.renew(list(self._running), lease_until=until)
            except Unavailable as error:
                log.warning("leases not renewed: %s", error.message)

    def _give_up(self, job: LiveJob, cap: Cap | None) -> None:
        """End a job that nobody has been able to make for a while, or may have made for want of money."""
        job.unserved_since = None
        if job.avoid:  # at what it failed before it may be luckier now
            job.avoid.clear()
            self._queue.set_kind(job.job_id, self.routing.kind(job))
            return
        job.cancelling = True
        self._queue.cancel(job.job_id)
        reference = outcomes.new_reference()
        log.warning("job %s: no backend may make it now; ref %s", job.job_id, reference)
        outcome = outcomes.unserved(job, reference)
        if cap is not None:
            outcome = outcomes.failed(self.routing.refusal(cap, job.request), reference)
        self._endings.start(self._end(job, outcome))

    async def _show_places(self) -> None:
        """Tell each waiting group its place, and those that run when they will be done."""
        found = await self._places.look(lambda: [(each.job, each.lane) for each in self._running.values()])
        for job, cap in found.unserved:
            if job.state is State.QUEUED and not (job.dispatched or job.cancelling):
                self._give_up(job, cap)
        self.wake()  # some may be paid for by now
        for number, group in enumerate(found.groups.values(), 1):
            self._show(group)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # a long queue must not hold up everything else
