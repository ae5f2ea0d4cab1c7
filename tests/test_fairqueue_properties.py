"""The fair queue's invariants over random histories.

The numbers in comments: 1 every job is in one state; 2 no worker idles while a job could run; 3 the least
tags go first; 4 virtual time never falls; 5 first in, first out for each user; 6 the bound; 7 idling saves
nothing up; 8 caps; 9 places; 10 every job starts; 11 a restart changes nothing.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bot.core.fairqueue import WAITING, Entry, FairQueue
from bot.core.ports import ShareTag

GUILDS, USERS, KINDS = ("g1", "g2", "g3"), ("u1", "u2", "u3"), ("big", "small")
COSTS = st.one_of(st.sampled_from((1.0, 2.0, 5.0)), st.floats(0.1, 30.0))
Node = tuple[str | None, str | None]
Result = TypeVar("Result")


def store(rows: dict[Node, ShareTag], tags: tuple[ShareTag, ...]) -> None:
    """What a store does with changed tags."""
    for tag in tags:
        rows.pop((tag.guild, tag.user), None)
        if tag.weight > 0.0:
            rows[tag.guild, tag.user] = tag


class History(RuleBasedStateMachine):
    """Two queues side by side: `queue` crashes now and then and is rebuilt, `steady` never stops."""

    caps: tuple[int | None, int | None, int | None] = (None, None, None)

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.steady = self.new(), self.new()
        self.entries: dict[str, Entry] = {}  # all that ever was accepted, in order
        self.queued: set[str] = set()
        self.running: set[str] = set()
        self.ended: set[str] = set()
        self.weights: dict[Node, float] = {}
        self.view: dict[Node, ShareTag] = {}  # the tags now
        self.stored: dict[Node, ShareTag] = {}  # the tags as last committed
        self.unwritten: tuple[ShareTag, ...] = ()
        self.largest = 0.0

    def new(self) -> FairQueue:
        guild, user, soft = self.caps
        return FairQueue(guild_cap=guild, user_cap=user, soft_user_cap=soft)

    # --- what happens ---

    @rule(guild=st.sampled_from(GUILDS), user=st.sampled_from(USERS), cost=COSTS, kind=st.sampled_from(KINDS))
    def push(self, guild: str, user: str, cost: float, kind: str) -> None:
        entry = Entry(f"j{len(self.entries)}", guild, user, cost, kind, order=len(self.entries))
        self.entries[entry.job_id] = entry
        self.queued.add(entry.job_id)
        self.both(lambda queue: queue.push(entry))
        self.look(commit=False)

    @rule(kinds=st.sampled_from((None, *KINDS)), odd=st.booleans())
    def pop(self, kinds: str | None, odd: bool) -> None:
        def can_run(entry: Entry) -> bool:
            return kinds is None or entry.kind == kinds or (odd and entry.job_id[-1] in "13579")

        serves = (lambda kind: kind == kinds) if kinds is not None and not odd else None
        expected = self.expected(can_run)
        entry = self.both(lambda queue: queue.pop(None if kinds is None else can_run, serves=serves))
        assert (entry.job_id if entry else None) == expected  # 2, 3, 5 and 8
        if entry is not None:
            self.move(entry.job_id, self.queued, self.running)
            self.largest = max(self.largest, entry.cost)
        self.look()

    @precondition(lambda self: self.running)
    @rule(pick=st.randoms(use_true_random=False), factor=st.sampled_from((0.0, 0.3, 1.0, 1.4, 3.0)))
    def complete(self, pick: random.Random, factor: float) -> None:
        job_id = pick.choice(sorted(self.running))
        actual = self.entries[job_id].cost * factor
        self.both(lambda queue: queue.complete(job_id, actual))
        self.move(job_id, self.running, self.ended)
        self.look()

    @precondition(lambda self: self.running)
    @rule(pick=st.randoms(use_true_random=False))
    def requeue(self, pick: random.Random) -> None:
        job_id = pick.choice(sorted(self.running))
        self.both(lambda queue: queue.requeue(job_id))
        self.move(job_id, self.running, self.queued)
        self.look()

    @precondition(lambda self: self.entries)
    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick: random.Random) -> None:
        job_id = pick.choice(sorted(self.entries))
        assert self.both(lambda queue: queue.cancel(job_id)) == (job_id in self.queued)
        if job_id in self.queued:
            self.move(job_id, self.queued, self.ended)
        assert not self.queue.cancel(job_id)  # 8: idempotent
        self.look()

    @rule(
        guild=st.sampled_from(GUILDS),
        user=st.sampled_from((None, *USERS)),
        weight=st.sampled_from((0.5, 2.0)),
    )
    def set_weight(self, guild: str, user: str | None, weight: float) -> None:
        self.weights[guild, user] = weight
        self.both(lambda queue: queue.set_weight(guild, weight, user))
        self.look()

    @rule(pick=st.randoms(use_true_random=False))
    def crash(self, pick: random.Random) -> None:
        """11. Only what was committed is left, some of the running jobs are lost, and now and then the
        program crashes again while it gives them back."""
        lost = [job_id for job_id in self.entries if job_id in self.running and pick.random() < 0.5]
        self.rebuild(pick)
        for job_id in lost:
            self.both(lambda queue, job_id=job_id: queue.requeue(job_id))  # type: ignore[misc]
            self.move(job_id, self.running, self.queued)
            store(self.stored, self.queue.changed())
            if pick.random() < 0.3:
                self.rebuild(pick)
        self.view, self.unwritten = dict(self.stored), ()
        self.queue.places()  # ends the rebuilding
        self.look(commit=False)

    def rebuild(self, pick: random.Random) -> None:
        self.queue = self.new()
        for (guild, user), weight in self.weights.items():
            assert guild is not None
            self.queue.set_weight(guild, weight, user)
        self.queue.restore(self.stored.values())
        for entry in pick.sample(list(self.entries.values()), len(self.entries)):
            if entry.job_id in self.queued:
                self.queue.push(entry)
            elif entry.job_id in self.running:
                self.queue.adopt_running(entry)

    # --- what must hold ---

    @invariant()
    def every_job_is_in_one_state(self) -> None:
        assert len(self.queue) == self.queue.waiting() == len(self.queued)
        assert self.queue.running() == len(self.running)
        assert len(self.queued) + len(self.running) + len(self.ended) == len(self.entries)

    @invariant()
    def caps_hold(self) -> None:
        guild_cap, user_cap, _ = self.caps
        for guild in GUILDS:
            assert self.queue.running(guild) <= (guild_cap or math.inf)
            for user in USERS:
                assert self.queue.running(guild, user) <= (user_cap or math.inf)

    @invariant()
    def places_are_a_permutation_and_the_same_after_a_restart(self) -> None:
        places = self.queue.places()
        assert set(places) == self.queued
        assert [place.ahead for place in places.values()] == list(range(len(places)))
        assert places == self.steady.places()
        cost, ranks = 0.0, dict.fromkeys(((g, u) for g in GUILDS for u in USERS), 0)
        for job_id, place in places.items():
            entry = self.entries[job_id]
            ranks[entry.guild, entry.user] += 1
            assert place.own_rank == ranks[entry.guild, entry.user]
            assert place.own_total == self.queue.waiting(entry.guild, entry.user)
            assert place.cost_ahead == pytest.approx(cost)
            cost += entry.cost
            single = self.queue.place(job_id)
            assert single is not None
            assert single.ahead == place.ahead == self.queue.ahead(job_id)
            assert single.cost_ahead == pytest.approx(cost - entry.cost)

    def teardown(self) -> None:
        """9: the order foretold is the order of dispatch. 10: every job starts."""
        queue = copy.deepcopy(self.queue)
        foretold = list(queue.places())
        for job_id in sorted(self.running):
            queue.complete(job_id, self.entries[job_id].cost)
        assert list(drained(queue)) == foretold
        assert set(foretold) == self.queued
        queue.changed()
        assert not queue._root.children  # an idle queue remembers nobody

    # --- inside ---

    def both(self, act: Callable[[FairQueue], Result]) -> Result:
        result = act(self.queue)
        assert result == act(self.steady)
        return result

    def move(self, job_id: str, before: set[str], after: set[str]) -> None:
        before.remove(job_id)
        after.add(job_id)

    def look(self, *, commit: bool = True) -> None:
        """Take note of changed tags, check 4 and 7 on them, and commit them where the program would."""
        tags = self.queue.changed()
        before = dict(self.view)
        store(self.view, tags)
        self.unwritten += tags
        if commit:
            store(self.stored, self.unwritten)
            self.unwritten = ()
        for node, tag in self.view.items():
            old = before.get(node)
            if node == (None, None) or old is None:
                continue
            assert tag.virtual >= old.virtual  # 4
            parent = self.view[None, None] if tag.user is None else self.view[tag.guild, None]
            job = self.largest / 0.5  # no weight is less
            if tag.credit == WAITING and old.credit != WAITING:
                assert tag.vt >= parent.virtual - old.credit - job  # 4: a refund came in the same step
            if tag.credit != WAITING and not self.queue.waiting(tag.guild, tag.user):
                assert tag.credit <= job  # 7

    def expected(self, can_run: Callable[[Entry], bool]) -> str | None:
        """The job that must go next, worked out from the stored tags and the rules' wording alone."""
        guild_cap, user_cap, soft = self.caps
        line: dict[tuple[str, str], list[Entry]] = {}
        for job_id, entry in self.entries.items():
            if job_id in self.queued:
                line.setdefault((entry.guild, entry.user), []).append(entry)
        for held in (False, True):
            nodes = [
                (guild, user)
                for guild, user in line
                if (guild_cap is None or self.ran(guild) < guild_cap)
                and (user_cap is None or self.ran(guild, user) < user_cap)
                and (soft is not None and self.ran(guild, user) >= soft) == held
            ]
            order = list(self.entries)

            def rank(node: tuple[str, str], order: list[str] = order) -> tuple[float, int]:
                return self.view[node].vt, order.index(line[node][0].job_id)

            def guild_rank(guild: str, nodes: list[tuple[str, str]] = nodes) -> tuple[float, int]:
                first = min((node for node in nodes if node[0] == guild), key=rank)
                return self.view[guild, None].vt, rank(first)[1]

            able = [node for node in nodes if any(map(can_run, line[node]))]
            if able:
                best = min({guild for guild, _ in able}, key=guild_rank)
                user = min((node for node in able if node[0] == best), key=rank)
                return next(entry.job_id for entry in line[user] if can_run(entry))
        return None

    def ran(self, guild: str, user: str | None = None) -> int:
        jobs = (self.entries[job_id] for job_id in self.running)
        return sum(entry.guild == guild and user in (None, entry.user) for entry in jobs)


def drained(queue: FairQueue) -> Iterator[str]:
    """The order in which one worker takes all."""
    while (entry := queue.pop()) is not None:
        queue.complete(entry.job_id, entry.cost)
        yield entry.job_id


@pytest.mark.parametrize("caps", [(None, None, None), (None, None, 1), (3, 2, None), (3, 2, 1)], ids=str)
def test_the_invariants_hold_in_every_history(caps: tuple[int | None, int | None, int | None]) -> None:
    machine = type("CappedHistory", (History,), {"caps": caps})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=50, deadline=None)
    )


# --- 6: the published bound ---


def service_gap(
    rng: random.Random, *, workers: int, error: float, by_user: bool, overflow: float | None = None
) -> float:
    """Two nodes with work waiting all the time, among others that come and go: the largest difference of
    their service per weight over any interval, in units of the published bound. overflow: one worker more
    takes only jobs with so many device-seconds before them, as a paid backend does; intervals count in which
    both nodes have such jobs, for who has none does not wait long."""
    queue = FairQueue(soft_user_cap=None)
    names = [f"n{number}" for number in range(rng.randint(2, 6))]
    weights = {name: float(rng.randint(1, 4)) for name in names}
    largest = {name: rng.uniform(1.0, 30.0) for name in names}
    actual: dict[str, float] = {}

    def entry(name: str, number: int) -> Entry:
        job_id, used = f"{name}-{number}", rng.uniform(0.05, 1.0) * largest[name]
        actual[job_id] = used
        guess = used * rng.uniform(1.0 - error, 1.0 + error)
        return Entry(job_id, "g" if by_user else name, name if by_user else "u", guess)

    for name in names:
        queue.set_weight("g" if by_user else name, weights[name], name if by_user else None)
        for number in range(60 if name in names[:2] else rng.randint(0, 10)):
            queue.push(entry(name, number))
    first, second = names[:2]
    gap = low = high = most = now = 0.0
    busy: list[tuple[float, str]] = []
    hired: set[str] = set()

    def free_worker() -> Entry | None:
        if len(busy) - len(hired) < workers and (found := queue.pop()) is not None:
            return found
        if overflow is None or hired:
            return None
        nonlocal gap, low, high
        waits_long = set()
        for job_id, place in queue.places().items():
            over = place.cost_ahead >= overflow
            queue.set_kind(job_id, "over" if over else "")
            waits_long |= {job_id.partition("-")[0]} if over else set()
        if not {first, second} <= waits_long:
            gap = low = high = 0.0
        if (found := queue.pop(serves="over".__eq__)) is not None:
            hired.add(found.job_id)
        return found

    for number in range(60, 60 + 90):
        while (job := free_worker()) is not None:
            heappush(busy, (now + actual[job.job_id], job.job_id))
            name = job.user if by_user else job.guild
            if name in (first, second):
                gap += actual[job.job_id] / weights[name] * (1.0 if name == first else -1.0)
                low, high = min(low, gap), max(high, gap)
                most = max(most, high - low)
                queue.push(entry(name, number * 1000 + len(actual)))  # never runs dry
        now, ended = heappop(busy)
        hired.discard(ended)
        queue.complete(ended, actual[ended])
        if rng.random() < 0.5:
            queue.push(entry(rng.choice(names), 10**6 + number))
    unit = largest[first] / weights[first] + largest[second] / weights[second]
    all_workers = workers + (overflow is not None)
    if overflow is not None:  # who was passed over for a while has a claim of two of the largest jobs
        unit += 2.0 * max(largest.values()) / min(weights[first], weights[second])
    return most / (unit * (1.0 + error * (1.0 + 2.0 * all_workers)))


@pytest.mark.parametrize("error", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@settings(max_examples=40, deadline=None)
@given(rng=st.integers(0, 2**32).map(random.Random), by_user=st.booleans())
def test_service_of_two_busy_tenants_differs_by_at_most_the_published_bound(
    workers: int, error: float, rng: random.Random, by_user: bool
) -> None:
    assert service_gap(rng, workers=workers, error=error, by_user=by_user) <= 1.0 + 1e-9


@pytest.mark.parametrize("error", [0.0, 0.5])
@settings(max_examples=30, deadline=None)
@given(rng=st.integers(0, 2**32).map(random.Random), by_user=st.booleans(), overflow=st.floats(0, 300))
def test_the_bound_holds_where_a_paid_backend_takes_what_would_wait_long(
    error: float, rng: random.Random, by_user: bool, overflow: float
) -> None:
    assert service_gap(rng, workers=1, error=error, by_user=by_user, overflow=overflow) <= 1.0 + 1e-9
