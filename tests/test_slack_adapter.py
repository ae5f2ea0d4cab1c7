"""The Slack adapter keeps the adapters' contract."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.slack.adapter import Slack as SlackAdapter
from adapters.slack.conversation import Receipt
from bot.core.ports import Address
from bot.core.request import ImageResult, Picture, Requester, State
from tests.adapter_contract import AdapterContract, Seen
from tests.fakes.backend import flat_png
from tests.fakes.slack import Slack
from tests.fakes.slack_house import slack_settings
from tests.fakes.slack_state import Message


@dataclass
class Stage:
    """The adapter alone against a local Slack; each request in a channel of its own."""

    slack: Slack
    adapter: SlackAdapter
    folder: Path
    channels: dict[str, str] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def accept(self, prompt: str) -> tuple[str, Address]:
        number = next(self._numbers)
        group_id, key = f"GR{number:06}", f"k{number}"
        channel = self.slack.add_channel(f"channel-{number}")
        self.channels[group_id] = channel.id
        self.adapter.remember(key, Receipt(group_id, prompt, ("20 steps",)))
        bob = self.slack.bob
        return group_id, {"team": bob.team, "channel": channel.id, "user": bob.id, "key": key}

    def result(self, group_id: str, *, pictures: int, state: State, message: str) -> ImageResult:
        made = tuple(self._picture(group_id, index) for index in range(pictures))
        requester = Requester("slack", self.slack.bob.team, self.slack.bob.id)
        return ImageResult(group_id, requester, "a red fox", state, pictures=made, message=message)

    def _picture(self, group_id: str, index: int) -> Picture:
        path = self.folder / f"{group_id}-{index}.png"
        path.write_bytes(flat_png(64, 64, index))
        return Picture(path.name, index, path, "image/png", 64, 64, index, "a red fox", {})

    async def seen(self, group_id: str) -> Seen:
        tasks = list(self.adapter._tasks._tasks)
        if tasks:
            await asyncio.wait(tasks)
        messages = self._messages(group_id)
        pictures = self.slack.images(messages)
        words = [self.slack.read(message) for message in messages] + [picture.alt for picture in pictures]
        return Seen(len(messages), "\n".join(words), len(pictures))

    def _messages(self, group_id: str) -> list[Message]:
        channel = self.channels[group_id]
        return [m for m in self.slack.world.messages.values() if m.channel == channel and not m.deleted]


class TestSlack(AdapterContract):
    """The contract."""

    @pytest.fixture
    async def stage(self, tmp_path: Path) -> AsyncIterator[Stage]:
        async with Slack() as slack:
            adapter = SlackAdapter(slack_settings(slack, tmp_path))
            try:
                yield Stage(slack, adapter, tmp_path)
            finally:
                await adapter.aclose()
