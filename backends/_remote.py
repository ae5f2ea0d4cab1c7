"""A Backend over a Wire: hands jobs in, stores how they are found again, polls, collects, resumes, cancels.

A POST is the job's own task: closing events() leaves it alone, and watching again never sends twice. What the
service has taken is never handed in again from here; whether the core may do that is said by `accepted`.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from backends._following import DOUBT, Following, JobFailed
from backends._http import REAL_CLOCK, Http, poll_delays
from backends._jobs import Job, Jobs, Part, new_job
from backends._steps import Steps
from backends._wire import Handle, Wire
from bot.core.errors import Cancelled, FairbrushError, InvalidRequest, Unavailable
from bot.core.ports import CancelOutcome, Capabilities, Clock, Event, Health, Model, RemoteRef, Taken
from bot.core.request import ImageRequest

log = logging.getLogger(__name__)

REFRESH: Final = 45.0  # seconds after which what is offered is asked again
FIRST_ANSWER: Final = 2.0  # seconds that the first capabilities() waits for it
POLLING: Final = 0.75  # of the calls that the service allows, over all jobs; the rest is for other calls
CANCEL_PATIENCE: Final = 8.0  # seconds that a cancel waits for a POST that is on its way
REST: Final = 60.0  # seconds after a failed call in which the service counts as down


class Remote:
    """The Backend of one Wire. http: how it is reached; delays: seconds between polls of one job."""

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
        self.http = http
        self._clock = clock or REAL_CLOCK
        self._delays = delays
        self._jobs = Jobs()
        self._steps = Steps(name, self._clock)
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
        if self._steps.closed:
            return Health(False, detail="closed")
        task = self._refresh()
        trouble = self.http.trouble
        if trouble and self._clock.monotonic() - self.http.trouble_at < REST:
            return Health(False, detail=trouble)
        if not self._offered.models:
            return Health(
                False, loading=task is not None, detail=f"{self.http.service} has not answered yet."
            )
        return Health(True)

    def _refresh(self) -> asyncio.Task[None] | None:
        """Ask what is offered where that was long ago; the task that does, while it runs."""
        running = self._refreshing is not None and not self._refreshing.done()
        due = self._clock.monotonic() - self._refreshed_at >= REFRESH
        if due and not running and not self._steps.closed:
            self._refreshed_at = self._clock.monotonic()
            self._refreshing = asyncio.create_task(self._ask())
            running = True
        return self._refreshing if running else None

    async def _ask(self) -> None:
        try:
            self._offered = await self._wire.offered(self.http)
        except FairbrushError as error:
            log.info("%s: what it offers is not known: %s %s", self.name, error.message, error.detail)

    def _model(self, model: str | None) -> Model | None:
        models = self._offered.models
        return next((one for one in models if model in (None, one.id)), None)

    # --- the job ------------------------------------------------------------------------------------------

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Check the request and remember it; nothing is sent before events()."""
        self._steps.check()
        models = (await self.capabilities()).models
        model = self._model(request.model)
        if model is None and models:
            names = ", ".join(one.id for one in models[:8])
            raise InvalidRequest(
                f"There is no model {request.model!r} at {self.http.service}. There is: {names}.",
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
        self._steps.check(taken=bool(ref.data.get("sent")))
        job = self._jobs.get(ref)
        if job is None:
            raise Unavailable(f"{self.http.service} does not know this job.", accepted=False)
        if job.failure is not None and not job.taken:
            raise copy.copy(job.failure)
        job.watchers += 1
        try:
            async with aclosing(self._hand_in(job, ref)) as events:
                async for event in events:
                    yield event
            async with aclosing(self._following(job).events()) as events:
                async for event in events:
                    yield event
        except (JobFailed, FairbrushError) as final:
            error = _as_promised(job, final.error if isinstance(final, JobFailed) else final)
            job.end(error)
            raise error from None
        finally:
            job.watchers -= 1
        job.end()

    async def cancel(self, ref: RemoteRef) -> CancelOutcome:
        """Stop what was not sent; ask the service to stop what it has."""
        job = self._jobs.get(ref)
        if job is None or (job.ended and job.stopped is None):
            return CancelOutcome.TOO_LATE
        if job.stopped is not None:
            return job.stopped
        self._steps.check()
        job.halted = True
        job.nudged.set()
        if job.restored and not job.taken:  # events() stops it once it is found
            return CancelOutcome.REQUESTED if self._wire.findable else CancelOutcome.UNSUPPORTED
        sending = [part.sending for part in job.parts if part.sending is not None and part.on_its_way]
        if sending and (await asyncio.wait(sending, timeout=CANCEL_PATIENCE))[1]:
            return CancelOutcome.REQUESTED  # _post() stops it once it knows how
        return self._stopped(job, await self._stop(job)) if job.stopped is None else job.stopped

    async def aclose(self) -> None:
        """Let go of everything: watchers end with Unavailable, and the service goes on."""
        sending = [part.sending for job in self._jobs.all() for part in job.parts if part.sending is not None]
        await self._steps.close(*sending, *([self._refreshing] if self._refreshing is not None else []))
        await self.http.aclose()

    def _following(self, job: Job) -> Following:
        return Following(
            job,
            self._wire,
            self.http,
            self._clock,
            self._steps,
            delays=self._delays(),
            crowd=lambda: self._jobs.running() * 60.0 / (POLLING * self.http.per_minute),
            model=lambda: self._model(job.facts.model or None),
        )

    # --- handing in ---------------------------------------------------------------------------------------

    async def _hand_in(self, job: Job, ref: RemoteRef) -> AsyncGenerator[Event, None]:
        if job.restored:
            await self._steps(self._recover(job))
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
                await self._steps(self._send(job, part))
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
        doubt: FairbrushError | None = None
        if lost := next((part for part in job.parts if part.handle is None), None):
            try:
                lost.handle = await self._found(job, lost)
            except FairbrushError as error:
                doubt = error
            if not job.taken:
                sure = Unavailable("The job had not been sent when the program stopped.", accepted=False)
                raise doubt or sure
            if doubt is not None:
                job.shortfall.append(doubt)
        job.restored, job.renewing = False, doubt is None
        if job.halted:
            self._stopped(job, await self._stop(job))

    async def _found(self, job: Job, part: Part) -> Handle | None:
        if self._wire.findable:
            return await self._wire.find(self.http, job.ticket_of(part), part.facts)
        why = f"The program stopped while the job was being sent to {self.http.service}. {DOUBT}"
        raise Unavailable(why, accepted=None)

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
            return await self._wire.send(self.http, part.request, ticket)
        sibling = job.taken[0].handle
        assert sibling is not None  # noqa: S101 - it is taken
        handle = await self._wire.again(self.http, sibling, part.facts, ticket)
        if handle is None:
            raise Unavailable("The program stopped before all pictures were asked for.", accepted=False)
        return handle

    def _stopped(self, job: Job, outcome: CancelOutcome) -> CancelOutcome:
        if outcome in (CancelOutcome.CANCELLED, CancelOutcome.REQUESTED):
            job.stopped = outcome
        job.nudged.set()
        return outcome

    async def _stop(self, job: Job) -> CancelOutcome:
        """Ask the service to stop all that it has of a job; the least that it agrees to. Raises an error only
        after all of it was asked for."""
        if not job.taken:
            return CancelOutcome.CANCELLED
        handles = [part.handle for part in job.taken if not part.ended]
        stops = [self._wire.stop(self.http, handle) for handle in handles if handle is not None]
        outcomes = await asyncio.gather(*stops, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        order = (CancelOutcome.UNSUPPORTED, CancelOutcome.REQUESTED, CancelOutcome.CANCELLED)
        return next((outcome for outcome in order if outcome in outcomes), CancelOutcome.TOO_LATE)


def _as_promised(job: Job, error: FairbrushError) -> FairbrushError:
    """A job that cancel() called cancelled ends as that, whatever its last call came to; doubt stays."""
    if job.stopped is not CancelOutcome.CANCELLED or isinstance(error, Cancelled):
        return error
    return Cancelled("The job was cancelled.", detail=error.message, accepted=error.accepted)


def _heard(task: asyncio.Task[None]) -> None:
    """Whoever waits for it gets its error; where nobody does, it is no matter for the loop's log."""
    if not task.cancelled():
        task.exception()
