"""The secret key: made once, kept for its owner alone, and never too short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.core.errors import ConfigurationError
from bot.core.settings import Secret, Settings
from bot.secretkey import NAME, with_secret_key
from tests.fakes.house import house

PRINT = """
import sys
from pathlib import Path
from bot.core.settings import Settings
from bot.secretkey import NAME, with_secret_key
print("ready", flush=True)
sys.stdin.readline()
print(with_secret_key(Settings(Path(sys.argv[1]))).secret(NAME).reveal())
"""


def key(folder: Path) -> str:
    return with_secret_key(Settings(folder)).secret(NAME).reveal()


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = key(folder)
    assert len(first) >= 43
    assert key(folder) == first
    assert key(tmp_path / "other") != first
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_key_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    first = key(tmp_path)
    (tmp_path / "secret-key").chmod(0o644)
    assert key(tmp_path) == first
    assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600


def test_processes_that_start_together_have_one_key(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen([sys.executable, "-c", PRINT, str(tmp_path)], stdin=pipe, stdout=pipe, text=True)
        for _ in range(4)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        keys = {racer.communicate(timeout=30)[0].strip() for racer in racers}
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert keys == {(tmp_path / "secret-key").read_text().strip()}
    assert [file.name for file in tmp_path.iterdir()] == ["secret-key"]


@pytest.mark.parametrize("links", [True, False])
def test_the_slower_of_two_takes_the_faster_ones_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Also on a file system without hard links."""

    def faster(draft: Path, path: Path) -> None:
        path.write_text("f" * 43)
        raise FileExistsError if links else PermissionError

    monkeypatch.setattr(os, "link", faster)
    assert key(tmp_path) == "f" * 43


def test_a_file_system_without_hard_links_keeps_a_key_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(draft: Path, path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", none)
    first = key(tmp_path)
    assert key(tmp_path) == first
    assert [file.name for file in tmp_path.iterdir()] == ["secret-key"]


def test_a_given_key_is_taken_and_none_is_made(tmp_path: Path) -> None:
    given = Settings(tmp_path, secrets={NAME: Secret("g" * 32), "DISCORD_TOKEN": Secret("t")})
    assert with_secret_key(given) == given
    assert list(tmp_path.iterdir()) == []


def test_a_given_key_that_is_too_short_is_refused_without_showing_it(tmp_path: Path) -> None:
    given = Settings(tmp_path, secrets={NAME: Secret("hunter2" * 4)})
    with pytest.raises(ConfigurationError, match=r"FAIRBRUSH_SECRET_KEY has 28 .* at least 32") as caught:
        with_secret_key(given)
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("content", ["", "short\n", "\0" * 8])
def test_a_damaged_key_is_never_replaced_silently(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret-key").write_text(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        key(tmp_path)
    assert (tmp_path / "secret-key").read_text() == content


def test_a_folder_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"file/secret-key.*--data-dir"):
        key(tmp_path / "file")


def test_a_draft_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        key(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_running_program_always_has_a_key(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        made = home.studio.settings.secret(NAME).reveal()
        assert made == (tmp_path / "secret-key").read_text().strip()
    async with house(tmp_path) as home:
        assert home.studio.settings.secret(NAME).reveal() == made
