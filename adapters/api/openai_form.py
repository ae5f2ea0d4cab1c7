"""How OpenAI's API speaks: a bearer key, and errors as {"error": {"message", "type", "param", "code"}}.

Errors that another try cannot mend say `x-should-retry: false`: OpenAI's own clients would ask again by
themselves, and have another picture made.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from adapters._incoming import Problem, status_of
from adapters.api.context import json_response
from bot.core.errors import ContentRejected, FairbrushError, InvalidRequest, QueueFull, QuotaExceeded
from bot.core.request import JSON

_BY_STATUS: Final = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_supported"),
    408: ("invalid_request_error", "timeout"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "service_unavailable"),
    504: ("server_error", "timeout"),
}
_FINAL: Final = frozenset(
    {"content_policy_violation", "insufficient_quota", "generation_failed", "cancelled"}
)


class OpenAIProblem(Problem):
    """A request that is refused. code: what programs look at; param: the field that is wrong."""

    def __init__(
        self, message: str, *, code: str = "invalid_value", param: str | None = None, status: int = 400
    ) -> None:
        super().__init__(status, message, field=param)
        self.code = code


class OpenAIForm:
    """The Form port of OpenAI's API."""

    name = "openai"

    def key_in(self, request: web.Request) -> str:
        """The bearer key; empty where there is none."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    def refusal(self, request: web.Request, problem: Problem | FairbrushError) -> web.Response:
        """What went wrong, as OpenAI's clients read it."""
        status, error = error_of(problem)
        response = json_response({"error": error}, status=status)
        if error["code"] in _FINAL:
            response.headers["x-should-retry"] = "false"
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response


def error_of(problem: Problem | FairbrushError) -> tuple[int, dict[str, JSON]]:
    """The HTTP status and the error object of a problem."""
    status, kind, code = _kind(problem)
    # The field of a rejected content is a rule's id.
    param = "prompt" if isinstance(problem, ContentRejected) else problem.field
    return status, {"message": problem.message, "type": kind, "param": param, "code": code}


def _kind(problem: Problem | FairbrushError) -> tuple[int, str, str | None]:
    match problem:
        case OpenAIProblem():
            kind = "server_error" if problem.status >= 500 else "invalid_request_error"
            return problem.status, kind, problem.code
        case ContentRejected():
            return 400, "invalid_request_error", "content_policy_violation"
        case InvalidRequest():
            return 400, "invalid_request_error", "invalid_value"
        case QuotaExceeded():
            return 429, "insufficient_quota", "insufficient_quota"
        case QueueFull():
            return 429, "rate_limit_error", "rate_limit_exceeded"
    status = status_of(problem)
    usual = "server_error" if status >= 500 else "invalid_request_error"
    kind, code = _BY_STATUS.get(status, (usual, None))
    return status, kind, code
