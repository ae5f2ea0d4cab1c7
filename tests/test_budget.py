"""Money: what hosted pictures may cost, what they did cost, and that neither is lost or counted twice."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.core.errors import Cancelled, ProtocolError, QuotaExceeded, Unavailable
from bot.core.ports import ApiKey, CancelOutcome, Charge, Event, Queued, RemoteRef, Store
from bot.core.request import ImageResult, Nouns, Requester, State
from bot.core.studio import Submission
from tests.fakes.house import House
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.paid import PAID_MODEL, PRICE, budget_of, flux, hosted, local, paid, spent
from tests.fakes.trouble import OddBackend

ANN = Requester("notebook", "g1", "ann")
TO_MIDNIGHT = 86_400.0 - 1_700_000_000.0 % 86_400.0
EVERY: dict[str, Any] = {"budget": 100.0, "budget_per_guild": 100.0, "budget_per_user": 100.0}


async def shown(home: House, key: str, *, step: float = 0.5) -> ImageResult:
    """What a page was shown in the end."""
    page = home.page(key)
    await home.until_passing(lambda: bool(page.delivered), step=step)
    home.check()
    return page.delivered[0]


# --- what is charged --------------------------------------------------------------------------------------


async def test_what_a_backend_reports_is_charged_and_told(tmp_path: Path) -> None:
    async with hosted(tmp_path, flux(money=0.03)) as home:
        ticket = await home.ask("a flat colour", key="k")
        assert "about $0.04" in ticket.differences
        result = await shown(home, "k")
        assert (result.money, result.backend) == (0.03, "fal:flux")
        assert await spent(home) == 0.03
        assert budget_of(home).used("") == pytest.approx(0.03)


async def test_where_nothing_is_reported_the_price_is_charged(tmp_path: Path) -> None:
    async with hosted(tmp_path, flux()) as home:
        await home.ask("a flat colour --count 3", key="k")
        assert (await shown(home, "k")).money == pytest.approx(3 * PRICE)
        assert await spent(home) == pytest.approx(3 * PRICE)


async def test_what_is_free_of_charge_is_neither_announced_nor_charged(tmp_path: Path) -> None:
    async with hosted(tmp_path, local(), paid()) as home:
        ticket = await home.ask("a flat colour", key="k")
        assert not any("$" in each for each in ticket.differences)
        assert (await shown(home, "k")).money is None
        assert await spent(home) == 0.0


async def test_a_running_job_holds_its_estimate_and_a_failed_one_gives_it_back(tmp_path: Path) -> None:
    backend = flux()
    hold = backend.hold("start")
    backend.fail(ProtocolError("nonsense", accepted=True), at="start", times=3)
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        assert budget_of(home).used("member:notebook:ann") == pytest.approx(PRICE)
        hold.release()
        result = await shown(home, "k")
        assert (result.state, result.money) == (State.FAILED, None)
        assert await spent(home) == budget_of(home).used("") == 0.0


async def test_what_may_have_been_made_is_never_sent_again_and_counts_as_spent(tmp_path: Path) -> None:
    first, second = flux(), paid("fal:other", models=flux().models)
    first.fail(Unavailable("The connection was lost."), at="start")
    async with hosted(tmp_path, first, second) as home:
        await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        assert (result.state, result.money) == (State.FAILED, PRICE)
        assert "It may have been made and charged" in result.message
        assert len(first.submitted) + len(second.submitted) == 1
        assert await spent(home) == PRICE
        assert budget_of(home).used("") == pytest.approx(PRICE)


async def test_a_failed_try_that_cost_money_is_charged_and_the_next_one_too(tmp_path: Path) -> None:
    backend = flux()
    backend.fail(ProtocolError("It broke.", accepted=True, money=0.01), at="start")
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.DONE
        assert await spent(home) == pytest.approx(0.01 + PRICE)
        assert budget_of(home).used("") == pytest.approx(0.01 + PRICE)


@pytest.mark.parametrize(("says", "money"), [(None, 0.0), (CancelOutcome.UNSUPPORTED, PRICE)])
async def test_a_cancelled_job_costs_what_it_may_have_cost(
    tmp_path: Path, says: CancelOutcome | None, money: float
) -> None:
    backend = OddBackend("fal:flux", models=flux().models)
    backend.cancel_says = says
    hold = backend.hold("start")
    async with hosted(tmp_path, backend) as home:
        ticket = await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        await home.studio.cancel(ticket.group_id, ANN)
        result = await shown(home, "k")
        assert (result.state, result.money or 0.0) == (State.CANCELLED, money)
        assert await spent(home) == money
        hold.release()


async def test_a_backend_that_cancelled_by_itself_costs_nothing(tmp_path: Path) -> None:
    backend = flux()
    backend.fail(Cancelled("Cancelled there."), at="start")
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.CANCELLED
        assert await spent(home) == 0.0


async def test_charges_stay_when_their_group_is_deleted(tmp_path: Path) -> None:
    async with hosted(tmp_path, flux()) as home:
        ticket = await home.ask("a flat colour", key="k")
        await shown(home, "k")
        await home.studio.delete(ticket.group_id, ANN)
        assert await home.store.group(ticket.group_id) is None
        assert await spent(home) == PRICE


async def test_a_restart_keeps_what_is_spent_and_holds_what_still_runs(tmp_path: Path) -> None:
    backend, data = flux(slots=2), Data()
    async with hosted(tmp_path, backend, store=MemoryStore(data)) as home:
        await home.ask("a flat colour", key="first")
        await shown(home, "first")
        hold = backend.hold("start")
        ticket = await home.ask("a flat colour --count 2", key="k")
        await home.until(lambda: bool(backend.running))
        await home.until_passing(lambda: _has_ref(home, ticket.group_id))
        home.app._backends.clear()  # the remote goes on
    async with hosted(tmp_path, backend, store=MemoryStore(data)) as home:
        assert budget_of(home).used("") == pytest.approx(3 * PRICE)
        hold.release()
        assert (await shown(home, "k")).state is State.DONE
        assert await spent(home) == pytest.approx(3 * PRICE)
        assert len(backend.submitted) == 2


def _has_ref(home: House, group_id: str) -> bool:
    return home.desk.groups[group_id].jobs[0].ref is not None


async def test_what_was_handed_to_a_paid_backend_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    backend, data = flux(resumable=False), Data()
    async with hosted(tmp_path, backend, store=MemoryStore(data)) as home:
        backend.hold("start")
        ticket = await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: _has_ref(home, ticket.group_id))
    again = ForgetfulBackend("fal:flux", models=flux().models)
    async with hosted(tmp_path, again, store=MemoryStore(data)) as home:
        assert (await shown(home, "k")).state is State.FAILED
        assert again.submitted == []
        assert await spent(home) == PRICE


class ForgetfulBackend(OddBackend):
    """A service that cannot say what became of a job of another process."""

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        if ref.backend:
            raise Unavailable("It may have been made and charged, so it is not sent again by itself.")
        yield Queued(0)


# --- caps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budgets", "whose"),
    [
        ({"budget": 0.1}, "everybody's"),
        ({"budget_per_guild": 0.1}, "this server's"),
        ({"budget_per_user": 0.1}, "your"),
    ],
)
async def test_a_cap_refuses_what_only_money_could_make(
    tmp_path: Path, budgets: dict[str, Any], whose: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosted(tmp_path, flux(), **{**EVERY, **budgets}) as home:
        for key in ("1", "2"):
            await home.ask("a flat colour", key=key)
            await shown(home, key)
        with caplog.at_level(logging.WARNING, "bot.core.budget"):
            for _ in range(2):
                with pytest.raises(QuotaExceeded) as refused:
                    await home.ask("a flat colour")
        error = refused.value
        assert f"$0.08 of {whose} $0.10 a day" in error.message
        assert error.field == "budget"
        assert error.retry_after == pytest.approx(TO_MIDNIGHT, abs=200)
        assert len([each for each in caplog.records if "budget:" in each.getMessage()]) == 1
        assert await spent(home) == pytest.approx(2 * PRICE)


async def test_a_backend_s_own_cap_holds_and_ends_at_midnight(tmp_path: Path) -> None:
    async with hosted(tmp_path, flux(), options={"fal:flux": {"cap": "0.05"}}, **EVERY) as home:
        await home.ask("a flat colour", key="1")
        await shown(home, "1")
        with pytest.raises(QuotaExceeded, match="fal:flux's"):
            await home.ask("a flat colour")
        await home.clock.advance(TO_MIDNIGHT)
        await home.ask("a flat colour", key="2")
        assert (await shown(home, "2")).state is State.DONE
        assert await spent(home) == pytest.approx(2 * PRICE)


async def test_a_member_s_new_day_begins_though_nobody_else_asks_for_anything(tmp_path: Path) -> None:
    free, hired = local(), paid()
    hold = free.hold("start")
    rules: dict[str, Any] = {"options": {"fal:flux": {"after": "0s"}}, "budget_per_user": 0.05}
    evening = 1_700_000_000.0 + TO_MIDNIGHT - 100.0
    async with hosted(tmp_path, free, hired, now=evening, job_timeout=1e6, **rules) as home:
        for key in "123":  # the first stays at the free one, the second is paid for, the third cannot be
            await home.ask("a flat colour", key=key)
        await shown(home, "2")
        await home.clock.advance(60.0)
        assert len(hired.submitted) == 1
        await home.until_passing(lambda: len(hired.submitted) == 2, steps=400)
        hold.release()


async def test_others_are_not_refused_for_one_member_s_cap(tmp_path: Path) -> None:
    async with hosted(tmp_path, flux(), budget_per_user=0.05) as home:
        await home.ask("a flat colour", key="1")
        await shown(home, "1")
        with pytest.raises(QuotaExceeded):
            await home.ask("a flat colour")
        await home.ask("a flat colour", user="bob", key="2")
        assert (await shown(home, "2")).state is State.DONE


async def test_an_event_sent_twice_is_not_refused_for_its_own_price(tmp_path: Path) -> None:
    backend = flux()
    backend.hold("start")
    async with hosted(tmp_path, backend, budget_per_user=0.05) as home:
        first = await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(backend.submitted))
        again = await home.ask("a flat colour", key="k")
        assert (again.group_id, again.repeated) == (first.group_id, True)


async def test_a_key_s_own_budget_stands_in_for_the_others(tmp_path: Path) -> None:
    store: Store = MemoryStore()
    await store.add_key(ApiKey("1", "shop", "digest", 1.0, daily_budget=0.09))
    who = Requester("notebook", "key:1", "1", nouns=Nouns("request", "key"))
    async with hosted(tmp_path, flux(), store=store, budget_per_user=0.01, budget_per_guild=0.01) as home:
        for key in ("1", "2"):
            await home.studio.submit(Submission(who, key, {"page": key}, text="a flat colour"))
            await shown(home, key)
        with pytest.raises(QuotaExceeded, match=r"this key's \$0\.09"):
            await home.studio.submit(Submission(who, "3", {"page": "3"}, text="a flat colour"))
        await store.add_key(ApiKey("1", "shop", "digest", 1.0, daily_budget=1.0))
        await home.clock.advance(3.0)
        await home.studio.submit(Submission(who, "4", {"page": "4"}, text="a flat colour"))
        assert (await shown(home, "4")).state is State.DONE


async def test_a_queued_job_that_can_no_longer_be_paid_for_ends_and_says_so(tmp_path: Path) -> None:
    backend = flux()
    hold = backend.hold("start")
    async with hosted(tmp_path, backend, budget_per_user=0.05) as home:
        await home.ask("a flat colour", key="1")
        await home.until(hold.reached.is_set)
        budget_of(home).release(backend.submitted[0][0])  # as if it had not been started yet
        await home.ask("a flat colour", key="2")
        hold.release()
        assert (await shown(home, "1")).state is State.DONE
        result = await shown(home, "2", step=5.0)
        assert (result.state, result.money) == (State.FAILED, None)
        assert "of your $0.05 a day are spent" in result.message
        assert len(backend.submitted) == 1


async def test_a_cap_of_nothing_keeps_everything_free_of_charge_and_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    free, hired = local(), paid()
    hold = free.hold("start")
    async with hosted(tmp_path, free, hired, options={"fal:flux": {"after": "0s"}}, budget=0.0) as home:
        for key in ("1", "2"):
            await home.ask("a flat colour", key=key)
        await home.until(hold.reached.is_set)
        await home.clock.advance(30.0)
        assert hired.submitted == []
        hold.release()
        assert (await shown(home, "2")).backend == "local:"
        assert not [each for each in caplog.records if "budget:" in each.getMessage()]


async def test_a_request_of_several_prompts_is_taken_or_refused_whole(tmp_path: Path) -> None:
    backend = flux()
    async with hosted(tmp_path, backend, budget_per_user=0.1) as home:
        with pytest.raises(QuotaExceeded, match=r"about \$0\.12"):
            await home.ask("a {red, green, blue} star")
        ticket = await home.ask("a {red, green} star", key="k")
        assert "about $0.08" in ticket.differences
        assert len((await shown(home, "k")).pictures) == 2


async def test_the_log_says_once_that_a_cap_keeps_jobs_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    free, hired = local(), paid()
    hold = free.hold("start")
    options = {"fal:flux": {"after": "0s", "cap": "0.05"}}
    async with hosted(tmp_path, free, hired, options=options) as home:
        with caplog.at_level(logging.WARNING, "bot.core.budget"):
            for number in range(4):
                await home.ask("a flat colour", user=f"u{number}", key=f"k{number}")
            await home.until_passing(lambda: bool(home.page("k1").delivered))
            await home.clock.advance(20.0)
        said = [each.getMessage() for each in caplog.records if "budget:" in each.getMessage()]
        assert said == ["budget: $0.04 of $0.05 are spent today (UTC), and more is asked for: lane:fal:flux"]
        assert len(hired.submitted) == 1
        hold.release()


async def test_what_still_runs_at_midnight_counts_for_the_next_day(tmp_path: Path) -> None:
    backend = flux()
    async with hosted(tmp_path, backend, budget_per_user=0.05, job_timeout=1e6) as home:
        hold = backend.hold("start")
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        await home.clock.advance(TO_MIDNIGHT + 1.0)
        with pytest.raises(QuotaExceeded):
            await home.ask("a flat colour")
        hold.release()
        await shown(home, "k")
        assert budget_of(home).spent() == PRICE


async def test_charges_are_kept_for_400_days(tmp_path: Path) -> None:
    now, data = 1_700_000_000.0, Data()
    for days in (399, 401):
        at = now - days * 86_400.0
        data.charges[str(days), 0] = Charge(at, "fal:flux", "t", "m", str(days), 0, 1.0)
    async with hosted(tmp_path, flux(), store=MemoryStore(data)) as home:
        await home.until(lambda: len(data.charges) == 1)
        assert list(data.charges) == [("399", 0)]


# --- what people are told ---------------------------------------------------------------------------------


async def test_a_group_made_at_two_places_names_both_and_sums_what_was_paid(tmp_path: Path) -> None:
    free, hired = local(), paid()
    hold = free.hold("start")
    async with hosted(tmp_path, free, hired, options={"fal:flux": {"after": "0s"}}) as home:
        await home.ask("a {red, green} star", key="k")
        await home.until_passing(lambda: bool(hired.submitted) and hold.reached.is_set())
        hold.release()
        result = await shown(home, "k")
        assert result.backend == "local:, fal:flux"
        assert result.money == pytest.approx(PRICE)


async def test_a_licence_that_forbids_commercial_use_is_said_with_the_result_and_in_the_recipe(
    tmp_path: Path,
) -> None:
    model = replace(PAID_MODEL, licence="Stability AI Community License", commercial=False)
    async with hosted(tmp_path, paid(models=(model,))) as home:
        await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        said = "Stability AI Community License: not for commercial use."
        assert said in result.notes
        notes = result.pictures[0].recipe["notes"]
        assert isinstance(notes, list)
        assert said in notes
