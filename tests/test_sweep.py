"""Files that a crash left in the pictures folder go at a later start; all others stay."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from bot.core.errors import Unavailable
from bot.core.request import Requester
from bot.core.studio import Submission
from tests.fakes.backend import flat_png
from tests.fakes.house import house
from tests.fakes.memory_store import Data, MemoryStore

START, HOUR = 1_700_000_000.0, 3600.0
ANN = Requester("notebook", "g1", "ann")
LEFT = "L" * 32 + ".png"
DRAFT = f".{'D' * 32}.webp.0123abcd.part"
FOLDER = "F" * 32 + ".png"
OTHERS = ("notes.txt", "x.png", ".hidden", "S" * 32 + ".svg")


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "pictures").iterdir()}


def date(path: Path, when: float) -> None:
    """Let a file be written then."""
    os.utime(path, (when, when))


async def test_old_files_that_no_row_names_go_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Data()
    async with house(tmp_path, store=MemoryStore(data)) as home:
        submission = Submission(ANN, "k", {"page": "k"}, text="a flat colour", init_image=flat_png(64, 64, 9))
        await home.studio.submit(submission)
        await home.notebook.delivered("k")
        named = names(tmp_path)
        assert len(named) == 2
        await home.clock.advance(60.0)  # the database's time is noted
    folder = tmp_path / "pictures"
    for name in (LEFT, DRAFT, *OTHERS):
        (folder / name).write_bytes(b"x")
    (folder / FOLDER).mkdir()
    for path in folder.iterdir():
        date(path, START + 30)
    with caplog.at_level(logging.INFO, logger="bot"):
        async with house(tmp_path, store=MemoryStore(data), now=START + 23 * HOUR) as home:
            await home.until(lambda: data.shelves["core", "in use"] == [START, START + 23 * HOUR])
        assert names(tmp_path) == {*named, LEFT, DRAFT, *OTHERS, FOLDER}  # not a day old yet
        async with house(tmp_path, store=MemoryStore(data), now=START + 25 * HOUR) as home:
            await home.until(lambda: "deleted 2 picture files" in caplog.text)
    assert names(tmp_path) == {*named, *OTHERS, FOLDER}


async def test_pictures_of_another_database_stay(tmp_path: Path) -> None:
    """With an empty one nothing goes, and with an older copy nothing that was made after it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    before, after = "B" * 32 + ".png", "A" * 32 + ".png"
    for name, when in ((before, START - 1.0), (after, START + HOUR)):
        (folder / name).write_bytes(b"x")
        date(folder / name, when)
    data = Data()
    async with house(tmp_path, store=MemoryStore(data)) as home:
        await home.until(lambda: data.shelves.get(("core", "in use")) == [START, START])
    async with house(tmp_path, store=MemoryStore(data), now=START + 100 * HOUR) as home:
        await home.until(lambda: data.shelves["core", "in use"] == [START, START + 100 * HOUR])
    assert names(tmp_path) == {before, after}


async def test_a_store_that_cannot_be_read_keeps_all_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable(MemoryStore):
        async def file_names(self) -> frozenset[str]:
            raise Unavailable("The store could not be read.")

    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / LEFT).write_bytes(b"x")
    date(folder / LEFT, START)
    data = Data(shelves={("core", "in use"): [START, START + 9.0]})
    async with house(tmp_path, store=Unreadable(data), now=START + 100 * HOUR) as home:
        await home.until(lambda: "not looked for" in caplog.text)
    assert names(tmp_path) == {LEFT}
