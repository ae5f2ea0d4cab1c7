"""Answers that got lost, and stops at every point: nothing twice, nothing lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.discord import Discord, labels, pictures, text
from tests.fakes.discord_house import BY_TOKEN, CREATE, EDIT, DiscordHouse, discord_house
from tests.fakes.memory_store import MemoryStore


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """The program in one server."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


# --- the first answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lost", "cut"])
async def test_an_answer_that_discord_took_and_did_not_confirm_is_found(
    house: DiscordHouse, how: str
) -> None:
    on = house.discord.on("POST /interactions/*/*/callback")
    on.lose() if how == "lost" else on.cut()
    call = await house.imagine()
    await house.until(lambda: house.discord.thread(house.receipt(call)), "a thread")
    await house.idle()
    assert len(pictures(await house.status(call))) == 1
    assert len(house.discord.messages(house.general)) == 1


async def test_a_request_that_could_not_be_answered_is_dropped(house: DiscordHouse) -> None:
    house.discord.on("POST /interactions/*/*/callback").refuse(10062, times=None)
    call = house.discord.type(house.general, house.ann, "imagine", prompt="a red fox")
    await house.until(lambda: house.discord.requests("GET /webhooks/*/*/messages/@original"))
    await house.idle()
    assert call.original is None
    assert house.backend.submitted == []
    assert house.discord.messages(house.general) == []


# --- restarts ---------------------------------------------------------------------------------------------


async def test_a_request_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    store, backend = MemoryStore(), FakeBackend()
    hold = backend.hold("start")
    async with Discord() as discord:
        async with discord_house(tmp_path, discord=discord, store=store) as house:
            house.backend.hold("start")
            call = await house.imagine()
            await house.status(call)
        again = MemoryStore(store.data)
        async with discord_house(tmp_path, discord=discord, store=again, backends=[backend]) as house:
            status = await house.status(call)
            await house.until(lambda: text(status).startswith("⏳ Restarted, your place was kept"))
            assert labels(status) == ["Why?", "Cancel"]
            hold.release()
            await house.idle()
            assert len(pictures(status)) == 1
            assert len(house.discord.messages(house.general)) == 1


HELD = {
    "thread": ("POST /channels/*/messages/*/threads", False),
    "thread made": ("POST /channels/*/messages/*/threads", True),
    "status": (CREATE, False),
    "status made": (CREATE, True),
}


@pytest.mark.parametrize("stage", list(HELD))
async def test_a_stop_while_it_is_prepared_leaves_one_thread_and_one_status(
    tmp_path: Path, stage: str
) -> None:
    store = MemoryStore()
    async with Discord() as discord:
        route, applied = HELD[stage]
        async with discord_house(tmp_path, discord=discord, store=store) as house:
            gate = discord.on(route).hold(times=1, applied=applied)
            call = await house.imagine()
            await gate.reached.wait()
        gate.release()
        async with discord_house(tmp_path, discord=discord, store=MemoryStore(store.data)) as house:
            await house.idle()
            (status,) = house.shown(call)
            assert len(pictures(status)) == 1
            assert len(discord.messages(house.general)) == 1


async def test_a_stop_between_the_answer_and_its_storing_is_made_good(tmp_path: Path) -> None:
    store = MemoryStore()
    async with Discord() as discord:
        async with discord_house(tmp_path, discord=discord, store=store) as house:
            gate = discord.on("POST /interactions/*/*/callback").hold(times=1, applied=True)
            call = house.discord.type(house.general, house.ann, "imagine", prompt="a red fox")
            await gate.reached.wait()
        gate.release()
        async with discord_house(tmp_path, discord=discord, store=MemoryStore(store.data)) as house:
            await house.idle()
            assert len(pictures(await house.status(call))) == 1
            assert len(discord.messages(house.general)) == 1


@pytest.mark.parametrize("when", ["first edit", "receipt"])
async def test_a_stop_while_it_is_delivered_shows_it_once(tmp_path: Path, when: str) -> None:
    store = MemoryStore()
    async with Discord() as discord:
        async with discord_house(tmp_path, discord=discord, store=store) as house:
            call = await house.imagine("a {red, green} fox --count 8")
            await house.status(call)
            delivering = discord.on(CREATE).hold(applied=True)
            await delivering.reached.wait()
            gate = discord.on(EDIT if when == "first edit" else BY_TOKEN).hold(applied=True)
            delivering.release()
            await gate.reached.wait()
        gate.release()
        async with discord_house(tmp_path, discord=discord, store=MemoryStore(store.data)) as house:
            await house.until(lambda: text(house.receipt(call)).startswith("✅"))
            shown = house.shown(call)
            assert [len(pictures(each)) for each in shown] == [10, 6]
            assert house.backend.submitted == []


async def test_a_word_that_it_is_ready_is_not_said_again_after_a_stop(tmp_path: Path) -> None:
    store, clock = MemoryStore(), HandClock()
    async with Discord(now=clock.clock.now) as discord:
        async with discord_house(
            tmp_path, discord=discord, store=store, clock=clock, job_timeout=999.0
        ) as house:
            hold = house.backend.hold("start")
            await house.imagine()
            await house.until_passing(hold.reached.is_set)
            clock.time += 90.0
            gate = discord.on(CREATE).hold(times=1, applied=True)
            hold.release()
            await house.until_passing(gate.reached.is_set)
        gate.release()
        async with discord_house(
            tmp_path, discord=discord, store=MemoryStore(store.data), clock=clock
        ) as house:
            await house.until_passing(lambda: not store.data.outbox)
            assert len(discord.pinged(house.ann)) == 1
