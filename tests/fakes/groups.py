"""Requests as the store holds them, and the few steps that tests of the store take over and over."""

from __future__ import annotations

from bot.core.ports import (
    Outcome,
    RemoteRef,
    ShareTag,
    Store,
    StoredGroup,
    StoredJob,
    StoredPicture,
)
from bot.core.request import JSON, Requester, State

ADA = Requester("discord", "guild-1", "ada", ("artist", "mod"), "Ada Łovelace 🎨")
REF = RemoteRef("local:", {"job": "r-1", "parts": [1, 2.5, None, {"deep": "ü"}]})
TAGS = (ShareTag(None, None, 0.0, 4.5), ShareTag("discord:guild-1", "discord:ada", 7.25, 0.0, 2.0, 0.5))


def a_group(
    name: str = "g", *, jobs: int = 1, who: Requester = ADA, at: float = 100.0, event: str = ""
) -> StoredGroup:
    """A group that nobody has accepted yet; its jobs are called g-0, g-1 ..."""
    return StoredGroup(
        group_id=name,
        event_key=event or f"event of {name}",
        requester=who,
        address={"channel": "c-1", "token": None, "pages": [1, 2]},
        options={"prompt": "a fox 'in' \"snow\" \\ 雪", "steps": 30},
        created_at=at,
        jobs=tuple(
            StoredJob(f"{name}-{index}", name, index, {"prompt": f"fox {index}", "seed": 2**32 - 1}, cost=1.5)
            for index in range(jobs)
        ),
    )


def a_picture(name: str, index: int = 0, *, withheld: bool = False) -> StoredPicture:
    """A finished picture."""
    recipe: dict[str, JSON] = {"prompt": "fox", "steps": 30, "parts": {"a": [1]}}
    return StoredPicture(name, index, "image/png", 512, 768, 2**32 - 1, "A fox", recipe, withheld)


def done(*names: str) -> Outcome:
    """An end with these pictures."""
    return Outcome(State.DONE, tuple(a_picture(name, index) for index, name in enumerate(names)))


CANCELLED = Outcome(State.CANCELLED, message="Cancelled by its author.")


async def begin(store: Store, job_id: str, attempt: int = 0, at: float = 110.0) -> bool:
    """Start a job without touching tags."""
    return await store.start(job_id, attempt=attempt, backend="local:", at=at, lease_until=at + 30, tags=())


async def end(store: Store, job_id: str, outcome: Outcome, attempt: int = 0, at: float = 120.0) -> bool:
    """Finish a job without touching tags."""
    return await store.finish(job_id, attempt=attempt, outcome=outcome, at=at, tags=())


async def queue(store: Store, group: StoredGroup) -> None:
    """Accept a group and mark it prepared, so that its jobs may start."""
    assert await store.accept(group) is None
    await store.save_address(group.group_id, group.address, prepared=True)


async def the(store: Store, group_id: str = "g") -> StoredGroup:
    """A group that must be there."""
    group = await store.group(group_id)
    assert group is not None
    return group


async def the_job(store: Store, job_id: str) -> StoredJob:
    """A job that must be there, of a group called like it."""
    group = await the(store, job_id.rpartition("-")[0])
    return next(job for job in group.jobs if job.job_id == job_id)
