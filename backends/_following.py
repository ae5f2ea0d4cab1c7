"""One run of watching a job that a service has: polled until its parts have ended, and collected.

A poll that fails says nothing about the job: it is given up, in doubt, only when the service has not been
heard for LOST_AFTER seconds. One part's trouble does not keep the others' pictures back.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from backends._collecting import collect, done_of
from backends._http import Backoff, Expired, Http, Missing
from backends._jobs import Job, Part
from backends._steps import Steps
from backends._wire import Ended, Finished, Found, Look, Waiting, Wire, Working
from bot.core.errors import (
    Cancelled,
    FairbrushError,
    ProtocolError,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.ports import CancelOutcome, Clock, Event, Model, Price, Progress, Queued

log = logging.getLogger(__name__)

LOST_AFTER: Final = 75.0  # seconds without contact after which a job is given up
PATIENCE: Final = 3600.0  # seconds in which no picture has come after which a job is stopped and given up
LONGEST_WAIT: Final = 600.0  # seconds until the next poll, whatever the service asks for
SETTLING: Final = 10.0  # seconds in which a service may not know yet what it has just taken
SLICE: Final = 30.0  # seconds after which a long wait gives a sign of life
MOST_AHEAD: Final = 1_000_000  # jobs in a service's queue that are believed
DOUBT: Final = "It may have been made and charged, so it is not sent again by itself."


class JobFailed(Exception):
    """The job has ended with this error."""

    def __init__(self, error: FairbrushError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(slots=True, eq=False)
class Watched:
    """A part that has not ended. heard: when the service last said something of it (monotonic); missed: polls
    in a row to which it said that there is no such job; look: the last; unfetched: since when pictures of it
    that are there cannot be fetched."""

    part: Part
    heard: float
    missed: int = 0
    look: Look | None = None
    unfetched: float | None = None
    backoff: Backoff = field(default_factory=Backoff)


class Following:
    """See the module. delays: seconds between polls; crowd: the least that they may be now; model: the job's,
    where it is known by now."""

    def __init__(
        self,
        job: Job,
        wire: Wire,
        http: Http,
        clock: Clock,
        steps: Steps,
        *,
        delays: Iterator[float],
        crowd: Callable[[], float],
        model: Callable[[], Model | None],
    ) -> None:
        self._job = job
        self._wire = wire
        self._http = http
        self._clock = clock
        self._steps = steps
        self._delays = delays
        self._crowd = crowd
        self._model = model
        self._fruitless = clock.monotonic()  # since when no picture has come
        self._left = [Watched(part, clock.monotonic()) for part in job.taken]
        for part in job.taken:
            part.ended = False  # watched once more from the beginning
        self._wait = next(delays)
        self._told: set[int] = set()
        self._finished: list[Finished] = []
        self._best = 0.0
        self._queued_until = job.facts.at
        self._worked = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """What happens, to Done. Raises the job's error, or Unavailable where the service is out of reach."""
        while self._left:
            async with aclosing(self._rest()) as signs:
                async for sign in signs:
                    yield sign
            began = self._clock.monotonic()
            for watched in (visited := list(self._left)):
                async with aclosing(self._visit(watched)) as events:
                    async for event in events:
                        yield event
            for watched in [one for one in visited if one in self._left]:
                await self._be_impatient(watched)
            heard = any(watched.heard >= began for watched in visited)
            if self._left and heard and (news := self._sign()) is not None:
                yield news
        since = self._queued_until if self._worked else self._job.facts.at
        wall = max(0.0, self._clock.now() - since)
        yield done_of(self._job, self._finished, len(self._told), wall, self._price)

    async def _rest(self) -> AsyncGenerator[Event, None]:
        """Wait until the next poll; where the service asked for a long wait, with signs of life."""
        wait, self._wait = max(self._wait, self._crowd()), next(self._delays)
        while True:
            await self._steps.pause(min(wait, SLICE), self._job.nudged)
            if self._job.stopped is CancelOutcome.CANCELLED:
                raise Cancelled("The job was cancelled.", accepted=True)
            wait -= SLICE
            if wait <= 0:
                return
            yield self._sign() or Queued(0)

    # --- one poll -----------------------------------------------------------------------------------------

    async def _visit(self, watched: Watched) -> AsyncGenerator[Event, None]:
        """Poll one part and take in what it says."""
        try:
            look = watched.look = await self._steps(self._look(watched.part))
            watched.heard, watched.missed, watched.backoff = self._clock.monotonic(), 0, Backoff()
            async with aclosing(self._take_in(watched, look)) as events:
                async for event in events:
                    yield event
        except Missing as error:
            self._missed(watched, error)
        except FairbrushError as error:
            self._steps.check(taken=True)
            self._no_news(watched, error)

    async def _look(self, part: Part) -> Look:
        assert part.handle is not None  # noqa: S101 - only taken parts are looked at
        try:
            return await self._wire.look(self._http, part.handle, part.facts)
        except FairbrushError as error:
            if error.accepted is True:  # the service has said how it ended
                return Ended(error)
            raise

    @property
    def _price(self) -> Price | None:
        model = self._model()
        return model.price if model is not None else None

    @property
    def _free(self) -> bool:
        """Whether it surely costs nothing to ask for it again."""
        return self._model() is not None and self._price in (None, Price())

    def _missed(self, watched: Watched, missing: Missing) -> None:
        """The service does not know the job: believed the second time, or a little later where it is new. It
        took it once, and may have made it: pictures are not kept for ever."""
        watched.missed += 1
        new = watched.look is None and self._clock.now() - self._job.facts.at < SETTLING
        if watched.missed >= (4 if new else 2):
            why = f"{self._http.service} has lost the job."
            detail = missing.detail or missing.message
            error = Unavailable(why, detail=detail, accepted=False)
            if not self._free:
                error = Unavailable(f"{why} {DOUBT}", detail=detail, accepted=None)
            cancelled = Cancelled("The job was cancelled.", detail=why, accepted=error.accepted)
            self._lose(watched, cancelled if self._job.halted else error)

    def _no_news(self, watched: Watched, error: FairbrushError) -> None:
        """A poll that failed: wait longer, or give up where that has been so for too long."""
        now = self._clock.monotonic()
        if isinstance(error, RateLimited):
            watched.heard = now
        log.info("a poll of %s failed: %s %s", self._http.service, error.message, error.detail)
        if now - watched.heard > LOST_AFTER:
            why = f"{self._http.service} has not said for over a minute how the job stands. {DOUBT}"
            detail = f"{error.message} {error.detail}"
            self._lose(watched, Unavailable(why, detail=detail, accepted=None))
        wait = min(watched.backoff.wait(error.retry_after), LONGEST_WAIT)
        self._wait = max(self._wait, 0.5, wait)

    async def _be_impatient(self, watched: Watched) -> None:
        """Give up what nothing has come of for too long: it must not hold its place for ever."""
        handle = watched.part.handle
        if self._clock.monotonic() - self._fruitless < PATIENCE or handle is None:
            return
        try:
            outcome = await self._steps(self._wire.stop(self._http, handle))
        except FairbrushError as error:
            self._steps.check(taken=True)
            log.info("a job of %s was not stopped: %s", self._http.service, error.message)
            outcome = CancelOutcome.UNSUPPORTED
        sure = outcome is CancelOutcome.CANCELLED and watched.unfetched is None
        why = f"{self._http.service} has not made it within {PATIENCE / 60:g} minutes."
        self._lose(watched, TimedOut(why if sure else f"{why} {DOUBT}", accepted=False if sure else None))

    def _lose(self, watched: Watched, error: FairbrushError) -> None:
        """A part will give no more pictures. Raises JobFailed where no other part has any: in doubt where
        one of them is, since all would be asked for again."""
        watched.part.ended = True
        self._left.remove(watched)
        self._job.shortfall.append(error)
        if not self._left and not self._told:
            doubts = [one for one in self._job.shortfall if one.accepted is None]
            raise JobFailed((doubts or [error])[-1])

    # --- what it says -------------------------------------------------------------------------------------

    async def _take_in(self, watched: Watched, look: Look) -> AsyncGenerator[Event, None]:
        """The pictures of a look that were not given out yet."""
        if isinstance(look, Ended):
            stopped = self._job.halted or isinstance(look.error, Cancelled)
            cancelled = Cancelled("The job was cancelled.", accepted=True)
            self._lose(watched, cancelled if stopped else look.error)
        if not isinstance(look, Working | Finished):
            return
        failed: FairbrushError | None = None
        for found in self._new(watched.part, look):
            try:
                event = await self._steps(
                    collect(self._http, watched.part, found, lambda: self._look(watched.part))
                )
            except FairbrushError as error:
                if isinstance(look, Working) or self._steps.closed:
                    raise
                log.warning(
                    "a picture of %s was not fetched: %s %s", self._http.service, error.message, error.detail
                )
                failed = error
                continue
            self._told.add(event.index)
            self._fruitless = self._clock.monotonic()
            yield event
        if isinstance(look, Finished):
            if failed is not None and self._may_pass(watched, failed):
                watched.look = Working(1.0, phase="Fetching the picture")
                raise failed
            self._finish(watched, look, failed)

    def _may_pass(self, watched: Watched, error: FairbrushError) -> bool:
        """Whether a picture that could not be fetched is worth another look: it is made, and paid for."""
        now = self._clock.monotonic()
        watched.unfetched = now if watched.unfetched is None else watched.unfetched
        away = isinstance(error, Unavailable | TimedOut) and not isinstance(error, Expired)
        return away and now - watched.unfetched < LOST_AFTER

    def _new(self, part: Part, look: Working | Finished) -> list[Found]:
        """The pictures of a look that are the request's and were not given out."""
        own = [found for found in look.pictures if 0 <= found.index < part.facts.count]
        return [found for found in own if part.offset + found.index not in self._told]

    def _finish(self, watched: Watched, look: Finished, failed: FairbrushError | None) -> None:
        self._finished.append(look)
        part = watched.part
        if not self._told.intersection(range(part.offset, part.offset + part.facts.count)):
            why = f"{self._http.service} ended the job without a picture."
            self._lose(watched, failed or ProtocolError(why, detail="no pictures", accepted=None))
            return
        if failed is not None:
            self._job.shortfall.append(failed)
        part.ended = True
        self._left.remove(watched)

    def _sign(self) -> Event | None:
        """What the last looks say, as one event; progress never falls."""
        looks = [(watched.part, watched.look) for watched in self._left]
        working = [(part, look) for part, look in looks if isinstance(look, Working)]
        waiting = [look for _, look in looks if isinstance(look, Waiting)]
        if not working and not self._told:
            return self._queued(waiting)
        self._worked = self._worked or bool(working)
        count = sum(part.facts.count for part in self._job.taken if part.ended)
        done = count + sum((look.fraction or 0.0) * part.facts.count for part, look in working)
        self._best = max(self._best, min(1.0, done / self._job.facts.count))
        said = any(look.fraction is not None for _, look in working)
        phase = next((look.phase for _, look in working if look.phase), "" if said else "Working")
        one = working[0][1] if len(working) == len(self._job.parts) == 1 else Working()
        return Progress(self._best, step=one.step, total=one.total, phase=phase)

    def _queued(self, waiting: list[Waiting]) -> Event | None:
        if not waiting:
            return None
        self._queued_until = self._clock.now()
        etas = [look.eta for look in waiting if look.eta is not None]
        return Queued(min(max(look.ahead for look in waiting), MOST_AHEAD), max(etas, default=None))
