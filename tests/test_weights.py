"""Weights of tenants: set by an operator in the program or beside it, and there again after a restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bot.app import open_store
from bot.cli import main
from bot.core.errors import Forbidden, InvalidRequest
from bot.core.ports import ApiKey
from bot.core.request import Limits, Requester
from bot.core.settings import Settings
from tests.fakes.backend import FakeBackend
from tests.fakes.house import house
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.notebook import Notebook

OWNER = Requester("notebook", "g1", "owner")
ANN = Requester("notebook", "g1", "ann")


def held() -> FakeBackend:
    """A backend that finishes nothing."""
    backend = FakeBackend()
    backend.hold("start")
    return backend


async def command(*arguments: str) -> str:
    """What `fairbrush weight` prints, in a process of its own."""
    argv = [sys.executable, "-m", "bot", "weight", *arguments]
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return out.decode()


async def test_an_operator_gives_a_server_a_larger_share(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    limits, operators = Limits(waiting_per_user=20), frozenset({OWNER.member})
    async with house(tmp_path, backends=[backend], limits=limits, operators=operators) as home:
        studio = home.studio
        with pytest.raises(Forbidden, match="FAIRBRUSH_OPERATORS"):
            await studio.set_weight(ANN, "notebook:g1", 3.0)
        await studio.set_weight(OWNER, "notebook:g1", 3.0)
        assert (studio.weight("notebook:g1"), studio.weight("notebook:g2")) == (3.0, 1.0)
        await home.ask("in the way x", guild="g3")
        await home.until(hold.reached.is_set)
        for _ in range(12):
            await home.ask("a colour a", guild="g1")
            await home.ask("a colour b", guild="g2", user="bob")
        hold.release()
        await home.until(home.idle)
        first = Counter(request.prompt[-1] for _, request in backend.submitted[:13])
        assert first == {"x": 1, "a": 9, "b": 3}


@pytest.mark.parametrize("weight", [0.0, 0.09, 100.1, -1.0, float("nan"), float("inf")])
async def test_a_weight_out_of_range_is_refused(tmp_path: Path, weight: float) -> None:
    async with house(tmp_path, operators=frozenset({OWNER.member})) as home:
        with pytest.raises(InvalidRequest, match=r"from 0\.1 to 100") as caught:
            await home.studio.set_weight(OWNER, "notebook:g1", weight)
        assert caught.value.field == "weight"
        with pytest.raises(InvalidRequest, match="TENANT"):
            await home.studio.set_weight(OWNER, "no tenant", 2.0)


async def test_a_weight_is_there_again_after_a_restart_and_goes_with_its_row(tmp_path: Path) -> None:
    data, operators = Data(), frozenset({OWNER.member})
    async with house(tmp_path, store=MemoryStore(data), backends=[held()], operators=operators) as home:
        await home.studio.set_weight(OWNER, "notebook:g1", 3.0)
        await home.ask("a flat colour")
        await home.ask("a flat colour")
        await home.until(lambda: home.queue.running() == 1)
        await home.until(lambda: any(tag.weight == 3.0 for tag in data.tags.values()))
    async with house(tmp_path, store=MemoryStore(data), backends=[held()], operators=operators) as home:
        assert home.studio.weight("notebook:g1") == 3.0
        assert home.queue._root.guild("notebook:g1").weight == 3.0
    data.shelves.clear()
    async with house(tmp_path, store=MemoryStore(data), backends=[held()], operators=operators) as home:
        assert home.studio.weight("notebook:g1") == 1.0
        assert home.queue._root.guild("notebook:g1").weight == 1.0


async def test_the_weight_of_everybody_takes_no_row(tmp_path: Path) -> None:
    async with house(tmp_path, operators=frozenset({OWNER.member})) as home:
        await home.studio.set_weight(OWNER, "notebook:g1", 3.0)
        assert await home.store.shelf_items("weights") == {"notebook:g1": 3.0}
        await home.studio.set_weight(OWNER, "notebook:g1", 1.0)
        assert await home.store.shelf_items("weights") == {}
        assert home.studio.weight("notebook:g1") == 1.0


async def test_a_weight_set_beside_the_running_program_counts_within_five_seconds(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path))
    store = await open_store(Settings(tmp_path))
    async with house(tmp_path, store=store, notebook=Notebook("web")) as home:
        await home.ask("a flat colour")
        assert await command("web:g1", "2.5", *data) == "2.5\n"
        await home.clock.advance(5.0)
        await home.until(lambda: home.studio.weight("web:g1") == 2.5)
        assert home.queue._root.guild("web:g1").weight == 2.5
        assert await command("web:g1", *data) == "2.5\n"
        assert await command("web:g1", "1", *data) == "1\n"
        await home.clock.advance(5.0)
        await home.until(lambda: home.studio.weight("web:g1") == 1.0)
        assert home.queue._root.guild("web:g1").weight == 1.0


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRBRUSH_DATA_DIR", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["dicsord:1", "2"], "Did you mean discord?"),
        (["discord", "2"], "TENANT must be"),
        (["discord:", "2"], "TENANT must be"),
        (["discord:my server", "2"], "TENANT must be"),
        (["discord:1", "two"], "W must be a number"),
        (["discord:1", "0"], "from 0.1 to 100, not 0"),
        (["discord:1", "-5"], "from 0.1 to 100, not -5"),
        (["discord:1", "nan"], "from 0.1 to 100, not nan"),
        (["key:abc"], "There is: none yet"),
    ],
)
def test_a_wrong_weight_is_one_clear_line_and_exit_code_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weight", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert told in err


def test_a_weight_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weight", "slack:T024BE7LD"]) == 0
    assert main(["weight", "slack:T024BE7LD", "0.5"]) == 0
    assert main(["weight", "slack:T024BE7LD"]) == 0
    out, err = capsys.readouterr()
    assert out == "1\n0.5\n0.5\n"
    assert "within 5 seconds" in err


async def test_a_known_key_has_a_weight_too(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    store = await open_store(Settings(tmp_path / "data"))
    await store.add_key(ApiKey("abc", "our shop", "d1", 1.0))
    await store.aclose()
    assert await command("key:abc", "4", *data) == "4\n"
