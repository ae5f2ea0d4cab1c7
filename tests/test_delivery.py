"""Statuses and results on their way to platforms that are slow, down, limited or odd."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bot.app import build
from bot.core.delivery import AT_A_TIME, EditBudget
from bot.core.errors import Gone, RateLimited, Refused, Unavailable
from bot.core.ports import Address, Conversation, JobStatus, Pace, Progress
from bot.core.request import ImageResult, Limits, Requester, State
from bot.core.settings import BackendEntry, Settings
from bot.core.studio import Submission
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.house import house
from tests.fakes.memory_store import MemoryStore
from tests.fakes.notebook import Notebook
from tests.fakes.trouble import TroubledStore

MANY = Limits(waiting_per_user=10_000, waiting_per_guild=10_000)


class Board(Notebook):
    """A notebook that notes when what was said, that may be down, and that tells how many calls overlap."""

    def __init__(self, clock: Callable[[], float], name: str = "notebook", pace: Pace | None = None) -> None:
        super().__init__(name, pace)
        self.clock = clock
        self.said: list[tuple[float, str, str, State]] = []
        self.tries: list[float] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.at_once = 0
        self.most_at_once = 0

    def conversation(self, address: Address) -> Conversation:
        """A page that notes."""
        return _Noting(self, str(address["page"]), address, super().conversation(address))


class _Noting:
    def __init__(self, board: Board, key: str, address: Address, page: Conversation) -> None:
        self._board, self._key, self._address, self._page = board, key, address, page

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        return await self._page.prepare(store)

    async def show(self, status: JobStatus) -> None:
        board = self._board
        board.said.append((board.clock(), self._key, "show", status.state))
        await self._page.show(status)

    async def deliver(self, result: ImageResult) -> None:
        board = self._board
        board.at_once += 1
        board.most_at_once = max(board.at_once, board.most_at_once)
        board.tries.append(board.clock())
        try:
            await asyncio.sleep(0)
            if board.gate is not None:
                await board.gate.wait()
            if board.error is not None:
                raise board.error
            board.said.append((board.clock(), self._key, "deliver", result.state))
            await self._page.deliver(result)
        finally:
            board.at_once -= 1


async def test_an_edit_that_was_limited_delays_the_result_as_long_as_asked(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        home.page("k").failures["show"] = [RateLimited("429", retry_after=30.0)]
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: not home.page("k").failures["show"])
        began = home.clock.time
        hold.release()
        await home.until_passing(lambda: bool(home.page("k").delivered))
        assert home.clock.time - began >= 29.0


async def test_the_result_follows_an_edit_that_is_still_on_its_way(tmp_path: Path) -> None:
    """Calls for one group never overlap, or an old status might be the last word."""
    backend = FakeBackend()
    hold = backend.hold("start")
    showing, go, inside = asyncio.Event(), asyncio.Event(), []
    notebook = Notebook()
    plain = notebook.conversation

    class Slow:
        def __init__(self, address: Address) -> None:
            page = plain(address)
            self.prepare, self._page = page.prepare, page

        async def show(self, status: JobStatus) -> None:
            inside.append("show")
            showing.set()
            await go.wait()
            inside.append("shown")

        async def deliver(self, result: ImageResult) -> None:
            inside.append("deliver")
            await self._page.deliver(result)

    notebook.conversation = Slow  # type: ignore[method-assign]
    async with house(tmp_path, backends=[backend], notebook=notebook) as home:
        await home.ask("a flat colour", key="k")
        await home.until_passing(showing.is_set)
        hold.release()
        await home.until(lambda: bool(home.store.data.outbox))  # type: ignore[attr-defined]
        await home.clock.advance(5.0)
        assert inside == ["show"]
        go.set()
        await notebook.delivered("k")
        assert inside == ["show", "shown", "deliver"]


@pytest.mark.parametrize("error", [Refused("too large"), Gone("deleted")])
async def test_a_result_that_is_never_taken_is_let_go(tmp_path: Path, error: Exception) -> None:
    async with house(tmp_path) as home:
        home.page("k").failures["deliver"] = [error]  # type: ignore[list-item]
        ticket = await home.ask("a flat colour", key="k")
        await home.until(home.idle)
        assert not await home.store.outbox()
        assert home.app._courier._lines == {}
        assert (await home.studio.result(ticket.group_id)).state is State.DONE


@pytest.mark.parametrize("method", ["prepare", "show", "deliver"])
async def test_an_adapter_s_bug_delays_a_result_and_loses_nothing(tmp_path: Path, method: str) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        home.page("k").failures[method] = [RuntimeError("a bug")]  # type: ignore[list-item]
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered), step=10.0)
        await home.until(home.idle)
        assert len(backend.submitted) == len(home.page("k").delivered) == 1


@pytest.mark.parametrize("write", ["postpone", "delivered"])
async def test_a_full_disk_does_not_stop_a_delivery_or_double_it(tmp_path: Path, write: str) -> None:
    store = TroubledStore()
    async with house(tmp_path, store=store) as home:
        store.full[write] = 4
        home.page("k").failures["deliver"] = [Unavailable("502"), Unavailable("502")]
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered))
        await home.until_passing(home.idle)
        assert len(home.page("k").delivered) == 1
        assert not await store.outbox()


async def test_a_platform_that_hangs_does_not_hold_up_another(tmp_path: Path) -> None:
    clock = HandClock()
    hanging, quick = Board(lambda: clock.time, "hanging"), Board(lambda: clock.time, "quick")
    hanging.gate = asyncio.Event()
    app = build(
        Settings(data_dir=tmp_path, backends=(BackendEntry("fake", ""),), limits=MANY),
        adapters=[hanging, quick],
        backends=[FakeBackend()],
        clock=clock.clock,
        serve=False,
        store=MemoryStore(),
    )

    async def ask(platform: str, key: str) -> None:
        by = Requester(platform, "g", "ann")
        await app.studio.submit(Submission(by, key, {"page": key}, text="a flat colour"))

    try:
        await app.start()
        for number in range(AT_A_TIME + 2):
            await ask("hanging", f"h{number}")
        async with asyncio.timeout(20):
            while hanging.at_once < AT_A_TIME:
                await asyncio.sleep(0.01)
        await ask("quick", "q")
        assert (await quick.delivered("q")).state is State.DONE
        assert hanging.most_at_once == AT_A_TIME
        hanging.gate.set()
    finally:
        await app.aclose()


async def test_a_tenant_that_must_wait_does_not_hold_up_another(tmp_path: Path) -> None:
    board = Board(lambda: 0.0)
    plain, stuck = board.conversation, asyncio.Event()

    class Stuck:
        """The one tenant's messages are limited for long."""

        def __init__(self, address: Address) -> None:
            page = plain(address)
            self.prepare, self.show, self._page = page.prepare, page.show, page
            self._held = str(address["page"]).startswith("held")

        async def deliver(self, result: ImageResult) -> None:
            if self._held:
                await stuck.wait()
            await self._page.deliver(result)

    board.conversation = Stuck  # type: ignore[method-assign]
    async with house(tmp_path, notebook=board, backends=[FakeBackend(slots=64)], limits=MANY) as home:
        for number in range(3 * AT_A_TIME):
            await home.ask("a flat colour --size 64x64", key=f"held{number}", guild="crowded")
        await home.until_passing(lambda: not home.app._dispatcher._running)
        await home.ask("a flat colour --size 64x64", key="free", guild="quiet")
        await home.until_passing(lambda: bool(board.page("free").delivered), steps=200)
        stuck.set()
        await home.until_passing(home.idle)


async def test_limits_that_say_when_they_end_are_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        page = home.page("k")
        page.failures["deliver"] = [RateLimited("429", retry_after=2.0) for _ in range(8)]
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: len(page.failures["deliver"]) == 7)
        began = home.clock.time
        await home.until_passing(lambda: bool(page.delivered))
        assert 14.0 <= home.clock.time - began <= 20.0


async def test_a_long_outage_ends_without_a_storm(tmp_path: Path) -> None:
    store, board = MemoryStore(), Board(lambda: 0.0)
    backend = FakeBackend(slots=64)
    async with house(tmp_path, store=store, notebook=board, backends=[backend], limits=MANY) as home:
        board.clock = lambda: home.clock.time
        board.error = Unavailable("platform down")
        for number in range(60):
            await home.ask("a flat colour --size 64x64", key=f"k{number}", user=f"u{number % 20}")
        data = store.data
        await home.until_passing(lambda: len(data.outbox) == 60, step=0.2, steps=3000)
        board.tries.clear()
        await home.clock.advance(900.0)
        assert len(board.tries) <= 60 * 11  # seldomer and seldomer, in the end every five minutes
        board.error = None
        began = home.clock.time
        await home.until_passing(home.idle, step=5.0, steps=100)
        assert home.clock.time - began <= 305.0
        assert board.most_at_once <= AT_A_TIME
        assert all(len(board.page(f"k{number}").delivered) == 1 for number in range(60))
        assert not data.outbox


async def test_many_waiting_groups_keep_to_the_budget_of_their_tenant(tmp_path: Path) -> None:
    board = Board(lambda: 0.0, pace=Pace(1.0, 60))
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, notebook=board, backends=[backend], limits=MANY) as home:
        board.clock = lambda: home.clock.time
        for number in range(100):
            await home.ask("a flat colour", key=f"k{number}", user=f"u{number % 50}")
        await home.clock.advance(1.0)
        board.said.clear()
        await home.clock.advance(60.0)
        assert 0 < len(board.said) <= 60
        hold.release()


async def test_edits_of_one_message_keep_their_distance_and_the_newest_wins(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    board = Board(lambda: 0.0, pace=Pace(5.0, 1000))
    async with house(tmp_path, notebook=board, backends=[backend]) as home:
        board.clock = lambda: home.clock.time
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        (job,) = backend.jobs.values()
        for number in range(40):
            job.say(Progress(number / 40))
            await home.clock.advance(0.5)
        times = [when for when, _, what, _ in board.said if what == "show"]
        assert len(times) >= 4
        assert all(later - sooner >= 5.0 for sooner, later in itertools.pairwise(times))
        shown = [status.progress.fraction for status in board.page("k").shown if status.progress]
        assert shown == sorted(shown)
        hold.release()


def test_a_time_that_is_about_to_pass_may_take_what_waiting_statuses_may_not() -> None:
    clock = HandClock()
    budget, pace = EditBudget(clock.clock), Pace(4.0, 10)
    assert [budget.take("g1", pace, State.QUEUED) for _ in range(6)] == [True] * 5 + [False]
    assert [budget.take("g1", pace, State.QUEUED, pressing=True) for _ in range(4)] == [True] * 3 + [False]
    assert budget.take("g1", pace, State.DONE)
