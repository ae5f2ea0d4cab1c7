"""Many requests at once: acknowledgements come first, and in the order of the requests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.core.errors import InvalidRequest
from bot.core.request import Requester
from bot.core.studio import Submission, Ticket
from tests.fakes.house import House, house


class Asked:
    """A request whose acknowledgement waits for `answer`."""

    def __init__(self, home: House, key: str, text: str = "a flat colour") -> None:
        self.home, self.key = home, key
        self.acknowledging = asyncio.Event()
        self.answer = asyncio.Event()
        submission = Submission(Requester("notebook", "g1", key), key, {"page": key}, text=text)
        self.task = asyncio.ensure_future(home.studio.submit(submission, acknowledge=self._acknowledge))

    async def _acknowledge(self, ticket: Ticket) -> None:
        self.acknowledging.set()
        await self.answer.wait()

    @property
    def prepared(self) -> bool:
        """Whether its message exists."""
        return bool(self.home.page(self.key).prepared)


async def test_nothing_is_prepared_while_others_wait_for_their_acknowledgement(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        slow, quick = Asked(home, "slow"), Asked(home, "quick")
        await slow.acknowledging.wait()
        quick.answer.set()
        await quick.task
        await home.clock.advance(0.0)
        assert not quick.prepared
        slow.answer.set()
        await home.until(lambda: quick.prepared and slow.prepared)


async def test_a_refusal_holds_up_nobody(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        slow, refused = Asked(home, "slow"), Asked(home, "refused", "--steps 0")
        slow.answer.set()
        with pytest.raises(InvalidRequest):
            await refused.task
        await home.until(lambda: slow.prepared)


async def test_an_acknowledgement_that_hangs_holds_up_the_others_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.core.intake.HELD_BACK", 0.02)
    monkeypatch.setattr("bot.core.intake.AT_A_TIME", 1)
    async with house(tmp_path) as home:
        hanging = Asked(home, "hanging")
        await hanging.acknowledging.wait()
        quick = Asked(home, "quick")
        quick.answer.set()
        await home.until(lambda: quick.prepared)
        assert not hanging.task.done()
        hanging.answer.set()
        await hanging.task


async def test_requests_are_acknowledged_in_their_order_and_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.core.intake.AT_A_TIME", 2)
    async with house(tmp_path) as home:
        asked = [Asked(home, f"k{number}") for number in range(6)]
        for first, second in zip(asked[::2], asked[1::2], strict=True):
            await first.acknowledging.wait()
            await second.acknowledging.wait()
            waiting = [each for each in asked if not each.acknowledging.is_set()]
            assert waiting == asked[asked.index(second) + 1 :]
            first.answer.set()
            second.answer.set()
        await asyncio.gather(*(each.task for each in asked))
        await home.until(lambda: all(each.prepared for each in asked))


async def test_one_request_alone_is_prepared_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        one = Asked(home, "one")
        one.answer.set()
        await one.task
        await home.until(lambda: one.prepared)
        assert home.app.studio._intake._timer is None
