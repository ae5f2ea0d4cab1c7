"""Who is looking: a browser by its cookie, and elsewhere than on loopback the holder of an API key.

A browser is a random secret in an HttpOnly cookie; its digest is the user's id, so a stored id opens
nothing. An API key is given once: what signs the browser in afterwards is one half of it in a cookie, of
which the other half lies in the store (a one-time pad), so that neither alone is the key. The key is
checked with every request, so revoking it ends its sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from bot.core.request import JSON, Requester

if TYPE_CHECKING:
    from bot.core.ports import ApiKey
    from bot.core.studio import Studio

SHELF: Final = "web"
MAX_KEY_LENGTH: Final = 200
SESSIONS_PER_KEY: Final = 50
_BROWSER: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_SESSION: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{22})\.((?:[0-9a-f]{2}){1,800})")


def new_browser() -> str:
    """A fresh browser secret: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_browser(value: str) -> bool:
    """Whether a cookie has the form of a browser secret."""
    return _BROWSER.fullmatch(value) is not None


def loopback_visitor(browser: str) -> Requester:
    """The requester for a browser on this machine."""
    return Requester("web", "web", _user(browser))


def keyed_visitor(browser: str, key: ApiKey) -> Requester:
    """The requester for a browser that holds an API key: a tenant by the key, a user by the browser."""
    return Requester("web", f"key:{key.key_id}", _user(browser), name=key.name)


def _user(browser: str) -> str:
    return hashlib.sha256(browser.encode()).hexdigest()[:32]


class Sessions:
    """Signed-in browsers, kept on the adapter's shelf."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._shelf = studio.shelf(SHELF)
        self._lock = asyncio.Lock()

    async def begin(self, text: str) -> tuple[ApiKey, str] | None:
        """Sign in with an API key: the key and the cookie's value, None where the key is wrong."""
        key = await self._studio.key(text[:MAX_KEY_LENGTH])
        if key is None:
            return None
        session, pad = secrets.token_urlsafe(16), secrets.token_bytes(len(text.encode()))
        async with self._lock:
            kept = dict(await self._halves(key.key_id))
            kept[session] = _xor(text.encode(), pad).hex()
            newest = dict(list(kept.items())[-SESSIONS_PER_KEY:])
            await self._shelf.put(f"sessions:{key.key_id}", newest)
        return key, f"{key.key_id}.{session}.{pad.hex()}"

    async def key_of(self, cookie: str) -> ApiKey | None:
        """The key behind a cookie, None where the session ended or the key was revoked."""
        match = _SESSION.fullmatch(cookie)
        if match is None:
            return None
        half = (await self._halves(match[1])).get(match[2])
        if not isinstance(half, str) or len(half) != len(match[3]):
            return None
        text = _xor(bytes.fromhex(half), bytes.fromhex(match[3]))
        return await self._studio.key(text.decode("utf-8", "replace"))

    async def end(self, cookie: str) -> None:
        """Sign out; idempotent."""
        match = _SESSION.fullmatch(cookie)
        if match is None or await self.key_of(cookie) is None:
            return
        async with self._lock:
            kept = {name: half for name, half in (await self._halves(match[1])).items() if name != match[2]}
            await self._shelf.put(f"sessions:{match[1]}", kept or None)

    async def _halves(self, key_id: str) -> Mapping[str, JSON]:
        stored = await self._shelf.get(f"sessions:{key_id}")
        return stored if isinstance(stored, Mapping) else {}


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
