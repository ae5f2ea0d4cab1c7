"""The behaviour that every backend of a hosted service owes, whatever the service does: inherit
HostedContract and give a `world` fixture. It holds BackendContract's behaviour too.

    class TestStochastic(HostedContract):
        @pytest.fixture
        async def world(self) -> AsyncIterator[World]:
            fake, clock = StochasticFake(), HurriedClock()
            async with hosted_world(fake, clock, lambda: build(..., clock=clock.clock)) as world:
                yield world

The fake inherits tests/fakes/hosted.py and misbehaves as told; troubles in its `cannot` are among what the
class `lacks` too, and their tests are left out. Every test ends with a look at all that was logged, raised
and stored: the key must be nowhere.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
from _pytest.mark import ParameterSet
from PIL import Image

from bot.core.errors import (
    AuthFailed,
    Cancelled,
    FairbrushError,
    Fault,
    ProtocolError,
    QuotaExceeded,
    Unavailable,
)
from bot.core.ports import Backend, CancelOutcome, Done, Event, ImageReady, Price, RemoteRef, Taken
from tests.backend_contract import BackendContract, collect
from tests.fakes.clock import HurriedClock
from tests.fakes.hosted import RETRY_AFTER, HostedFake


@dataclass
class World:
    """One service and the backends on it. open: another backend, as after a restart; seen: errors and
    references, to be searched for the key; shown: what people would read."""

    fake: HostedFake
    clock: HurriedClock
    open: Callable[[], Backend | Awaitable[Backend]]
    backend: Backend
    seen: list[object] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    async def restart(self) -> Backend:
        """The program was restarted: a new backend that knows nothing but references."""
        await self.backend.aclose()
        self.backend = await _opened(self.open)
        return self.backend

    def trouble(self, what: str, times: int = 1) -> None:
        """Misbehave."""
        assert what not in self.fake.cannot, f"the class lacks {what}"
        self.fake.trouble(what, times)


async def _opened(make: Callable[[], Backend | Awaitable[Backend]]) -> Backend:
    made = make()
    return await made if isinstance(made, Awaitable) else made


@asynccontextmanager
async def hosted_world(
    fake: HostedFake, clock: HurriedClock, make: Callable[[], Backend | Awaitable[Backend]]
) -> AsyncGenerator[World, None]:
    """The fake started and a backend on it; both closed afterwards. make: called once the url is known."""
    await fake.start()
    world = None
    try:
        world = World(fake, clock, make, await _opened(make))
        yield world
    finally:
        if world is not None:
            await world.backend.aclose()
        await fake.stop()


def as_stored(ref: RemoteRef) -> RemoteRef:
    """A reference as it comes back from the store."""
    return RemoteRef(ref.backend, json.loads(json.dumps(ref.data, default=dict)))


def each(stage: str, *whats: str) -> list[ParameterSet]:
    """Kinds of trouble in a stage, each left out where the class lacks it."""
    return [pytest.param(what, marks=pytest.mark.needs(f"{stage}:{what}")) for what in whats]


class HostedContract(BackendContract):
    """Inherit this; see the module."""

    @pytest.fixture
    async def backend(self, world: World) -> Backend:
        """The backend, for the behaviour of all backends."""
        return world.backend

    @pytest.fixture(autouse=True)
    def _the_key_is_nowhere(self, world: World, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        assert world.fake.cannot == {what for what in self.lacks if ":" in what}
        caplog.set_level(logging.DEBUG)
        yield
        texts = [repr(one) for one in world.seen]
        texts += [f"{record.getMessage()} {record.exc_info!r}" for record in caplog.records]
        for text in texts:
            assert world.fake.secret not in text
        for message in world.shown:
            assert not set("<>{}") & set(message), message
            assert "Traceback" not in message, message
        assert world.fake.wrong == []

    # --- helpers ------------------------------------------------------------------------------------------

    async def run_job(self, world: World, *, count: int = 1) -> list[Event]:
        """A whole job, its references and its error noted."""
        ref = await world.backend.submit(self.make_request(count=count), job_id="j1")
        return await self.watch(world, ref)

    async def watch(self, world: World, ref: RemoteRef) -> list[Event]:
        """The events of a job to its end, its references and its error noted."""
        world.seen.append(ref)
        try:
            events = await collect(world.backend.events(ref))
        except FairbrushError as error:
            world.seen += [error, error.message, error.detail, "".join(traceback.format_exception(error))]
            world.shown.append(error.message)
            raise
        world.seen += [event.ref for event in events if isinstance(event, Taken)]
        return events

    async def fails(self, world: World, kind: type[FairbrushError], accepted: bool | None) -> FairbrushError:
        """A job that must fail in this way."""
        with pytest.raises(kind) as caught:
            await self.run_job(world)
        assert caught.value.accepted is accepted, repr(caught.value)
        return caught.value

    async def begun(self, world: World, *, count: int = 1) -> RemoteRef:
        """A job that the service has and does not end: its last stored reference. Its watcher has gone."""
        world.fake.hold()
        ref = await world.backend.submit(self.make_request(count=count), job_id="j1")
        stream = cast("AsyncGenerator[Event, None]", world.backend.events(ref))
        async with aclosing(stream) as events, asyncio.timeout(20):
            async for event in events:
                if isinstance(event, Taken):
                    ref = event.ref
                if world.fake.taken and not isinstance(event, Taken):
                    break
        world.seen.append(ref)
        return as_stored(ref)

    # --- handing in ---------------------------------------------------------------------------------------

    async def test_the_reference_is_given_before_and_after_the_job_is_sent(self, world: World) -> None:
        ref = await world.backend.submit(self.make_request(), job_id="j1")
        assert world.fake.attempts == 0
        events = await self.watch(world, ref)
        taken = [event for event in events if isinstance(event, Taken)]
        assert taken
        assert events[0] is taken[0]
        assert as_stored(taken[0].ref).data != as_stored(ref).data
        assert all(event.ref.backend == world.backend.name for event in taken)

    @pytest.mark.parametrize("status", each("submit", "429", "503"))
    async def test_a_busy_service_is_asked_again_when_it_said(self, world: World, status: str) -> None:
        world.trouble(f"submit:{status}", times=2)
        assert isinstance((await self.run_job(world))[-1], Done)
        assert world.fake.taken == 1
        assert sum(seconds >= RETRY_AFTER for seconds in world.clock.slept) >= 2

    @pytest.mark.parametrize("what", each("submit", "500", "html", "truncated", "drop"))
    async def test_a_job_that_may_have_been_taken_is_never_sent_again(self, world: World, what: str) -> None:
        world.trouble(f"submit:{what}")
        await self.fails(world, Fault, None)
        assert world.fake.attempts == 1

    @pytest.mark.needs("submit:401")
    async def test_a_refused_key_is_told_as_such(self, world: World) -> None:
        world.trouble("submit:401")
        await self.fails(world, AuthFailed, False)
        assert world.fake.attempts == 1

    @pytest.mark.needs("submit:402")
    async def test_missing_credit_is_told_as_such(self, world: World) -> None:
        world.trouble("submit:402")
        await self.fails(world, QuotaExceeded, False)
        assert world.fake.attempts == 1

    @pytest.mark.needs("submit:page")
    async def test_an_error_page_is_not_shown(self, world: World) -> None:
        world.trouble("submit:page")
        with pytest.raises(FairbrushError) as caught:
            await self.run_job(world)
        assert caught.value.accepted is False
        assert "Gateway" not in caught.value.message

    async def test_a_service_that_is_down_has_not_taken_the_job(self, world: World) -> None:
        ref = await world.backend.submit(self.make_request(), job_id="j1")
        await world.fake.stop()
        with pytest.raises(Unavailable) as caught:
            await self.watch(world, ref)
        assert caught.value.accepted is False
        assert not (await world.backend.health()).ok

    # --- while it runs ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", each("poll", "429", "500", "html", "truncated", "drop"))
    async def test_polls_that_fail_now_and_then_do_no_harm(self, world: World, what: str) -> None:
        world.trouble(f"poll:{what}", times=2)
        events = await self.run_job(world)
        assert sum(isinstance(event, ImageReady) for event in events) == 1
        assert world.fake.taken == 1

    async def test_a_service_that_stays_away_leaves_the_job_in_doubt(self, world: World) -> None:
        ref = await self.begun(world)
        await world.fake.stop()
        with pytest.raises(Fault) as caught:
            await self.watch(world, ref)
        assert caught.value.accepted is None

    @pytest.mark.needs("job:failed")
    async def test_a_failed_job_was_accepted(self, world: World) -> None:
        world.trouble("job:failed")
        error = await self.fails(world, Fault, True)
        assert "boom" not in error.message

    @pytest.mark.needs("job:lost")
    async def test_a_job_that_the_service_lost_is_made_again_only_where_that_is_free(
        self, world: World
    ) -> None:
        models = (await world.backend.capabilities()).models
        free = all(model.price in (None, Price()) for model in models)
        world.trouble("job:lost")
        await self.fails(world, Unavailable, False if free else None)

    # --- restarts -----------------------------------------------------------------------------------------

    @pytest.mark.needs("resume")
    async def test_a_job_goes_on_after_a_restart_and_is_not_sent_again(self, world: World) -> None:
        ref = await self.begun(world, count=2)
        taken = world.fake.taken
        await world.restart()
        world.fake.release()
        events = await self.watch(world, ref)
        assert {event.index for event in events if isinstance(event, ImageReady)} == {0, 1}
        assert world.fake.taken == taken

    async def test_a_restart_before_sending_sends_nothing_by_itself(self, world: World) -> None:
        ref = as_stored(await world.backend.submit(self.make_request(), job_id="j1"))
        await world.restart()
        with pytest.raises(Unavailable) as caught:
            await self.watch(world, ref)
        assert caught.value.accepted is not True
        assert world.fake.taken == 0

    async def test_a_watcher_that_leaves_while_the_job_is_sent_does_not_send_it_twice(
        self, world: World
    ) -> None:
        ref = await world.backend.submit(self.make_request(), job_id="j1")
        first = asyncio.ensure_future(anext(world.backend.events(ref)))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        events = await self.watch(world, ref)
        assert isinstance(events[-1], Done)
        assert world.fake.taken == 1

    # --- cancelling ---------------------------------------------------------------------------------------

    async def test_what_was_not_sent_can_be_cancelled(self, world: World) -> None:
        ref = await world.backend.submit(self.make_request(), job_id="j1")
        assert await world.backend.cancel(ref) is CancelOutcome.CANCELLED
        with pytest.raises(Cancelled):
            await self.watch(world, ref)
        assert world.fake.attempts == 0

    async def test_what_runs_at_the_service_can_be_cancelled(self, world: World) -> None:
        ref = await self.begun(world)
        outcome = await world.backend.cancel(ref)
        if not (await world.backend.capabilities()).cancel:
            assert outcome is CancelOutcome.UNSUPPORTED
            return
        assert outcome in (CancelOutcome.CANCELLED, CancelOutcome.REQUESTED)
        world.fake.release()
        with pytest.raises(Cancelled):
            await self.watch(world, ref)

    @pytest.mark.needs("cancel:late")
    async def test_a_cancel_that_comes_too_late_costs_no_picture(self, world: World) -> None:
        world.trouble("cancel:late")
        ref = await self.begun(world)
        world.fake.release()
        await world.backend.cancel(ref)
        events = await self.watch(world, ref)
        assert sum(isinstance(event, ImageReady) for event in events) == 1

    # --- pictures -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", each("picture", "svg", "html", "truncated", "huge", "oversized"))
    async def test_what_is_no_usable_picture_is_refused(self, world: World, what: str) -> None:
        world.trouble(f"picture:{what}", times=10)
        await self.fails(world, ProtocolError, None)
        assert world.fake.taken == 1

    @pytest.mark.needs("picture:size")
    async def test_a_picture_of_another_size_is_made_to_fit(self, world: World) -> None:
        world.trouble("picture:size")
        events = await self.run_job(world)
        (picture,) = [event for event in events if isinstance(event, ImageReady)]
        with Image.open(io.BytesIO(picture.data)) as image:
            assert image.size == (64, 64)

    @pytest.mark.needs("link:expired")
    async def test_an_expired_link_is_asked_for_once_more(self, world: World) -> None:
        world.trouble("link:expired")
        events = await self.run_job(world)
        assert sum(isinstance(event, ImageReady) for event in events) == 1
        assert world.fake.taken == 1

    @pytest.mark.parametrize("what", each("link", "http", "inward", "redirect"))
    async def test_a_link_that_lures_inward_is_not_followed(self, world: World, what: str) -> None:
        world.trouble(f"link:{what}", times=10)
        await self.fails(world, ProtocolError, None)
        assert world.fake.inward == 0
        assert world.fake.taken == 1


__all__ = ["AsyncIterator", "HostedContract", "World", "as_stored", "hosted_world"]
