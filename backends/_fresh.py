"""Something read from a server now and then, kept between: callers never wait long for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from bot.core.errors import FairbrushError
from bot.core.ports import Clock, Health

log = logging.getLogger(__name__)

EVERY: Final = 45.0  # seconds for which a value is fresh
AGAIN: Final = 5.0  # seconds until it is read again after that failed
WAIT: Final = 2.0  # seconds that a caller waits for the very first value

Value = TypeVar("Value")


class Fresh(Generic[Value]):
    """A value that `read` gives. value: the last one, None until there is one; trouble: why the last reading
    failed, safe for an operator, "" where it did not."""

    def __init__(self, name: str, read: Callable[[], Awaitable[Value]], clock: Clock) -> None:
        self.value: Value | None = None
        self.trouble = ""
        self._name = name
        self._read = read
        self._clock = clock
        self._due = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def get(self) -> Value | None:
        """The newest value; read anew in the background where it is old."""
        self.look()
        if self.value is None and self._reading is not None:
            await asyncio.wait({self._reading}, timeout=WAIT)
        return self.value

    def look(self) -> None:
        """Read it anew where it is old."""
        if self._reading is None and self._clock.monotonic() >= self._due:
            self._reading = asyncio.create_task(self._renew())

    def doubt(self) -> None:
        """It may have changed: read it anew at the next look."""
        self._due = float("-inf")

    def health(self, trouble: str) -> Health:
        """What is known of the server. trouble: of its last call, "" where there was none."""
        self.look()
        trouble = self.trouble or trouble
        if self.value is None and not trouble:
            return Health(False, loading=True, detail="The server is being asked what it offers.")
        return Health(not trouble, detail=trouble or "ready")

    async def aclose(self) -> None:
        """Stop reading, for good."""
        self._due = float("inf")
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    async def _renew(self) -> None:
        pause = AGAIN
        try:
            self.value = await self._read()
            self.trouble, pause = "", EVERY
        except FairbrushError as error:
            if error.message != self.trouble:  # said once, not every few seconds
                log.warning("%s: %s %s", self._name, error.message, error.detail)
            self.trouble = error.message
        except Exception as error:  # a server that answers what nobody thought of
            log.exception("%s: cannot be read", self._name)
            self.trouble = f"It answers something unexpected ({type(error).__name__})."
        finally:
            self._due = max(self._due, self._clock.monotonic() + pause)
            self._reading = None
