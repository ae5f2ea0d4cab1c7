"""What the fair queue promises, one example each. Random histories are in test_fairqueue_properties.py."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from bot.core.fairqueue import REMEMBERED, WAITING, Entry, FairQueue, Place
from bot.core.ports import ShareTag

_numbers = itertools.count()


def entry(guild: str, user: str = "ada", cost: float = 10.0, kind: str = "") -> Entry:
    return Entry(f"{guild}-{user}-{next(_numbers)}", guild, user, cost, kind)


def push(queue: FairQueue, guild: str, user: str = "ada", cost: float = 10.0, *, times: int = 1) -> list[str]:
    """Line up jobs; their ids."""
    jobs = [entry(guild, user, cost) for _ in range(times)]
    for job in jobs:
        queue.push(job)
    return [job.job_id for job in jobs]


def pop(queue: FairQueue, can_run: Callable[[Entry], bool] | None = None) -> Entry:
    job = queue.pop(can_run)
    assert job is not None
    return job


def run_one(queue: FairQueue, actual: float | None = None) -> Entry:
    """Dispatch and complete a job."""
    job = pop(queue)
    queue.complete(job.job_id, job.cost if actual is None else actual)
    return job


def guilds(jobs: Sequence[Entry]) -> str:
    return "".join(job.guild for job in jobs)


# --- shares ---


def test_small_guild_is_not_starved_by_a_large_one() -> None:
    queue = FairQueue()
    for number in range(500):
        push(queue, "large", f"user-{number}")
    (lone,) = push(queue, "small")
    assert lone in [run_one(queue).job_id for _ in range(2)]


def test_one_member_is_not_starved_by_a_busy_member_of_the_same_guild() -> None:
    queue = FairQueue()
    push(queue, "g", "busy", times=10)
    (lone,) = push(queue, "g", "lone")
    assert lone in [run_one(queue).job_id for _ in range(2)]


def test_jobs_of_one_member_go_first_in_first_out() -> None:
    queue = FairQueue()
    jobs = push(queue, "g", times=5)
    assert [run_one(queue).job_id for _ in jobs] == jobs


def test_busy_guilds_take_turns_whatever_their_number_of_members() -> None:
    queue = FairQueue()
    for number in range(20):
        push(queue, "a", f"user-{number % 10}")
        push(queue, "b")
    assert guilds([run_one(queue) for _ in range(8)]) == "abababab"


def test_large_jobs_count_for_more() -> None:
    """Four of 5 s go for one of 20 s."""
    queue = FairQueue()
    push(queue, "l", cost=20.0, times=50)
    push(queue, "s", cost=5.0, times=50)
    turns = Counter(run_one(queue).guild for _ in range(50))
    assert turns == {"l": 10, "s": 40}


def test_a_guild_of_twice_the_weight_gets_twice_the_service() -> None:
    queue = FairQueue()
    queue.set_weight("heavy", 2.0)
    for name in ("heavy", "light"):
        push(queue, name, times=60)
    assert Counter(run_one(queue).guild for _ in range(60)) == {"heavy": 40, "light": 20}


def test_a_member_of_twice_the_weight_gets_twice_the_service_of_its_guild() -> None:
    queue = FairQueue()
    queue.set_weight("g", 2.0, user="heavy")
    for name in ("heavy", "light"):
        push(queue, "g", name, times=60)
    assert Counter(run_one(queue).user for _ in range(60)) == {"heavy": 40, "light": 20}


def test_equal_claims_go_in_the_order_of_acceptance() -> None:
    queue = FairQueue()
    for name in "mazk":
        push(queue, name)
    assert guilds([run_one(queue) for _ in range(4)]) == "mazk"


def test_idle_time_earns_nothing() -> None:
    """`late` had work first, then came back when `busy` had had 300 s."""
    queue = FairQueue()
    push(queue, "late")
    push(queue, "busy", times=100)
    for _ in range(31):
        run_one(queue)
    push(queue, "late", times=30)
    turns = Counter(run_one(queue).guild for _ in range(20))
    assert turns["late"] <= 11


def test_a_long_job_in_flight_saves_nothing_up_either() -> None:
    """An under-estimated job runs on while others are served; its guild does not catch up for that time."""
    queue = FairQueue(soft_user_cap=None)
    push(queue, "slow", cost=1.0)
    push(queue, "busy", times=100)
    long = pop(queue)
    for _ in range(30):
        run_one(queue)
    push(queue, "slow", times=30)
    assert Counter(run_one(queue).guild for _ in range(20))["slow"] <= 11
    queue.complete(long.job_id, 400.0)
    assert Counter(run_one(queue).guild for _ in range(20))["slow"] == 0


def test_what_was_used_beyond_the_estimate_is_charged() -> None:
    queue = FairQueue()
    push(queue, "over", cost=10.0, times=20)
    push(queue, "exact", cost=10.0, times=40)
    turns: Counter[str] = Counter()
    for _ in range(40):
        job = pop(queue)
        queue.complete(job.job_id, 30.0 if job.guild == "over" else 10.0)
        turns[job.guild] += 1
    assert turns == {"over": 10, "exact": 30}


def test_what_was_not_used_is_refunded() -> None:
    queue = FairQueue()
    push(queue, "over-estimated", cost=30.0, times=40)
    push(queue, "exact", cost=10.0, times=40)
    turns: Counter[str] = Counter()
    for _ in range(40):
        job = pop(queue)
        queue.complete(job.job_id, 10.0)
        turns[job.guild] += 1
    assert abs(turns["over-estimated"] - turns["exact"]) <= 2


def test_a_refund_that_comes_while_idle_is_not_lost_at_once() -> None:
    queue = FairQueue(soft_user_cap=None)
    push(queue, "idle", cost=30.0)
    push(queue, "busy", cost=10.0, times=20)
    first = pop(queue)
    assert [run_one(queue).guild for _ in range(3)] == ["busy"] * 3
    queue.complete(first.job_id, 5.0)
    push(queue, "idle", cost=10.0, times=2)
    assert [run_one(queue).guild for _ in range(3)] == ["idle", "idle", "busy"]


def test_refunds_add_up_to_one_job_at_most() -> None:
    queue = FairQueue(soft_user_cap=None)
    push(queue, "g", cost=30.0, times=8)
    jobs = [pop(queue) for _ in range(8)]
    push(queue, "busy", cost=10.0)
    pop(queue)
    for job in jobs[:-1]:
        queue.complete(job.job_id, 0.0)
    (tag,) = (tag for tag in queue.changed() if (tag.guild, tag.user) == ("g", None))
    assert tag.credit == pytest.approx(30.0)


# --- giving back, cancelling, caps ---


def test_a_job_given_back_goes_first_again_and_costs_nothing() -> None:
    queue = FairQueue()
    first, second = push(queue, "g", times=2)
    push(queue, "h", times=2)
    assert pop(queue).job_id == first
    queue.requeue(first)
    assert [run_one(queue).job_id for _ in range(1)] == [first]
    assert run_one(queue).guild == "h"
    assert run_one(queue).job_id == second


def test_jobs_given_back_keep_their_order_in_whichever_order_they_come() -> None:
    queue = FairQueue(soft_user_cap=None)
    jobs = push(queue, "g", times=4)
    for job_id in jobs[:3]:
        assert pop(queue).job_id == job_id
    for job_id in (jobs[1], jobs[0], jobs[2]):
        queue.requeue(job_id)
    assert [run_one(queue).job_id for _ in jobs] == jobs


def test_a_cancelled_job_never_runs_and_is_never_charged() -> None:
    queue = FairQueue()
    first, second = push(queue, "g", times=2)
    push(queue, "h")
    assert queue.cancel(first)
    assert not queue.cancel(first)
    assert run_one(queue).guild == "g"
    assert queue.place(second) is None
    assert len(queue) == 1


def test_a_running_or_unknown_job_is_not_cancelled() -> None:
    queue = FairQueue()
    (job_id,) = push(queue, "g")
    pop(queue)
    assert not queue.cancel(job_id)
    assert not queue.cancel("nobody's")
    assert queue.running() == 1


def test_a_guild_at_its_cap_waits_and_the_next_one_goes() -> None:
    queue = FairQueue(guild_cap=2, soft_user_cap=None)
    push(queue, "a", times=5)
    push(queue, "b", cost=1000.0)
    assert guilds([pop(queue) for _ in range(3)]) == "aba"
    assert queue.pop() is None


def test_a_guild_can_have_caps_of_its_own() -> None:
    queue = FairQueue(guild_cap=1, soft_user_cap=None)
    queue.set_cap("a", 3, 2)
    push(queue, "a", "ada", times=5)
    push(queue, "a", "ben", times=5)
    jobs = [queue.pop() for _ in range(4)]
    assert Counter(job.user for job in jobs if job) in ({"ada": 2, "ben": 1}, {"ada": 1, "ben": 2})
    queue.set_cap("a", 4)
    assert pop(queue).guild == "a"
    assert queue.pop() is None


def test_time_at_a_cap_saves_nothing_up() -> None:
    queue = FairQueue(guild_cap=1)
    queue.set_cap("busy", 8)
    push(queue, "capped", cost=10.0, times=30)
    push(queue, "busy", "one", cost=10.0, times=100)
    held = pop(queue)
    for _ in range(30):
        run_one(queue)
    queue.complete(held.job_id, 10.0)
    assert Counter(run_one(queue).guild for _ in range(20))["capped"] <= 11


def test_one_member_holds_one_slot_while_others_wait() -> None:
    queue = FairQueue(soft_user_cap=1)
    push(queue, "a", "many", times=4)
    push(queue, "b", "few", cost=1000.0)
    assert [pop(queue).user for _ in range(2)] == ["many", "few"]


def test_time_held_back_by_the_soft_cap_saves_nothing_up() -> None:
    """Both members hold a slot; `back` has had one for long, and sends more when `busy` has had 300 s."""
    queue = FairQueue(soft_user_cap=1)
    push(queue, "back", cost=1.0)
    push(queue, "busy", times=100)
    assert [pop(queue).guild for _ in range(2)] == ["back", "busy"]
    for _ in range(30):
        run_one(queue)
    push(queue, "back", times=30)
    assert Counter(run_one(queue).guild for _ in range(20))["back"] <= 11


def test_the_soft_cap_takes_away_nothing_that_a_guild_is_owed() -> None:
    """`a` was charged 30 s for a job that used none, so it is 25 s behind. Then its two members hold a slot
    each for a moment, and it is not eligible."""
    queue = FairQueue(soft_user_cap=1)
    push(queue, "a", "ada", cost=30.0)
    push(queue, "b", cost=5.0, times=20)
    first = pop(queue)
    for name in ("ada", "ben"):
        push(queue, "a", name, cost=1.0, times=20)
    assert guilds([run_one(queue) for _ in range(6)]) == "bbbbbb"
    queue.complete(first.job_id, 0.0)
    both = [pop(queue), pop(queue)]
    assert {job.user for job in both} == {"ada", "ben"}
    for job in both:
        queue.complete(job.job_id, 1.0)
    assert guilds([run_one(queue) for _ in range(20)]) == "a" * 20


def test_no_slot_idles_for_the_soft_cap() -> None:
    queue = FairQueue(soft_user_cap=1)
    jobs = push(queue, "a", "alone", times=4)
    assert [pop(queue).job_id for _ in jobs] == jobs


def test_the_soft_cap_gives_way_where_the_others_jobs_cannot_run_here() -> None:
    queue = FairQueue(soft_user_cap=1)
    push(queue, "a", "many", times=2)
    push(queue, "b", "elsewhere")
    for _ in range(2):
        assert pop(queue, lambda job: job.guild == "a").user == "many"


# --- workers that cannot run everything ---


def test_a_job_that_cannot_run_here_is_passed_over_for_its_members_next_one() -> None:
    queue = FairQueue()
    first, second = push(queue, "g", times=2)
    assert pop(queue, lambda job: job.job_id != first).job_id == second
    assert pop(queue).job_id == first


def test_nothing_goes_where_nothing_can_run() -> None:
    queue = FairQueue()
    push(queue, "g", times=3)
    assert queue.pop(lambda job: False) is None
    assert len(queue) == 3


def test_kinds_spare_a_look_at_every_job() -> None:
    queue = FairQueue()
    for number in range(200):
        queue.push(entry(f"g{number % 20}", f"u{number}", kind="xl"))
    asked: list[str] = []

    def can_run(job: Entry) -> bool:
        asked.append(job.job_id)
        return True

    assert queue.pop(can_run, serves=lambda kind: kind == "turbo") is None
    wanted = entry("g19", "late", kind="turbo")
    queue.push(wanted)
    assert queue.pop(can_run, serves=lambda kind: kind == "turbo") == wanted
    assert asked == [wanted.job_id]


def test_a_line_for_a_slow_worker_neither_starves_newcomers_nor_saves_up_for_the_fast_one() -> None:
    """`old` waits for the slow worker alone while `fast` is served 10,000 s by the other one."""
    queue = FairQueue(soft_user_cap=None)
    for _ in range(2000):
        queue.push(entry("old", kind="slow"))
        queue.push(entry("fast", kind="fast"))
    for turn in range(1000):
        job = queue.pop(serves=lambda kind: kind == "fast")
        assert job is not None
        queue.complete(job.job_id, job.cost)
        if turn % 100 == 0:
            assert queue.pop(serves=lambda kind: kind == "slow") is not None
    queue.push(entry("new", kind="slow"))
    for _ in range(100):
        queue.push(entry("old", kind="fast", user="other"))
    slow = [queue.pop(serves=lambda kind: kind == "slow") for _ in range(5)]
    assert "new" in [job.guild for job in slow if job]
    fast = [queue.pop(serves=lambda kind: kind == "fast") for _ in range(20)]
    assert Counter(job.guild for job in fast if job)["old"] <= 12


# --- places ---


def test_a_place_tells_own_rank_and_what_goes_before() -> None:
    queue = FairQueue()
    push(queue, "a", cost=10.0, times=3)
    first, second = push(queue, "b", cost=4.0, times=2)
    assert queue.place(first) == Place(1, 2, 1, 10.0)
    assert queue.place(second) == Place(2, 2, 2, 14.0)
    assert queue.places()[second] == Place(2, 2, 2, 14.0)


def test_only_queued_jobs_have_a_place() -> None:
    queue = FairQueue()
    (job_id,) = push(queue, "a")
    pop(queue)
    assert queue.place(job_id) is None
    assert queue.place("nobody's") is None
    assert queue.places() == {}


def test_places_are_the_order_of_dispatch_while_nobody_comes() -> None:
    queue = FairQueue()
    for number in range(3000):
        push(queue, f"g{number % 37}", f"u{number % 101}", 1.0 + number % 13)
    for _ in range(500):
        run_one(queue)
    foretold = list(queue.places())
    assert [run_one(queue).job_id for _ in foretold] == foretold


def test_places_of_a_guild_at_its_cap_are_as_if_it_were_released_now() -> None:
    queue = FairQueue(guild_cap=1)
    queue.set_cap("busy", 9)
    push(queue, "capped", times=5)
    push(queue, "busy", times=20)
    running = pop(queue)
    queue.places()
    for _ in range(5):
        run_one(queue)
    foretold = list(queue.places())
    queue.complete(running.job_id, running.cost)
    assert [run_one(queue).job_id for _ in foretold] == foretold


def test_asking_for_places_changes_nothing() -> None:
    queue = FairQueue()
    push(queue, "a", times=3)
    push(queue, "b", times=3)
    queue.changed()
    queue.places()
    assert queue.changed() == ()


def test_counts_are_by_guild_by_member_and_in_all() -> None:
    queue = FairQueue()
    push(queue, "a", "ada", times=3)
    push(queue, "b", "ada", times=2)
    push(queue, "b", "ben")
    pop(queue)
    assert (queue.waiting(), queue.waiting("a"), queue.waiting("b", "ada"), queue.waiting(user="ada")) == (
        5,
        2,
        2,
        4,
    )
    assert (queue.running(), queue.running("a", "ada"), queue.running("b"), queue.running("c")) == (
        1,
        1,
        0,
        0,
    )


# --- storing and restoring ---


def test_changed_tells_each_node_once() -> None:
    queue = FairQueue()
    push(queue, "a", "ada", times=2)
    pop(queue)
    tags = {(tag.guild, tag.user): tag for tag in queue.changed()}
    assert set(tags) == {(None, None), ("a", None), ("a", "ada")}
    assert tags["a", None].vt == 10.0
    assert queue.changed() == ()


def test_a_stored_queue_goes_on_where_it_was() -> None:
    queue = FairQueue()
    entries = [Entry(f"j{n}", f"g{n % 5}", f"u{n % 3}", 1.0 + n % 7) for n in range(60)]
    rows: dict[tuple[str | None, str | None], ShareTag] = {}
    for job in entries:
        queue.push(job)
    gone = [run_one(queue).job_id for _ in range(20)]
    still_running, lost = pop(queue), pop(queue)
    for tag in queue.changed():
        rows[tag.guild, tag.user] = tag
    again = FairQueue()
    again.restore(rows.values())
    for job in entries:
        if job in (still_running, lost):
            again.adopt_running(job)
        elif job.job_id not in gone:
            again.push(job)
    for each in (queue, again):
        each.requeue(lost.job_id)
        each.complete(still_running.job_id, 3.0)
    assert again.places() == queue.places()
    assert [run_one(again).job_id for _ in range(39)] == [run_one(queue).job_id for _ in range(39)]


def test_jobs_with_their_rank_of_acceptance_can_be_pushed_in_any_order() -> None:
    jobs = [Entry(f"j{n}", f"g{n % 2}", "ada", 5.0, order=n) for n in range(10)]
    straight, shuffled = FairQueue(), FairQueue()
    for job in jobs:
        straight.push(job)
    for job in sorted(jobs, key=lambda job: job.job_id[::-1], reverse=True):
        shuffled.push(job)
    assert list(shuffled.places()) == list(straight.places()) == [job.job_id for job in jobs]


def test_a_lost_job_goes_first_again_though_it_was_adopted_after_the_queued_ones() -> None:
    queue = FairQueue()
    queue.restore([])
    waiting = push(queue, "g", times=2)
    lost = [entry("g"), entry("g")]
    for job in lost:
        queue.adopt_running(job)
        queue.requeue(job.job_id)
        queue.changed()
    assert [run_one(queue).job_id for _ in range(4)] == [job.job_id for job in lost] + waiting


def test_tags_stored_in_the_middle_of_a_rebuilding_are_right_too() -> None:
    """A second crash while the first is being recovered from."""
    tags = [
        ShareTag(None, None, 10.0, 500.0),
        ShareTag("g", None, 495.0, 0.0, 1.0, WAITING),
        ShareTag("g", "ada", 495.0, 0.0, 1.0, WAITING),
    ]
    queue = FairQueue()
    queue.restore(tags)
    push(queue, "g")
    lost = entry("g")
    queue.adopt_running(lost)
    queue.requeue(lost.job_id)
    rows = {(tag.guild, tag.user): tag for tag in queue.changed()}
    assert rows["g", None] == ShareTag("g", None, 485.0, 0.0, 1.0, WAITING)


def test_a_newcomer_after_the_crash_is_still_a_newcomer() -> None:
    """Its job was accepted after the last commit of tags: it starts at V, not at its old tag."""
    tags = [
        ShareTag(None, None, 10.0, 500.0),
        ShareTag("busy", None, 505.0, 0.0, 1.0, WAITING),
        ShareTag("busy", "ada", 505.0, 0.0, 1.0, WAITING),
        ShareTag("back", None, 5.0, 0.0),
    ]
    queue = FairQueue()
    queue.restore(tags)
    push(queue, "busy", times=10)
    push(queue, "back", times=10)
    assert Counter(run_one(queue).guild for _ in range(10)) == {"busy": 5, "back": 5}


def test_a_guild_whose_stored_jobs_are_gone_is_a_newcomer_too() -> None:
    queue = FairQueue(soft_user_cap=None)
    queue.restore(
        [
            ShareTag(None, None, 10.0, 500.0),
            ShareTag("busy", None, 505.0, 0.0, 1.0, WAITING),
            ShareTag("gone", None, 501.0, 0.0, 1.0, WAITING),
        ]
    )
    push(queue, "busy", times=60)
    for _ in range(30):
        run_one(queue)
    push(queue, "gone", times=30)
    assert Counter(run_one(queue).guild for _ in range(20))["gone"] <= 11


def test_stored_tags_are_finite() -> None:
    queue = FairQueue()
    push(queue, "a", times=3)
    pop(queue)
    assert all(math.isfinite(value) for tag in queue.changed() for value in (tag.vt, tag.virtual, tag.credit))


def test_weights_survive_a_restart_with_the_tags() -> None:
    queue = FairQueue()
    push(queue, "heavy")
    queue.set_weight("heavy", 3.0)
    again = FairQueue()
    again.restore(queue.changed())
    push(again, "heavy", times=40)
    push(again, "light", times=40)
    assert Counter(run_one(again).guild for _ in range(40)) == {"heavy": 30, "light": 10}


# --- memory ---


def commit(queue: FairQueue, rows: dict[tuple[str | None, str | None], ShareTag]) -> None:
    """What a store does with changed tags."""
    for tag in queue.changed():
        rows.pop((tag.guild, tag.user), None)
        if tag.weight > 0.0:
            rows[tag.guild, tag.user] = tag


def test_members_who_come_once_are_forgotten_although_their_guild_never_rests() -> None:
    queue = FairQueue()
    rows: dict[tuple[str | None, str | None], ShareTag] = {}
    push(queue, "g", "first")
    for number in range(3 * REMEMBERED):
        push(queue, "g", f"u{number}")
        run_one(queue)
        commit(queue, rows)
    assert len(rows) <= REMEMBERED + 4


def test_a_member_whom_all_others_have_caught_up_with_is_forgotten() -> None:
    queue = FairQueue()
    rows: dict[tuple[str | None, str | None], ShareTag] = {}
    push(queue, "g", "once")
    push(queue, "g", "busy", times=5)
    for _ in range(2):
        run_one(queue)
    commit(queue, rows)
    assert ("g", "once") in rows
    run_one(queue)
    commit(queue, rows)
    assert ("g", "once") not in rows


def test_an_idle_queue_remembers_nobody() -> None:
    queue = FairQueue()
    rows: dict[tuple[str | None, str | None], ShareTag] = {}
    for number in range(50):
        push(queue, f"g{number % 7}", f"u{number}")
    for _ in range(50):
        run_one(queue, actual=3.0)
        commit(queue, rows)
    assert set(rows) == {(None, None)}


# --- what is refused ---


def test_a_known_job_is_refused_whether_it_waits_or_runs() -> None:
    queue = FairQueue()
    job = entry("g")
    queue.push(job)
    with pytest.raises(ValueError, match="already"):
        queue.push(job)
    pop(queue)
    with pytest.raises(ValueError, match="already"):
        queue.adopt_running(job)


@pytest.mark.parametrize("cost", [0.0, -1.0, math.inf, math.nan])
def test_a_cost_that_is_no_time_is_refused(cost: float) -> None:
    with pytest.raises(ValueError, match="cost"):
        Entry("j", "g", "u", cost)


@pytest.mark.parametrize("actual", [-1.0, math.inf, math.nan])
def test_a_use_that_is_no_time_is_refused_and_the_job_runs_on(actual: float) -> None:
    queue = FairQueue()
    (job_id,) = push(queue, "g")
    pop(queue)
    with pytest.raises(ValueError, match="device-seconds"):
        queue.complete(job_id, actual)
    assert queue.running() == 1


def test_only_running_jobs_are_completed_or_given_back() -> None:
    queue = FairQueue()
    (job_id,) = push(queue, "g")
    with pytest.raises(KeyError, match="not running"):
        queue.complete(job_id, 1.0)
    with pytest.raises(KeyError, match="not running"):
        queue.requeue(job_id)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        FairQueue().set_weight("g", weight)


def test_a_cap_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="guild_cap"):
        FairQueue(guild_cap=0)
    with pytest.raises(ValueError, match="running"):
        FairQueue().set_cap("g", 0)


def test_restoring_into_a_queue_in_use_is_refused() -> None:
    queue = FairQueue()
    push(queue, "g")
    with pytest.raises(ValueError, match="before"):
        queue.restore([])
