"""What is not queued, said in private; and answers that take long."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.core.guilds import Rules
from bot.core.request import Limits, Requester
from tests.fakes.discord import labels, pictures, text
from tests.fakes.discord_house import DiscordHouse, discord_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """The program in one server."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


# --- refusals ---------------------------------------------------------------------------------------------


async def test_a_refusal_is_private_and_gives_the_prompt_back(house: DiscordHouse) -> None:
    prompt = "a red fox --stpes 20 `and code`` --ar 16:9"
    call = await house.imagine(prompt)
    (told,) = house.discord.private(house.ann)
    assert told is call.original
    assert text(told).startswith("Not queued: ")
    assert "steps" in text(told)
    assert text(told).endswith(f"\n```{prompt}```")
    assert labels(told) == ["Edit"]
    assert house.everything() == []
    assert house.backend.submitted == []


@pytest.mark.parametrize("ticks", ["```", "`````"])
async def test_no_markdown_comes_alive_behind_backticks(house: DiscordHouse, ticks: str) -> None:
    await house.imagine(f"{ticks} [click](https://evil.example) **bold** {ticks} --stpes 3")
    (told,) = house.discord.private(house.ann)
    given = text(told).split("\n")[1].replace("\\`", "").replace("\\[", "").replace("\\*", "")
    assert not set("`[*") & set(given)


async def test_a_prompt_too_long_for_a_message_comes_back_as_a_file(house: DiscordHouse) -> None:
    prompt = ("fox " * 990).strip()
    await house.imagine(prompt)
    (told,) = house.discord.private(house.ann)
    (file,) = told.attachments
    assert file.filename == "prompt.txt"
    assert file.data.decode() == prompt


async def test_a_full_line_is_refused_with_the_number_of_places(tmp_path: Path) -> None:
    async with discord_house(tmp_path, limits=Limits(waiting_per_user=1)) as house:
        hold = house.backend.hold("start")
        await house.imagine("one")
        await hold.reached.wait()
        status = await house.status(await house.imagine("two"))
        await house.until(lambda: "<t:" in text(status))
        await house.imagine("three")
        (told,) = house.discord.private(house.ann)
        assert text(told).startswith("Not queued: 1 of your 1 places is taken.")
        assert re.search(r"\nNext free <t:\d+:R>\.\n`three`$", text(told))


async def test_forbidden_channels_and_roles_are_named(house: DiscordHouse) -> None:
    by = Requester("discord", str(house.guild.id), str(house.ann.id))
    elsewhere = house.discord.channel(house.guild, "art")
    await house.studio.set_rules(by, Rules(allowed_channels=(str(elsewhere.id),)), admin=True)
    await house.imagine()
    (told,) = house.discord.private(house.ann)
    assert text(told).startswith("Not queued: ")


# --- a slow core ------------------------------------------------------------------------------------------


async def _slowly(house: DiscordHouse, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The core waits for the event before it looks at a request."""
    go = asyncio.Event()
    plain = house.studio.rules

    async def rules(tenant: str, channel: str = "") -> Rules:
        await go.wait()
        return await plain(tenant, channel)

    monkeypatch.setattr(house.studio, "rules", rules)
    monkeypatch.setattr("adapters.discord.flow.PATIENCE", 0.02)
    return go


async def test_an_answer_that_takes_long_is_deferred_and_becomes_the_receipt(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = await _slowly(house, monkeypatch)
    call = await house.imagine()
    assert call.answer == 5
    assert house.receipt(call).loading
    go.set()
    await house.until(lambda: text(house.receipt(call)).startswith("✅ **a red fox**"))
    assert len(pictures(await house.status(call))) == 1


async def test_a_refusal_after_a_deferred_answer_is_still_private(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = await _slowly(house, monkeypatch)
    await house.imagine("a red fox --stpes 20")
    go.set()
    await house.until(lambda: house.discord.private(house.ann))
    (told,) = house.discord.private(house.ann)
    assert text(told).startswith("Not queued: ")
    assert house.discord.messages(house.general) == []


# --- an answer on a connection that breaks ----------------------------------------------------------------

ANSWER = "POST /interactions/*/*/callback"


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_broken_connection_costs_no_request(house: DiscordHouse, arrived: bool) -> None:
    house.discord.on(ANSWER).cut(applied=arrived)
    call = await house.imagine()
    await house.idle()
    assert text(house.receipt(call)).startswith("✅ **a red fox**")
    assert len(house.discord.messages(house.general)) == 1


async def test_a_busy_proxy_costs_no_request(house: DiscordHouse) -> None:
    house.discord.on(ANSWER).limit(via=False)
    call = await house.imagine()
    await house.idle()
    assert text(house.receipt(call)).startswith("✅ **a red fox**")


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_broken_connection_costs_no_refusal(house: DiscordHouse, arrived: bool) -> None:
    house.discord.on(ANSWER).cut(applied=arrived)
    prompt = ("fox " * 990).strip()
    await house.imagine(prompt)
    (told,) = house.discord.private(house.ann)
    assert [file.data.decode() for file in told.attachments] == [prompt]


async def test_a_refusal_is_told_also_where_the_deferred_answer_stays(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = await _slowly(house, monkeypatch)
    house.discord.on("DELETE /webhooks/*/*/messages/@original").refuse(10008)
    call = await house.imagine("a red fox --stpes 3")
    assert call.answer == 5
    go.set()
    await house.until(lambda: text(house.receipt(call)).startswith("Not queued: "))
