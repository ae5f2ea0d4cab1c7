"""What goes wrong on the way of an HTTP request, and the JSON that says so.

Every error is `{"error": {"message", "field"}}`, so that the page can show it beside the field it is about.
"""

from __future__ import annotations

import json
import math

from aiohttp import web

from adapters._incoming import Problem, status_of
from bot.core.errors import FairbrushError
from bot.core.request import JSON


def json_response(data: JSON, *, status: int = 200) -> web.Response:
    """JSON that no cache keeps."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return web.json_response(text=text, status=status, headers={"Cache-Control": "no-store"})


def refusal(problem: Problem | FairbrushError) -> web.Response:
    """The answer to a request that failed in a way the program expects."""
    error: dict[str, JSON] = {"message": problem.message, "field": problem.field}
    response = json_response({"error": error}, status=status_of(problem))
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(problem.retry_after))
    if response.status == 413:
        response.force_close()  # the rest of the body is not worth reading
    return response
