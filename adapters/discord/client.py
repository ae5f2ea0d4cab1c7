"""The library's client as this program uses it: no caches that grow with members or messages, buttons and
commands registered before the first event, commands sent to Discord only when they changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from bot.core.request import JSON

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord

log = logging.getLogger(__name__)


class Client(discord.AutoShardedClient):
    """One connection to Discord, used once; adapter.py makes a new one where it breaks."""

    def __init__(self, adapter: Discord) -> None:
        super().__init__(
            intents=discord.Intents(guilds=True),
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            allowed_mentions=discord.AllowedMentions.none(),
            max_ratelimit_timeout=30.0,
        )
        self.adapter = adapter
        self.tree = app_commands.CommandTree(self)

    async def setup_hook(self) -> None:
        """Logged in and not yet connected: what members can use is put in place."""
        from adapters.discord import buttons, commands

        commands.register(self.tree, self.adapter)
        buttons.register(self, self.adapter)

    async def sync(self) -> None:
        """Tell Discord the commands, where they are not what it was told last."""
        shelf = self.adapter.studio.shelf("discord")
        payload = [command.to_dict(self.tree) for command in self.tree.get_commands()]
        told: JSON = f"{self.application_id}:{digest(payload)}"
        if await shelf.get("commands") == told:
            return
        await self.tree.sync()
        await shelf.put("commands", told)
        log.info("%d commands are registered", len(payload))


def digest(payload: object) -> str:
    """The same for the same payload, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
