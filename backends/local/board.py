"""The engine's bookkeeping: which pictures wait, which may share a model call, what a job has used.

Pure, and free of torch: engines of any kind can use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from backends.local.opening import Job
from backends.local.plan import Plan
from bot.core.ports import Done

Key: TypeAlias = tuple[object, ...]


@dataclass(eq=False)
class Work:
    """A job in the engine. made: pictures ready or rejected; windows: of its longer prompt, in the text
    encoder's windows; alone: it shares no model call; scale: its guidance, where a call takes but one;
    previewed: (index of a picture, step) of the previews that it wanted and was given."""

    job: Job
    plan: Plan
    windows: int = 1
    alone: bool = False
    scale: float | None = None
    started: bool = False
    cancelled: bool = False
    made: int = 0
    seconds: float = 0.0
    previewed: set[tuple[int, int]] = field(default_factory=set)

    @property
    def key(self) -> Key:
        """Works with equal keys may share a model call."""
        plan = self.plan
        return (
            plan.kind,
            plan.width,
            plan.height,
            plan.steps,
            plan.scheduler,
            plan.strength,
            plan.guided,
            self.scale,
            self.windows,
            self.job.ticket if self.alone else "",
        )

    def done(self, model_id: str) -> Done:
        """The event that ends it."""
        return Done(
            device_seconds=round(self.seconds, 4),
            model=model_id,
            notes=self.plan.notes,
            applied=self.plan.applied,
        )


@dataclass(frozen=True, eq=False)
class Slot:
    """One picture to be made."""

    work: Work
    index: int

    @property
    def seed(self) -> int:
        """The seed of this picture."""
        return self.work.job.request.seed_of(self.index)


@dataclass
class Board:
    """Pictures that wait, oldest job first."""

    waiting: list[Slot] = field(default_factory=list)

    def add(self, work: Work) -> None:
        """Put all of a job's pictures on the board."""
        self.waiting += [Slot(work, index) for index in range(work.job.request.count)]

    def remove(self, work: Work) -> None:
        """Take a job's pictures off."""
        self.waiting = [slot for slot in self.waiting if slot.work is not work]

    def take(self, slots: Iterable[Slot]) -> None:
        """Take these pictures off."""
        gone = set(map(id, slots))
        self.waiting = [slot for slot in self.waiting if id(slot) not in gone]

    def batch(self, cap: int) -> list[Slot]:
        """Up to `cap` pictures that may share a model call, the oldest among them; they stay on the board."""
        if not self.waiting:
            return []
        key = self.waiting[0].work.key
        return [slot for slot in self.waiting if slot.work.key == key][:cap]

    def works(self) -> Iterator[Work]:
        """The jobs on the board, oldest first."""
        yield from dict.fromkeys(slot.work for slot in self.waiting)

    def find(self, ticket: str) -> Work | None:
        """The job with this ticket."""
        return next((work for work in self.works() if work.job.ticket == ticket), None)
