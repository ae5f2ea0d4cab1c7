"""The page's one line about a request: the common texts, joined the way this page shows them."""

from __future__ import annotations

from bot.core import messages
from bot.core.ports import JobStatus
from bot.core.request import ImageResult, State


def line_of(status: JobStatus) -> str:
    """How an unfinished request stands: "About 9 requests ahead · 2-6 min", "12/30", "Loading the model".

    The bar is the page's own, so that here a running request gets words alone.
    """
    if status.state is State.RUNNING:
        return _running(status)
    if status.state is not State.QUEUED or status.position is None:
        return messages.status_line(status)
    position = status.position
    parts = (
        messages.RESTARTED if status.restarted else "",
        messages.ahead(position),
        messages.wait_range(position.low, position.high),
        messages.own_place(position),
    )
    return " · ".join(part for part in parts if part)


def _running(status: JobStatus) -> str:
    progress = status.progress
    if progress is None:
        return "Starting"
    if progress.step is None or not progress.total:
        return progress.phase or f"{progress.fraction:.0%}"
    line = f"Step {min(progress.step, progress.total)} of {progress.total}"
    return f"{line} · {status.made} of {status.total} made" if status.total > 1 else line


def outcome_line(result: ImageResult) -> str:
    """What a finished request was made with, or why it has no pictures."""
    shown = any(not picture.withheld for picture in result.pictures)
    parts = (messages.ended(result), messages.finished_line(result) if shown else "")
    return " · ".join(part for part in parts if part)
