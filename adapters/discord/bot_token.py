"""The bot's token as it is set, and what to say where Discord does not take it. Asks nobody."""

from __future__ import annotations

from typing import Final

from bot.core.errors import ConfigurationError

REFUSED: Final = (
    "DISCORD_TOKEN: Discord refuses this token. Copy it anew from the Bot page of your application at "
    "https://discord.com/developers/applications"
)


def checked_token(token: str) -> str:
    """The token without what surrounds it. Raises ConfigurationError where it cannot be one."""
    token = token.strip().removeprefix("Bot ").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(f"{REFUSED} (it holds characters that no token has)")
    return token
