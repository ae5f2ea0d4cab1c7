"""What happens to a group, told as it happens to whoever watches: every preview, and not only the newest.

A status edit shows the newest of everything; a client that was promised so many previews of its picture wants
each. Memory only. Knows no backend, and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from bot.core.desk import LiveGroup
from bot.core.ports import ImageReady, Preview, Progress

News: TypeAlias = Preview | Progress | ImageReady

PROGRESS_KEPT: Final = 64
PREVIEWS_KEPT: Final = 256
PREVIEW_BYTES_KEPT: Final = 16 * 2**20


class Watch:
    """What one reader has not read yet. One that is slow loses the oldest progress beyond PROGRESS_KEPT, and
    the oldest previews only beyond PREVIEWS_KEPT and PREVIEW_BYTES_KEPT; pictures never. lost: previews that
    were dropped."""

    def __init__(self) -> None:
        self.lost = 0
        self._news: deque[tuple[int, News]] = deque()
        self._unread: Counter[type] = Counter()
        self._bytes = 0  # of previews
        self._ended = False
        self._changed = asyncio.Event()

    def tell(self, index: int, event: News) -> None:
        """Something happened to the group's job `index`."""
        if self._ended:
            return
        self._news.append((index, event))
        self._count(event, 1)
        if self._unread[Progress] > PROGRESS_KEPT:
            self._drop(Progress)
        while self._unread[Preview] > 1 and (
            self._unread[Preview] > PREVIEWS_KEPT or self._bytes > PREVIEW_BYTES_KEPT
        ):
            self._drop(Preview)
            self.lost += 1
        self._changed.set()

    def end(self) -> None:
        """Nothing more will happen; what was not read yet still is."""
        self._ended = True
        self._changed.set()

    async def news(self) -> AsyncIterator[tuple[int, News]]:
        """(job's index, event) in order, to the end of the group."""
        while True:
            while self._news:
                index, event = self._news.popleft()
                self._count(event, -1)
                yield index, event
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _drop(self, kind: type) -> None:
        """The oldest of a kind."""
        at = next(number for number, (_, event) in enumerate(self._news) if isinstance(event, kind))
        self._count(self._news[at][1], -1)
        del self._news[at]

    def _count(self, event: News, change: int) -> None:
        self._unread[type(event)] += change
        if isinstance(event, Preview):
            self._bytes += change * len(event.data)


@asynccontextmanager
async def watching(group: LiveGroup | None) -> AsyncIterator[AsyncIterator[tuple[int, News]]]:
    """A reader's watch over a group, None where it is not in hand any more; it begins with how the running
    jobs stand."""
    watch = Watch()
    if group is None:
        watch.end()
        yield watch.news()
        return
    for job in group.jobs:
        for event in (*job.images.values(), job.progress, job.preview):
            if event is not None:
                watch.tell(job.index, event)
    if group.ended:
        watch.end()
    group.watchers.append(watch)
    try:
        yield watch.news()
    finally:
        watch.end()
        group.watchers.remove(watch)
