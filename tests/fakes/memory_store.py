"""The Store port in memory, for tests of what stands on it. Passes the same contract as the real stores.

Nothing is durable: `MemoryStore(data)` beside an older one on the same data plays a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import cast

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
    StoredJob,
    StoredPicture,
)
from bot.core.request import JSON, Requester, State


@dataclass
class Data:
    """What a real store keeps on disk. groups by group_id, in order of acceptance; leases by job_id."""

    groups: dict[str, StoredGroup] = field(default_factory=dict)
    outbox: dict[str, Delivery] = field(default_factory=dict)
    tags: dict[tuple[str | None, str | None], ShareTag] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    shelves: dict[tuple[str, str], JSON] = field(default_factory=dict)
    leases: dict[str, float] = field(default_factory=dict)
    charges: dict[tuple[str, int], Charge] = field(default_factory=dict)
    sequences: count[int] = field(default_factory=lambda: count(1))


class MemoryStore:
    """Every call happens at once and whole. `closed` says whether aclose was called."""

    def __init__(self, data: Data | None = None) -> None:
        self.data = data or Data()
        self.closed = False

    # --- requests -----------------------------------------------------------------------------------------

    async def accept(self, group: StoredGroup) -> StoredGroup | None:
        groups = self._open().groups
        fresh = [job.state in (State.ACCEPTED, State.QUEUED) for job in group.jobs]
        if not fresh or not all(fresh) or any(job.group_id != group.group_id for job in group.jobs):
            raise ValueError(f"group {group.group_id} is not a new one")
        for known in groups.values():
            if known.event_key == group.event_key:
                return known
        self._refuse_known_ids(group)
        jobs = tuple(replace(job, request=_copy(job.request)) for job in group.jobs)
        groups[group.group_id] = replace(
            group,
            sequence=next(self.data.sequences),
            address=_copy(group.address),
            options=_copy(group.options),
            jobs=tuple(sorted(jobs, key=lambda job: job.index)),
        )
        return None

    def _refuse_known_ids(self, group: StoredGroup) -> None:
        new = [job.job_id for job in group.jobs]
        known = {job.job_id for other in self.data.groups.values() for job in other.jobs}
        if group.group_id in self.data.groups or known & set(new) or len(set(new)) < len(new):
            raise ValueError(f"an id of group {group.group_id} is stored already")

    async def save_address(self, group_id: str, address: Address, *, prepared: bool = False) -> None:
        group = self._open().groups.get(group_id)
        if group is None:
            return
        group = replace(group, address=_copy(address), prepared=group.prepared or prepared)
        if prepared:
            group = replace(group, jobs=tuple(_queued(job) for job in group.jobs))
        self.data.groups[group_id] = group

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
        job = self._job(job_id, attempt, State.QUEUED)
        if job is None:
            return False
        running = replace(job, state=State.RUNNING, backend=backend, started_at=at, ref=None, money=money)
        self._put(running, tags)
        self.data.leases[job_id] = lease_until
        return True

    async def save_ref(self, job_id: str, *, attempt: int, ref: RemoteRef) -> bool:
        job = self._job(job_id, attempt, State.RUNNING)
        if job is not None:
            self._put(replace(job, ref=RemoteRef(ref.backend, _copy(ref.data))))
        return job is not None

    async def renew(self, job_ids: Sequence[str], *, lease_until: float) -> None:
        leases = self._open().leases
        leases.update({job_id: lease_until for job_id in job_ids if job_id in leases})

    async def requeue(
        self, job_id: str, *, attempt: int, tags: Sequence[ShareTag], charge: Charge | None = None
    ) -> bool:
        job = self._job(job_id, attempt, State.RUNNING)
        if job is None:
            return False
        waiting = replace(
            job,
            state=State.QUEUED,
            attempt=attempt + 1,
            backend="",
            ref=None,
            started_at=None,
            money=None,
        )
        self._charge(charge)
        self._put(waiting, tags)
        del self.data.leases[job_id]
        return True

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
        if not outcome.state.ended:
            raise ValueError(f"{outcome.state} is not the end of a job")
        job = self._job(job_id, attempt, State.ACCEPTED, State.QUEUED, State.RUNNING)
        if job is None:
            return False
        pictures = tuple(replace(picture, recipe=_copy(picture.recipe)) for picture in outcome.pictures)
        self._refuse_known_names(pictures)
        ended = replace(
            job,
            state=outcome.state,
            message=outcome.message,
            reference=outcome.reference,
            device_seconds=outcome.device_seconds,
            money=outcome.money,
            model=outcome.model,
            notes=outcome.notes,
            field=outcome.field,
            pictures=tuple(sorted(pictures, key=lambda picture: picture.index)),
            ended_at=at,
        )
        self._charge(charge)
        self._put(ended, tags)
        self.data.leases.pop(job_id, None)
        if _ended(self.data.groups[job.group_id]):
            self.data.outbox[job.group_id] = Delivery(job.group_id, due_at=at)
        return True

    def _charge(self, charge: Charge | None) -> None:
        if charge is not None:
            self.data.charges[charge.job_id, charge.attempt] = charge

    def _refuse_known_names(self, pictures: Sequence[StoredPicture]) -> None:
        known = {name for group in self.data.groups.values() for name in _names(group)}
        names = [picture.name for picture in pictures]
        if known & set(names) or len(set(names)) < len(names):
            raise ValueError("a picture with this name is stored already")

    async def unfinished(self) -> Sequence[StoredGroup]:
        return [group for group in self._open().groups.values() if not _ended(group)]

    # --- the outbox ---------------------------------------------------------------------------------------

    async def outbox(self, *, limit: int = 1000) -> Sequence[Delivery]:
        groups = self._open().groups
        rows = self.data.outbox.values()
        return sorted(rows, key=lambda row: (row.due_at, groups[row.group_id].sequence))[:limit]

    async def postpone(self, group_id: str, *, tries: int, due_at: float) -> None:
        if group_id in self._open().outbox:
            self.data.outbox[group_id] = Delivery(group_id, tries, due_at)

    async def delivered(self, group_id: str, *, at: float) -> None:
        if self._open().outbox.pop(group_id, None):
            self.data.groups[group_id] = replace(self.data.groups[group_id], delivered_at=at)

    # --- looking back -------------------------------------------------------------------------------------

    async def group(self, group_id: str) -> StoredGroup | None:
        return self._open().groups.get(group_id)

    async def history(
        self, requester: Requester, *, limit: int = 50, before: int | None = None
    ) -> Sequence[StoredGroup]:
        who = (requester.platform, requester.guild, requester.user)
        found = [
            group
            for group in reversed(self._open().groups.values())
            if (group.requester.platform, group.requester.guild, group.requester.user) == who
            and (before is None or group.sequence < before)
        ]
        return found[:limit]

    async def with_events(
        self, prefix: str, *, limit: int, offset: int = 0
    ) -> tuple[Sequence[StoredGroup], int]:
        groups = reversed(self._open().groups.values())
        found = [group for group in groups if group.event_key.startswith(prefix)]
        return found[max(offset, 0) :][: max(limit, 0)], len(found)

    async def picture(self, name: str) -> tuple[StoredGroup, StoredPicture] | None:
        for group in self._open().groups.values():
            for job in group.jobs:
                for picture in job.pictures:
                    if picture.name == name:
                        return group, picture
        return None

    async def file_names(self) -> frozenset[str]:
        groups = self._open().groups.values()
        requests = [job.request for group in groups for job in group.jobs]
        inputs = [request.get(key) for request in requests for key in ("init_image", "mask_image")]
        made = [name for group in groups for name in _names(group)]
        return frozenset([*made, *(name for name in inputs if isinstance(name, str))])

    async def usage(self, since: float) -> Sequence[tuple[Requester, float]]:
        used: dict[tuple[str, str, str], float] = {}
        for group in self._open().groups.values():
            who = group.requester.platform, group.requester.guild, group.requester.user
            for job in group.jobs:
                if job.ended_at is not None and job.ended_at >= since:
                    used[who] = used.get(who, 0.0) + job.device_seconds
        return [(Requester(*who), seconds) for who, seconds in used.items()]

    async def charges(self, since: float) -> Sequence[tuple[str, str, str, float]]:
        sums: dict[tuple[str, str, str], float] = {}
        for each in self._open().charges.values():
            if each.at >= since:
                who = each.backend, each.tenant, each.member
                sums[who] = sums.get(who, 0.0) + each.money
        return [(*who, money) for who, money in sums.items()]

    async def forget_charges(self, before: float) -> int:
        old = [key for key, charge in self._open().charges.items() if charge.at < before]
        for key in old:
            del self.data.charges[key]
        return len(old)

    async def forget(self, group_id: str) -> Sequence[str]:
        group = self._open().groups.get(group_id)
        if group is None or not _ended(group):
            return ()
        del self.data.groups[group_id]
        self.data.outbox.pop(group_id, None)
        return _names(group)

    # --- the fair queue, keys, shelves --------------------------------------------------------------------

    async def tags(self) -> Sequence[ShareTag]:
        return sorted(self._open().tags.values(), key=lambda tag: (tag.guild or "", tag.user or ""))

    async def add_key(self, key: ApiKey) -> None:
        others = [other for other in self._open().keys.values() if other.key_id != key.key_id]
        if any(other.digest == key.digest for other in others):
            raise ValueError("this key is stored already")
        self.data.keys[key.key_id] = key

    async def keys(self) -> Sequence[ApiKey]:
        return sorted(self._open().keys.values(), key=lambda key: (key.created_at, key.key_id))

    async def key(self, digest: str) -> ApiKey | None:
        valid = [key for key in self._open().keys.values() if key.revoked_at is None]
        return next((key for key in valid if key.digest == digest), None)

    async def shelf_get(self, shelf: str, key: str) -> JSON:
        return self._open().shelves.get((shelf, key))

    async def shelf_put(self, shelf: str, key: str, value: JSON) -> None:
        if value is None:
            self._open().shelves.pop((shelf, key), None)
        else:
            self._open().shelves[shelf, key] = json.loads(_text(value))

    async def shelf_put_once(self, shelf: str, key: str, value: JSON) -> bool:
        if (shelf, key) in self._open().shelves:
            return False
        await self.shelf_put(shelf, key, value)
        return True

    async def shelf_items(self, shelf: str) -> Mapping[str, JSON]:
        return {key: value for (name, key), value in self._open().shelves.items() if name == shelf}

    async def check(self) -> str:
        self._open()
        return "ok"

    async def aclose(self) -> None:
        self.closed = True

    def _open(self) -> Data:
        if self.closed:
            raise Unavailable("The store is closed.")
        return self.data

    def _job(self, job_id: str, attempt: int, *states: State) -> StoredJob | None:
        """The job, where it is at this attempt and in one of these states."""
        for group in self._open().groups.values():
            for job in group.jobs:
                if job.job_id == job_id:
                    return job if job.attempt == attempt and job.state in states else None
        return None

    def _put(self, new: StoredJob, tags: Sequence[ShareTag] = ()) -> None:
        group = self.data.groups[new.group_id]
        jobs = tuple(new if job.job_id == new.job_id else job for job in group.jobs)
        self.data.groups[group.group_id] = replace(group, jobs=jobs)
        self.data.tags.update({(tag.guild, tag.user): tag for tag in tags})
        for tag in tags:
            if tag.weight == 0:
                del self.data.tags[tag.guild, tag.user]


def _text(value: JSON) -> str:
    return json.dumps(value, allow_nan=False, default=dict)  # other Mappings than dict


def _copy(value: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """What comes back from a real store: plain JSON that nobody else holds."""
    return cast(Mapping[str, JSON], json.loads(_text(value)))


def _queued(job: StoredJob) -> StoredJob:
    return replace(job, state=State.QUEUED) if job.state is State.ACCEPTED else job


def _ended(group: StoredGroup) -> bool:
    return all(job.state.ended for job in group.jobs)


def _names(group: StoredGroup) -> Sequence[str]:
    return tuple(picture.name for job in group.jobs for picture in job.pictures)
