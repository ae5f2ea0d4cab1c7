"""Group commit: one thread writes, and all writes that wait share one transaction.

Knows nothing of what is written: an operation is a function of the connection. A sync to disk costs the same
for one write as for a thousand, so while one runs the next batch gathers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from bot.core.errors import Unavailable

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_log = logging.getLogger(__name__)

# The values of one operation are wrong; any other error of SQLite's fails the transaction.
_WRONG_VALUES = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class _Write(Generic[T]):
    """One waiting operation, and what became of it."""

    __slots__ = ("error", "future", "operation", "result")

    def __init__(self, operation: Operation[T], future: asyncio.Future[T]) -> None:
        self.operation = operation
        self.future = future
        self.result: T | None = None
        self.error: Exception | None = None

    def apply(self, connection: sqlite3.Connection) -> None:
        """Run where whatever goes wrong fails the transaction."""
        self.result = self.operation(connection)

    def apply_alone(self, connection: sqlite3.Connection) -> None:
        """Run inside a savepoint; whatever is wrong with this operation stays with it."""
        connection.execute("SAVEPOINT operation")
        try:
            self.result = self.operation(connection)
        except _WRONG_VALUES as error:
            self.error = ValueError(f"the store refused this value: {error}")
        except sqlite3.Error:
            raise
        except Exception as error:
            self.error = error
        if self.error is not None:
            connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")

    def settle(self) -> None:
        """Tell the waiter; one that was cancelled has left, and its write stands all the same."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # T itself may include None


class Writer:
    """Owns the connection that writes. Called on one event loop."""

    def __init__(self, connection: sqlite3.Connection, *, max_batch: int) -> None:
        """max_batch: operations in one transaction at most (1 or more)."""
        self.commits = 0
        self._connection = connection
        self._max_batch = max_batch
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[_Write[object] | None] = SimpleQueue()
        self._closing = False
        self._ended = self._loop.create_future()
        # A daemon: a program that ends without closing loses nothing that was acknowledged.
        threading.Thread(target=self._run, name="fairbrush-store", daemon=True).start()

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Queue an operation at once; the future is done when it is committed and synced.

        The future raises ValueError where the values are wrong (nothing of this operation is written, its
        neighbours are), Unavailable where the commit failed (nothing of the batch is written).
        """
        if self._closing:
            raise Unavailable("The store is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Write(operation, future))  # type: ignore[arg-type]  # the thread needs no T
        return future

    async def aclose(self) -> None:
        """Commit what waits and close the connection; idempotent."""
        if not self._closing:
            self._closing = True
            self._waiting.put(None)
        await asyncio.shield(self._ended)

    def _run(self) -> None:
        while batch := self._next_batch():
            self._commit(batch)
            self._tell(self._settle, batch)
        self._connection.close()
        self._tell(self._end)

    def _next_batch(self) -> Sequence[_Write[object]]:
        """Everything that waits, at least one; empty at the end."""
        batch: list[_Write[object]] = []
        first = self._waiting.get()
        while first is not None:
            batch.append(first)
            if len(batch) >= self._max_batch or self._waiting.empty():
                return batch
            first = self._waiting.get()
        if batch:
            self._waiting.put(None)  # the end, met behind the last writes
        return batch

    def _commit(self, batch: Sequence[_Write[object]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if not self._all_apply(batch):
                self._connection.execute("ROLLBACK")
                self._connection.execute("BEGIN IMMEDIATE")
                for write in batch:
                    write.apply_alone(self._connection)
            self._connection.execute("COMMIT")
            self.commits += 1
        except sqlite3.Error as error:
            self._roll_back()
            _log.error("%d writes were not committed: %s", len(batch), error)
            for write in batch:
                write.error = _not_committed(error)

    def _all_apply(self, batch: Sequence[_Write[object]]) -> bool:
        """Run all without savepoints, which cost as much as a small write; False where one went wrong, and
        nothing is known of the others."""
        try:
            for write in batch:
                write.apply(self._connection)
        except _WRONG_VALUES:
            return False
        except sqlite3.Error:
            raise
        except Exception:
            return False
        return True

    def _roll_back(self) -> None:
        # Where SQLite rolled back by itself there is nothing to undo; where undoing fails too, the next BEGIN
        # says so to those who wait for it.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        # One wake-up of the loop for a whole batch. A closed loop has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    @staticmethod
    def _settle(batch: Sequence[_Write[object]]) -> None:
        for write in batch:
            write.settle()


def _not_committed(error: sqlite3.Error) -> Unavailable:
    return Unavailable("The request could not be stored. Please try again in a moment.", detail=str(error))
