"""Results on their way into Discord: large ones, long waits, dead tokens, deletions, trouble."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from adapters.discord.wire import Body
from bot.core.errors import Refused
from bot.core.pictures import read_recipe
from bot.core.ports import ImageReady
from bot.core.request import ImageRequest, Requester
from bot.core.settings import Secret
from tests.fakes.backend import FakeBackend, FakeJob
from tests.fakes.clock import HandClock
from tests.fakes.discord import labels, pictures, text
from tests.fakes.discord_house import BY_TOKEN, CREATE, EDIT, DiscordHouse, discord_house

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


# --- large results ----------------------------------------------------------------------------------------


async def test_more_pictures_than_a_message_holds_go_over_several(house: DiscordHouse) -> None:
    call = await house.imagine("a {red, green, blue} fox --count 7")
    await house.idle()
    status, *more = house.shown(call)
    assert [len(pictures(each)) for each in (status, *more)] == [10, 10, 1]
    assert "Again" in labels(more[-1])
    assert "Again" not in labels(status)
    assert labels(more[0])[:2] == ["U11", "U12"]
    assert text(more[0]) == "-# 11-20 of 21"
    assert text(more[1]).startswith("-# 21 of 21\n")


async def test_all_messages_exist_and_are_stored_before_a_file_goes_out(house: DiscordHouse) -> None:
    call = await house.imagine("a {red, green} fox --count 8")
    await house.idle()
    created = house.discord.requests(CREATE)
    sent = [each for each in house.discord.requests(EDIT) if each.files and "preview" not in str(each.files)]
    order = house.discord.traffic
    assert max(order.index(each) for each in created) < min(order.index(each) for each in sent)
    (stored,) = await house.store.history(Requester("discord", str(house.guild.id), str(house.ann.id)))
    assert stored.address["more"] == [str(each.id) for each in house.shown(call)[1:]]


async def test_25_mb_of_pictures_arrive_within_a_limit_of_10(tmp_path: Path) -> None:
    async with discord_house(tmp_path, backends=[Noisy()]) as house:
        call = await house.imagine("a red fox --size 2048x2048 --count 2 --steps 1")
        await house.idle()
        shown = [each for message in house.shown(call) for each in pictures(message)]
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


def _take_no_files(house: DiscordHouse, monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    """Discord refuses every edit with a file in it."""

    def without(edit: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def edited(*place: str) -> None:
            if cast(Body, place[-1]).uploads:
                raise Refused("Discord does not take this message.", detail="code 50013")
            await edit(*place)

        return edited

    for method in methods:
        monkeypatch.setattr(house.adapter.wire, method, without(getattr(house.adapter.wire, method)))


async def test_progress_is_told_where_previews_are_not_taken(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    _take_no_files(house, monkeypatch, "edit")
    done = house.backend.hold("done")
    call = await house.imagine("a red fox --steps 6")
    await done.reached.wait()
    status = await house.status(call)
    await house.until(lambda: "6/6" in text(status))
    done.release()
    await house.idle()
    assert len(pictures(house.receipt(call))) == 1
    assert text(status).startswith("✅ **a red fox** · [pictures](")


async def test_without_any_files_both_messages_say_how_it_ended(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    _take_no_files(house, monkeypatch, "edit", "edit_by_token")
    call = await house.imagine()
    await house.idle()
    assert "1 picture cannot be attached here" in text(await house.status(call))
    assert text(house.receipt(call)).startswith("✅ **a red fox**")


async def test_links_that_do_not_fit_are_counted_and_none_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with discord_house(
        tmp_path, public_url="https://bot.example", secrets={"FAIRBRUSH_SECRET_KEY": Secret("k" * 43)}
    ) as house:
        _take_no_files(house, monkeypatch, "edit", "edit_by_token")
        call = await house.imagine("a {red, green} fox --count 10")
        await house.idle()
        told = text(await house.status(call))
        line = next(each for each in told.splitlines() if "not attached here" in each)
        linked = re.findall(r"\[picture (\d+)\]\((https://bot\.example/pictures/[^)]+)\)", line)
        assert [int(number) for number, _ in linked] == list(range(1, len(linked) + 1))
        assert line.endswith(f" · and {20 - len(linked)} more")
        assert len(told) <= 4000


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
    "a page for a thread": lambda house: house.discord.on("POST /channels/*/messages/*/threads").fail(200),
    "a page for a status": lambda house: house.discord.on(CREATE).lose(status=200),
}


@pytest.mark.parametrize("trouble", list(TROUBLES))
async def test_trouble_on_the_way_delays_and_doubles_nothing(house: DiscordHouse, trouble: str) -> None:
    TROUBLES[trouble](house)
    call = await house.imagine("a red fox --count 2")
    await house.idle()
    (status,) = house.shown(call)
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
