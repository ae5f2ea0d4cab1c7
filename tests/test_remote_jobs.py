"""Jobs at a service that is submitted to, polled and collected from, with a service of a few lines: what
becomes of progress, cancels, crashes and reports, whatever the wire format."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

import pytest

from backends import _remote
from backends._remote import Remote
from backends._wire import (
    Ended,
    Finished,
    Found,
    Look,
    Waiting,
    Working,
)
from bot.core.errors import (
    Cancelled,
    ContentRejected,
    Fault,
    ProtocolError,
    Unavailable,
)
from bot.core.ports import (
    CancelOutcome,
    Done,
    Event,
    ImageReady,
    ImageRejected,
    Price,
    Progress,
    Queued,
    Taken,
)
from tests.backend_contract import collect
from tests.fakes.clock import HurriedClock
from tests.fakes.paintbox import PICTURE, REQUEST, Paintbox, another, finished, run, stored, until


@pytest.fixture
def box() -> Paintbox:
    """The service."""
    return Paintbox()


@pytest.fixture
def clock() -> HurriedClock:
    """Time that jumps over waits."""
    return HurriedClock()


@pytest.fixture
async def remote(box: Paintbox, clock: HurriedClock) -> AsyncIterator[Remote]:
    """The backend."""
    made = another(box, clock)
    yield made
    await made.aclose()


async def test_queue_progress_and_pictures_are_told_as_they_come(box: Paintbox, remote: Remote) -> None:
    picture = Found(0, base64=PICTURE)
    box.looks["0"] = [
        Waiting(2, 9.0),
        Waiting(0),
        Working(0.5, step=2, total=4),
        Working(0.25),
        Working(0.75, pictures=(picture,)),
        Finished((picture, Found(1, base64=PICTURE, seed=77), Found(2, base64=PICTURE))),
    ]
    events = await run(remote, replace(REQUEST, count=2))
    told = [event for event in events if not isinstance(event, Taken | ImageReady | Done)]
    assert told == [
        Queued(2, 9.0),
        Queued(0),
        Progress(0.5, step=2, total=4),
        Progress(0.5),
        Progress(0.75),
    ]
    assert [(e.index, e.seed) for e in events if isinstance(e, ImageReady)] == [(0, 5), (1, 77)]


async def test_what_the_service_reports_is_what_is_charged(box: Paintbox, remote: Remote) -> None:
    box.price = Price(per_image=1.0)
    box.looks["0"] = [
        finished(device_seconds=2.5, money=0.01, model="m-large", notes=("Warm.",), applied={"steps": 3})
    ]
    done = (await run(remote))[-1]
    assert done == Done(2.5, 0.01, "m-large", ("Warm.",), {"steps": 3})


async def test_without_a_report_the_price_and_the_time_at_work_count(
    box: Paintbox, remote: Remote, clock: HurriedClock
) -> None:
    box.price = Price(per_image=0.01, per_second=1.0)
    box.looks["0"] = [*[Waiting(1)] * 30, *[Working(None)] * 3, finished()]
    done = (await run(remote))[-1]
    assert isinstance(done, Done)
    assert 0 < done.device_seconds <= 21 < clock.ahead  # four polls of at most five seconds; not the queue
    assert done.money == pytest.approx(0.01 + done.device_seconds)


async def test_parts_share_one_progress(box: Paintbox, remote: Remote) -> None:
    box.parts = True
    box.looks = {"0": [Working(0.5), finished()], "1": [Working(0.0), Working(0.5), finished()]}
    events = await run(remote, replace(REQUEST, count=2))
    assert [e.fraction for e in events if isinstance(e, Progress)] == [0.25, 0.75]
    assert [(e.index, e.seed) for e in events if isinstance(e, ImageReady)] == [(0, 5), (1, 6)]


async def test_a_picture_that_the_service_kept_back_is_told(box: Paintbox, remote: Remote) -> None:
    box.looks["0"] = [
        Finished((Found(0, rejected="Not suitable."), Found(1, base64=PICTURE, rejected="Hm.")))
    ]
    events = await run(remote, replace(REQUEST, count=2))
    rejected = [event for event in events if isinstance(event, ImageRejected)]
    assert [(event.index, event.reason, event.data is not None) for event in rejected] == [
        (0, "Not suitable.", False),
        (1, "Hm.", True),
    ]
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize(
    ("look", "kind", "accepted"),
    [
        (Ended(ContentRejected("No.", accepted=True)), ContentRejected, True),
        (Finished(()), ProtocolError, None),
        (Finished((Found(3, base64=PICTURE),)), ProtocolError, None),
        (Finished((Found(0, base64="x"),)), ProtocolError, None),
    ],
)
async def test_an_end_without_pictures_is_an_error(
    box: Paintbox, remote: Remote, look: Look, kind: type[Fault], accepted: bool | None
) -> None:
    box.looks["0"] = [Working(0.5), look]
    with pytest.raises(kind) as caught:
        await run(remote)
    assert caught.value.accepted is accepted
    assert len(box.sent) == 1


async def test_fewer_pictures_than_asked_for_are_told(box: Paintbox, remote: Remote) -> None:
    box.looks["0"] = [Finished((Found(0, base64=PICTURE), Found(1, base64="x")))]
    events = await run(remote, replace(REQUEST, count=2))
    assert [event.index for event in events if isinstance(event, ImageReady)] == [0]
    assert isinstance(events[-1], Done)
    assert events[-1].notes[0].startswith("1 of 2 pictures were made. ")


# --- cancelling -------------------------------------------------------------------------------------------


async def test_a_cancel_while_the_job_is_sent_stops_it_once_it_is_known(
    box: Paintbox, remote: Remote
) -> None:
    box.gate.clear()
    box.looks["0"] = [Working(0.1)]
    ref = await remote.submit(REQUEST, job_id="j")
    watching = asyncio.ensure_future(collect(remote.events(ref)))
    await box.reached.wait()
    cancelling = asyncio.ensure_future(remote.cancel(ref))
    await asyncio.sleep(0)
    box.gate.set()
    assert await cancelling is CancelOutcome.CANCELLED
    with pytest.raises(Cancelled):
        await watching
    assert box.stopped == ["0"]


async def test_a_post_that_outlasts_a_cancel_is_stopped_all_the_same(
    box: Paintbox, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_remote, "CANCEL_PATIENCE", 0.01)
    box.gate.clear()
    box.looks["0"] = [Working(0.1)]
    ref = await remote.submit(REQUEST, job_id="j")
    watching = asyncio.ensure_future(collect(remote.events(ref)))
    await box.reached.wait()
    assert await remote.cancel(ref) is CancelOutcome.REQUESTED
    box.gate.set()
    with pytest.raises(Cancelled):
        await watching
    assert box.stopped == ["0"]


async def test_a_cancel_wakes_a_watcher_that_waits(
    box: Paintbox, remote: Remote, clock: HurriedClock
) -> None:
    box.looks["0"] = [Working(0.1)]
    ref = await remote.submit(REQUEST, job_id="j")
    stream = cast("AsyncGenerator[Event, None]", remote.events(ref))
    async with aclosing(stream) as events:
        await anext(events)
        assert await remote.cancel(ref) is CancelOutcome.CANCELLED
        assert await remote.cancel(ref) is CancelOutcome.CANCELLED
        with pytest.raises(Cancelled) as caught:
            await collect(events)
    assert caught.value.accepted is True
    assert box.stopped == ["0"]
    assert box.polled == []


@pytest.mark.parametrize("won", [True, False])
async def test_a_requested_cancel_may_lose_to_the_picture(box: Paintbox, remote: Remote, won: bool) -> None:
    box.outcome = CancelOutcome.REQUESTED
    box.looks["0"] = [
        Working(0.1),
        finished() if won else Ended(Unavailable("Aborted.", accepted=True)),
    ]
    ref = await remote.submit(REQUEST, job_id="j")
    await until(remote, ref, 2)
    assert await remote.cancel(ref) is CancelOutcome.REQUESTED
    if won:
        assert sum(isinstance(event, ImageReady) for event in await collect(remote.events(ref))) == 1
    else:
        with pytest.raises(Cancelled):
            await collect(remote.events(ref))


async def test_a_job_of_an_earlier_run_can_be_cancelled(
    box: Paintbox, remote: Remote, clock: HurriedClock
) -> None:
    box.looks["0"] = [Working(0.1)]
    taken, _ = await until(remote, await remote.submit(REQUEST, job_id="j"), 2)
    after = another(box, clock)
    assert await after.cancel(stored(taken)) is CancelOutcome.CANCELLED
    with pytest.raises(Cancelled):
        await collect(after.events(stored(taken)))
    await after.aclose()


# --- restarts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("findable", "accepted"), [(True, False), (False, None)])
async def test_a_crash_before_the_answer_leaves_doubt_unless_the_service_can_tell(
    box: Paintbox, remote: Remote, clock: HurriedClock, findable: bool, accepted: bool | None
) -> None:
    box.findable = findable
    ref = await remote.submit(REQUEST, job_id="j")
    after = another(box, clock)
    with pytest.raises(Unavailable) as caught:
        await collect(after.events(ref))
    assert caught.value.accepted is accepted
    assert box.sent == []
    await after.aclose()


async def test_a_job_that_was_taken_unheard_is_found_again(
    box: Paintbox, remote: Remote, clock: HurriedClock
) -> None:
    box.findable = True
    ref = await remote.submit(REQUEST, job_id="j")
    await until(remote, ref, 1)
    after = another(box, clock)
    events = await collect(after.events(ref))  # the reference from before the POST
    assert isinstance(events[0], Taken)
    assert isinstance(events[-1], Done)
    assert len(box.sent) == 1
    await after.aclose()


async def test_a_failed_send_is_not_repeated_by_watching_again(box: Paintbox, remote: Remote) -> None:
    box.errors = [Unavailable("The connection broke.", accepted=None)]
    ref = await remote.submit(REQUEST, job_id="j")
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await collect(remote.events(ref))
        assert caught.value.accepted is None
    assert len(box.sent) == 1


async def test_one_part_out_of_reach_costs_the_others_nothing(
    box: Paintbox, remote: Remote, clock: HurriedClock
) -> None:
    box.parts = True
    box.looks["0"] = [Unavailable("502")]
    events = await run(remote, replace(REQUEST, count=2))
    assert [event.index for event in events if isinstance(event, ImageReady)] == [1]
    assert isinstance(events[-1], Done)
    assert "may have been made and charged" in events[-1].notes[0]


async def test_many_jobs_are_polled_no_more_often_together(
    box: Paintbox, remote: Remote, clock: HurriedClock
) -> None:
    box.looks = {str(number): [Working(0.1)] for number in range(30)}
    box.parts = True
    three = replace(REQUEST, count=3)
    streams = []
    for number in range(10):
        ref = await remote.submit(three, job_id=f"j{number}")
        streams.append(cast("AsyncGenerator[Event, None]", remote.events(ref)))
        for _ in range(3):
            await anext(streams[-1])
    clock.slept.clear()
    await anext(streams[-1])
    assert clock.slept[0] >= 10.0  # thirty remote jobs, three polls a second
    for stream in streams:
        await stream.aclose()
    await until(remote, ref, 2)
    clock.slept.clear()
    await until(remote, ref, 2)
    assert clock.slept[0] <= 1.0  # what nobody watches is not polled, and slows nobody down
