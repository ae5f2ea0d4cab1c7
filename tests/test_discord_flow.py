"""A request in Discord, as its members see it: heard, in line, made, shown; and refused in private."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from bot.core.guilds import Rules, ThreadMode
from bot.core.ports import StoredGroup
from bot.core.request import Requester
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.discord import Interaction, Message, labels, pictures, text
from tests.fakes.discord_house import DiscordHouse, discord_house
from tests.fakes.discord_places import make_thread


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """The program in one server."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


async def _stored(house: DiscordHouse, call: Interaction) -> StoredGroup:
    found = await house.store.history(Requester("discord", str(house.guild.id), str(call.user.id)))
    return next(group for group in found if group.event_key == f"discord:{call.id}")


async def _mode(house: DiscordHouse, mode: ThreadMode) -> None:
    by = Requester("discord", str(house.guild.id), str(house.ann.id))
    await house.studio.set_rules(by, Rules(thread_mode=mode), admin=True)


def _everything(house: DiscordHouse) -> list[Message]:
    return [
        each for channel in house.discord.world.channels.values() for each in house.discord.messages(channel)
    ]


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
    assert text(status) == "🗑️ **a red fox**\nCancelled. Not charged."
    assert text(house.receipt(call)).startswith("🗑️ **a red fox** · ")
    assert pictures(house.receipt(call)) == []


async def test_a_failure_says_why_with_a_reference_for_the_log(house: DiscordHouse) -> None:
    from bot.core.errors import InvalidRequest

    house.backend.fail(InvalidRequest("Out of GPU memory at 2048×2048.", field="width"), times=9)
    call = await house.imagine("a red fox --size 2048x2048")
    await house.idle()
    status = await house.status(call)
    assert "⚠️ **a red fox**\nNot made: Out of GPU memory at 2048×2048. Not charged.\n-# ref " in text(status)
    assert "Remix" in labels(status)
    assert text(house.receipt(call)).startswith("⚠️")


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


# --- refusals ---------------------------------------------------------------------------------------------


async def test_a_refusal_is_private_and_gives_the_prompt_back(house: DiscordHouse) -> None:
    prompt = "a red fox --stpes 20 ```and `code`` --ar 16:9"
    call = await house.imagine(prompt)
    (told,) = house.discord.private(house.ann)
    assert told is call.original
    assert text(told).startswith("Not queued: ")
    assert "steps" in text(told)
    assert f"```` {prompt} ````" in text(told) or f"````{prompt}````" in text(told)
    assert labels(told) == ["Edit"]
    assert _everything(house) == []
    assert house.backend.submitted == []


async def test_a_prompt_too_long_for_a_message_comes_back_as_a_file(house: DiscordHouse) -> None:
    prompt = ("fox " * 990).strip()
    await house.imagine(prompt)
    (told,) = house.discord.private(house.ann)
    (file,) = told.attachments
    assert file.filename == "prompt.txt"
    assert file.data.decode() == prompt


async def test_a_full_line_is_refused_with_the_number_of_places(tmp_path: Path) -> None:
    from bot.core.request import Limits

    async with discord_house(tmp_path, limits=Limits(waiting_per_user=1)) as house:
        hold = house.backend.hold("start")
        await house.imagine("one")
        await hold.reached.wait()
        await house.imagine("two")
        await house.imagine("three")
        (told,) = house.discord.private(house.ann)
        assert text(told).startswith("Not queued: 1 of your 1 places is taken.")


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


# --- where there is no thread -----------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["in a thread", "in a post", "no permission", "voice", "too many"])
async def test_without_a_thread_everything_is_in_the_one_answer(house: DiscordHouse, why: str) -> None:
    discord, world = house.discord, house.discord.world
    where = house.general
    if why in ("in a thread", "in a post"):
        call = await house.imagine("a first one")
        await house.idle()
        thread = discord.thread(house.receipt(call))
        assert thread is not None
        where = thread
    if why == "in a post":
        forum = discord.channel(house.guild, "forum", 15)
        where = make_thread(world, forum, world.new_id(), {"name": "a post"}, 11)
    if why == "no permission":
        world.allow(house.general, world.me, create_public_threads=False)
    if why == "voice":
        where = discord.channel(house.guild, "lounge", 2)
    if why == "too many":
        discord.rules.most_threads = 0
    before = len(_everything(house))
    hold = house.backend.hold("done")
    call = await discord.imagine(where, house.ann, "a red fox --steps 6")
    receipt = house.receipt(call)
    await hold.reached.wait()
    await house.until(lambda: "🎨" in text(receipt))
    assert text(receipt).startswith(f"🖌️ **a red fox** · {house.ann.mention}\n-# 6 steps\n🎨 ")
    hold.release()
    await house.idle()
    assert text(receipt).startswith(f"✅ **a red fox** · {house.ann.mention}\n-# seed ")
    assert len(pictures(receipt)) == 1
    assert len(_everything(house)) == before + 1
    assert house.discord.private(house.ann) == []


async def test_a_thread_that_cannot_be_written_to_is_left_alone(house: DiscordHouse) -> None:
    house.discord.on("POST /channels/*/messages").refuse(50013)
    call = await house.imagine()
    await house.idle()
    assert len(pictures(house.receipt(call))) == 1


async def test_a_direct_message_is_answered_in_place(house: DiscordHouse) -> None:
    direct = house.discord.world.dm(house.ann)
    call = await house.discord.imagine(direct, house.ann, "a red fox")
    await house.idle()
    assert len(pictures(house.receipt(call))) == 1
    assert len(house.discord.messages(direct)) == 1
    found = await house.store.history(Requester("discord", "dm", str(house.ann.id)))
    assert len(found) == 1


# --- where the pictures go --------------------------------------------------------------------------------


async def test_both_shows_progress_in_the_thread_and_pictures_in_the_channel(house: DiscordHouse) -> None:
    await _mode(house, ThreadMode.BOTH)
    done = house.backend.hold("done")
    call = await house.imagine()
    status = await house.status(call)
    await done.reached.wait()
    await house.until(lambda: "🎨" in text(status))
    assert "🎨" not in text(house.receipt(call))
    done.release()
    await house.idle()
    receipt = house.receipt(call)
    assert len(pictures(receipt)) == 1
    assert labels(receipt) == ["Again", "Vary", "Upscale", "Remix", "🗑️"]
    link = f"https://discord.com/channels/{house.guild.id}/{house.general.id}/{receipt.id}"
    assert text(status) == f"✅ **a red fox** · [pictures]({link})"
    assert pictures(status) == []


async def test_channel_makes_no_thread(house: DiscordHouse) -> None:
    await _mode(house, ThreadMode.CHANNEL)
    call = await house.imagine()
    await house.idle()
    assert house.discord.thread(house.receipt(call)) is None
    assert len(pictures(house.receipt(call))) == 1


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
