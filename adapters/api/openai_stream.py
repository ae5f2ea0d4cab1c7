"""The same as server-sent events: partial pictures while one forms, then the picture itself.

There are exactly as many partial pictures as were asked for, evenly spaced over the steps, where a backend
can show what forms; where a content check may still withhold the picture there are none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters._incoming import Problem
from adapters.api.context import HEADERS
from adapters.api.openai_answer import check_made, completed_of, event, partial_of
from adapters.api.openai_form import error_of
from adapters.api.openai_request import Wanted
from adapters.api.waiting import while_here, write_all
from bot.core.errors import FairbrushError
from bot.core.ports import Preview, Progress
from bot.core.watching import News

if TYPE_CHECKING:
    from bot.core.studio import Studio, Ticket

SILENCE_MOST: Final = 15.0  # seconds; proxies close what says nothing for a minute


class Events:
    """The open answer."""

    def __init__(self, request: web.Request, group_id: str) -> None:
        self._request = request
        self._response = web.StreamResponse(
            headers=HEADERS | {"x-request-id": group_id, "X-Accel-Buffering": "no"}
        )
        self._response.content_type = "text/event-stream"
        self._now = asyncio.get_running_loop().time
        self._written_at = self._now()

    async def open(self) -> None:
        """Send the head, so that the client knows that it was accepted."""
        await self._response.prepare(self._request)

    async def send(self, data: bytes) -> None:
        """Send an event."""
        await write_all(self._response, data)
        self._written_at = self._now()

    async def stay(self) -> None:
        """A comment, where nothing was sent for long."""
        if self._now() - self._written_at >= SILENCE_MOST:
            await self.send(b": still here\n\n")

    async def close(self) -> web.StreamResponse:
        """The end."""
        await self._response.write_eof()
        return self._response


async def stream_pictures(
    request: web.Request,
    studio: Studio,
    ticket: Ticket,
    wanted: Wanted,
    news: AsyncIterator[tuple[int, News]],
) -> web.StreamResponse:
    """Answer with events until the picture is there. news: of studio.watch(). Raises ClientGone."""
    events = Events(request, ticket.group_id)
    await events.open()
    try:
        await _partials(request, news, events, ticket, wanted)
        result = await studio.ended(ticket.group_id)
        check_made(result)
        await events.send(await asyncio.to_thread(completed_of, result, wanted))
    except (Problem, FairbrushError) as problem:
        _, error = error_of(problem)
        await events.send(event("error", {"type": "error", "error": error}))
    return await events.close()


async def _partials(
    request: web.Request,
    news: AsyncIterator[tuple[int, News]],
    events: Events,
    ticket: Ticket,
    wanted: Wanted,
) -> None:
    """Send partial pictures to the end of the job. One that is tried again begins anew: what was sent of it
    is not sent a second time."""
    sent = seen = 0
    so_far = 0.0

    async def following() -> tuple[int, News] | None:
        return await anext(news, None)

    while (told := await while_here(request, following(), idle=events.stay)) is not None:
        _, what = told
        if isinstance(what, Progress):
            seen = 0 if what.fraction < so_far else seen
            so_far = what.fraction
        elif isinstance(what, Preview) and sent < wanted.partials:
            seen += 1
            if seen > sent:
                data = await asyncio.to_thread(partial_of, what, sent, ticket.requests[0], wanted)
                await events.send(data)
                sent += 1
        await events.stay()
