"""What people get in Slack where something is in the way: many pictures, a place that closed, a late form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.slack import render
from bot.core.guilds import Rules
from bot.core.request import ImageResult, Limits, Picture, Requester, State
from tests.fakes.slack_house import SlackHouse, slack_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program."""
    async with slack_house(tmp_path) as house:
        yield house


# --- many pictures ----------------------------------------------------------------------------------------


async def test_more_pictures_than_a_message_takes_come_in_several_each_once(house: SlackHouse) -> None:
    slack = house.slack
    slack.drop("chat.update", where=lambda call: "11 to 20" in str(call.get("text")))
    await slack.bob.command("{a, b, c} fox --count 8 --steps 1 --size 64x64")
    root = await slack.until_message(slack.general, "fox")
    await slack.until(lambda: len(slack.images(slack.thread(root))) == 24, 30.0)
    status, second, third = slack.thread(root)
    assert [len(slack.images(each)) for each in (status, second, third)] == [10, 10, 4]
    assert len({picture.file for picture in slack.images([status, second, third])}) == 24
    assert slack.labels(status)[-3:] == ["Again", "Remix", "Delete"]
    assert slack.labels(third) == [*(f"U{n}" for n in range(21, 25)), *(f"V{n}" for n in range(21, 25))]
    await slack.bob.press(status, "Delete")
    await slack.until(lambda: slack.thread(root) == [])


def test_however_many_pictures_no_message_has_over_fifty_blocks(tmp_path: Path) -> None:
    pictures = tuple(
        Picture(f"{n}.png", n, tmp_path, "image/png", 64, 64, n, "alt", {}, spoiler=True) for n in range(160)
    )
    by = Requester("slack", "T1", "U1")
    result = ImageResult("AAAAAAAA", by, "a fox", State.DONE, pictures=pictures, vary=True, upscale=True)
    shown = [(picture, "") for picture in pictures]
    links = [f"https://example.com/{picture.name}" for picture in pictures]
    for message in (
        render.finished(result, shown, user="U1", alone=True, below=True),
        render.further(result, shown[:10]),
        render.untaken(result, links, user="U1", alone=True),
    ):
        assert len(message.blocks) <= 50


# --- places that close ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["archived", "thrown out"])
async def test_pictures_that_may_not_be_posted_any_more_are_told_of_and_can_be_seen(
    house: SlackHouse, how: str
) -> None:
    slack = house.slack
    hold = house.backend.hold("done")
    await slack.bob.command("a red fox")
    await hold.reached.wait()
    if how == "archived":
        slack.general.archived = True
    else:
        slack.general.members.discard(slack.installation().bot_user)
    hold.release()
    await slack.until(lambda: slack.messages(slack.bob.dm))
    (told,) = slack.messages(slack.bob.dm)
    assert "I can't post in" in told.text
    command = slack.read(told).splitlines()[-1].partition("/imagine ")[2]
    await slack.bob.command(command, slack.add_channel("elsewhere"))
    assert len(slack.images(await house.told(slack.bob))) == 1


async def test_a_receipt_whose_thread_was_emptied_does_not_go_on_for_ever(house: SlackHouse) -> None:
    slack = house.slack
    hold = house.backend.hold("done")
    await slack.bob.command("a red fox")
    await hold.reached.wait()
    house.replies()[0].deleted = True
    hold.release()
    (root,) = slack.messages(slack.general)
    await slack.until(lambda: root.text.startswith(":wastebasket:"))


# --- private answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["command", "shortcut"])
async def test_a_form_that_opens_too_late_is_asked_for_again(house: SlackHouse, way: str) -> None:
    slack = house.slack
    slack.refuse("views.open", "expired_trigger_id")
    if way == "command":
        await slack.bob.command("")
    else:
        await slack.bob.shortcut("imagine_anywhere")
    told = await house.told(slack.bob, "took too long")
    assert "Try it again" in slack.read(told)


async def test_an_answer_whose_address_is_used_up_comes_by_direct_message(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("", slack.add_channel("closed", bot=False))
    await slack.bob.until_modal()
    for url in slack.world.response_urls.values():
        url.uses = 5
    await slack.bob.submit({"Prompt": "a red fox"})
    told = await house.told(slack.bob, "/invite @fairbrush")
    assert slack.labels(told) == ["Send to my DM"]
    assert told.channel == slack.bob.dm.id


async def test_a_result_whose_files_were_deleted_is_shown_without_them(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a red fox --seed 7")
    await house.finished()
    for file in slack.world.files.values():
        file.deleted = True
    await slack.bob.command("show")
    told = await house.told(slack.bob, "seed 7")
    assert slack.images(told) == []


async def test_a_long_recipe_is_whole(house: SlackHouse) -> None:
    slack = house.slack
    prompt, negative = "fox " * 480 + "end-of-prompt", "dog " * 480 + "end-of-negative"
    await slack.bob.command(f'{prompt} --negative "{negative}"')
    await house.finished()
    await slack.bob.command("recipe")
    (answer,) = slack.bob.ephemerals
    assert prompt in slack.read(answer)
    assert negative in slack.read(answer)


async def test_a_form_offers_as_many_pictures_as_are_usual_here(house: SlackHouse) -> None:
    slack = house.slack
    ann = Requester("slack", slack.ann.team, slack.ann.id)
    await house.studio.set_rules(ann, Rules(count=3), admin=True)
    await slack.bob.command("")
    await slack.bob.until_modal()
    await slack.bob.submit({"Prompt": "a red fox"})
    assert len(slack.images(await house.finished())) == 3


async def test_who_finds_no_place_is_told_when_the_next_is_free(tmp_path: Path) -> None:
    async with slack_house(tmp_path, limits=Limits(waiting_per_user=1)) as house:
        slack = house.slack
        hold = house.backend.hold("start")
        await slack.bob.command("a red fox")
        await hold.reached.wait()
        await slack.bob.command("a grey owl")
        await house.ended("Next")
        await slack.bob.command("a black cat")
        told = await house.told(slack.bob, "1 of your 1 places is taken")
        assert "Next free" in slack.read(told)
        assert slack.labels(told) == ["Edit"]
        hold.release()


@pytest.mark.parametrize("word", ["recipe", "show", "cancel AAAAAAAA"])
async def test_what_asks_for_no_picture_is_not_called_not_queued(house: SlackHouse, word: str) -> None:
    slack = house.slack
    await slack.bob.command(word)
    await slack.bob.mention(word)
    await slack.until(lambda: len(slack.bob.ephemerals) == 2)
    for told in slack.bob.ephemerals:
        assert told.text.startswith("⚠️")
        assert "Not queued" not in slack.read(told)
        assert slack.labels(told) == []


# --- edits ------------------------------------------------------------------------------------------------


async def test_a_mention_that_is_edited_stays_one_request_and_a_corrected_one_becomes_one(
    house: SlackHouse,
) -> None:
    slack = house.slack
    await slack.bob.mention("a red fox")
    (good,) = slack.messages(slack.general)
    await house.finished("a red fox")
    await slack.bob.edit_mention(good, "a red fox!")
    await slack.bob.mention("a grey owl --steps 0")
    bad = slack.messages(slack.general)[-1]
    await house.told(slack.bob, "Steps must be")
    await slack.bob.edit_mention(bad, "a grey owl --steps 1000")
    await slack.until(lambda: len(slack.bob.ephemerals) == 2)
    await slack.bob.edit_mention(bad, "a grey owl --steps 1")
    await house.finished("a grey owl")
    assert [request.prompt for _, request in house.backend.submitted] == ["a red fox", "a grey owl"]
