"""The library's client as this program uses it: no caches that grow with members or messages, buttons and
commands registered before the first event, commands sent to Discord only when they changed.

What Discord sends and the library cannot read is logged and left out; only a session that cannot begin ends
the client. Adapter.run() makes a new one then.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import discord
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket

from adapters.discord import buttons, commands
from bot.core.request import JSON

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.starts import Starts

log = logging.getLogger(__name__)

HELD_MOST: Final = 30.0  # seconds that a session may be held back with its socket open
REMEMBERED: Final = 4096  # interactions that are known again when Discord sends them twice
_VITAL: Final = frozenset({"READY"})


class Client(discord.AutoShardedClient):
    """One connection to Discord, used once. starts: counts the sessions."""

    def __init__(self, adapter: Discord, starts: Starts) -> None:
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False  # nothing is said aloud here
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
        self.worked = False
        self._starts = starts
        self._begun = False
        self._launched: set[int] = set()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._guard()

    # --- commands -----------------------------------------------------------------------------------------

    async def setup_hook(self) -> None:
        """Logged in and not yet connected: what members can use is put in place."""
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

    # --- sessions -----------------------------------------------------------------------------------------

    async def on_connect(self) -> None:
        """Called once a session has begun."""
        self.worked = True

    async def on_ready(self) -> None:
        """Called once every shard is there."""
        log.info("connected as %s, in %d servers", self.user, len(self.guilds))
        gc.freeze()  # else the collector looks at all servers and channels again and again; undone by leave()

    async def launch_shard(self, gateway: yarl.URL, shard_id: int, *, initial: bool = False) -> None:
        """The library tries a first connection again by itself, one call deeper each time and every five
        seconds for ever; here the second try ends the client, and whoever made it waits longer."""
        if shard_id in self._launched:
            raise ConnectionError(f"shard {shard_id} got no session")
        self._launched.add(shard_id)
        urls = self.adapter.settings.platform_urls
        if "discord-gateway" in urls:
            gateway = yarl.URL(urls["discord-gateway"])
        elif "discord" in urls:
            DiscordWebSocket.DEFAULT_GATEWAY = gateway
        await super().launch_shard(gateway, shard_id, initial=initial)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Not more sessions than Discord bears, counted over restarts."""
        wait = self._starts.wait(first=not self._begun)
        if wait > HELD_MOST:
            raise TimeoutError(f"no new session for {wait:.0f} s")
        self._begun = True
        if wait > 0:
            await self.adapter.clock.sleep(wait)
        await self._starts.note(self.adapter.studio.shelf("discord"))

    # --- events -------------------------------------------------------------------------------------------

    def _guard(self) -> None:
        """Wrap what reads events: one that cannot be read must not end the session with all others."""
        parsers: dict[str, Callable[[Any], None]] = self._connection.parsers
        for name, parse in list(parsers.items()):
            if name not in _VITAL:
                parsers[name] = self._guarded(name, parse)

    def _guarded(self, name: str, parse: Callable[[Any], None]) -> Callable[[Any], None]:
        def guarded(data: Any) -> None:
            try:
                if name != "INTERACTION_CREATE" or self._is_new(str(data["id"])):
                    parse(data)
            except Exception:  # whatever a changed payload does to the library
                log.exception("an event %s could not be read", name)

        return guarded

    def _is_new(self, interaction: str) -> bool:
        """Discord may send an event twice; it is answered once."""
        if interaction in self._seen:
            return False
        self._seen[interaction] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True


def digest(payload: object) -> str:
    """The same for the same payload, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
