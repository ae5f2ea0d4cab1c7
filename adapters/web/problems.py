"""What goes wrong on the way of an HTTP request, and the JSON that says so.

Every error is `{"error": {"message", "field"}}`, so that the page can show it beside the field it is about.
"""

from __future__ import annotations

import json
import math
from typing import Final

from aiohttp import web

from bot.core.errors import (
    ContentRejected,
    FairbrushError,
    Forbidden,
    InvalidRequest,
    NotFound,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.request import JSON

_STATUS: Final = (
    (InvalidRequest, 400),
    (ContentRejected, 422),
    (Forbidden, 403),
    (NotFound, 404),
    (QueueFull, 429),
    (QuotaExceeded, 429),
    (RateLimited, 429),
    (Unavailable, 503),
    (TimedOut, 504),
)


class Problem(Exception):
    """An HTTP request that is refused before the core sees it. message: safe to show."""

    def __init__(
        self, status: int, message: str, *, field: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.retry_after = retry_after


def json_response(data: JSON, *, status: int = 200) -> web.Response:
    """JSON that no cache keeps."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return web.json_response(text=text, status=status, headers={"Cache-Control": "no-store"})


def refusal(problem: Problem | FairbrushError) -> web.Response:
    """The answer to a request that failed in a way the program expects."""
    error: dict[str, JSON] = {"message": problem.message, "field": problem.field}
    response = json_response({"error": error}, status=_status(problem))
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(problem.retry_after))
    if response.status == 413:
        response.force_close()  # the rest of the body is not worth reading
    return response


def _status(problem: Problem | FairbrushError) -> int:
    if isinstance(problem, Problem):
        return problem.status
    return next((status for kind, status in _STATUS if isinstance(problem, kind)), 500)
