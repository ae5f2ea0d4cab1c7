"""What nobody needs any more: old charges, once a day; and picture files that a crash left, written and never
named by a row, which go at a later start.

Of files only those go that cannot be anything else: of a name that we give, over a day old, and written while
this database was in use. With an empty database, or one from a backup, the pictures of the other one stay.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from pathlib import Path
from typing import Final

from bot.core.errors import Unavailable
from bot.core.pictures import is_ours
from bot.core.ports import Clock, Store

log = logging.getLogger(__name__)

DAY: Final = 24 * 3600.0
CHARGES_KEPT: Final = 400 * DAY
NOTED_EVERY: Final = 60.0  # seconds between notes that the database is in use
LATE: Final = 600.0  # seconds after the last note that still count as its time
_SHELF: Final = ("core", "in use")  # [first, last] note, Unix seconds


class Sweep:
    """See the module. folder: where picture files lie."""

    def __init__(self, store: Store, folder: Path, clock: Clock) -> None:
        self._store = store
        self._folder = folder
        self._clock = clock

    async def run(self) -> None:
        """Sweep once; then note now and then that the database is in use, until cancelled."""
        first = self._clock.now()
        try:
            first, last = await self._in_use()
            await self._sweep(first, last)
        except (OSError, Unavailable) as error:
            log.warning("left-over picture files are not looked for: %s", error)
        swept = -math.inf
        while True:
            try:
                await self._store.shelf_put(*_SHELF, [first, self._clock.now()])
                if self._clock.now() - swept >= DAY:
                    swept = self._clock.now()
                    await self._store.forget_charges(swept - CHARGES_KEPT)
            except Unavailable as error:
                log.warning("the database could not be kept in order: %s", error.message)
            await self._clock.sleep(NOTED_EVERY)

    async def _in_use(self) -> tuple[float, float]:
        """When the database was in use so far; a new one is from now on."""
        match await self._store.shelf_get(*_SHELF):
            case [float() | int() as first, float() | int() as last]:
                return float(first), float(last)
        return self._clock.now(), self._clock.now()

    async def _sweep(self, first: float, last: float) -> None:
        until = min(last + LATE, self._clock.now() - DAY)
        old = await asyncio.to_thread(self._written, first, until)
        left = old - await self._store.file_names() if old else old
        if left:
            await asyncio.to_thread(self._delete, left)
            log.info("deleted %d picture files that no request names", len(left))

    def _written(self, first: float, until: float) -> frozenset[str]:
        """Our files written in that time."""
        with os.scandir(self._folder) as entries:
            return frozenset(
                entry.name
                for entry in entries
                if is_ours(entry.name)
                and entry.is_file(follow_symlinks=False)
                and first <= entry.stat(follow_symlinks=False).st_mtime < until
            )

    def _delete(self, names: frozenset[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
