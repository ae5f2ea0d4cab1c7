"""A Backend over a Wire: hands jobs in, stores how they are found again, polls, collects, resumes, cancels.

A POST is the job's own task: closing events() leaves it alone, and watching again never sends twice. What the
service has taken is never handed in again from here; whether the core may do that is said by `accepted`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from backends._http import (
    REAL_CLOCK,
    Backoff,
    Expired,
    Http,
    Missing,
    checked_picture,
    decoded_picture,
    poll_delays,
)
from backends._jobs import Job, Jobs, Part, new_job
from backends._wire import Ended, Finished, Found, Handle, Look, Waiting, Wire, Working
from bot.core.errors import (
    AuthFailed,
    Cancelled,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.pictures import exact_size, size_of
from bot.core.ports import (
    CancelOutcome,
    Capabilities,
    Clock,
    Done,
    Event,
    Health,
    ImageReady,
    ImageRejected,
    Model,
    Progress,
    Queued,
    RemoteRef,
    Taken,
)
from bot.core.request import JSON, ImageRequest

log = logging.getLogger(__name__)

T = TypeVar("T")

REFRESH: Final = 45.0  # seconds after which what is offered is asked again
FIRST_ANSWER: Final = 2.0  # seconds that the first capabilities() waits for it
LOST_AFTER: Final = 75.0  # seconds without contact after which a job is given up
SETTLING: Final = 10.0  # seconds in which a service may not know yet what it has just taken
POLLS_PER_SECOND: Final = 3.0  # over all jobs; calls to the service are capped a little higher
CANCEL_PATIENCE: Final = 8.0  # seconds that a cancel waits for a POST that is on its way
REST: Final = 60.0  # seconds after a failed call in which the service counts as down
SLICE: Final = 30.0  # seconds after which a long wait gives a sign of life
DOUBT: Final = "It may have been made and charged, so it is not sent again by itself."
_NOTHING_LEARNT: Final = (RateLimited, Unavailable, TimedOut, ProtocolError, AuthFailed)


@dataclass(slots=True)
class _Watch:
    """One run of events(). left: parts that have not ended; told: pictures given out; best: the highest
    progress; contact: when the service was last heard (monotonic); queued_until: Unix time when it last
    waited in the service's queue; worked: the service said that it is at work."""

    left: list[Part]
    contact: float
    queued_until: float
    worked: bool = False
    told: set[int] = field(default_factory=set)
    looks: dict[int, Look] = field(default_factory=dict)
    missed: dict[int, int] = field(default_factory=dict)
    best: float = 0.0
    finished: list[Finished] = field(default_factory=list)


class _Final(Exception):
    """The job has ended with this error, whatever else may be tried after a failed poll."""

    def __init__(self, error: FairbrushError) -> None:
        super().__init__(error.message)
        self.error = error


class Remote:
    """The Backend of one Wire. delays: seconds between polls of one job."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        http: Http,
        *,
        clock: Clock | None = None,
        delays: Callable[[], Iterator[float]] = poll_delays,
    ) -> None:
        self.name = name
        self._wire = wire
        self._http = http
        self._clock = clock or REAL_CLOCK
        self._delays = delays
        self._jobs = Jobs()
        self._steps: set[asyncio.Future[object]] = set()
        self._closed = False
        self._offered = Capabilities(models=())
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = float("-inf")

    # --- what it offers -----------------------------------------------------------------------------------

    async def capabilities(self) -> Capabilities:
        """What the service last said; asked again in the background."""
        task = self._refresh()
        if not self._offered.models and task is not None:
            await asyncio.wait({task}, timeout=FIRST_ANSWER)
        return self._offered

    async def health(self) -> Health:
        """Whether the last call reached it; a failure counts for a minute."""
        if self._closed:
            return Health(False, detail="closed")
        task = self._refresh()
        trouble = self._http.trouble
        if trouble and self._clock.monotonic() - self._http.trouble_at < REST:
            return Health(False, detail=trouble)
        if not self._offered.models:
            return Health(
                False, loading=task is not None, detail=f"{self._http.service} has not answered yet."
            )
        return Health(True)

    def _refresh(self) -> asyncio.Task[None] | None:
        """Ask what is offered where that was long ago; the task that does, while it runs."""
        running = self._refreshing is not None and not self._refreshing.done()
        due = self._clock.monotonic() - self._refreshed_at >= REFRESH
        if due and not running and not self._closed:
            self._refreshed_at = self._clock.monotonic()
            self._refreshing = asyncio.create_task(self._ask())
            running = True
        return self._refreshing if running else None

    async def _ask(self) -> None:
        try:
            self._offered = await self._wire.offered(self._http)
        except FairbrushError as error:
            log.info("%s: what it offers is not known: %s %s", self.name, error.message, error.detail)

    def _model(self, model: str | None) -> Model | None:
        models = self._offered.models
        return next((one for one in models if model in (None, one.id)), None)

    # --- the job ------------------------------------------------------------------------------------------

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Check the request and remember it; nothing is sent before events()."""
        self._open()
        models = (await self.capabilities()).models
        model = self._model(request.model)
        if model is None and models:
            names = ", ".join(one.id for one in models[:8])
            raise InvalidRequest(
                f"There is no model {request.model!r} at {self._http.service}. There is: {names}.",
                field="model",
            )
        self._wire.check(request)
        chosen = model.id if model is not None else request.model or ""
        asked = replace(request, model=chosen or None)
        job = new_job(self._wire.split(asked), asked, chosen, job_id, self._clock.now())
        self._jobs.add(job)
        return job.ref(self.name)

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """Hand the job in where that has not been done, then poll it to its end."""
        self._open()
        job = self._jobs.get(ref)
        if job is None:
            raise Unavailable(f"{self._http.service} does not know this job.", accepted=False)
        try:
            async with aclosing(self._hand_in(job, ref)) as events:
                async for event in events:
                    yield event
            async with aclosing(self._follow(job)) as events:
                async for event in events:
                    yield event
        except _Final as final:
            job.end()
            raise final.error from None
        except FairbrushError:
            job.end()
            raise
        job.end()

    async def cancel(self, ref: RemoteRef) -> CancelOutcome:
        """Stop what was not sent; ask the service to stop what it has."""
        job = self._jobs.get(ref)
        if job is None or (job.ended and job.stopped is None):
            return CancelOutcome.TOO_LATE
        if job.stopped is not None:
            return job.stopped
        self._open()
        job.halted = True
        job.nudged.set()
        if job.restored and not job.taken:  # events() stops it once it is found
            return CancelOutcome.REQUESTED if self._wire.findable else CancelOutcome.UNSUPPORTED
        sending = [part.sending for part in job.parts if part.sending is not None and not part.sending.done()]
        if sending and (await asyncio.wait(sending, timeout=CANCEL_PATIENCE))[1]:
            return CancelOutcome.REQUESTED  # _post() stops it once it knows how
        return self._stopped(job, await self._stop(job)) if job.stopped is None else job.stopped

    async def aclose(self) -> None:
        """Let go of everything: watchers end with Unavailable, and the service goes on."""
        self._closed = True
        tasks: list[asyncio.Future[object]] = [*self._steps]
        tasks += [part.sending for job in self._jobs.all() for part in job.parts if part.sending is not None]  # type: ignore[misc]
        if self._refreshing is not None:
            tasks.append(self._refreshing)  # type: ignore[arg-type]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    # --- handing in ---------------------------------------------------------------------------------------

    async def _hand_in(self, job: Job, ref: RemoteRef) -> AsyncGenerator[Event, None]:
        if job.restored:
            await self._step(self._recover(job))
        if job.halted and not job.taken and not any(part.sending for part in job.parts):
            raise Cancelled("The job was cancelled.", accepted=False)
        if job.taken and job.ref(self.name).data != ref.data:
            yield Taken(job.ref(self.name))
        for part in job.parts:
            known = part.request is not None or part.sending is not None or job.renewing
            if part.handle is not None or not known:
                continue
            if job.halted and part.sending is None:
                break
            try:
                await self._step(self._send(job, part))
            except FairbrushError as error:
                if not job.taken:
                    raise
                log.warning(
                    "%s: a part of a job was not taken: %s %s", self.name, error.message, error.detail
                )
                job.shortfall.append(error)
                break
            yield Taken(job.ref(self.name))
        if not job.taken:
            job.stopped = CancelOutcome.CANCELLED
            raise Cancelled("The job was cancelled.", accepted=False)

    async def _recover(self, job: Job) -> None:
        """After a restart: the first part without a reference may have been sent, those behind it were not.
        Raises Unavailable where the service has nothing of the job, or where that is not known."""
        sure = self._wire.findable
        if lost := next((part for part in job.parts if part.handle is None), None):
            doubt = f"The program stopped while the job was being sent to {self._http.service}. {DOUBT}"
            if sure:
                lost.handle = await self._wire.find(self._http, job.ticket_of(lost), lost.facts)
            if not job.taken:
                why = "The job had not been sent when the program stopped." if sure else doubt
                raise Unavailable(why, accepted=False if sure else None)
            if not sure:
                job.shortfall.append(Unavailable(doubt, accepted=None))
        job.restored, job.renewing = False, sure
        if job.halted:
            self._stopped(job, await self._stop(job))

    async def _send(self, job: Job, part: Part) -> None:
        if part.sending is None:
            part.sending = asyncio.create_task(self._post(job, part))
            part.sending.add_done_callback(_heard)
        await asyncio.shield(part.sending)

    async def _post(self, job: Job, part: Part) -> None:
        part.handle = await self._handed_in(job, part)
        part.request = None
        if job.halted:
            self._stopped(job, await self._stop(job))

    async def _handed_in(self, job: Job, part: Part) -> Handle:
        ticket = job.ticket_of(part)
        if part.request is not None:
            return await self._wire.send(self._http, part.request, ticket)
        sibling = job.taken[0].handle
        assert sibling is not None  # noqa: S101 - it is taken
        handle = await self._wire.again(self._http, sibling, part.facts, ticket)
        if handle is None:
            raise Unavailable("The program stopped before all pictures were asked for.", accepted=False)
        return handle

    def _stopped(self, job: Job, outcome: CancelOutcome) -> CancelOutcome:
        if outcome in (CancelOutcome.CANCELLED, CancelOutcome.REQUESTED):
            job.stopped = outcome
        job.nudged.set()
        return outcome

    async def _stop(self, job: Job) -> CancelOutcome:
        """Ask the service to stop all that it has of a job; the least that it agrees to."""
        taken = [part for part in job.taken if not part.ended]
        if not job.taken:
            return CancelOutcome.CANCELLED
        outcomes = {
            await self._wire.stop(self._http, part.handle) for part in taken if part.handle is not None
        }
        order = (CancelOutcome.UNSUPPORTED, CancelOutcome.REQUESTED, CancelOutcome.CANCELLED)
        return next((outcome for outcome in order if outcome in outcomes), CancelOutcome.TOO_LATE)

    # --- following ----------------------------------------------------------------------------------------

    async def _follow(self, job: Job) -> AsyncGenerator[Event, None]:
        watch = _Watch(job.taken, self._clock.monotonic(), job.facts.at)
        delays, backoff = self._delays(), Backoff()
        wait = next(delays)
        while watch.left:
            if (sign := self._sign(job, watch)) is not None and wait > SLICE:
                yield sign
            await self._step(self._pause(job, min(wait, SLICE)))
            if job.stopped is CancelOutcome.CANCELLED:
                raise Cancelled("The job was cancelled.", accepted=True)
            if wait > SLICE:
                wait -= SLICE
                continue
            wait = max(next(delays), self._jobs.running() / POLLS_PER_SECOND)
            try:
                for part in list(watch.left):
                    watch.looks[part.offset] = look = await self._step(self._look(part))
                    watch.contact = self._clock.monotonic()
                    watch.missed.pop(part.offset, None)
                    async with aclosing(self._take_in(job, part, look, watch)) as events:
                        async for event in events:
                            yield event
                backoff = Backoff()
                if watch.left and (sign := self._sign(job, watch)) is not None:
                    yield sign
            except Missing as error:
                self._missed(job, part, watch, error)
            except _NOTHING_LEARNT as error:
                wait = self._no_news(error, watch, backoff)
        yield self._done(job, watch)

    async def _look(self, part: Part) -> Look:
        assert part.handle is not None  # noqa: S101 - only taken parts are looked at
        try:
            return await self._wire.look(self._http, part.handle, part.facts)
        except _NOTHING_LEARNT:
            raise
        except FairbrushError as error:
            return Ended(error)

    def _missed(self, job: Job, part: Part, watch: _Watch, error: Missing) -> None:
        """The service does not know a job: believed the second time, once it has had time to settle."""
        watch.missed[part.offset] = watch.missed.get(part.offset, 0) + 1
        fresh = self._clock.now() - job.facts.at < SETTLING and not watch.looks
        if watch.missed[part.offset] >= (4 if fresh else 2):
            gone = Unavailable(
                f"{self._http.service} has lost the job.",
                detail=error.detail or error.message,
                accepted=False,
            )
            self._lose(job, part, watch, gone)

    def _lose(self, job: Job, part: Part, watch: _Watch, error: FairbrushError) -> None:
        """A part will give no more pictures. Raises where no other part has any."""
        part.ended = True
        watch.left.remove(part)
        job.shortfall.append(error)
        if not watch.left and not watch.told:
            raise _Final(error)

    def _no_news(self, error: FairbrushError, watch: _Watch, backoff: Backoff) -> float:
        """Seconds until the next poll. Raises Unavailable once the contact has been lost for too long."""
        if isinstance(error, RateLimited):
            watch.contact = self._clock.monotonic()
            return max(1.0, backoff.wait(error.retry_after))
        log.info("%s: a poll failed: %s %s", self.name, error.message, error.detail)
        if self._clock.monotonic() - watch.contact > LOST_AFTER:
            raise Unavailable(
                f"{self._http.service} has not said for over a minute how the job stands. {DOUBT}",
                detail=f"{error.message} {error.detail}",
                accepted=None,
            ) from None
        return max(0.5, backoff.wait(error.retry_after))

    def _sign(self, job: Job, watch: _Watch) -> Event | None:
        """What the last looks say, as one event."""
        looks = [watch.looks[part.offset] for part in watch.left if part.offset in watch.looks]
        working = [look for look in looks if isinstance(look, Working)]
        waiting = [look for look in looks if isinstance(look, Waiting)]
        if not working and not watch.told:
            if not waiting:
                return None
            watch.queued_until = self._clock.now()
            etas = [look.eta for look in waiting if look.eta is not None]
            return Queued(max(look.ahead for look in waiting), max(etas, default=None))
        watch.worked = watch.worked or bool(working)
        ended = sum(part.facts.count for part in job.taken if part.ended)
        under_way = 0.0
        for part in watch.left:
            if isinstance(look := watch.looks.get(part.offset), Working):
                under_way += (look.fraction or 0.0) * part.facts.count
        watch.best = max(watch.best, min(1.0, (ended + under_way) / job.facts.count))
        said = any(look.fraction is not None for look in working)
        phase = next((look.phase for look in working if look.phase), "" if said else "Working")
        one = working[0] if len(working) == 1 and len(job.parts) == 1 else Working()
        return Progress(watch.best, step=one.step, total=one.total, phase=phase)

    # --- collecting ---------------------------------------------------------------------------------------

    async def _take_in(self, job: Job, part: Part, look: Look, watch: _Watch) -> AsyncGenerator[Event, None]:
        """The pictures of a look that were not given out yet."""
        if isinstance(look, Ended):
            stopped = job.halted or isinstance(look.error, Cancelled)
            error = Cancelled("The job was cancelled.", accepted=True) if stopped else look.error
            self._lose(job, part, watch, error)
        if not isinstance(look, Working | Finished):
            return
        failed: FairbrushError | None = None
        for found in look.pictures:
            index = part.offset + found.index
            if not 0 <= found.index < part.facts.count or index in watch.told:
                continue
            try:
                event = await self._step(self._collect(part, found))
            except FairbrushError as error:
                if isinstance(look, Working) or self._closed:
                    raise
                log.warning("%s: a picture was not fetched: %s %s", self.name, error.message, error.detail)
                failed = error
                continue
            watch.told.add(index)
            yield event
        if isinstance(look, Finished):
            self._finish(job, part, look, watch, failed)

    def _finish(
        self, job: Job, part: Part, look: Finished, watch: _Watch, failed: FairbrushError | None
    ) -> None:
        watch.finished.append(look)
        own = range(part.offset, part.offset + part.facts.count)
        if failed is None and not watch.told.intersection(own):
            failed = ProtocolError(
                f"{self._http.service} ended the job without a picture.", detail="no pictures", accepted=True
            )
        if failed is not None:
            if not watch.told.intersection(own):
                self._lose(job, part, watch, failed)
                return
            job.shortfall.append(failed)
        part.ended = True
        watch.left.remove(part)

    async def _collect(self, part: Part, found: Found) -> Event:
        index = part.offset + found.index
        seed = part.facts.seed_of(found.index) if found.seed is None else found.seed
        if found.rejected and not (found.url or found.base64 or found.data):
            return ImageRejected(index, found.rejected, seed=seed)
        data, mime = await self._bytes(part, found)
        if found.rejected:
            return ImageRejected(index, found.rejected, data, mime, seed)
        if size_of(data) != (part.facts.width, part.facts.height):
            data = await asyncio.to_thread(exact_size, data, part.facts.width, part.facts.height)
            mime = "image/png"
        return ImageReady(index, data, mime, seed)

    async def _bytes(self, part: Part, found: Found) -> tuple[bytes, str]:
        if found.data is not None:
            return found.data, await asyncio.to_thread(checked_picture, found.data)
        if found.base64:
            return await asyncio.to_thread(decoded_picture, found.base64)
        try:
            return await self._http.picture(found.url)
        except Expired:
            look = await self._look(part)
            fresh = look.pictures if isinstance(look, Working | Finished) else ()
            again = next((one for one in fresh if one.index == found.index), None)
            if again is None or not again.url:
                raise
            return await self._http.picture(again.url)

    def _done(self, job: Job, watch: _Watch) -> Done:
        facts, finished = job.facts, watch.finished
        seconds = [look.device_seconds for look in finished]
        spent = [second for second in seconds if second is not None]
        wall = max(0.0, self._clock.now() - (watch.queued_until if watch.worked else facts.at))
        device = sum(spent) if spent and len(spent) == len(seconds) else wall
        applied: dict[str, JSON] = {}
        for look in finished:
            applied.update(look.applied)
        notes = [note for look in finished for note in look.notes]
        if len(watch.told) < facts.count:
            why = f" {job.shortfall[0].message}" if job.shortfall else ""
            notes.append(f"{len(watch.told)} of {facts.count} pictures were made.{why}")
        model = next((look.model for look in finished if look.model), facts.model)
        return Done(device, self._money(job, finished, device), model, tuple(dict.fromkeys(notes)), applied)

    def _money(self, job: Job, finished: Sequence[Finished], device: float) -> float | None:
        """US dollars: what the service reports, else by its price."""
        reported = [look.money for look in finished if look.money is not None]
        if reported and len(reported) == len(finished):
            return sum(reported)
        model = self._model(job.facts.model or None)
        if model is None or model.price is None:
            return None
        count = sum(part.facts.count for part in job.taken)
        facts = job.facts
        made = ImageRequest("", facts.width, facts.height, 1, 0.0, facts.seed, max(1, count))
        return model.price.of(made, device)

    # --- waiting ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._closed:
            raise Unavailable(f"{self.name} is closed.", accepted=False)

    async def _pause(self, job: Job, seconds: float) -> None:
        """Sleep, or until somebody cancels."""
        sleep, nudge = (
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(job.nudged.wait()),
        )
        try:
            await asyncio.wait({sleep, nudge}, return_when=asyncio.FIRST_COMPLETED)
            job.nudged.clear()
        finally:
            sleep.cancel()
            nudge.cancel()

    async def _step(self, work: Awaitable[T]) -> T:
        """Something that a watcher waits for; ends with Unavailable where the backend is closed."""
        task = asyncio.ensure_future(work)
        self._steps.add(task)  # type: ignore[arg-type]
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._closed and current is not None and not current.cancelling():
                raise Unavailable(f"{self.name} was closed.", accepted=None) from None
            raise
        finally:
            self._steps.discard(task)


def _heard(task: asyncio.Task[None]) -> None:
    """Whoever waits for it gets its error; where nobody does, it is no matter for the loop's log."""
    if not task.cancelled():
        task.exception()
