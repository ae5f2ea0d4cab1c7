"""Texts name a guild as its platform calls it, and nothing of one platform's words is read on another."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from bot.core import messages
from bot.core.errors import FairbrushError, Forbidden, InvalidRequest, QueueFull, Unavailable
from bot.core.guilds import Rules
from bot.core.request import Limits, Nouns, Requester
from bot.core.rulebook import checked, problems
from bot.core.studio import Submission
from tests.fakes.backend import FakeBackend
from tests.fakes.house import House, house
from tests.fakes.memory_store import MemoryStore

SERVER = Requester("notebook", "g1", "ann")
WORKSPACE = replace(SERVER, nouns=Nouns("person", "workspace"))
_KEYS = itertools.count()


async def refused(home: House, by: Requester, text: str = "a flat colour") -> FairbrushError:
    """Why a request is not taken."""
    key = f"n{next(_KEYS)}"
    with pytest.raises(FairbrushError) as caught:
        await home.studio.submit(Submission(by, key, {"page": key}, text=text))
    return caught.value


async def told(home: House, text: str = "a flat colour") -> list[FairbrushError]:
    """The same refusal in the words of each platform."""
    return [await refused(home, SERVER, text), await refused(home, WORKSPACE, text)]


def differ_in_the_noun_alone(first: FairbrushError, second: FairbrushError) -> bool:
    return "server" in first.message and first.message.replace("server", "workspace") == second.message


async def test_a_full_line_is_told_in_the_platforms_words(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend], limits=Limits(waiting_per_guild=2)) as home:
        hold = backend.hold("start")
        await home.studio.set_rules(SERVER, Rules(waiting_per_user=1), admin=True)
        for number in range(2):
            key = f"n{next(_KEYS)}"
            by = replace(SERVER, user=f"user {number}")
            await home.studio.submit(Submission(by, key, {"page": key}, text="a flat colour"))
        await home.until(lambda: home.desk.waiting(SERVER.tenant) == 1)
        key = f"n{next(_KEYS)}"
        await home.studio.submit(Submission(SERVER, key, {"page": key}, text="a flat colour"))
        own = await told(home)
        assert all(isinstance(each, QueueFull) for each in own)
        assert differ_in_the_noun_alone(*own)
        assert "(this workspace's limit)" in own[1].message
        others = [
            await refused(home, replace(SERVER, user="bob")),
            await refused(home, replace(WORKSPACE, user="bob")),
        ]
        assert differ_in_the_noun_alone(*others)
        assert "this workspace's 2 places" in others[1].message
        hold.release()
        await home.until(home.idle)


async def test_a_tighter_limit_is_told_in_the_platforms_words(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.studio.set_rules(SERVER, Rules(max_steps=9), admin=True)
        typed = await told(home, "a flat colour --steps 10")
        assert all(isinstance(each, InvalidRequest) for each in typed)
        assert differ_in_the_noun_alone(*typed)
        assert differ_in_the_noun_alone(*await told(home, "a flat colour --steps many"))


async def test_settings_are_refused_in_the_platforms_words(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        found: list[FairbrushError] = []
        for by in (SERVER, WORKSPACE):
            with pytest.raises(Forbidden) as caught:
                await home.studio.set_rules(by, Rules(steps=9), admin=False)
            found.append(caught.value)
            with pytest.raises(InvalidRequest) as wrong:
                await home.studio.set_rules(by, Rules(allowed_channels=("c",)), channel="c", admin=True)
            found.append(wrong.value)
        assert differ_in_the_noun_alone(found[0], found[2])
        assert differ_in_the_noun_alone(found[1], found[3])


async def test_damaged_settings_are_told_in_the_platforms_words(tmp_path: Path) -> None:
    store = MemoryStore()
    await store.shelf_put("guilds", SERVER.tenant, {"guild": {"steps": "nine"}, "channels": {}})
    async with house(tmp_path, store=store) as home:
        both = await told(home)
        assert all(isinstance(each, Unavailable) for each in both)
        assert differ_in_the_noun_alone(*both)


def test_a_result_that_is_kept_back_is_told_in_the_platforms_words() -> None:
    assert messages.withheld("", guild="workspace") == messages.withheld("").replace("server", "workspace")


def test_the_nouns_are_no_part_of_who_somebody_is() -> None:
    assert SERVER == WORKSPACE


def test_every_wrong_setting_is_found_at_once_each_by_its_field() -> None:
    wrong = Rules(steps=999, count=0, size=(100, 64), style="nope", max_steps=-1, guidance_scale=7.0)
    limits = Limits()
    found = problems(wrong, None, limits=limits, models=(), styles={})
    assert set(found) == {"steps", "count", "size", "style", "max_steps"}
    assert "from 1 to 150" in found["steps"]
    fixed = replace(wrong, steps=None, count=None, size=None, style=None, max_steps=None)
    assert problems(fixed, None, limits=limits, models=(), styles={}) == {}
    assert checked(fixed, None, limits=limits, models=(), styles={}).guidance_scale == 7.0
