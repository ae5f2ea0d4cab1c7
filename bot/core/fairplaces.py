"""Where queued jobs stand, read off the plans of their guilds. Changes nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge

from bot.core.sharetree import Entry, Job, Plan, User


@dataclass(frozen=True, slots=True)
class Place:
    """Where a queued job stands. own_rank: 1-based among the own_total queued ones of its user in its guild;
    ahead: queued jobs that go before it if nobody else comes; cost_ahead: their estimated device-seconds."""

    own_rank: int
    own_total: int
    ahead: int
    cost_ahead: float


def before(own: Plan, index: int, others: Iterable[Plan]) -> tuple[int, float]:
    """How many jobs go before the one at `index` of its guild's plan, and their cost."""
    key, ahead, cost = own.keys[index][:3], index, own.costs[index]
    for plan in others:
        count = bisect_left(plan.keys, key)
        ahead, cost = ahead + count, cost + plan.costs[count]
    return ahead, cost


def standings(plans: Sequence[Sequence[tuple[float, int, str, Job]]]) -> Iterator[tuple[Entry, Place]]:
    """All jobs of these guilds' plans in the order in which they go, merged as it is read."""
    ranks: dict[User, int] = {}
    cost = 0.0
    for ahead, (_, _, _, job) in enumerate(merge(*plans)):
        user = job.user
        rank = ranks[user] = ranks.get(user, 0) + 1
        yield job.entry, Place(rank, max(user.queued, rank), ahead, cost)
        cost += job.entry.cost
