"""How long to wait before a hosted service is called again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

from backends._pacing import Backoff, Pace, poll_delays
from tests.fakes.clock import HandClock


def test_backoff_is_jitter_under_a_doubling_roof() -> None:
    waits = [[backoff.wait() for _ in range(7)] for backoff in (Backoff(1.0, 8.0) for _ in range(200))]
    for index, roof in enumerate((1, 2, 4, 8, 8, 8, 8)):
        column = [row[index] for row in waits]
        assert max(column) <= roof
        assert min(column) < roof / 4
        assert max(column) > roof / 2
    assert all(30 <= Backoff().wait(30) <= 31 for _ in range(50))


def test_polls_are_quick_at_first_and_slower_later() -> None:
    delays = list(islice(poll_delays(), 40))
    assert delays[0] <= 0.5
    assert delays == sorted(delays)
    assert delays[-1] == 5.0


async def test_no_minute_has_more_calls_than_allowed() -> None:
    clock, calls = HandClock(), list[float]()
    pace = Pace(240, clock.clock)

    async def call() -> None:
        await pace.turn()
        calls.append(clock.time)

    tasks = [asyncio.ensure_future(call()) for _ in range(600)]
    await clock.advance(180)
    await asyncio.gather(*tasks)
    busiest = max(sum(start <= at < start + 60 for at in calls) for start in _starts(calls))
    assert 200 <= busiest <= 240
    assert sum(at == calls[0] for at in calls) >= 30  # a burst goes out at once


def _starts(calls: list[float]) -> Iterator[float]:
    yield from sorted(set(calls))
