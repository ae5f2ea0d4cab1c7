"""Progress and previews of one batch, at a pace that neither slows the work nor floods the pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.local.board import Slot, Work
from backends.local.wire import Emit, event_frame
from bot.core.ports import Preview, Progress

PROGRESS_SECONDS = 0.05
PREVIEW_SECONDS = 0.25
PREVIEW_SHARE = 50  # a round of previews may cost at most one part in this of the time


class Reporter:
    """Tells the jobs of one batch how far they are. `clock`: seconds, monotonic."""

    def __init__(self, batch: Sequence[Slot], emit: Emit, clock: Callable[[], float]) -> None:
        self._batch = batch
        self._emit = emit
        self._clock = clock
        self._told = float("-inf")
        self._next_preview = clock() + PREVIEW_SECONDS

    def tell(self, step: int, total: int, look: Callable[[], list[bytes]] | None) -> None:
        """After model call `step` (1-based) of `total`. look: gives a preview for each picture."""
        now = self._clock()
        if now - self._told >= PROGRESS_SECONDS or step == total:
            self._told = now
            for work in self._live():
                self._emit(event_frame(work.job.ticket, self._progress(work, step, total)))
        if look is not None and now >= self._next_preview and step < total:
            self._show(look())
            cost = self._clock() - now
            self._next_preview = now + max(PREVIEW_SECONDS, cost * PREVIEW_SHARE)

    def _live(self) -> list[Work]:
        return [work for work in dict.fromkeys(slot.work for slot in self._batch) if not work.cancelled]

    def _progress(self, work: Work, step: int, total: int) -> Progress:
        here = sum(slot.work is work for slot in self._batch)
        fraction = (work.made + here * step / total) / work.job.request.count
        return Progress(min(1.0, fraction), step=step, total=total)

    def _show(self, pictures: Sequence[bytes]) -> None:
        """Only the first picture of each job: one is what a status message shows."""
        shown: set[int] = set()
        for slot, data in zip(self._batch, pictures, strict=True):
            if not slot.work.cancelled and id(slot.work) not in shown:
                shown.add(id(slot.work))
                self._emit(event_frame(slot.work.job.ticket, Preview(data, "image/jpeg", slot.index)))
