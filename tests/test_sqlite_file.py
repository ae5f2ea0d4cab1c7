from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from bot.core.errors import ConfigurationError
from bot.core.ports import ApiKey
from bot.store import _schema
from bot.store.sqlite import SqliteStore, open_store
from tests.fakes.groups import ADA, CANCELLED, REF, TAGS, a_group, begin, done, end, queue, the
from tests.store_charges_contract import a_charge


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "fairbrush.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_store(path)
    yield store
    await store.aclose()


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", [b"not a database, but long enough to be one" * 200, b"SQLite format 3\0" * 600]
)
def test_a_damaged_file_is_named_with_the_way_out(path: Path, damage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)
    with pytest.raises(ConfigurationError, match="damaged") as caught:
        _schema.prepare(path)
    assert str(path) in caught.value.message
    assert "backup" in caught.value.message
    assert path.read_bytes() == damage


async def test_damage_inside_the_file_is_found_by_check(path: Path) -> None:
    store = await open_store(path)
    await asyncio.gather(*(store.accept(a_group(f"g{n}")) for n in range(300)))
    await store.aclose()
    with path.open("r+b") as file:
        for page in range(40, 60):
            file.seek(page * 4096)
            file.write(os.urandom(512))
    store = await open_store(path)
    assert await store.check() != "ok"
    await store.aclose()


async def test_rows_without_an_owner_are_found_by_check(store: SqliteStore) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("INSERT INTO outbox VALUES (77, 0, 0)")
    assert await store.check() == "row 77 of outbox belongs to a row of groups that is not there"


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"file/data.*--data-dir"):
        await open_store(tmp_path / "file" / "data" / "x.db")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(ConfigurationError, match="something else"):
        await open_store(tmp_path / "folder.db")


async def test_what_is_made_belongs_to_the_owner_alone(store: SqliteStore) -> None:
    await store.accept(a_group())
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    files = {file.name: file.stat().st_mode & 0o777 for file in store.path.parent.iterdir()}
    assert files == {f"fairbrush.db{end}": 0o600 for end in ("", "-wal", "-shm")}


# --- versions -----------------------------------------------------------------------------------------------

NEXT = ("ALTER TABLE groups ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'", "CREATE TABLE more (x)")


async def test_an_older_database_is_brought_up_to_date_with_its_data(path: Path) -> None:
    store = await open_store(path)
    await store.accept(a_group())
    await store.aclose()
    with closing(_schema.prepare(path, (*_schema.STEPS, NEXT))) as connection:
        assert connection.execute("SELECT group_id, colour FROM groups").fetchall() == [("g", "red")]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(_schema.STEPS) + 1,)
    with closing(_schema.prepare(path, (*_schema.STEPS, NEXT))):
        pass  # a second time there is nothing to do


async def test_a_step_that_fails_leaves_the_database_as_it_was(path: Path) -> None:
    store = await open_store(path)
    await store.accept(a_group())
    await store.aclose()
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        _schema.prepare(path, (*_schema.STEPS, (*NEXT, "CREATE TABLE jobs (x)")))
    store = await open_store(path)
    assert (await the(store)).group_id == "g"
    await store.aclose()


async def test_a_newer_database_is_refused_with_both_versions(path: Path) -> None:
    _schema.prepare(path, (*_schema.STEPS, NEXT)).close()
    newest = len(_schema.STEPS)
    with pytest.raises(ConfigurationError, match=f"version {newest + 1}.*up to {newest}"):
        await open_store(path)


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="another program"):
        _schema.prepare(path)
    assert path.read_bytes() == before


# --- a million finished jobs --------------------------------------------------------------------------------

# Small tables that are read whole on purpose, and indexes that hold unfinished work alone.
SCANS = {
    "SCAN tags",
    "SCAN api_keys",
    "SCAN outbox USING INDEX outbox_due",
    "SCAN jobs USING INDEX jobs_unfinished",
}


async def every_operation(store: SqliteStore) -> None:
    await queue(store, a_group(jobs=2))
    await store.accept(a_group())
    await store.start("g-0", attempt=0, backend="b", at=1.0, lease_until=2.0, tags=TAGS)
    await store.save_ref("g-0", attempt=0, ref=REF)
    await store.renew(["g-0"], lease_until=3.0)
    await store.requeue("g-0", attempt=0, tags=TAGS, charge=a_charge("g-0"))
    await begin(store, "g-0", 1)
    await end(store, "g-0", done("a.png"), 1)
    await end(store, "g-1", CANCELLED)
    await store.add_key(ApiKey("k", "n", "d", 1.0))
    await asyncio.gather(
        store.unfinished(), store.outbox(), store.postpone("g", tries=1, due_at=5.0), store.group("g"),
        store.picture("a.png"), store.history(ADA), store.history(ADA, before=7), store.tags(), store.keys(),
        store.key("d"), store.shelf_put("a", "b", 1), store.shelf_put_once("a", "b", 1),
        store.shelf_get("a", "b"), store.shelf_put("a", "b", None), store.shelf_items("a"), store.usage(1.0),
        store.charges(1.0), store.forget_charges(1.0),
    )  # fmt: skip
    await store.delivered("g", at=1.0)
    await store.forget("g")


async def test_no_query_reads_through_finished_jobs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries: dict[str, None] = {}
    connect = sqlite3.connect

    def tracing(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(queries.setdefault)
        return connection

    monkeypatch.setattr(sqlite3, "connect", tracing)
    store = await open_store(path)
    queries.clear()
    await every_operation(store)
    await store.aclose()
    asked = [query for query in queries if query.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))]
    assert len(asked) > 30
    with closing(connect(path)) as db:
        plans = [(query, row[3]) for query in asked for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
    scans = {line: query for query, line in plans if line.startswith("SCAN")}
    assert {line: query for line, query in scans.items() if line not in SCANS} == {}
    assert set(scans) == SCANS
    assert any("COVERING INDEX jobs_ended (ended_at>?)" in line for _, line in plans)
    assert any("COVERING INDEX charges_by_time (at>?)" in line for _, line in plans)
    assert any(
        "groups_of_member (platform=? AND guild=? AND user=? AND rowid<?)" in line for _, line in plans
    )
