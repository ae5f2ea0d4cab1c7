"""What keeps the Slack adapter below Slack's rate limits."""

from __future__ import annotations

import asyncio

from adapters.slack.pacing import Bucket, Gate, Window
from tests.fakes.clock import HandClock, settle


def gate(clock: HandClock) -> Gate:
    """A gate in time that is moved by hand."""
    return Gate(clock.clock.monotonic, clock.clock.sleep)


async def test_no_more_calls_than_allowed_in_any_window() -> None:
    clock, sent = HandClock(), list[float]()
    it, rule = gate(clock), Window(5, 60.0)

    async def call() -> None:
        await it.enter("updates", rule)
        sent.append(clock.time)

    calls = [asyncio.ensure_future(call()) for _ in range(12)]
    for _ in range(140):
        await clock.advance(1.0)
    await asyncio.gather(*calls)
    assert len(sent) == 12
    assert all(later - earlier >= 60.0 for earlier, later in zip(sent, sent[5:], strict=False))


async def test_a_bucket_lets_a_burst_through_and_then_one_at_a_time() -> None:
    clock, sent = HandClock(), list[float]()
    it, rule, began = gate(clock), Bucket(1.0, burst=3), clock.time

    async def call() -> None:
        await it.enter("posts", rule)
        sent.append(clock.time - began)

    calls = [asyncio.ensure_future(call()) for _ in range(5)]
    for _ in range(30):
        await clock.advance(0.1)
    await asyncio.gather(*calls)
    assert [round(at) for at in sent] == [0, 0, 0, 1, 2]


async def test_who_is_urgent_goes_first_and_progress_leaves_room() -> None:
    clock, order = HandClock(), list[str]()
    it, rule = gate(clock), Window(4, 60.0)
    assert not it.enter_now("updates", rule, kept=4)
    assert it.enter_now("updates", rule, kept=2)
    assert it.enter_now("updates", rule, kept=2)
    assert not it.enter_now("updates", rule, kept=2)

    async def call(name: str, rank: int) -> None:
        await it.enter("updates", rule, rank=rank)
        order.append(name)

    calls = [asyncio.ensure_future(call(f"receipt {n}", 1)) for n in range(3)]
    await settle()
    calls.append(asyncio.ensure_future(call("result", 0)))
    await settle()
    assert order == ["receipt 0", "receipt 1"]
    await clock.advance(60.0)
    await asyncio.gather(*calls)
    assert order == ["receipt 0", "receipt 1", "result", "receipt 2"]


async def test_lanes_do_not_wait_for_each_other() -> None:
    clock = HandClock()
    it, rule = gate(clock), Window(1, 60.0)
    await it.enter("one", rule)
    await asyncio.wait_for(it.enter("other", rule), 1.0)


async def test_after_a_refusal_a_lane_rests_as_long_as_slack_said() -> None:
    clock = HandClock()
    it, rule = gate(clock), Window(100, 60.0)
    it.rest("updates", 30.0)
    assert not it.enter_now("updates", rule)
    waiting = asyncio.ensure_future(it.enter("updates", rule))
    await clock.advance(29.0)
    assert not waiting.done()
    await clock.advance(1.0)
    await waiting


async def test_who_gave_up_waiting_takes_no_turn() -> None:
    clock = HandClock()
    it, rule = gate(clock), Window(1, 60.0)
    await it.enter("updates", rule)
    gone, left = (asyncio.ensure_future(it.enter("updates", rule)) for _ in range(2))
    await settle()
    gone.cancel()
    await clock.advance(60.0)
    assert left.done()
    it.close()
