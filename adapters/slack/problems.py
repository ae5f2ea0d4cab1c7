"""What goes wrong with Slack's Web API, as errors of ours. Knows Slack's error codes; no message for people
beyond the one that says why a request could not be answered."""

from __future__ import annotations

import re
from typing import Final

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.core.errors import Fault, Gone, RateLimited, Refused, TimedOut, Unavailable

TOKEN_CODES: Final = frozenset(
    {
        "account_inactive",
        "app_access_revoked",
        "invalid_auth",
        "not_authed",
        "token_expired",
        "token_revoked",
    }
)
"""The token is no good, and will not be again by itself."""

CLOSED_CODES: Final = frozenset(
    {
        "access_denied",
        "channel_is_limited_access",
        "channel_not_found",
        "ekm_access_denied",
        "is_archived",
        "is_inactive",
        "messages_tab_disabled",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_in_channel",
        "restricted_action",
        "restricted_action_non_threadable_channel",
        "restricted_action_read_only_channel",
        "restricted_action_thread_locked",
        "restricted_action_thread_only_channel",
        "team_access_not_granted",
        "team_not_found",
        "user_not_found",
    }
)
"""The program may not post where it was asked to."""

GONE_CODES: Final = frozenset(
    {"cant_update_message", "edit_window_closed", "message_not_found", "thread_not_found"}
)
"""The message is not there any more."""

PASSING_CODES: Final = frozenset(
    {
        "fatal_error",
        "internal_error",
        "internal_server_error",
        "org_login_required",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
"""Slack's own trouble."""

LATE_CODES: Final = frozenset(
    {
        "exchanged_trigger_id",
        "expired_trigger_id",
        "trigger_exchanged",
        "trigger_expired",
    }
)
"""A form was to be opened more than three seconds after what asked for it, or once more."""

NO_RETRY_AFTER: Final = 30.0

_PATH: Final = re.compile(r"(\w+://[^/\s'\"]+)/[^\s'\"]+")  # it may hold a ticket, which goes into no log

TROUBLE: Final = (SlackClientError, aiohttp.ClientError, OSError)
"""What the SDK and its HTTP client raise."""


class Denied(Refused):
    """Slack said no. code: its error code."""

    def __init__(self, code: str, *, detail: str = "") -> None:
        super().__init__("Slack does not take this.", detail=detail or code)
        self.code = code


class Closed(Denied):
    """The program may not post there."""


class Removed(Gone):
    """The program was removed from the workspace, or its token revoked."""


def fault_of(error: Exception, method: str) -> Fault:
    """The error of ours for one of TROUBLE that a call of `method` raised."""
    if isinstance(error, SlackApiError):
        return _answered(error, method)
    if isinstance(error, TimeoutError):
        return TimedOut("Slack does not answer.", detail=method)
    said = _PATH.sub(r"\1/…", str(error))
    return Unavailable("Slack is out of reach.", detail=f"{method}: {type(error).__name__}: {said}")


def _answered(error: SlackApiError, method: str) -> Fault:
    response = error.response
    status = int(getattr(response, "status_code", 0) or 0)
    headers = getattr(response, "headers", None) or {}
    data = getattr(response, "data", response)
    code = str(data.get("error", "")) if isinstance(data, dict) else ""
    detail = f"{method}: {code or status}"
    if status == 429 or code in ("ratelimited", "rate_limited"):
        return RateLimited("Slack wants fewer calls.", detail=detail, retry_after=_retry_after(headers))
    if code in TOKEN_CODES:
        return Removed("Fairbrush was removed from this workspace.", detail=detail)
    if code in GONE_CODES:
        return Gone("The message is gone.", detail=detail)
    if code in CLOSED_CODES:
        return Closed(code, detail=detail)
    if code in LATE_CODES:
        return TimedOut("The form took too long to open. Try it again.", detail=detail)
    if status >= 500 or not code or code in PASSING_CODES:
        return Unavailable("Slack has trouble of its own.", detail=detail)
    notes = data.get("response_metadata") if isinstance(data, dict) else None
    return Denied(code, detail=f"{detail} {notes}" if notes else detail)


def _retry_after(headers: object) -> float:
    """Seconds that Slack names, in whatever case."""
    items = getattr(headers, "items", None)
    for name, value in items() if items else ():
        if str(name).lower() == "retry-after":
            first = value[0] if isinstance(value, list) else value
            return float(first) if str(first).isdigit() else NO_RETRY_AFTER
    return NO_RETRY_AFTER
