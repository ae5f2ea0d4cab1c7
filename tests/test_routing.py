"""Which backend makes a job: what is free of charge first, what is paid where there is need, and no backend's
trouble loses or doubles anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.errors import AuthFailed, InvalidRequest, RateLimited, Unavailable
from bot.core.places import Crew
from bot.core.ports import Health, Model, Price
from bot.core.request import ImageResult, Requester, State
from tests.fakes.backend import FAKE_MODEL, PARAMS, FakeBackend
from tests.fakes.house import House
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.paid import PAID_MODEL, PRICE, flux, hosted, lane_of, local, paid, spent

ANN = Requester("notebook", "g1", "ann")
SOON = {"fal:flux": {"after": "30s"}}


async def shown(home: House, key: str, *, step: float = 0.5) -> ImageResult:
    """What a page was shown in the end, once."""
    page = home.page(key)
    await home.until_passing(lambda: bool(page.delivered), step=step)
    home.check()
    assert len(page.delivered) == 1
    return page.delivered[0]


# --- which one --------------------------------------------------------------------------------------------


async def test_a_free_slot_is_taken_where_it_is_free_of_charge_then_healthy_then_fast_then_cheap(
    tmp_path: Path,
) -> None:
    dear = replace(PAID_MODEL, price=Price(0.1))
    backends = [
        paid("fal:dear", models=(dear,)),
        paid("fal:cheap"),
        local(),
        FakeBackend("local:fast"),
        FakeBackend("local:failing"),
    ]
    async with hosted(tmp_path, *backends) as home:
        routing = home.app._dispatcher.routing
        ticket = await home.ask("a flat colour", key="k")
        (request,) = ticket.requests
        routing._estimator.observe(request, "fake", "local:", 4.0)
        routing._estimator.observe(request, "fake", "local:fast", 1.0)
        routing._estimator.observe(request, "fake", "local:failing", 0.1)
        for name in ("fal:dear", "fal:cheap"):
            routing._estimator.observe(request, "fake", name, 0.1)
        lane_of(home, "local:failing").failed(Unavailable("x", accepted=False), 0.0)
        lanes, order = list(home.app._dispatcher.lanes), []
        while lanes:
            order.append(routing.best(lanes, request))
            lanes.remove(order[-1])
        names = [lane.name for lane in order]
        assert names == ["local:fast", "local:", "local:failing", "fal:cheap", "fal:dear"]


async def test_jobs_go_by_model(tmp_path: Path) -> None:
    free, hired = local(), flux()
    async with hosted(tmp_path, free, hired) as home:
        await home.ask("a flat colour --model flux", key="paid")
        await home.ask("a flat colour", key="free")
        assert (await shown(home, "paid")).backend == "fal:flux"
        assert (await shown(home, "free")).backend == "local:"


async def test_slots_of_an_entry_are_how_many_run_at_a_time(tmp_path: Path) -> None:
    backend = flux(slots=1)
    hold = backend.hold("start")
    async with hosted(tmp_path, backend, options={"fal:flux": {"slots": "3"}}) as home:
        for number in range(5):
            await home.ask("a flat colour", user=f"u{number}", key=f"k{number}")
        await home.until(lambda: len(backend.submitted) == 3)
        await home.clock.advance(3.0)
        hold.release()
        for number in range(5):
            await shown(home, f"k{number}")
        assert backend.peak == 3


async def test_what_one_backend_cannot_do_another_may(tmp_path: Path) -> None:
    picky, other = FakeBackend("local:picky"), FakeBackend("local:other")
    picky.fail(InvalidRequest("Not at this size here.", field="size"), at="submit", times=9)
    other.fail(InvalidRequest("Not at this size either.", field="size"), at="submit")
    async with hosted(tmp_path, picky, other) as home:
        await home.ask("a flat colour", key="no")
        assert (await shown(home, "no")).state is State.FAILED
        await home.ask("a flat colour", key="yes")
        assert (await shown(home, "yes")).backend == "local:other"


# --- when money is spent ----------------------------------------------------------------------------------


async def test_a_paid_backend_gets_nothing_before_the_wait_is_over_its_after(tmp_path: Path) -> None:
    free, hired = local(), paid()
    hold = free.hold("start")
    async with hosted(tmp_path, free, hired, options=SOON) as home:
        await home.ask("in the way", user="bob", key="bob")
        await home.until(hold.reached.is_set)
        await home.ask("a flat colour", key="k")
        await home.clock.advance(28.0)
        assert hired.submitted == []
        await home.clock.advance(5.0)
        assert len(hired.submitted) == 1
        assert (await shown(home, "k")).backend == "fal:flux"
        assert await spent(home) == PRICE
        hold.release()


async def test_a_long_line_overflows_only_as_far_as_it_is_long(tmp_path: Path) -> None:
    free, hired = local(), paid()
    hold = free.hold("start")
    async with hosted(tmp_path, free, hired, options={"fal:flux": {"after": "10m", "cap": "9"}}) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        (job,) = home.desk.groups[next(iter(home.desk.groups))].jobs
        job.cost = 500.0  # what runs here is expected to take long
        routing = home.app._dispatcher.routing
        for number in range(8):
            ticket = await home.ask("a flat colour", user=f"u{number}", key=f"k{number}")
            routing._estimator.observe(ticket.requests[0], "fake", "local:", 60.0)
        await home.until_passing(lambda: bool(hired.submitted), step=0.5, steps=40)
        await home.clock.advance(5.0)
        assert 0 < len(hired.submitted) < 8
        hold.release()


async def test_a_paid_backend_is_left_alone_while_a_free_one_has_room(tmp_path: Path) -> None:
    free, hired = local(slots=4), paid()
    async with hosted(tmp_path, hired, free, options={"fal:flux": {"after": "0s"}}) as home:
        for number in range(4):
            await home.ask("a flat colour", user=f"u{number}", key=f"k{number}")
        for number in range(4):
            await shown(home, f"k{number}")
        assert hired.submitted == []


async def test_what_no_free_backend_offers_is_paid_for_at_once(tmp_path: Path) -> None:
    free, hired = local(params=PARAMS - {"init_image", "upscale"}), paid()
    async with hosted(tmp_path, free, hired) as home:
        ticket = await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        assert result.backend == "local:"
        upscale = replace(ticket.requests[0], upscale=True)
        routing = home.app._dispatcher.routing
        assert routing.costly(upscale) == pytest.approx(PRICE)
        assert routing.costly(ticket.requests[0]) is None


async def test_a_fault_where_it_is_free_of_charge_costs_money_at_the_last_try_only(tmp_path: Path) -> None:
    free, hired = local(), paid()
    free.fail(Unavailable("crashed", accepted=False), at="start", times=9)
    async with hosted(tmp_path, free, hired) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).backend == "fal:flux"
        assert len(free.submitted) == 2
        assert await spent(home) == PRICE


# --- trouble ----------------------------------------------------------------------------------------------


async def test_a_failing_backend_rests_and_then_gets_one_job_at_a_time_until_one_succeeds(
    tmp_path: Path,
) -> None:
    backend = FakeBackend("local:", slots=4)
    async with hosted(tmp_path, backend, attempts=9) as home:
        backend.fail(Unavailable("crashed", accepted=False), at="submit", times=4)
        for number in range(4):
            await home.ask("a flat colour", user=f"u{number}", key=f"k{number}")
        await home.until_passing(lambda: lane_of(home, "local:").faults >= 4)
        hold, begun = backend.hold("start"), len(backend.submitted)
        await home.until_passing(lambda: len(backend.submitted) > begun, step=1.0)
        await home.clock.advance(90.0)
        assert len(backend.submitted) == begun + 1
        again = backend.hold("picture")
        hold.release()
        again.release()
        for number in range(4):
            assert (await shown(home, f"k{number}")).state is State.DONE
        assert lane_of(home, "local:").faults == 0


async def test_jobs_of_a_failing_backend_are_moved_once_with_nothing_lost_or_doubled(tmp_path: Path) -> None:
    bad, good = FakeBackend("local:bad", slots=3), FakeBackend("local:good", slots=1)
    bad.fail(Unavailable("crashed", accepted=False), at="start", times=99)
    async with hosted(tmp_path, bad, good) as home:
        tickets = [await home.ask("a flat colour", user=f"u{n}", key=f"k{n}") for n in range(6)]
        for number in range(6):
            result = await shown(home, f"k{number}")
            assert (result.state, result.backend) == (State.DONE, "local:good")
        made = Counter(job_id for job_id, _ in good.submitted)
        assert made == Counter({f"{ticket.group_id}-0": 1 for ticket in tickets})
        assert max(Counter(job_id for job_id, _ in bad.submitted).values()) == 1


async def test_a_refused_key_moves_the_jobs_and_rests_that_backend(tmp_path: Path) -> None:
    wrong, right = paid("fal:wrong"), paid("fal:right")
    wrong.fail(AuthFailed("The key was refused.", accepted=False), at="submit", times=99)
    async with hosted(tmp_path, wrong, right) as home:
        for number in range(3):
            await home.ask("a flat colour", key=f"k{number}")
            assert (await shown(home, f"k{number}")).backend == "fal:right"
        assert len(wrong.submitted) == 1
        assert await spent(home) == pytest.approx(3 * PRICE)


async def test_a_rate_limit_sends_the_job_elsewhere_unpaid(tmp_path: Path) -> None:
    limited, other = paid("fal:limited"), paid("fal:other")
    limited.fail(RateLimited("Slow down.", retry_after=300.0, accepted=False), at="submit", times=99)
    async with hosted(tmp_path, limited, other) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).backend == "fal:other"
        assert await spent(home) == PRICE


async def test_a_backend_that_says_it_is_down_gets_nothing_while_another_is_there(tmp_path: Path) -> None:
    down, there = FakeBackend("local:down"), FakeBackend("local:there")
    down.ok = Health(False, detail="no connection")
    hold = there.hold("start")
    async with hosted(tmp_path, down, there) as home:
        for number in range(3):
            await home.ask("a flat colour", user=f"u{number}", key=f"k{number}")
        await home.until(hold.reached.is_set)
        await home.clock.advance(100.0)
        assert down.submitted == []
        down.ok = Health(True)
        await home.clock.advance(2.0)
        assert len(down.submitted) > 0
        hold.release()
        for number in range(3):
            await shown(home, f"k{number}")


async def test_jobs_wait_for_the_only_backend_that_is_down_for_a_moment(tmp_path: Path) -> None:
    backend = local()
    backend.ok = Health(False, detail="starting again")
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        await home.clock.advance(8.0)
        assert backend.submitted == []
        backend.ok = Health(True)
        assert (await shown(home, "k")).state is State.DONE


async def test_what_the_only_backend_is_down_for_is_tried_there_in_the_end(tmp_path: Path) -> None:
    backend = local()
    backend.ok = Health(False, detail="The model file is missing.")
    backend.fail(Unavailable("The model file is missing.", accepted=False), at="submit", times=99)
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        assert (result.state, result.message) == (State.FAILED, "The model file is missing.")


async def test_a_backend_that_loads_is_not_down(tmp_path: Path) -> None:
    backend = local()
    backend.ok = Health(False, loading=True)
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.DONE


async def test_a_restart_with_both_kinds_of_backends_keeps_every_job(tmp_path: Path) -> None:
    free, hired, data = local(), paid(), Data()
    options = {"fal:flux": {"after": "0s"}}
    first = free.hold("start")
    async with hosted(tmp_path, free, hired, store=MemoryStore(data), options=options) as home:
        hired.hold("start")
        for number in range(4):
            await home.ask("a flat colour", user=f"u{number}", key=f"k{number}")
        await home.until_passing(lambda: bool(free.submitted) and bool(hired.submitted))
        await home.clock.advance(1.0)
        home.app._backends.clear()
    first.release()
    hired._holds["start"].release()
    async with hosted(tmp_path, local(), hired, store=MemoryStore(data), options=options) as home:
        for number in range(4):
            assert (await shown(home, f"k{number}")).state is State.DONE
        assert max(Counter(job_id for job_id, _ in hired.submitted).values()) == 1
        assert await spent(home) == pytest.approx(PRICE * len(hired.submitted))


# --- what is told -----------------------------------------------------------------------------------------


@given(
    base=st.floats(0, 50),
    hired=st.floats(0, 50),
    after=st.floats(0, 1000),
    work=st.lists(st.floats(0, 1e5), min_size=2, max_size=2),
)
def test_more_work_never_takes_less_and_paid_help_never_takes_more(
    base: float, hired: float, after: float, work: list[float]
) -> None:
    less, more = sorted(work)
    crew = Crew(1, 1, base, hired, after, base, True, True, False)
    assert crew.seconds(less) <= crew.seconds(more) * (1 + 1e-9)
    if base > 0:
        alone = replace(crew, hired=0.0)
        assert crew.seconds(more) <= alone.seconds(more) * (1 + 1e-9)
        assert crew.seconds(less) == alone.seconds(less) or less > after * base


async def test_only_requests_for_the_same_backends_are_ahead(tmp_path: Path) -> None:
    free, hired = local(), flux(slots=1)
    holds = free.hold("start"), hired.hold("start")
    async with hosted(tmp_path, free, hired, budget_per_guild=9.0, budget_per_user=9.0) as home:
        await home.ask("in the way", user="bob")
        await home.ask("in the way --model flux", user="bob")
        await home.until_passing(lambda: bool(free.submitted) and bool(hired.submitted))
        for number in range(3):
            await home.ask("a flat colour", user=f"u{number}")
        ticket = await home.ask("a flat colour --model flux", user="cy")
        await home.clock.advance(2.0)
        status = home.studio.status(ticket.group_id)
        assert status is not None
        assert status.position is not None
        assert status.position.ahead == 0
        why = await home.studio.why(ANN)
        assert why.places == 1
        for hold in holds:
            hold.release()


async def test_a_model_that_a_backend_lost_is_not_waited_for_where_another_has_it(tmp_path: Path) -> None:
    other = Model("other", "Other", 64, 64, 4, 7.5)
    one, two = FakeBackend("local:one", models=(FAKE_MODEL, other)), FakeBackend("local:two")
    hold = one.hold("start")
    async with hosted(tmp_path, one, two) as home:
        await home.ask("in the way --model other", user="bob", key="bob")
        await home.until(hold.reached.is_set)
        one.models, two.models = (FAKE_MODEL,), (FAKE_MODEL, other)
        await home.clock.advance(2.0)
        await home.ask("a flat colour --model other", key="k")
        assert (await shown(home, "k")).backend == "local:two"
        hold.release()


async def test_a_scheduler_that_one_backend_alone_has_is_offered_and_made_there(tmp_path: Path) -> None:
    models = [
        replace(FAKE_MODEL, scheduler=None, schedulers=names) for names in (("Euler",), ("Euler", "DDIM"))
    ]
    one, two = (
        FakeBackend("local:one", models=tuple(models[:1])),
        FakeBackend("local:two", models=tuple(models[1:])),
    )
    async with hosted(tmp_path, one, two) as home:
        assert home.studio.models()[0].schedulers == ("Euler", "DDIM")
        await home.ask("a flat colour --scheduler DDIM", key="k")
        assert (await shown(home, "k")).backend == "local:two"
        assert one.submitted == []
        with pytest.raises(InvalidRequest, match="Euler, DDIM"):
            await home.ask("a flat colour --scheduler UniPC")


async def test_a_price_of_nothing_is_free_of_charge(tmp_path: Path) -> None:
    backend = paid(models=(replace(PAID_MODEL, price=Price()),))
    async with hosted(tmp_path, backend, budget=0.0) as home:
        assert not lane_of(home, "fal:flux").hosted
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.DONE
