"""The local backend as the program sees it: the Backend port over a worker process that is kept alive.

The program never imports torch. Jobs that the worker has begun are lost with it and come back as
Unavailable(accepted=False), so that the dispatcher tries again; jobs that wait are handed to the next worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import cast

from backends._joblog import JobLog
from backends.local.opening import SMALL_MODEL_BYTES, SMALL_MODEL_SLOTS, Opening, params_of
from backends.local.options import LocalOptions
from backends.local.plan import make_plan
from backends.local.process import WorkerProcess
from backends.local.profile import Profile, read_profile
from backends.local.sources import Kind, Source
from backends.local.wire import Frame, error_of, event_of, request_frame
from bot.core.errors import (
    Cancelled,
    ConfigurationError,
    FairbrushError,
    InvalidRequest,
    Unavailable,
)
from bot.core.ports import CancelOutcome, Capabilities, Done, Event, Health, Progress, Queued, RemoteRef
from bot.core.request import JSON, ImageRequest

_log = logging.getLogger(__name__)

_FALLS_AT_LOAD = 3
_KEPT_UNWATCHED = 64


class LocalBackend:
    """See the module. The worker starts at the first call and is started again whenever it ends."""

    def __init__(self, source: Source, options: LocalOptions, *, name: str) -> None:
        self.name = name
        self._options = options
        self._source = source
        self._profile = read_profile(source.folder, source.model_id)
        self._capabilities = self._first_capabilities()
        self._jobs: dict[str, JobLog] = {}
        self._suspects: set[str] = set()
        self._tickets = itertools.count(1)
        self._worker: WorkerProcess | None = None
        self._running: asyncio.Task[None] | None = None
        self._ready = False
        self._closed = False
        self._falls = 0
        self._falls_at_load = 0
        self._trouble: FairbrushError | None = None  # why the last worker ended, until one is ready
        self._why: FairbrushError | None = None  # what the present worker is ending for
        self._last_sign = 0.0

    # --- the port -----------------------------------------------------------------------------------------

    async def capabilities(self) -> Capabilities:
        """From the profile, until the worker has said what it can really do."""
        self._ensure_running()
        return self._capabilities

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Check a request against the model and hand it to the worker.

        Raises InvalidRequest, or Unavailable(accepted=False) where the model cannot be opened.
        """
        if self._closed:
            raise Unavailable("The image backend is closed.", accepted=False)
        if request.model not in (None, self._source.model_id):
            raise InvalidRequest(
                f"There is no model {request.model!r} here; there is {self._source.model_id!r}.",
                field="model",
            )
        if self._ready or self._source.folder is not None:
            make_plan(request, self._profile)  # a guessed profile refuses nothing: the worker will
        self._ensure_running()
        if self._broken:
            raise self._unavailable()
        ticket = f"{job_id}/{next(self._tickets)}"
        self._forget_unwatched()
        job = self._jobs[ticket] = JobLog(job_id, request, alone=job_id in self._suspects)
        self._sign_of_life(fresh=True)
        if not self._ready:
            job.say(Progress(0.0, phase="Loading the model"))
        self._hand_over(ticket, job)
        return RemoteRef(self.name, {"ticket": ticket})

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """Pictures so far, the newest state, then what follows."""
        ticket = str(ref.data.get("ticket"))
        job = self._jobs.get(ticket)
        if job is None:
            raise Unavailable("The image backend no longer knows this job.", accepted=False)
        try:
            async for event in job.watch():
                yield event
        except FairbrushError:
            self._jobs.pop(ticket, None)
            raise
        self._jobs.pop(ticket, None)

    async def cancel(self, ref: RemoteRef) -> CancelOutcome:
        """The job ends at once; the worker leaves it within one model call."""
        ticket = str(ref.data.get("ticket"))
        job = self._jobs.get(ticket)
        if job is not None and isinstance(job.error, Cancelled):
            return CancelOutcome.CANCELLED
        if job is None or job.ended:
            return CancelOutcome.TOO_LATE
        job.end(Cancelled("The job was cancelled.", accepted=True))
        if self._worker is not None:
            self._worker.send(Frame("cancel", ticket))
        return CancelOutcome.CANCELLED

    async def health(self) -> Health:
        """Ready, loading, or why not."""
        if self._closed:
            return Health(False, detail="closed")
        self._ensure_running()
        if self._broken and self._trouble is not None:
            return Health(False, detail=self._trouble.message)
        if not self._ready:
            again = f" again; {self._trouble.message}" if self._trouble else ""
            return Health(True, loading=True, detail=f"loading {self._profile.title}{again}")
        return Health(True, detail=self._profile.title)

    async def aclose(self) -> None:
        """End the worker; jobs that are left become Unavailable."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        self._end_all(Unavailable("The image backend was closed.", accepted=False))

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return self._worker.pid if self._worker else None

    # --- keeping a worker ---------------------------------------------------------------------------------

    @property
    def _broken(self) -> bool:
        """Whether loading has failed for good, or three times in a row."""
        permanent = isinstance(self._trouble, ConfigurationError | InvalidRequest)
        return self._falls_at_load >= (1 if permanent else _FALLS_AT_LOAD)

    def _unavailable(self) -> Unavailable:
        trouble = self._trouble or Unavailable("The image model stopped.")
        return Unavailable(trouble.message, detail=trouble.detail, accepted=False)

    def _ensure_running(self) -> None:
        if self._running is None and not self._closed:
            self._running = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        while True:
            watchdog: asyncio.Task[None] | None = None
            self._why = None
            try:
                self._worker = await WorkerProcess.start(self._opening(), self._options.engine)
                self._sign_of_life()
                watchdog = asyncio.create_task(self._watch(self._worker))
                await self._converse(self._worker)
            except OSError as error:
                self._why = Unavailable("The image worker cannot be started.", detail=str(error))
            finally:
                await self._put_away(watchdog)
            self._fallen()
            await asyncio.sleep(self._options.pause(self._falls))

    async def _converse(self, worker: WorkerProcess) -> None:
        for ticket, job in list(self._jobs.items()):
            if not job.ended:
                self._hand_over(ticket, job)
        while (frame := await worker.receive()) is not None:
            self._sign_of_life()
            if frame.kind == "fatal":
                self._why = error_of(frame)
            else:
                self._take(frame)

    async def _put_away(self, watchdog: asyncio.Task[None] | None) -> None:
        worker, self._worker = self._worker, None
        if watchdog is not None:
            watchdog.cancel()
        if worker is None:
            return
        code = await worker.close()
        if self._why is None:
            text = "The image model's process stopped unexpectedly."
            self._why = Unavailable(text, detail=f"exit code {code}\n{worker.last_words}", accepted=False)

    def _fallen(self) -> None:
        """The worker has ended by itself: count it and give its jobs back."""
        self._falls += 1
        self._falls_at_load = 0 if self._ready else self._falls_at_load + 1
        self._ready, self._trouble = False, self._why
        trouble = self._unavailable()
        _log.warning("%s: %s %s", self.name, trouble.message, trouble.detail)
        for job in self._jobs.values():
            if not job.ended and (job.started or self._broken):
                self._suspects |= {job.job_id} if job.started else set()
                job.end(trouble)

    async def _watch(self, worker: WorkerProcess) -> None:
        """Kill a worker that shows no sign of life for too long while it has something to do."""
        loop = asyncio.get_running_loop()
        pause = min(self._options.job_timeout, self._options.load_timeout) / 4
        while True:
            limit = self._options.job_timeout if self._ready else self._options.load_timeout
            left = self._last_sign + limit - loop.time()
            if left <= 0 and (not self._ready or self._has_work()):
                self._why = Unavailable(f"The image model gave no sign of life for {limit:g} s.")
                worker.kill()
                return
            self._reassure()
            await asyncio.sleep(min(left, pause) if left > 0 else pause)

    def _reassure(self) -> None:
        """Tell jobs that wait how they stand, or a long load or batch would look like a lost job."""
        waiting = [job for job in self._jobs.values() if not job.ended and not job.started]
        running = sum(job.started and not job.ended for job in self._jobs.values())
        for place, job in enumerate(waiting, start=running):
            job.say(Queued(place) if self._ready else Progress(0.0, phase="Loading the model"))

    def _has_work(self) -> bool:
        return any(not job.ended for job in self._jobs.values())

    def _sign_of_life(self, *, fresh: bool = False) -> None:
        """fresh: only a first job after idleness counts, or a stream of new jobs would hide a hang."""
        if not fresh or sum(not job.ended for job in self._jobs.values()) <= 1:
            self._last_sign = asyncio.get_running_loop().time()

    # --- what the worker says -----------------------------------------------------------------------------

    def _hand_over(self, ticket: str, job: JobLog) -> None:
        if self._worker is not None:
            self._worker.send(request_frame(ticket, job.request, alone=job.alone))

    def _take(self, frame: Frame) -> None:
        if frame.kind == "ready":
            self._opened(frame.data)
            return
        job = self._jobs.get(frame.job)
        if job is None or job.ended:
            return
        if frame.kind == "started":
            job.started = True
        elif frame.kind == "failed":
            job.end(error_of(frame))
        elif frame.kind == "cancelled":
            job.end(Cancelled("The job was cancelled.", accepted=True))
        elif (event := event_of(frame)) is not None:
            self._say(job, event)

    def _say(self, job: JobLog, event: Event) -> None:
        job.say(event)
        if isinstance(event, Done):
            job.end()
            self._falls = 0
            self._suspects.discard(job.job_id)

    def _opened(self, data: Mapping[str, JSON]) -> None:
        self._ready, self._falls_at_load, self._trouble = True, 0, None
        if "profile" in data:
            self._profile = Profile.from_json(cast(Mapping[str, JSON], data["profile"]))
        self._capabilities = replace(
            self._capabilities,
            models=(self._profile.model(self._source.model_id),),
            slots=int(cast(int, data["slots"])),
            max_batch=int(cast(int, data["max_batch"])),
            previews=bool(data["previews"]),
            checks_content=bool(data["checks_content"]),
            params=frozenset(cast("list[str]", data.get("params", list(params_of(self._profile))))),
        )
        _log.info("%s: %s is ready on %s", self.name, self._profile.title, data.get("device", "?"))

    # --- small things -------------------------------------------------------------------------------------

    def _first_capabilities(self) -> Capabilities:
        """Before anything is loaded: what a machine without a GPU can do."""
        size = self._source.weight_bytes
        small = size is not None and size < SMALL_MODEL_BYTES
        slots = self._options.slots or (SMALL_MODEL_SLOTS if small else 1)
        checks = self._options.safety_checker and _ships_checker(self._source)
        previews = self._options.previews and not checks
        return Capabilities(
            models=(self._profile.model(self._source.model_id),),
            slots=slots,
            max_batch=slots,
            params=params_of(self._profile, previews=previews),
            progress=True,
            previews=previews,
            cancel=True,
            checks_content=checks,
        )

    def _opening(self) -> Opening:
        options, source = self._options, self._source
        return Opening(
            kind=source.kind,
            location=source.location,
            model_id=source.model_id,
            folder=str(source.folder) if source.folder else None,
            device=options.device,
            dtype=options.dtype,
            threads=options.threads,
            cache_dir=options.cache_dir,
            slots=options.slots,
            previews=options.previews,
            safety_checker=options.safety_checker,
        )

    def _end_all(self, error: FairbrushError) -> None:
        for job in self._jobs.values():
            job.end(error)

    def _forget_unwatched(self) -> None:
        ended = [ticket for ticket, job in self._jobs.items() if job.ended]
        for ticket in ended[:-_KEPT_UNWATCHED]:
            del self._jobs[ticket]


def _ships_checker(source: Source) -> bool:
    return (
        source.kind is Kind.FOLDER
        and source.folder is not None
        and (source.folder / "safety_checker" / "config.json").is_file()
    )
