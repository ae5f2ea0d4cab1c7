"""The local Slack's Web API: reading a call, tokens and scopes, trouble, limits, answers in Slack's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.fakes import slack_chat, slack_files, slack_oauth, slack_views
from tests.fakes.slack_calls import Context, Method, structured
from tests.fakes.slack_shapes import channel_json, team_json, user_json
from tests.fakes.slack_state import Installation, Payload, Refused, World
from tests.fakes.slack_trouble import Call, RateLimits, Trouble, Troubles

HTML = "<!DOCTYPE html><html><body>We're having trouble. Please try again.</body></html>"
NOBODY = Installation("", "", "", "", "", "", "")


async def auth_test(context: Context) -> Payload:
    """auth.test."""
    world, installation = context.world, context.installation
    made: Payload = {"user": world.app.name, "user_id": installation.bot_user, "bot_id": installation.bot_id}
    if installation.team:
        workspace = world.workspaces[installation.team]
        made |= {"url": f"https://{workspace.domain}.slack.example/", "team": workspace.name}
        made |= {"team_id": workspace.id, "is_enterprise_install": False}
        if workspace.enterprise:
            made["enterprise_id"] = workspace.enterprise
        return made
    organisation = world.enterprises[installation.enterprise]
    made |= {"url": "https://organisation.enterprise.slack.example/", "team": organisation.name}
    return made | {
        "team_id": organisation.id,
        "enterprise_id": organisation.id,
        "is_enterprise_install": True,
    }


async def open_conversation(context: Context) -> Payload:
    """conversations.open, with one user."""
    users = str(context.need("users")).strip("[]\"'").split(",")
    account = context.world.accounts.get(users[0])
    if account is None or account.deleted or not context.world.reaches(context.installation, account.team):
        raise Refused("user_not_found")
    if account.bot:
        raise Refused("cannot_dm_bot")
    channel = context.world.im(context.installation, account.id)
    return {"no_op": False, "already_open": False, "channel": {"id": channel.id}}


async def conversation_info(context: Context) -> Payload:
    """conversations.info."""
    return {"channel": channel_json(context.channel(write=False), context.installation)}


async def user_info(context: Context) -> Payload:
    """users.info."""
    account = context.world.accounts.get(context.need("user"))
    if account is None or not context.world.reaches(context.installation, account.team):
        raise Refused("user_not_found")
    return {"user": user_json(context.world, account)}


async def team_info(context: Context) -> Payload:
    """team.info, of the workspace `team` or the token's."""
    wanted = str(context.arguments.get("team") or context.arguments.get("team_id") or "")
    workspace = context.world.workspaces.get(wanted) if wanted else context.workspace()
    if workspace is None or not context.world.reaches(context.installation, workspace.id):
        raise Refused("team_not_found")
    return {"team": team_json(context.world, workspace)}


async def bot_info(context: Context) -> Payload:
    """bots.info."""
    installation = context.installation
    if context.arguments.get("bot", installation.bot_id) != installation.bot_id:
        raise Refused("bot_not_found")
    bot = {
        "id": installation.bot_id,
        "deleted": False,
        "name": context.world.app.name,
        "updated": 1_700_000_000,
        "app_id": context.world.app.id,
        "user_id": installation.bot_user,
    }
    return {"bot": bot}


METHODS: dict[str, Method] = {
    **slack_chat.METHODS,
    **slack_views.METHODS,
    **slack_files.METHODS,
    **slack_oauth.METHODS,
    "auth.test": Method(auth_test),
    "bots.info": Method(bot_info, "users:read"),
    "conversations.info": Method(conversation_info, "channels:read"),
    "conversations.open": Method(open_conversation, "im:write"),
    "team.info": Method(team_info, "team:read"),
    "users.info": Method(user_info, "users:read"),
}


class WebApi:
    """Answers calls. calls: all of them in order; on_answer: is told every method and answer."""

    def __init__(self, world: World, troubles: Troubles, limits: RateLimits) -> None:
        self.world = world
        self.troubles = troubles
        self.limits = limits
        self.calls: list[Call] = []
        self.base = ""
        self.open_socket: Callable[[], Payload] = dict
        self.on_answer: Callable[[str, Payload], None] = lambda method, answer: None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One call of /api/METHOD."""
        method = request.match_info["method"]
        call = Call(method, {}, "", self.world.clock.now())
        self.calls.append(call)
        headers: dict[str, str] = {}
        try:
            call.arguments = await self._read(request)
            found = await self._call(call, request, headers)
            body: Payload = {"ok": True, **found}
            call.status = 200
        except Refused as error:
            body = {"ok": False, "error": error.error, **error.extra}
            call.status, call.error = error.status, error.error
            headers |= error.headers
        call.answered = self.world.clock.now()
        self.world.touch()
        if call.status == 500:
            return web.Response(status=500, text=HTML, content_type="text/html")
        self.on_answer(method, body)
        return web.json_response(body, status=call.status, headers=headers)

    async def _call(self, call: Call, request: web.Request, headers: dict[str, str]) -> Payload:
        context = self._context(call, request, headers)
        await self.troubles.pass_gate(call.method, call.arguments, after=False)
        if request.transport is None or request.transport.is_closing():
            raise Refused("client_gone")  # whoever was held before it was applied is dead: it never arrived
        trouble = self.troubles.take(call.method, call.arguments)
        if trouble is not None:
            self._befall(trouble, request)
        self.limits.check(call.method, call.team, str(call.arguments.get("channel", "")))
        if call.method == "apps.connections.open":
            return self.open_socket()
        found = await METHODS[call.method].handler(context)
        if trouble is not None and trouble.drop:
            _hang_up(request)
        await self.troubles.pass_gate(call.method, call.arguments, after=True)
        return found

    def _befall(self, trouble: Trouble, request: web.Request) -> None:
        if trouble.drop and not trouble.applied:
            _hang_up(request)
        if trouble.drop:
            return
        if trouble.status == 500:
            raise Refused("server_error", status=500)
        wait = {"Retry-After": str(trouble.retry_after)} if trouble.status == 429 else {}
        raise Refused(trouble.error, status=trouble.status, headers=wait, **trouble.extra)

    def _context(self, call: Call, request: web.Request, headers: dict[str, str]) -> Context:
        """The call with its installation; raises Refused where the token is not good for it."""
        if call.method != "apps.connections.open" and call.method not in METHODS:
            raise Refused("unknown_method", req_method=call.method)
        context = Context(self.world, self.troubles, NOBODY, call.arguments, self.base)
        if call.method == "oauth.v2.access":
            call.arguments["_authorization"] = request.headers.get("Authorization", "")
            return context
        token = _token(request, call.arguments)
        if call.method == "apps.connections.open":
            if token != self.world.app.app_token:
                raise Refused("not_allowed_token_type" if token.startswith("xoxb") else "invalid_auth")
            return context
        context.installation = self._installation(token)
        call.team = context.installation.team or context.installation.enterprise
        headers["X-OAuth-Scopes"] = context.installation.scopes
        scope = METHODS[call.method].scope
        if scope and scope not in context.installation.scopes.split(","):
            raise Refused("missing_scope", needed=scope, provided=context.installation.scopes)
        return context

    def _installation(self, token: str) -> Installation:
        if not token:
            raise Refused("not_authed")
        found = self.world.installations.get(token)
        if found is None:
            raise Refused("invalid_auth")
        if found.removed:
            raise Refused("account_inactive")
        if found.revoked:
            raise Refused("token_revoked")
        return found

    async def _read(self, request: web.Request) -> Payload:
        """The arguments, from the query, a form or JSON."""
        arguments: dict[str, Any] = dict(request.query)
        if request.content_type == "application/json":
            try:
                arguments |= json.loads(await request.text() or "{}")
            except ValueError:
                raise Refused("invalid_json") from None
        elif request.can_read_body:
            arguments |= dict(await request.post())
        return structured({name: value for name, value in arguments.items() if value is not None})

    async def respond(self, request: web.Request) -> web.Response:
        """A post to a response_url."""
        call = Call("response_url", {}, "", self.world.clock.now())
        self.calls.append(call)
        try:
            call.arguments = await self._read(request)
            await self.troubles.pass_gate("response_url", call.arguments, after=False)
            url = self.world.response_urls.get(request.match_info["url"])
            installation = self.world.installation_for(url.team) if url else None
            if installation is None:
                raise Refused("expired_url", status=404)
            context = Context(self.world, self.troubles, installation, call.arguments, self.base)
            slack_chat.respond(context, request.match_info["url"])
        except Refused as error:
            call.status, call.error = error.status, error.error
            return web.json_response({"ok": False, "error": error.error}, status=error.status)
        call.status = 200
        return web.Response(text="ok")


def _token(request: web.Request, arguments: Payload) -> str:
    header = request.headers.get("Authorization", "")
    if header.startswith("Bearer "):
        return header.removeprefix("Bearer ").strip()
    return str(arguments.get("token", ""))


def _hang_up(request: web.Request) -> None:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    raise Refused("connection_dropped", status=500)
