"""Being connected, whatever happens: supervised, with back-off, far below Discord's limit of IDENTIFYs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import discord
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from adapters.discord.client import Client

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord


class Connection:
    """See the module. client: the one that is logged in, None where there is none."""

    def __init__(self, adapter: Discord) -> None:
        self._adapter = adapter
        self.client: Client | None = None
        self._logged_in = asyncio.Event()

    async def online(self) -> Client:
        """The client that is logged in; waits for it."""
        while self.client is None:
            await self._logged_in.wait()
        return self.client

    async def run(self) -> None:
        """Connect and stay connected until cancelled."""
        urls = self._adapter.settings.platform_urls
        if url := urls.get("discord"):
            Route.BASE = url.rstrip("/")
        if url := urls.get("discord-gateway"):
            DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(url)
        client = Client(self._adapter)
        try:
            await client.login(self._adapter.settings.secret("DISCORD_TOKEN").reveal())
            self.client = client
            self._logged_in.set()
            await client.sync()
            await client.connect()
        finally:
            self.client = None
            self._logged_in.clear()
            await client.close()

    async def aclose(self) -> None:
        """Leave; idempotent."""
        if self.client is not None:
            await self.client.close()


__all__ = ["Connection", "discord"]
