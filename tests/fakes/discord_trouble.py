"""Trouble on demand: what the local Discord does to requests of a route instead of, or after, answering them.

    gate = discord.on("PATCH /webhooks/*/*/messages/@original").hold()
    await gate.reached.wait()           # a request waits there, not applied yet
    gate.release()
    discord.on("POST /channels/*/messages").limit(0.2)          # one 429, as Discord's own (with Via)
    discord.on("POST /channels/*/messages").limit(0.2, via=False)   # as from a proxy before it
    discord.on("** /**").fail(502, times=3)
    discord.on("PATCH /channels/*/messages/*").refuse(50013)
    discord.on("POST /channels/*/messages").lose()              # applied, answered 502
    discord.on("POST /channels/*/messages").cut()               # applied, the connection dropped
    discord.pace("POST /channels/*/messages", 5, per=5.0)       # a real rate limit, by channel or webhook,
                                                                # told in headers, which clients heed

In a pattern `*` is one part of a path (or any method), `**` any number, `(a|b)` a choice. The newest
matching trouble counts; `times=None` lasts until stop(). Each counts its `hits`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from dataclasses import dataclass, field

from tests.fakes.discord_errors import MESSAGES, STATUS
from tests.fakes.discord_state import Json


@dataclass(frozen=True, slots=True)
class Spoiled:
    """An answer that trouble gives. body None: HTML, as a proxy sends."""

    status: int
    body: Json | None
    headers: dict[str, str] = field(default_factory=dict)


class Gate:
    """Where requests wait. reached: set once one is there; waiting: how many are."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.waiting = 0
        self._open = asyncio.Event()

    def release(self) -> None:
        """Let all through, now and later."""
        self._open.set()

    async def wait(self) -> None:
        """Stop here until released."""
        self.waiting += 1
        self.reached.set()
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1


@dataclass(eq=False)
class Trouble:
    """What happens to matching requests: one of answer, gate, lose, cut."""

    pattern: re.Pattern[str]
    times: int | None
    answer: Spoiled | None = None
    gate: Gate | None = None
    applied: bool = False
    cut: bool = False
    hits: int = 0

    def stop(self) -> None:
        """No more of it."""
        self.times = 0

    def takes(self, request: str) -> bool:
        """Whether this request is hit; counts it."""
        if self.times == 0 or not self.pattern.fullmatch(request):
            return False
        self.times = None if self.times is None else self.times - 1
        self.hits += 1
        return True


def pattern_of(text: str) -> re.Pattern[str]:
    """A route pattern, as "PATCH /channels/*/messages/*"."""
    method, _, path = text.partition(" ")
    made = re.escape(path).replace(r"\*\*", ".*").replace(r"\*", "[^/]+")
    made = re.sub(r"\\([()|])", r"\1", made)
    return re.compile((r"\S+" if "*" in method else method) + " " + made)


class Troubles:
    """All that is set."""

    def __init__(self) -> None:
        self.every: list[Trouble] = []
        self.paces: list[Pace] = []

    def find(self, request: str, *, applied: bool) -> Trouble | None:
        """The trouble that hits a request before or after it was applied."""
        for each in reversed(self.every):
            if each.applied == applied and each.takes(request):
                return each
        return None

    def paced(self, request: str, major: str, now: float) -> Paced:
        """Count a request against every pace that it falls under."""
        headers: dict[str, str] = {}
        for each in self.paces:
            if each.pattern.fullmatch(request):
                wait = each.take(major, now)
                if not each.shared or wait > 0:
                    headers = each.headers(major, now)
                if wait > 0:
                    return Paced(headers, wait, each.shared)
        return Paced(headers)


@dataclass(frozen=True, slots=True)
class Paced:
    """What paces say to a request. headers: of its answer; wait: seconds, where it is one too many."""

    headers: dict[str, str]
    wait: float = 0.0
    everywhere: bool = False


@dataclass(eq=False)
class Pace:
    """So many requests a window, for each channel or webhook; `shared`: over all, as the global limit."""

    pattern: re.Pattern[str]
    limit: int
    per: float
    shared: bool = False
    refused: int = 0
    windows: dict[str, tuple[float, int]] = field(default_factory=dict)

    def headers(self, major: str, now: float) -> dict[str, str]:
        """How a client reads what is left."""
        began, used = self.windows["" if self.shared else major]
        left = max(0.001, began + self.per - now)
        bucket = hashlib.sha256(self.pattern.pattern.encode()).hexdigest()[:32]
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.limit - used),
            "X-RateLimit-Reset": f"{time.time() + left:.3f}",
            "X-RateLimit-Reset-After": f"{left:.3f}",
            "X-RateLimit-Bucket": bucket,
            "X-RateLimit-Scope": "global" if self.shared else "user",
        }

    def take(self, major: str, now: float) -> float:
        """Count a request; seconds to wait where it is one too many."""
        key = "" if self.shared else major
        began, used = self.windows.get(key, (now, 0))
        if now >= began + self.per:
            began, used = now, 0
        if used >= self.limit:
            self.refused += 1
            return began + self.per - now
        self.windows[key] = (began, used + 1)
        return 0.0


class On:
    """Sets trouble for a route; see the module."""

    def __init__(self, troubles: Troubles, route: str) -> None:
        self._troubles = troubles
        self._pattern = pattern_of(route)

    def _set(self, trouble: Trouble) -> Trouble:
        self._troubles.every.append(trouble)
        return trouble

    def refuse(self, code: int, *, status: int | None = None, times: int | None = 1) -> Trouble:
        """Answer with an error of Discord's, by its code; status: where it is not the usual one."""
        body = {"message": MESSAGES.get(code, "Refused"), "code": code}
        return self._set(Trouble(self._pattern, times, Spoiled(status or STATUS.get(code, 400), body)))

    def fail(self, status: int = 500, *, times: int | None = 1) -> Trouble:
        """Answer with a server error in HTML; nothing is applied."""
        return self._set(Trouble(self._pattern, times, Spoiled(status, None)))

    def limit(
        self, retry_after: float = 0.05, *, times: int | None = 1, via: bool = True, everywhere: bool = False
    ) -> Trouble:
        """Answer 429; via False: without a Via header, as from a proxy before Discord."""
        return self._set(Trouble(self._pattern, times, too_many(retry_after, via=via, everywhere=everywhere)))

    def hold(self, *, times: int | None = None, applied: bool = False) -> Gate:
        """Keep requests waiting; applied: after they were applied, before they are answered."""
        gate = Gate()
        self._set(Trouble(self._pattern, times, gate=gate, applied=applied))
        return gate

    def lose(self, *, status: int = 502, times: int | None = 1) -> Trouble:
        """Apply, then answer a server error."""
        return self._set(Trouble(self._pattern, times, Spoiled(status, None), applied=True))

    def cut(self, *, times: int | None = 1, applied: bool = True) -> Trouble:
        """Apply (or not), then drop the connection without an answer."""
        return self._set(Trouble(self._pattern, times, cut=True, applied=applied))


def too_many(retry_after: float, *, via: bool = True, everywhere: bool = False) -> Spoiled:
    """A 429."""
    text = "You are being rate limited."
    headers = {"Retry-After": str(max(1, round(retry_after)))} | ({"Via": "1.1 local"} if via else {})
    headers |= {"X-RateLimit-Global": "true"} if everywhere else {}
    body = {"message": text, "retry_after": retry_after, "global": everywhere, "code": 0}
    return Spoiled(429, body, headers)
