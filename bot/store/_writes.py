"""Writing: each function is one operation, run inside a transaction that it shares with its neighbours.

Values come ready as columns (JSON as text), made when the operation was called, so that what a caller changes
later is not what is written. Knows nothing of threads, commits or events.
"""

# ruff: noqa: S608 - queries are put together from constants of this package; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from bot.core.ports import ApiKey, Charge, Outcome, ShareTag, StoredGroup, StoredPicture
from bot.core.request import State
from bot.store import _rows
from bot.store._rows import dumps
from bot.store._schema import UNFINISHED

Columns = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class NewGroup:
    """A group that is to be accepted, as columns."""

    event_key: str
    group: Columns
    jobs: Sequence[Columns]


def new_group(group: StoredGroup) -> NewGroup:
    """The columns of a group. Raises ValueError where it has no job, or one that has begun."""
    if not group.jobs:
        raise ValueError(f"group {group.group_id} has no jobs")
    for job in group.jobs:
        if job.group_id != group.group_id or job.state not in (State.ACCEPTED, State.QUEUED):
            raise ValueError(f"job {job.job_id} is not a new job of group {group.group_id}")
    requester = group.requester
    who = (requester.platform, requester.guild, requester.user, _roles(requester.roles), requester.name)
    what = (dumps(group.address), dumps(group.options), group.created_at, group.prepared)
    jobs = [
        (job.job_id, job.index, dumps(job.request), job.cost, job.state.value, job.attempt)
        for job in group.jobs
    ]
    return NewGroup(group.event_key, (group.group_id, group.event_key, *who, *what), jobs)


def _roles(roles: Sequence[str]) -> str:
    return dumps(roles) if roles else "[]"  # most often: whoever asks over HTTP has none


def accept(db: sqlite3.Connection, new: NewGroup) -> StoredGroup | None:
    """None where the group is new; else the stored one of the same event."""
    if db.execute("SELECT 1 FROM groups WHERE event_key = ?", (new.event_key,)).fetchone() is not None:
        return _rows.group_of_event(db, new.event_key)
    sequence = db.execute(
        "INSERT INTO groups (group_id, event_key, platform, guild, user, roles, name, address, options, "
        "created_at, prepared) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        new.group,
    ).lastrowid
    db.executemany(
        "INSERT INTO jobs (sequence, job_id, position, request, cost, state, attempt) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(sequence, *job) for job in new.jobs],
    )
    return None


def save_address(db: sqlite3.Connection, group_id: str, address: str, prepared: bool) -> None:
    """Replace the address; with `prepared`, ACCEPTED jobs become QUEUED."""
    db.execute(
        "UPDATE groups SET address = ?, prepared = prepared OR ? WHERE group_id = ?",
        (address, prepared, group_id),
    )
    if prepared:
        db.execute(
            "UPDATE jobs SET state = 'queued' WHERE state = 'accepted' "
            "AND sequence = (SELECT sequence FROM groups WHERE group_id = ?)",
            (group_id,),
        )


def start(
    db: sqlite3.Connection,
    job_id: str,
    attempt: int,
    backend: str,
    at: float,
    lease_until: float,
    tags: Sequence[ShareTag],
    money: float | None,
) -> bool:
    """QUEUED -> RUNNING."""
    return _with_tags(
        db,
        db.execute(
            "UPDATE jobs SET state = 'running', backend = ?, started_at = ?, lease_until = ?, money = ?, "
            "ref = NULL WHERE job_id = ? AND attempt = ? AND state = 'queued'",
            (backend, at, lease_until, money, job_id, attempt),
        ),
        tags,
    )


def save_ref(db: sqlite3.Connection, job_id: str, attempt: int, ref: str) -> bool:
    """Set the remote reference of a RUNNING job."""
    changed = db.execute(
        "UPDATE jobs SET ref = ? WHERE job_id = ? AND attempt = ? AND state = 'running'",
        (ref, job_id, attempt),
    )
    return changed.rowcount == 1


def renew(db: sqlite3.Connection, job_ids: Sequence[str], lease_until: float) -> None:
    """Extend leases of RUNNING jobs."""
    db.executemany(
        "UPDATE jobs SET lease_until = ? WHERE job_id = ? AND state = 'running'",
        [(lease_until, job_id) for job_id in job_ids],
    )


def requeue(
    db: sqlite3.Connection, job_id: str, attempt: int, tags: Sequence[ShareTag], charge: Charge | None
) -> bool:
    """RUNNING -> QUEUED, as if never started, at the next attempt."""
    changed = db.execute(
        "UPDATE jobs SET state = 'queued', attempt = attempt + 1, backend = '', ref = NULL, "
        "started_at = NULL, lease_until = NULL, money = NULL "
        "WHERE job_id = ? AND attempt = ? AND state = 'running'",
        (job_id, attempt),
    )
    if not _with_tags(db, changed, tags):
        return False
    _note_charge(db, charge)
    return True


def _note_charge(db: sqlite3.Connection, charge: Charge | None) -> None:
    if charge is not None:
        db.execute(
            "INSERT INTO charges (at, backend, tenant, member, job_id, attempt, money) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            astuple(charge),
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """An outcome, as columns."""

    job: Columns
    pictures: Sequence[Columns]


def ending(outcome: Outcome) -> Ending:
    """The columns of an outcome. Raises ValueError where its state is not an end."""
    if not outcome.state.ended:
        raise ValueError(f"{outcome.state} is not the end of a job")
    job = (
        outcome.state.value,
        outcome.message,
        outcome.reference,
        outcome.device_seconds,
        outcome.money,
        outcome.model,
        dumps(outcome.notes),
        outcome.field,
    )
    return Ending(job, [_picture(picture) for picture in outcome.pictures])


def _picture(picture: StoredPicture) -> Columns:
    place = (picture.name, picture.index, picture.mime, picture.width, picture.height, picture.seed)
    return *place, picture.alt_text, dumps(picture.recipe), picture.withheld, picture.spoiler


def finish(
    db: sqlite3.Connection,
    job_id: str,
    attempt: int,
    end: Ending,
    at: float,
    tags: Sequence[ShareTag],
    charge: Charge | None,
) -> bool:
    """End a job and note what it cost, and with the last of its group put that into the outbox."""
    changed = db.execute(
        "UPDATE jobs SET state = ?, message = ?, reference = ?, device_seconds = ?, money = ?, model = ?, "
        "notes = ?, field = ?, ended_at = ?, lease_until = NULL "
        f"WHERE job_id = ? AND attempt = ? AND {UNFINISHED}",
        (*end.job, at, job_id, attempt),
    )
    if not _with_tags(db, changed, tags):
        return False
    job, sequence = db.execute("SELECT job, sequence FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    db.executemany(
        "INSERT INTO pictures (job, name, position, mime, width, height, seed, alt_text, recipe, withheld, "
        "spoiler) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(job, *columns) for columns in end.pictures],
    )
    _note_charge(db, charge)
    if not _has_unfinished(db, sequence):
        db.execute("INSERT INTO outbox (sequence, tries, due_at) VALUES (?, 0, ?)", (sequence, at))
    return True


def forget_charges(db: sqlite3.Connection, before: float) -> int:
    """Delete old charges; how many."""
    return db.execute("DELETE FROM charges WHERE at < ?", (before,)).rowcount


def postpone(db: sqlite3.Connection, group_id: str, tries: int, due_at: float) -> None:
    """Note a failed delivery."""
    db.execute(
        "UPDATE outbox SET tries = ?, due_at = ? "
        "WHERE sequence = (SELECT sequence FROM groups WHERE group_id = ?)",
        (tries, due_at, group_id),
    )


def delivered(db: sqlite3.Connection, group_id: str, at: float) -> None:
    """Out of the outbox, and marked; only what is in the outbox can be delivered."""
    gone = db.execute(
        "DELETE FROM outbox WHERE sequence = (SELECT sequence FROM groups WHERE group_id = ?)", (group_id,)
    )
    if gone.rowcount:
        db.execute("UPDATE groups SET delivered_at = ? WHERE group_id = ?", (at, group_id))


def forget(db: sqlite3.Connection, group_id: str) -> Sequence[str]:
    """Delete an ended group with all that belongs to it; the names of its picture files."""
    row = db.execute("SELECT sequence FROM groups WHERE group_id = ?", (group_id,)).fetchone()
    if row is None or _has_unfinished(db, row[0]):
        return ()
    names = db.execute(
        "SELECT name FROM pictures WHERE job IN (SELECT job FROM jobs WHERE sequence = ?) "
        "ORDER BY job, position",
        row,
    ).fetchall()
    db.execute("DELETE FROM groups WHERE sequence = ?", row)
    return tuple(name for (name,) in names)


def add_key(db: sqlite3.Connection, key: ApiKey) -> None:
    """Store a key; one with the same key_id is replaced, which is how a key is revoked. Its weight is on the
    shelf of all weights; the column is of an older program."""
    db.execute(
        "INSERT INTO api_keys (key_id, name, digest, created_at, organization, weight, daily_budget, "
        "revoked_at) VALUES (?, ?, ?, ?, ?, 1.0, ?, ?) "
        "ON CONFLICT (key_id) DO UPDATE SET name = excluded.name, digest = excluded.digest, "
        "created_at = excluded.created_at, organization = excluded.organization, "
        "daily_budget = excluded.daily_budget, revoked_at = excluded.revoked_at",
        astuple(key),
    )


def shelf_put(db: sqlite3.Connection, shelf: str, name: str, value: str | None) -> None:
    """Set a value; None deletes it."""
    if value is None:
        db.execute("DELETE FROM shelf WHERE shelf = ? AND key = ?", (shelf, name))
    else:
        db.execute(
            "INSERT INTO shelf (shelf, key, value) VALUES (?, ?, ?) "
            "ON CONFLICT (shelf, key) DO UPDATE SET value = excluded.value",
            (shelf, name, value),
        )


def shelf_put_once(db: sqlite3.Connection, shelf: str, name: str, value: str | None) -> bool:
    """Set a value where there is none."""
    if _rows.shelf_get(db, shelf, name) is not None:
        return False
    shelf_put(db, shelf, name, value)
    return True


def _with_tags(db: sqlite3.Connection, changed: sqlite3.Cursor, tags: Sequence[ShareTag]) -> bool:
    """Whether a fenced update hit its job; only then the queue's tags are written too."""
    if changed.rowcount != 1:
        return False
    db.executemany(
        "INSERT INTO tags (guild, user, vt, virtual, weight, credit) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (guild, user) DO UPDATE SET vt = excluded.vt, virtual = excluded.virtual, "
        "weight = excluded.weight, credit = excluded.credit",
        [
            (tag.guild or "", tag.user or "", tag.vt, tag.virtual, tag.weight, tag.credit)
            for tag in tags
            if tag.weight > 0
        ],
    )
    forgotten = [(tag.guild or "", tag.user or "") for tag in tags if tag.weight == 0]
    if forgotten:
        db.executemany("DELETE FROM tags WHERE guild = ? AND user = ?", forgotten)
    return True


def _has_unfinished(db: sqlite3.Connection, sequence: int) -> bool:
    query = f"SELECT 1 FROM jobs WHERE sequence = ? AND {UNFINISHED} LIMIT 1"
    return db.execute(query, (sequence,)).fetchone() is not None
