"""What a hosted service answers, read with suspicion: capped, parsed, and turned into our errors.

The texts of errors are safe to show: no markup, no stack, no key, and no link with a signature in it.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from bot.core.errors import (
    AuthFailed,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.request import JSON
from bot.core.text import clean

SMALL: Final = 2**20
"""Bytes of an answer that holds no pictures."""
PICTURES: Final = 64 * 2**20
"""Bytes of an answer with pictures in base64."""

_READ: Final = 2**16  # characters of a text that are looked at
_QUERY: Final = re.compile(r"(https?://[^\s\"'<>?]*)\?[^\s\"'<>]*", re.IGNORECASE)
_MOST: Final = sys.float_info.max
_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_SAYS: Final = ("message", "detail", "error", "title", "errors", "msg", "description")
_STACK: Final = re.compile(r"Traceback \(most recent|File \"[^\"]*\", line \d|\n\s+at \S+ \(")


class Missing(Unavailable):
    """The remote says that there is nothing at this address (404, 410): no such job, model or endpoint."""


def plain(text: str, secrets: Collection[str] = (), most: int = 300) -> str:
    """A remote's text in one line without secrets and signatures, cut to `most` characters; for logs."""
    text = text[:_READ]
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _SPACE.sub(" ", _QUERY.sub(r"\1?***", text)).strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def number(value: JSON, low: float = -_MOST, high: float = _MOST) -> float | None:
    """A JSON number from low to high; None for anything else, also true, false and what no float holds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    return None


def said(value: JSON, depth: int = 4) -> str:
    """What a JSON error says to people, wherever its usual names hide it; "" where there is nothing."""
    if isinstance(value, str):
        return value
    if not depth:
        return ""
    if isinstance(value, Mapping):
        return next((text for name in _SAYS if (text := said(value.get(name), depth - 1))), "")
    if isinstance(value, Sequence):
        return "; ".join(text for item in value[:3] if (text := said(item, depth - 1)))
    return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a service. body: unpacked, capped; service: its name for people."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    service: str = "The service"
    secrets: tuple[str, ...] = field(default=(), repr=False)
    retry_after: float | None = None

    def json(self) -> JSON:
        """The body as JSON; numbers that no float holds are None. Raises ProtocolError (accepted None)."""
        try:
            value = json.loads(
                self.body, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole
            )
            return cast(JSON, value)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(
                f"{self.service} answered something that cannot be read.",
                detail=f"{self.status}, no JSON ({type(error).__name__}): {self.text()}",
                accepted=None,
            ) from None

    def fields(self) -> Mapping[str, JSON]:
        """The body as a JSON object. Raises ProtocolError (accepted None)."""
        value = self.json()
        if not isinstance(value, Mapping):
            raise ProtocolError(
                f"{self.service} answered something unexpected.", detail=self.text(), accepted=None
            )
        return value

    def text(self, most: int = 300) -> str:
        """The beginning of the body, for the log."""
        return plain(self.body[:_READ].decode("utf-8", "replace"), self.secrets, most)

    def says(self) -> str:
        """The remote's own message, where it is JSON and fit for people; else ""."""
        try:
            text = said(self.json())
        except ProtocolError:
            return ""
        return for_people(text, self.secrets)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= 300 else None


def for_people(text: str, secrets: Collection[str] = ()) -> str:
    """A remote's message if it is fit to be shown: no markup and no stack; else ""."""
    if ("<" in text[:500] and re.search(r"<\s*[a-zA-Z!/]", text)) or _STACK.search(text):
        return ""
    return plain(clean(text[:_READ]), secrets, 200)


def raise_for(answer: Answer, *, post: bool = False) -> None:
    """Raise what an answer of status 300 or more means; nothing below.

    post: it answers something that hands in a job: accepted is then False where the remote surely has not
    taken it. Otherwise accepted is None, but for Missing.
    """
    if answer.status < 300:
        return
    refused = False if post else None
    name, says = answer.service, answer.says()
    detail = f"{answer.status}: {answer.text()}"
    ends = f": {says}" if says else "."
    error: FairbrushError
    match answer.status:
        case 400 | 413 | 422:
            error = InvalidRequest(f"{name} refuses the request{ends}", detail=detail, accepted=refused)
        case 401 | 403:
            error = AuthFailed(
                f"{name} does not accept the key it was given.", detail=detail, accepted=refused
            )
        case 402:
            error = QuotaExceeded(f"{name} has no credit left for this.", detail=detail, accepted=refused)
        case 404 | 410:
            error = Missing(f"{name} does not know what was asked for.", detail=detail, accepted=False)
        case 408 | 504:
            error = TimedOut(f"{name} took too long to answer.", detail=detail, accepted=None)
        case 429:
            error = RateLimited(
                f"{name} is asked too often. Try again later.",
                detail=detail,
                retry_after=answer.retry_after,
                accepted=refused,
            )
        case 503:
            error = Unavailable(
                f"{name} is overloaded or down.",
                detail=detail,
                retry_after=answer.retry_after,
                accepted=refused,
            )
        case status if status >= 500:
            error = Unavailable(f"{name} failed inside.", detail=detail, accepted=None)
        case 301 | 302 | 303 | 307 | 308 as status:
            detail = f"{status} to {plain(answer.headers.get('Location', ''), answer.secrets)}"
            known = refused if status not in (302, 303) else None  # forms answer so once they have done it
            error = ProtocolError(f"{name} is at another address now.", detail=detail, accepted=known)
        case _:
            error = ProtocolError(f"{name} answered something unexpected.", detail=detail, accepted=refused)
    raise error
