"""Money where something changes under way: models and backends that go, clocks that jump, other prices."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.core.budget import Budget
from bot.core.errors import FairbrushError, ProtocolError, QuotaExceeded, RateLimited, Unavailable
from bot.core.ports import Capabilities, Charge, Clock, Health, Price
from bot.core.request import ImageResult, Requester, State
from bot.core.settings import Settings
from tests.fakes.backend import FAKE_MODEL, FakeBackend
from tests.fakes.house import House
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.paid import (
    OTHER_MODEL,
    PAID_MODEL,
    PRICE,
    budget_of,
    flux,
    hosted,
    lane_of,
    local,
    paid,
    spent,
)

ANN = Requester("notebook", "g1", "ann")
DEAR, CHEAP = (
    replace(PAID_MODEL, id=name, price=Price(price)) for name, price in (("dear", 0.4), ("cheap", 0.01))
)
NOW = {"fal:flux": {"after": "0s", "cap": "0.1"}}
RICH = {"fal:flux": {"after": "0s", "cap": "9"}}


async def shown(home: House, key: str, *, step: float = 0.5) -> ImageResult:
    """What a page was shown in the end."""
    page = home.page(key)
    await home.until_passing(lambda: bool(page.delivered), step=step, steps=400)
    home.check()
    return page.delivered[0]


# --- what changes while a job runs ------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, Unavailable("The connection was lost.")])
async def test_a_model_that_is_withdrawn_while_it_works_costs_what_it_cost(
    tmp_path: Path, error: FairbrushError | None
) -> None:
    backend = flux()
    hold = backend.hold("start")
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        backend.models = (FAKE_MODEL,)
        await home.clock.advance(3.0)
        if error is not None:
            backend.fail(error, at="picture")
        hold.release()
        assert (await shown(home, "k")).money == PRICE
        assert await spent(home) == PRICE


@pytest.mark.parametrize("money", [math.nan, math.inf, -1.0])
async def test_a_price_that_is_no_sum_of_money_is_not_charged(tmp_path: Path, money: float) -> None:
    backend = flux()
    backend.fail(ProtocolError("It broke.", accepted=True, money=money), at="start", times=3)
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        assert (result.state, result.money) == (State.FAILED, None)
        assert budget_of(home).used("") == 0.0


async def test_a_job_that_starts_again_before_its_last_try_is_put_away_keeps_its_slot_and_its_hold(
    tmp_path: Path,
) -> None:
    limited, other = paid("fal:limited"), paid("fal:other")
    limited.fail(RateLimited("Slow down.", retry_after=300.0, accepted=False), at="submit")
    hold = other.hold("start")
    async with hosted(tmp_path, limited, other) as home:
        dispatcher = home.app._dispatcher
        show = dispatcher._on_status

        def at_once(status: object) -> None:
            show(status)  # type: ignore[arg-type]
            dispatcher._fill()

        dispatcher._on_status = at_once
        await home.ask("a flat colour", key="k")
        await home.until_passing(hold.reached.is_set)
        assert len(dispatcher._running) == 1
        assert len(lane_of(home, "fal:other").running) == 1
        assert budget_of(home).used("lane:fal:other") == pytest.approx(PRICE)
        assert lane_of(home, "fal:limited").running == set()
        hold.release()
        await shown(home, "k")


# --- clocks -----------------------------------------------------------------------------------------------


def test_what_was_spent_is_not_forgotten_where_the_clock_goes_back_and_forth(tmp_path: Path) -> None:
    now = [86_400.0 * 20_000 + 10.0]
    budget = Budget(
        Settings(data_dir=tmp_path), Clock(now=lambda: now[0], monotonic=lambda: 0.0, sleep=_never)
    )
    budget.spend(Charge(now[0], "fal:flux", "t", "m", "j", 0, 0.5))
    for step in (-20.0, 40.0, 86_400.0 * 900):
        now[0] += step
        assert budget.spent() == (0.5 if step == 40.0 else 0.0)
    now[0] -= 86_400.0 * 900
    assert budget.spent("fal:flux") == 0.5


async def _never(seconds: float) -> None:
    raise AssertionError(seconds)


async def test_a_clock_that_is_set_forward_makes_nobody_pay_earlier(tmp_path: Path) -> None:
    free, hired = local(), paid()
    hold = free.hold("start")
    async with hosted(tmp_path, free, hired, options={"fal:flux": {"after": "60s"}}) as home:
        for user in ("bob", "ann"):
            await home.ask("a flat colour", user=user, key=user)
        await home.until_passing(hold.reached.is_set)
        home.clock.set_forward = 3600.0
        await home.clock.advance(30.0)
        assert hired.submitted == []
        await home.clock.advance(60.0)
        assert len(hired.submitted) == 1
        hold.release()


# --- prices that differ -----------------------------------------------------------------------------------


async def test_who_could_not_pay_for_a_dear_request_can_pay_for_a_cheap_one_that_comes_later(
    tmp_path: Path,
) -> None:
    free, hired = local(models=(FAKE_MODEL, replace(DEAR, price=None))), paid(models=(DEAR, CHEAP))
    hold = free.hold("start")
    async with hosted(tmp_path, free, hired, options=RICH, budget_per_user=0.05) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        await home.ask("a flat colour --model dear", user="ann")
        await home.clock.advance(3.0)
        await home.ask("a flat colour --model cheap", user="ann", key="cheap")
        assert (await shown(home, "cheap")).backend == "fal:flux"
        hold.release()


@pytest.mark.parametrize("limits", [{"budget_per_user": 0.1}, {"budget_per_guild": 0.1}, {}])
async def test_a_dear_request_that_cannot_be_paid_for_is_not_in_the_way_of_a_cheap_one(
    tmp_path: Path, limits: dict[str, Any]
) -> None:
    free, hired = local(models=(FAKE_MODEL, replace(DEAR, price=None))), paid(models=(DEAR, CHEAP))
    hold = free.hold("start")
    async with hosted(tmp_path, free, hired, options=RICH if limits else NOW, **limits) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        await home.ask("a flat colour --model dear", key="dear")
        await home.clock.advance(3.0)
        await home.ask("a flat colour --model cheap", key="cheap")
        assert (await shown(home, "cheap")).backend == "fal:flux"
        assert await spent(home) == pytest.approx(0.01)
        hold.release()
        assert (await shown(home, "dear")).backend == "local:"


async def test_what_waits_for_money_is_made_once_its_price_falls(tmp_path: Path) -> None:
    free, hired = local(models=(replace(DEAR, price=None),)), paid(models=(DEAR,))
    hold = free.hold("start")
    async with hosted(tmp_path, free, hired, options=NOW) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        await home.ask("a flat colour", key="k")
        await home.clock.advance(5.0)
        assert hired.submitted == []
        hired.models = (replace(DEAR, price=Price(0.02)),)
        assert (await shown(home, "k")).backend == "fal:flux"
        hold.release()


async def test_a_request_is_taken_where_some_backend_s_own_price_fits_its_own_cap(tmp_path: Path) -> None:
    cheap, dear = (
        paid("fal:cheap", models=(CHEAP,)),
        paid("fal:dear", models=(replace(CHEAP, price=Price(0.1)),)),
    )
    options = {"fal:cheap": {"cap": "0.01"}, "fal:dear": {"cap": "0.05"}}
    async with hosted(tmp_path, cheap, dear, options=options) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).backend == "fal:cheap"
        with pytest.raises(QuotaExceeded):
            await home.ask("a flat colour")


async def test_a_free_backend_that_is_down_is_tried_where_nothing_can_be_paid_for(tmp_path: Path) -> None:
    free, hired = local(), paid()
    free.ok = Health(False, detail="The model file is missing.")
    free.fail(Unavailable("The model file is missing.", accepted=False), at="submit", times=99)
    async with hosted(tmp_path, free, hired, options=NOW, budget_per_user=0.0) as home:
        await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        assert (result.state, result.message) == (State.FAILED, "The model file is missing.")
        assert hired.submitted == []


async def test_many_that_come_at_once_find_no_more_room_than_there_is(tmp_path: Path) -> None:
    backend = flux(slots=1000)
    async with hosted(tmp_path, backend, options={"fal:flux": {"cap": "0.09"}}) as home:
        asked = [
            home.ask("a flat colour", user=f"u{number}", guild=f"g{number}", key=f"k{number}")
            for number in range(20)
        ]
        came = await asyncio.gather(*asked, return_exceptions=True)
        taken = [each for each in came if not isinstance(each, QuotaExceeded)]
        assert len(taken) > 2
        await home.until_passing(home.idle, step=5.0, steps=100)
        states = Counter(
            home.page(f"k{n}").delivered[0].state for n in range(20) if home.page(f"k{n}").delivered
        )
        assert states == {State.DONE: 2, State.FAILED: len(taken) - 2}
        assert len(backend.submitted) == 2
        assert await spent(home) == pytest.approx(2 * PRICE)


# --- after a restart --------------------------------------------------------------------------------------


async def _left_running(tmp_path: Path, data: Data, backend: FakeBackend) -> None:
    """The program ends while the backend works."""
    async with hosted(tmp_path, backend, store=MemoryStore(data)) as home:
        hold = backend.hold("start")
        ticket = await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        await home.until_passing(lambda: home.desk.groups[ticket.group_id].jobs[0].ref is not None)
        home.app._backends.clear()  # the remote goes on
    for job in backend.jobs.values():
        assert job.task is not None
        job.task.cancel()


async def test_what_was_sent_to_a_backend_that_is_not_configured_any_more_is_spent_and_not_sent_again(
    tmp_path: Path,
) -> None:
    backend, data = paid(), Data()
    await _left_running(tmp_path, data, backend)
    other = paid("fal:other")
    async with hosted(tmp_path, other, store=MemoryStore(data)) as home:
        result = await shown(home, "k")
        assert (result.state, result.money) == (State.FAILED, PRICE)
        assert "It may have been made and charged" in result.message
        assert other.submitted == []
        assert await spent(home) == budget_of(home).used("") == PRICE


async def test_what_cost_nothing_is_made_elsewhere_where_its_backend_is_not_configured_any_more(
    tmp_path: Path,
) -> None:
    data = Data()
    await _left_running(tmp_path, data, local())
    async with hosted(tmp_path, FakeBackend("local:other"), store=MemoryStore(data)) as home:
        assert (await shown(home, "k")).backend == "local:other"
        assert await spent(home) == 0.0


class UnreachedBackend(FakeBackend):
    """A service that has not said yet what it offers, and cannot say what became of a job."""

    async def capabilities(self) -> Capabilities:
        return Capabilities(models=())


async def test_what_is_lost_at_a_service_that_is_not_reached_after_a_restart_counts_as_spent(
    tmp_path: Path,
) -> None:
    backend, data = flux(), Data()
    await _left_running(tmp_path, data, backend)
    again = UnreachedBackend("fal:flux", models=(OTHER_MODEL,))
    again.jobs = backend.jobs
    for job in again.jobs.values():
        job.end(Unavailable("No answer came."))
    async with hosted(tmp_path, again, local(), store=MemoryStore(data)) as home:
        result = await shown(home, "k")
        assert (result.state, result.money) == (State.FAILED, PRICE)
        assert await spent(home) == PRICE


async def test_a_price_that_was_raised_meanwhile_is_not_held_for_what_runs(tmp_path: Path) -> None:
    backend, data = flux(), Data()
    await _left_running(tmp_path, data, backend)
    backend.models = (replace(OTHER_MODEL, price=Price(9.0)),)
    async with hosted(tmp_path, backend, store=MemoryStore(data)) as home:
        assert budget_of(home).used("") == pytest.approx(PRICE)
