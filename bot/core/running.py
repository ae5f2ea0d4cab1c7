"""Jobs that have a slot: which of them have been silent for too long, and how all of them end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bot.core.desk import LiveJob
from bot.core.errors import Cancelled, TimedOut
from bot.core.lanes import Lane
from bot.core.work import Work

log = logging.getLogger(__name__)

STOP_MOST = 2.0  # seconds that tasks have to end once they are told to


@dataclass(frozen=True, slots=True)
class Running:
    """A job that has a slot. The task does everything for it until it has ended or waits again."""

    job: LiveJob
    lane: Lane
    work: Work
    task: asyncio.Task[None]


def notice_silence(all_running: Iterable[Running], now: float, most: float) -> None:
    """Interrupt what gave no sign of life for `most` seconds, and what was cancelled and does not stop."""
    for running in all_running:
        job, work = running.job, running.work
        if job.cancelling:
            if now > job.stop_by:
                work.interrupt(Cancelled("Cancelled."))
        elif (silent := work.silent_for(now)) > most:
            log.warning("job %s on %s: silent for %.0f s", job.job_id, job.backend, silent)
            work.interrupt(TimedOut("It took too long.", detail="no sign of life"))


async def drain(running: Mapping[str, Running], seconds: float) -> None:
    """Wait until nothing runs any more, or so long; then have it end, with what is made already stored."""
    await _landing(running, seconds)
    for each in running.values():
        each.work.leave()
    await _landing(running, STOP_MOST)
    for each in running.values():
        each.task.cancel()
    await _landing(running, STOP_MOST)


async def _landing(running: Mapping[str, Running], seconds: float) -> None:
    if tasks := {each.task for each in running.values()}:
        await asyncio.wait(tasks, timeout=seconds)
