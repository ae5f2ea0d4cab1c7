"""Submitting, deleting and doing again, whatever happens in the middle of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.core.errors import Gone, NotFound, ProtocolError, QueueFull, Unavailable
from bot.core.request import Limits, Requester, State
from bot.core.studio import Submission
from tests.fakes.backend import FakeBackend, flat_png
from tests.fakes.house import House, house
from tests.fakes.trouble import OddBackend, TroubledStore

ANN = Requester("notebook", "g1", "ann")
BOB = Requester("notebook", "g1", "bob")


def files(folder: Path) -> list[str]:
    """Names of all files in the pictures folder."""
    return sorted(path.name for path in (folder / "pictures").iterdir())


def repainting(key: str, by: Requester = ANN) -> Submission:
    """A request that starts from a picture."""
    return Submission(
        by, key, {"page": key}, text="a flat colour --strength 0.5", init_image=flat_png(64, 64, 9)
    )


async def over(home: House, group_id: str) -> None:
    """Until nothing of a group is in hand, with the books right."""
    await home.until_passing(lambda: group_id not in home.desk.groups, steps=400)
    home.check()


# --- submitting -------------------------------------------------------------------------------------------


async def test_an_event_sent_twice_is_not_refused_for_the_place_that_it_took_itself(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], limits=Limits(waiting_per_user=1)) as home:
        await home.ask("in the way")
        await home.until(hold.reached.is_set)
        first = await home.ask("a flat colour", key="k")
        again = await home.ask("a flat colour", key="k")
        assert (again.group_id, again.repeated) == (first.group_id, True)
        with pytest.raises(QueueFull):
            await home.ask("another")
        home.check()
        hold.release()


async def test_limits_hold_for_a_member_over_all_guilds(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], limits=Limits(waiting_per_user=2)) as home:
        await home.ask("in the way", user="zoe")
        await home.until(hold.reached.is_set)
        await home.ask("one", guild="g1")
        await home.ask("two", guild="g2")
        with pytest.raises(QueueFull):
            await home.ask("three", guild="g3")
        hold.release()


async def test_who_finds_no_place_is_told_when_the_next_is_free(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], limits=Limits(waiting_per_user=1)) as home:
        await home.ask("in the way", user="zoe")
        await home.until(hold.reached.is_set)
        ticket = await home.ask("one")
        await home.until_passing(lambda: home.desk.groups[ticket.group_id].by is not None)
        with pytest.raises(QueueFull) as refused:
            await home.ask("two")
        by = home.desk.groups[ticket.group_id].by
        assert by is not None
        assert refused.value.retry_after == pytest.approx(max(1.0, by - home.clock.clock.now()))
        hold.release()


async def test_a_submitter_who_goes_away_during_the_commit_loses_nothing(tmp_path: Path) -> None:
    store = TroubledStore()
    async with house(tmp_path, store=store) as home:
        held = store.hold("accept")
        submitting = asyncio.ensure_future(home.ask("a flat colour", key="k"))
        await held.reached.wait()
        submitting.cancel()
        held.release()
        assert (await home.notebook.delivered("k")).state is State.DONE
        home.check()


async def test_an_acknowledgement_that_is_cut_off_loses_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        reached = asyncio.Event()

        async def acknowledge(ticket: object) -> None:
            reached.set()
            raise asyncio.CancelledError

        submission = Submission(ANN, "k", {"page": "k"}, text="a flat colour")
        with pytest.raises(asyncio.CancelledError):
            await home.studio.submit(submission, acknowledge=acknowledge)
        assert reached.is_set()
        assert (await home.notebook.delivered("k")).state is State.DONE


async def test_a_refused_commit_leaves_no_file_and_no_count(tmp_path: Path) -> None:
    store = TroubledStore()
    async with house(tmp_path, store=store) as home:
        store.full["accept"] = 1
        with pytest.raises(Unavailable):
            await home.studio.submit(repainting("k"))
        await home.until(lambda: not home.studio.unsettled)
        assert files(tmp_path) == []
        home.check()


async def test_a_repeated_event_leaves_no_second_input_picture(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        ticket = await home.studio.submit(repainting("k"))
        await home.studio.submit(repainting("k"))
        await over(home, ticket.group_id)
        assert len(files(tmp_path)) == 2  # the one to start from, and the result


async def test_what_a_slow_disk_refused_may_come_again(tmp_path: Path) -> None:
    store, backend = TroubledStore(), FakeBackend()
    async with house(tmp_path, store=store, backends=[backend]) as home:
        held = store.hold("accept")
        with pytest.raises(Unavailable, match="disk"):
            await home.studio.submit(repainting("k"))
        forgetting = store.hold("forget")
        held.release()
        await home.until(forgetting.reached.is_set)
        with pytest.raises(Unavailable, match="disk"):  # never accepted by what is being undone
            await home.ask("a flat colour", key="k")
        forgetting.release()
        await home.until(lambda: not home.studio.unsettled)
        assert files(tmp_path) == []
        ticket = await home.ask("a flat colour", key="k")
        assert not ticket.repeated
        assert (await home.notebook.delivered("k")).state is State.DONE
        assert len(backend.submitted) == 1


async def test_a_disk_that_fills_while_a_refusal_is_undone_delays_that(tmp_path: Path) -> None:
    store = TroubledStore()
    async with house(tmp_path, store=store) as home:
        held = store.hold("accept")
        with pytest.raises(Unavailable, match="disk"):
            await home.ask("a flat colour")
        store.full["finish"] = 3
        held.release()
        await home.until_passing(lambda: not home.studio.unsettled)
        assert not await store.unfinished()


async def test_a_backend_that_leaves_during_a_commit_loses_nothing(tmp_path: Path) -> None:
    store, backend = TroubledStore(), FakeBackend()
    async with house(tmp_path, store=store, backends=[backend]) as home:
        held = store.hold("accept")
        submitting = asyncio.ensure_future(home.ask("a flat colour", key="k"))
        await held.reached.wait()
        models, backend.models = backend.models, ()
        await home.clock.advance(2.0)
        held.release()
        await submitting
        backend.models = models
        await home.until_passing(lambda: bool(home.page("k").delivered))
        assert home.page("k").delivered[0].state is State.DONE


async def test_a_status_that_finds_its_conversation_gone_cancels_the_job(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        home.page("k").failures["show"] = [Gone("deleted")]
        home.page("k").failures["deliver"] = [Gone("deleted")]
        ticket = await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        await over(home, ticket.group_id)
        assert backend.cancelled == [f"{ticket.group_id}-0"]


# --- deleting and doing again -----------------------------------------------------------------------------


async def test_deleting_a_running_request_cancels_it_and_leaves_nothing(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("picture")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await home.studio.submit(repainting("k"))
        await home.until(hold.reached.is_set)
        await home.studio.delete(ticket.group_id, ANN)
        assert backend.cancelled == [f"{ticket.group_id}-0"]
        assert files(tmp_path) == []
        assert await home.store.group(ticket.group_id) is None
        assert not await home.store.outbox()
        await over(home, ticket.group_id)
        page = home.page("k")
        assert [result.state for result in page.delivered] in ([State.CANCELLED], [])


async def test_the_message_of_a_deleted_request_says_that_it_was_cancelled(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("picture")
    async with house(tmp_path, backends=[backend]) as home:
        home.page("k").failures["deliver"] = [Unavailable("platform down")]
        ticket = await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        await home.studio.delete(ticket.group_id, ANN)
        await over(home, ticket.group_id)
        assert home.page("k").delivered == []
        assert home.page("k").shown[-1].state is State.CANCELLED


async def test_deleting_while_the_result_is_written_leaves_nothing(tmp_path: Path) -> None:
    store = TroubledStore()
    async with house(tmp_path, store=store) as home:
        held = store.hold("finish")
        ticket = await home.ask("a flat colour --count 2", key="k")
        await home.until(held.reached.is_set)
        deleting = asyncio.ensure_future(home.studio.delete(ticket.group_id, ANN))
        await home.clock.advance(0.0)
        held.release()
        await deleting
        assert files(tmp_path) == []
        assert await store.group(ticket.group_id) is None
        await home.until_passing(lambda: ticket.group_id not in home.desk.groups, step=60.0)


async def test_deleting_before_the_message_exists_leaves_nothing(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        home.page("k").failures["prepare"] = [Unavailable("platform down") for _ in range(3)]
        ticket = await home.ask("a flat colour", key="k")
        await home.studio.delete(ticket.group_id, ANN)
        await over(home, ticket.group_id)
        assert backend.submitted == []
        assert await home.store.group(ticket.group_id) is None


async def test_deleting_a_running_request_of_a_backend_that_cannot_cancel(tmp_path: Path) -> None:
    backend = OddBackend()
    backend.stuck.add("cancel")
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
        deleting = asyncio.ensure_future(home.studio.delete(ticket.group_id, ANN))
        await home.until_passing(deleting.done, steps=100)
        await deleting
        assert await home.store.group(ticket.group_id) is None
        await over(home, ticket.group_id)


async def test_deleting_a_failed_request_removes_the_picture_it_started_from(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.fail(ProtocolError("nonsense"), at="start")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await home.studio.submit(repainting("k"))
        assert (await home.notebook.delivered("k")).state is State.FAILED
        assert len(files(tmp_path)) == 1
        await home.studio.delete(ticket.group_id, ANN)
        assert files(tmp_path) == []


async def test_doing_a_repainting_again_starts_from_the_same_picture(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await home.studio.submit(repainting("k"))
        await home.notebook.delivered("k")
        await home.studio.redo(ticket.group_id, Submission(BOB, "k2", {"page": "k2"}))
        assert (await home.notebook.delivered("k2")).state is State.DONE
        pictures = [request.init_image for _, request in backend.submitted]
        assert [picture.data if picture else b"" for picture in pictures] == [flat_png(64, 64, 9)] * 2


async def test_what_was_deleted_cannot_be_done_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        ticket = await home.studio.submit(repainting("k"))
        await home.notebook.delivered("k")
        (picture,) = [name for name in files(tmp_path) if name not in _results(home)]
        (tmp_path / "pictures" / picture).unlink()
        with pytest.raises(NotFound, match="picture"):
            await home.studio.redo(ticket.group_id, Submission(BOB, "k2", {"page": "k2"}))
        await home.studio.delete(ticket.group_id, ANN)
        with pytest.raises(NotFound):
            await home.studio.redo(ticket.group_id, Submission(BOB, "k3", {"page": "k3"}))


def _results(home: House) -> set[str]:
    return {
        picture.name
        for page in home.notebook.pages.values()
        for r in page.delivered
        for picture in r.pictures
    }


@pytest.mark.parametrize(("guild", "shared"), [("g1", True), ("dm", False), ("web", False)])
async def test_only_members_of_a_real_guild_do_again_what_others_did(
    tmp_path: Path, guild: str, shared: bool
) -> None:
    async with house(tmp_path) as home:
        ticket = await home.ask("a flat colour", key="k", guild=guild)
        await home.notebook.delivered("k")
        bob = Requester("notebook", guild, "bob")
        again = home.studio.redo(ticket.group_id, Submission(bob, "k2", {"page": "k2"}))
        if shared:
            await again
        else:
            with pytest.raises(NotFound):
                await again


async def test_an_input_picture_is_not_kept_in_memory_while_its_job_waits(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        await home.ask("in the way", user="bob")
        await home.until(hold.reached.is_set)
        ticket = await home.studio.submit(repainting("k"))
        (job,) = home.desk.groups[ticket.group_id].jobs
        assert job.request.init_image is not None
        assert job.request.init_image.data == b""
        hold.release()
        assert (await home.notebook.delivered("k")).state is State.DONE
        image = backend.submitted[-1][1].init_image
        assert image is not None
        assert image.data == flat_png(64, 64, 9)
