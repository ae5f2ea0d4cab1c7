"""The way of a request through the whole core: accepted, made, shown once, whatever fails between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.core.errors import (
    ContentRejected,
    Forbidden,
    Gone,
    InvalidRequest,
    NotFound,
    QueueFull,
    RateLimited,
    Unavailable,
)
from bot.core.ports import Pace
from bot.core.request import Limits, Requester, State
from bot.core.studio import Submission
from tests.fakes.backend import FakeBackend
from tests.fakes.house import house
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.notebook import Notebook

ANN = Requester("notebook", "g1", "ann")


async def test_a_request_becomes_pictures_with_recipes_shown_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        ticket = await home.ask("a flat colour --seed 7 --count 2", key="k")
        result = await home.notebook.delivered("k")
        assert result.state is State.DONE
        assert [picture.seed for picture in result.pictures] == [7, 8]
        assert all(picture.recipe["prompt"] == "a flat colour" for picture in result.pictures)
        assert all(picture.path.read_bytes().startswith(b"\x89PNG") for picture in result.pictures)
        await home.until(lambda: home.studio.status(ticket.group_id) is None)
        assert len(home.page("k").delivered) == 1


async def test_an_event_sent_twice_is_one_job(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        first = await home.ask("a flat colour", key="same")
        second = await home.ask("a flat colour", key="same")
        assert second.repeated
        assert second.group_id == first.group_id
        await home.notebook.delivered("same")
        assert len(backend.submitted) == 1


async def test_permutations_are_one_group_with_one_delivery(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.ask("a {red, green} star --seed 3", key="k")
        result = await home.notebook.delivered("k")
        assert [picture.recipe["prompt"] for picture in result.pictures] == ["a red star", "a green star"]
        assert len(home.page("k").delivered) == 1


async def test_the_message_exists_before_generating_starts(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        home.page("k").failures["prepare"] = [Unavailable("platform down") for _ in range(3)]
        await home.ask("a flat colour", key="k")
        await home.clock.advance(0.5)
        assert backend.submitted == []
        await home.until_passing(lambda: bool(home.page("k").delivered))
        assert home.page("k").prepared == 1


async def test_a_refused_request_queues_nothing_and_names_the_field(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        with pytest.raises(InvalidRequest) as refused:
            await home.ask("a flat colour --steps 100000")
        assert refused.value.field == "steps"
        assert home.studio.queue(ANN) == ()


async def test_a_full_queue_refuses_with_the_numbers_and_frees_places_again(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], limits=Limits(waiting_per_user=2)) as home:
        await home.ask("one", key="running")
        await home.until(lambda: bool(backend.submitted))
        await home.ask("two")
        last = await home.ask("three")
        with pytest.raises(QueueFull, match="2"):
            await home.ask("four")
        await home.studio.cancel(last.group_id, ANN)
        await home.ask("four again")
        hold.release()


async def test_a_blocked_word_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path, blocked_words=("walrus",)) as home:
        with pytest.raises(ContentRejected):
            await home.ask("a w4lrus on the beach")


async def test_an_unavailable_backend_is_tried_again_and_the_job_is_made_once(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.fail(Unavailable("crashed", accepted=False), at="picture", times=2)
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("a flat colour --seed 5", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered))
        (result,) = home.page("k").delivered
        assert result.state is State.DONE
        assert len(result.pictures) == 1
        assert len(backend.submitted) == 3


async def test_after_three_failures_the_job_fails_with_a_reference(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.fail(Unavailable("crashed", accepted=False), at="start", times=99)
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered))
        (result,) = home.page("k").delivered
        assert result.state is State.FAILED
        assert result.reference
        assert "crashed" in result.message
        assert len(backend.submitted) == 3


async def test_rate_limits_wait_as_long_as_asked_and_do_not_count_as_failures(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.fail(RateLimited("slow down", retry_after=20.0, accepted=False), at="submit", times=5)
    async with house(tmp_path, backends=[backend]) as home:
        began = home.clock.time
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered))
        assert home.page("k").delivered[0].state is State.DONE
        assert home.clock.time - began >= 100.0


async def test_a_silent_backend_loses_the_job_and_another_try_makes_it(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], job_timeout=60.0) as home:
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        await home.until_passing(lambda: bool(backend.cancelled), step=1.0, steps=100)
        hold.release()
        await home.until_passing(lambda: bool(home.page("k").delivered))
        assert home.page("k").delivered[0].state is State.DONE


async def test_a_failing_backend_hands_over_to_another(tmp_path: Path) -> None:
    broken, good = FakeBackend("fake:broken"), FakeBackend("fake:good")
    broken.fail(Unavailable("down", accepted=False), at="submit", times=99)
    async with house(tmp_path, backends=[broken, good]) as home:
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered))
        assert home.page("k").delivered[0].backend == "fake:good"


async def test_cancelling_a_waiting_job_ends_it_without_a_picture(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("in the way")
        ticket = await home.ask("a flat colour", key="k")
        await home.studio.cancel(ticket.group_id, ANN)
        result = await home.notebook.delivered("k")
        assert result.state is State.CANCELLED
        assert [job_id for job_id, _ in backend.submitted] != [f"{ticket.group_id}-0"]


async def test_cancelling_a_running_job_stops_its_backend(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("picture")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        await home.studio.cancel(ticket.group_id, ANN)
        result = await home.notebook.delivered("k")
        assert result.state is State.CANCELLED
        assert backend.cancelled == [f"{ticket.group_id}-0"]


async def test_only_the_author_cancels(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await home.ask("a flat colour")
        with pytest.raises(Forbidden):
            await home.studio.cancel(ticket.group_id, Requester("notebook", "g1", "bob"))
        with pytest.raises(NotFound):
            await home.studio.cancel(ticket.group_id, Requester("notebook", "g2", "ann"))


async def test_another_users_picture_is_not_found(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.ask("a flat colour", key="k")
        (picture,) = (await home.notebook.delivered("k")).pictures
        assert (await home.studio.picture(picture.name, ANN)).path == picture.path
        with pytest.raises(NotFound):
            await home.studio.picture(picture.name, Requester("notebook", "g1", "bob"))


async def test_rejected_pictures_are_withheld_and_never_previewed(tmp_path: Path) -> None:
    backend = FakeBackend(reject=[0])
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("a flat colour", key="k")
        result = await home.notebook.delivered("k")
        assert result.state is State.WITHHELD
        assert result.pictures == ()
        assert all(status.preview is None for status in home.page("k").shown)


async def test_some_rejected_pictures_leave_the_others(tmp_path: Path) -> None:
    async with house(tmp_path, backends=[FakeBackend(reject=[1])]) as home:
        await home.ask("a flat colour --count 3 --seed 10", key="k")
        result = await home.notebook.delivered("k")
        assert result.state is State.DONE
        assert [picture.seed for picture in result.pictures] == [10, 12]
        assert "1 of 3" in result.message


async def test_a_failed_delivery_is_repeated_until_it_works(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.page("k").failures["deliver"] = [Unavailable("502"), RateLimited("429", retry_after=7.0)]
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered))
        assert len(home.page("k").delivered) == 1
        assert not await home.store.outbox()


async def test_a_deleted_conversation_ends_quietly(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        home.page("k").failures["prepare"] = [Gone("deleted")]
        ticket = await home.ask("a flat colour", key="k")
        await home.until(lambda: home.studio.status(ticket.group_id) is None)
        assert backend.submitted == []
        assert not await home.store.outbox()
        assert not await home.store.unfinished()


async def test_progress_is_coalesced_to_the_pace_and_the_end_is_never_dropped(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend], notebook=Notebook(pace=Pace(5.0, 1000))) as home:
        await home.ask("a flat colour --count 10", key="k")
        await home.notebook.delivered("k")
        assert len(home.page("k").shown) <= 2
        assert len(home.page("k").delivered) == 1


async def test_waiting_jobs_are_told_their_places(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        await home.ask("first")
        ticket = await home.ask("second")
        await home.until_passing(
            lambda: getattr(home.studio.status(ticket.group_id), "position", None) is not None
        )
        status = home.studio.status(ticket.group_id)
        assert status is not None
        assert status.position is not None
        assert (status.position.own_rank, status.position.own_total) == (2, 2)
        assert status.by is not None
        hold.release()


async def test_members_share_the_device_evenly_however_much_one_asks(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    data = Data()
    limits = Limits(waiting_per_user=50)
    async with house(tmp_path, store=MemoryStore(data), backends=[backend], limits=limits) as home:
        await home.ask("in the way", user="zoe", guild="g0")
        await home.until(hold.reached.is_set)
        for _ in range(8):
            await home.ask("a flat colour", user="greedy", guild="g1")
        for _ in range(2):
            await home.ask("a flat colour", user="modest", guild="g2")
        hold.release()
        await home.until_passing(lambda: len(backend.submitted) == 11)
        groups = {group.group_id: group.requester.user for group in data.groups.values()}
        order = [groups[job_id.rpartition("-")[0]] for job_id, _ in backend.submitted[1:]]
        assert sorted(order[:4]) == ["greedy", "greedy", "modest", "modest"]


async def test_work_goes_on_after_a_restart_with_the_same_places(tmp_path: Path) -> None:
    data, backend = Data(), FakeBackend()
    backend.hold("start")
    async with house(tmp_path, store=MemoryStore(data), backends=[backend]) as home:
        for name in ("a", "b", "c"):
            await home.ask(f"job {name} --seed 1", key=name)
        await home.until(lambda: bool(backend.submitted))
    notebook, again = Notebook(), FakeBackend()
    async with house(tmp_path, store=MemoryStore(data), backends=[again], notebook=notebook):
        for name in ("a", "b", "c"):
            assert (await notebook.delivered(name)).state is State.DONE
            assert notebook.page(name).prepared == 0
        assert [request.prompt for _, request in again.submitted] == ["job a", "job b", "job c"]


async def test_a_resumable_job_is_not_made_twice_after_a_restart(tmp_path: Path) -> None:
    data, backend = Data(), FakeBackend(resumable=True)
    hold = backend.hold("start")
    async with house(tmp_path, store=MemoryStore(data), backends=[_Unclosed(backend)]) as home:
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
    hold.release()
    notebook = Notebook()
    async with house(tmp_path, store=MemoryStore(data), backends=[backend], notebook=notebook):
        assert (await notebook.delivered("k")).state is State.DONE
    assert len(backend.submitted) == 1


async def test_nothing_is_taken_in_while_it_stops(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.app.aclose()
        with pytest.raises(Unavailable, match="restarting"):
            await home.ask("a flat colour")


async def test_a_slow_disk_refuses_and_undoes_what_it_committed_late(tmp_path: Path) -> None:
    store, backend = _SlowStore(), FakeBackend()
    async with house(tmp_path, store=store, backends=[backend]) as home:
        with pytest.raises(Unavailable, match="disk"):
            await home.ask("a flat colour")
        store.go.set()
        await home.until(lambda: not home.studio.unsettled)
        assert not await store.unfinished()
        assert not await store.outbox()
        assert backend.submitted == []


async def test_a_failing_acknowledgement_does_not_lose_the_job(tmp_path: Path) -> None:
    async with house(tmp_path) as home:

        async def acknowledge(ticket: object) -> None:
            raise RuntimeError("the connection broke")

        await home.studio.submit(
            Submission(ANN, "k", {"page": "k"}, text="a flat colour"), acknowledge=acknowledge
        )
        assert (await home.notebook.delivered("k")).state is State.DONE


async def test_doing_it_again_takes_another_seed_and_keeps_the_rest(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        ticket = await home.ask("a flat colour --seed 7 --steps 3", key="k")
        await home.notebook.delivered("k")
        bob = Requester("notebook", "g1", "bob")
        again = await home.studio.redo(ticket.group_id, Submission(bob, "k2", {"page": "k2"}))
        result = await home.notebook.delivered("k2")
        assert result.requester == bob
        assert again.requests[0].steps == 3
        assert again.requests[0].seed != 7


async def test_deleting_removes_rows_and_files(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        ticket = await home.ask("a flat colour", key="k")
        (picture,) = (await home.notebook.delivered("k")).pictures
        await home.studio.delete(ticket.group_id, ANN)
        assert not picture.path.exists()
        with pytest.raises(NotFound):
            await home.studio.show(ticket.group_id, ANN)


class _Unclosed:
    """A backend that lives on when the program stops, as a hosted one does."""

    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend
        self.name = backend.name
        self.capabilities = backend.capabilities
        self.submit = backend.submit
        self.events = backend.events
        self.cancel = backend.cancel
        self.health = backend.health

    async def aclose(self) -> None:
        """The remote goes on."""


class _SlowStore(MemoryStore):
    """A store whose first commits wait."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def accept(self, group):  # type: ignore[no-untyped-def]
        await self.go.wait()
        return await super().accept(group)
