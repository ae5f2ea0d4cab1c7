"""Signing in and being known: from a request's cookies to the Requester that it speaks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters import _strictjson as strictjson
from adapters._incoming import Problem, Throttle, read_body
from adapters.web.gate import Gate
from adapters.web.problems import json_response
from adapters.web.sessions import (
    MAX_KEY_LENGTH,
    Sessions,
    is_browser,
    keyed_visitor,
    loopback_visitor,
    new_browser,
)
from bot.core.request import Requester

if TYPE_CHECKING:
    from bot.core.studio import Studio

BROWSER_COOKIE: Final = "fairbrush_browser"
SESSION_COOKIE: Final = "fairbrush_session"
_COOKIE_SECONDS: Final = 400 * 24 * 3600  # what browsers grant at most
_SESSION_SECONDS: Final = 30 * 24 * 3600
_ANSWER_SECONDS: Final = 0.3  # what every wrong key waits, whatever is wrong with it


@dataclass(frozen=True, slots=True)
class Visit:
    """A known visitor and the core. key_name: the API key signed in with, empty on loopback;
    recheck: raises Problem once the visitor is no longer let in."""

    studio: Studio
    requester: Requester
    recheck: Callable[[], Awaitable[object]]
    key_name: str = ""


class Doorway:
    """Lets visitors in, once the core is there."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._throttle = Throttle(time.monotonic)
        self._studio: Studio | None = None
        self._sessions: Sessions | None = None

    def open(self, studio: Studio) -> None:
        """From now on requests reach the core."""
        self._studio, self._sessions = studio, Sessions(studio)

    def close(self) -> None:
        """From now on every request is answered 503."""
        self._studio = self._sessions = None

    async def visit(self, request: web.Request) -> Visit:
        """Who asks. Problem 503 before open(), 401 where a key is needed or the browser sent no cookie."""
        studio, sessions = self._ready()
        browser = request.cookies.get(BROWSER_COOKIE, "")
        if not is_browser(browser):
            raise Problem(401, "Open the page again: it needs a cookie to know your pictures by.")
        recheck = partial(self.visit, request)
        if self._gate.keyless(request):
            return Visit(studio, loopback_visitor(browser), recheck)
        key = await sessions.key_of(request.cookies.get(SESSION_COOKIE, ""))
        if key is None:
            raise Problem(401, "Sign in with an API key.", field="key")
        return Visit(studio, keyed_visitor(browser, key), recheck, key.name)

    def welcome(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give a browser its identity with the page, or renew the one it has."""
        browser = request.cookies.get(BROWSER_COOKIE, "")
        value = browser if is_browser(browser) else new_browser()
        self._set_cookie(response, BROWSER_COOKIE, value, _COOKIE_SECONDS)

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """{"key"} -> a session cookie. Every wrong key is answered alike: 401, after the same time."""
        _, sessions = self._ready()
        address = request.remote or ""
        if (wait := self._throttle.wait(address)) > 0:
            raise Problem(429, "Too many wrong keys from here. Try again in a minute.", retry_after=wait)
        self._throttle.failed(address)
        answer_at = time.monotonic() + _ANSWER_SECONDS
        begun = await sessions.begin(await _key_in(request))
        if begun is None:
            await asyncio.sleep(max(0.0, answer_at - time.monotonic()))
            raise Problem(401, "That is not a valid API key.", field="key")
        self._throttle.succeeded(address)
        key, cookie = begun
        response = json_response({"name": key.name})
        self._set_cookie(response, SESSION_COOKIE, cookie, _SESSION_SECONDS)
        return response

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End the session; idempotent."""
        _, sessions = self._ready()
        await sessions.end(request.cookies.get(SESSION_COOKIE, ""))
        response = web.Response(status=204)
        response.del_cookie(SESSION_COOKIE, path="/")
        return response

    def _ready(self) -> tuple[Studio, Sessions]:
        if self._studio is None or self._sessions is None:
            raise Problem(503, "Fairbrush is starting.", retry_after=1)
        return self._studio, self._sessions

    def _set_cookie(self, response: web.StreamResponse, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            httponly=True,
            samesite="Strict",
            secure=self._gate.secure,
            path="/",
        )


async def _key_in(request: web.Request) -> str:
    """The key in a sign-in's body; whatever cannot be one is an empty key, which is wrong like any other."""
    try:
        body = strictjson.loads(await read_body(request, 4096))
    except ValueError:
        return ""
    except Problem as problem:
        if problem.status != 413:
            raise
        return ""
    key = body.get("key") if isinstance(body, dict) else None
    text = key.strip() if isinstance(key, str) else ""
    return text if text.isascii() and len(text) <= MAX_KEY_LENGTH else ""
