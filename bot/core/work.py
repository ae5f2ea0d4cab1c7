"""One job at its backend: handed over, followed to its Done, and interrupted from outside where need be.

All that may be interrupted is here and nothing else is: a cancel or a time-out ends the watching, never the
bookkeeping of the queue or the store. Knows no queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace

from bot.core.desk import LiveJob
from bot.core.errors import Cancelled, FairbrushError, TimedOut, Unavailable
from bot.core.gallery import Gallery
from bot.core.lanes import Lane
from bot.core.moderation import previews_allowed
from bot.core.patience import insist, within
from bot.core.ports import (
    CancelOutcome,
    Clock,
    Done,
    Event,
    ImageReady,
    ImageRejected,
    Preview,
    Progress,
    Queued,
    RemoteRef,
    Store,
    Taken,
)

log = logging.getLogger(__name__)

CANCEL_GRACE = 10.0  # seconds that a backend has to confirm a cancel before it is left behind


class Work:
    """A job on a lane. on_news: something that people see has changed."""

    def __init__(
        self,
        job: LiveJob,
        lane: Lane,
        store: Store,
        gallery: Gallery,
        clock: Clock,
        *,
        previews: bool,
        on_news: Callable[[LiveJob], None],
    ) -> None:
        self.job = job
        self.lane = lane
        self._store = store
        self._gallery = gallery
        self._clock = clock
        self._previews = previews
        self._on_news = on_news
        self._task: asyncio.Task[Done] | None = None
        self._interrupted: FairbrushError | None = None
        self._last_sign = math.inf  # while nothing is expected of the backend

    async def done(self, *, resumed: bool) -> Done:
        """Hand the job over (not where it is `resumed`) and follow it. Raises what the backend raises, and
        Cancelled or TimedOut where it was interrupted."""
        self._task = asyncio.ensure_future(self._hand_over_and_follow(resumed))
        try:
            return await self._task
        except asyncio.CancelledError:
            if self._interrupted is None:
                raise  # the program is stopping
        if isinstance(self._interrupted, TimedOut):
            outcome = await self.ask_to_stop()
            # Where the backend has not let go of it, another try might be made, and paid for, twice.
            self._interrupted.accepted = False if outcome is CancelOutcome.CANCELLED else None
        raise self._interrupted

    def interrupt(self, error: FairbrushError) -> None:
        """Stop watching: done() raises `error`. Nothing happens where the backend is not at it any more."""
        if self._task is not None and not self._task.done() and self._interrupted is None:
            self._interrupted = error
            self._task.cancel()

    def leave(self) -> None:
        """The program is stopping: done() is cancelled, and the backend may go on."""
        if self._task is not None:
            self._task.cancel()

    def left_behind(self, error: FairbrushError) -> bool:
        """Whether the backend may go on with a job that is given up."""
        return error is self._interrupted and error.accepted is not False

    async def ask_to_stop(self) -> CancelOutcome | None:
        """Have the backend stop; None where it is not reached, or has no reference yet."""
        if self.job.ref is None:
            return None
        try:
            return await within(CANCEL_GRACE, self.lane.backend.cancel(self.job.ref), self._clock)
        except FairbrushError as error:
            log.warning("job %s: not cancelled at %s: %s", self.job.job_id, self.lane.name, error.message)
        except Exception:  # a backend's bug: the caller's grace ends the matter
            log.exception("job %s: not cancelled at %s", self.job.job_id, self.lane.name)
        return None

    def silent_for(self, now: float) -> float:
        """Seconds without a sign of life. A job that shares its device, or waits inside the backend, lives as
        long as its neighbours do; loading a model is a sign of life too."""
        lane = self.lane
        shared = lane.capabilities.max_batch > 1 or self.job.waiting_inside is not None
        return now - max(self._last_sign, lane.loading_at, lane.last_sign if shared else -math.inf)

    # --- inside ---

    async def _hand_over_and_follow(self, resumed: bool) -> Done:
        self._heard()
        if not resumed:
            await self._hand_over()
        assert self.job.ref is not None  # noqa: S101 - stored just now, or else the job is not resumed
        events = self.lane.backend.events(self.job.ref)
        try:
            async for event in events:
                self._heard()
                self.lane.last_sign = self._last_sign
                if isinstance(event, Taken):
                    await self._keep(event.ref)
                    continue
                if isinstance(event, Done):
                    self._last_sign = math.inf
                    return _plausible(event)
                if self._note(event):
                    self._on_news(self.job)
        finally:
            if (close := getattr(events, "aclose", None)) is not None:
                await close()
        raise Unavailable("The backend stopped without a result.", accepted=True)

    async def _hand_over(self) -> None:
        job = self.job
        request = await self._gallery.with_inputs(job)
        if job.swap is not None:
            request = job.swap.of(request)
        await self._keep(await self.lane.backend.submit(request, job_id=job.job_id))
        if job.stopping() and await self.ask_to_stop() is CancelOutcome.UNSUPPORTED:
            raise Cancelled("Cancelled.")

    async def _keep(self, ref: RemoteRef) -> None:
        """Store how the job is found again, before anything else is asked of the backend."""
        job = self.job
        job.ref, kept = ref, job.swap.kept(ref) if job.swap is not None else ref
        self._last_sign = math.inf  # a slow disk is not the backend's silence
        await insist(lambda: self._store.save_ref(job.job_id, attempt=job.attempt, ref=kept), self._clock)
        self._heard()

    def _heard(self) -> None:
        self._last_sign = self._clock.monotonic()

    def _note(self, event: Event) -> bool:
        """Take in an event; whether there is something new to show."""
        job = self.job
        match event:
            case Queued():
                job.waiting_inside = event.ahead
            case Progress():
                fraction = event.fraction if 0.0 <= event.fraction <= 1.0 else 0.0
                job.waiting_inside, job.progress = None, replace(event, fraction=fraction)
                job.group.tell(job.index, job.progress)
            case Preview() if self._previews and previews_allowed(self.lane.capabilities):
                job.preview = event
                job.group.tell(job.index, event)
            case ImageReady() if 0 <= event.index < job.request.count:
                job.images[event.index] = event
                job.group.tell(job.index, event)
            case ImageRejected() if 0 <= event.index < job.request.count:
                _note_flagged(job, event)
            case _:
                return False
        return True


def _note_flagged(job: LiveJob, event: ImageRejected) -> None:
    """A picture that a check flags: shown behind a spoiler where the guild wants it so, else dropped."""
    if job.request.show_flagged and event.data is not None:
        job.images[event.index] = ImageReady(event.index, event.data, event.mime, event.seed)
        job.flagged[event.index] = event.reason
    else:
        job.rejected[event.index] = event.reason


def _plausible(done: Done) -> Done:
    """A Done whose numbers can be charged and stored."""
    money = done.money if done.money is not None and 0.0 <= done.money < math.inf else None
    seconds = done.device_seconds if 0.0 <= done.device_seconds < math.inf else 0.0
    return replace(done, device_seconds=seconds, money=money)
