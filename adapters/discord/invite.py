"""`fairbrush invite`: the addresses that add the bot to a server, or to one's own account for use anywhere.

The application's id is asked of Discord with the bot's token, so that nothing can be mistyped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from adapters.discord.bot_token import REFUSED, checked_token
from adapters.discord.permissions import SCOPES, WHY, needed
from bot.core.errors import ConfigurationError, Unavailable
from bot.core.settings import Settings

API: Final = "https://discord.com/api/v10"
AUTHORIZE: Final = "https://discord.com/oauth2/authorize"
PATIENCE: Final = 15.0  # seconds
MISSING: Final = (
    "DISCORD_TOKEN is not set. Make an application at https://discord.com/developers/applications, copy the "
    "token from its Bot page, and put DISCORD_TOKEN=... into .env or the environment."
)


@dataclass(frozen=True, slots=True)
class Invitation:
    """The addresses of one application. user: "" where it may not be installed to an account."""

    application: str
    name: str
    guild: str
    user: str


def main(settings: Settings, arguments: Sequence[str]) -> int:
    """Print the addresses; the first line is that for a server. Returns the exit code.

    Raises ConfigurationError where the token is missing or refused, and Unavailable.
    """
    parser = argparse.ArgumentParser(
        prog="fairbrush invite", description="Print the address that adds the bot to a Discord server."
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    as_json = parser.parse_args(list(arguments)).json
    invitation = asyncio.run(invite(settings))
    sys.stdout.write(_json(invitation) if as_json else _text(invitation))
    return 0


async def invite(settings: Settings) -> Invitation:
    """The addresses for the application whose token is set. Errors are those of main()."""
    found = await _application(settings)
    application = str(found["id"])
    installable = "1" in (found.get("integration_types_config") or {})
    return Invitation(
        application,
        str(found.get("name", "")),
        address(application),
        address(application, user=True) if installable else "",
    )


def address(application: str, *, user: bool = False) -> str:
    """Where the bot is added to a server, with exactly the permissions that it uses; or to an account."""
    asked: dict[str, str | int] = {"client_id": application}
    if user:
        asked |= {"scope": "applications.commands", "integration_type": 1}
    else:
        asked |= {"scope": " ".join(SCOPES), "permissions": needed().value, "integration_type": 0}
    return f"{AUTHORIZE}?{urlencode(asked)}"


async def _application(settings: Settings) -> dict[str, Any]:
    if not settings.secret("DISCORD_TOKEN").reveal().strip():
        raise ConfigurationError(MISSING)
    token = checked_token(settings.secret("DISCORD_TOKEN").reveal())
    url = settings.platform_urls.get("discord", API).rstrip("/") + "/applications/@me"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
            session.get(url, headers={"Authorization": f"Bot {token}"}) as answer,
        ):
            if answer.status == 401:
                raise ConfigurationError(REFUSED)
            if answer.status != 200:
                raise Unavailable(f"Discord answered {answer.status}. Try again later.")
            found: dict[str, Any] = await answer.json()
            return found
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unavailable(f"Discord cannot be reached: {type(error).__name__}. Try again later.") from error


def _text(invitation: Invitation) -> str:
    """The first line is the address alone, to be copied."""
    lines = [invitation.guild, "", f"This adds {invitation.name or 'the bot'} to a server, and asks for:"]
    lines += [f"  {name.replace('_', ' '):26}{why}" for name, why in WHY.items()]
    if invitation.user:
        lines += ["", "For one person, anywhere:", f"  {invitation.user}"]
    else:
        lines += [
            "",
            "To let people add it to their own account, allow User Install on the application's Installation "
            "page.",
        ]
    return "\n".join(lines) + "\n"


def _json(invitation: Invitation) -> str:
    told = {
        "application": invitation.application,
        "name": invitation.name,
        "server": invitation.guild,
        "user": invitation.user or None,
        "permissions": needed().value,
    }
    return json.dumps(told) + "\n"
