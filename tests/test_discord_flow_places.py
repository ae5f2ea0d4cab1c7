"""Where a request is answered: in a thread, in place, in the channel, and where the bot cannot come."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.core.guilds import Rules, ThreadMode
from bot.core.request import Requester, State
from tests.fakes.clock import HandClock
from tests.fakes.discord import labels, pictures, text
from tests.fakes.discord_house import BY_TOKEN, CREATE, DiscordHouse, discord_house
from tests.fakes.discord_places import make_thread


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """The program in one server."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


async def _mode(house: DiscordHouse, mode: ThreadMode) -> None:
    by = Requester("discord", str(house.guild.id), str(house.ann.id))
    await house.studio.set_rules(by, Rules(thread_mode=mode), admin=True)


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
    before = len(house.everything())
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
    assert len(house.everything()) == before + 1
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


async def test_both_shows_pictures_in_the_thread_where_the_receipt_was_deleted(house: DiscordHouse) -> None:
    await _mode(house, ThreadMode.BOTH)
    done = house.backend.hold("done")
    call = await house.imagine()
    await done.reached.wait()
    status = await house.status(call)
    house.discord.delete(house.receipt(call))
    done.release()
    await house.idle()
    assert len(pictures(status)) == 1


async def test_channel_makes_no_thread(house: DiscordHouse) -> None:
    await _mode(house, ThreadMode.CHANNEL)
    call = await house.imagine()
    await house.idle()
    assert house.discord.thread(house.receipt(call)) is None
    assert len(pictures(house.receipt(call))) == 1


# --- in the channel's own message -------------------------------------------------------------------------


@pytest.mark.parametrize("may_speak", [True, False])
async def test_further_messages_of_a_result_come_in_the_channel(house: DiscordHouse, may_speak: bool) -> None:
    await _mode(house, ThreadMode.CHANNEL)
    house.discord.allow(house.general, send_messages=may_speak)
    call = await house.imagine("a {red, green} fox --count 6")
    await house.idle()
    assert [len(pictures(each)) for each in house.discord.messages(house.general)] == [10, 2]
    assert len(call.followups) == (0 if may_speak else 1)


async def test_a_further_message_that_is_not_confirmed_is_not_made_twice(house: DiscordHouse) -> None:
    await _mode(house, ThreadMode.CHANNEL)
    for route in (CREATE, "POST /webhooks/*/*"):
        house.discord.on(route).lose(status=503)
    await house.imagine("a {red, green} fox --count 6")
    await house.idle()
    assert [len(pictures(each)) for each in house.discord.messages(house.general)] == [10, 2]


# --- where the bot itself cannot come ---------------------------------------------------------------------


async def test_among_people_alone_everything_comes_by_the_answers_own_token(house: DiscordHouse) -> None:
    bob = house.discord.world.add_user("bob")
    bob.installed = True
    carl = house.discord.world.add_user("carl")
    between = house.discord.world.foreign_dm(bob, carl)
    hold = house.backend.hold("start")
    call = await house.discord.imagine(between, bob, "a red fox")
    receipt = house.receipt(call)
    await house.until(lambda: "Show" in labels(receipt))
    hold.release()
    await house.idle()
    assert len(pictures(receipt)) == 1
    assert {each.by for each in receipt.edits} == {"token"}
    assert "Show" not in labels(receipt)


async def test_a_token_that_dies_first_leaves_a_button_that_shows_the_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    async with discord_house(tmp_path, clock=clock, job_timeout=9000.0) as house:
        bob = house.discord.world.add_user("bob")
        bob.installed = True
        between = house.discord.world.foreign_dm(bob, house.ann)
        hold = house.backend.hold("start")
        call = await house.discord.imagine(between, bob, "a red fox")
        await house.until_passing(hold.reached.is_set)
        clock.time += 1000.0
        with caplog.at_level(logging.WARNING):
            hold.release()
            await house.idle()
        assert "/show shows the result" in caplog.text
        press = await house.discord.press(house.receipt(call), "Show", bob)
        await house.until(lambda: press.original and pictures(press.original))


async def test_a_token_that_discord_forgot_does_not_cancel_what_is_being_made(house: DiscordHouse) -> None:
    bob = house.discord.world.add_user("bob")
    bob.installed = True
    between = house.discord.world.foreign_dm(bob, house.ann)
    done = house.backend.hold("picture")
    call = await house.discord.imagine(between, bob, "a red fox")
    await done.reached.wait()
    house.discord.on(BY_TOKEN).refuse(10015, times=None)
    done.release()
    await house.idle()
    found = await house.store.history(Requester("discord", "dm", str(bob.id)))
    assert [job.state for group in found for job in group.jobs] == [State.DONE]
    press = await house.discord.press(house.receipt(call), "Show", bob)
    await house.until(lambda: press.original and pictures(press.original))


async def test_a_request_in_a_thread_that_was_archived_meanwhile_opens_it(house: DiscordHouse) -> None:
    first = await house.imagine("a first one")
    await house.idle()
    thread = house.discord.thread(house.receipt(first))
    assert thread is not None
    hold = house.backend.hold("start")
    call = await house.discord.imagine(thread, house.ann, "a second one")
    await hold.reached.wait()
    house.discord.archive(thread)
    hold.release()
    await house.idle()
    assert len(pictures(house.receipt(call))) == 1


async def test_a_press_of_show_lets_an_unfinished_request_go_on_there(tmp_path: Path) -> None:
    clock = HandClock()
    async with discord_house(tmp_path, clock=clock, job_timeout=9000.0) as house:
        bob = house.discord.world.add_user("bob")
        bob.installed = True
        between = house.discord.world.foreign_dm(bob, house.ann)
        hold = house.backend.hold("start")
        call = await house.discord.imagine(between, bob, "a red fox")
        await house.until_passing(hold.reached.is_set)
        clock.time += 1000.0
        press = await house.discord.press(house.receipt(call), "Show", bob)
        hold.release()
        await house.idle()
        assert press.original is not None
        assert len(pictures(press.original)) == 1
