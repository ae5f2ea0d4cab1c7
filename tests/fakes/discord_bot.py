"""A bare discord.py client on the local Discord, and bare HTTP requests in a bot's name."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import discord
import pytest
import yarl
from aiohttp import ClientSession, FormData
from discord import app_commands

from tests.fakes.discord import Discord, Interaction
from tests.fakes.discord_remote import Remote

Handler: TypeAlias = Callable[["discord.Interaction[Any]", str], Awaitable[object]]
IMAGINE = {"name": "imagine", "type": 1, "description": "Make a picture"}
PROMPT = {"name": "prompt", "type": 3, "description": "What to paint", "required": True}


async def _ignore(interaction: discord.Interaction[Any], prompt: str) -> None:
    """Answers nothing."""


class Bot(discord.AutoShardedClient):
    """A client with /imagine, handled by whatever a test puts into `handle`. heard: names of its events."""

    def __init__(self, **options: Any) -> None:
        super().__init__(intents=discord.Intents(guilds=True), guild_ready_timeout=0.01, **options)
        self.tree = app_commands.CommandTree(self)
        self.handle: Handler = _ignore
        self.heard: list[str] = []
        self.calls: list[discord.Interaction[Any]] = []
        self.tree.command(name="imagine", description="Make a picture")(self._imagine)
        self.sync = True

    async def _imagine(
        self, interaction: discord.Interaction[Any], prompt: str, picture: discord.Attachment | None = None
    ) -> None:
        self.calls.append(interaction)
        await self.handle(interaction, prompt)

    async def setup_hook(self) -> None:
        """Register the commands."""
        if self.sync:
            await self.tree.sync()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """No pause between shards."""

    def dispatch(self, event: str, /, *arguments: Any, **more: Any) -> None:
        """Note every event."""
        self.heard.append(event)
        super().dispatch(event, *arguments, **more)


def redirect(patch: pytest.MonkeyPatch, server: Discord | Remote) -> None:
    """Let discord.py talk to the local Discord."""
    patch.setattr(discord.http.Route, "BASE", server.api_url)
    patch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(server.gateway_url))


@asynccontextmanager
async def running(bot: Bot, server: Discord) -> AsyncIterator[Bot]:
    """A connected bot, closed afterwards."""
    task = asyncio.ensure_future(bot.start(server.token))
    try:
        ready = asyncio.ensure_future(server.ready(commands=bot.sync))
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()
        yield bot
    finally:
        await bot.close()
        await asyncio.gather(task, return_exceptions=True)


@dataclass
class Wire:
    """Bare requests with the bot's token. Each answers the status and the JSON."""

    server: Discord
    session: ClientSession

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        files: Sequence[tuple[str, bytes]] = (),
        token: str = "",
    ) -> tuple[int, Any]:
        """Send a request; with files as multipart."""
        headers = {"Authorization": f"Bot {token or self.server.token}"}
        data: FormData | str | None = None
        if files:
            data = FormData(quote_fields=False)
            data.add_field("payload_json", json.dumps(body))
            for index, (name, content) in enumerate(files):
                data.add_field(f"files[{index}]", io.BytesIO(content), filename=name)
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body), "application/json"
        url = f"{self.server.api_url}{path}"
        async with self.session.request(method, url, data=data, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else None

    async def code(self, method: str, path: str, body: Any = None, files: Any = ()) -> int:
        """The code with which a request is refused; 0 where it is not."""
        status, answer = await self.ask(method, path, body, files)
        return 0 if status < 300 else int(answer["code"])

    async def register(self, *options: Any, **changes: Any) -> None:
        """Register /imagine."""
        command = {**IMAGINE, "options": [PROMPT, *options], **changes}
        status, _ = await self.ask("PUT", f"/applications/{self.server.world.me.id}/commands", [command])
        assert status == 200

    async def answer(self, call: Interaction, kind: int, files: Any = (), **data: Any) -> tuple[int, Any]:
        """The first response to an interaction."""
        path = f"/interactions/{call.id}/{call.token}/callback?with_response=1"
        return await self.ask("POST", path, {"type": kind, "data": data}, files)

    def hook(self, call: Interaction, message: str = "") -> str:
        """The path of an interaction's webhook, or of a message of it."""
        path = f"/webhooks/{self.server.world.me.id}/{call.token}"
        return f"{path}/messages/{message}" if message else path


@asynccontextmanager
async def wired(server: Discord) -> AsyncIterator[Wire]:
    """A session for bare requests."""
    async with ClientSession() as session:
        yield Wire(server, session)
