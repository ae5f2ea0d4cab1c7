"""Engines for the local backend's worker that need no model: flat colours, and every way to go wrong.

Given to LocalOptions by name ("tests.fakes.engine:create"), they run in a real worker process. What a job
does is the first word of its prompt: `crash` (SIGKILL), `hang` (a step that never ends), `hold` (makes
steps until a file named `release` lies in the model's folder), anything else: is made. Every step of a job
is noted as a line in the folder's `steps` file: "TICKET STEP".
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.local.opening import Job, Opening, Poll
from backends.local.profile import Profile
from backends.local.wire import Emit, Frame, event_frame
from bot.core.errors import ConfigurationError
from bot.core.ports import Done, ImageReady, Progress, Queued
from bot.core.request import JSON
from tests.fakes.backend import flat_png

TITLE = "Flat colours"


@dataclass
class _Work:
    job: Job
    step: int = 0


class FlatEngine:
    """One job at a time, one step a call."""

    def __init__(self, folder: Path, emit: Emit, poll: Poll) -> None:
        self._folder = folder
        self._emit = emit
        self._poll = poll
        self._works: list[_Work] = []

    def ready(self) -> Mapping[str, JSON]:
        profile = Profile(title=TITLE, default_width=64, default_height=64, default_steps=4)
        told: dict[str, JSON] = {"profile": profile.to_json(), "device": "cpu", "slots": 2, "max_batch": 1}
        return told | {"previews": False, "checks_content": False}

    def submit(self, job: Job) -> None:
        self._emit(event_frame(job.ticket, Queued(len(self._works))))
        self._works.append(_Work(job))

    def cancel(self, ticket: str) -> None:
        self._works = [work for work in self._works if work.job.ticket != ticket]

    def step(self) -> bool:
        if not self._works:
            return False
        work = self._works[0]
        if work.step == 0:
            self._emit(Frame("started", work.job.ticket))
        work.step += 1
        self._note(f"{work.job.ticket} {work.step}{' alone' if work.job.alone else ''}")
        self._misbehave(work.job.request.prompt.split()[0])
        request = work.job.request
        if work.step <= request.steps:
            progress = Progress(work.step / request.steps, step=work.step, total=request.steps)
            self._emit(event_frame(work.job.ticket, progress))
        elif not self._held(request.prompt):
            self._finish(work)
        return True

    def _finish(self, work: _Work) -> None:
        request = work.job.request
        for index in range(request.count):
            seed = request.seed_of(index)
            data = flat_png(request.width, request.height, seed)
            self._emit(event_frame(work.job.ticket, ImageReady(index, data, "image/png", seed)))
        self._emit(event_frame(work.job.ticket, Done(0.25, model="flat")))
        self._works.remove(work)

    def _held(self, prompt: str) -> bool:
        held = prompt.startswith("hold") and not (self._folder / "release").exists()
        if held:
            time.sleep(0.01)
            self._emit(Frame("alive", self._works[0].job.ticket))
        return held

    def _misbehave(self, word: str) -> None:
        if word == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        while word == "hang":
            time.sleep(0.1)

    def _note(self, line: str) -> None:
        with (self._folder / "steps").open("a") as file:
            file.write(f"{line}\n")


def create(opening: Opening, emit: Emit, poll: Poll) -> FlatEngine:
    """An engine that opens at once."""
    _count_opening(opening)
    return FlatEngine(Path(opening.location), emit, poll)


def create_slowly(opening: Opening, emit: Emit, poll: Poll) -> FlatEngine:
    """Opens once a file named `open` lies in the folder."""
    while not (Path(opening.location) / "open").exists():
        time.sleep(0.01)
    return create(opening, emit, poll)


def create_after_two_crashes(opening: Opening, emit: Emit, poll: Poll) -> FlatEngine:
    """The process dies at its first two openings."""
    if _count_opening(opening) <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return create(opening, emit, poll)


def create_never(opening: Opening, emit: Emit, poll: Poll) -> FlatEngine:
    """Fails in the same way every time."""
    _count_opening(opening)
    raise RuntimeError("the weights are on fire")


def create_refused(opening: Opening, emit: Emit, poll: Poll) -> FlatEngine:
    """Fails in a way that only the operator can mend."""
    _count_opening(opening)
    raise ConfigurationError("The model is incomplete. Download it again.")


def _count_opening(opening: Opening) -> int:
    path = Path(opening.location) / "openings"
    count = len(path.read_text()) if path.exists() else 0
    path.write_text("x" * (count + 1))
    return count + 1
