"""The answers with which the local Discord refuses, by Discord's own codes."""

from __future__ import annotations

from typing import Any

MESSAGES = {
    0: "401: Unauthorized",
    10003: "Unknown Channel",
    10004: "Unknown Guild",
    10007: "Unknown Member",
    10008: "Unknown Message",
    10013: "Unknown User",
    10015: "Unknown Webhook",
    10062: "Unknown interaction",
    10063: "Unknown application command",
    30015: "Maximum number of attachments in a message reached (10)",
    40005: "Request entity too large",
    40058: "Cannot send a message in a forum channel",
    40060: "Interaction has already been acknowledged.",
    40094: "This interaction has reached the maximum number of follow-up messages",
    50001: "Missing Access",
    50003: "Cannot execute action on a DM channel",
    50005: "Cannot edit a message authored by another user",
    50006: "Cannot send an empty message",
    50007: "Cannot send messages to this user",
    50008: "Cannot send messages in a non-text channel",
    50013: "Missing Permissions",
    50024: "Cannot execute action on this channel type",
    50027: "Invalid Webhook Token",
    50035: "Invalid Form Body",
    50083: "Thread is archived",
    30046: "Maximum number of edits to messages older than 1 hour reached. Try again later",
    160002: "You cannot reply without permission to read message history",
    160004: "A thread has already been created for this message",
    160005: "Thread is locked",
    160006: "Maximum number of active threads reached",
}
STATUS = {
    0: 401,
    10003: 404,
    10004: 404,
    10008: 404,
    10015: 404,
    10062: 404,
    10063: 404,
    40005: 413,
    50001: 403,
    50003: 403,
    50005: 403,
    50007: 403,
    50013: 403,
    50027: 401,
    30046: 429,
}


class Refused(Exception):
    """An error answer."""

    def __init__(
        self,
        code: int,
        *,
        status: int | None = None,
        errors: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code)
        self.retry_after = retry_after
        self.code = code
        self.status = status or STATUS.get(code, 400)
        self.errors = errors

    def body(self) -> dict[str, Any]:
        """What is sent."""
        body: dict[str, Any] = {"message": MESSAGES.get(self.code, "Refused"), "code": self.code}
        if self.errors:
            body["errors"] = self.errors
        if self.retry_after is not None:
            body |= {"retry_after": self.retry_after, "global": False}
        return body


def invalid(where: str, code: str, message: str) -> Refused:
    """A refusal of one field, as 50035 puts it; where: "components.0.items"."""
    errors: dict[str, Any] = {"_errors": [{"code": code, "message": message}]}
    for part in reversed(where.split(".")):
        errors = {part: errors}
    return Refused(50035, errors=errors)
