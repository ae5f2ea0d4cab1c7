"""Requests from Slack to their pictures in the thread, in Socket Mode and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.core.errors import InvalidRequest
from bot.core.guilds import Rules, ThreadMode
from bot.core.request import Requester
from tests.fakes.backend import flat_png
from tests.fakes.slack_house import SlackHouse, slack_house


@pytest.fixture(params=["socket", "http"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program, in each mode."""
    async with slack_house(tmp_path, http=request.param == "http") as house:
        yield house
        assert house.slack.failures == []
        assert not house.slack.limits.over


def asked(house: SlackHouse) -> list[str]:
    """The prompts that reached the backend."""
    return [request.prompt for _, request in house.backend.submitted]


# --- ways in ----------------------------------------------------------------------------------------------


async def test_a_command_becomes_a_receipt_a_thread_and_a_picture(house: SlackHouse) -> None:
    slack = house.slack
    done = await slack.bob.command("a red fox --seed 7 --steps 9")
    assert done.ack == {}
    status = await house.finished("a red fox")
    (root,) = slack.messages(slack.general)
    assert status.thread_ts == root.ts
    assert slack.thread(root) == [status]
    (picture,) = slack.images(status)
    assert "a red fox" in picture.alt
    await slack.until(lambda: "white_check_mark" in root.text)
    assert root.text == f":white_check_mark: *a red fox* · <@{slack.bob.id}> · in thread"
    assert slack.read(root).splitlines()[-1] == "9 steps"
    assert "seed 7" in slack.read(status)


async def test_it_is_committed_before_it_is_acknowledged(house: SlackHouse) -> None:
    slack = house.slack
    slack.hold("root")
    await slack.bob.command("a red fox")
    mine = house.studio.queue(Requester("slack", slack.bob.team, slack.bob.id))
    assert [status.prompt for status in mine] == ["a red fox"]
    slack.release("root")
    await house.finished()


async def test_a_mention_is_answered_in_its_own_thread(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.mention("a grey owl")
    status = await house.finished("a grey owl")
    (question,) = slack.messages(slack.general)
    assert status.thread_ts == question.ts
    assert slack.bob.id in status.text
    assert len(slack.images(status)) == 1


async def test_a_mention_inside_a_thread_stays_in_that_thread(house: SlackHouse) -> None:
    slack = house.slack
    root = slack.ann.write("what shall we draw?")
    await slack.bob.mention("a grey owl", thread=root)
    status = await house.finished("a grey owl")
    assert status.thread_ts == root.ts
    assert slack.messages(slack.general) == [root]


async def test_a_mention_with_a_picture_starts_from_it(house: SlackHouse) -> None:
    slack = house.slack
    file = slack.bob.upload(flat_png(64, 64, 3))
    await slack.bob.mention("the same in winter --strength 0.4", files=[file])
    await house.finished("the same in winter")
    (_, request) = house.backend.submitted[0]
    assert request.init_image is not None
    assert request.strength == 0.4


async def test_a_direct_message_is_a_request(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.write_dm("a grey owl")
    status = await house.finished("a grey owl")
    assert status.channel == slack.bob.dm.id


async def test_what_slack_and_phones_do_to_the_text_is_undone(house: SlackHouse) -> None:
    await house.slack.bob.command("a “cat” & 1 < 2 —steps 9 --ar 1:1")
    await house.finished()
    ((_, request),) = house.backend.submitted
    assert request.prompt == 'a "cat" & 1 < 2'
    assert request.steps == 9


async def test_several_pictures_come_in_one_message_with_their_buttons(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a red fox --count 3")
    status = await house.finished()
    assert len(slack.images(status)) == 3
    assert [label for label in slack.labels(status) if label[0] == "V"] == ["V1", "V2", "V3"]
    assert slack.labels(status)[-3:] == ["Again", "Remix", "Delete"]


async def test_several_prompts_are_one_request(house: SlackHouse) -> None:
    await house.slack.bob.command("a {red, blue} fox")
    status = await house.finished()
    assert len(house.slack.images(status)) == 2
    assert asked(house) == ["a red fox", "a blue fox"]


async def test_a_hostile_prompt_mentions_nobody_and_links_nothing(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("<!channel> <@U123> *bold* `code` <https://evil.example|click> @everyone")
    status = await house.finished()
    (root,) = slack.messages(slack.general)
    for message in (root, status):
        assert "<!channel>" not in message.text
        assert "<https" not in message.text
        kinds = {block["type"] for block in message.blocks}
        assert "section" not in kinds  # the only block here in which markup would be read
    assert "<!channel> <@U123> *bold* `code`" in slack.read(status)


async def test_an_event_that_is_sent_again_is_one_request(house: SlackHouse) -> None:
    slack = house.slack
    done = await slack.bob.mention("a red fox")
    assert done is not None
    await house.finished()
    again = await slack.resend(done)
    assert not again.failure
    assert len(house.backend.submitted) == 1
    assert len(house.done()) == 1


# --- refusals ---------------------------------------------------------------------------------------------


async def test_a_refusal_is_private_and_returns_the_whole_text(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a red fox --stpes 20")
    (answer,) = slack.bob.ephemerals
    assert "did you mean --steps" in slack.read(answer).lower()
    assert "/imagine a red fox --stpes 20" in slack.read(answer)
    assert slack.messages(slack.general) == []
    assert house.backend.submitted == []


async def test_a_refused_request_can_be_edited_in_a_form(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a red fox --steps 9999")
    await slack.bob.press(slack.bob.ephemerals[0], "Edit")
    view = await slack.bob.until_modal("Imagine")
    assert view.values["prompt"]["value"]["value"] == "a red fox --steps 9999"
    await slack.bob.submit({"Prompt": "a red fox --steps 9"})
    await house.finished("a red fox")


async def test_a_refused_mention_is_answered_privately_in_its_thread(house: SlackHouse) -> None:
    slack = house.slack
    root = slack.ann.write("what shall we draw?")
    await slack.bob.mention("a red fox --steps 9999", thread=root)
    await slack.until(lambda: slack.bob.ephemerals)
    (answer,) = slack.bob.ephemerals
    assert answer.thread_ts == root.ts
    assert "from 1 to 150" in slack.read(answer)
    assert not any(message.bot_id for message in slack.thread(root))


async def test_a_place_in_the_line_is_needed(tmp_path: Path) -> None:
    from bot.core.request import Limits

    async with slack_house(tmp_path, limits=Limits(waiting_per_user=1)) as house:
        hold = house.backend.hold("start")
        for _ in range(3):
            await house.slack.bob.command("a red fox")
            await asyncio.sleep(0)
        (answer,) = house.slack.bob.ephemerals[:1]
        assert "places" in house.slack.read(answer)
        hold.release()


# --- statuses ---------------------------------------------------------------------------------------------


async def test_progress_is_shown_with_a_bar_a_time_and_a_way_out(house: SlackHouse) -> None:
    slack = house.slack
    hold = house.backend.hold("done")
    await slack.bob.command("a red fox --steps 4")
    await hold.reached.wait()
    status = await house.ended("4/4")
    assert "▰▰▰▰▰▰▰▰▰▰ 4/4" in slack.read(status)
    assert slack.labels(status) == ["Cancel"]
    hold.release()
    await house.finished()


async def test_a_waiting_request_shows_its_place_and_why(house: SlackHouse) -> None:
    slack = house.slack
    hold = house.backend.hold("start")
    await slack.ann.command("in the way", slack.add_channel("elsewhere"))
    await hold.reached.wait()
    await slack.bob.command("a red fox")
    status = await house.ended("Next")
    assert slack.labels(status) == ["Why?", "Cancel"]
    await slack.bob.press(status, "Why?")
    await slack.until(lambda: slack.bob.ephemerals)
    assert "2 people share 1 GPU" in slack.read(slack.bob.ephemerals[0])
    hold.release()
    await slack.until(lambda: len(house.done()) == 2)


async def test_a_preview_is_shown_while_a_picture_forms(
    house: SlackHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.slack.conversation.GAPS", (0.0,))
    monkeypatch.setattr("adapters.slack.adapter.Slack.pace", house.adapter.pace.__class__(0.01, 100))
    slack = house.slack
    hold = house.backend.hold("done")
    await slack.bob.command("a red fox --count 2")
    await hold.reached.wait()
    job = next(iter(house.backend.jobs.values()))

    async def nudge() -> None:  # the backend's progress goes on
        from bot.core.ports import Progress

        for step in range(1000):
            job.say(Progress(0.5, step=step % 7, total=9))
            await asyncio.sleep(0.02)

    nudging = asyncio.ensure_future(nudge())
    try:
        await slack.until(lambda: any(slack.images(message) for message in house.replies()))
    finally:
        nudging.cancel()
    hold.release()
    status = await house.finished()
    assert len(slack.images(status)) == 2
    previews = [file for file in slack.world.files.values() if file.name.startswith("preview")]
    await slack.until(lambda: all(file.deleted for file in previews))


async def test_a_failure_says_why_and_how_to_go_on(house: SlackHouse) -> None:
    slack = house.slack
    house.backend.fail(InvalidRequest("out of GPU memory at 2048×2048"))
    await slack.bob.command("a red fox")
    status = await house.ended("Not made", 30.0)
    assert "out of GPU memory at 2048×2048" in slack.read(status)
    assert slack.labels(status) == ["Retry", "Remix"]
    await slack.bob.press(status, "Retry")
    await house.finished("a red fox")


async def test_cancel_is_for_the_author_alone(house: SlackHouse) -> None:
    slack = house.slack
    hold = house.backend.hold("start")
    await slack.bob.command("a red fox")
    await hold.reached.wait()
    status = house.replies()[0]
    await slack.ann.press(status, "Cancel")
    await slack.until(lambda: slack.ann.ephemerals)
    assert "Only its author" in slack.read(slack.ann.ephemerals[0])
    await slack.bob.press(status, "Cancel")
    await slack.until(lambda: "Cancelled" in slack.read(status))
    assert slack.images(status) == []
    hold.release()


async def test_who_waited_for_long_is_told_once(house: SlackHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.slack.conversation.PING_AFTER", -1.0)
    slack = house.slack
    await slack.bob.command("a red fox")
    await house.finished()
    ping = await house.ended("ready")
    assert ping.text == f"<@{slack.bob.id}> ready"


async def test_pictures_are_also_sent_to_the_channel_where_that_is_set(house: SlackHouse) -> None:
    slack = house.slack
    ann = Requester("slack", slack.ann.team, slack.ann.id)
    await house.studio.set_rules(ann, Rules(thread_mode=ThreadMode.BOTH), admin=True)
    await slack.bob.command("a red fox")
    await house.finished()
    (root,) = slack.messages(slack.general)
    await slack.until(lambda: slack.images(root))
    assert len(slack.images(root)) == 1


# --- where the program may not post -----------------------------------------------------------------------


async def test_where_it_may_not_post_it_says_so_privately_and_offers_a_direct_message(
    house: SlackHouse,
) -> None:
    slack = house.slack
    closed = slack.add_channel("closed", bot=False)
    await slack.bob.command("a red fox --seed 7", closed)
    await slack.until(lambda: slack.bob.ephemerals)
    (answer,) = slack.bob.ephemerals
    assert "/invite @fairbrush" in slack.read(answer)
    await slack.bob.press(answer, "Send to my DM")
    status = await house.finished("a red fox")
    assert status.channel == slack.bob.dm.id
    assert "seed 7" in slack.read(status)
    assert slack.messages(closed) == []
