"""How often sessions were begun, over restarts: Discord resets a token after 1,000 IDENTIFYs in a day.

Pure but for the shelf that keeps the times. An eighth of Discord's number is free; after that the rest is
spread so that a day never sees more than half of it, crash loops and broken networks included.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from bot.core.errors import Unavailable
from bot.core.ports import Clock
from bot.core.request import JSON
from bot.core.studio import Shelf

log = logging.getLogger(__name__)

DAY: Final = 86_400.0
USUAL_TOTAL: Final = 1000
GAP: Final = 5.0  # seconds between two sessions' beginnings, of shards or of the same one
LAST_GAP: Final = 1800.0


class Starts:
    """The times of the last day. total: what Discord allows in one; shelf: None keeps them in memory."""

    def __init__(self, clock: Clock, *, total: int = USUAL_TOTAL) -> None:
        self.total = total
        self._clock = clock
        self._times: list[float] = []

    async def read(self, shelf: Shelf) -> None:
        """What an earlier run of the program noted."""
        kept = await shelf.get("starts")
        if isinstance(kept, Sequence) and not isinstance(kept, str):
            self._times = sorted(float(time) for time in kept if isinstance(time, int | float))

    def wait(self, *, first: bool) -> float:
        """Seconds until a session may begin. first: of this connection; then the usual gap is not needed."""
        now = self._clock.now()
        lately = [time for time in self._times if now - DAY < time <= now]
        if not lately:
            return 0.0
        return max(0.0, lately[-1] + self._gap(len(lately), first=first) - now)

    def _gap(self, used: int, *, first: bool) -> float:
        most = self.total / 2
        if used < self.total / 8:
            return 0.0 if first else GAP
        return DAY / most if used < most else LAST_GAP

    async def note(self, shelf: Shelf) -> None:
        """A session begins now. A store in trouble does not hold it up: Discord counts too."""
        now = self._clock.now()
        self._times = [*(time for time in self._times if now - DAY < time <= now), now]
        kept: JSON = [round(time) for time in self._times]
        try:
            await shelf.put("starts", kept)
        except Unavailable as error:
            log.warning("the beginning of a session is not noted: %s", error.message)
