"""News of a visitor's requests as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from adapters._incoming import Problem
from adapters.web.gate import HEADERS
from adapters.web.hub import News, Stream
from adapters.web.views import result_json, status_json
from adapters.web.wording import line_of, outcome_line
from bot.core.ports import JobStatus, Preview
from bot.core.request import JSON

HEARTBEAT_SECONDS: Final = 15.0
_WRITE_SECONDS: Final = 30.0


async def stream_news(
    request: web.Request, stream: Stream, recheck: Callable[[], Awaitable[object]]
) -> web.StreamResponse:
    """Write what comes until the page leaves, reads nothing for too long, or the stream is closed.

    recheck: asked with every heartbeat, busy or not; a Problem from it ends the stream.
    """
    response = web.StreamResponse(headers=HEADERS)
    response.content_type = "text/event-stream"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
    await response.prepare(request)
    previews: dict[str, Preview] = {}
    text = "retry: 1000\nevent: hello\ndata: {}\n\n"
    now = asyncio.get_running_loop().time
    checked = now()
    try:
        while not stream.closed:
            async with asyncio.timeout(_WRITE_SECONDS):
                await response.write(text.encode())
            news = await stream.take(patience=HEARTBEAT_SECONDS)
            text = ": \n\n" if news is None else _event(news, previews)
            if now() - checked >= HEARTBEAT_SECONDS:
                await recheck()
                checked = now()
    except (TimeoutError, ConnectionError, Problem):
        pass  # the page is gone or not let in; when it comes back it reads the present state
    return response


def _event(news: News, previews: dict[str, Preview]) -> str:
    data = json.dumps(_view(news, previews), separators=(",", ":"))
    return f"event: job\ndata: {data}\n\n"


def _view(news: News, previews: dict[str, Preview]) -> dict[str, JSON]:
    """The news as JSON; a preview goes out once. previews: those that went out, by group, changed here."""
    if not isinstance(news, JobStatus):
        previews.pop(news.group_id, None)
        return result_json(news, outcome_line(news))
    if news.state.ended:
        previews.pop(news.group_id, None)
        return status_json(news, line_of(news), None)
    fresh = news.preview if news.preview is not previews.get(news.group_id) else None
    if fresh is not None:
        previews[news.group_id] = fresh
    return status_json(news, line_of(news), fresh)
