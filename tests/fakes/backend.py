"""A backend in this process, for tests of everything above it: pictures are flat colours drawn from the seed.

It can be held at a stage, made to fail, to reject pictures and to lose its jobs. Stages, in order: `submit`
(inside submit), `start` (before anything is made), `picture` (before each picture), `done` (before Done).

    backend = FakeBackend()
    hold = backend.hold("start")
    ...
    await hold.reached.wait()      # a job is now waiting there
    hold.release()
    backend.fail(Unavailable("gone", accepted=False), at="picture")   # once; times=2 for twice
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

from PIL import Image

from bot.core.errors import Cancelled, FairbrushError, InvalidRequest, Unavailable
from bot.core.ports import (
    CancelOutcome,
    Capabilities,
    Done,
    Event,
    Health,
    ImageReady,
    ImageRejected,
    Model,
    Preview,
    Progress,
    Queued,
    RemoteRef,
)
from bot.core.request import ImageRequest

REJECTED = "The picture was kept back by the content check."
STAGES = ("submit", "start", "picture", "done")
PARAMS = frozenset(
    {
        "steps",
        "guidance_scale",
        "seed",
        "negative_prompt",
        "scheduler",
        "init_image",
        "mask_image",
        "strength",
        "upscale",
        "previews",
    }
)
FAKE_MODEL = Model(
    id="fake",
    title="Flat colours",
    width=64,
    height=64,
    steps=4,
    guidance_scale=7.5,
    scheduler="Euler",
    licence="Apache-2.0",
    demo=True,
    schedulers=("Euler", "Euler a"),
    examples=("a flat colour",),
)


def colour_of(seed: int) -> tuple[int, int, int]:
    """The colour that a seed is drawn in: red is its lowest byte."""
    return seed & 0xFF, (seed >> 8) & 0xFF, (seed >> 16) & 0xFF


def flat_png(width: int, height: int, seed: int) -> bytes:
    """A PNG of one colour."""
    data = io.BytesIO()
    Image.new("RGB", (width, height), colour_of(seed)).save(data, "PNG")
    return data.getvalue()


class Hold:
    """A gate that jobs stop at. reached: set once a job is there; release() lets all through."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        """Open the gate for good."""
        self._released.set()

    async def wait(self) -> None:
        """Stop here until released."""
        self.reached.set()
        await self._released.wait()


@dataclass
class _Failure:
    error: FairbrushError
    times: int


@dataclass
class FakeJob:
    """One submitted job: what has happened so far, and how it ended."""

    job_id: str
    request: ImageRequest
    events: list[Event] = field(default_factory=list)
    error: FairbrushError | None = None
    ended: bool = False
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, event: Event) -> None:
        """Append an event and wake the watchers."""
        self.events.append(event)
        self._wake()

    def end(self, error: FairbrushError | None = None) -> None:
        """No more events; watchers then see `error`, where there is one."""
        self.error, self.ended = error, True
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class FakeBackend:
    """See the module. `submitted` and `cancelled` hold what was asked, in order; `running` and `peak` count
    jobs between start and end; seconds_per_picture: device time that Done reports; delay: seconds that each
    picture takes; reject: indices of pictures that its own check keeps back; reveal: give them along;
    params: what it honours."""

    def __init__(
        self,
        name: str = "fake:",
        *,
        models: tuple[Model, ...] = (FAKE_MODEL,),
        slots: int = 1,
        resumable: bool = False,
        previews: bool = True,
        reject: Collection[int] = (),
        reveal: bool = False,
        seconds_per_picture: float = 0.5,
        money: float | None = None,
        speed: float = 1.0,
        delay: float = 0.0,
        params: frozenset[str] = PARAMS,
    ) -> None:
        self.name = name
        self.models = models
        self.slots = slots
        self.resumable = resumable
        self.previews = previews
        self.reject = frozenset(reject)
        self.reveal = reveal
        self.seconds_per_picture = seconds_per_picture
        self.money = money
        self.speed = speed
        self.delay = delay
        self.params = params
        self.ok = Health(True)
        self.submitted: list[tuple[str, ImageRequest]] = []
        self.cancelled: list[str] = []
        self.jobs: dict[str, FakeJob] = {}
        self.running = 0
        self.peak = 0
        self.closed = False
        self._holds: dict[str, Hold] = {}
        self._failures: dict[str, _Failure] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    # --- for tests ----------------------------------------------------------------------------------------

    def hold(self, stage: str) -> Hold:
        """Stop jobs at `stage` from now on, until released."""
        assert stage in STAGES, stage
        self._holds[stage] = Hold()
        return self._holds[stage]

    def fail(self, error: FairbrushError, *, at: str = "start", times: int = 1) -> None:
        """Raise `error` when a job next reaches `at`, `times` times."""
        assert at in STAGES, at
        self._failures[at] = _Failure(error, times)

    def forget(self) -> None:
        """Lose all jobs, as a remote that was restarted does."""
        for job in self.jobs.values():
            if job.task is not None:
                job.task.cancel()
            job.end(Unavailable("The backend lost this job.", accepted=False))
        self.jobs.clear()

    # --- the port -----------------------------------------------------------------------------------------

    async def capabilities(self) -> Capabilities:
        """All parameters, progress and previews."""
        return Capabilities(
            models=self.models,
            slots=self.slots,
            max_batch=self.slots,
            params=self.params,
            progress=True,
            previews=self.previews,
            cancel=True,
            resumable=self.resumable,
            checks_content=bool(self.reject),
            speed=self.speed,
        )

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Take the job; work starts at once, whether or not anybody watches."""
        if self.closed:
            raise Unavailable("The backend is closed.", accepted=False)
        if request.model not in (None, *(model.id for model in self.models)):
            raise InvalidRequest(f"There is no model {request.model!r} here.", field="model")
        self.submitted.append((job_id, request))
        await self._stage("submit")
        self._count += 1
        ticket = f"{job_id}#{self._count}"
        job = self.jobs[ticket] = FakeJob(job_id, request)
        job.task = asyncio.create_task(self._work(job))
        self._tasks.add(job.task)
        job.task.add_done_callback(self._tasks.discard)
        return RemoteRef(self.name, {"ticket": ticket})

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """All events from the beginning, then what follows."""
        job = self.jobs.get(str(ref.data["ticket"]))
        if job is None:
            raise Unavailable("The backend does not know this job.", accepted=False)
        seen = 0
        while True:
            changed = job.changed
            while seen < len(job.events):
                seen += 1
                yield job.events[seen - 1]
            if job.error is not None:
                raise job.error
            if job.ended:
                return
            await changed.wait()

    async def cancel(self, ref: RemoteRef) -> CancelOutcome:
        """Stop at once."""
        job = self.jobs.get(str(ref.data["ticket"]))
        if job is not None and isinstance(job.error, Cancelled):
            return CancelOutcome.CANCELLED
        if job is None or job.ended:
            return CancelOutcome.TOO_LATE
        self.cancelled.append(job.job_id)
        if job.task is not None:
            job.task.cancel()
        job.end(Cancelled("The job was cancelled.", accepted=True))
        return CancelOutcome.CANCELLED

    async def health(self) -> Health:
        """`ok`, which tests may set."""
        return self.ok

    async def aclose(self) -> None:
        """Stop all work."""
        self.closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self.jobs.values():
            if not job.ended:
                job.end(Unavailable("The backend was closed.", accepted=False))

    # --- the work -----------------------------------------------------------------------------------------

    async def _work(self, job: FakeJob) -> None:
        job.say(Queued(ahead=0))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self._stage("start")
            for index in range(job.request.count):
                await self._picture(job, index)
            await self._stage("done")
            job.say(self._done(job.request))
            job.end()
        except FairbrushError as error:
            job.end(error)
        finally:
            self.running -= 1

    async def _picture(self, job: FakeJob, index: int) -> None:
        await self._stage("picture")
        if self.delay:
            await asyncio.sleep(self.delay)
        request, seed = job.request, job.request.seed_of(index)
        if self.previews and not self.reject:
            for _ in range(request.previews or 1):
                job.say(Preview(flat_png(8, 8, seed), "image/png", index))
        job.say(Progress((index + 1) / request.count, step=request.steps, total=request.steps))
        picture = flat_png(request.width, request.height, seed)
        if index in self.reject:
            data = picture if self.reveal else None
            job.say(ImageRejected(index, REJECTED, data, "image/png" if data else "", seed))
        else:
            job.say(ImageReady(index, picture, "image/png", seed))

    async def _stage(self, stage: str) -> None:
        hold = self._holds.get(stage)
        if hold is not None:
            await hold.wait()
        failure = self._failures.get(stage)
        if failure is not None and failure.times > 0:
            failure.times -= 1
            raise failure.error

    def _done(self, request: ImageRequest) -> Done:
        return Done(
            device_seconds=self.seconds_per_picture * request.count,
            money=self.money,
            model=request.model or self.models[0].id,
        )
