"""Installing by OAuth v2: many workspaces and whole organisations, each with a token of its own.

The state in the way there and back is one of ours, signed, for one browser, once, and for ten minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from aiohttp import web
from yarl import URL

from adapters.slack.installations import Installation
from adapters.slack.names import SCOPES
from adapters.slack.problems import TROUBLE, Denied, fault_of
from bot.core.errors import Fault, ProtocolError
from bot.core.settings import Secret

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

STATE_SECONDS: Final = 600
COOKIE: Final = "fairbrush-slack-state"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Fairbrush</title>
<style>body{{font:18px/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}}</style>
<h1>{title}</h1><p>{text}</p>
"""


class OAuth:
    """The two pages."""

    def __init__(self, slack: Slack) -> None:
        self._slack = slack

    async def install(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to Slack."""
        if not self._slack.ready:
            return _page(503, "Starting", "Fairbrush is starting. Load this page again in a moment.")
        nonce = secrets.token_urlsafe(24)
        state = self._state(nonce, int(time.time()))
        wanted = {
            "client_id": self._slack.settings.secret("SLACK_CLIENT_ID").reveal(),
            "scope": ",".join(SCOPES),
            "user_scope": "",
            "redirect_uri": self._redirect_uri(request),
            "state": state,
        }
        if team := request.query.get("team", ""):
            wanted["team"] = team
        response = web.Response(status=302, headers={**HEADERS, "Location": self._authorize_url(wanted)})
        response.set_cookie(
            COOKIE,
            nonce,
            max_age=STATE_SECONDS,
            path="/slack/",
            httponly=True,
            samesite="Lax",
            secure=self._redirect_uri(request).startswith("https:"),
        )
        return response

    async def redirect(self, request: web.Request) -> web.StreamResponse:
        """The browser came back from Slack."""
        response = await self._redirected(request)
        response.del_cookie(COOKIE, path="/slack/")
        return response

    async def _redirected(self, request: web.Request) -> web.Response:
        if not self._slack.ready:
            return _page(503, "Starting", "Fairbrush is starting. Install it again in a moment.")
        query = request.query
        if not await self._is_ours(query.get("state", ""), request.cookies.get(COOKIE, "")):
            return _page(400, "Not installed", "This page is over, or was not opened by you. Start again.")
        if query.get("error"):
            return _page(200, "Not installed", "Nothing was changed. You can install Fairbrush at any time.")
        try:
            installation = await self._exchanged(query.get("code", ""), self._redirect_uri(request))
            await self._slack.installations.save(installation)
        except Denied as error:
            log.warning("an installation was refused: %s", error.detail)
            return _page(400, "Not installed", "Slack did not accept it. Start again.")
        except Fault as error:
            log.warning("an installation failed: %s %s", error.message, error.detail)
            return _page(502, "Not installed", "Slack could not be reached. Start again in a minute.")
        log.info("installed in %s", installation.name or installation.key)
        where = installation.name or "your workspace"
        return _page(
            200,
            "Installed",
            f"Fairbrush is in {where}. Type /imagine a red fox in any channel that it is in.",
        )

    # --- the state ---

    def _state(self, nonce: str, at: int) -> str:
        return f"{at}.{self._mac(nonce, at)}"

    def _mac(self, nonce: str, at: int) -> str:
        key = self._slack.settings.secret("FAIRBRUSH_SECRET_KEY").reveal()
        text = f"fairbrush slack state:{at}:{nonce}"
        digest = hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    async def _is_ours(self, state: str, nonce: str) -> bool:
        """Whether this browser began here, lately, and comes back for the first time."""
        at, _, mac = state.partition(".")
        if not (nonce and at.isascii() and at.isdigit() and len(at) <= 12 and mac.isascii()):
            return False
        fresh = 0 <= time.time() - int(at) <= STATE_SECONDS
        if not fresh or not hmac.compare_digest(self._mac(nonce, int(at)), mac):
            return False
        used = hashlib.sha256(state.encode()).hexdigest()[:32]
        return await self._slack.studio.shelf("slack").put_once(f"state:{used}", int(at))

    # --- addresses ---

    def _redirect_uri(self, request: web.Request) -> str:
        base = self._slack.settings.public_url or str(request.url.origin())
        return f"{base}/slack/oauth_redirect"

    def _authorize_url(self, wanted: dict[str, str]) -> str:
        home = URL(self._slack.clients.base_url).origin()
        return f"{home}/oauth/v2/authorize?{urlencode(wanted)}"

    # --- the exchange ---

    async def _exchanged(self, code: str, redirect_uri: str) -> Installation:
        """The installation that a code stands for."""
        settings = self._slack.settings
        pair = (
            f"{settings.secret('SLACK_CLIENT_ID').reveal()}:{settings.secret('SLACK_CLIENT_SECRET').reveal()}"
        )
        try:
            answer = await self._slack.clients.client().api_call(
                "oauth.v2.access",
                data={"code": code, "redirect_uri": redirect_uri},
                headers={"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()},
            )
        except TROUBLE as error:
            raise fault_of(error, "oauth.v2.access") from None
        data = answer.data
        if not isinstance(data, dict) or not data.get("access_token"):
            raise ProtocolError("Slack sent no token.", detail="oauth.v2.access")
        return await self._identified(data)

    async def _identified(self, data: dict[str, Any]) -> Installation:
        team, enterprise = data.get("team") or {}, data.get("enterprise") or {}
        org = bool(data.get("is_enterprise_install"))
        token = Secret(str(data["access_token"]))
        who = await self._slack.clients.with_token(token).identity()
        return Installation(
            "" if org else str(team.get("id") or ""),
            str(enterprise.get("id") or ""),
            token,
            str(data.get("bot_user_id") or who.get("user_id") or ""),
            str(who.get("bot_id") or ""),
            str(data.get("app_id") or ""),
            str((enterprise if org else team).get("name") or ""),
            str(data.get("scope") or ""),
        )


def _page(status: int, title: str, text: str) -> web.Response:
    return web.Response(
        status=status,
        text=PAGE.format(title=html.escape(title), text=html.escape(text)),
        content_type="text/html",
        headers=HEADERS,
    )
