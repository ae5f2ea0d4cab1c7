"""Taking a request in: room in the line, the commit that makes it accepted, the acknowledgement.

What was committed is lined up, whatever happens to whoever asked; what was refused is as if never asked.
Knows neither words nor models: requests come checked.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from bot.core.codec import request_to_json
from bot.core.desk import Desk, LiveGroup, live_group
from bot.core.errors import InvalidRequest, QueueFull, Unavailable
from bot.core.estimator import Estimator
from bot.core.gallery import Gallery
from bot.core.lanes import needs
from bot.core.messages import queue_full
from bot.core.options import Options, options_to_json
from bot.core.patience import Tasks, insist
from bot.core.permutations import plain
from bot.core.ports import Address, Clock, Outcome, Store, StoredGroup, StoredJob
from bot.core.request import ImageRequest, Limits, Requester, State
from bot.core.routing import Routing

log = logging.getLogger(__name__)

COMMIT_DEADLINE = 1.0  # seconds; a platform's acknowledgement must not wait longer for the disk
HELD_BACK = 2.0  # seconds that others are waited for at most; platforms wait three for an acknowledgement

ENDS_KEPT = 1000  # of those who were refused last

AT_A_TIME = 128  # requests on their way to being acknowledged


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody asks for.

    event_key: the platform's id of the event, unique, so that an event sent twice is one group; text: the
    words typed, flags in it win over `options`; file_names: of the pictures that came along; literal: no
    flags, no permutations; prompts: several literal prompts, one job each, instead of `text`; prepared: there
    is no conversation to prepare, so that the group is in the queue when submit() returns, and of its
    Conversation only deliver() is called; previews: of each picture wanted, evenly over its steps (0 to 10, 0
    as the backend likes); channel: where it was asked, for a guild's rules (a thread's parent; empty where
    there is none); age_restricted: that channel is for adults alone.
    """

    requester: Requester
    event_key: str
    address: Address
    text: str = ""
    options: Options | None = None
    init_image: bytes | None = None
    mask_image: bytes | None = None
    file_names: tuple[str, ...] = ()
    literal: bool = False
    prompts: tuple[str, ...] = ()
    prepared: bool = False
    previews: int = 0
    channel: str = ""
    age_restricted: bool = False

    @property
    def unique_key(self) -> str:
        """The event's key, unique over platforms."""
        return f"{self.requester.platform}:{self.event_key}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What was accepted. differences: from the defaults, for the receipt; repeated: the event was known
    already and nothing new was queued."""

    group_id: str
    requests: tuple[ImageRequest, ...]
    options: Options
    differences: tuple[str, ...]
    repeated: bool


Acknowledge = Callable[[Ticket], Awaitable[None]]


class Intake:
    """The way in. open_line: called with each accepted group, to prepare its conversation; in a rush, once
    the others that came with it are acknowledged too, for platforms wait seconds for that alone. line_up:
    puts a group into the queue."""

    def __init__(
        self,
        limits: Limits,
        store: Store,
        desk: Desk,
        routing: Routing,
        gallery: Gallery,
        estimator: Estimator,
        clock: Clock,
        *,
        open_line: Callable[[StoredGroup, LiveGroup], None],
        line_up: Callable[[LiveGroup], None],
    ) -> None:
        self._limits = limits
        self._store = store
        self._desk = desk
        self._routing = routing
        self._gallery = gallery
        self._estimator = estimator
        self._clock = clock
        self._open_line = open_line
        self._push = line_up
        self._tasks = Tasks()
        self._undoing: set[str] = set()
        self._coming = 0
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._acknowledged: list[tuple[StoredGroup, LiveGroup]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ids = group_ids()
        self._ends: dict[tuple[str, str], tuple[float, float | None]] = {}

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Around all that happens to a request until it is acknowledged or refused. In a rush some at a time,
        in the order in which they came: then the first are not as late as the last. A turn is not waited for
        longer than HELD_BACK, for others' acknowledgements may hang."""
        self._coming += 1
        turn = False
        try:
            if not self._turns.locked():
                turn = await self._turns.acquire()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(HELD_BACK):
                        turn = await self._turns.acquire()
            yield
        finally:
            if turn:
                self._turns.release()
            self._coming -= 1
            if not self._coming:
                self._open_lines()

    def _line_up(self, stored: StoredGroup, group: LiveGroup) -> None:
        self._acknowledged.append((stored, group))
        if self._coming <= 1:  # nobody but this one
            self._open_lines()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HELD_BACK, self._open_lines)

    def _open_lines(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ready, self._acknowledged = self._acknowledged, []
        for stored, group in ready:
            self._open_line(stored, group)

    @property
    def unsettled(self) -> int:
        """Refused requests whose late commits are still being undone."""
        return len(self._undoing)

    async def aclose(self) -> None:
        """What is being committed has a moment to be acknowledged."""
        await self._tasks.aclose(patience=COMMIT_DEADLINE)

    async def take(
        self,
        submission: Submission,
        options: Options,
        requests: Sequence[ImageRequest],
        told: Sequence[str],
        acknowledge: Acknowledge | None,
        limits: Limits,
    ) -> Ticket:
        """Commit a request, acknowledge it, line it up; goes on where the caller goes away.

        told: its differences from the defaults. Raises QueueFull, QuotaExceeded, InvalidRequest or
        Unavailable.
        """
        draft = Ticket("", tuple(requests), options, tuple(told), repeated=False)
        return await asyncio.shield(self._tasks.start(self._take(submission, draft, acknowledge, limits)))

    async def _take(
        self, submission: Submission, draft: Ticket, acknowledge: Acknowledge | None, limits: Limits
    ) -> Ticket:
        requester, jobs = submission.requester, len(draft.requests)
        if not self._desk.knows(submission.unique_key):  # an event sent twice is never refused for itself
            self._check_room(requester, jobs, limits)
            self._routing.check_paid(draft.requests, requester)
        self._desk.reserve(requester, jobs)
        known: StoredGroup | None = None
        try:
            stored = await self._stored(submission, draft)
            known = await self._accept(stored)
        except BaseException:
            self._desk.release(requester, jobs)
            raise
        if known is not None:
            self._desk.release(requester, jobs)
            await self._gallery.remove(input_names(stored))
            return dataclasses.replace(draft, group_id=known.group_id, repeated=True)
        ticket = Ticket(stored.group_id, draft.requests, draft.options, draft.differences, repeated=False)
        group = live_group(stored, list(draft.requests), self._clock)
        self._desk.add(group)
        try:
            await self._acknowledge(acknowledge, ticket)
        finally:
            if stored.prepared:
                self._open_line(stored, group)
                self._push(group)
            else:
                self._line_up(stored, group)
        return ticket

    def _check_room(self, requester: Requester, jobs: int, limits: Limits) -> None:
        """The operator's limit of a member counts over all guilds, a guild's own what waits in it."""
        desk, everywhere = self._desk, self._limits
        is_key = requester.guild.startswith("key:")
        here = "key" if is_key else requester.nouns.guild
        own = (
            (desk.waiting(requester.member), everywhere.waiting_per_user, "your", ""),
            (desk.waiting_here(requester), limits.waiting_per_user, "your", f"this {here}'s limit"),
        )
        most_here = everywhere.waiting_per_key if is_key else everywhere.waiting_per_guild
        all_here = (desk.waiting(requester.tenant), most_here, f"this {here}'s", "")
        alone = requester.guild == f"key:{requester.user}"  # the key is its own only user
        for waiting, most, whose, note in (*(() if alone else own), all_here):
            if waiting + jobs > most:
                raise QueueFull(
                    queue_full(waiting, most, jobs, whose=whose, note=note),
                    field="count",
                    retry_after=self._next_free(requester, own=whose == "your"),
                )

    def _next_free(self, requester: Requester, *, own: bool) -> float | None:
        """Seconds until one of the requests that fill the places is done, at the 90 % end; None where no end
        is known. Looked for once a second: whoever is refused may ask again and again."""
        whose, now = (requester.tenant, requester.member if own else ""), self._clock.now()
        known = self._ends.get(whose)
        if known is None or now >= known[0]:
            if len(self._ends) > ENDS_KEPT:
                self._ends.clear()
            known = self._ends[whose] = now + 1.0, self._first_end(requester, own=own)
        return None if known[1] is None else max(1.0, known[1] - now)

    def _first_end(self, requester: Requester, *, own: bool) -> float | None:
        """Unix seconds."""
        groups = self._desk.of(requester) if own else self._desk.groups.values()
        ends = [group.by for group in groups if group.by and group.requester.tenant == requester.tenant]
        return min(ends, default=None)

    async def _stored(self, submission: Submission, draft: Ticket) -> StoredGroup:
        group_id, requests, options = next(self._ids), draft.requests, draft.options
        costs = [self._cost(request) for request in requests]
        names = await self._gallery.keep_inputs(requests[0])  # all prompts of a group start from the same
        state = State.QUEUED if submission.prepared else State.ACCEPTED
        jobs = [
            StoredJob(
                f"{group_id}-{index}",
                group_id,
                index,
                request_to_json(request, image_names=names),
                cost,
                state,
            )
            for index, (request, cost) in enumerate(zip(requests, costs, strict=True))
        ]
        return StoredGroup(
            group_id,
            submission.unique_key,
            submission.requester,
            submission.address,
            options_to_json(_plain(options) if submission.literal else options),
            self._clock.now(),
            prepared=submission.prepared,
            jobs=tuple(jobs),
        )

    def _cost(self, request: ImageRequest) -> float:
        """Device-seconds by the best backend that can run it."""
        lanes = [lane for lane in self._routing.lanes if lane.can_run(request)]
        if not lanes:
            fields = ", ".join(sorted(needs(request))) or "this model"
            raise InvalidRequest(f"No backend here can make this: {fields}.", field="model")
        best = lanes[0] if len(lanes) == 1 else self._routing.best(lanes, request)
        return self._routing.seconds(best, request)

    async def _accept(self, stored: StoredGroup) -> StoredGroup | None:
        """Commit; refuse where the disk takes too long, and then undo what is committed late."""
        commit = self._tasks.start(self._store.accept(stored))
        try:
            await asyncio.wait({commit}, timeout=COMMIT_DEADLINE)
            known = commit.result() if commit.done() else None
            if not commit.done() or (known and known.group_id in self._undoing):
                raise Unavailable(
                    "The disk is too slow right now. Send it again in a minute.", retry_after=30.0
                )
            return known
        except BaseException:
            self._undoing.add(stored.group_id)
            self._tasks.start(self._undo(commit, stored))
            raise

    async def _undo(self, commit: asyncio.Future[StoredGroup | None], stored: StoredGroup) -> None:
        """Refused is as if never asked: the same event may come again."""
        try:
            if await commit is None:
                await insist(lambda: self._forget(stored), self._clock)
        finally:
            await self._gallery.remove(input_names(stored))
            self._undoing.discard(stored.group_id)

    async def _forget(self, stored: StoredGroup) -> None:
        outcome, now = Outcome(State.CANCELLED), self._clock.now()
        for job in stored.jobs:
            await self._store.finish(job.job_id, attempt=0, outcome=outcome, at=now, tags=())
        await self._store.forget(stored.group_id)

    async def _acknowledge(
        self, acknowledge: Callable[[Ticket], Awaitable[None]] | None, ticket: Ticket
    ) -> None:
        if acknowledge is None:
            return
        try:
            await acknowledge(ticket)
        except Exception:  # the group is accepted: preparing its conversation will say so instead
            log.warning("group %s: its acknowledgement failed", ticket.group_id, exc_info=True)


def _plain(options: Options) -> Options:
    """A literal prompt so that it stays one when its options are read again."""
    prompt = plain(options.prompt)
    return options if prompt == options.prompt else dataclasses.replace(options, prompt=prompt)


def input_names(group: StoredGroup) -> list[str]:
    """The files of a group's input pictures."""
    names = {job.request.get(key) for job in group.jobs for key in ("init_image", "mask_image")}
    return [name for name in names if isinstance(name, str)]


def new_group_id() -> str:
    """Eight characters of Crockford's base 32: 40 random bits, easy to read out."""
    return next(group_ids(1))


def group_ids(at_once: int = 200) -> Iterator[str]:
    """New ids without end. The system is asked for the randomness of many at once, since that takes time."""
    while True:
        noise = secrets.token_bytes(5 * at_once)
        for start in range(0, len(noise), 5):
            bits = int.from_bytes(noise[start : start + 5])
            yield "".join(
                ["0123456789ABCDEFGHJKMNPQRSTVWXYZ"[bits >> shift & 31] for shift in range(0, 40, 5)]
            )
