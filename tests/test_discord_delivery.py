"""Results on their way into Discord: large ones, long waits, dead tokens, deletions, trouble, restarts."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from bot.core.guilds import Rules, ThreadMode
from bot.core.pictures import read_recipe
from bot.core.ports import ImageReady
from bot.core.request import ImageRequest, Requester, State
from tests.fakes.backend import FakeBackend, FakeJob
from tests.fakes.clock import HandClock
from tests.fakes.discord import Discord, Interaction, Message, labels, pictures, text
from tests.fakes.discord_house import DiscordHouse, discord_house
from tests.fakes.memory_store import MemoryStore

EDIT = "PATCH /channels/*/messages/*"
BY_TOKEN = "PATCH /webhooks/*/*/messages/*"
CREATE = "POST /channels/*/messages"
MIB = 1024**2


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """The program in one server."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


class Noisy(FakeBackend):
    """Pictures that no encoder makes small."""

    async def _picture(self, job: FakeJob, index: int) -> None:
        request = job.request
        raster = Image.frombytes(
            "RGB", (request.width, request.height), os.urandom(request.width * request.height * 3)
        )
        data = io.BytesIO()
        raster.save(data, "PNG", compress_level=1)
        job.say(ImageReady(index, data.getvalue(), "image/png", request.seed_of(index)))


def _thread_messages(house: DiscordHouse, call: Interaction) -> list[Message]:
    thread = house.discord.thread(house.receipt(call))
    return house.discord.messages(thread) if thread is not None else []


# --- large results ----------------------------------------------------------------------------------------


async def test_more_pictures_than_a_message_holds_go_over_several(house: DiscordHouse) -> None:
    call = await house.imagine("a {red, green, blue} fox --count 8")
    await house.idle()
    status, *more = _thread_messages(house, call)
    assert [len(pictures(each)) for each in (status, *more)] == [10, 10, 4]
    assert "Again" in labels(more[-1])
    assert "Again" not in labels(status)
    assert labels(more[0])[:2] == ["U11", "U12"]
    assert "11-20 of 24" in text(more[0])


async def test_all_messages_exist_and_are_stored_before_a_file_goes_out(house: DiscordHouse) -> None:
    call = await house.imagine("a {red, green} fox --count 8")
    await house.idle()
    created = house.discord.requests(CREATE)
    sent = [each for each in house.discord.requests(EDIT) if each.files and "preview" not in str(each.files)]
    order = house.discord.traffic
    assert max(order.index(each) for each in created) < min(order.index(each) for each in sent)
    (stored,) = await house.store.history(Requester("discord", str(house.guild.id), str(house.ann.id)))
    assert stored.address["more"] == [str(each.id) for each in _thread_messages(house, call)[1:]]


async def test_25_mb_of_pictures_arrive_within_a_limit_of_10(tmp_path: Path) -> None:
    async with discord_house(tmp_path, backends=[Noisy()]) as house:
        call = await house.imagine("a red fox --size 2048x2048 --count 2 --steps 1")
        await house.idle()
        shown = [each for message in _thread_messages(house, call) for each in pictures(message)]
        assert len(shown) == 2
        for number, picture in enumerate(shown):
            assert len(picture.data) <= 10 * MIB
            found = read_recipe(picture.data)
            assert found is not None
            assert Image.open(io.BytesIO(picture.data)).size == (2048, 2048)
            assert found.recipe["seed"] == _seed(house, number)
            assert picture.description == "Generated picture: a red fox"
            assert b"trainedAlgorithmicMedia" in picture.data


def _seed(house: DiscordHouse, index: int) -> int:
    backend = house.app._backends[0]
    assert isinstance(backend, FakeBackend)
    request: ImageRequest = backend.submitted[0][1]
    return request.seed_of(index)


async def test_where_files_are_not_allowed_the_result_says_so(house: DiscordHouse) -> None:
    done = house.backend.hold("done")
    call = await house.imagine("a red fox --count 2")
    status = await house.status(call)
    await done.reached.wait()
    await house.until(lambda: "2 of 2 made" in text(status))
    house.discord.on(EDIT).refuse(50013, times=2)
    house.discord.on(BY_TOKEN).refuse(50013)
    done.release()
    await house.idle()
    assert "2 pictures cannot be attached here" in text(status)
    assert text(house.receipt(call)).startswith("✅")


async def test_a_file_that_discord_finds_too_large_is_made_smaller(tmp_path: Path) -> None:
    async with discord_house(tmp_path, backends=[Noisy()]) as house:
        hold = house.backend.hold("start")
        call = await house.imagine("a red fox --size 1024x1024 --steps 1")
        status = await house.status(call)
        await hold.reached.wait()
        await house.until(lambda: labels(status))
        house.discord.on(EDIT).refuse(40005, times=4)
        hold.release()
        await house.idle()
        (picture,) = pictures(status)
        assert picture.filename.endswith(".webp")
        assert len(picture.data) <= 1.6 * MIB


# --- long waits -------------------------------------------------------------------------------------------


async def test_a_wait_of_an_hour_and_a_half_ends_as_any_other(tmp_path: Path) -> None:
    """By then the token is dead, and the thread has gone to its archive."""
    clock = HandClock()
    async with discord_house(tmp_path, clock=clock, job_timeout=9000.0) as house:
        hold = house.backend.hold("start")
        call = await house.imagine()
        await house.until_passing(hold.reached.is_set)
        clock.time += 5400.0
        thread = house.discord.thread(house.receipt(call))
        assert thread is not None
        house.discord.archive(thread)
        hold.release()
        await house.idle()
        assert len(pictures(await house.status(call))) == 1
        assert text(house.receipt(call)).startswith("✅")
        assert house.receipt(call).edits[-1].by == "bot"
        assert not thread.archived


async def test_a_token_that_dies_early_makes_no_difference(house: DiscordHouse) -> None:
    trouble = house.discord.on(BY_TOKEN).refuse(50027, times=None)
    call = await house.imagine()
    await house.idle()
    assert trouble.hits == 1
    assert text(house.receipt(call)).startswith("✅")


async def test_in_a_locked_thread_the_pictures_come_in_the_channel(house: DiscordHouse) -> None:
    hold = house.backend.hold("start")
    call = await house.imagine()
    await house.status(call)
    thread = house.discord.thread(house.receipt(call))
    assert thread is not None
    house.discord.archive(thread, locked=True)
    hold.release()
    await house.idle()
    receipt = house.receipt(call)
    assert len(pictures(receipt)) == 1
    assert text(receipt).startswith(f"✅ **a red fox** · {house.ann.mention}")


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


# --- things deleted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["status", "thread", "channel"])
async def test_what_is_deleted_ends_the_request_quietly(
    house: DiscordHouse, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = house.backend.hold("picture")
    call = await house.imagine()
    status = await house.status(call)
    await done.reached.wait()
    thread = house.discord.thread(house.receipt(call))
    assert thread is not None
    with caplog.at_level(logging.INFO):
        match what:
            case "status":
                house.discord.delete(status)
            case "thread":
                house.discord.delete_channel(thread)
            case "channel":
                house.discord.delete_channel(house.general)
        done.release()
        await house.idle()
    assert house.discord.pinged(house.ann) == []
    assert "deleted" in caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_deleted_receipt_does_not_keep_the_pictures_from_the_thread(house: DiscordHouse) -> None:
    hold = house.backend.hold("start")
    call = await house.imagine()
    status = await house.status(call)
    house.discord.delete(house.receipt(call))
    hold.release()
    await house.idle()
    assert len(pictures(status)) == 1


async def test_a_server_that_was_left_ends_it_too(house: DiscordHouse) -> None:
    hold = house.backend.hold("start")
    call = await house.imagine()
    await house.status(call)
    house.discord.kick(house.guild)
    hold.release()
    await house.idle()


# --- trouble ----------------------------------------------------------------------------------------------


def _limited(house: DiscordHouse) -> object:
    return house.discord.on(EDIT).limit(0.05, times=2)


TROUBLES: dict[str, Callable[[DiscordHouse], object]] = {
    "502": lambda house: house.discord.on(EDIT).fail(502, times=1),
    "429": _limited,
    "429 of a proxy": lambda house: house.discord.on(EDIT).limit(0.05, via=False),
    "answer lost": lambda house: house.discord.on(EDIT).cut(),
    "not taken": lambda house: house.discord.on(EDIT).cut(applied=False),
    "thread lost": lambda house: house.discord.on("POST /channels/*/messages/*/threads").cut(),
    "status lost": lambda house: house.discord.on(CREATE).cut(),
}


@pytest.mark.parametrize("trouble", list(TROUBLES))
async def test_trouble_on_the_way_delays_and_doubles_nothing(house: DiscordHouse, trouble: str) -> None:
    TROUBLES[trouble](house)
    call = await house.imagine("a red fox --count 2")
    await house.idle()
    (status,) = _thread_messages(house, call)
    assert len(pictures(status)) == 2
    assert len(house.discord.messages(house.general)) == 1
    assert len(house.backend.submitted) == 1


async def test_an_old_message_that_may_not_be_edited_yet_is_edited_later(tmp_path: Path) -> None:
    clock = HandClock()
    async with discord_house(tmp_path, clock=clock, job_timeout=9000.0) as house:
        hold = house.backend.hold("start")
        call = await house.imagine()
        await house.until_passing(hold.reached.is_set)
        clock.time += 4000.0
        house.discord.rules.old_edits = 0
        hold.release()
        refused = house.discord.requests
        await house.until_passing(lambda: any(each.status == 429 for each in refused(EDIT)))
        house.discord.rules.old_edits = None
        await house.idle()
        assert len(pictures(await house.status(call))) == 1


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
            (status,) = _thread_messages(house, call)
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
            shown = _thread_messages(house, call)
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


# --- in the channel's own message -------------------------------------------------------------------------


async def test_further_messages_of_a_result_in_the_channel_are_answers_too(house: DiscordHouse) -> None:
    by = Requester("discord", str(house.guild.id), str(house.ann.id))
    await house.studio.set_rules(by, Rules(thread_mode=ThreadMode.CHANNEL), admin=True)
    call = await house.imagine("a {red, green} fox --count 6")
    await house.idle()
    assert [len(pictures(each)) for each in house.discord.messages(house.general)] == [10, 2]
    assert [len(pictures(each)) for each in call.followups] == [2]
