"""A local Discord in a process of its own, steered from here; see discord_control.py for what it takes.

async with remote_discord(guilds=100) as discord:
    ...start the bot on discord.api_url, discord.gateway_url, discord.token...
    await discord.get("wait", connected=1, commands=1)
    await discord.post("burst", count=1000, rate=200)
    state = await discord.get("wait", answered=1000)
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession


@dataclass(frozen=True, slots=True)
class Remote:
    """Where it is, and how to steer it."""

    api_url: str
    gateway_url: str
    token: str
    control: str
    session: ClientSession

    async def get(self, what: str, **query: str | float) -> Any:
        """GET; raises where it is refused, as a wait that was not met in time."""
        async with self.session.get(f"{self.control}/{what}", params=query) as answer:
            return _checked(answer.status, await answer.text())

    async def post(self, what: str, **body: Any) -> Any:
        """POST."""
        async with self.session.post(f"{self.control}/{what}", json=body) as answer:
            return _checked(answer.status, await answer.text())


def _checked(status: int, text: str) -> Any:
    if status >= 300:
        raise AssertionError(f"{status}: {text[:1000]}")
    return json.loads(text)


@asynccontextmanager
async def remote_discord(**options: int) -> AsyncIterator[Remote]:
    """Start one, which ends with this process; options: guilds, channels, roles, members, shards."""
    given = [f"--{name}={value}" for name, value in options.items()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.discord", "--with-parent", *given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        where = json.loads(await process.stdout.readline())
        async with ClientSession() as session:
            yield Remote(session=session, **where)
    finally:
        process.stdin.close()
        await process.wait()
