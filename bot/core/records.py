"""The store's port and what it keeps: groups of jobs with their pictures, the fair queue's tags, deliveries
and keys.

Frozen, plain values. It knows no database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bot.core.request import JSON, Requester, State

Address: TypeAlias = Mapping[str, JSON]
"""How an adapter finds a conversation again after a restart: plain JSON, no secrets beyond reply handles."""


@dataclass(frozen=True, slots=True)
class RemoteRef:
    """How to find a submitted job again: plain JSON without secrets, stored before anything else is done."""

    backend: str
    data: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture as the store knows it: `name` is its file's name in the pictures folder; spoiler: flagged by
    a content check, and shown hidden."""

    name: str
    index: int
    mime: str
    width: int
    height: int
    seed: int
    alt_text: str
    recipe: Mapping[str, JSON]
    withheld: bool = False
    spoiler: bool = False


@dataclass(frozen=True, slots=True)
class StoredJob:
    """One ImageRequest of a group. cost: estimated device-seconds; attempt: 0-based; a lease is held while
    RUNNING; money: US dollars that it cost, or may cost while it is RUNNING; request: as JSON, input pictures
    by file name (see bot.core.codec); field: what a failure was about, such as "size" where it did not fit
    into memory."""

    job_id: str
    group_id: str
    index: int
    request: Mapping[str, JSON]
    cost: float
    state: State = State.ACCEPTED
    attempt: int = 0
    backend: str = ""
    ref: RemoteRef | None = None
    message: str = ""
    reference: str = ""
    device_seconds: float = 0.0
    money: float | None = None
    model: str = ""
    notes: tuple[str, ...] = ()
    field: str = ""
    pictures: tuple[StoredPicture, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """What one message asked for: one or more jobs, one address. Accepted whole or refused whole.

    event_key: the platform's id of the event, unique; sequence: order of acceptance, set by the store;
    options: what was typed, as JSON, for Remix; prepared: its status message exists.
    """

    group_id: str
    event_key: str
    requester: Requester
    address: Address
    options: Mapping[str, JSON]
    created_at: float
    prepared: bool = False
    delivered_at: float | None = None
    sequence: int = 0
    jobs: tuple[StoredJob, ...] = ()


@dataclass(frozen=True, slots=True)
class ShareTag:
    """A node of the fair queue, as stored. guild None: the root; user None: a guild. vt: its own virtual
    time; virtual: the start tag of the last dispatch among its children (V); credit: unspent refund; weight
    0: the node is forgotten, and its row goes."""

    guild: str | None
    user: str | None
    vt: float
    virtual: float
    weight: float = 1.0
    credit: float = 0.0


@dataclass(frozen=True, slots=True)
class Charge:
    """US dollars that an attempt of a job cost, or may have cost, at a hosted backend. at: Unix time; tenant,
    member: whose it was. It outlives the job and its group."""

    at: float
    backend: str
    tenant: str
    member: str
    job_id: str
    attempt: int
    money: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: state is DONE, WITHHELD, FAILED or CANCELLED; field: of the error (see errors.py)."""

    state: State
    pictures: tuple[StoredPicture, ...] = ()
    message: str = ""
    reference: str = ""
    device_seconds: float = 0.0
    money: float | None = None
    model: str = ""
    notes: tuple[str, ...] = ()
    field: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of the outbox: a group that has ended and is to be shown. tries: failed attempts so far."""

    group_id: str
    tries: int = 0
    due_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as stored: `digest` is the SHA-256 (hex) of the key; the key itself is shown once."""

    key_id: str
    name: str
    digest: str
    created_at: float
    organization: str | None = None
    daily_budget: float | None = None
    revoked_at: float | None = None


class Store(Protocol):
    """Durable state. A write returns once it is committed and synced; writes that wait together share one
    commit. Times are Unix seconds, given by the caller. Writes are applied in the order of the calls."""

    async def accept(self, group: StoredGroup) -> StoredGroup | None:
        """Commit a group with its jobs. None where it is new; the stored group where its event_key is known
        (then nothing is written)."""
        ...

    async def save_address(self, group_id: str, address: Address, *, prepared: bool = False) -> None:
        """Replace the address; with `prepared`, mark the group prepared and its ACCEPTED jobs QUEUED."""
        ...

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
        """QUEUED -> RUNNING under a lease. False (nothing written) where it is not QUEUED at `attempt`.
        money: US dollars that it may cost, None where it is free of charge."""
        ...

    async def save_ref(self, job_id: str, *, attempt: int, ref: RemoteRef) -> bool:
        """Store the remote reference of a RUNNING job. False where the attempt is stale."""
        ...

    async def renew(self, job_ids: Sequence[str], *, lease_until: float) -> None:
        """Extend the leases of RUNNING jobs."""
        ...

    async def requeue(
        self, job_id: str, *, attempt: int, tags: Sequence[ShareTag], charge: Charge | None = None
    ) -> bool:
        """RUNNING -> QUEUED with attempt + 1, its ref forgotten, and what the attempt cost noted. False
        (nothing written) where the attempt is stale."""
        ...

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
        """End a job and note what it cost; where it was the group's last, put the group into the outbox, all
        in one transaction. False (nothing written) where the job has ended or the attempt is stale."""
        ...

    async def unfinished(self) -> Sequence[StoredGroup]:
        """Groups with a job that has not ended, in order of acceptance, with all their jobs."""
        ...

    async def outbox(self, *, limit: int = 1000) -> Sequence[Delivery]:
        """Undelivered rows, soonest due first."""
        ...

    async def postpone(self, group_id: str, *, tries: int, due_at: float) -> None:
        """Note a failed delivery."""
        ...

    async def delivered(self, group_id: str, *, at: float) -> None:
        """Take a group out of the outbox and mark it delivered; idempotent."""
        ...

    async def group(self, group_id: str) -> StoredGroup | None:
        """One group with its jobs, None where unknown."""
        ...

    async def history(
        self, requester: Requester, *, limit: int = 50, before: int | None = None
    ) -> Sequence[StoredGroup]:
        """A member's groups within the guild, newest first; before: only sequences below it."""
        ...

    async def with_events(
        self, prefix: str, *, limit: int, offset: int = 0
    ) -> tuple[Sequence[StoredGroup], int]:
        """Groups whose event_key begins with `prefix`, newest first: `limit` of them after the first
        `offset`, and how many there are in all."""
        ...

    async def picture(self, name: str) -> tuple[StoredGroup, StoredPicture] | None:
        """The picture with this file name, and its group."""
        ...

    async def usage(self, since: float) -> Sequence[tuple[Requester, float]]:
        """Device-seconds of jobs that ended at `since` or later, summed by member and guild, in no order;
        names and roles are left out."""
        ...

    async def charges(self, since: float) -> Sequence[tuple[str, str, str, float]]:
        """(backend, tenant, member, US dollars) of charges at `since` or later, summed, in no order."""
        ...

    async def forget_charges(self, before: float) -> int:
        """Delete charges from before then; returns how many."""
        ...

    async def file_names(self) -> frozenset[str]:
        """All files that groups name: pictures of results, and those that requests start from."""
        ...

    async def forget(self, group_id: str) -> Sequence[str]:
        """Delete an ended group; returns the names of its picture files, for the caller to remove."""
        ...

    async def tags(self) -> Sequence[ShareTag]:
        """All stored nodes of the fair queue."""
        ...

    async def add_key(self, key: ApiKey) -> None:
        """Store a key; visible to other processes on the same data at once."""
        ...

    async def keys(self) -> Sequence[ApiKey]:
        """All keys, revoked ones too."""
        ...

    async def key(self, digest: str) -> ApiKey | None:
        """The unrevoked key with this digest, read fresh."""
        ...

    async def shelf_get(self, shelf: str, key: str) -> JSON:
        """A value, None where there is none."""
        ...

    async def shelf_put(self, shelf: str, key: str, value: JSON) -> None:
        """Set a value; None deletes it."""
        ...

    async def shelf_put_once(self, shelf: str, key: str, value: JSON) -> bool:
        """Set a value where there is none; False where there was one."""
        ...

    async def shelf_items(self, shelf: str) -> Mapping[str, JSON]:
        """All keys and values of a shelf, read fresh: other processes' too."""
        ...

    async def check(self) -> str:
        """ "ok", or what is wrong with the data (an integrity check)."""
        ...

    async def aclose(self) -> None:
        """Commit what waits and close; idempotent."""
        ...
