"""A process that writes jobs as fast as it can until it is killed: `python -m tests.fakes.writing_process`.

Arguments: the database file, a word that makes the ids of this run unique. Every acknowledged step is said on
standard output, as "step id" in one unbuffered line, after the store returned.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

from bot.core.ports import RemoteRef, ShareTag
from bot.store.sqlite import SqliteStore, open_store
from tests.fakes.groups import a_group, done

CLIENTS = 8


def jobs_of(number: int) -> int:
    """How many jobs the group with this number has."""
    return 1 + number % 3


def say(step: str, name: str) -> None:
    """One line, in one system call."""
    os.write(1, f"{step} {name}\n".encode())


async def one_group(store: SqliteStore, name: str, number: int) -> None:
    """Everything that happens to a group, in order; every other one is left in the outbox."""
    group = a_group(name, jobs=jobs_of(number))
    await store.accept(group)
    say("accepted", name)
    await store.save_address(name, {"message": name}, prepared=True)
    say("queued", name)
    for job in group.jobs:
        tags = (ShareTag("g", name.partition(".")[0], float(number), 0.0),)
        await store.start(job.job_id, attempt=0, backend="b", at=1.0, lease_until=2.0, tags=tags)
        await store.save_ref(job.job_id, attempt=0, ref=RemoteRef("b", {"job": job.job_id}))
        say("referred", job.job_id)
        outcome = done(f"{job.job_id}.png")
        await store.finish(job.job_id, attempt=0, outcome=outcome, at=3.0, tags=tags)
        say("finished", job.job_id)
    if number % 2:
        await store.delivered(name, at=4.0)
        say("delivered", name)


async def client(store: SqliteStore, name: str) -> None:
    """One group after the other, for ever."""
    for number in count():
        await one_group(store, f"{name}.{number}", number)


async def main(path: Path, run: str) -> None:
    """Write until killed."""
    store = await open_store(path)
    await asyncio.gather(*(client(store, f"{run}.{number}") for number in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
