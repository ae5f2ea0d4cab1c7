"""Who watches which member's pictures, and what is still to be told to each.

A stream that reads slowly loses old progress, never an end: what is waiting for it is kept once per group,
and an end is not replaced by a progress. A stream that falls too far behind is closed; its page reconnects
and reads the present state. Knows neither HTTP nor JSON.
"""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias

from bot.core.ports import JobStatus
from bot.core.request import ImageResult

Member: TypeAlias = tuple[str, str]
"""Guild and user: whose page it is."""

News: TypeAlias = JobStatus | ImageResult

MAX_WAITING: Final = 256
MAX_STREAMS_PER_MEMBER: Final = 16


def _rank(news: News) -> int:
    """What may replace what: a progress only a progress, a result anything."""
    return 2 if isinstance(news, ImageResult) else int(news.state.ended)


class Stream:
    """What one open page has still to be told."""

    def __init__(self) -> None:
        self._waiting: dict[str, News] = {}
        self._wake = asyncio.Event()
        self.closed = False

    def put(self, news: News) -> None:
        """Tell it something; never waits."""
        earlier = self._waiting.get(news.group_id)
        if earlier is not None and _rank(earlier) > _rank(news):
            return
        self._waiting[news.group_id] = news
        if len(self._waiting) > MAX_WAITING:
            self.close()
        self._wake.set()

    def close(self) -> None:
        """End it; the page reads the present state when it comes back."""
        self.closed = True
        self._wake.set()

    async def take(self, *, patience: float) -> News | None:
        """The next news, oldest group first; None after `patience` seconds without any, or when closed."""
        if not self._waiting and not self.closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._wake.wait()
            except TimeoutError:
                return None
        if self.closed or not self._waiting:
            return None
        return self._waiting.pop(next(iter(self._waiting)))


class Hub:
    """The open streams, by member."""

    def __init__(self) -> None:
        self._streams: dict[Member, list[Stream]] = {}

    def open(self, member: Member) -> Stream | None:
        """A new stream, None where the member has too many."""
        streams = self._streams.setdefault(member, [])
        if len(streams) >= MAX_STREAMS_PER_MEMBER:
            return None
        streams.append(Stream())
        return streams[-1]

    def leave(self, member: Member, stream: Stream) -> None:
        """Forget a stream whose page went away."""
        streams = self._streams.get(member, [])
        if stream in streams:
            streams.remove(stream)
        if not streams:
            self._streams.pop(member, None)

    def publish(self, member: Member, news: News) -> None:
        """Tell every open page of a member; nobody listening is fine."""
        for stream in self._streams.get(member, []):
            stream.put(news)

    def close(self) -> None:
        """End every stream, so that the server can stop at once."""
        for streams in self._streams.values():
            for stream in streams:
                stream.close()
