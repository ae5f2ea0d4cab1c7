"""The engine: takes the oldest waiting job, adds others that may share its model call, runs them as a batch.

Every picture has a generator of its own and its prompt is encoded by itself, so its pixels do not depend on
its neighbours. While a batch runs, commands are read after every model call: a cancelled job leaves its
batch, and a batch without jobs stops at once. Knows nothing of processes and pipes.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from backends.local.advice import real_pictures
from backends.local.board import Board, Slot, Work
from backends.local.loading import Loaded, be_quiet, load
from backends.local.opening import Job, Opening, Poll, params_of
from backends.local.plan import Kind, make_plan
from backends.local.profile import Profile
from backends.local.rendering import Renderer, Stopped
from backends.local.reporting import Reporter
from backends.local.wire import Emit, Frame, error_frame, event_frame
from bot.core.errors import FairbrushError, InvalidRequest, Unavailable
from bot.core.ports import Queued
from bot.core.request import JSON


def create(opening: Opening, emit: Emit, poll: Poll) -> BatchEngine:
    """Load the model and make an engine for it: an EngineFactory."""
    be_quiet()
    loaded = load(opening)
    previews = opening.previews and not loaded.checks_content
    renderer = Renderer(loaded, previews=previews)
    renderer.warm_up()
    return BatchEngine(renderer, emit, poll, model_id=opening.model_id)


class BatchEngine:
    """See the module. An Engine of opening.py."""

    def __init__(
        self,
        renderer: Renderer,
        emit: Emit,
        poll: Poll,
        *,
        model_id: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._renderer = renderer
        self._emit = emit
        self._poll = poll
        self._model_id = model_id
        self._clock = clock
        self._board = Board()
        self._caps: dict[tuple[int, int], int] = {}

    def ready(self) -> Mapping[str, JSON]:
        """What the program should know."""
        loaded = self._renderer.loaded
        return {
            "profile": _advised(loaded).to_json(),
            "device": str(loaded.device),
            "slots": loaded.slots,
            "max_batch": loaded.slots,
            "checks_content": loaded.checks_content,
            "previews": self._renderer.previews,
            "params": sorted(
                params_of(loaded.profile, stable=loaded.stable, previews=self._renderer.previews)
            ),
        }

    def submit(self, job: Job) -> None:
        """Plan a job and put it on the board; refuse it by a "failed" frame."""
        loaded = self._renderer.loaded
        try:
            plan = make_plan(job.request, loaded.profile, loaded.wording)
            if plan.kind is not Kind.TEXT and not loaded.stable:
                raise InvalidRequest("This model makes pictures from text only.", field="init_image")
            scale = None if loaded.stable else plan.guidance
            work = Work(job, plan, windows=self._renderer.windows(plan), alone=job.alone, scale=scale)
        except FairbrushError as error:
            self._emit(error_frame("failed", job.ticket, error))
            return
        ahead = sum(1 for _ in self._board.works())
        self._board.add(work)
        self._emit(event_frame(job.ticket, Queued(ahead)))

    def cancel(self, ticket: str) -> None:
        """Drop a job; one that runs leaves its batch after the present model call."""
        work = self._board.find(ticket)
        if work is not None:
            work.cancelled = True
            self._board.remove(work)
            self._emit(Frame("cancelled", ticket))

    def step(self) -> bool:
        """Run one batch. False where nothing waits."""
        batch = self._board.batch(self._cap())
        if not batch:
            return False
        for work in dict.fromkeys(slot.work for slot in batch):
            if not work.started:
                work.started = True
                self._emit(Frame("started", work.job.ticket))
        self._attempt(batch)
        return True

    # --- one batch ----------------------------------------------------------------------------------------

    def _cap(self) -> int:
        if not self._board.waiting:
            return 1
        plan = self._board.waiting[0].work.plan
        if self._renderer.one_by_one(plan):
            return 1
        return self._caps.get((plan.width, plan.height), self._renderer.loaded.slots)

    def _attempt(self, batch: Sequence[Slot]) -> None:
        """Run a batch; what fails stays on the board in a form that can succeed, or fails for good."""
        try:
            self._run(batch)
        except Stopped:
            return
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                self._shrink(batch)
            elif is_device_lost(error):
                raise
            else:
                self._isolate(batch, error)
        except Exception as error:  # a fault of one request must not take its neighbours along
            self._isolate(batch, error)

    def _run(self, batch: Sequence[Slot]) -> None:
        begun = self._clock()
        reporter = Reporter(batch, self._emit, self._clock)

        def after_call(step: int, total: int, look: Callable[[], list[bytes]] | None) -> bool:
            self._poll()
            if all(slot.work.cancelled for slot in batch):
                return False
            reporter.tell(step, total, look)
            return True

        results = self._renderer.render(batch, after_call)
        share = (self._clock() - begun) / len(batch)
        self._board.take(batch)
        for slot, result in zip(batch, results, strict=True):
            slot.work.seconds += share
            slot.work.made += 1
            if not slot.work.cancelled:
                self._emit(event_frame(slot.work.job.ticket, result))
                self._finish(slot.work)

    def _finish(self, work: Work) -> None:
        if work.made == work.job.request.count:
            self._emit(event_frame(work.job.ticket, work.done(self._model_id)))

    # --- what can go wrong --------------------------------------------------------------------------------

    def _shrink(self, batch: Sequence[Slot]) -> None:
        """Out of memory: half as many at a time from now on; a single picture that does not fit fails."""
        self._renderer.free_memory()
        plan = batch[0].work.plan
        if plan.kind is Kind.UPSCALE and self._renderer.fewer_parts():
            return
        if len(batch) > 1:
            self._caps[plan.width, plan.height] = len(batch) // 2
            return
        where = "GPU memory" if self._renderer.loaded.device.type == "cuda" else "memory"
        text = f"Out of {where} at {plan.width}×{plan.height}. Ask for a smaller size."
        self._fail(batch, InvalidRequest(text, field="size", accepted=True))

    def _isolate(self, batch: Sequence[Slot], error: Exception) -> None:
        """Of several jobs each is tried again by itself; one by itself fails."""
        works = list(dict.fromkeys(slot.work for slot in batch))
        if len(works) > 1:
            for work in works:
                work.alone = True
            return
        if isinstance(error, FairbrushError):
            self._fail(batch, error)
            return
        detail = "".join(traceback.format_exception(error))
        text = "The image model failed on this request."
        self._fail(batch, Unavailable(text, detail=detail, accepted=False))

    def _fail(self, batch: Sequence[Slot], error: FairbrushError) -> None:
        for work in dict.fromkeys(slot.work for slot in batch):
            self._board.remove(work)
            if not work.cancelled:
                self._emit(error_frame("failed", work.job.ticket, error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at a time may work."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text


def is_device_lost(error: BaseException) -> bool:
    """Whether the device's context is beyond repair, so that only a new process helps."""
    return type(error).__name__ == "AcceleratorError" or "cuda error" in str(error).lower()


def _advised(loaded: Loaded) -> Profile:
    """The profile, its way to real pictures by what this GPU holds."""
    profile = loaded.profile
    if loaded.device.type != "cuda" or profile.advice != real_pictures(None):
        return profile
    memory = int(torch.cuda.get_device_properties(loaded.device).total_memory)
    return replace(profile, advice=real_pictures(memory))
