"""The SQLite file: how it is opened, its tables, and the steps from one version to the next.

Knows nothing of what is done with the tables. `PRAGMA user_version` counts the steps that a file has had;
a step is never changed once released, a new one is appended.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from bot.core.errors import ConfigurationError

BUSY_SECONDS = 5.0  # how long to wait for another process that writes to the same file
_APPLICATION_ID = 0x46425348  # "FBSH" in the file's header

# A job that has not ended. Verbatim in queries, so that SQLite recognises the partial index.
UNFINISHED = "state IN ('accepted', 'queued', 'running')"

_FIRST = (
    """
    CREATE TABLE groups (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        group_id TEXT NOT NULL UNIQUE,
        event_key TEXT NOT NULL UNIQUE,
        platform TEXT NOT NULL,
        guild TEXT NOT NULL,
        user TEXT NOT NULL,
        roles TEXT NOT NULL,
        name TEXT NOT NULL,
        address TEXT NOT NULL,
        options TEXT NOT NULL,
        created_at REAL NOT NULL,
        prepared INTEGER NOT NULL,
        delivered_at REAL
    )""",
    "CREATE INDEX groups_of_member ON groups (platform, guild, user)",
    """
    CREATE TABLE jobs (
        job INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL UNIQUE,
        sequence INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
        position INTEGER NOT NULL,
        request TEXT NOT NULL,
        cost REAL NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        backend TEXT NOT NULL DEFAULT '',
        ref TEXT,
        lease_until REAL,
        message TEXT NOT NULL DEFAULT '',
        reference TEXT NOT NULL DEFAULT '',
        device_seconds REAL NOT NULL DEFAULT 0,
        money REAL,
        model TEXT NOT NULL DEFAULT '',
        notes TEXT NOT NULL DEFAULT '[]',
        started_at REAL,
        ended_at REAL,
        UNIQUE (sequence, position)
    )""",
    f"CREATE INDEX jobs_unfinished ON jobs (sequence) WHERE {UNFINISHED}",
    """
    CREATE TABLE pictures (
        name TEXT NOT NULL UNIQUE,
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        position INTEGER NOT NULL,
        mime TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        seed INTEGER NOT NULL,
        alt_text TEXT NOT NULL,
        recipe TEXT NOT NULL,
        withheld INTEGER NOT NULL
    )""",
    "CREATE INDEX pictures_of_job ON pictures (job)",
    """
    CREATE TABLE outbox (
        sequence INTEGER PRIMARY KEY REFERENCES groups ON DELETE CASCADE,
        tries INTEGER NOT NULL,
        due_at REAL NOT NULL
    )""",
    "CREATE INDEX outbox_due ON outbox (due_at)",
    # '' stands for None: real guilds and users are never empty.
    """
    CREATE TABLE tags (
        guild TEXT NOT NULL,
        user TEXT NOT NULL,
        vt REAL NOT NULL,
        virtual REAL NOT NULL,
        weight REAL NOT NULL,
        credit REAL NOT NULL,
        PRIMARY KEY (guild, user)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE api_keys (
        key_id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE,
        created_at REAL NOT NULL,
        organization TEXT,
        weight REAL NOT NULL,
        daily_budget REAL,
        revoked_at REAL
    )""",
    """
    CREATE TABLE shelf (
        shelf TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (shelf, key)
    ) WITHOUT ROWID""",
)

_FAILED_FIELD = ("ALTER TABLE jobs ADD COLUMN field TEXT NOT NULL DEFAULT ''",)

_SPOILERS = ("ALTER TABLE pictures ADD COLUMN spoiler INTEGER NOT NULL DEFAULT 0",)

# What was used in the last hour is asked whenever somebody wonders why they wait. It covers that query.
_USAGE = ("CREATE INDEX jobs_ended ON jobs (ended_at, sequence, device_seconds) WHERE ended_at IS NOT NULL",)

# No reference to jobs: what was spent stays known when a group is deleted.
_CHARGES = (
    """
    CREATE TABLE charges (
        at REAL NOT NULL,
        backend TEXT NOT NULL,
        tenant TEXT NOT NULL,
        member TEXT NOT NULL,
        job_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        money REAL NOT NULL,
        PRIMARY KEY (job_id, attempt)
    ) WITHOUT ROWID""",
    "CREATE INDEX charges_by_time ON charges (at, backend, tenant, member, money)",
)

STEPS: Sequence[Sequence[str]] = (_FIRST, _FAILED_FIELD, _SPOILERS, _USAGE, _CHARGES)


def prepare(path: Path, steps: Sequence[Sequence[str]] = STEPS) -> sqlite3.Connection:
    """Create the file where there is none, bring it up to date, and return the connection that writes.

    Raises ConfigurationError where the file cannot be made, is damaged, is newer than this program, belongs
    to another program, or lies on a file system that cannot hold it.
    """
    _create(path)
    try:
        connection = connect(path)
        try:
            _migrate(connection, path, steps)
            _use_wal(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.OperationalError as error:
        raise ConfigurationError(f"The database {path} cannot be opened: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            f"The database {path} is damaged ({error}). Stop the bot, move this file, and those beside it "
            "that end in -wal and -shm, to another folder, and copy your last backup here. Without a backup "
            "the bot starts with an empty one; the pictures on disk are not touched."
        ) from error
    return connection


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to an existing file, with every commit synced; transactions are begun by hand."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA query_only = {int(read_only)}")
    return connection


def _create(path: Path) -> None:
    """Make the folder (0700) and the file (0600), which its -wal and -shm inherit; existing ones stay."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not path.is_file():
            raise ConfigurationError(
                f"The database {path} cannot be made: something else is there."
            ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The database {path} cannot be made: {error.strerror}. Choose another folder with --data-dir."
        ) from error


def _migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Sequence[str]]) -> None:
    """Run the steps that the file lacks, all or none of them."""
    connection.execute("BEGIN")  # one snapshot: another process may just be making the tables
    try:
        if _version(connection, path, len(steps)) == len(steps):
            return
    finally:
        connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again under the lock: another process may have been faster.
        for step in steps[_version(connection, path, len(steps)) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    """How many steps the file has had; refuses files that are not ours or newer than we are."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and owner != _APPLICATION_ID:
        raise ConfigurationError(f"The file {path} is a database of another program. Choose another one.")
    if version > newest:
        raise ConfigurationError(
            f"The database {path} has version {version}, and this program knows versions up to {newest}. "
            "Install the newer program again, or put back the backup made before it."
        )
    return version


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Readers must not wait for the writer. The mode stays in the file, so this writes only once."""
    if _switched(connection) != "wal":
        raise ConfigurationError(
            f"The database {path} lies on a file system without shared memory (a network drive?). "
            "Choose a folder on a local disk with --data-dir."
        )


def _switched(connection: sqlite3.Connection) -> str:
    """The journal's mode, WAL where that is possible. SQLite itself does not wait for a process that is just
    switching it too."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)
