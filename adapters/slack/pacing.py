"""Slack's rate limits, kept to from this side: nothing is sent faster than it is taken.

A lane is whatever Slack counts together: one method in one workspace, or the posts in one channel. Knows no
method; callers name lanes and rules.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Window:
    """At most `calls` (>= 1) in any `seconds`."""

    calls: int
    seconds: float

    def wait(self, sent: deque[float], now: float, *, kept: int) -> float:
        """Seconds until one more call is within the rule, `kept` of its calls left; 0 or less: now."""
        while sent and sent[0] <= now - self.seconds:
            sent.popleft()
        full = len(sent) - max(self.calls - kept, 0)
        if full < 0:
            return 0.0
        return sent[full] + self.seconds - now if full < len(sent) else self.seconds

    def count(self, sent: deque[float], now: float) -> None:
        """A call was made."""
        sent.append(now)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One call in `seconds`, after a rest up to `burst` (>= 1) at once."""

    seconds: float
    burst: int

    def wait(self, sent: deque[float], now: float, *, kept: int) -> float:
        """As a Window's. `sent` holds when the bucket is full again."""
        full_at = max(sent[0] if sent else now, now)
        return full_at - (self.burst - 1 - kept) * self.seconds - now

    def count(self, sent: deque[float], now: float) -> None:
        """A call was made."""
        full_at = max(sent.popleft() if sent else now, now)
        sent.append(full_at + self.seconds)


Rule: TypeAlias = "Window | Bucket"
Kept: TypeAlias = Callable[[], int]

LOOK_AGAIN: Final = 1.0  # seconds; who comes meanwhile may be more urgent, and less may have to be kept


def nothing() -> int:
    """Nothing is kept for others."""
    return 0


@dataclass(order=True, slots=True)
class _Waiter:
    rank: int
    number: int
    turn: asyncio.Future[None] = field(compare=False)
    kept: Kept = field(compare=False)


@dataclass(slots=True, eq=False)
class _Lane:
    sent: deque[float] = field(default_factory=deque)
    rest_until: float = float("-inf")
    waiting: list[_Waiter] = field(default_factory=list)
    pump: asyncio.Task[None] | None = None

    def wait(self, rule: Rule, now: float, *, kept: int = 0) -> float:
        """Seconds until a call may be made; 0 or less: now."""
        return max(rule.wait(self.sent, now, kept=kept), self.rest_until - now)


class Gate:
    """Lets calls through in order of rank (0 first), then of arrival."""

    def __init__(self, monotonic: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._lanes: dict[Hashable, _Lane] = {}
        self._numbers = itertools.count()

    async def enter(self, name: Hashable, rule: Rule, *, rank: int = 0, kept: Kept = nothing) -> None:
        """Wait for a call's turn, and count it. kept: how many calls it leaves to more urgent ones."""
        lane, now = self._lane(name, rule), self._monotonic()
        first = not lane.waiting or rank < lane.waiting[0].rank
        if first and lane.wait(rule, now, kept=kept()) <= 0:
            rule.count(lane.sent, now)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(lane.waiting, _Waiter(rank, next(self._numbers), turn, kept))
        if lane.pump is None or lane.pump.done():
            lane.pump = asyncio.ensure_future(self._pump(lane, rule))
        await turn

    def enter_now(self, name: Hashable, rule: Rule, *, kept: int = 0) -> bool:
        """Count a call that is not urgent, if there is room for one now beside `kept` urgent ones; else
        False."""
        lane, now = self._lane(name, rule), self._monotonic()
        if lane.waiting or lane.wait(rule, now, kept=kept) > 0:
            return False
        rule.count(lane.sent, now)
        return True

    def rest(self, name: Hashable, seconds: float) -> None:
        """Slack wants to hear nothing on this lane for so long."""
        lane = self._lanes.setdefault(name, _Lane())
        lane.rest_until = max(lane.rest_until, self._monotonic() + seconds)

    def close(self) -> None:
        """Stop; who still waits is cancelled."""
        for lane in self._lanes.values():
            if lane.pump is not None:
                lane.pump.cancel()
            for waiter in lane.waiting:
                waiter.turn.cancel()
        self._lanes.clear()

    def _lane(self, name: Hashable, rule: Rule) -> _Lane:
        if name not in self._lanes and len(self._lanes) > 1000:
            self._sweep(rule.seconds)
        return self._lanes.setdefault(name, _Lane())

    def _sweep(self, seconds: float) -> None:
        """Forget lanes that were quiet for long."""
        before = self._monotonic() - max(seconds, 60.0)
        quiet = [
            name
            for name, lane in self._lanes.items()
            if not lane.waiting and lane.rest_until < before and (not lane.sent or lane.sent[-1] < before)
        ]
        for name in quiet:
            del self._lanes[name]

    async def _pump(self, lane: _Lane, rule: Rule) -> None:
        while lane.waiting:
            wait = lane.wait(rule, self._monotonic(), kept=lane.waiting[0].kept())
            if wait > 0:
                await self._sleep(min(wait, LOOK_AGAIN))
                continue
            turn = heapq.heappop(lane.waiting).turn
            if not turn.done():  # whoever waited may have gone away
                rule.count(lane.sent, self._monotonic())
                turn.set_result(None)
