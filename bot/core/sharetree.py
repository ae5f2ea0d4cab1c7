"""The nodes of the fair queue: a root, guilds, users, and how their tags move.

Knows the arithmetic of start-time fair queueing and nothing of caps, jobs that run, or storage; see
bot/core/fairqueue.py for the rules in words.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from bot.core.ranking import Ranking

REMEMBERED: Final = 1000
"""Idle nodes whose tags are kept below one parent, at most."""

ROUNDED_UP: Final = 1.0 + 1e-12  # V - (V - vt) may else be more than vt by a rounding error

Key: TypeAlias = tuple[str | None, str | None]
"""(guild, user) as in a ShareTag: (None, None) is the root, (guild, None) a guild."""

ROOT: Final[Key] = (None, None)

Caps: TypeAlias = tuple[int | None, int | None]
"""Running jobs at most: of a guild, of each of its users; None for no cap."""


def cap(name: str, value: int | None) -> int | None:
    """A running cap. ValueError where it is under 1."""
    if value is not None and value < 1:
        raise ValueError(f"{name} is {value}; it must be 1 or more, or None for no cap")
    return value


@dataclass(frozen=True, slots=True)
class Entry:
    """A job as the queue sees it. cost: estimated device-seconds, over 0.

    kind: jobs of one kind can run on the same workers (a model's name, say); pop() skips guilds by it.
    order: the rank of acceptance, unique; None: the order of the calls. Give it for all jobs or for none.
    """

    job_id: str
    guild: str
    user: str
    cost: float
    kind: str = ""
    order: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.cost < math.inf:
            raise ValueError(f"cost of job {self.job_id!r} is {self.cost}; it must be finite and over 0")


@dataclass(slots=True, eq=False)
class Job:
    """An entry with its rank of acceptance and its user's node."""

    entry: Entry
    order: int
    user: User


class Plan(NamedTuple):
    """A guild's queued jobs in the order in which they will go: (the guild's tag by then, order, id, job).
    costs[i] sums the costs of those before the i-th; tag: the guild's own, that it was worked out from."""

    keys: list[tuple[float, int, str, Job]]
    costs: list[float]
    tag: float


class Node:
    """A guild or a user. Tags are device-seconds over weight.

    vt: start tag of its next job; credit: while not eligible, how far behind V it may start; queued, running:
    its jobs; eligible, held, resting: whether its parent ranks it as ready, held or idle.
    """

    __slots__ = ("credit", "eligible", "held", "key", "name", "queued", "resting", "running", "vt", "weight")

    def __init__(self, key: Key, weight: float) -> None:
        self.key = key
        self.name = key[1] or key[0] or ""
        self.weight = weight
        self.vt = 0.0
        self.credit = 0.0
        self.eligible = self.held = self.resting = False
        self.queued = 0
        self.running = 0

    @property
    def idle(self) -> bool:
        """Whether none of its jobs waits or runs."""
        return not (self.queued or self.running)

    def correct(self, extra: float, cost: float) -> None:
        """Charge `extra` device-seconds, negative for a refund, for a job that was charged `cost`."""
        change = extra / self.weight
        self.vt += change
        if self.eligible:
            return
        credit = max(0.0, self.credit - change)
        # Without jobs that wait, refunds add up to one job at most.
        self.credit = credit if self.queued else min(credit, max(self.credit, cost / self.weight))


class User(Node):
    """A user in one guild, with a first-in-first-out line of jobs."""

    __slots__ = ("guild", "line")

    def __init__(self, key: Key, weight: float, guild: Guild) -> None:
        super().__init__(key, weight)
        self.guild = guild
        self.line: OrderedDict[str, Job] = OrderedDict()

    @property
    def head(self) -> Job:
        """The next job; StopIteration where there is none."""
        return next(iter(self.line.values()))

    def enter(self, job: Job) -> bool:
        """Line up by acceptance: at the end, or for a job that was given back nearly always at the head.
        True where it is the head now."""
        line, job_id = self.line, job.entry.job_id
        last = next(reversed(line.values()), None)
        line[job_id] = job
        if last is None:
            return True
        if job.order > last.order:
            return False
        if job.order < self.head.order:
            line.move_to_end(job_id, last=False)
            return True
        self.line = OrderedDict(sorted(line.items(), key=lambda item: item[1].order))
        return False


Child = TypeVar("Child", bound=Node)


class Parent(Node, Generic[Child]):
    """A node with children. virtual: V, the start tag of its last dispatch.

    ready: eligible children; held_back: children that the soft cap alone holds; both by tag, then by the
    order of the job that they would send next. idle: by the tag from which V has caught up with them.
    kinds: how many queued jobs there are of each kind.
    """

    __slots__ = ("children", "held_back", "idle_children", "kinds", "ready", "virtual")

    def __init__(self, key: Key, weight: float) -> None:
        super().__init__(key, weight)
        self.virtual = 0.0
        self.children: dict[str, Child] = {}
        self.kinds: dict[str, int] = {}
        self.ready = Ranking()
        self.held_back = Ranking()
        self.idle_children = Ranking()

    def start_tag(self, child: Child) -> float:
        """The tag of a child if it became eligible now."""
        return child.vt if child.eligible else max(child.vt, self.virtual - child.credit)

    def claim(self, child: Child) -> float:
        """How far a child that ceases to be eligible is behind V: a cap takes nothing from those who wait."""
        if not child.queued or child.vt >= self.virtual:
            return 0.0
        return (self.virtual - child.vt) * ROUNDED_UP

    def charge(self, child: Child, cost: float) -> None:
        """A job of this child is dispatched."""
        child.vt = self.start_tag(child)
        self.virtual = max(self.virtual, child.vt)
        child.vt += cost / child.weight
        if not child.eligible:  # the soft cap gave way for this one job
            child.credit = self.claim(child)

    def arrange(self, child: Child, ready: int | None, held: int | None) -> bool:
        """Rank a child by the orders of the jobs that it would send, None for none. True where it became
        eligible or ceased to be."""
        was = child.eligible
        if ready is not None:
            if not was:
                child.vt, child.credit, child.eligible = self.start_tag(child), 0.0, True
            self.ready.put(child.name, child.vt, ready)
        elif was:
            child.eligible, child.credit = False, self.claim(child)
            self.ready.drop(child.name)
        if held is not None:
            child.held = True
            self.held_back.put(child.name, child.vt, held)
        elif child.held:
            child.held = False
            self.held_back.drop(child.name)
        if not (child.queued or child.running):
            child.resting = True
            self.idle_children.put(child.name, child.vt + child.credit, 0)
        elif child.resting:
            child.resting = False
            self.idle_children.drop(child.name)
        return was is not child.eligible

    def limit(self, child: Child, claim: float) -> bool:
        """Keep a child's tag at most `claim` device-seconds behind V. True where it was further behind."""
        floor = self.virtual - claim / child.weight
        if child.vt >= floor:
            return False
        child.vt = floor
        return True

    def count(self, kind: str, change: int) -> None:
        """A queued job of this kind came (1) or went (-1)."""
        self.queued += change
        left = self.kinds.get(kind, 0) + change
        if left:
            self.kinds[kind] = left
        else:
            del self.kinds[kind]

    def forget(self) -> list[Child]:
        """Drop the idle children whose tags say nothing any more, or too little to be worth the memory."""
        forgotten: list[Child] = []
        while (item := self.idle_children.first()) is not None:
            if not self.idle and item[0] > self.virtual and len(self.idle_children) <= REMEMBERED:
                break
            self.idle_children.drop(item[2])
            forgotten.append(self.children.pop(item[2]))
        return forgotten


class Guild(Parent[User]):
    """A guild. cap, user_cap: running jobs at most, of all and of each user; plan: the order of its queued
    jobs as last worked out, None where that is outdated."""

    __slots__ = ("cap", "plan", "user_cap")

    def __init__(self, key: Key, weight: float, cap: int | None, user_cap: int | None) -> None:
        super().__init__(key, weight)
        self.cap = cap
        self.user_cap = user_cap
        self.plan: Plan | None = None

    def planned(self, tag: float) -> Plan:
        """The order of its queued jobs, were its own tag `tag`. O(n log n) in its queued jobs.

        Adds up tags in the very steps of Parent.charge, so that equal tags are equal here too.
        """
        keys: list[tuple[float, int, str, Job]] = []
        costs, begun, weight, total = [0.0], tag, self.weight, 0.0
        for job in self._in_order():
            cost = job.entry.cost
            keys.append((tag, job.order, job.entry.job_id, job))
            tag += cost / weight
            total += cost
            costs.append(total)
        return Plan(keys, costs, begun)

    def _in_order(self) -> Iterable[Job]:
        """Its queued jobs in the order in which they will go."""
        users = [user for user in self.children.values() if user.line]
        if len(users) == 1:  # as with a key, which is its own only user
            return users[0].line.values()
        order: list[tuple[float, int, str, Job]] = []
        for user in users:
            start, weight = self.start_tag(user), user.weight
            for job_id, job in user.line.items():
                order.append((start, job.order, job_id, job))
                start += job.entry.cost / weight
        order.sort()
        return [job for _, _, _, job in order]

    def came_last(self, job: Job) -> None:
        """A job was lined up behind another one of its user's. Where that is the only user with jobs, it goes
        behind them all: a long line of one user is not worked out anew for each job that comes."""
        plan = self.plan
        if plan is None or job.user.queued != self.queued or plan.keys[-1][1] > job.order:
            self.plan = None
            return
        tag, _, _, last = plan.keys[-1]
        plan.keys.append((tag + last.entry.cost / self.weight, job.order, job.entry.job_id, job))
        plan.costs.append(plan.costs[-1] + job.entry.cost)

    def index(self, plan: Plan, job: Job) -> int:
        """Where a queued job stands in the plan. O(log n) where one user alone has jobs, for they go in the
        order of acceptance."""
        if job.user.queued == self.queued:
            return bisect_left(plan.keys, job.order, key=itemgetter(1))
        return next(index for index, key in enumerate(plan.keys) if key[3] is job)


class Root(Parent[Guild]):
    """The root, with what an operator set for nodes whether they are in memory or not.

    vt: no tag, the root has none; the largest cost dispatched so far.
    """

    __slots__ = ("caps", "default_caps", "weights")

    def __init__(self, default_caps: Caps) -> None:
        super().__init__(ROOT, 1.0)
        self.default_caps = default_caps
        self.caps: dict[str, Caps] = {}
        self.weights: dict[Key, float] = {}

    def caps_of(self, guild: str) -> Caps:
        """Running jobs at most, of a guild and of each of its users; None for no cap."""
        own, default = self.caps.get(guild, (None, None)), self.default_caps
        return default[0] if own[0] is None else own[0], default[1] if own[1] is None else own[1]

    def guild(self, name: str) -> Guild:
        """The guild's node, made where there is none."""
        guild = self.children.get(name)
        if guild is None:
            guild = Guild((name, None), self.weights.get((name, None), 1.0), *self.caps_of(name))
            self.children[name] = guild
        return guild

    def user(self, guild: str, name: str) -> User:
        """The node of a user in a guild, made where there is none."""
        parent = self.guild(guild)
        user = parent.children.get(name)
        if user is None:
            user = User((guild, name), self.weights.get((guild, name), 1.0), parent)
            parent.children[name] = user
        return user

    def find(self, key: Key) -> Node | None:
        """The node in memory that a key stands for."""
        guild, user = key
        if guild is None:
            return self
        found = self.children.get(guild)
        return found if found is None or user is None else found.children.get(user)

    def nodes(self, guild: str | None, user: str | None) -> Sequence[Node]:
        """The nodes in memory of a user in a guild, None standing for all; the fewest that cover them."""
        if guild is not None or user is None:
            found = self.find((guild, user))
            return [] if found is None else [found]
        return [parent.children[user] for parent in self.children.values() if user in parent.children]
