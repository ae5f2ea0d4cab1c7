"""The Discord adapter keeps what every adapter keeps, against the local Discord."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.discord.adapter import Discord as Adapter
from bot.core.guilds import Rules
from bot.core.ports import Address
from bot.core.request import ImageResult, Limits, Picture, State
from tests.adapter_contract import AdapterContract, Seen
from tests.fakes.backend import flat_png
from tests.fakes.discord import Channel, Discord, Message, User, pictures, text
from tests.fakes.discord_house import discord_settings
from tests.fakes.studio import FakeStudio


class _Studio(FakeStudio):
    """The studio in memory, in a guild that says nothing for itself."""

    async def rules(self, tenant: str, channel: str = "") -> Rules:
        """Nothing said."""
        return Rules()

    def limits_of(self, rules: Rules) -> Limits:
        """The operator's."""
        return self.limits


@dataclass
class _Stage:
    adapter: Adapter
    studio: _Studio
    discord: Discord
    channel: Channel
    ann: User
    folder: Path

    async def accept(self, prompt: str) -> tuple[str, Address]:
        """/imagine, acknowledged."""
        await self.discord.imagine(self.channel, self.ann, prompt)
        (ticket, *_) = [self.studio.submissions[-1]]
        group = next(g for g in self.studio._groups.values() if g.event_key == ticket.event_key)
        return group.group_id, group.address

    def result(self, group_id: str, *, pictures: int, state: State, message: str) -> ImageResult:
        """Flat pictures."""
        requester = self.studio._groups[group_id].requester
        made = tuple(self._picture(group_id, index) for index in range(pictures))
        return ImageResult(group_id, requester, "a red fox", state, made, message=message)

    def _picture(self, group_id: str, index: int) -> Picture:
        path = self.folder / f"{group_id}-{index}.png"
        path.write_bytes(flat_png(64, 64, index))
        return Picture(path.name, index, path, "image/png", 64, 64, index, "a red fox", {})

    async def seen(self, group_id: str) -> Seen:
        """The receipt and its thread; the sheet in the channel is no picture of its own."""
        call = next(
            one
            for one in self.discord.world.interactions.values()
            if str(one.id) == self.studio._groups[group_id].event_key
        )
        assert call.original is not None
        thread = self.discord.thread(call.original)
        inside = self.discord.messages(thread) if thread is not None else []
        return Seen(
            messages=1 + len(inside),
            text="\n".join(_words(each) for each in (call.original, *inside)),
            pictures=sum(len(pictures(each)) for each in inside),
        )


def _words(message: Message) -> str:
    return "\n".join([text(message), *(picture.description or "" for picture in pictures(message))])


class TestDiscord(AdapterContract):
    """The suite."""

    @pytest.fixture
    async def stage(self, tmp_path: Path) -> AsyncIterator[_Stage]:
        """The adapter, connected."""
        async with Discord() as discord:
            guild = discord.guild()
            adapter = Adapter(discord_settings(tmp_path, discord))
            studio = _Studio(adapter.settings, adapter)
            running = asyncio.ensure_future(adapter.run(studio.as_studio()))
            await discord.ready()
            ann = discord.member(guild, "ann")
            yield _Stage(adapter, studio, discord, discord.channel(guild, "general"), ann, tmp_path)
            running.cancel()
            await asyncio.wait({running})
            await adapter.aclose()
            assert discord.violations == []
