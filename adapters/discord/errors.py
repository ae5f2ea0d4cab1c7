"""Discord's errors in the words of the core: gone, later, never.

One place decides by status and code; nothing here waits or tries again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
import discord

from bot.core.errors import Fault, Gone, RateLimited, Refused, Unavailable

UNKNOWN_CHANNEL, UNKNOWN_GUILD, UNKNOWN_MESSAGE = 10003, 10004, 10008
UNKNOWN_WEBHOOK, UNKNOWN_INTERACTION = 10015, 10062
EDITS_OF_OLD, TOO_LARGE, ANSWERED = 30046, 40005, 40060
NO_ACCESS, DEAD_TOKEN, ARCHIVED = 50001, 50027, 50083
HAS_THREAD, TOO_MANY_THREADS = 160004, 160006

_GONE: Final = frozenset(
    {UNKNOWN_CHANNEL, UNKNOWN_GUILD, UNKNOWN_MESSAGE, UNKNOWN_WEBHOOK, UNKNOWN_INTERACTION}
)

_TROUBLES: Final = (
    discord.DiscordException,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    json.JSONDecodeError,
    UnicodeDecodeError,
)


class TokenDead(Gone):
    """An interaction's token is not taken any more."""


class TooLarge(Refused):
    """The files of a message are too large, whatever the limits said."""


class Archived(Refused):
    """The thread is archived: it must be opened before anything changes in it."""


def fault(error: Exception) -> Fault:
    """A library's or the network's error as the core knows it."""
    match error:
        case discord.RateLimited():
            return RateLimited("Discord asks to wait.", retry_after=error.retry_after)
        case discord.HTTPException():
            return _answered(error)
        case discord.GatewayNotFound():
            return Unavailable("Discord cannot be reached.", detail="no gateway")
        case aiohttp.ClientResponseError():  # its text has the address in it, and a token with that
            detail = f"{type(error).__name__}: {error.status} {error.message}"
            return Unavailable("Discord cannot be reached.", detail=detail)
        case json.JSONDecodeError() | UnicodeDecodeError():
            return Unavailable("Discord's answer cannot be read.", detail=f"{type(error).__name__}: {error}")
    return Unavailable("Discord cannot be reached.", detail=f"{type(error).__name__}: {error}")


def _answered(error: discord.HTTPException) -> Fault:
    detail = f"HTTP {error.status}, code {error.code}: {error.text[:200]}"
    if error.code == DEAD_TOKEN:
        return TokenDead("Discord does not take this answer any more.", detail=detail)
    if error.code in _GONE:
        return Gone("The message or its channel was deleted.", detail=detail)
    if error.code == TOO_LARGE or error.status == 413:
        return TooLarge("Discord finds these files too large.", detail=detail)
    if error.code == ARCHIVED:
        return Archived("The thread is archived.", detail=detail)
    if error.code == EDITS_OF_OLD or error.status == 429:
        return RateLimited("Discord asks to wait.", detail=detail, retry_after=_retry_after(error))
    if error.status == 401 or error.status >= 500:
        return Unavailable("Discord cannot take this now.", detail=detail)
    return Refused("Discord does not take this message.", detail=detail)


def _retry_after(error: discord.HTTPException) -> float:
    """Seconds; a minute where nothing usable is said."""
    try:
        said = float(error.response.headers.get("Retry-After", ""))
    except (TypeError, ValueError):
        return 60.0
    return min(max(said, 1.0), 3600.0)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the library and the network raise into a Fault."""
    try:
        yield
    except _TROUBLES as error:
        raise fault(error) from error
    except RuntimeError as error:
        if "Session is closed" not in str(error):
            raise
        raise Unavailable("Discord is being connected anew.", detail=str(error), retry_after=1.0) from error


def code_of(error: BaseException | None) -> int:
    """The code of Discord's answer that a fault came from, 0 where there is none."""
    cause = error.__cause__ if isinstance(error, Fault) else error
    return cause.code if isinstance(cause, discord.HTTPException) else 0
