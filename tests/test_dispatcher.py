"""What the dispatcher owes whatever goes wrong: every accepted job ends once, slots and counts come free, and
one backend's or one job's trouble stays its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bot.core.errors import Cancelled, ProtocolError, RateLimited, Unavailable
from bot.core.fairqueue import Entry
from bot.core.lanes import Lane
from bot.core.ports import CancelOutcome, Done, Event, Health, ImageReady, Model, Progress, Queued
from bot.core.request import ImageResult, Requester, State
from tests.fakes.backend import FAKE_MODEL, FakeBackend, flat_png
from tests.fakes.house import House, house
from tests.fakes.memory_store import MemoryStore
from tests.fakes.trouble import OddBackend, TroubledStore

ANN = Requester("notebook", "g1", "ann")


def ready(index: int = 0) -> ImageReady:
    """A picture of a script."""
    return ImageReady(index, flat_png(64, 64, 1), "image/png", 1)


def script(*events: Event, then: asyncio.Event | None = None) -> Callable[[], AsyncIterator[Event]]:
    """Events of a job, after which it waits where `then` is given."""

    async def play() -> AsyncIterator[Event]:
        for event in events:
            yield event
        if then is not None:
            await then.wait()

    return play


async def shown(home: House, key: str, *, step: float = 0.5, steps: int = 400) -> ImageResult:
    """What a page was shown in the end, moving the time on; only once, and with nothing left in hand."""
    page = home.page(key)
    await home.until_passing(lambda: bool(page.delivered), step=step, steps=steps)
    await home.until_passing(home.idle)
    home.check()
    assert len(page.delivered) == 1
    return page.delivered[0]


# --- a disk that is full ----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["save_address", "start", "save_ref", "finish", "delivered"])
@pytest.mark.parametrize("times", [1, 6])
async def test_a_full_disk_delays_a_job_and_costs_no_try(tmp_path: Path, write: str, times: int) -> None:
    store, backend = TroubledStore(), FakeBackend()
    async with house(tmp_path, store=store, backends=[backend]) as home:
        store.full[write] = times
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.DONE
        assert len(backend.submitted) == 1


async def test_a_job_that_waits_for_the_disk_is_not_taken_for_silent(tmp_path: Path) -> None:
    store, backend = TroubledStore(), FakeBackend()
    async with house(tmp_path, store=store, backends=[backend], job_timeout=60.0) as home:
        store.full["finish"] = 20  # about ten minutes
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k", step=2.0)).state is State.DONE
        assert len(backend.submitted) == 1
        assert backend.cancelled == []


async def test_a_job_that_is_given_back_is_not_started_before_that_is_stored(tmp_path: Path) -> None:
    store, backend = TroubledStore(), FakeBackend()
    backend.fail(Unavailable("crashed", accepted=False), at="start")
    async with house(tmp_path, store=store, backends=[backend]) as home:
        store.full["requeue"] = 7
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.DONE
        assert len(backend.submitted) == 2


async def test_values_that_no_store_takes_fail_the_job_and_leave_no_file(tmp_path: Path) -> None:
    backend = OddBackend()
    backend.script = script(ready(), Done(1.0, applied={"width": object()}))  # type: ignore[dict-item]
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        assert result.state is State.FAILED
        assert result.reference
        assert not list((tmp_path / "pictures").iterdir())


async def test_a_full_disk_for_pictures_delays_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bot.core import pictures

    failures: list[OSError] = [OSError(28, "No space left on device")] * 3
    write = pictures.write_file

    def failing(path: Path, data: bytes) -> None:
        if failures and any(path.parent.iterdir()):
            raise failures.pop()
        write(path, data)

    monkeypatch.setattr(pictures, "write_file", failing)
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("a flat colour --count 2", key="k")
        result = await shown(home, "k")
        assert len(result.pictures) == 2
        assert len(backend.submitted) == 1
        assert len(list((tmp_path / "pictures").iterdir())) == 2


# --- cancelling -------------------------------------------------------------------------------------------


async def test_a_cancel_while_the_message_is_made_keeps_the_job_out_of_the_queue(tmp_path: Path) -> None:
    store, backend = TroubledStore(), FakeBackend()
    async with house(tmp_path, store=store, backends=[backend]) as home:
        home.page("k").failures["prepare"] = [Unavailable("platform down")]
        ticket = await home.ask("a flat colour", key="k")
        held = store.hold("finish")
        cancelling = asyncio.ensure_future(home.studio.cancel(ticket.group_id, ANN))
        await held.reached.wait()
        await home.until_passing(lambda: home.page("k").prepared == 1)  # meanwhile the platform is back
        held.release()
        await cancelling
        assert (await shown(home, "k")).state is State.CANCELLED
        assert backend.submitted == []
        await home.ask("the next one", key="next")
        assert (await shown(home, "next")).state is State.DONE


async def test_a_cancel_goes_on_when_whoever_asked_goes_away(tmp_path: Path) -> None:
    store, backend = TroubledStore(), FakeBackend()
    backend.hold("start")
    async with house(tmp_path, store=store, backends=[backend]) as home:
        await home.ask("in the way")
        ticket = await home.ask("a flat colour", key="k")
        held = store.hold("finish")
        cancelling = asyncio.ensure_future(home.studio.cancel(ticket.group_id, ANN))
        await held.reached.wait()
        cancelling.cancel()
        held.release()
        result = await home.notebook.delivered("k")
        assert result.state is State.CANCELLED


@pytest.mark.parametrize("trouble", ["unsupported", "requested", "broken", "stuck"])
async def test_a_backend_that_does_not_cancel_is_left_behind(tmp_path: Path, trouble: str) -> None:
    backend, never = OddBackend(), asyncio.Event()

    async def busy() -> AsyncIterator[Event]:
        while True:  # it goes on telling its progress, and never ends
            yield Progress(0.5)
            await home.clock.clock.sleep(1.0)

    backend.script = busy
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").shown))
        if trouble in ("broken", "stuck"):
            getattr(backend, trouble).add("cancel")
        else:
            backend.cancel_says = CancelOutcome(trouble)
        cancelling = asyncio.ensure_future(home.studio.cancel(ticket.group_id, ANN))
        assert (await shown(home, "k", steps=60)).state is State.CANCELLED
        await cancelling
        never.set()
        backend.script = None
        await home.ask("the next one", key="next")
        assert (await shown(home, "next")).state is State.DONE


async def test_a_cancel_that_comes_too_late_lets_the_picture_come(tmp_path: Path) -> None:
    store, backend = TroubledStore(), OddBackend()
    async with house(tmp_path, store=store, backends=[backend]) as home:
        held = store.hold("finish")
        ticket = await home.ask("a flat colour", key="k")
        await home.until(held.reached.is_set)
        for outcome in (CancelOutcome.TOO_LATE, CancelOutcome.UNSUPPORTED):
            backend.cancel_says = outcome
            await home.studio.cancel(ticket.group_id, ANN)
        await home.clock.advance(60.0)
        held.release()
        result = await shown(home, "k")
        assert result.state is State.DONE
        assert result.message == ""


async def test_a_cancelled_job_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    store, backend = TroubledStore(), OddBackend()
    backend.cancel_says = CancelOutcome.TOO_LATE
    hold = backend.hold("start")
    backend.fail(Unavailable("crashed", accepted=False), at="start")
    async with house(tmp_path, store=store, backends=[backend]) as home:
        ticket = await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        await home.studio.cancel(ticket.group_id, ANN)
        hold.release()
        assert (await shown(home, "k")).state is State.CANCELLED
        assert len(backend.submitted) == 1


async def test_a_cancel_during_a_job_s_return_to_the_queue_ends_it(tmp_path: Path) -> None:
    store, backend = TroubledStore(), FakeBackend()
    backend.fail(Unavailable("crashed", accepted=False), at="start")
    async with house(tmp_path, store=store, backends=[backend]) as home:
        held = store.hold("requeue")
        ticket = await home.ask("a flat colour", key="k")
        await home.until(held.reached.is_set)
        await home.studio.cancel(ticket.group_id, ANN)
        held.release()
        assert (await shown(home, "k")).state is State.CANCELLED
        assert len(backend.submitted) == 1


async def test_a_group_is_cancelled_whole_where_one_runs_one_ended_and_others_wait(tmp_path: Path) -> None:
    backend = FakeBackend()
    first = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await home.ask("a {red, green, blue, white} star", key="k")
        await home.until(first.reached.is_set)
        second = backend.hold("start")
        first.release()
        await home.until(second.reached.is_set)
        await asyncio.gather(
            *(home.studio.cancel(ticket.group_id, ANN) for _ in range(2)), return_exceptions=True
        )
        result = await shown(home, "k")
        assert (result.state, len(result.pictures)) == (State.DONE, 1)
        assert len(backend.submitted) == 2


async def test_a_cancelled_job_is_charged_what_it_used_and_a_failed_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, go = OddBackend(), asyncio.Event()
    backend.script = script(Progress(0.5), then=go)
    backend.cancel_says = CancelOutcome.UNSUPPORTED
    async with house(tmp_path, backends=[backend]) as home:
        charged: dict[str, float] = {}
        complete = home.queue.complete

        def noted(job_id: str, actual: float) -> None:
            charged[job_id] = actual
            complete(job_id, actual)

        monkeypatch.setattr(home.queue, "complete", noted)
        ticket = await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").shown))
        cost = home.desk.groups[ticket.group_id].jobs[0].cost
        await home.studio.cancel(ticket.group_id, ANN)
        await shown(home, "k")
        backend.script = script(Progress(0.9))
        backend.fail(ProtocolError("nonsense"), at="submit")
        other = await home.ask("a flat colour", key="k2")
        assert (await shown(home, "k2")).state is State.FAILED
        assert charged == {f"{ticket.group_id}-0": cost / 2, f"{other.group_id}-0": 0.0}


# --- backends with bugs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["capabilities", "health"])
@pytest.mark.parametrize("trouble", ["broken", "stuck"])
async def test_one_backend_that_cannot_be_asked_does_not_stop_the_others(
    tmp_path: Path, method: str, trouble: str
) -> None:
    odd, good = OddBackend("fake:odd"), FakeBackend("fake:good")
    async with house(tmp_path, backends=[odd, good]) as home:
        getattr(odd, trouble).add(method)
        await home.clock.advance(5.0)
        hold = good.hold("start")
        odd.fail(Unavailable("down", accepted=False), at="submit", times=99)
        await home.ask("a flat colour", key="k")
        await home.until_passing(hold.reached.is_set)
        waiting = await home.ask("another", user="bob")
        await home.until_passing(  # ticks go on
            lambda: getattr(home.studio.status(waiting.group_id), "position", None) is not None, steps=60
        )
        hold.release()
        assert (await shown(home, "k")).state is State.DONE


async def test_a_backend_that_is_down_at_the_start_is_used_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.app.ASK_MOST", 0.05)
    stuck, broken = OddBackend("fake:stuck"), OddBackend("fake:broken")
    stuck.stuck.add("capabilities")
    broken.broken.add("capabilities")
    async with house(tmp_path, backends=[stuck, broken]) as home:
        with pytest.raises(Unavailable, match="No backend"):
            await home.ask("a flat colour")
        broken.broken.clear()
        await home.clock.advance(2.0)
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.DONE


@pytest.mark.parametrize(
    "events",
    [
        [Progress(math.nan), ready(), Done(math.nan, money=math.nan)],
        [Progress(-3.0), ready(), Done(-1.0)],
        [Progress(math.inf), ready(), ready(5), ready(-1), Done(math.inf)],
    ],
)
async def test_nonsense_numbers_of_a_backend_do_no_harm(tmp_path: Path, events: list[Event]) -> None:
    backend = OddBackend()
    backend.script = script(*events)
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        assert (result.state, len(result.pictures), result.device_seconds) == (State.DONE, 1, 0.0)


@pytest.mark.parametrize("method", ["submit", "events"])
async def test_a_bug_of_a_backend_fails_one_job_with_a_reference(tmp_path: Path, method: str) -> None:
    backend = OddBackend()
    async with house(tmp_path, backends=[backend]) as home:
        backend.broken.add(method)
        await home.ask("a flat colour", key="k")
        result = await shown(home, "k")
        assert (result.state, bool(result.reference)) == (State.FAILED, True)
        backend.broken.clear()
        await home.ask("the next one", key="next")
        assert (await shown(home, "next")).state is State.DONE


async def test_what_was_sent_and_not_answered_is_never_sent_again(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.fail(Unavailable("no answer"), at="submit")
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.FAILED
        assert len(backend.submitted) == 1


async def test_a_job_that_its_backend_cancelled_is_not_made_again(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.fail(Cancelled("Cancelled there.", accepted=True), at="start")
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.CANCELLED
        assert len(backend.submitted) == 1


async def test_a_backend_that_never_answers_a_submit_gives_its_slot_back(tmp_path: Path) -> None:
    backend = OddBackend()
    async with house(tmp_path, backends=[backend], job_timeout=30.0) as home:
        backend.stuck.add("submit")
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k", step=2.0)).state is State.FAILED
        backend.stuck.clear()
        await home.ask("the next one", key="next")
        assert (await shown(home, "next")).state is State.DONE


async def test_a_silent_job_that_may_go_on_there_is_not_made_twice(tmp_path: Path) -> None:
    backend, never = OddBackend(), asyncio.Event()
    backend.script = script(then=never)
    backend.cancel_says = CancelOutcome.UNSUPPORTED
    async with house(tmp_path, backends=[backend], job_timeout=30.0) as home:
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k", step=2.0)).state is State.FAILED
        assert len(backend.submitted) == 1


async def test_a_rate_limit_holds_while_other_jobs_succeed_and_leaves_other_backends_alone(
    tmp_path: Path,
) -> None:
    limited, other = FakeBackend("fake:limited", slots=2), FakeBackend("fake:other", slots=1)
    async with house(tmp_path, backends=[limited, other]) as home:
        hold = other.hold("start")
        await home.ask("in the way", user="bob", key="in the way")
        limited.fail(RateLimited("slow down", retry_after=600.0, accepted=False), at="submit", times=99)
        await home.until_passing(lambda: bool(limited.submitted) or bool(other.submitted))
        await home.ask("a flat colour", key="k")
        await home.until_passing(hold.reached.is_set)
        hold.release()
        assert (await shown(home, "k", steps=40)).backend == "fake:other"
        assert len(limited.submitted) <= 2


def test_a_rate_limit_without_a_wait_rests_longer_each_time() -> None:
    lane = Lane(FakeBackend())
    rests = []
    for _ in range(10):
        lane.failed(RateLimited("slow down", retry_after=0.0, accepted=False), 0.0)
        rests.append(lane.rest_until)
    assert rests == sorted(rests)
    assert rests[0] > 0
    assert rests[-1] == 60


# --- silence that is none ---------------------------------------------------------------------------------


async def test_a_job_that_waits_behind_a_batch_is_not_silent(tmp_path: Path) -> None:
    backend = FakeBackend(slots=2)
    async with house(tmp_path, backends=[backend], job_timeout=30.0) as home:
        hold = backend.hold("start")
        await home.ask("first", key="first")
        await home.ask("second", user="bob", key="second")
        await home.until(lambda: len(backend.jobs) == 2)
        busy, _ = backend.jobs.values()
        for step in range(20):
            await home.clock.advance(10.0)
            busy.say(Progress(step / 20))
        assert backend.cancelled == []
        hold.release()
        assert (await shown(home, "second")).state is State.DONE


async def test_a_job_that_waits_inside_a_hosted_backend_lives_by_its_neighbours(tmp_path: Path) -> None:
    backend, go = OddBackend(slots=1), asyncio.Event()
    backend.script = script(Queued(3), then=go)
    async with house(tmp_path, backends=[backend], job_timeout=30.0) as home:
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").shown))
        await home.until_passing(lambda: bool(backend.asked["cancel"]), step=5.0, steps=40)
        go.set()


async def test_loading_a_model_for_minutes_is_not_silence(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    backend.ok = Health(True, loading=True)
    async with house(tmp_path, backends=[backend], job_timeout=30.0) as home:
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        for _ in range(30):
            await home.clock.advance(10.0)
        assert backend.cancelled == []
        backend.ok = Health(True)
        hold.release()
        assert (await shown(home, "k")).state is State.DONE
        assert len(backend.submitted) == 1


# --- jobs that nobody can run, and other ghosts -------------------------------------------------------------


async def test_a_job_whose_model_is_gone_fails_and_says_so(tmp_path: Path) -> None:
    other = Model("other", "Other", 64, 64, 4, 7.5)
    backend = FakeBackend(models=(FAKE_MODEL, other))
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        await home.ask("a flat colour --model other", key="k")
        backend.models = (FAKE_MODEL,)
        result = await shown_while_busy(home, "k")
        assert result.state is State.FAILED
        assert "other" in result.message
        hold.release()


async def shown_while_busy(home: House, key: str) -> ImageResult:
    """As shown(), where other jobs are still in hand."""
    await home.until_passing(lambda: bool(home.page(key).delivered), steps=400)
    home.check()
    return home.page(key).delivered[0]


async def test_jobs_wait_for_a_backend_that_offers_nothing_for_a_while(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        await home.ask("a flat colour", key="k")
        backend.models = ()
        await home.clock.advance(5.0)
        hold.release()
        for _ in range(30):
            await home.clock.advance(10.0)
        assert home.page("k").delivered == []
        backend.models = (FAKE_MODEL,)
        assert (await shown(home, "k")).state is State.DONE


async def test_an_unknown_job_in_the_queue_does_not_stop_the_others(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        home.queue.push(Entry("ghost", "notebook:g1", "notebook:ann", 1.0))
        await home.clock.advance(2.0)
        await home.ask("a flat colour", key="k")
        assert (await shown(home, "k")).state is State.DONE
        assert home.queue.running() == 0


async def test_an_ended_group_holds_no_pictures_in_memory(tmp_path: Path) -> None:
    async with house(tmp_path, store=MemoryStore()) as home:
        home.page("k").failures["deliver"] = [Unavailable("platform down") for _ in range(3)]
        ticket = await home.ask("a flat colour --count 4", key="k")
        await home.until(lambda: home.desk.groups[ticket.group_id].ended)
        (job,) = home.desk.groups[ticket.group_id].jobs
        assert (job.images, job.preview) == ({}, None)
        await shown(home, "k")


async def test_the_time_shown_for_a_running_job_never_lies_in_the_past(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], job_timeout=10_000.0) as home:
        ticket = await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        for _ in range(60):
            await home.clock.advance(5.0)
            status = home.studio.status(ticket.group_id)
            assert status is not None
            assert status.by is not None
            assert status.by > home.clock.time
        hold.release()


async def test_a_group_s_time_is_that_of_its_last_job_and_its_place_that_of_its_first(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        one = await home.ask("a star", user="cy", key="one")
        four = await home.ask("a {red, green, blue, white} star", user="dee", key="four")
        await home.clock.advance(2.0)
        statuses = [home.studio.status(ticket.group_id) for ticket in (one, four)]
        first, second = [status.position for status in statuses if status and status.position]
        assert (first.ahead, second.ahead, second.own_rank, second.own_total) == (0, 1, 1, 4)
        assert second.high > 2 * first.high
        hold.release()
