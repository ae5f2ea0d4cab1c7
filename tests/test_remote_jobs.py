"""Jobs at a service that is submitted to, polled and collected from, with a service of a few lines: what
becomes of progress, cancels, crashes and reports, whatever the wire format."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from backends import _following, _jobs, _remote
from backends._http import Expired, Http, Missing
from backends._remote import Remote
from backends._wire import (
    Ended,
    Facts,
    Finished,
    Found,
    Handle,
    Look,
    Waiting,
    Wire,
    Working,
    one_by_one,
)
from bot.core.errors import (
    AuthFailed,
    Cancelled,
    ContentRejected,
    FairbrushError,
    Fault,
    InvalidRequest,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.ports import (
    CancelOutcome,
    Capabilities,
    Done,
    Event,
    ImageReady,
    ImageRejected,
    Model,
    Price,
    Progress,
    Queued,
    RemoteRef,
    Taken,
)
from bot.core.request import ImageRequest
from tests.backend_contract import collect
from tests.fakes.backend import flat_png
from tests.fakes.clock import HurriedClock, settle

REQUEST = ImageRequest("a fox", 16, 16, 4, 7.5, seed=5)
PICTURE = base64.b64encode(flat_png(16, 16, 5)).decode()


@dataclass
class Paintbox(Wire):
    """A service: looks are what it says, in turn, the last for ever; gate: POSTs wait for it."""

    findable: bool = False
    looks: dict[str, list[Look | Exception]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    polled: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    there: dict[str, Handle] = field(default_factory=dict)
    outcome: CancelOutcome = CancelOutcome.CANCELLED
    parts: bool = False
    price: Price | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    errors: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def offered(self, http: Http) -> Capabilities:
        model = Model("m", "M", 16, 16, 4, 7.5, price=self.price)
        return Capabilities((model,), progress=True, cancel=True, resumable=True)

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        return one_by_one(request) if self.parts else (request,)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        self.sent.append(ticket)
        self.reached.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.there[ticket] = {"n": str(len(self.sent) - 1)}
        return self.there[ticket]

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        number = str(job["n"])
        self.polled.append(number)
        looks = self.looks.get(number) or [finished(facts)]
        look = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(look, Exception):
            raise look
        return look

    async def find(self, http: Http, ticket: str, facts: Facts) -> Handle | None:
        return self.there.get(ticket)

    async def stop(self, http: Http, job: Handle) -> CancelOutcome:
        self.stopped.append(str(job["n"]))
        return self.outcome


def finished(facts: Facts | None = None, **more: object) -> Finished:
    """All pictures of a job."""
    count = facts.count if facts is not None else 1
    return replace(Finished(tuple(Found(index, base64=PICTURE) for index in range(count))), **more)  # type: ignore[arg-type]


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


def another(box: Paintbox, clock: HurriedClock) -> Remote:
    """A backend on the same service, as after a restart."""
    return Remote("box:", box, Http("http://127.0.0.1:9", service="Paintbox"), clock=clock.clock)


async def run(remote: Remote, request: ImageRequest = REQUEST) -> list[Event]:
    """A whole job."""
    return await collect(remote.events(await remote.submit(request, job_id="j")))


async def until(remote: Remote, ref: RemoteRef, number: int) -> list[Event]:
    """The first events of a job, whose watcher then leaves."""
    stream = cast("AsyncGenerator[Event, None]", remote.events(ref))
    async with aclosing(stream) as events:
        return [await anext(events) for _ in range(number)]


def stored(event: Event) -> RemoteRef:
    """A stored reference, as it is read again."""
    assert isinstance(event, Taken)
    return RemoteRef(event.ref.backend, json.loads(json.dumps(event.ref.data)))


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
        (Finished(()), ProtocolError, True),
        (Finished((Found(3, base64=PICTURE),)), ProtocolError, True),
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


# --- what is never made twice, and what never ends --------------------------------------------------------


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
