from __future__ import annotations

import asyncio
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bot.core.errors import Unavailable
from bot.core.ports import ApiKey, Outcome, ShareTag, Store, StoredGroup
from bot.core.request import State
from bot.store import _schema
from bot.store.sqlite import SqliteStore, open_store
from tests.fakes.groups import (
    ADA,
    CANCELLED,
    REF,
    a_group,
    begin,
    done,
    queue,
)
from tests.fakes.memory_store import MemoryStore
from tests.fakes.writing_process import jobs_of
from tests.store_contract import Reopen, StoreContract


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "fairbrush.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_store(path)
    yield store
    await store.aclose()


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()

    @pytest.fixture
    def reopen(self, store: MemoryStore) -> Reopen:
        async def again() -> Store:
            await store.aclose()
            return MemoryStore(store.data)

        return again


class TestSqliteStore(StoreContract):
    @pytest.fixture
    async def reopen(self, store: SqliteStore) -> AsyncIterator[Reopen]:
        opened: list[Store] = []

        async def again() -> Store:
            await store.aclose()
            opened.append(await open_store(store.path))
            return opened[-1]

        yield again
        for other in opened:
            await other.aclose()


# --- one behaviour ------------------------------------------------------------------------------------------


async def random_write(store: Store, seed: int) -> object:
    """One write, the same for the same seed, often a wrong or stale one; its answer, or the kind of error."""
    dice = random.Random(seed)
    name = dice.choice("abcd")
    job, attempt, at = f"{name}-{dice.randrange(2)}", dice.choice((0, 0, 0, 1, 2)), float(seed)
    tags = (ShareTag(name, dice.choice(("u", None)), at, at),)
    ends = (
        done(f"{job}.{attempt}.png", f"{dice.choice('xyz')}.png"),
        done(),
        CANCELLED,
        Outcome(State.FAILED),
    )
    calls = (
        lambda: store.accept(a_group(name, jobs=dice.choice((0, 1, 2, 2)), event=dice.choice(("", "", "e")))),
        lambda: store.save_address(name, {"at": at}, prepared=dice.random() < 0.8),
        lambda: store.start(job, attempt=attempt, backend="b", at=at, lease_until=at, tags=tags),
        lambda: store.start(job, attempt=attempt, backend="c", at=at, lease_until=at, tags=tags),
        lambda: store.save_ref(job, attempt=attempt, ref=REF),
        lambda: store.requeue(job, attempt=attempt, tags=tags),
        lambda: store.finish(job, attempt=attempt, outcome=dice.choice(ends), at=at, tags=tags),
        lambda: store.postpone(name, tries=seed % 5, due_at=at % 7),
        lambda: store.delivered(name, at=at) if dice.random() < 0.4 else store.renew([job], lease_until=at),
        lambda: store.forget(name) if dice.random() < 0.7 else store.unfinished(),
    )
    try:
        return await dice.choice(calls)()
    except ValueError:
        return ValueError


async def everything(store: Store) -> list[object]:
    groups = [*await store.history(ADA, limit=1000), *await store.unfinished()]
    pictures = [await store.picture(f"{name}.png") for name in "xyz"]
    return [*groups, *await store.outbox(), *await store.tags(), *pictures]


@pytest.mark.parametrize("seed", range(4))
async def test_both_stores_answer_alike_whatever_is_asked(store: SqliteStore, seed: int) -> None:
    memory = MemoryStore()
    for step in range(seed * 10_000, seed * 10_000 + 400):
        assert await random_write(store, step) == await random_write(memory, step), step
    assert await everything(store) == await everything(memory)
    assert await store.check() == "ok"


# --- durability ---------------------------------------------------------------------------------------------


def run_until_killed(path: Path, run: str, lines: int) -> list[str]:
    """Start a writing process, kill -9 it after so many acknowledgements, and return all that it made."""
    command = [sys.executable, "-m", "tests.fakes.writing_process", str(path), run]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    return [line.decode().strip() for line in said if line.endswith(b"\n")]


def missing(said: list[str], groups: dict[str, StoredGroup]) -> list[str]:
    """The acknowledged steps that the store does not hold."""
    jobs = {job.job_id: job for group in groups.values() for job in group.jobs}
    holds = {
        "accepted": lambda name: name in groups,
        "queued": lambda name: groups[name].prepared and groups[name].address == {"message": name},
        "referred": lambda name: jobs[name].ref is not None and jobs[name].backend == "b",
        "finished": lambda name: [p.name for p in jobs[name].pictures] == [f"{name}.png"],
        "delivered": lambda name: groups[name].delivered_at == 4.0,
    }
    steps = [line.split() for line in said]
    return [f"{step} {name}" for step, name in steps if not holds[step](name)]


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(path: Path) -> None:
    dice = random.Random(20)
    said: list[str] = []
    for run in range(5):
        said += await asyncio.to_thread(run_until_killed, path, f"r{run}", dice.randrange(40, 700))
    store = await open_store(path)
    assert await store.check() == "ok"
    groups = {group.group_id: group for group in await store.history(ADA, limit=100_000)}
    outbox = {row.group_id for row in await store.outbox(limit=100_000)}
    await store.aclose()
    assert len(said) > 5 * 40
    assert missing(said, groups) == []
    for name, group in groups.items():
        ended = all(job.state.ended for job in group.jobs)
        assert len(group.jobs) == jobs_of(int(name.rpartition(".")[2]))
        assert (name in outbox) == (ended and group.delivered_at is None)


async def test_writes_that_wait_together_share_commits(store: SqliteStore) -> None:
    before = store.commits
    await asyncio.gather(*(store.accept(a_group(f"g{n}")) for n in range(200)))
    assert 1 <= store.commits - before <= 20


async def test_a_batch_wakes_the_loop_once(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, wakes = asyncio.get_running_loop(), []
    real = loop.call_soon_threadsafe

    def counting(*arguments: object, **options: object) -> object:
        wakes.append(arguments)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    before = store.commits
    await asyncio.gather(*(store.accept(a_group(f"g{n}")) for n in range(200)))
    assert len(wakes) == store.commits - before


async def test_one_transaction_a_write_where_batches_are_not_wanted(path: Path) -> None:
    store = await open_store(path, max_batch=1)
    await asyncio.gather(*(store.accept(a_group(f"g{n}")) for n in range(20)))
    assert store.commits == 20
    await store.aclose()


async def test_commits_are_synced(store: SqliteStore) -> None:
    connections = [_schema.connect(store.path), _schema.connect(store.path, read_only=True)]
    for connection in connections:
        with closing(connection):
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
            assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


# --- beside others ------------------------------------------------------------------------------------------

ADD_KEY = """
import asyncio, pathlib, sys
from bot.core.ports import ApiKey
from bot.store.sqlite import open_store

async def main():
    store = await open_store(pathlib.Path(sys.argv[1]))
    await store.add_key(ApiKey("k", "made elsewhere", "digest", 1.0))
    await store.aclose()

asyncio.run(main())
"""


async def test_a_key_made_by_another_process_counts_at_once(store: SqliteStore) -> None:
    assert await store.key("digest") is None
    writing = asyncio.ensure_future(keep_writing(store))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ADD_KEY, str(store.path))
    assert await process.wait() == 0
    assert await store.key("digest") == ApiKey("k", "made elsewhere", "digest", 1.0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert await store.check() == "ok"


async def keep_writing(store: SqliteStore) -> None:
    number = 0
    while True:
        number += 1
        await store.accept(a_group(f"g{number}"))


async def test_processes_that_make_the_same_file_at_once_all_succeed(path: Path) -> None:
    stores = await asyncio.gather(*(open_store(path) for _ in range(6)))
    for number, store in enumerate(stores):
        await store.shelf_put("s", str(number), number)
    assert [await stores[0].shelf_get("s", str(number)) for number in range(6)] == list(range(6))
    await asyncio.gather(*(store.aclose() for store in stores))


async def test_reads_do_not_wait_for_the_writer(store: SqliteStore) -> None:
    await store.accept(a_group("g"))
    with closing(_schema.connect(store.path)) as other:
        other.execute("BEGIN IMMEDIATE")  # another process writes, so that our writer waits
        waiting = asyncio.ensure_future(store.accept(a_group("h")))
        assert await asyncio.wait_for(store.group("g"), 4) is not None
        assert await asyncio.wait_for(store.key("d"), 4) is None
        assert not waiting.done()
        other.execute("COMMIT")
        assert await waiting is None


async def test_a_lock_that_is_held_too_long_fails_the_write_and_not_the_store(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_schema, "BUSY_SECONDS", 0.05)
    store = await open_store(path)
    with closing(_schema.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="could not be stored") as caught:
            await store.accept(a_group("g"))
        assert "locked" in caught.value.detail
        other.execute("COMMIT")
    assert await store.accept(a_group("g")) is None
    await store.aclose()


# --- trouble ------------------------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_fails_what_waits_and_the_store_stays_usable(store: SqliteStore) -> None:
    await store.accept(a_group("before"))
    wal = store.path.with_name("fairbrush.db-wal")
    with largest_file(wal.stat().st_size + 8192):
        writes = (store.accept(a_group(f"g{n}")) for n in range(20))
        answers = await asyncio.gather(*writes, return_exceptions=True)
        assert isinstance(answers[-1], Unavailable)
        stored = {group.group_id for group in await store.unfinished()}
    assert stored == {"before", *(f"g{n}" for n in range(20) if answers[n] is None)}
    assert await store.accept(a_group("g19")) is None
    assert await store.check() == "ok"


async def test_text_that_is_no_text_is_refused(store: SqliteStore) -> None:
    lone = a_group("g", who=replace(ADA, name="\ud800"))
    answers = await asyncio.gather(store.accept(lone), store.accept(a_group("h")), return_exceptions=True)
    assert isinstance(answers[0], ValueError)
    assert answers[1] is None


async def test_deleting_a_group_finds_its_rows_by_index(store: SqliteStore) -> None:
    owned = defaultdict(list)
    with closing(sqlite3.connect(store.path)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for _, _, parent, column, *_ in db.execute(f"PRAGMA foreign_key_list({table})").fetchall():
                plan = db.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 1").fetchone()
                owned[parent].append(table)
                assert plan[3].startswith("SEARCH")
    assert owned == {"groups": ["jobs", "outbox"], "jobs": ["pictures"]}


async def test_a_lease_is_kept_with_its_job_while_it_runs(store: SqliteStore) -> None:
    def lease() -> float | None:
        with closing(sqlite3.connect(store.path)) as db:
            (value,) = db.execute("SELECT lease_until FROM jobs WHERE job_id = 'g-0'").fetchone()
            return cast(float | None, value)

    await queue(store, a_group())
    await store.renew(["g-0"], lease_until=7.0)
    assert lease() is None
    await begin(store, "g-0", at=110.0)
    assert lease() == 140.0
    await store.renew(["g-0"], lease_until=170.0)
    assert lease() == 170.0
    await store.requeue("g-0", attempt=0, tags=())
    assert lease() is None
