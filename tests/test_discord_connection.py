"""Being connected to Discord: through every way to lose it, and never by too many sessions."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from adapters.discord import create, invite
from adapters.discord.errors import fault
from adapters.discord.permissions import WHY, needed
from adapters.discord.starts import DAY, Starts
from bot.app import build
from bot.cli import main
from bot.core.errors import ConfigurationError, Unavailable
from bot.core.settings import Secret, Settings
from bot.core.studio import Shelf
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.discord import Discord, pictures
from tests.fakes.discord_house import DiscordHouse, discord_house, discord_settings
from tests.fakes.memory_store import MemoryStore

SYNC = "PUT /applications/*/commands"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """The program in one server."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


async def _works(house: DiscordHouse) -> None:
    """Somebody asks and gets a picture."""
    call = await house.imagine("still there")
    await house.until(lambda: call.original and house.discord.thread(call.original))
    status = await house.status(call)
    await house.until(lambda: pictures(status) and not house.app.studio._desk.groups)


# --- losing the connection --------------------------------------------------------------------------------


async def test_a_refused_first_connection_is_tried_again(tmp_path: Path) -> None:
    async with Discord() as discord:
        discord.gateway.refuse(1)
        async with discord_house(tmp_path, discord=discord) as house:
            await _works(house)
            assert len(discord.gateway.identifies) == 1


async def test_an_event_that_cannot_be_read_is_left_out(
    house: DiscordHouse, caplog: pytest.LogCaptureFixture
) -> None:
    house.discord.gateway.send_nonsense()
    await _works(house)
    assert "an event INTERACTION_CREATE could not be read" in caplog.text
    assert len(house.discord.gateway.identifies) == 1


async def test_a_text_that_is_no_payload_costs_one_session_and_no_more(house: DiscordHouse) -> None:
    for socket in list(house.discord.gateway.sockets):
        socket.send_text("{nonsense")
    await house.until(lambda: len(house.discord.gateway.identifies) == 2)
    await house.discord.ready()
    await _works(house)


async def test_a_dropped_connection_is_resumed_and_what_was_asked_meanwhile_arrives(
    house: DiscordHouse,
) -> None:
    house.discord.gateway.hold()
    call = house.discord.type(house.general, house.ann, "imagine", prompt="a red fox")
    dropping = asyncio.ensure_future(house.discord.gateway.drop())
    house.discord.gateway.release()
    await dropping
    await house.discord.answered(call)
    await _works(house)
    assert len(house.discord.gateway.identifies) == 1
    assert len(house.backend.submitted) == 2


async def test_a_wish_to_reconnect_is_followed(house: DiscordHouse) -> None:
    house.discord.gateway.ask_to_reconnect()
    await house.until(lambda: house.discord.gateway.resumes)
    await _works(house)
    assert len(house.discord.gateway.identifies) == 1


async def test_an_invalid_session_is_begun_anew_after_the_usual_gap(tmp_path: Path) -> None:
    clock = HandClock()
    async with discord_house(tmp_path, clock=clock) as house:
        began = clock.time
        house.discord.gateway.invalidate()
        await house.until_passing(lambda: len(house.discord.gateway.identifies) == 2, step=0.1)
        assert clock.time - began >= 4.9
        call = await house.imagine()
        await house.idle()
        assert pictures(await house.status(call))


async def test_a_login_that_fails_for_now_is_tried_again(tmp_path: Path) -> None:
    async with Discord() as discord:
        discord.on("GET /users/@me").fail(503)
        async with discord_house(tmp_path, discord=discord) as house:
            await _works(house)


async def test_requests_of_before_a_restart_wait_for_the_login(tmp_path: Path) -> None:
    store = MemoryStore()
    async with Discord() as discord:
        async with discord_house(tmp_path, discord=discord, store=store) as house:
            house.backend.hold("start")
            call = await house.imagine()
            await house.status(call)
        gate = discord.on("GET /users/@me").hold(times=1)
        again = MemoryStore(store.data)
        async with discord_house(tmp_path, discord=discord, store=again, connected=False) as house:
            await gate.reached.wait()
            status = await house.status(call)
            edits = len(status.edits)
            await house.until(lambda: house.backend.submitted)
            assert len(status.edits) == edits
            gate.release()
            await house.until(lambda: pictures(status))


# --- what the operator must change ------------------------------------------------------------------------


async def _failure(folder: Path, discord: Discord, settings: Settings | None = None) -> BaseException:
    settings = settings or discord_settings(folder, discord)
    adapter = create(settings)
    assert adapter is not None
    app = build(settings, [adapter], [FakeBackend()], serve=False, store=MemoryStore())
    try:
        await app.start()
        with pytest.raises(ConfigurationError) as error:
            await asyncio.wait_for(app.failed, 10)
        return error.value
    finally:
        await app.aclose()


async def test_a_token_refused_at_the_start_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    async with Discord() as discord:
        settings = discord_settings(tmp_path, discord)
        settings = replace(settings, secrets={"DISCORD_TOKEN": Secret("wrong.token")})
        error = await _failure(tmp_path, discord, settings)
        assert str(error).startswith("DISCORD_TOKEN: Discord refuses this token.")
        assert "\n" not in str(error)
        assert discord.gateway.identifies == []


async def test_a_token_that_cannot_be_one_is_not_sent(tmp_path: Path) -> None:
    async with Discord() as discord:
        settings = discord_settings(tmp_path, discord)
        settings = replace(settings, secrets={"DISCORD_TOKEN": Secret("my token\u2026")})
        await _failure(tmp_path, discord, settings)
        assert discord.traffic == []


async def test_a_missing_scope_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    async with Discord() as discord:
        discord.on(SYNC).refuse(50001, times=None)
        error = await _failure(tmp_path, discord)
        assert "`fairbrush invite`" in str(error)


async def test_refused_intents_are_a_mistake_in_the_settings(tmp_path: Path) -> None:
    async with discord_house(tmp_path) as house:
        await house.discord.gateway.close(4014)
        with pytest.raises(ConfigurationError, match="intents"):
            await asyncio.wait_for(house.app.failed, 10)


async def test_a_token_taken_back_later_stops_discord_alone(
    house: DiscordHouse, caplog: pytest.LogCaptureFixture
) -> None:
    await _works(house)
    await house.discord.revoke()
    async with asyncio.timeout(10):
        while "discord stopped for good" not in caplog.text:
            await asyncio.sleep(0.01)
    assert not house.app.failed.done()
    with pytest.raises(Unavailable):
        await house.adapter.connection.online()


def test_without_a_token_there_is_no_adapter(tmp_path: Path) -> None:
    assert create(Settings(data_dir=tmp_path)) is None


# --- commands ---------------------------------------------------------------------------------------------


async def test_commands_are_registered_again_only_when_they_changed(tmp_path: Path) -> None:
    store = MemoryStore()
    async with Discord() as discord:
        for told in (1, 1):
            async with discord_house(tmp_path, discord=discord, store=store):
                assert len(discord.requests(SYNC)) == told
            store = MemoryStore(store.data)
        await Shelf(store, "discord").put("commands", "others")
        async with discord_house(tmp_path, discord=discord, store=store) as house:
            await house.until(lambda: len(discord.requests(SYNC)) == 2)


async def test_commands_that_cannot_be_registered_now_are_registered_later(tmp_path: Path) -> None:
    clock = HandClock()
    async with Discord(now=clock.clock.now) as discord:
        discord.on(SYNC).fail(503, times=2)
        async with discord_house(tmp_path, discord=discord, clock=clock, connected=False) as house:
            await house.until_passing(lambda: discord.world.commands)
            assert len(discord.requests(SYNC)) == 3


# --- not too many sessions --------------------------------------------------------------------------------


@pytest.mark.parametrize("life", [0.0, 1.0, 30.0, 600.0])
async def test_no_crash_loop_comes_near_the_number_that_discord_allows(life: float) -> None:
    """life: seconds until each session breaks; a new process each time."""
    clock, shelf = HandClock(), Shelf(MemoryStore(), "discord")
    times: list[float] = []
    while clock.time < 1_700_000_000.0 + 3 * DAY:
        starts = Starts(clock.clock)
        await starts.read(shelf)
        clock.time += max(starts.wait(first=True), 0.5)
        await starts.note(shelf)
        times.append(clock.time)
        clock.time += life
    most = max(sum(begin < time <= begin + DAY for time in times) for begin in times)
    assert most <= 620


async def test_a_crash_loop_is_slowed_down_and_results_are_shown_all_the_same(tmp_path: Path) -> None:
    clock, store = HandClock(), MemoryStore()
    async with Discord(now=clock.clock.now) as discord:
        async with discord_house(tmp_path, discord=discord, store=store, clock=clock) as house:
            house.backend.hold("start")
            call = await house.imagine()
            await house.status(call)
        again = MemoryStore(store.data)
        await Shelf(again, "discord").put("starts", [clock.time - number for number in range(400)])
        began, known = clock.time, len(discord.gateway.identifies)
        async with discord_house(
            tmp_path, discord=discord, store=again, clock=clock, connected=False
        ) as house:
            await house.idle()
            assert pictures(await house.status(call))
            assert len(discord.gateway.identifies) == known
            await house.until_passing(lambda: len(discord.gateway.identifies) > known)
            assert clock.time - began >= 170.0


async def test_usual_restarts_wait_for_nothing() -> None:
    clock, starts = HandClock(), Starts(HandClock().clock)
    shelf = Shelf(MemoryStore(), "discord")
    for _ in range(50):
        assert starts.wait(first=True) == 0.0
        await starts.note(shelf)
    assert starts.wait(first=False) == pytest.approx(5.0)
    assert clock.time


# --- leaving ----------------------------------------------------------------------------------------------


async def test_leaving_is_quick_polite_and_whole(tmp_path: Path) -> None:
    async with Discord() as discord, discord_house(tmp_path, discord=discord) as house:
        await _works(house)
        began = asyncio.get_running_loop().time()
        await house.adapter.aclose()
        await house.adapter.aclose()
        assert asyncio.get_running_loop().time() - began < 2.5
        await discord.until(lambda: not discord.gateway.sockets)
        assert discord.gateway.sessions == {}
    beating = [each for each in threading.enumerate() if "keep-alive" in each.name]
    for thread in beating:
        await asyncio.to_thread(thread.join, 5.0)
        assert not thread.is_alive()


# --- the invite -------------------------------------------------------------------------------------------


async def test_the_invite_asks_for_exactly_what_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Discord() as discord:
        settings = discord_settings(tmp_path, discord)
        assert await asyncio.to_thread(invite.main, settings, []) == 0
        first, *rest = capsys.readouterr().out.splitlines()
        asked = parse_qs(urlsplit(first).query)
        assert asked["client_id"] == [str(discord.world.me.id)]
        assert asked["scope"] == ["bot applications.commands"]
        assert asked["permissions"] == [str(needed().value)]
        assert needed().value.bit_count() == len(WHY)
        assert await asyncio.to_thread(invite.main, settings, ["--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["server"] == first
        assert rest


async def test_the_command_line_hands_the_invites_own_options_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Discord() as discord:
        monkeypatch.setenv("DISCORD_TOKEN", discord.token)
        monkeypatch.setenv("FAIRBRUSH_DISCORD_API_URL", discord.api_url)
        assert await asyncio.to_thread(main, ["invite", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["application"] == str(discord.world.me.id)
        monkeypatch.setenv("DISCORD_TOKEN", "wrong")
        assert await asyncio.to_thread(main, ["invite"]) == 78


async def test_an_invite_needs_a_token_that_works(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="DISCORD_TOKEN is not set"):
        await invite.invite(Settings(data_dir=tmp_path))
    async with Discord() as discord:
        settings = discord_settings(tmp_path, discord)
        pasted = replace(settings, secrets={"DISCORD_TOKEN": Secret(f" Bot {discord.token}\n")})
        assert (await invite.invite(pasted)).application == str(discord.world.me.id)
        wrong = replace(settings, secrets={"DISCORD_TOKEN": Secret("wrong")})
        with pytest.raises(ConfigurationError, match="refuses"):
            await invite.invite(wrong)
    with pytest.raises(Unavailable):
        await invite.invite(settings)


async def test_no_secret_is_in_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with discord_house(tmp_path) as house:
            call = await house.imagine()
            await house.idle()
    assert house.discord.token not in caplog.text
    assert call.token not in caplog.text


def test_an_error_that_names_an_address_is_told_without_it() -> None:
    url = URL("https://discord.com/api/v10/webhooks/12/to-ken.secret")
    asked = aiohttp.RequestInfo(url, "POST", CIMultiDictProxy(CIMultiDict()), url)
    error = fault(aiohttp.ClientResponseError(asked, (), status=400, message="Bad status line"))
    assert "400 Bad status line" in error.detail
    assert "to-ken" not in f"{error} {error.detail}"
