"""Delivery: from an accepted group to its pictures shown, once, whatever the platform does meanwhile.

One task a group does everything on its conversation in order: prepare (so that the message which will
hold the pictures exists before they are made), status edits (coalesced, at the platform's pace), then the
result from the outbox, tried again until it is shown or the conversation is gone. Knows no platform.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import zlib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from bot.core.desk import LiveGroup
from bot.core.errors import Fault, Gone, NotFound, RateLimited, Refused, Unavailable
from bot.core.patience import Tasks, insist
from bot.core.ports import Adapter, Address, Clock, Conversation, JobStatus, Pace, Store, StoredGroup
from bot.core.request import ImageResult, State

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 1.0, 300.0
GIVE_UP_AFTER = 7 * 24 * 3600.0  # a platform that is away for a week gets the rest by hand
AT_A_TIME = 8  # results on their way to one tenant
ON_A_PLATFORM = 64  # and to all tenants of a platform: those that must wait leave room to the others
ALL = 2**31 - 1
CROWDED = 30.0  # seconds over which lines that found no room in a budget look again
PASSING = 10.0  # seconds before the time shown passes in which a later one may take more of a budget


@dataclass(slots=True, eq=False)
class Line:
    """What is to be said in one conversation. group: None where it had ended before a restart; rest_until:
    monotonic time before which the platform wants to hear nothing; shown_by: the time of day that people see;
    changed: there is something to show; stirred: its state is another; over: it has ended."""

    group_id: str
    conversation: Conversation
    pace: Pace
    platform: str
    tenant: str
    group: LiveGroup | None
    prepared: bool
    task: asyncio.Task[None] | None = None
    rest_until: float = float("-inf")
    status: JobStatus | None = None
    shown: tuple[object, ...] | None = None
    shown_at: float = float("-inf")
    shown_by: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        """Whether the group has ended: from here on only its result matters."""
        return self.over.is_set()

    def end(self) -> None:
        """The group has ended."""
        self.over.set()
        self.stirred.set()
        self.changed.set()


class EditBudget:
    """Edits per minute of each tenant. Ends are never held back; what is running leaves a fifth of the
    budget to them, what is waiting leaves half."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: defaultdict[str, deque[float]] = defaultdict(deque)

    def take(self, tenant: str, pace: Pace, state: State, *, pressing: bool = False) -> bool:
        """Whether an edit of a group in `state` may go out now; if so it is counted. pressing: what people
        read is about to be wrong; then one that waits counts as one that runs."""
        now = self._clock.monotonic()
        spent = self._spent[tenant]
        while spent and spent[0] <= now - 60.0:
            spent.popleft()
        share = 1.0 if state.ended else 0.8 if state is State.RUNNING or pressing else 0.5
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
        self._held: dict[str, tuple[LiveGroup, Address]] = {}
        self._tasks = Tasks()
        self._budget = EditBudget(clock)
        self._gates: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(ON_A_PLATFORM)
        )
        self._tenant_gates: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._closed = False

    def serves(self, platform: str) -> bool:
        """Whether the platform's adapter is loaded."""
        return platform in self._adapters

    def open(self, stored: StoredGroup, group: LiveGroup | None) -> None:
        """Begin: prepare a group's conversation, keep it informed, deliver the result; only the last of it
        where it was accepted as prepared. group: None where it has ended."""
        if self._closed or stored.group_id in self._lines:
            return  # once closed, the store has it, and the next start goes on with it
        adapter = self._adapters[stored.requester.platform]
        if group is not None and stored.prepared and (not group.restarted or adapter.pace.silent):
            self._hold(group, stored.address)
            return
        line = self._lines[stored.group_id] = Line(
            stored.group_id,
            adapter.conversation(stored.address),
            adapter.pace,
            adapter.name,
            stored.requester.tenant,
            group,
            stored.prepared,
        )
        if group is None or group.ended:
            line.end()
        line.task = self._tasks.start(self._serve(line))

    def _hold(self, group: LiveGroup, address: Address) -> None:
        """Begin for a group that has nothing to prepare and shows no status: only its result is delivered."""
        if not self._closed and group.group_id not in self._lines:
            group.quiet = True
            self._held[group.group_id] = group, address
            if group.ended:
                self.end(group.group_id)

    def _take_up(self, group: LiveGroup, address: Address) -> None:
        """Deliver the result of a group that was held."""
        adapter = self._adapters[group.requester.platform]
        line = self._lines[group.group_id] = Line(
            group.group_id,
            adapter.conversation(address),
            adapter.pace,
            adapter.name,
            group.requester.tenant,
            group,
            prepared=True,
        )
        line.end()
        line.task = self._tasks.start(self._finish(line))

    async def resume(self) -> None:
        """After a restart: deliver what ended and was not shown."""
        for row in await self._store.outbox(limit=ALL):
            stored = await self._store.group(row.group_id)
            if stored is not None and self.serves(stored.requester.platform):
                self.open(stored, None)

    def show(self, status: JobStatus) -> None:
        """The group now stands like this; shown when the pace allows, older statuses are dropped."""
        line = self._lines.get(status.group_id)
        if line is not None:
            if line.status is None or line.status.state is not status.state:
                line.stirred.set()
            line.status = status
            if status_key(status) != line.shown:
                line.changed.set()

    def end(self, group_id: str) -> None:
        """The group's result is in the outbox: deliver it."""
        if (held := self._held.pop(group_id, None)) is not None:
            if not self._closed:
                self._take_up(*held)
            return
        line = self._lines.get(group_id)
        if line is not None:
            line.end()

    async def idle(self) -> None:
        """Wait until no result is on its way."""
        while tasks := {
            line.task for line in self._lines.values() if line.ended and line.task and not line.task.done()
        }:
            await asyncio.wait(tasks)

    async def aclose(self) -> None:
        """Stop; what is not delivered stays in the outbox."""
        self._closed = True
        await self._tasks.aclose()

    async def _serve(self, line: Line) -> None:
        if not await self._prepare(line):
            await self._close(line)
            return
        if line.group is not None:
            await self._inform(line)
        await self._finish(line)

    async def _prepare(self, line: Line) -> bool:
        """Until the message exists; False where it is gone for good. After a restart too: the conversation
        keeps the callable that stores its address."""
        group = line.group

        async def keep(address: Address) -> None:
            await self._store.save_address(line.group_id, address)

        async def once() -> None:
            address = await line.conversation.prepare(keep)
            if not line.prepared:
                await self._store.save_address(line.group_id, address, prepared=True)

        done = await self._until_done(line, once, "prepare")
        if group is not None and done:
            self._on_prepared(group)
        elif group is not None:
            await self._on_gone(group)
        return done

    async def _inform(self, line: Line) -> None:
        """Status edits until the group ends."""
        while not line.ended:
            await line.changed.wait()
            line.changed.clear()
            rest = line.shown_at + line.pace.seconds_per_message - self._clock.monotonic()
            await self._pause(line, rest, line.over)
            await self._show(line)

    async def _show(self, line: Line) -> None:
        status = line.status
        if line.ended or status is None or status_key(status) == line.shown:
            return
        left = line.shown_by - self._clock.now() if line.shown_by is not None else float("inf")
        if not self._budget.take(line.tenant, line.pace, status.state, pressing=left < PASSING):
            line.stirred.clear()
            await self._pause(line, _patience(line, status, left), line.stirred)
            line.changed.set()  # look again: the budget may allow it then
            return
        line.shown, line.shown_at, line.shown_by = status_key(status), self._clock.monotonic(), status.by
        try:
            await line.conversation.show(status)
        except Gone:
            log.info("group %s: its conversation is gone", line.group_id)
            if line.group is not None:
                await self._on_gone(line.group)
        except Fault as error:
            # A status edit is only news: the next one, or the result, tells more.
            log.info("group %s: status not shown: %s %s", line.group_id, error.message, error.detail)
            line.rest_until = self._clock.monotonic() + (error.retry_after or 0.0)
            await self._pause(line, error.retry_after or 0.0, line.over)
        except Exception:  # an adapter's bug in a status edit must not stop the result
            log.exception("group %s: status not shown", line.group_id)

    async def _finish(self, line: Line) -> None:
        """The result, until it is shown; then out of the outbox."""

        async def once() -> None:
            async with self._tenant_gate(line.tenant), self._gates[line.platform]:
                result = await self._result(line)
                self._budget.take(line.tenant, line.pace, result.state)
                await line.conversation.deliver(result)

        if (rest := line.rest_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(rest)
        if not await self._until_done(line, once, "deliver"):
            log.info("group %s: result not shown", line.group_id)
        await self._close(line)

    def _tenant_gate(self, tenant: str) -> asyncio.Semaphore:
        """Kept as long as somebody is in it or waits for it."""
        return self._tenant_gates.setdefault(tenant, asyncio.Semaphore(AT_A_TIME))

    async def _result(self, line: Line) -> ImageResult:
        """Raises NotFound where it was deleted; then the message at least says how it ended."""
        try:
            return await self._result_of(line.group_id)
        except NotFound:
            if line.status is not None and line.status.state is State.CANCELLED:
                await line.conversation.show(line.status)
            raise

    async def _close(self, line: Line) -> None:
        """Out of the outbox and out of hand."""
        now = self._clock.now()
        await insist(lambda: self._store.delivered(line.group_id, at=now), self._clock)
        self._lines.pop(line.group_id, None)
        self._on_delivered(line.group_id)

    async def _until_done(self, line: Line, once: Callable[[], Awaitable[None]], what: str) -> bool:
        """Repeat `once` with growing pauses; False where it can never work."""
        began, failures = self._clock.monotonic(), 0
        for tries in itertools.count(1):
            try:
                await once()
                return True
            except (Gone, Refused, NotFound) as error:  # NotFound: it was deleted meanwhile
                log.info("group %s: %s: %s %s", line.group_id, what, error.message, error.detail)
                return False
            except Fault as error:
                told = error.retry_after or 0.0
                failures += not (
                    told and isinstance(error, RateLimited)
                )  # a limit says itself when it is over
                delay = max(told, min(RETRY_MOST, RETRY_FIRST * 2.0 ** max(0, min(failures - 1, 16))))
                log.info("group %s: %s again in %.0f s: %s", line.group_id, what, delay, error.message)
            except Exception:  # an adapter's bug must not lose what was accepted: logged whole, tried again
                delay = RETRY_MOST
                log.exception("group %s: %s failed; again in %.0f s", line.group_id, what, delay)
            if self._clock.monotonic() - began + delay > GIVE_UP_AFTER:
                break
            await self._postpone(line, tries, delay)
            await self._clock.sleep(delay)
        return False

    async def _postpone(self, line: Line, tries: int, delay: float) -> None:
        """Note a failed delivery, for whoever looks at the outbox; losing the note loses nothing."""
        try:
            if line.ended:
                await self._store.postpone(line.group_id, tries=tries, due_at=self._clock.now() + delay)
        except Unavailable as error:
            log.warning("group %s: its delay is not noted: %s", line.group_id, error.message)

    async def _pause(self, line: Line, seconds: float, until: asyncio.Event) -> None:
        """Sleep, but not past an event, nor past the group's end."""
        if seconds <= 0 or line.ended:
            return
        waits = {asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(until.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _patience(line: Line, status: JobStatus, left: float) -> float:
    """Seconds until a line looks again for room in its tenant's budget. Many wait: not all at one time, but
    each before the time passes that it shows, which is `left` seconds away."""
    least = line.pace.seconds_per_message
    if status.state is State.RUNNING:
        return least
    spread = CROWDED * (zlib.crc32(line.group_id.encode()) % 1000) / 1000
    return least + min(spread, max(0.0, left - PASSING))


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
