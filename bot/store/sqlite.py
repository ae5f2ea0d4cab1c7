"""The Store port on one SQLite file: durable without a server.

WAL with synchronous=FULL, one writing thread with group commit, readers of their own that never wait for it.
Deliberately does not hold the data folder: other processes may open the same file (`fairbrush key create`
beside a running bot), and the lock that keeps out a second bot is elsewhere.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Concatenate, ParamSpec, TypeVar

from bot.core.errors import Unavailable
from bot.core.ports import (
    Address,
    ApiKey,
    Charge,
    Delivery,
    Outcome,
    RemoteRef,
    ShareTag,
    StoredGroup,
    StoredPicture,
)
from bot.core.request import JSON, Requester
from bot.store import _rows, _schema, _writes
from bot.store._rows import dumps
from bot.store._writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 2  # so that an integrity check does not hold up everybody else


async def open_store(path: Path, *, max_batch: int = 1024) -> SqliteStore:
    """Open the store in this file, creating the folder (0700), the file (0600) and its tables as needed.

    max_batch: writes that may share a commit. Raises ConfigurationError where the file cannot be used.
    """
    writing, *reading = await asyncio.to_thread(_connections, path)
    return SqliteStore(path, writing, reading, max_batch=max_batch)


def _connections(path: Path) -> list[sqlite3.Connection]:
    """The connection that writes, and then those that read."""
    return [_schema.prepare(path), *(_schema.connect(path, read_only=True) for _ in range(_READERS))]


class SqliteStore:
    """Durable state in one file. A write that fails for want of disk raises Unavailable and changed nothing;
    the store stays usable. A waiter that is cancelled leaves its write in place, once. Wrong values raise
    ValueError or TypeError."""

    def __init__(
        self,
        path: Path,
        writing: sqlite3.Connection,
        reading: Sequence[sqlite3.Connection],
        *,
        max_batch: int,
    ) -> None:
        """Take over the connections; see `open_store`."""
        self.path = path
        self._writer = Writer(writing, max_batch=max_batch)
        self._threads = ThreadPoolExecutor(len(reading), thread_name_prefix="fairbrush-store-read")
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for connection in reading:
            self._idle.put(connection)
        self._closing: asyncio.Task[None] | None = None

    @property
    def commits(self) -> int:
        """Transactions committed since it was opened."""
        return self._writer.commits

    # --- requests -----------------------------------------------------------------------------------------

    async def accept(self, group: StoredGroup) -> StoredGroup | None:
        """Commit a new group (None), or give the stored one of the same event. Whole groups or nothing."""
        return await self._write(_writes.accept, _writes.new_group(group))

    async def save_address(self, group_id: str, address: Address, *, prepared: bool = False) -> None:
        """Replace the address; with `prepared`, mark the group and queue its ACCEPTED jobs."""
        await self._write(_writes.save_address, group_id, dumps(address), prepared)

    async def start(
        self,
        job_id: str,
        *,
        attempt: int,
        backend: str,
        at: float,
        lease_until: float,
        tags: Sequence[ShareTag],
        money: float | None = None,
    ) -> bool:
        """QUEUED -> RUNNING under a lease; False where it is not QUEUED at `attempt`."""
        return await self._write(_writes.start, job_id, attempt, backend, at, lease_until, tuple(tags), money)

    async def save_ref(self, job_id: str, *, attempt: int, ref: RemoteRef) -> bool:
        """Store the remote reference of a job that is RUNNING at `attempt`; else False."""
        text = dumps({"backend": ref.backend, "data": ref.data})
        return await self._write(_writes.save_ref, job_id, attempt, text)

    async def renew(self, job_ids: Sequence[str], *, lease_until: float) -> None:
        """Extend the leases of RUNNING jobs."""
        await self._write(_writes.renew, tuple(job_ids), lease_until)

    async def requeue(
        self, job_id: str, *, attempt: int, tags: Sequence[ShareTag], charge: Charge | None = None
    ) -> bool:
        """RUNNING -> QUEUED at the next attempt, its backend, ref and start forgotten; else False."""
        return await self._write(_writes.requeue, job_id, attempt, tuple(tags), charge)

    async def finish(
        self,
        job_id: str,
        *,
        attempt: int,
        outcome: Outcome,
        at: float,
        tags: Sequence[ShareTag],
        charge: Charge | None = None,
    ) -> bool:
        """End a job that has not ended at `attempt` (else False); the group's last one fills the outbox."""
        end = _writes.ending(outcome)
        return await self._write(_writes.finish, job_id, attempt, end, at, tuple(tags), charge)

    async def unfinished(self) -> Sequence[StoredGroup]:
        """Groups with a job that has not ended, in order of acceptance, with all their jobs."""
        return await self._read(_rows.unfinished)

    # --- the outbox ---------------------------------------------------------------------------------------

    async def outbox(self, *, limit: int = 1000) -> Sequence[Delivery]:
        """Undelivered rows, soonest due first; a row is due from the end of its group on."""
        return await self._read(_rows.outbox, limit)

    async def postpone(self, group_id: str, *, tries: int, due_at: float) -> None:
        """Note a failed delivery; nothing where the group is not in the outbox."""
        await self._write(_writes.postpone, group_id, tries, due_at)

    async def delivered(self, group_id: str, *, at: float) -> None:
        """Take a group out of the outbox and mark it; nothing where it is not there."""
        await self._write(_writes.delivered, group_id, at)

    # --- looking back -------------------------------------------------------------------------------------

    async def group(self, group_id: str) -> StoredGroup | None:
        """One group with its jobs, None where unknown."""
        return await self._read(_rows.group, group_id)

    async def history(
        self, requester: Requester, *, limit: int = 50, before: int | None = None
    ) -> Sequence[StoredGroup]:
        """A member's groups within the guild, newest first; before: only sequences below it."""
        who = (requester.platform, requester.guild, requester.user)
        return await self._read(_rows.history, *who, limit, before)

    async def with_events(
        self, prefix: str, *, limit: int, offset: int = 0
    ) -> tuple[Sequence[StoredGroup], int]:
        """Groups whose event_key begins with `prefix`, newest first, and how many there are in all."""
        return await self._read(_rows.with_events, prefix, limit, offset)

    async def picture(self, name: str) -> tuple[StoredGroup, StoredPicture] | None:
        """The picture with this file name, and its group."""
        return await self._read(_rows.picture, name)

    async def file_names(self) -> frozenset[str]:
        """All files that groups name: pictures of results, and those that requests start from."""
        return await self._read(_rows.file_names)

    async def usage(self, since: float) -> Sequence[tuple[Requester, float]]:
        """Device-seconds of jobs that ended at `since` or later, by member and guild."""
        return await self._read(_rows.usage, since)

    async def charges(self, since: float) -> Sequence[tuple[str, str, str, float]]:
        """(backend, tenant, member, US dollars) of charges at `since` or later, summed."""
        return await self._read(_rows.charges, since)

    async def forget_charges(self, before: float) -> int:
        """Delete charges from before then; how many."""
        return await self._write(_writes.forget_charges, before)

    async def forget(self, group_id: str) -> Sequence[str]:
        """Delete an ended group; the names of its picture files. () where it is unknown or has not ended."""
        return await self._write(_writes.forget, group_id)

    # --- the fair queue, keys, shelves --------------------------------------------------------------------

    async def tags(self) -> Sequence[ShareTag]:
        """All stored nodes of the fair queue."""
        return await self._read(_rows.tags)

    async def add_key(self, key: ApiKey) -> None:
        """Store a key, or replace the one with its key_id; other processes see it at once."""
        await self._write(_writes.add_key, key)

    async def keys(self) -> Sequence[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        return await self._read(_rows.keys)

    async def key(self, digest: str) -> ApiKey | None:
        """The unrevoked key with this digest, read fresh."""
        return await self._read(_rows.key, digest)

    async def shelf_get(self, shelf: str, key: str) -> JSON:
        """A value, None where there is none."""
        return await self._read(_rows.shelf_get, shelf, key)

    async def shelf_put(self, shelf: str, key: str, value: JSON) -> None:
        """Set a value; None deletes it."""
        await self._write(_writes.shelf_put, shelf, key, None if value is None else dumps(value))

    async def shelf_put_once(self, shelf: str, key: str, value: JSON) -> bool:
        """Set a value where there is none; False where there was one."""
        return await self._write(_writes.shelf_put_once, shelf, key, None if value is None else dumps(value))

    async def shelf_items(self, shelf: str) -> Mapping[str, JSON]:
        """All keys and values of a shelf."""
        return await self._read(_rows.shelf_items, shelf)

    # --- upkeep -------------------------------------------------------------------------------------------

    async def check(self) -> str:
        """ "ok", or what is wrong with the data, a line each. Reads the whole file."""
        return await self._read(_rows.check)

    async def aclose(self) -> None:
        """Commit what waits and close; idempotent. Later calls raise Unavailable."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await asyncio.to_thread(self._close_readers)
        # Last, because the last connection folds the WAL into the file.
        await self._writer.aclose()

    def _close_readers(self) -> None:
        self._threads.shutdown()
        while not self._idle.empty():
            self._idle.get().close()

    async def _write(
        self, operation: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self._refuse_when_closed()
        return await self._writer.submit(lambda db: operation(db, *args, **kwargs))

    async def _read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self._refuse_when_closed()
        job = partial(self._read_now, lambda db: query(db, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._threads, job)

    def _read_now(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """In a reader's thread: all that the query reads is one snapshot, as new as the last commit."""
        db = self._idle.get()
        try:
            db.execute("BEGIN")
            return query(db)
        except sqlite3.Error as error:
            raise Unavailable("The store could not be read. Please try again.", detail=str(error)) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._idle.put(db)

    def _refuse_when_closed(self) -> None:
        if self._closing is not None:
            raise Unavailable("The store is closed.")
