"""A request in Discord, as its members see it: heard, in line, made, shown."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from bot.core.errors import InvalidRequest
from bot.core.ports import StoredGroup
from bot.core.request import Requester
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.discord import Interaction, labels, pictures, text
from tests.fakes.discord_house import DiscordHouse, discord_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """The program in one server."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


async def _stored(house: DiscordHouse, call: Interaction) -> StoredGroup:
    found = await house.store.history(Requester("discord", str(house.guild.id), str(call.user.id)))
    return next(group for group in found if group.event_key == f"discord:{call.id}")


# --- the usual way ----------------------------------------------------------------------------------------


async def test_a_request_is_heard_shown_in_line_while_it_is_made_and_then_shown(house: DiscordHouse) -> None:
    made, done = house.backend.hold("picture"), house.backend.hold("done")
    call = await house.imagine("a red fox in snow --ar 16:9 --steps 6")
    receipt = house.receipt(call)
    assert text(receipt) == f"🖌️ **a red fox in snow** · {house.ann.mention}\n-# 16:9 · 6 steps"
    assert not receipt.ephemeral
    await made.reached.wait()
    thread = await house.discord.until(lambda: house.discord.thread(receipt))
    assert (thread.name, thread.auto_archive) == ("a red fox in snow", 60)
    status = await house.status(call)
    await house.until(lambda: text(status).startswith("⏳"))
    assert labels(status) == ["Why?", "Cancel"]
    made.release()
    await done.reached.wait()
    await house.until(lambda: "6/6" in text(status))
    assert text(status).startswith("🎨 ▰▰▰▰▰▰▰▰▰▰ 6/6")
    assert labels(status) == ["Cancel"]
    assert [each.description for each in pictures(status)] == ["Preview"]
    done.release()
    await house.idle()
    (picture,) = pictures(status)
    assert text(status).startswith("✅ **a red fox in snow**\n-# seed ")
    assert text(status).endswith(" · fake · 0 s · fake")
    assert picture.description == "Generated picture: a red fox in snow"
    assert Image.open(io.BytesIO(picture.data)).format == "PNG"
    assert labels(status) == ["Again", "Vary", "Upscale", "Remix", "🗑️"]
    assert house.discord.messages(thread) == [status]


async def test_the_receipt_ends_with_a_link_and_one_small_sheet(house: DiscordHouse) -> None:
    call = await house.imagine("a red fox --size 1024x512 --count 3")
    await house.idle()
    receipt = house.receipt(call)
    thread = house.discord.thread(receipt)
    assert thread is not None
    address = f"https://discord.com/channels/{house.guild.id}/{thread.id}"
    assert text(receipt) == f"✅ **a red fox** · {house.ann.mention} · [open]({address})"
    (sheet,) = pictures(receipt)
    assert max(Image.open(io.BytesIO(sheet.data)).size) <= 512
    assert len(receipt.edits) == 1


async def test_several_pictures_have_buttons_of_their_own(house: DiscordHouse) -> None:
    call = await house.imagine("a red fox --count 4")
    await house.idle()
    status = await house.status(call)
    assert len(pictures(status)) == 4
    assert labels(status) == ["U1", "U2", "U3", "U4", "V1", "V2", "V3", "V4", "Again", "Remix", "🗑️"]


async def test_who_waits_reads_a_place_a_time_and_why(house: DiscordHouse) -> None:
    hold = house.backend.hold("start")
    await house.imagine("one")
    await hold.reached.wait()
    await house.imagine("two")
    call = await house.imagine("three")
    status = await house.status(call)
    await house.until(lambda: "ahead" in text(status))
    assert text(status).startswith("⏳ About **1 request ahead** · by <t:")
    assert "your #2 of 2" in text(status)
    assert labels(status) == ["Why?", "Cancel"]
    hold.release()
    await house.idle()


async def test_a_cancelled_request_says_so_in_both_places(house: DiscordHouse) -> None:
    house.backend.hold("start")
    call = await house.imagine()
    status = await house.status(call)
    await house.until(lambda: "Cancel" in labels(status))
    await house.discord.press(status, "Cancel", house.ann)
    await house.idle()
    assert text(status) == "🗑️ Cancelled. Not charged."
    assert text(house.receipt(call)).startswith("🗑️ **a red fox** · ")
    assert pictures(house.receipt(call)) == []


async def test_a_failure_says_why_with_a_reference_for_the_log(house: DiscordHouse) -> None:
    house.backend.fail(InvalidRequest("Out of GPU memory at 2048×2048.", field="size"), times=9)
    call = await house.imagine("a red fox --size 2048x2048")
    await house.idle()
    status = await house.status(call)
    assert text(status).startswith("⚠️ Not made: Out of GPU memory at 2048×2048. Not charged.\n-# ref ")
    assert labels(status) == ["Retry at 64×64", "Remix"]
    assert text(house.receipt(call)).startswith("⚠️")
    again = await house.discord.press(status, "Retry at 64×64", house.ann)
    await house.until(lambda: again.original)
    await house.idle()


async def test_withheld_pictures_are_not_shown_and_their_number_is_said(tmp_path: Path) -> None:
    backend = FakeBackend(reject={1})
    async with discord_house(tmp_path, backends=[backend]) as house:
        call = await house.imagine("a red fox --count 3")
        await house.idle()
        assert len(pictures(await house.status(call))) == 2
        assert "1 of 3 withheld" in text(await house.status(call))


async def test_what_is_to_be_hidden_is_behind_spoilers_everywhere(house: DiscordHouse) -> None:
    done = house.backend.hold("done")
    call = await house.imagine("a red fox --spoiler --count 2")
    await done.reached.wait()
    status = await house.status(call)
    await house.until(lambda: pictures(status))
    assert all(each.spoiler for each in pictures(status))
    done.release()
    await house.idle()
    assert [each.spoiler for each in pictures(status)] == [True, True]
    assert pictures(house.receipt(call)) == []


async def test_an_event_sent_twice_is_one_request_and_one_answer(house: DiscordHouse) -> None:
    call = await house.imagine()
    house.discord.send(call)
    await house.idle()
    other = await house.imagine("another")
    await house.idle()
    assert len(house.backend.submitted) == 2
    assert len(house.discord.messages(house.general)) == 2
    assert len(house.discord.requests("POST /interactions/*/*/callback")) == 2
    assert other.answer == 4


async def test_the_members_guild_roles_and_channel_come_along(house: DiscordHouse) -> None:
    role = house.discord.role(house.guild, "painters")
    bob = house.discord.member(house.guild, "bob", role)
    call = await house.imagine(user=bob)
    await house.idle()
    stored = await _stored(house, call)
    assert stored.requester.guild == str(house.guild.id)
    assert str(role.id) in stored.requester.roles


# --- words that mean harm ---------------------------------------------------------------------------------

HOSTILE = "@everyone <@80351110224678912> **bold** `code` [x](https://evil.example) ||s|| \u202eevil\u200b #1"


async def test_a_hostile_prompt_is_shown_as_it_is_and_pings_nobody(house: DiscordHouse) -> None:
    bob = house.discord.member(house.guild, "bob")
    call = await house.imagine(f"{HOSTILE} <@{bob.id}> @here")
    await house.idle()
    assert house.discord.pinged(bob) == []
    assert house.discord.pinged(house.ann) == []
    for message in (house.receipt(call), await house.status(call)):
        shown = text(message)
        assert "\u202e" not in shown
        assert "\u200b" not in shown
        assert r"\@everyone" in shown
        assert "](https://evil" not in shown
        assert r"\*\*bold\*\*" in shown
        for edit in message.edits:
            assert edit.body["allowed_mentions"]["parse"] == []


async def test_a_long_prompt_is_cut_to_one_line(house: DiscordHouse) -> None:
    call = await house.imagine("a fox " * 100)
    await house.idle()
    first = text(house.receipt(call)).split("**")[1]
    assert len(first) <= 80
    assert first.endswith("…")
    thread = house.discord.thread(house.receipt(call))
    assert thread is not None
    assert len(thread.name) <= 100


# --- a word at the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "pinged"), [(30.0, False), (90.0, True)])
async def test_who_waited_over_a_minute_is_told_once(tmp_path: Path, seconds: float, pinged: bool) -> None:
    clock = HandClock()
    async with discord_house(tmp_path, clock=clock, job_timeout=3600.0) as house:
        hold = house.backend.hold("start")
        bob = house.discord.member(house.guild, "bob")
        call = await house.imagine(f"a red fox <@{bob.id}>")
        await house.until_passing(hold.reached.is_set)
        await clock.advance(seconds)
        hold.release()
        await house.idle()
        told = house.discord.pinged(house.ann)
        assert [text(each) for each in told] == ([f"{house.ann.mention} ready"] if pinged else [])
        assert house.discord.pinged(bob) == []
        thread = house.discord.thread(house.receipt(call))
        assert all(each.channel_id == thread.id for each in told if thread is not None)


async def test_nothing_is_kept_in_memory_of_what_was_shown(house: DiscordHouse) -> None:
    """The library keeps no view of ours: memory does not grow with messages."""
    for _ in range(3):
        await house.imagine()
    await house.imagine("--steps nonsense")
    await house.idle()
    client = house.adapter.client
    assert client is not None
    store = client._connection._view_store
    assert store._views == {}
    assert store._synced_message_views == {}
    assert len(house.adapter.answered) == 0
