"""Buttons and forms under Slack's results, in both modes: whoever presses, what comes of it, who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.slack.pacing import Bucket
from bot.core.errors import InvalidRequest
from tests.fakes.slack import Slack
from tests.fakes.slack_house import SlackHouse, program, slack_house
from tests.fakes.slack_state import Message


@pytest.fixture(params=["socket", "http"])
async def house(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SlackHouse]:
    """The program, in each mode; posts are not held back."""
    monkeypatch.setattr("adapters.slack.workspace.POSTS", Bucket(0.01, burst=3))
    async with slack_house(tmp_path, http=request.param == "http") as house:
        yield house
        assert house.slack.failures == []


async def made(house: SlackHouse, text: str = "a red fox --seed 7") -> Message:
    """A result of bob's."""
    await house.slack.bob.command(text)
    return await house.finished()


async def another(house: SlackHouse, known: int = 1) -> Message:
    """The next result."""
    await house.slack.until(lambda: len(house.done()) > known)
    return house.done()[-1]


async def test_again_makes_the_same_with_another_seed_for_whoever_pressed(house: SlackHouse) -> None:
    slack = house.slack
    first = await made(house, "a red fox --seed 7 --steps 9")
    await slack.ann.press(first, "Again")
    second = await another(house)
    assert second.thread_ts == first.thread_ts
    assert f"<@{slack.ann.id}>" in second.text
    requests = [request for _, request in house.backend.submitted]
    assert [request.steps for request in requests] == [9, 9]
    assert requests[0].seed != requests[1].seed


async def test_one_press_that_slack_sends_twice_is_one_request(house: SlackHouse) -> None:
    slack = house.slack
    first = await made(house)
    done = await slack.bob.press(first, "Again")
    await another(house)
    await slack.resend(done)
    assert len(house.backend.submitted) == 2


async def test_variations_and_upscales_are_of_the_picture_pressed(house: SlackHouse) -> None:
    slack = house.slack
    status = await made(house, "a red fox --seed 7 --count 2")
    await slack.bob.press(status, "V2")
    second = await another(house)
    assert len(slack.images(second)) == 2
    await slack.bob.press(status, "U1")
    await another(house, 2)
    (_, varied), (_, larger) = house.backend.submitted[1:]
    assert varied.init_image is not None
    assert varied.source.endswith("#2")
    assert larger.upscale
    assert (larger.width, larger.height) == (128, 128)


async def test_a_remix_opens_with_everything_and_keeps_what_is_not_changed(house: SlackHouse) -> None:
    slack = house.slack
    status = await made(house, "a red fox --seed 7 --steps 9 --negative blurry")
    await slack.ann.press(status, "Remix")
    view = await slack.ann.until_modal("Remix")
    said = {name: next(iter(state.values())) for name, state in view.values.items()}
    assert said["prompt"]["value"] == "a red fox"
    assert said["seed"]["value"] == "7"
    await slack.ann.submit({"Prompt": "a blue fox"})
    second = await another(house)
    assert second.thread_ts == status.thread_ts
    (_, request) = house.backend.submitted[1]
    assert (request.prompt, request.seed, request.steps, request.negative_prompt) == (
        "a blue fox",
        7,
        9,
        "blurry",
    )


async def test_every_bad_field_of_a_form_is_told_at_that_field(house: SlackHouse) -> None:
    slack = house.slack
    status = await made(house)
    await slack.ann.press(status, "Remix")
    view = await slack.ann.until_modal("Remix")
    await slack.ann.submit({"Steps": "9999", "Guidance": "much", "Size or ratio": "99999x64", "Prompt": " "})
    assert set(view.errors) == {"steps", "guidance", "size", "prompt"}
    assert "from 1 to 150" in view.errors["steps"]
    assert len(house.backend.submitted) == 1
    await slack.ann.submit({"Steps": "9", "Guidance": "", "Size or ratio": "", "Prompt": "a blue fox"})
    await another(house)


async def test_the_empty_command_opens_a_form(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("")
    view = await slack.bob.until_modal("Imagine")
    assert slack.labels(view) == ["Prompt", "Shape", "Style", "How many", "Where", "More options"]
    await slack.bob.submit({"Prompt": "a red fox", "Shape": "Banner 16:9", "How many": "2"})
    assert slack.bob.modal is None
    status = await house.finished("a red fox")
    assert len(slack.images(status)) == 2
    (_, request) = house.backend.submitted[0]
    assert request.width > request.height


async def test_more_options_keep_what_was_entered(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("")
    view = await slack.bob.until_modal()
    slack.bob.fill({"Prompt": "a red fox"})
    await slack.bob.press(view, "More options")
    await slack.until(lambda: slack.bob.modal is not None and "Steps" in slack.labels(slack.bob.modal))
    await slack.bob.submit({"Steps": "9"})
    await house.finished("a red fox")
    assert house.backend.submitted[0][1].steps == 9


async def test_only_me_is_answered_by_direct_message(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("")
    await slack.bob.until_modal()
    await slack.bob.submit({"Prompt": "a red fox", "Where": "private"})
    status = await house.finished("a red fox")
    assert status.channel == slack.bob.dm.id
    assert slack.messages(slack.general) == []


async def test_a_form_that_is_sent_twice_is_one_request(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("")
    await slack.bob.until_modal()
    done = await slack.bob.submit({"Prompt": "a red fox"})
    await house.finished()
    await slack.resend(done)
    assert len(house.backend.submitted) == 1


async def test_its_author_deletes_a_result_and_what_slack_holds_of_it(house: SlackHouse) -> None:
    slack = house.slack
    status = await made(house)
    await slack.bob.press(status, "Delete")
    await slack.until(lambda: status.deleted)
    (root,) = slack.messages(slack.general)
    await slack.until(lambda: "Deleted" in slack.read(root))
    assert "fox" not in slack.read(root)
    assert all(file.deleted for file in slack.world.files.values())


async def test_an_admin_deletes_and_nobody_else(house: SlackHouse) -> None:
    slack = house.slack
    eve = slack.add_person("eve")
    status = await made(house)
    await slack.bob.press(status, "Again")
    await another(house)
    await eve.press(status, "Delete")
    await slack.until(lambda: eve.ephemerals)
    assert "Only its author or a moderator" in slack.read(eve.ephemerals[0])
    assert not status.deleted
    await slack.ann.press(status, "Delete")
    await slack.until(lambda: status.deleted)


async def test_a_failed_request_is_made_again_with_its_remedy(house: SlackHouse) -> None:
    slack = house.slack
    house.backend.fail(InvalidRequest("out of memory"))
    await slack.bob.command("a red fox --seed 7")
    status = await house.ended("Not made")
    await slack.ann.press(status, "Remix")
    await slack.ann.until_modal("Remix")
    await slack.ann.submit({})
    await house.finished("a red fox")


async def test_a_hidden_picture_is_shown_to_whoever_asks(house: SlackHouse) -> None:
    slack = house.slack
    status = await made(house, "a red fox --spoiler")
    assert slack.images(status) == []
    await slack.ann.press(status, "Show picture")
    view = await slack.ann.until_modal("Picture")
    assert len(slack.images(view)) == 1


async def test_buttons_outlive_a_restart(tmp_path: Path) -> None:
    async with Slack() as slack:
        async with program(slack, tmp_path, durable=True) as house:
            status = await made(house)
        async with program(slack, tmp_path, durable=True) as house:
            await slack.bob.press(status, "Again")
            await another(house)


async def test_a_button_with_a_strange_value_is_refused(house: SlackHouse) -> None:
    slack = house.slack
    status = await made(house)
    for block in status.blocks:
        for element in block.get("elements", []):
            if element.get("action_id") == "again":
                element["value"] = "../../etc/passwd"
    await slack.bob.press(status, "Again")
    await slack.until(lambda: slack.bob.ephemerals)
    assert len(house.backend.submitted) == 1
