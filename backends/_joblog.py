"""What has happened to one job so far, for whoever watches now or later. Pure bookkeeping, one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bot.core.errors import FairbrushError
from bot.core.ports import Event, Preview, Progress, Queued
from bot.core.request import ImageRequest


class JobLog:
    """Events of a job. Of progress, previews and places in the queue only the newest is kept, so that a
    watcher that comes late or is slow sees all pictures and the latest state, and memory stays bounded; of
    previews that the request asks for, by their number, all are.

    started: the engine has begun; alone: it may share no model call.
    """

    def __init__(self, job_id: str, request: ImageRequest, *, alone: bool = False) -> None:
        self.job_id = job_id
        self.request = request
        self.alone = alone
        self.started = False
        self.error: FairbrushError | None = None
        self.ended = False
        self._events: list[Event | None] = []
        self._newest: dict[type, int] = {}
        self._changed = asyncio.Event()

    def say(self, event: Event) -> None:
        """Append an event."""
        kind = type(event)
        if kind in (Progress, Queued) or (kind is Preview and not self.request.previews):
            if kind in self._newest:
                self._events[self._newest[kind]] = None
            self._newest[kind] = len(self._events)
        self._events.append(event)
        self._wake()

    def end(self, error: FairbrushError | None = None) -> None:
        """Nothing more will happen; watchers see `error` where there is one."""
        if not self.ended:
            self.ended, self.error = True, error
            self._wake()

    async def watch(self) -> AsyncIterator[Event]:
        """All that was kept, then what follows, up to the end or the error."""
        seen = 0
        while True:
            changed = self._changed
            while seen < len(self._events):
                seen += 1
                event = self._events[seen - 1]
                if event is not None:
                    yield event
            if self.error is not None:
                raise self.error
            if self.ended:
                return
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
