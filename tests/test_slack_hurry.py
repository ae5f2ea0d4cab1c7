"""In a burst Slack's events are taken in a few at a time, and nobody who hangs keeps others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapters.slack import hurry
from adapters.slack.hurry import AT_ONCE, Hurry
from tests.fakes.clock import settle


@asynccontextmanager
async def crowd(turns: Hurry, inside: list[int], end: asyncio.Event, count: int) -> AsyncIterator[None]:
    """So many who want a turn each, and then stay until `end`."""

    async def one(number: int) -> None:
        async with turns.turn():
            inside.append(number)
            await end.wait()

    tasks = [asyncio.ensure_future(one(number)) for number in range(count)]
    try:
        await settle()
        yield
    finally:
        end.set()
        await asyncio.gather(*tasks)


async def test_turns_go_in_the_order_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hurry, "TURN", 3600.0)
    turns, inside, end = Hurry(), list[int](), asyncio.Event()
    async with crowd(turns, inside, end, AT_ONCE + 5):
        assert inside == list(range(AT_ONCE))
        end.set()
        await settle()
        assert inside == list(range(AT_ONCE + 5))


async def test_who_hangs_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hurry, "TURN", 0.01)
    turns, inside, end = Hurry(), list[int](), asyncio.Event()
    async with crowd(turns, inside, end, 2 * AT_ONCE), asyncio.timeout(10):
        while len(inside) < 2 * AT_ONCE:
            await asyncio.sleep(0.001)


async def test_a_turn_ends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its time was up before or not: afterwards there are as many as at first."""
    monkeypatch.setattr(hurry, "TURN", 0.005)
    turns = Hurry()
    for seconds in (0.0, 0.02, 0.005):
        async with turns.turn():
            await asyncio.sleep(seconds)
    await asyncio.sleep(0.02)
    monkeypatch.setattr(hurry, "TURN", 3600.0)
    inside, end = list[int](), asyncio.Event()
    async with crowd(turns, inside, end, AT_ONCE + 1):
        assert len(inside) == AT_ONCE
