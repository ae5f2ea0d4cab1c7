"""Delivery: from an accepted group to its pictures shown, once, whatever the platform does meanwhile.

One task a group does everything on its conversation in order: prepare (so that the message which will
hold the pictures exists before they are made), status edits (coalesced, at the platform's pace), then the
result from the outbox, tried again until it is shown or the conversation is gone. Knows no platform.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from bot.core.desk import LiveGroup
from bot.core.errors import Fault, Gone, Refused
from bot.core.ports import Adapter, Address, Clock, Conversation, JobStatus, Pace, Store
from bot.core.request import ImageResult, State

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 1.0, 300.0
GIVE_UP_AFTER = 7 * 24 * 3600.0  # a platform that is away for a week gets the rest by hand
AT_A_TIME = 16


@dataclass(slots=True, eq=False)
class Line:
    """What is to be said in one conversation."""

    group_id: str
    conversation: Conversation
    pace: Pace
    tenant: str
    group: LiveGroup | None
    status: JobStatus | None = None
    shown: tuple[object, ...] | None = None
    shown_at: float = float("-inf")
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        """Whether the group has ended: from here on only its result matters."""
        return self.over.is_set()

    def end(self) -> None:
        """The group has ended."""
        self.over.set()
        self.changed.set()


class EditBudget:
    """Edits per minute of each tenant. Ends are never held back; what is running leaves a fifth of the
    budget to them, what is waiting leaves half."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: dict[str, deque[float]] = {}

    def take(self, tenant: str, pace: Pace, state: State) -> bool:
        """Whether an edit of a group in `state` may go out now; if so it is counted."""
        now = self._clock.monotonic()
        spent = self._spent.setdefault(tenant, deque())
        while spent and spent[0] <= now - 60.0:
            spent.popleft()
        share = 1.0 if state.ended else 0.8 if state is State.RUNNING else 0.5
        if not state.ended and len(spent) >= pace.edits_per_minute * share:
            return False
        spent.append(now)
        return True


class Courier:
    """Carries statuses and results to conversations.

    on_prepared: called once a group's message exists; on_gone: the conversation was deleted before the
    result; result_of: loads the result of an ended group; on_delivered: the group is out of hand.
    """

    def __init__(
        self,
        store: Store,
        adapters: Mapping[str, Adapter],
        clock: Clock,
        *,
        on_prepared: Callable[[LiveGroup], None],
        on_gone: Callable[[LiveGroup], Awaitable[None]],
        result_of: Callable[[str], Awaitable[ImageResult]],
        on_delivered: Callable[[str], None],
    ) -> None:
        self._store = store
        self._adapters = adapters
        self._clock = clock
        self._on_prepared = on_prepared
        self._on_gone = on_gone
        self._result_of = result_of
        self._on_delivered = on_delivered
        self._lines: dict[str, Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._budget = EditBudget(clock)
        self._gate = asyncio.Semaphore(AT_A_TIME)

    def serves(self, platform: str) -> bool:
        """Whether the platform's adapter is loaded."""
        return platform in self._adapters

    def open(self, group: LiveGroup) -> None:
        """Begin: prepare the conversation of a group in hand, then keep it informed."""
        line = self._line(
            group.group_id, group.requester.platform, group.address, group.requester.tenant, group
        )
        self._spawn(self._serve(line))

    async def resume(self) -> None:
        """After a restart: deliver what ended and was not shown."""
        for row in await self._store.outbox():
            stored = await self._store.group(row.group_id)
            if stored is None or row.group_id in self._lines or not self.serves(stored.requester.platform):
                continue
            line = self._line(
                row.group_id, stored.requester.platform, stored.address, stored.requester.tenant, None
            )
            line.end()
            self._spawn(self._finish(line))

    def show(self, status: JobStatus) -> None:
        """The group now stands like this; shown when the pace allows, older statuses are dropped."""
        line = self._lines.get(status.group_id)
        if line is not None:
            line.status = status
            line.changed.set()

    def end(self, group_id: str) -> None:
        """The group's result is in the outbox: deliver it."""
        line = self._lines.get(group_id)
        if line is not None:
            line.end()

    async def idle(self) -> None:
        """Wait until nothing is left to deliver."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def aclose(self) -> None:
        """Stop; what is not delivered stays in the outbox."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _line(
        self, group_id: str, platform: str, address: Address, tenant: str, group: LiveGroup | None
    ) -> Line:
        adapter = self._adapters[platform]
        line = Line(group_id, adapter.conversation(address), adapter.pace, tenant, group)
        self._lines[group_id] = line
        return line

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_crash)

    async def _serve(self, line: Line) -> None:
        if await self._prepare(line):
            await self._inform(line)
            await self._finish(line)
        else:
            await self._close(line)

    async def _prepare(self, line: Line) -> bool:
        """Until the message exists; False where the conversation is gone for good."""
        group = line.group
        assert group is not None  # noqa: S101 - only groups in hand are prepared

        async def keep(address: Address) -> None:
            await self._store.save_address(line.group_id, address)
            group.address = address

        async def once() -> None:
            address = await line.conversation.prepare(keep)
            await self._store.save_address(line.group_id, address, prepared=True)
            group.address, group.prepared = address, True

        if group.prepared:  # before a restart
            return True
        if not await self._until_done(line, once, "prepare"):
            await self._on_gone(group)
            return False
        self._on_prepared(group)
        return True

    async def _inform(self, line: Line) -> None:
        """Status edits until the group ends."""
        while not line.ended:
            await line.changed.wait()
            line.changed.clear()
            await self._pause(line, line.shown_at + line.pace.seconds_per_message - self._clock.monotonic())
            await self._show(line)

    async def _show(self, line: Line) -> None:
        status = line.status
        if line.ended or status is None or status_key(status) == line.shown:
            return
        if not self._budget.take(line.tenant, line.pace, status.state):
            await self._pause(line, line.pace.seconds_per_message)
            line.changed.set()  # look again: the budget may allow it then
            return
        line.shown, line.shown_at = status_key(status), self._clock.monotonic()
        try:
            await line.conversation.show(status)
        except Gone:
            log.info("group %s: its conversation is gone", line.group_id)
            if line.group is not None:
                await self._on_gone(line.group)
        except Fault as error:
            # A status edit is only news: the next one, or the result, tells more.
            log.info("group %s: status not shown: %s %s", line.group_id, error.message, error.detail)
            await self._pause(line, error.retry_after or line.pace.seconds_per_message)
        except Exception:  # an adapter's bug in a status edit must not stop the result
            log.exception("group %s: status not shown", line.group_id)

    async def _finish(self, line: Line) -> None:
        """The result, until it is shown; then out of the outbox."""

        async def once() -> None:
            async with self._gate:
                result = await self._result_of(line.group_id)
                self._budget.take(line.tenant, line.pace, result.state)
                await line.conversation.deliver(result)

        if not await self._until_done(line, once, "deliver"):
            log.info("group %s: result not shown: its conversation is gone or refuses it", line.group_id)
        await self._close(line)

    async def _close(self, line: Line) -> None:
        """Out of the outbox and out of hand."""
        await self._store.delivered(line.group_id, at=self._clock.now())
        self._lines.pop(line.group_id, None)
        self._on_delivered(line.group_id)

    async def _until_done(self, line: Line, once: Callable[[], Awaitable[None]], what: str) -> bool:
        """Repeat `once` with growing pauses; False where it can never work."""
        tries, began = 0, self._clock.monotonic()
        while self._clock.monotonic() - began < GIVE_UP_AFTER:
            try:
                await once()
                return True
            except (Gone, Refused) as error:
                log.info("group %s: %s: %s %s", line.group_id, what, error.message, error.detail)
                return False
            except Fault as error:
                tries += 1
                delay = max(
                    error.retry_after or 0.0, min(RETRY_MOST, RETRY_FIRST * 2.0 ** min(tries - 1, 16))
                )
                log.info("group %s: %s again in %.0f s: %s", line.group_id, what, delay, error.message)
            except Exception:  # an adapter's bug must not lose what was accepted: logged whole, tried again
                tries += 1
                delay = RETRY_MOST
                log.exception("group %s: %s failed; again in %.0f s", line.group_id, what, delay)
            if line.ended:
                await self._store.postpone(line.group_id, tries=tries, due_at=self._clock.now() + delay)
            await self._clock.sleep(delay)
        return False

    async def _pause(self, line: Line, seconds: float) -> None:
        """Sleep, but not past the group's end."""
        if seconds <= 0 or line.ended:
            return
        waits = {
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(line.over.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def status_key(status: JobStatus) -> tuple[object, ...]:
    """What of a status people see: two statuses with equal keys read the same."""
    place = status.position
    progress = status.progress
    return (
        status.state,
        status.made,
        (place.own_rank, place.own_total, place.ahead) if place else None,
        round(status.by / 15) if status.by is not None else None,
        (progress.step, progress.phase, round(progress.fraction * 100)) if progress else None,
        hash(status.preview.data) if status.preview else None,
        status.message,
    )


def _log_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("delivery stopped for one group; it goes on after a restart", exc_info=error)
