"""The Discord adapter; named in pyproject.toml. Nothing of Discord is imported where no token is set."""

from __future__ import annotations

from bot.core.ports import Adapter
from bot.core.settings import Settings


def create(settings: Settings) -> Adapter | None:
    """The adapter where DISCORD_TOKEN is set, else None."""
    if not settings.secret("DISCORD_TOKEN"):
        return None
    from adapters.discord.adapter import Discord

    return Discord(settings)
