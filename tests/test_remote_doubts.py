"""Jobs at a service that is polled: what is never made twice, and what neither waits nor grows for ever."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

from backends import _following, _jobs
from backends._http import Expired, Http, Missing
from backends._remote import Remote
from backends._wire import (
    Ended,
    Finished,
    Found,
    Handle,
    Look,
    Waiting,
    Working,
)
from bot.core.errors import (
    AuthFailed,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.ports import (
    CancelOutcome,
    Done,
    Event,
    ImageReady,
    Price,
    Queued,
)
from bot.core.request import ImageRequest
from tests.backend_contract import collect
from tests.fakes.backend import flat_png
from tests.fakes.clock import HurriedClock, settle
from tests.fakes.paintbox import REQUEST, Paintbox, another, finished, run, stored, until


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


async def test_one_part_in_doubt_leaves_the_whole_job_in_doubt(box: Paintbox, remote: Remote) -> None:
    box.parts = True
    box.looks["0"] = [Finished((Found(0, base64="x"),))]  # made, and no picture
    box.looks["1"] = [Working(0.1), Working(0.1), Ended(Unavailable("Broken.", accepted=True))]
    with pytest.raises(ProtocolError) as caught:
        await run(remote, replace(REQUEST, count=2))
    assert caught.value.accepted is None


@pytest.mark.parametrize(
    "refusal", [QuotaExceeded("No credit left."), InvalidRequest("A refusal."), AuthFailed("No key.")]
)
async def test_a_refused_poll_does_not_say_that_the_job_was_not_made(
    box: Paintbox, remote: Remote, refusal: FairbrushError
) -> None:
    box.looks["0"] = [Working(0.1), refusal]
    with pytest.raises(Unavailable, match="may have been made and charged") as caught:
        await run(remote)
    assert caught.value.accepted is None


@pytest.mark.parametrize(("price", "accepted"), [(None, False), (Price(), False), (Price(0.01), None)])
async def test_a_job_that_a_paid_service_lost_is_in_doubt(
    box: Paintbox, remote: Remote, price: Price | None, accepted: bool | None
) -> None:
    box.price = price
    box.looks["0"] = [Working(0.1), Missing("Nothing there.")]
    with pytest.raises(Unavailable, match="has lost the job") as caught:
        await run(remote)
    assert caught.value.accepted is accepted


@pytest.mark.parametrize(
    ("outcome", "accepted"), [(CancelOutcome.CANCELLED, False), (CancelOutcome.UNSUPPORTED, None)]
)
@pytest.mark.parametrize("look", [Waiting(1), Working(0.5), RateLimited("Too often.", retry_after=1e9)])
async def test_a_job_that_nothing_comes_of_is_stopped_and_given_up(
    box: Paintbox,
    remote: Remote,
    clock: HurriedClock,
    monkeypatch: pytest.MonkeyPatch,
    look: Look | Exception,
    outcome: CancelOutcome,
    accepted: bool | None,
) -> None:
    monkeypatch.setattr(_following, "PATIENCE", 100.0)
    monkeypatch.setattr(_following, "LONGEST_WAIT", 110.0)
    box.looks["0"], box.outcome = [look], outcome
    with pytest.raises(TimedOut) as caught:
        await run(remote)
    assert caught.value.accepted is accepted
    assert ("charged" in caught.value.message) is (accepted is None)
    assert box.stopped == ["0"]
    assert 90 <= clock.ahead < 120


@pytest.mark.parametrize(("hours", "complete"), [(0.01, True), (0.1, False)])
async def test_a_picture_that_cannot_be_fetched_is_worth_another_look(
    box: Paintbox, remote: Remote, clock: HurriedClock, hours: float, complete: bool
) -> None:
    box.looks["0"] = [Finished((Found(0, url="https://cdn.example/0.png"),))]

    async def picture(url: str) -> tuple[bytes, str]:
        if clock.ahead < hours * 3600:
            await clock.clock.sleep(10)
            raise Unavailable("The picture could not be fetched.", accepted=None)
        return flat_png(16, 16, 5), "image/png"

    remote.http.picture = picture  # type: ignore[method-assign]
    if complete:
        assert sum(isinstance(event, ImageReady) for event in await run(remote)) == 1
    else:
        with pytest.raises(Unavailable) as caught:
            await run(remote)
        assert caught.value.accepted is None


@pytest.mark.parametrize(
    "trouble",
    [RateLimited("Too often."), Missing("Gone.", accepted=False), AuthFailed("No."), ProtocolError("?")],
)
async def test_trouble_with_a_fresh_link_does_not_unmake_the_picture(
    box: Paintbox, remote: Remote, monkeypatch: pytest.MonkeyPatch, trouble: FairbrushError
) -> None:
    monkeypatch.setattr(_following, "PATIENCE", 100.0)
    links = Finished((Found(0, url="https://cdn.example/0.png"),))
    box.looks["0"] = [links, trouble]

    async def picture(url: str) -> tuple[bytes, str]:
        raise Expired("The link does not work any more.", accepted=None)

    remote.http.picture = picture  # type: ignore[method-assign]
    box.price = Price(0.01)
    with pytest.raises((Unavailable, TimedOut)) as caught:
        await run(remote)
    assert caught.value.accepted is None
    assert len(box.sent) == 1


async def test_a_fresh_link_that_comes_late_brings_the_picture(box: Paintbox, remote: Remote) -> None:
    links = Finished((Found(0, url="https://cdn.example/0.png"),))
    box.looks["0"] = [links, RateLimited("Too often."), links]
    fetched: list[str] = []

    async def picture(url: str) -> tuple[bytes, str]:
        fetched.append(url)
        if len(fetched) == 1:
            raise Expired("The link does not work any more.", accepted=None)
        return flat_png(16, 16, 5), "image/png"

    remote.http.picture = picture  # type: ignore[method-assign]
    assert sum(isinstance(event, ImageReady) for event in await run(remote)) == 1


async def test_all_parts_are_stopped_though_one_cannot_be(box: Paintbox, remote: Remote) -> None:
    box.parts = True
    box.looks = {str(number): [Working(0.1)] for number in range(3)}
    ref = await remote.submit(replace(REQUEST, count=3), job_id="j")
    await until(remote, ref, 4)
    stop = box.stop

    async def stubborn(http: Http, job: Handle) -> CancelOutcome:
        if job["n"] == "0":
            raise TimedOut("No answer.")
        return await stop(http, job)

    box.stop = stubborn  # type: ignore[method-assign]
    with pytest.raises(TimedOut):
        await remote.cancel(ref)
    assert box.stopped == ["1", "2"]


async def test_closing_leaves_a_job_that_was_taken_in_doubt(
    box: Paintbox, remote: Remote, clock: HurriedClock
) -> None:
    box.looks["0"] = [Working(0.1)]
    ref = await remote.submit(REQUEST, job_id="j")
    stream = cast("AsyncGenerator[Event, None]", remote.events(ref))
    taken = await anext(stream)
    await remote.aclose()
    for watched in (stream, remote.events(stored(taken))):
        with pytest.raises(Unavailable) as caught:
            await anext(watched)
        assert caught.value.accepted is None
    assert not [seconds for seconds in clock.slept if seconds > 1]


async def test_a_queue_longer_than_any_is_told_as_a_number_that_can_be_read(
    box: Paintbox, remote: Remote
) -> None:
    box.looks["0"] = [Waiting(10**300), finished()]
    (queued,) = [event for event in await run(remote) if isinstance(event, Queued)]
    assert queued.ahead == 1_000_000


async def test_what_failed_holds_no_memory(box: Paintbox, remote: Remote) -> None:
    class Body:
        pass

    bodies: list[weakref.ref[Body]] = []

    async def send(http: Http, request: ImageRequest, ticket: str) -> Handle:
        body = Body()
        bodies.append(weakref.ref(body))
        raise Unavailable("The service cannot be reached.", accepted=False)

    box.send = send  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await run(remote)
    await settle()  # callbacks that are due hold the error too
    gc.collect()
    assert [body() for body in bodies] == [None]


async def test_jobs_that_nobody_watches_are_forgotten_and_found_again(
    box: Paintbox, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_jobs, "REMEMBERED", 4)
    box.looks = {str(number): [Working(0.1)] for number in range(12)}
    first, *_ = [(await until(remote, await remote.submit(REQUEST, job_id="j"), 1))[0] for _ in range(12)]
    assert len(remote._jobs.all()) <= 4
    box.looks["0"] = [finished()]
    assert isinstance((await collect(remote.events(stored(first))))[-1], Done)
    assert len(box.sent) == 12
