"""Reading: rows into the values of the ports. Every function runs inside one transaction of its caller's.

Knows nothing of threads, commits or events.
"""

# ruff: noqa: S608 - queries are put together from constants of this package; values are always bound

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from bot.core.ports import ApiKey, Delivery, RemoteRef, ShareTag, StoredGroup, StoredJob, StoredPicture
from bot.core.request import JSON, Requester, State
from bot.store._schema import UNFINISHED

Row: TypeAlias = tuple[Any, ...]  # the columns' types are those of the schema

_GROUP = (
    "sequence, group_id, event_key, platform, guild, user, roles, name, address, options, created_at, "
    "prepared, delivered_at"
)
_JOB = (
    "job, sequence, job_id, position, request, cost, state, attempt, backend, ref, message, reference, "
    "device_seconds, money, model, notes, started_at, ended_at, field"
)
_PICTURE = "job, name, position, mime, width, height, seed, alt_text, recipe, withheld, spoiler"
_KEY = "key_id, name, digest, created_at, organization, daily_budget, revoked_at"


def _plain(value: object) -> object:
    if isinstance(value, Mapping):  # a MappingProxyType, say, which json does not know
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain)


def dumps(value: JSON) -> str:
    """Compact JSON. Raises ValueError or TypeError for what JSON cannot hold (NaN, objects)."""
    return _ENCODER.encode(value)


def unfinished(db: sqlite3.Connection) -> Sequence[StoredGroup]:
    """Groups with a job that has not ended, in order of acceptance."""
    return _groups(db, f"SELECT sequence FROM jobs WHERE {UNFINISHED}")


def group(db: sqlite3.Connection, group_id: str) -> StoredGroup | None:
    """One group."""
    return _only(_groups(db, "SELECT sequence FROM groups WHERE group_id = ?", group_id))


def group_of_event(db: sqlite3.Connection, event_key: str) -> StoredGroup | None:
    """The group that an event made."""
    return _only(_groups(db, "SELECT sequence FROM groups WHERE event_key = ?", event_key))


def history(
    db: sqlite3.Connection, platform: str, guild: str, user: str, limit: int, before: int | None
) -> Sequence[StoredGroup]:
    """A member's groups within a guild, newest first."""
    below = before if before is not None else 2**63 - 1
    found = _groups(
        db,
        "SELECT sequence FROM groups WHERE platform = ? AND guild = ? AND user = ? AND sequence < ? "
        "ORDER BY sequence DESC LIMIT ?",
        *(platform, guild, user, below, max(limit, 0)),
    )
    return found[::-1]


def with_events(
    db: sqlite3.Connection, prefix: str, limit: int, offset: int
) -> tuple[Sequence[StoredGroup], int]:
    """Groups whose event_key begins with `prefix`, newest first, and how many there are in all."""
    # A range, which the index of event_key answers; no text sorts after this last code point.
    within = "event_key >= ? AND event_key < ?"
    bounds = (prefix, f"{prefix}\U0010ffff")
    (total,) = db.execute(f"SELECT count(*) FROM groups WHERE {within}", bounds).fetchone()
    chosen = f"SELECT sequence FROM groups WHERE {within} ORDER BY sequence DESC LIMIT ? OFFSET ?"
    return _groups(db, chosen, *bounds, max(limit, 0), max(offset, 0))[::-1], total


def picture(db: sqlite3.Connection, name: str) -> tuple[StoredGroup, StoredPicture] | None:
    """The picture with this file name, and its group."""
    owner = _only(
        _groups(db, "SELECT jobs.sequence FROM pictures JOIN jobs USING (job) WHERE pictures.name = ?", name)
    )
    if owner is None:
        return None
    return owner, next(found for job in owner.jobs for found in job.pictures if found.name == name)


def usage(db: sqlite3.Connection, since: float) -> Sequence[tuple[Requester, float]]:
    """Device-seconds of jobs that ended since then, by member."""
    rows = db.execute(
        "SELECT platform, guild, user, sum(device_seconds) FROM jobs JOIN groups USING (sequence) "
        "WHERE ended_at >= ? GROUP BY platform, guild, user",
        (since,),
    )
    return [(Requester(platform, guild, user), seconds) for platform, guild, user, seconds in rows]


def charges(db: sqlite3.Connection, since: float) -> Sequence[tuple[str, str, str, float]]:
    """US dollars of charges since then, by backend, tenant and member."""
    return db.execute(
        "SELECT backend, tenant, member, sum(money) FROM charges WHERE at >= ? "
        "GROUP BY backend, tenant, member",
        (since,),
    ).fetchall()


def outbox(db: sqlite3.Connection, limit: int) -> Sequence[Delivery]:
    """Undelivered rows, soonest due first, then in order of acceptance."""
    rows = db.execute(
        "SELECT group_id, tries, due_at FROM outbox JOIN groups USING (sequence) "
        "ORDER BY due_at, outbox.sequence LIMIT ?",
        (max(limit, 0),),
    )
    return [Delivery(*row) for row in rows]


def file_names(db: sqlite3.Connection) -> frozenset[str]:
    """All files that groups name."""
    rows = db.execute(
        "SELECT name FROM pictures UNION ALL SELECT json_extract(request, '$.init_image') FROM jobs "
        "UNION ALL SELECT json_extract(request, '$.mask_image') FROM jobs"
    )
    return frozenset(name for (name,) in rows if isinstance(name, str))


def tags(db: sqlite3.Connection) -> Sequence[ShareTag]:
    """All nodes of the fair queue: the root first, a guild before its users."""
    rows = db.execute("SELECT guild, user, vt, virtual, weight, credit FROM tags ORDER BY guild, user")
    return [ShareTag(guild or None, user or None, *values) for guild, user, *values in rows]


def keys(db: sqlite3.Connection) -> Sequence[ApiKey]:
    """All keys, oldest first."""
    return [ApiKey(*row) for row in db.execute(f"SELECT {_KEY} FROM api_keys ORDER BY created_at, key_id")]


def key(db: sqlite3.Connection, digest: str) -> ApiKey | None:
    """The unrevoked key with this digest."""
    query = f"SELECT {_KEY} FROM api_keys WHERE digest = ? AND revoked_at IS NULL"
    row = db.execute(query, (digest,)).fetchone()
    return ApiKey(*row) if row else None


def shelf_get(db: sqlite3.Connection, shelf: str, name: str) -> JSON:
    """A value, None where there is none."""
    row = db.execute("SELECT value FROM shelf WHERE shelf = ? AND key = ?", (shelf, name)).fetchone()
    return cast(JSON, json.loads(row[0])) if row else None


def shelf_items(db: sqlite3.Connection, shelf: str) -> Mapping[str, JSON]:
    """All keys and values of a shelf."""
    rows = db.execute("SELECT key, value FROM shelf WHERE shelf = ?", (shelf,))
    return {key: cast(JSON, json.loads(value)) for key, value in rows}


def check(db: sqlite3.Connection) -> str:
    """ "ok", or the first problems found, one a line. Reads the whole file."""
    try:
        damage = [str(row[0]) for row in db.execute("PRAGMA quick_check(10)")]
        orphans = [
            f"row {rowid} of {table} belongs to a row of {parent} that is not there"
            for table, rowid, parent, _ in db.execute("PRAGMA foreign_key_check")
        ]
    except sqlite3.DatabaseError as error:
        return str(error)
    problems = [line for line in damage if line != "ok"] + orphans[:10]
    return "\n".join(problems) or "ok"


def _only(groups: Sequence[StoredGroup]) -> StoredGroup | None:
    return groups[0] if groups else None


def _groups(db: sqlite3.Connection, chosen: str, *parameters: object) -> list[StoredGroup]:
    """The groups whose sequences the query `chosen` gives, in order of acceptance, with all their jobs."""
    of_chosen = f"WHERE sequence IN ({chosen})"
    rows = db.execute(f"SELECT {_GROUP} FROM groups {of_chosen} ORDER BY sequence", parameters).fetchall()
    if not rows:
        return []
    of_jobs = f"WHERE job IN (SELECT job FROM jobs {of_chosen})"
    pictures: dict[int, list[StoredPicture]] = defaultdict(list)
    for row in db.execute(f"SELECT {_PICTURE} FROM pictures {of_jobs} ORDER BY job, position", parameters):
        pictures[row[0]].append(_picture(row))
    jobs: dict[int, list[Row]] = defaultdict(list)
    for row in db.execute(f"SELECT {_JOB} FROM jobs {of_chosen} ORDER BY sequence, position", parameters):
        jobs[row[1]].append(row)
    return [_group(row, jobs[row[0]], pictures) for row in rows]


def _group(row: Row, jobs: Sequence[Row], pictures: Mapping[int, Sequence[StoredPicture]]) -> StoredGroup:
    sequence, group_id, event_key, platform, guild, user, roles, name, *rest = row
    address, options, created_at, prepared, delivered_at = rest
    return StoredGroup(
        group_id=group_id,
        event_key=event_key,
        requester=Requester(platform, guild, user, tuple(json.loads(roles)), name),
        address=json.loads(address),
        options=json.loads(options),
        created_at=created_at,
        prepared=bool(prepared),
        delivered_at=delivered_at,
        sequence=sequence,
        jobs=tuple(_job(job, group_id, pictures.get(job[0], ())) for job in jobs),
    )


def _job(row: Row, group_id: str, pictures: Sequence[StoredPicture]) -> StoredJob:
    _, _, job_id, position, request, cost, state, attempt, backend, ref, message, *rest = row
    reference, device_seconds, money, model, notes, started_at, ended_at, field = rest
    return StoredJob(
        job_id=job_id,
        group_id=group_id,
        index=position,
        request=json.loads(request),
        cost=cost,
        state=State(state),
        attempt=attempt,
        backend=backend,
        ref=RemoteRef(**json.loads(ref)) if ref else None,
        message=message,
        reference=reference,
        device_seconds=device_seconds,
        money=money,
        model=model,
        notes=tuple(json.loads(notes)),
        field=field,
        pictures=tuple(pictures),
        started_at=started_at,
        ended_at=ended_at,
    )


def _picture(row: Row) -> StoredPicture:
    _, name, position, mime, width, height, seed, alt_text, recipe, withheld, spoiler = row
    return StoredPicture(
        name=name,
        index=position,
        mime=mime,
        width=width,
        height=height,
        seed=seed,
        alt_text=alt_text,
        recipe=json.loads(recipe),
        withheld=bool(withheld),
        spoiler=bool(spoiler),
    )
