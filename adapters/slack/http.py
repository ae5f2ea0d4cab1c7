"""Slack's requests over HTTP, on the program's one web server: events, and the pages of installing.

Every request is checked before anything reads its body: hostile headers and bodies end here.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response
from slack_bolt.request.async_request import AsyncBoltRequest

from adapters.slack.oauth import OAuth

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

WINDOW: Final = 300  # seconds that a signature is good for
MAX_BODY: Final = 1024 * 1024  # Slack's own are far smaller
UNREADABLE: Final = (ValueError, TypeError, AttributeError, RecursionError)
"""What Bolt raises where a body is signed and still no text, no JSON, or nothing that Slack would send."""
TIMESTAMP, SIGNATURE = "X-Slack-Request-Timestamp", "X-Slack-Signature"


def signed(secret: str, body: bytes, timestamp: str, signature: str, *, now: float) -> bool:
    """Whether Slack sent this body lately. Any headers are borne: empty, no numbers, not ASCII."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12 and signature.isascii()):
        return False
    if abs(now - int(timestamp)) > WINDOW:
        return False
    made = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={made}", signature)


class Doors:
    """The routes."""

    def __init__(self, slack: Slack) -> None:
        self._slack = slack
        settings = slack.settings
        self._signing_secret = settings.secret("SLACK_SIGNING_SECRET").reveal()
        self._sockets = bool(settings.secret("SLACK_APP_TOKEN"))
        self._oauth = OAuth(slack) if settings.secret("SLACK_CLIENT_ID") else None

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Only what this program's settings make useful."""
        routes: list[web.AbstractRouteDef] = []
        if not self._sockets:
            routes.append(web.post("/slack/events", self._events))
        if self._oauth is not None:
            routes.append(web.get("/slack/install", self._oauth.install, allow_head=False))
            routes.append(web.get("/slack/oauth_redirect", self._oauth.redirect, allow_head=False))
        return routes

    async def _events(self, request: web.Request) -> web.Response:
        """Commands, events and interactions."""
        with self._slack.hurry.acknowledging():
            return await self._answer(request)

    async def _answer(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if body is None:
            return web.Response(status=413, text="too large\n")
        stamp, signature = request.headers.get(TIMESTAMP, ""), request.headers.get(SIGNATURE, "")
        if not signed(self._signing_secret, body, stamp, signature, now=time.time()):
            return web.Response(status=401, text="not signed by Slack\n")
        try:
            text = body.decode()
            asked = AsyncBoltRequest(body=text, query=request.query_string, headers=_headers(request))
        except UNREADABLE:
            return web.Response(status=400, text="not readable\n")
        if not self._slack.ready:
            return web.Response(status=503, text="starting\n", headers={"Retry-After": "5"})
        async with self._slack.hurry.turn():
            return await to_aiohttp_response(await self._slack.app.async_dispatch(asked))


async def _body(request: web.Request) -> bytes | None:
    """The body, None where it is over MAX_BODY."""
    if (request.content_length or 0) > MAX_BODY:
        return None
    data = bytearray()
    async for chunk in request.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > MAX_BODY:
            return None
    return bytes(data)


def _headers(request: web.Request) -> dict[str, str | Sequence[str]]:
    return dict(request.headers.items())
