"""Trouble on demand for the local Slack: refusals, gates that hold calls, and its rate limits."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bot.core.ports import Clock
from tests.fakes.slack_state import Payload, Refused

Where = Callable[[Payload], bool]


def anything(arguments: Payload) -> bool:
    """Every call."""
    return True


@dataclass
class Call:
    """One call of a method. at: Unix seconds; status and error: what it was answered with."""

    method: str
    arguments: Payload
    team: str
    at: float
    status: int = 0
    error: str = ""
    answered: float = 0.0


@dataclass
class Trouble:
    """What happens to the next `times` calls of a method (-1: to all) that meet `where`.

    error: refuse with it; status: answer with this status and a page of HTML; drop: close the connection,
    after the call was applied where `applied`.
    """

    method: str
    times: int = 1
    where: Where = anything
    error: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    retry_after: int = 0
    drop: bool = False
    applied: bool = False


@dataclass
class Gate:
    """Holds calls: before they are applied, or after it and before the answer."""

    method: str
    where: Where
    after: bool
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    lose: bool = False


def in_thread(arguments: Payload) -> bool:
    """The call names a thread."""
    return bool(arguments.get("thread_ts"))


def with_result(arguments: Payload) -> bool:
    """The call shows finished pictures: an image block under a text that says so."""
    blocks = arguments.get("blocks") or []
    text = str(arguments.get("text", ""))
    return "white_check_mark" in text and any(block.get("type") == "image" for block in blocks)


# The stages of a job as Slack sees them: name -> (method, which calls, after they were applied). The backend
# of tests/fakes/program.py tells its own two, started and running, to POST /stage/NAME.
STAGES: dict[str, tuple[str, Where, bool]] = {
    "ack": ("ack", anything, False),
    "root": ("chat.postMessage", lambda call: not in_thread(call), False),
    "root-posted": ("chat.postMessage", lambda call: not in_thread(call), True),
    "status": ("chat.postMessage", in_thread, False),
    "status-posted": ("chat.postMessage", in_thread, True),
    "started": ("started", anything, False),
    "running": ("running", anything, False),
    "upload": ("files.getUploadURLExternal", anything, False),
    "uploaded": ("upload", anything, True),
    "complete": ("files.completeUploadExternal", anything, False),
    "completed": ("files.completeUploadExternal", anything, True),
    "processing": ("files.info", anything, False),
    "deliver": ("chat.update", with_result, False),
    "delivered": ("chat.update", with_result, True),
}


class Troubles:
    """The list of troubles and gates, and how slowly files go.

    processing_delay, share_delay: seconds (math.inf: until finish_files()); lose_shares_with_alt: a share
    of a file that has alt text never comes; lose_shares: how many of the next shares never come.
    """

    def __init__(self) -> None:
        self.processing_delay = 0.02
        self.share_delay = 0.02
        self.lose_shares_with_alt = False
        self.lose_shares = 0
        self.unfinished: list[Callable[[], None]] = []
        self.troubles: list[Trouble] = []
        self.gates: dict[str, Gate] = {}

    def take(self, method: str, arguments: Payload) -> Trouble | None:
        """The trouble that meets this call, counted down."""
        for trouble in self.troubles:
            if trouble.method == method and trouble.times and trouble.where(arguments):
                trouble.times -= 1
                return trouble
        return None

    def hold(self, name: str, where: Where | None = None, *, after: bool = False) -> Gate:
        """Let calls wait: at a stage of STAGES, or of the method `name`."""
        method, stage_where, stage_after = STAGES.get(name, (name, anything, after))
        gate = Gate(method, where or stage_where, stage_after)
        self.gates[name] = gate
        return gate

    def release(self, name: str, *, lose: bool = False) -> None:
        """Let them go on; lose: what they brought is lost (an ack never arrived)."""
        gate = self.gates.pop(name, None)
        if gate is not None:
            gate.lose = lose
            gate.opened.set()

    async def pass_gate(self, method: str, arguments: Payload, *, after: bool) -> Gate | None:
        """Wait at the gate for this call, if there is one; the gate."""
        for gate in list(self.gates.values()):
            if gate.method == method and gate.after == after and gate.where(arguments):
                gate.waiting += 1
                gate.reached.set()
                try:
                    await gate.opened.wait()
                finally:
                    gate.waiting -= 1
                return gate
        return None


# Calls per minute for each workspace; chat.postMessage: each channel, with room for a short burst.
POST_BURST = 5
POST_PER_MINUTE = 60
PER_MINUTE = {
    "apps.connections.open": 20,
    "auth.test": 300,
    "bots.info": 50,
    "chat.delete": 50,
    "chat.postEphemeral": 100,
    "chat.update": 50,
    "conversations.info": 50,
    "conversations.open": 50,
    "files.completeUploadExternal": 100,
    "files.delete": 50,
    "files.getUploadURLExternal": 100,
    "files.info": 100,
    "reactions.add": 50,
    "team.info": 50,
    "users.info": 100,
    "views.open": 100,
    "views.publish": 100,
    "views.push": 100,
    "views.update": 100,
}


class RateLimits:
    """Windows of a minute. enforced: whether a call over the limit is refused; over: how often one was."""

    def __init__(self, clock: Clock) -> None:
        self.enforced = False
        self.over = Counter[str]()
        self._clock = clock
        self._windows: dict[tuple[str, str], deque[float]] = {}
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def check(self, method: str, team: str, channel: str) -> None:
        """Count a call; raises Refused(ratelimited) where it is one too many and limits are enforced."""
        posting = method == "chat.postMessage"
        wait = self._bucket(team, channel) if posting else self._window(method, team)
        if wait <= 0:
            return
        self.over[method] += 1
        if self.enforced:
            seconds = max(1, int(wait + 0.999))
            raise Refused("ratelimited", status=429, headers={"Retry-After": str(seconds)})

    def _window(self, method: str, team: str) -> float:
        limit = PER_MINUTE.get(method)
        if limit is None:
            return 0.0
        now = self._clock.monotonic()
        window = self._windows.setdefault((method, team), deque())
        while window and window[0] <= now - 60:
            window.popleft()
        if len(window) >= limit:
            return window[0] + 60 - now
        window.append(now)
        return 0.0

    def _bucket(self, team: str, channel: str) -> float:
        now = self._clock.monotonic()
        tokens, at = self._buckets.get((team, channel), (float(POST_BURST), now))
        tokens = min(float(POST_BURST), tokens + (now - at) * POST_PER_MINUTE / 60)
        if tokens < 1:
            self._buckets[team, channel] = (tokens, now)
            return (1 - tokens) * 60 / POST_PER_MINUTE
        self._buckets[team, channel] = (tokens - 1, now)
        return 0.0
