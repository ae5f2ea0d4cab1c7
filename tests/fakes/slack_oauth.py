"""Installing the program: the authorize page's stand-in and oauth.v2.access of the local Slack."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from aiohttp import web
from yarl import URL

from tests.fakes.slack_calls import Context, Method
from tests.fakes.slack_state import Grant, Payload, Refused, World


@dataclass
class Consent:
    """What the person at the authorize page does. enterprise: installs for a whole organisation."""

    user: str
    team: str
    enterprise: str = ""
    denied: bool = False


async def authorize(world: World, consent: Consent, request: web.Request) -> web.Response:
    """The page that asks, answered at once as `consent` says: back with a code and the state."""
    query = request.query
    if query.get("client_id") != world.app.client_id:
        return web.Response(status=400, text="Invalid client_id parameter")
    back = query.get("redirect_uri") or world.redirect_uri
    if not query.get("scope") or not back:
        return web.Response(status=400, text="Something is missing: scope and redirect_uri are needed")
    if consent.denied:
        answer = {"error": "access_denied", "state": query.get("state", "")}
    else:
        code = f"{world.new_id('c')}.code"
        team = "" if consent.enterprise else consent.team
        enterprise = consent.enterprise or world.workspaces[consent.team].enterprise
        world.codes[code] = Grant(
            team, enterprise, consent.user, query["scope"], query.get("redirect_uri", "")
        )
        answer = {"code": code, "state": query.get("state", "")}
    raise web.HTTPFound(URL(back).update_query(answer))


def _credentials(context: Context) -> tuple[str, str]:
    header = str(context.arguments.get("_authorization", ""))
    if header.startswith("Basic "):
        try:
            name, _, secret = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Refused("invalid_client_id") from None
        return name, secret
    return str(context.arguments.get("client_id", "")), str(context.arguments.get("client_secret", ""))


async def access(context: Context) -> Payload:
    """oauth.v2.access: a code for a token, once."""
    world = context.world
    name, secret = _credentials(context)
    if name != world.app.client_id:
        raise Refused("invalid_client_id")
    if secret != world.app.client_secret:
        raise Refused("bad_client_secret")
    grant = world.codes.pop(str(context.arguments.get("code", "")), None)
    if grant is None:
        raise Refused("invalid_code")
    if grant.redirect_uri != str(context.arguments.get("redirect_uri") or ""):
        raise Refused("bad_redirect_uri")
    made = world.add_installation(grant.team, grant.enterprise, grant.user, grant.scopes)
    world.touch()
    team = world.workspaces[grant.team] if grant.team else None
    organisation = world.enterprises[grant.enterprise] if grant.enterprise else None
    return {
        "app_id": world.app.id,
        "authed_user": {"id": grant.user},
        "scope": made.scopes,
        "token_type": "bot",
        "access_token": made.token,
        "bot_user_id": made.bot_user,
        "team": {"id": team.id, "name": team.name} if team else None,
        "enterprise": {"id": organisation.id, "name": organisation.name} if organisation else None,
        "is_enterprise_install": not grant.team,
    }


async def revoke(context: Context) -> Payload:
    """auth.revoke: the token is good for nothing from now on."""
    if not context.flag("test"):
        context.installation.revoked = True
        context.world.touch()
    return {"revoked": not context.flag("test")}


METHODS = {"oauth.v2.access": Method(access), "auth.revoke": Method(revoke)}
