"""What happens to a group, told as it happens to whoever watches: every preview, and not only the newest.

A status edit shows the newest of everything; a client that was promised so many previews of its picture wants
each. Memory only. Knows no backend, and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from bot.core.desk import LiveGroup
from bot.core.ports import ImageReady, Preview, Progress

News: TypeAlias = Preview | Progress | ImageReady

PREVIEWS_KEPT: Final = 256
PREVIEW_BYTES_KEPT: Final = 16 * 2**20


class Watch:
    """What one reader has not read yet. One that is slow loses progress first: of each job only the newest is
    kept. Previews are kept up to PREVIEWS_KEPT and PREVIEW_BYTES_KEPT, and then the oldest go; pictures never
    do. lost: previews that were dropped."""

    def __init__(self) -> None:
        self.lost = 0
        self._news: deque[tuple[int, News]] = deque()
        self._previews = 0
        self._bytes = 0
        self._ended = False
        self._changed = asyncio.Event()

    def tell(self, index: int, event: News) -> None:
        """Something happened to the group's job `index`."""
        if self._ended:
            return
        if isinstance(event, Progress) and self._news and _is_progress_of(self._news[-1], index):
            self._news.pop()
        self._news.append((index, event))
        if isinstance(event, Preview):
            self._previews += 1
            self._bytes += len(event.data)
            self._make_room()
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
                self._forget(event)
                yield index, event
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _make_room(self) -> None:
        while self._previews > PREVIEWS_KEPT or (self._previews > 1 and self._bytes > PREVIEW_BYTES_KEPT):
            oldest = next(item for item in self._news if isinstance(item[1], Preview))
            self._news.remove(oldest)
            self._forget(oldest[1])
            self.lost += 1

    def _forget(self, event: News) -> None:
        if isinstance(event, Preview):
            self._previews -= 1
            self._bytes -= len(event.data)


def _is_progress_of(item: tuple[int, News], index: int) -> bool:
    return item[0] == index and isinstance(item[1], Progress)


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
