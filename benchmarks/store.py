"""How many jobs the SQLite store takes, and how long an acknowledgement lasts: `python -m benchmarks.store`.

A full job is six writes that each wait for their commit: accept, prepared, start, ref, finish, delivered.
Group commit is compared with one transaction a write in the same run, and the acknowledgement of accept with
a bare write and fdatasync of as many bytes on the same disk, taken in turns with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.core.ports import Outcome, RemoteRef, ShareTag, StoredGroup, StoredJob, StoredPicture
from bot.core.request import JSON, Requester, State
from bot.store.sqlite import SqliteStore, open_store

CLIENTS = (16, 128)
PROMPT = "a red fox in fresh snow, golden hour, detailed fur, shallow depth of field, 85 mm"
OPTIONS: dict[str, JSON] = {"prompt": PROMPT, "width": 512, "height": 512, "steps": 30, "seed": 4294967295}
WAL_BYTES = 4 * 1024 * 1024  # what SQLite lets the log grow to before it starts over


@dataclass(frozen=True, slots=True)
class Run:
    """jobs: full jobs a second; commits: transactions a second; accepts: seconds, sorted."""

    jobs: float
    commits: float
    accepts: Sequence[float]


def new_group(name: str, client: int) -> StoredGroup:
    """A request of the usual size, of one of the clients' own guilds."""
    return StoredGroup(
        group_id=name,
        event_key=f"interaction {name}",
        requester=Requester("discord", f"guild-{client}", f"user-{client}", (), "Somebody"),
        address={"channel": "1234567890123456789", "token": "t" * 180, "message": None},
        options=OPTIONS,
        created_at=1.0,
        jobs=(StoredJob(f"{name}-0", name, 0, OPTIONS, cost=2.0),),
    )


def tags_of(client: int, virtual: float) -> Sequence[ShareTag]:
    """The nodes that a dispatch changes: the root, a guild, a user."""
    guild, user = f"discord:guild-{client}", f"discord:user-{client}"
    return (
        ShareTag(None, None, 0.0, virtual),
        ShareTag(guild, None, virtual, virtual),
        ShareTag(guild, user, virtual, 0.0),
    )


async def full_job(store: SqliteStore, name: str, client: int) -> float:
    """One job from accept to delivered; returns the seconds that accept took."""
    group, job, tags = new_group(name, client), f"{name}-0", tags_of(client, time.monotonic())
    picture = StoredPicture(f"{name}.png", 0, "image/png", 512, 512, 7, PROMPT, OPTIONS)
    before = time.perf_counter()
    assert await store.accept(group) is None
    accepted = time.perf_counter() - before
    await store.save_address(name, group.address, prepared=True)
    assert await store.start(job, attempt=0, backend="local:", at=2.0, lease_until=32.0, tags=tags)
    assert await store.save_ref(job, attempt=0, ref=RemoteRef("local:", {"job": name}))
    outcome = Outcome(State.DONE, (picture,), device_seconds=2.0, model="demo")
    assert await store.finish(job, attempt=0, outcome=outcome, at=4.0, tags=tags)
    await store.delivered(name, at=5.0)
    return accepted


async def load(path: Path, clients: int, seconds: float, max_batch: int) -> Run:
    """So many clients, each with one job at a time, on a fresh store."""
    store = await open_store(path, max_batch=max_batch)
    began, commits = time.perf_counter(), store.commits

    async def client(number: int) -> list[float]:
        accepts: list[float] = []
        while time.perf_counter() - began < seconds:
            accepts.append(await full_job(store, f"{number}.{len(accepts)}", number))
        return accepts

    accepts = [lasted for one in await asyncio.gather(*map(client, range(clients))) for lasted in one]
    took, commits = time.perf_counter() - began, store.commits - commits
    assert await store.check() == "ok"
    await store.aclose()
    return Run(len(accepts) / took, commits / took, sorted(accepts))


async def acknowledgements(folder: Path, seconds: float) -> tuple[int, Sequence[float], Sequence[float]]:
    """Bytes that one accept writes, and the sorted seconds of accepts and of bare syncs, in turns."""
    store = await open_store(folder / "ack.db")
    wal = folder / "ack.db-wal"
    before = wal.stat().st_size
    for number in range(20):
        await store.accept(new_group(f"warm{number}", number))
    size = (wal.stat().st_size - before) // 20
    bare = os.open(folder / "bare", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(bare, bytes(WAL_BYTES))
    os.fsync(bare)
    accepts: list[float] = []
    syncs: list[float] = []
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        await store.accept(new_group(f"g{len(accepts)}", 0))
        accepted = time.perf_counter()
        os.pwrite(bare, b"x" * size, len(accepts) * size % (WAL_BYTES - size))
        os.fdatasync(bare)
        accepts.append(accepted - now)
        syncs.append(time.perf_counter() - accepted)
    os.close(bare)
    await store.aclose()
    return size, sorted(accepts), sorted(syncs)


def quantiles(seconds: Sequence[float]) -> str:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1e3:7.2f} ms   p99 {cuts[98] * 1e3:7.2f} ms"


async def report(folder: Path, seconds: float) -> None:
    """Run everything and print it."""
    size, accepts, syncs = await acknowledgements(folder, seconds)
    print(f"accept, one client, {len(accepts)} times  {quantiles(accepts)}")
    print(f"bare write + fdatasync, {size} bytes  {quantiles(syncs)}\n")
    for clients in CLIENTS:
        single = await load(folder / f"single{clients}.db", clients, seconds, max_batch=1)
        grouped = await load(folder / f"grouped{clients}.db", clients, seconds, max_batch=1024)
        for name, run in (("one transaction a write", single), ("group commit", grouped)):
            print(
                f"{clients:4} clients, {name:24}{run.jobs:8.0f} jobs/s {run.commits:8.0f} commits/s   "
                f"accept {quantiles(run.accepts)}"
            )
        print(f"{clients:4} clients, ratio {grouped.jobs / single.jobs:.1f}\n")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each of the five parts (default: 5)")
    parser.add_argument(
        "--dir", type=Path, help="a folder on the disk to measure (default: the temporary one)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        asyncio.run(report(Path(folder), arguments.seconds))


if __name__ == "__main__":
    main()
