"""What every Store promises. An implementation inherits `StoreContract` and provides two fixtures:

store: an empty store; reopen: an async callable that closes it and opens the same data again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import MappingProxyType

import pytest

from bot.core.errors import Unavailable
from bot.core.ports import (
    ApiKey,
    Delivery,
    Outcome,
    RemoteRef,
    Store,
    StoredJob,
)
from bot.core.request import JSON, State
from tests.fakes.groups import (
    CANCELLED,
    REF,
    TAGS,
    a_group,
    a_picture,
    begin,
    done,
    end,
    queue,
    the,
    the_job,
)
from tests.store_charges_contract import ChargesContract
from tests.store_records_contract import RecordsContract

Reopen = Callable[[], Awaitable[Store]]


class StoreContract(RecordsContract, ChargesContract):
    """Inherited by a class that provides the fixtures `store` and `reopen`."""

    # --- accepting ----------------------------------------------------------------------------------------

    async def test_a_new_group_comes_back_as_it_was_given(self, store: Store) -> None:
        group = a_group(jobs=3)
        assert await store.accept(group) is None
        stored = await the(store)
        assert stored.sequence > 0
        assert replace(stored, sequence=0) == group

    async def test_an_event_sent_twice_gives_the_stored_group_and_writes_nothing(self, store: Store) -> None:
        first = a_group("g", jobs=2, event="e")
        await store.accept(first)
        again = await store.accept(a_group("other", jobs=1, event="e"))
        assert again == await the(store, "g")
        assert [job.job_id for job in again.jobs] == ["g-0", "g-1"]
        assert await store.group("other") is None

    async def test_an_event_sent_twice_at_the_same_time_is_one_group(self, store: Store) -> None:
        answers = await asyncio.gather(*(store.accept(a_group(f"g{n}", event="e")) for n in range(5)))
        assert answers[0] is None
        assert all(answer is not None and answer.group_id == "g0" for answer in answers[1:])
        assert len(await store.unfinished()) == 1

    async def test_a_group_is_accepted_whole_or_not_at_all(self, store: Store) -> None:
        await store.accept(a_group("g"))
        bad = a_group("h", jobs=3)
        taken = replace(bad.jobs[2], job_id="g-0")
        with pytest.raises(ValueError, match=r".+"):
            await store.accept(replace(bad, jobs=(*bad.jobs[:2], taken)))
        assert await store.group("h") is None
        assert await store.accept(bad) is None

    async def test_a_wrong_write_does_not_fail_its_neighbours(self, store: Store) -> None:
        twice = replace(a_group("bad"), jobs=a_group("bad").jobs * 2)
        answers = await asyncio.gather(
            store.accept(a_group("g")),
            store.accept(twice),
            store.accept(a_group("h")),
            return_exceptions=True,
        )
        assert answers[0] is None
        assert isinstance(answers[1], ValueError)
        assert answers[2] is None
        assert [group.group_id for group in await store.unfinished()] == ["g", "h"]

    @pytest.mark.parametrize("jobs", [(), (StoredJob("g-0", "g", 0, {}, 1.0, State.RUNNING),)])
    async def test_a_group_without_new_jobs_is_refused(
        self, store: Store, jobs: tuple[StoredJob, ...]
    ) -> None:
        with pytest.raises(ValueError, match="g"):
            await store.accept(replace(a_group(), jobs=jobs))
        assert await store.group("g") is None

    async def test_values_that_are_not_json_are_refused_and_nothing_is_written(self, store: Store) -> None:
        with pytest.raises(ValueError, match="JSON"):
            await store.accept(replace(a_group(), options={"steps": float("nan")}))
        with pytest.raises(TypeError):
            await store.accept(replace(a_group(), options={"steps": object()}))  # type: ignore[dict-item]
        assert await store.group("g") is None

    async def test_any_mapping_is_taken_and_what_changes_later_is_not_stored(self, store: Store) -> None:
        options: dict[str, JSON] = {"inner": MappingProxyType({"steps": 3})}
        waiting = asyncio.ensure_future(store.accept(replace(a_group(), options=MappingProxyType(options))))
        await asyncio.sleep(0)
        options["inner"] = "changed"
        await waiting
        assert (await the(store)).options == {"inner": {"steps": 3}}

    async def test_unfinished_is_in_order_of_acceptance_with_all_jobs(self, store: Store) -> None:
        for name in ("z", "a", "m", "b"):
            await queue(store, a_group(name, jobs=2))
        await end(store, "z-1", done("z.png"))
        await end(store, "m-0", CANCELLED)
        await end(store, "m-1", CANCELLED)
        found = await store.unfinished()
        assert [group.group_id for group in found] == ["z", "a", "b"]
        assert [[job.state for job in group.jobs] for group in found] == [
            [State.QUEUED, State.DONE],
            [State.QUEUED, State.QUEUED],
            [State.QUEUED, State.QUEUED],
        ]
        assert found[0].jobs[1].pictures == (a_picture("z.png"),)
        assert [group.sequence for group in found] == sorted(group.sequence for group in found)

    async def test_writes_are_applied_in_the_order_of_the_calls(self, store: Store) -> None:
        await store.accept(a_group())
        await asyncio.gather(*(store.save_address("g", {"message": n}) for n in range(50)))
        assert (await the(store)).address == {"message": 49}
        await asyncio.gather(*(store.accept(a_group(f"n{n}")) for n in range(20)))
        assert [group.group_id for group in await store.unfinished()] == ["g", *(f"n{n}" for n in range(20))]

    # --- preparing ----------------------------------------------------------------------------------------

    async def test_an_address_is_replaced_and_jobs_stay_accepted_until_prepared(self, store: Store) -> None:
        await store.accept(a_group(jobs=2))
        await store.save_address("g", {"message": "m-1"})
        half = await the(store)
        assert half.address == {"message": "m-1"}
        assert not half.prepared
        assert {job.state for job in half.jobs} == {State.ACCEPTED}
        await store.save_address("g", {"message": "m-2"}, prepared=True)
        whole = await the(store)
        assert whole.prepared
        assert {job.state for job in whole.jobs} == {State.QUEUED}

    async def test_a_later_address_leaves_a_group_prepared_and_its_jobs_alone(self, store: Store) -> None:
        await queue(store, a_group(jobs=3))
        await begin(store, "g-0")
        await end(store, "g-1", CANCELLED)
        await store.save_address("g", {"page": 2}, prepared=True)
        await store.save_address("g", {"page": 3})
        group = await the(store)
        assert group.prepared
        assert group.address == {"page": 3}
        assert [job.state for job in group.jobs] == [State.RUNNING, State.CANCELLED, State.QUEUED]

    async def test_an_address_of_an_unknown_group_is_nothing(self, store: Store) -> None:
        await store.save_address("nobody", {}, prepared=True)
        assert await store.group("nobody") is None

    # --- running ------------------------------------------------------------------------------------------

    async def test_a_queued_job_starts_once(self, store: Store) -> None:
        await queue(store, a_group())
        started = await store.start(
            "g-0", attempt=0, backend="local:", at=111.5, lease_until=141.5, tags=TAGS, money=0.25
        )
        assert started
        job = await the_job(store, "g-0")
        assert (job.state, job.backend, job.started_at, job.attempt) == (State.RUNNING, "local:", 111.5, 0)
        assert job.money == 0.25
        assert sorted(await store.tags(), key=str) == sorted(TAGS, key=str)
        assert not await begin(store, "g-0")

    async def test_only_a_queued_job_at_this_attempt_starts(self, store: Store) -> None:
        await store.accept(a_group("unprepared"))
        await queue(store, a_group("g"))
        await queue(store, a_group("ended"))
        await end(store, "ended-0", CANCELLED)
        before = [await the(store, name) for name in ("unprepared", "g", "ended")]
        for job_id, attempt in (("unprepared-0", 0), ("g-0", 1), ("ended-0", 0), ("nobody", 0)):
            assert not await store.start(
                job_id, attempt=attempt, backend="b", at=1.0, lease_until=2.0, tags=TAGS
            )
        assert [await the(store, name) for name in ("unprepared", "g", "ended")] == before
        assert await store.tags() == []

    async def test_a_ref_is_stored_for_the_running_attempt_alone(self, store: Store) -> None:
        await queue(store, a_group())
        assert not await store.save_ref("g-0", attempt=0, ref=REF)
        await begin(store, "g-0")
        assert not await store.save_ref("g-0", attempt=1, ref=REF)
        assert (await the_job(store, "g-0")).ref is None
        assert await store.save_ref("g-0", attempt=0, ref=REF)
        assert (await the_job(store, "g-0")).ref == REF
        await end(store, "g-0", CANCELLED)
        assert not await store.save_ref("g-0", attempt=0, ref=RemoteRef("late", {}))
        assert (await the_job(store, "g-0")).ref == REF

    async def test_renewing_touches_running_jobs_and_passes_over_others(self, store: Store) -> None:
        await queue(store, a_group(jobs=2))
        await begin(store, "g-0")
        before = await the(store)
        await store.renew(["g-0", "g-1", "nobody"], lease_until=500.0)
        await store.renew([], lease_until=500.0)
        assert await the(store) == before

    async def test_a_requeued_job_waits_as_if_never_started_at_the_next_attempt(self, store: Store) -> None:
        await queue(store, a_group())
        fresh = await the_job(store, "g-0")
        await begin(store, "g-0")
        await store.save_ref("g-0", attempt=0, ref=REF)
        assert await store.requeue("g-0", attempt=0, tags=TAGS)
        assert await the_job(store, "g-0") == replace(fresh, attempt=1)
        assert len(await store.tags()) == 2
        assert await begin(store, "g-0", attempt=1)

    async def test_a_stale_attempt_can_neither_requeue_nor_finish(self, store: Store) -> None:
        await queue(store, a_group())
        assert not await store.requeue("g-0", attempt=0, tags=TAGS)  # not running
        await begin(store, "g-0")
        await store.requeue("g-0", attempt=0, tags=())
        await begin(store, "g-0", attempt=1)
        before = await the(store)
        assert not await store.requeue("g-0", attempt=0, tags=TAGS)
        assert not await store.finish("g-0", attempt=0, outcome=done("late.png"), at=1.0, tags=TAGS)
        assert not await store.save_ref("g-0", attempt=0, ref=REF)
        assert await the(store) == before
        assert await store.tags() == []
        assert await store.picture("late.png") is None

    # --- ending -------------------------------------------------------------------------------------------

    async def test_all_of_an_outcome_comes_back(self, store: Store) -> None:
        outcome = Outcome(
            State.DONE,
            (a_picture("b.png", 1, withheld=True), a_picture("a.png", 0)),
            message="One of two was withheld.",
            reference="ab12",
            device_seconds=3.5,
            money=0.002,
            model="sd-turbo",
            notes=("Made at 512x512.", "Enlarged."),
            field="size",
        )
        await queue(store, a_group())
        await begin(store, "g-0")
        await store.save_ref("g-0", attempt=0, ref=REF)
        assert await store.finish("g-0", attempt=0, outcome=outcome, at=130.0, tags=TAGS)
        job = await the_job(store, "g-0")
        assert job.pictures == (a_picture("a.png", 0), a_picture("b.png", 1, withheld=True))
        assert (job.state, job.message, job.reference, job.field) == (
            State.DONE,
            outcome.message,
            "ab12",
            "size",
        )
        assert (job.device_seconds, job.money, job.model, job.notes) == (
            3.5,
            0.002,
            "sd-turbo",
            outcome.notes,
        )
        assert (job.backend, job.started_at, job.ended_at) == ("local:", 110.0, 130.0)
        assert len(await store.tags()) == 2

    async def test_two_ends_of_one_attempt_are_one_end(self, store: Store) -> None:
        await queue(store, a_group())
        await begin(store, "g-0")
        first, *others = await asyncio.gather(
            end(store, "g-0", done("first.png")),
            end(store, "g-0", done("second.png")),
            end(store, "g-0", CANCELLED),
        )
        assert (first, others) == (True, [False, False])
        assert (await the_job(store, "g-0")).pictures == (a_picture("first.png"),)
        assert await store.picture("second.png") is None
        assert len(await store.outbox()) == 1

    @pytest.mark.parametrize("prepared", [False, True])
    async def test_a_job_may_end_before_it_starts(self, store: Store, prepared: bool) -> None:
        await store.accept(a_group())
        await store.save_address("g", {}, prepared=prepared)
        assert await end(store, "g-0", CANCELLED)
        job = await the_job(store, "g-0")
        assert (job.state, job.message, job.started_at) == (State.CANCELLED, CANCELLED.message, None)
        assert [row.group_id for row in await store.outbox()] == ["g"]
        assert not await begin(store, "g-0")

    async def test_an_outcome_that_is_no_end_is_refused(self, store: Store) -> None:
        await queue(store, a_group())
        with pytest.raises(ValueError, match="running"):
            await end(store, "g-0", Outcome(State.RUNNING))
        assert (await the_job(store, "g-0")).state is State.QUEUED

    async def test_a_picture_name_that_is_taken_leaves_the_job_unfinished(self, store: Store) -> None:
        await queue(store, a_group("g"))
        await queue(store, a_group("h"))
        await end(store, "g-0", done("x.png"))
        with pytest.raises(ValueError, match=r".+"):
            await end(store, "h-0", done("y.png", "x.png"))
        assert (await the_job(store, "h-0")).state is State.QUEUED
        assert await store.picture("y.png") is None
        assert len(await store.outbox()) == 1

    # --- delivering ---------------------------------------------------------------------------------------

    async def test_the_last_end_of_a_group_puts_it_into_the_outbox_once(self, store: Store) -> None:
        await queue(store, a_group(jobs=4))
        await begin(store, "g-0")
        await end(store, "g-0", done("a.png"))
        await end(store, "g-1", CANCELLED)
        await end(store, "g-2", Outcome(State.FAILED, message="The backend is out of reach."))
        assert await store.outbox() == []
        await begin(store, "g-3")
        await end(store, "g-3", Outcome(State.WITHHELD), at=140.0)
        assert await store.outbox() == [Delivery("g", 0, 140.0)]
        assert await store.unfinished() == []

    async def test_jobs_that_end_together_make_one_outbox_row(self, store: Store) -> None:
        await queue(store, a_group(jobs=10))
        await asyncio.gather(*(end(store, f"g-{n}", done(f"{n}.png")) for n in range(10)))
        assert [row.group_id for row in await store.outbox()] == ["g"]

    async def test_the_outbox_is_soonest_due_first(self, store: Store) -> None:
        for number, name in enumerate("abc"):
            await queue(store, a_group(name))
            await end(store, f"{name}-0", CANCELLED, at=100.0 + number)
        await store.postpone("a", tries=2, due_at=900.0)
        await store.postpone("nobody", tries=1, due_at=1.0)
        assert await store.outbox() == [
            Delivery("b", 0, 101.0),
            Delivery("c", 0, 102.0),
            Delivery("a", 2, 900.0),
        ]
        assert [row.group_id for row in await store.outbox(limit=1)] == ["b"]

    async def test_delivered_twice_is_delivered_once(self, store: Store) -> None:
        await queue(store, a_group())
        await end(store, "g-0", done("a.png"))
        await store.delivered("g", at=200.0)
        await store.delivered("g", at=300.0)
        assert await store.outbox() == []
        assert (await the(store)).delivered_at == 200.0
        await store.postpone("g", tries=1, due_at=1.0)
        assert await store.outbox() == []

    async def test_a_group_that_has_not_ended_cannot_be_delivered(self, store: Store) -> None:
        await queue(store, a_group())
        await store.delivered("g", at=200.0)
        await store.delivered("nobody", at=200.0)
        assert (await the(store)).delivered_at is None
        await end(store, "g-0", CANCELLED)
        assert len(await store.outbox()) == 1

    # --- its life -----------------------------------------------------------------------------------------

    async def test_everything_is_there_after_reopening(self, store: Store, reopen: Reopen) -> None:
        await queue(store, a_group("g", jobs=2))
        await store.start("g-0", attempt=0, backend="local:", at=1.0, lease_until=2.0, tags=TAGS)
        await store.save_ref("g-0", attempt=0, ref=REF)
        await queue(store, a_group("h"))
        await end(store, "h-0", done("a.png"))
        await store.add_key(ApiKey("k", "ci", "d", 1.0))
        await store.shelf_put("slack", "k", {"a": 1})
        before = [await the(store, "g"), await the(store, "h")]
        again = await reopen()
        assert [await the(again, "g"), await the(again, "h")] == before
        assert [group.group_id for group in await again.unfinished()] == ["g"]
        assert [row.group_id for row in await again.outbox()] == ["h"]
        assert len(await again.tags()) == 2
        assert await again.key("d") == ApiKey("k", "ci", "d", 1.0)
        assert await again.shelf_get("slack", "k") == {"a": 1}
        assert await again.check() == "ok"

    async def test_a_cancelled_waiter_leaves_its_write_in_place_once(
        self, store: Store, reopen: Reopen
    ) -> None:
        waiting = [asyncio.ensure_future(store.accept(a_group(f"g{n}"))) for n in range(20)]
        await asyncio.sleep(0)  # the calls are made, their answers are not there
        for task in waiting[::2]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        again = await reopen()
        assert [group.group_id for group in await again.unfinished()] == [f"g{n}" for n in range(20)]
        repeated = await again.accept(a_group("g0"))
        assert repeated is not None

    async def test_closing_commits_what_waits_and_is_idempotent(self, store: Store, reopen: Reopen) -> None:
        waiting = [asyncio.ensure_future(store.accept(a_group(f"g{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(store.aclose(), store.aclose())
        assert await asyncio.gather(*waiting) == [None] * 20
        again = await reopen()
        assert len(await again.unfinished()) == 20

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        await store.aclose()
        with pytest.raises(Unavailable, match="closed"):
            await store.accept(a_group())
        with pytest.raises(Unavailable, match="closed"):
            await store.group("g")
