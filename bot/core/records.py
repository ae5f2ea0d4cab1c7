"""What the store keeps: groups of jobs with their pictures, the fair queue's tags, deliveries and keys.

Frozen, plain values. It knows no database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

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
    """A picture as the store knows it: `name` is its file's name in the pictures folder."""

    name: str
    index: int
    mime: str
    width: int
    height: int
    seed: int
    alt_text: str
    recipe: Mapping[str, JSON]
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class StoredJob:
    """One ImageRequest of a group. cost: estimated device-seconds; attempt: 0-based; a lease is held while
    RUNNING; request: as JSON, input pictures by file name (see bot.core.codec); field: what a failure was
    about, such as "size" where it did not fit into memory."""

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
    weight: float = 1.0
    daily_budget: float | None = None
    revoked_at: float | None = None
