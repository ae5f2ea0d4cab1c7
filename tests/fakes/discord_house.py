"""The whole program but its web server, with the real Discord adapter on the local Discord.

    async with discord_house(tmp_path) as house:
        guild = house.discord.guild()
        ...
Time is real unless a HandClock is given, which then moves the program and the local Discord alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.discord.adapter import REAL_CLOCK
from adapters.discord.adapter import Discord as Adapter
from bot.app import App, build
from bot.core.ports import Backend, Pace, Store
from bot.core.settings import BackendEntry, Secret, Settings
from bot.core.studio import Studio
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.discord import Channel, Discord, Guild, Interaction, Message, User
from tests.fakes.memory_store import MemoryStore

EDIT = "PATCH /channels/*/messages/*"
BY_TOKEN = "PATCH /webhooks/*/*/messages/*"
CREATE = "POST /channels/*/messages"
"""The requests that show things, as Discord.on() takes them."""

BRISK = Pace(0.0, 100_000)
"""Every status at once, so that no test waits for one."""


@dataclass
class DiscordHouse:
    """A running program. guild, general, ann: somewhere to be and somebody to ask."""

    app: App
    adapter: Adapter
    discord: Discord
    backend: FakeBackend
    store: Store
    clock: HandClock | None
    guild: Guild
    general: Channel
    ann: User

    @property
    def studio(self) -> Studio:
        """What the adapter calls."""
        return self.app.studio

    async def imagine(
        self, prompt: str = "a red fox", *, user: User | None = None, **options: object
    ) -> Interaction:
        """Somebody asks in #general."""
        return await self.discord.imagine(self.general, user or self.ann, prompt, **options)

    async def status(self, call: Interaction) -> Message:
        """The first message in the thread of a request; waits for it."""
        receipt = self.receipt(call)
        thread = await self.discord.until(lambda: self.discord.thread(receipt), what="a thread")
        return (await self.discord.until(lambda: self.discord.messages(thread), what="a status"))[0]

    def receipt(self, call: Interaction) -> Message:
        """The first response."""
        assert call.original is not None, self.discord.told()
        return call.original

    def shown(self, call: Interaction) -> list[Message]:
        """What the thread of a request shows."""
        thread = self.discord.thread(self.receipt(call))
        return self.discord.messages(thread) if thread is not None else []

    def everything(self) -> list[Message]:
        """All messages that are not private."""
        channels = list(self.discord.world.channels.values())
        return [each for channel in channels for each in self.discord.messages(channel)]

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait, in real time; the program's own stands still, where it is moved by hand."""
        await self.discord.until(condition, what=what)

    async def until_passing(self, condition: Callable[[], object], *, step: float = 0.5) -> None:
        """Move the time on in steps until something is so."""
        assert self.clock is not None
        for _ in range(8000):
            if condition():
                return
            await self.clock.advance(step)
            await asyncio.sleep(0.001)
        raise AssertionError(f"it never came to that\n{self.discord.told()}")

    async def idle(self) -> None:
        """Wait until all that was asked is shown."""
        desk = self.app.studio._desk
        if self.clock is None:
            await self.discord.until(lambda: not desk.groups, what="an empty desk")
        else:
            await self.until_passing(lambda: not desk.groups)


def discord_settings(
    folder: Path, discord: Discord, *, secrets: Mapping[str, Secret] | None = None, **changes: object
) -> Settings:
    """Settings for the program on the local Discord. secrets: further ones."""
    return Settings(
        data_dir=folder,
        backends=(BackendEntry("fake", ""),),
        secrets={"DISCORD_TOKEN": Secret(discord.token), **(secrets or {})},
        platform_urls={"discord": discord.api_url, "discord-gateway": discord.gateway_url},
        **changes,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def discord_house(
    folder: Path,
    *,
    discord: Discord | None = None,
    backends: Sequence[Backend] | None = None,
    store: Store | None = None,
    clock: HandClock | None = None,
    connected: bool = True,
    pace: Pace = BRISK,
    **settings: object,
) -> AsyncIterator[DiscordHouse]:
    """A running program in `folder`. pace: of status edits; discord: one that outlives this program, for a
    restart."""
    own = Discord(now=clock.clock.now) if clock else Discord()
    world = discord or own
    if discord is None:
        await own.start()
    try:
        async with _program(folder, world, backends, store or MemoryStore(), clock, pace, settings) as house:
            if connected:
                await world.ready()
            yield house
    finally:
        if discord is None:
            await own.stop()


@asynccontextmanager
async def _program(
    folder: Path,
    discord: Discord,
    backends: Sequence[Backend] | None,
    store: Store,
    clock: HandClock | None,
    pace: Pace,
    settings: dict[str, object],
) -> AsyncIterator[DiscordHouse]:
    time = clock.clock if clock else REAL_CLOCK
    made = discord_settings(folder, discord, **settings)  # type: ignore[arg-type]
    adapter = Adapter(made, clock=time)
    adapter.pace = pace
    backends = backends or [FakeBackend()]
    backend = backends[0]
    assert isinstance(backend, FakeBackend)
    app = build(made, adapters=[adapter], backends=backends, clock=time, serve=False, store=store)
    guild = next(iter(discord.world.guilds.values()), None) or discord.guild()
    general = discord.channel(guild, "general")
    ann = discord.member(guild, "ann")
    try:
        await app.start()
        yield DiscordHouse(app, adapter, discord, backend, store, clock, guild, general, ann)
    finally:
        await app.aclose()
