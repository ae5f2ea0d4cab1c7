"""What every adapter must keep, whatever its platform: inherit AdapterContract and give it a `stage`.

    class TestWeb(AdapterContract):
        @pytest.fixture
        async def stage(self): ...       # the adapter against its platform, or a local server that plays it

The stage looks at the platform with the eyes of the people there. A conversation is always opened from an
address that went through JSON, as after a restart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

from bot.core.ports import Adapter, Address, Conversation, JobStatus, Progress
from bot.core.request import ImageResult, State


@dataclass(frozen=True, slots=True)
class Seen:
    """What people see of one request. messages: that speak of it; text: all their words, and the alternative
    texts of what they hold; pictures: how many hang there."""

    messages: int
    text: str
    pictures: int


class AdapterStage(Protocol):
    """One platform, set up."""

    adapter: Adapter

    async def accept(self, prompt: str) -> tuple[str, Address]:
        """A new request, accepted and not prepared: its group and the address stored with it."""
        ...

    def result(self, group_id: str, *, pictures: int, state: State, message: str) -> ImageResult:
        """A result of a group, its pictures on disk."""
        ...

    async def seen(self, group_id: str) -> Seen:
        """What people see now; waits until everything that was sent has arrived."""
        ...


def _stored(address: Address) -> Address:
    loaded: Address = json.loads(json.dumps(address))
    return loaded


class _Filing:
    """Where prepare() and deliver() store addresses."""

    def __init__(self, address: Address) -> None:
        self.address = _stored(address)
        self.times = 0

    async def store(self, address: Address) -> None:
        self.address = _stored(address)
        self.times += 1


async def _opened(stage: AdapterStage, prompt: str = "a red fox") -> tuple[str, Conversation, _Filing]:
    """A prepared conversation, opened again from what was stored of it."""
    group_id, address = await stage.accept(prompt)
    filing = _Filing(address)
    await stage.adapter.conversation(filing.address).prepare(filing.store)
    return group_id, stage.adapter.conversation(filing.address), filing


def _running(group_id: str, step: int, total: int = 20) -> JobStatus:
    progress = Progress(step / total, step=step, total=total)
    return JobStatus(group_id, "a red fox", State.RUNNING, progress=progress)


class AdapterContract:
    """The tests. Each opens a conversation of its own."""

    async def test_prepare_stores_the_address_that_it_returns(self, stage: AdapterStage) -> None:
        _, address = await stage.accept("a red fox")
        filing = _Filing(address)
        returned = await stage.adapter.conversation(filing.address).prepare(filing.store)
        assert filing.times >= 1
        assert _stored(returned) == filing.address

    async def test_preparing_twice_makes_nothing_new(self, stage: AdapterStage) -> None:
        group_id, conversation, filing = await _opened(stage)
        await conversation.show(_running(group_id, 1))
        before = await stage.seen(group_id)
        again = await stage.adapter.conversation(filing.address).prepare(filing.store)
        assert _stored(again) == filing.address
        assert (await stage.seen(group_id)).messages == before.messages

    async def test_a_conversation_reopened_from_stored_json_shows_progress(self, stage: AdapterStage) -> None:
        group_id, conversation, _ = await _opened(stage)
        await conversation.show(_running(group_id, 12))
        seen = await stage.seen(group_id)
        assert "12" in seen.text
        assert "20" in seen.text

    async def test_an_end_behind_many_progresses_is_shown(self, stage: AdapterStage) -> None:
        group_id, conversation, _ = await _opened(stage)
        for step in range(20):
            await conversation.show(_running(group_id, step))
        await conversation.show(JobStatus(group_id, "a red fox", State.FAILED, message="out of memory"))
        assert "out of memory" in (await stage.seen(group_id)).text

    async def test_a_result_is_shown_with_all_its_pictures(self, stage: AdapterStage) -> None:
        group_id, conversation, _ = await _opened(stage)
        await conversation.deliver(stage.result(group_id, pictures=3, state=State.DONE, message=""))
        assert (await stage.seen(group_id)).pictures == 3

    async def test_delivering_twice_shows_once(self, stage: AdapterStage) -> None:
        group_id, conversation, filing = await _opened(stage)
        result = stage.result(group_id, pictures=2, state=State.DONE, message="")
        await conversation.deliver(result)
        once = await stage.seen(group_id)
        await stage.adapter.conversation(filing.address).deliver(result)
        assert await stage.seen(group_id) == once
        assert once.pictures == 2

    async def test_a_failed_result_says_why_and_shows_no_picture(self, stage: AdapterStage) -> None:
        group_id, conversation, _ = await _opened(stage)
        await conversation.deliver(
            stage.result(group_id, pictures=0, state=State.FAILED, message="out of GPU memory at 2048×2048")
        )
        seen = await stage.seen(group_id)
        assert seen.pictures == 0
        assert "out of GPU memory" in seen.text

    async def test_conversations_do_not_mix(self, stage: AdapterStage) -> None:
        fox, fox_conversation, _ = await _opened(stage, "a red fox")
        owl, owl_conversation, _ = await _opened(stage, "a grey owl")
        await fox_conversation.deliver(stage.result(fox, pictures=1, state=State.DONE, message=""))
        await owl_conversation.show(_running(owl, 3))
        assert (await stage.seen(fox)).pictures == 1
        assert (await stage.seen(owl)).pictures == 0

    async def test_closing_twice_is_fine(self, stage: AdapterStage) -> None:
        await stage.adapter.aclose()
        await stage.adapter.aclose()
