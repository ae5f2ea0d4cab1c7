"""Why somebody waits: who shares the machines now, and what was used of them in the last hour.

Counts; decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bot.core.desk import LiveGroup
from bot.core.lanes import Lane
from bot.core.messages import share_line, why_waiting
from bot.core.request import Requester

HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Why:
    """members, guilds: with requests in the queue now; places: that make pictures at a time. Device-seconds
    of the last hour: the member's own in this guild, all of the guild's, and the typical member's of it."""

    members: int
    guilds: int
    places: int
    own_seconds: float
    guild_seconds: float
    typical_seconds: float

    def text(self, member: str = "member", guild: str = "server", place: str = "GPU") -> tuple[str, ...]:
        """The lines that people read; with one guild they speak of members, with several of guilds too."""
        why = why_waiting(
            self.members, self.places, guilds=self.guilds, member=member, guild=guild, place=place
        )
        if self.guild_seconds <= 0:
            return (why,)
        return why, share_line(self.own_seconds, self.typical_seconds)


def _places(lanes: Sequence[Lane]) -> int:
    """What they share: the devices that cost nothing, or where there are none the hosted ones."""
    up = [lane for lane in lanes if lane.up]
    return sum(lane.places for lane in up if not lane.hosted) or sum(lane.places for lane in up)


def why(
    by: Requester,
    groups: Iterable[LiveGroup],
    lanes: Sequence[Lane],
    used: Sequence[tuple[Requester, float]],
) -> Why:
    """groups: all in hand; used: device-seconds by member and guild over the last hour."""
    waiting = {(group.requester.tenant, group.requester.member) for group in groups if not group.ended}
    waiting.add((by.tenant, by.member))  # who asks is counted, or else "1 member" might be somebody else
    seconds = Counter[str]()
    for who, each in used:
        if who.tenant == by.tenant and each > 0:
            seconds[who.member] += each  # type: ignore[assignment]  # a Counter adds up any number
    return Why(
        members=len({member for _, member in waiting}),
        guilds=len({tenant for tenant, _ in waiting}),
        places=max(1, _places(lanes)),
        own_seconds=seconds[by.member],
        guild_seconds=sum(seconds.values()),
        typical_seconds=median(seconds.values()) if seconds else 0.0,
    )
