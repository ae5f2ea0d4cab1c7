"""Discord's buttons: who may press them, what they make, and that they outlive a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.discord.actions import Action, custom_id
from bot.core.errors import InvalidRequest
from bot.core.ports import Model
from bot.core.request import Requester
from bot.store.sqlite import open_store
from tests.fakes.backend import FakeBackend, flat_png
from tests.fakes.discord import (
    Discord,
    Interaction,
    Message,
    Upload,
    User,
    buttons,
    labels,
    pictures,
    text,
)
from tests.fakes.discord_house import DiscordHouse, discord_house
from tests.fakes.discord_reading import fields, first, me, private, read, results, seen


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """A program whose traffic kept to Discord's own description."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


def ben(house: DiscordHouse, **permissions: bool) -> User:
    """Somebody else."""
    return house.discord.member(house.guild, "ben", **permissions)


async def made(house: DiscordHouse, prompt: str = "a red fox", **options: object) -> Message:
    """A finished request of ann's: the message with its pictures."""
    call = await house.discord.imagine(house.general, house.ann, prompt, **options)
    return await results(house, call)


async def running(house: DiscordHouse) -> Message:
    """A request of ann's that runs: its status message."""
    house.backend.hold("start")
    call = await house.imagine("a red fox")
    status = await house.status(call)
    await house.until(lambda: house.backend.running == 1 and labels(status))
    return status


# --- cancel -----------------------------------------------------------------------------------------------


async def test_a_running_request_is_cancelled(house: DiscordHouse) -> None:
    status = await running(house)
    call = await house.discord.press(status, "Cancel", house.ann)
    assert call.answer == 6  # heard; the message itself then says so
    await house.until(lambda: "Cancelled" in text(status))
    assert house.backend.cancelled


async def test_a_waiting_request_is_cancelled(house: DiscordHouse) -> None:
    await running(house)
    status = await house.status(await house.imagine("a castle"))
    await house.until(lambda: "Cancel" in labels(status))
    await house.discord.press(status, "Cancel", house.ann)
    await house.until(lambda: "Cancelled" in text(status))
    assert len(house.studio.queue(me(house))) == 1


async def test_only_its_author_cancels(house: DiscordHouse) -> None:
    status = await running(house)
    call = await house.discord.press(status, "Cancel", ben(house, administrator=True))
    assert "Only its author can cancel" in seen(call)
    assert private(call)
    assert len(house.studio.queue(me(house))) == 1


async def test_cancelling_what_has_ended_says_so(house: DiscordHouse) -> None:
    status = await running(house)
    button = next(each.custom_id for each in buttons(status) if each.label == "Cancel")
    await house.discord.press(status, "Cancel", house.ann)
    await house.idle()
    call = await house.discord.answered(
        house.discord.forge_press(await _with(house, status, button), button, house.ann)
    )
    assert "not in the queue any more" in seen(call)
    assert private(call)


async def _with(house: DiscordHouse, message: Message, button: str) -> Message:
    """The message as somebody still sees it: with a button that has gone meanwhile."""
    message.components = [
        {
            "type": 1,
            "id": 1,
            "components": [{"type": 2, "id": 2, "style": 2, "label": "x", "custom_id": button}],
        }
    ]
    return message


# --- why --------------------------------------------------------------------------------------------------


async def test_why_tells_in_private_where_one_stands(house: DiscordHouse) -> None:
    await running(house)
    status = await house.status(await house.imagine("a castle"))
    await house.until(lambda: "Why?" in labels(status))
    call = await house.discord.press(status, "Why?", house.ann)
    assert private(call)
    assert "2 **a castle**" in seen(call)
    assert "1 member uses 1 GPU" in seen(call)


# --- the new request is whose press it was ----------------------------------------------------------------


@pytest.mark.parametrize("label", ["Again", "Vary", "Upscale"])
async def test_anyone_may_press_and_the_new_request_is_theirs(house: DiscordHouse, label: str) -> None:
    before = await made(house, seed=7)
    other = ben(house)
    call = await house.discord.press(before, label, other)
    assert not private(call)
    assert f"<@{other.id}>" in seen(call)
    await house.idle()
    by = Requester("discord", str(house.guild.id), str(other.id))
    assert len(await house.studio.history(by)) == 1
    assert len(await house.studio.history(me(house))) == 1
    assert len(pictures(first(call))) == 1  # in place: it was pressed in a thread


async def test_again_takes_another_seed(house: DiscordHouse) -> None:
    before = await made(house, steps=6, negative="blurry", seed=7)
    await house.discord.press(before, "Again", house.ann)
    await house.idle()
    (_, first_one), (_, second) = house.backend.submitted
    assert (second.steps, second.negative_prompt, second.prompt) == (6, "blurry", "a red fox")
    assert second.seed != first_one.seed


async def test_variations_and_upscales_are_of_the_picture_that_was_pressed(house: DiscordHouse) -> None:
    before = await made(house, count=4, seed=100)
    assert labels(before) == ["U1", "U2", "U3", "U4", "V1", "V2", "V3", "V4", "Again", "Remix", "🗑️"]
    await house.discord.press(before, "V3", house.ann)
    await house.discord.press(before, "U2", house.ann)
    await house.idle()
    varied, larger = (request for _, request in house.backend.submitted[1:])
    assert varied.init_image is not None
    assert varied.strength is not None
    assert varied.source.endswith("#3")
    assert (larger.upscale, larger.width, larger.seed, larger.source[-2:]) == (True, 128, 101, "#2")


async def test_a_failed_request_is_tried_at_the_size_that_fits(tmp_path: Path) -> None:
    model = Model("big", "Big", 512, 512, 4, 7.5)
    backend = FakeBackend(models=(model,))
    async with discord_house(tmp_path, backends=[backend]) as house:
        backend.fail(InvalidRequest("out of memory at 2048×2048", field="size"), times=9)
        failed = await made(house, size="2048x2048")
        assert "Retry at 512×512" in labels(failed)
        backend.fail(InvalidRequest("x"), times=0)
        call = await house.discord.press(failed, "Retry at 512×512", ben(house))
        await house.idle()
        assert len(pictures(first(call))) == 1
        assert backend.submitted[-1][1].width == 512
        assert house.discord.violations == []


# --- remix ------------------------------------------------------------------------------------------------


async def test_remix_is_filled_with_every_field(house: DiscordHouse) -> None:
    before = await made(house, "a {red, blue} fox", negative="blurry", seed=7, aspect="2:1")
    form = await house.discord.press(before, "Remix", ben(house))
    assert fields(form) == {
        "prompt": "a {red, blue} fox",
        "negative": "blurry",
        "size": "2:1",
        "options": "--steps 4 --guidance 7.5 --seed 7 --count 1 --scheduler Euler --model fake",
        "picture": "",
    }


async def test_a_remix_is_made_as_it_was_filled_in(house: DiscordHouse) -> None:
    before = await made(house, seed=7)
    form = await house.discord.press(before, "Remix", ben(house))
    filled = {
        "Prompt": "a blue fox --steps 9",
        "Negative prompt": "text",
        "size": "128x64",
        "options": "--seed 3",
    }
    call = await house.discord.submit(form, filled)
    await house.idle()
    request = house.backend.submitted[-1][1]
    assert (request.prompt, request.steps, request.negative_prompt) == ("a blue fox", 9, "text")
    assert (request.width, request.height, request.seed) == (128, 64, 3)
    assert f"<@{ben(house).id}>" in seen(call)


async def test_every_bad_field_is_told_and_nothing_typed_is_lost(house: DiscordHouse) -> None:
    before = await made(house)
    form = await house.discord.press(before, "Remix", house.ann)
    filled = {
        "Prompt": "a *blue* fox --ar 99:1",
        "Negative prompt": "text",
        "size": "huge",
        "options": "--steps 900 --guidance lots --count 99 --seed 5 --style nope",
    }
    refused = await house.discord.submit(form, filled)
    assert private(refused)
    for told in (
        "WIDTHxHEIGHT",
        "Guidance must be a number from 0 to 30",
        "Steps must be a whole number from 1 to 150, not 900",
        "Count must be a whole number from 1 to 10, not 99",
        'no style "nope"',
        "a *blue* fox --ar 99:1",
    ):
        assert told in seen(refused)
    assert house.backend.submitted[1:] == []

    again = await house.discord.press(first(refused), "Edit", house.ann)
    assert fields(again) == {
        "prompt": "a *blue* fox --ar 99:1",
        "negative": "text",
        "size": "huge",
        "options": "--steps 900 --guidance lots --count 99 --seed 5 --style nope",
        "picture": "",
    }
    second = await house.discord.submit(
        again, {"size": "", "options": "--steps 900 --guidance 70 --count 99 --seed 5 --style nope"}
    )
    for told in (
        "Steps must be a whole number from 1 to 150, not 900",
        "Guidance must be a number from 0 to 30, not 70",
        "Count must be a whole number from 1 to 10, not 99",
        "from 1:4 to 4:1",
        'no style "nope"',
    ):
        assert told in seen(second)
    third = await house.discord.press(first(second), "Edit", house.ann)
    done = await house.discord.submit(third, {"Prompt": "a *blue* fox", "options": "--seed 5"})
    await house.idle()
    assert not private(done)
    assert (house.backend.submitted[-1][1].prompt, house.backend.submitted[-1][1].seed) == ("a *blue* fox", 5)


async def test_a_remix_of_a_picture_starts_from_the_same_one(house: DiscordHouse) -> None:
    before = await made(house, seed=7)
    call = await house.discord.press(before, "Vary", house.ann)
    await house.idle()
    form = await house.discord.press(first(call), "Remix", house.ann)
    await house.discord.submit(form, {"Prompt": "a blue fox"})
    await house.idle()
    varied, remixed = (request for _, request in house.backend.submitted[1:])
    assert varied.init_image == remixed.init_image
    assert remixed.prompt == "a blue fox"


async def test_another_picture_can_be_put_in_its_place(house: DiscordHouse) -> None:
    before = await made(house, seed=7)
    form = await house.discord.press(before, "Remix", house.ann)
    image = Upload("other.png", flat_png(128, 64, 9))
    await house.discord.submit(form, {"Picture": image, "size": "", "options": "--strength 0.4"})
    await house.idle()
    request = house.backend.submitted[-1][1]
    assert request.init_image is not None
    assert (request.init_image.width, request.strength, request.width) == (128, 0.4, 128)


async def test_a_refused_request_keeps_its_picture(house: DiscordHouse) -> None:
    image = Upload("fox.png", flat_png(128, 64, 9))
    refused = await house.imagine("a fox --steps 900", image=image)
    form = await house.discord.press(first(refused), "Edit", house.ann)
    await house.discord.submit(form, {"Prompt": "a fox --steps 9"})
    await house.idle()
    ((_, request),) = house.backend.submitted
    assert request.init_image is not None
    assert (request.init_image.width, request.steps) == (128, 9)


async def test_a_form_whose_request_was_deleted_meanwhile_is_not_lost(house: DiscordHouse) -> None:
    before = await made(house, seed=7)
    form = await house.discord.press(before, "Remix", house.ann)
    await house.discord.press(before, "🗑️", house.ann)
    refused = await house.discord.submit(form, {"Prompt": "a blue fox"})
    assert "There is no job" in seen(refused)
    again = await house.discord.press(first(refused), "Edit", house.ann)
    assert fields(again)["prompt"] == "a blue fox"
    await house.discord.submit(again)
    await house.idle()
    assert house.backend.submitted[-1][1].prompt == "a blue fox"


# --- delete -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["author", "moderator"])
async def test_delete_takes_the_pictures_away(house: DiscordHouse, who: str) -> None:
    message = await made(house)
    receipt = house.discord.messages(house.general)[0]
    files = list((house.adapter.settings.pictures_dir).iterdir())
    presser = house.ann if who == "author" else ben(house, manage_messages=True)
    await house.discord.press(message, "🗑️", presser)
    await house.until(lambda: not receipt.attachments)
    for each in (message, receipt):
        assert each.attachments == []
        assert "🗑️" in text(each)
        assert labels(each) == []
    assert files
    assert not any(path.exists() for path in files)
    assert await house.studio.history(me(house)) == []


async def test_a_deletion_is_not_lost_in_trouble(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.discord.conversation.ERASE_AGAIN", (0.0, 0.0, 0.0))
    message = await made(house)
    receipt = house.discord.messages(house.general)[0]
    house.discord.on("PATCH /webhooks/*/*/messages/*").limit(via=False)
    house.discord.on("PATCH /channels/*/messages/*").fail(503)
    await house.discord.press(message, "🗑️", house.ann)
    await house.until(lambda: "deleted" in text(receipt))
    assert receipt.attachments == []


async def test_what_is_deleted_elsewhere_while_it_waits_says_so_in_both_places(house: DiscordHouse) -> None:
    house.backend.hold("start")
    call = await house.imagine()
    status = await house.status(call)
    await house.until(lambda: "Cancel" in labels(status))
    (group,) = house.studio.queue(me(house))
    await house.studio.delete(group.group_id, me(house))
    await house.idle()
    assert text(status).startswith("🗑️")
    assert text(house.receipt(call)).startswith("🗑️")


async def test_the_delete_menu_works_on_a_copy(house: DiscordHouse) -> None:
    message = await made(house)
    (group,) = await house.studio.history(me(house))
    shown = await house.discord.command(house.general, house.ann, "show", id=group.group_id)
    copy = house.discord.original(shown)
    await house.discord.menu(house.ann, "Delete", copy, house.general)
    await house.until(lambda: not copy.attachments and not message.attachments)
    assert labels(copy) == []


async def test_others_do_not_delete(house: DiscordHouse) -> None:
    message = await made(house)
    call = await house.discord.press(message, "🗑️", ben(house))
    assert "Only its author or a moderator" in seen(call)
    assert private(call)
    assert len(pictures(message)) == 1


async def test_moderators_of_another_server_do_not_delete(house: DiscordHouse) -> None:
    message = await made(house)
    button = next(each.custom_id for each in buttons(message) if each.emoji == "🗑️")
    elsewhere = house.discord.guild("Elsewhere")
    general = house.discord.channel(elsewhere, "general")
    boss = house.discord.member(elsewhere, "boss", administrator=True)
    theirs = await house.discord.imagine(general, boss, "a castle")
    await house.idle()
    other = first(theirs)
    call = house.discord.forge_press(await _with(house, other, button), button, boss)
    assert "There is no job" in seen(await house.discord.answered(call))
    assert len(pictures(message)) == 1


# --- what is altered, unknown or gone ---------------------------------------------------------------------


@pytest.mark.parametrize("action", [each for each in Action if each is not Action.WHY])
async def test_a_press_for_what_is_not_there_is_refused_in_private(
    house: DiscordHouse, action: Action
) -> None:
    message = await made(house)
    altered = custom_id(action, "NOSUCHID", 0)
    call = house.discord.forge_press(await _with(house, message, altered), altered, house.ann)
    await house.discord.answered(call)
    assert private(call)
    assert "no job" in seen(call) or "not in the queue" in seen(call) or "not kept any more" in seen(call)
    assert len(house.backend.submitted) == 1


async def test_an_index_beyond_the_pictures_is_refused(house: DiscordHouse) -> None:
    message = await made(house)
    group = next(each.custom_id for each in buttons(message)).split(":")[2]
    altered = custom_id(Action.UPSCALE, group, 9)
    call = house.discord.forge_press(await _with(house, message, altered), altered, house.ann)
    assert "has no picture 10" in seen(await house.discord.answered(call))
    assert private(call)


# --- where the bot itself cannot come ---------------------------------------------------------------------


async def test_show_answers_anew_where_the_bot_is_no_member(house: DiscordHouse) -> None:
    foreign = house.discord.world.foreign_dm(house.ann, ben(house))
    house.backend.hold("start")
    call = await house.discord.imagine(foreign, house.ann, "a red fox")
    await house.until(lambda: house.backend.running == 1)
    shown = await house.discord.press(first(call), "Show", house.ann)
    assert "Cancel" in labels(first(shown))
    house.backend._holds["start"].release()
    await house.idle()
    assert len(pictures(first(shown))) == 1
    again = await house.discord.press(first(call), "Show", house.ann)
    assert len(pictures(first(again))) == 1
    assert not private(again)


# --- after a restart --------------------------------------------------------------------------------------


async def test_buttons_and_forms_outlive_a_restart(tmp_path: Path) -> None:
    async with Discord() as discord:
        store = await open_store(tmp_path / "store.sqlite3")
        async with discord_house(tmp_path, discord=discord, store=store) as house:
            message = await made(house, count=2, seed=7)
            form = await discord.press(message, "Remix", house.ann)
            refused = await house.imagine("a fox --steps 900")
        store = await open_store(tmp_path / "store.sqlite3")
        async with discord_house(tmp_path, discord=discord, store=store) as house:
            calls = [await discord.press(message, label, house.ann) for label in ("U1", "V2", "Again")]
            calls.append(await discord.submit(form, {"Prompt": "a blue fox"}))
            edit = await discord.press(first(refused), "Edit", house.ann)
            assert fields(edit)["prompt"] == "a fox --steps 900"
            calls.append(await discord.submit(edit, {"Prompt": "a fox --steps 9"}))
            await house.idle()
            assert [len(pictures(await _shown(house, call))) for call in calls] == [1, 2, 2, 2, 1]
            await discord.press(message, "🗑️", house.ann)
            assert "deleted" in read(message)
        assert discord.violations == []


async def _shown(house: DiscordHouse, call: Interaction) -> Message:
    """Where a request's pictures are: in its thread, or in place."""
    return await house.status(call) if house.discord.thread(first(call)) else first(call)
