"""Jobs that a task of this program follows at a server, for backends whose call lasts while one is made.

A job is put down by submit() and begins with the first events(): a task then sends it, follows it and writes
its log, whoever watches. Knows no server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from backends._joblog import JobLog
from bot.core.errors import Cancelled, FairbrushError, Unavailable
from bot.core.ports import CancelOutcome, Event, RemoteRef
from bot.core.request import ImageRequest

log = logging.getLogger(__name__)

_KEPT_UNWATCHED: Final = 64
_GRACE: Final = 2.0  # seconds that all runs together have to leave a server in good order


class Run(JobLog):
    """One job. ticket: unguessable, and what the server knows it by; current: the server's name of what is
    being made of it now, "" before anything was sent; cancelled: its end is Cancelled, whatever the server
    answers."""

    def __init__(self, ticket: str, job_id: str, request: ImageRequest, model: str) -> None:
        super().__init__(job_id, request)
        self.ticket = ticket
        self.model = model
        self.current = ""
        self.cancelled = False
        self.going = False


class Runs:
    """The jobs of one backend. follow: sends a job and says its events; returns when it is done."""

    def __init__(self, name: str, follow: Callable[[Run], Awaitable[None]]) -> None:
        self.name = name
        self.closed = False
        self._follow = follow
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def check_open(self) -> None:
        """Raise Unavailable once it is closed."""
        if self.closed:
            raise Unavailable("The image backend is closed.", accepted=False)

    def add(self, job_id: str, request: ImageRequest, model: str) -> Run:
        """Put a job down; nothing is sent yet."""
        self.check_open()
        ended = [key for key, run in self._runs.items() if run.ended]
        for key in ended[:-_KEPT_UNWATCHED]:
            del self._runs[key]
        run = Run(secrets.token_hex(16), job_id, request, model)
        self._runs[run.ticket] = run
        return run

    def find(self, ref: RemoteRef) -> Run | None:
        """The job of a reference, None where this process does not know it."""
        return self._runs.get(str(ref.data.get("job")))

    async def watch(self, run: Run) -> AsyncIterator[Event]:
        """What has happened to it so far and what follows; the first watcher sets it going."""
        if not run.going and not run.ended:
            run.going = True
            task = asyncio.create_task(self._carry_out(run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            async for event in run.watch():
                yield event
        except FairbrushError:
            self._runs.pop(run.ticket, None)
            raise
        self._runs.pop(run.ticket, None)

    def drop(self, run: Run) -> CancelOutcome | None:
        """Cancel a job as far as that needs no server; None where the server has to be asked."""
        if isinstance(run.error, Cancelled):
            return CancelOutcome.CANCELLED
        if run.ended:
            return CancelOutcome.TOO_LATE
        if not run.going:
            run.end(Cancelled("The job was cancelled.", accepted=False))
            return CancelOutcome.CANCELLED
        return None

    def give_up(self, run: Run) -> None:
        """End a job as cancelled; its task goes on until the server has let go of it."""
        run.cancelled = True
        run.end(_cancelled())

    async def aclose(self, leave: Callable[[Run], Awaitable[None]] | None = None) -> None:
        """End all watchers with Unavailable; leave: a last word to the server about a job that was sent."""
        self.closed = True
        going = [run for run in self._runs.values() if run.current and not run.ended]
        if leave is not None and going:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await asyncio.gather(*map(leave, going), return_exceptions=True)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in self._runs.values():
            run.end(Unavailable("The image backend was closed.", accepted=False))

    async def _carry_out(self, run: Run) -> None:
        try:
            await self._follow(run)
            run.end(_cancelled() if run.cancelled else None)
        except FairbrushError as error:
            run.end(_cancelled() if run.cancelled else error)
        except Exception as error:  # a bug: this job fails, the others go on
            log.exception("%s: job %s", self.name, run.job_id)
            run.end(Unavailable("The image backend failed.", detail=repr(error), accepted=None))


def _cancelled() -> Cancelled:
    return Cancelled("The job was cancelled.", accepted=True)
