"""Progress and previews of one batch, at a pace that neither slows the work nor floods the pipe.

Previews that a request asks for come at steps of their own, however long these take and whatever they cost:
they were promised. Those of other requests come by time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.local.board import Slot, Work
from backends.local.wire import Emit, event_frame
from bot.core.ports import Preview, Progress

PROGRESS_SECONDS = 0.05
PREVIEW_SECONDS = 0.25
PREVIEW_SHARE = 50  # a round of previews may cost at most one part in this of the time


def preview_steps(wanted: int, steps: int) -> frozenset[int]:
    """After which of `steps` denoising steps (1-based) a picture is shown `wanted` times, evenly spaced: as
    many, or all but the last where there are no more."""
    if wanted >= steps:
        return frozenset(range(1, steps))
    return frozenset(round(i * steps / (wanted + 1)) for i in range(1, wanted + 1))


class Reporter:
    """Tells the jobs of one batch how far they are. `clock`: seconds, monotonic."""

    def __init__(self, batch: Sequence[Slot], emit: Emit, clock: Callable[[], float]) -> None:
        self._batch = batch
        self._emit = emit
        self._clock = clock
        self._told = float("-inf")
        self._next_preview = clock() + PREVIEW_SECONDS
        self._calls = 0  # model calls in a denoising step; known after the first one

    def tell(self, step: int, total: int, look: Callable[[], list[bytes]] | None) -> None:
        """After model call `step` (1-based) of `total`. look: gives a preview for each picture; given at the
        end of each denoising step."""
        now = self._clock()
        if now - self._told >= PROGRESS_SECONDS or step == total:
            self._told = now
            for work in self._live():
                self._emit(event_frame(work.job.ticket, self._progress(work, step, total)))
        if look is not None and step < total:
            self._calls = self._calls or step
            self._look(step // self._calls, total // self._calls, now, look)

    def _look(self, step: int, steps: int, now: float, look: Callable[[], list[bytes]]) -> None:
        """After a denoising step. Looking costs time: once for all who want it now."""
        due = [slot for slot in self._batch if _is_due(slot, step, steps)]
        usual = self._usual() if now >= self._next_preview else []
        if not due and not usual:
            return
        begun = self._clock()
        pictures = look()
        for slot, data in zip(self._batch, pictures, strict=True):
            if slot in due or slot in usual:
                self._emit(event_frame(slot.work.job.ticket, Preview(data, "image/jpeg", slot.index)))
        for slot in due:
            slot.work.previewed.add((slot.index, step))
        cost = self._clock() - begun
        if usual:
            self._next_preview = now + max(PREVIEW_SECONDS, cost * PREVIEW_SHARE)

    def _usual(self) -> list[Slot]:
        """The first picture of each job that has no wish: one is what a status message shows."""
        first: dict[int, Slot] = {}
        for slot in self._batch:
            if not slot.work.cancelled and not slot.work.job.request.previews:
                first.setdefault(id(slot.work), slot)
        return list(first.values())

    def _live(self) -> list[Work]:
        return [work for work in dict.fromkeys(slot.work for slot in self._batch) if not work.cancelled]

    def _progress(self, work: Work, step: int, total: int) -> Progress:
        here = sum(slot.work is work for slot in self._batch)
        fraction = (work.made + here * step / total) / work.job.request.count
        return Progress(min(1.0, fraction), step=step, total=total)


def _is_due(slot: Slot, step: int, steps: int) -> bool:
    """A batch that is run again, in smaller parts, shows nothing twice."""
    wanted = slot.work.job.request.previews
    if not wanted or slot.work.cancelled or (slot.index, step) in slot.work.previewed:
        return False
    return step in preview_steps(wanted, steps)
