"""Pictures in Slack exactly once, whatever Slack does meanwhile."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from adapters.slack import render
from adapters.slack.files import encoded
from bot.core.pictures import mime_of
from bot.core.request import ImageResult, Picture, Requester, State
from tests.fakes.slack import Slack
from tests.fakes.slack_house import SlackHouse, program, slack_house
from tests.fakes.slack_state import Payload


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for for long."""
    monkeypatch.setattr("adapters.slack.files.PROCESSING_MOST", 0.3)
    monkeypatch.setattr("adapters.slack.files.SHARING_MOST", 0.3)
    monkeypatch.setattr("adapters.slack.showing.BLOCKS_AGAIN", 0.05)


def with_image(call: Payload) -> bool:
    """A call that shows a picture in a message."""
    return any(block["type"] == "image" for block in call.get("blocks") or [])


@pytest.fixture
async def house(tmp_path: Path, impatient: None) -> AsyncIterator[SlackHouse]:
    """The program, impatient."""
    async with slack_house(tmp_path) as house:
        yield house


async def pictures(house: SlackHouse, count: int = 1) -> int:
    """How many pictures the thread shows, once it shows so many."""
    slack = house.slack
    await slack.until(lambda: slack.messages(slack.general))
    root = slack.messages(slack.general)[0]
    await slack.until(lambda: len(slack.images(slack.thread(root))) >= count, 20.0)
    return len(slack.images(slack.thread(root)))


async def settled(house: SlackHouse) -> None:
    """Until nothing is on its way."""
    async with asyncio.timeout(20):
        while house.app.studio._desk.groups or len(house.adapter._tasks):
            await asyncio.sleep(0.005)


async def test_files_are_waited_for_until_slack_has_processed_them(house: SlackHouse) -> None:
    house.slack.troubles.processing_delay = 0.2
    await house.slack.bob.command("a red fox --count 2")
    assert await pictures(house, 2) == 2
    assert house.slack.count("chat.update", error="invalid_blocks") == 0


async def test_pictures_that_slack_never_processes_are_shared_into_the_thread(house: SlackHouse) -> None:
    slack = house.slack
    slack.troubles.processing_delay = math.inf
    await slack.bob.command("a red fox --count 2")
    await slack.until(lambda: slack.count("files.completeUploadExternal") >= 2, 20.0)
    slack.finish_files()
    assert await pictures(house, 2) == 2
    await settled(house)
    assert await pictures(house, 2) == 2
    assert "below" in house.done()[0].text


async def test_where_image_blocks_are_refused_pictures_are_shared_once(house: SlackHouse) -> None:
    slack = house.slack
    slack.refuse("chat.update", "invalid_blocks", times=-1, where=with_image)
    await slack.bob.command("a red fox --count 2")
    assert await pictures(house, 2) == 2
    await settled(house)
    assert await pictures(house, 2) == 2
    assert all("a red fox" in picture.alt for picture in slack.images(house.replies()))


async def test_a_share_that_its_alt_text_stops_is_made_again_without_and_shows_once(
    house: SlackHouse,
) -> None:
    slack = house.slack
    slack.troubles.lose_shares_with_alt = True
    slack.refuse("chat.update", "invalid_blocks", times=-1, where=with_image)
    await slack.bob.command("a red fox")
    assert await pictures(house) == 1
    await settled(house)
    slack.finish_files()  # the late share of the first file shows nothing: it is deleted
    assert await pictures(house) == 1


async def test_a_limit_is_waited_for_as_long_as_slack_says(house: SlackHouse) -> None:
    slack = house.slack
    slack.refuse("chat.update", "ratelimited", retry_after=1)
    slack.refuse("files.getUploadURLExternal", "ratelimited", retry_after=1)
    slack.refuse("chat.postMessage", "ratelimited", retry_after=1)
    await slack.bob.command("a red fox")
    assert await pictures(house) == 1
    await settled(house)
    for method in ("chat.update", "chat.postMessage"):
        calls = [call for call in slack.calls if call.method == method]
        refused = next(at for at, call in enumerate(calls) if call.error == "ratelimited")
        assert calls[refused + 1].at - calls[refused].at >= 1.0


@pytest.mark.parametrize("method", ["files.completeUploadExternal", "files.info", "chat.update", "upload"])
async def test_trouble_at_any_call_delays_and_doubles_nothing(house: SlackHouse, method: str) -> None:
    slack = house.slack
    slack.drop(method, applied=True)
    slack.breaks(method)
    await slack.bob.command("a red fox --count 2")
    assert await pictures(house, 2) == 2
    await settled(house)
    assert await pictures(house, 2) == 2


async def test_a_status_message_that_was_deleted_ends_the_delivery(house: SlackHouse) -> None:
    slack = house.slack
    hold = house.backend.hold("done")
    await slack.bob.command("a red fox")
    await hold.reached.wait()
    house.replies()[0].deleted = True
    hold.release()
    await settled(house)
    assert await pictures(house, 0) == 0


async def test_a_token_that_is_revoked_stops_the_adapter_and_not_the_program(tmp_path: Path) -> None:
    async with slack_house(tmp_path) as house:
        house.slack.revoke()
        await house.slack.bob.command("a red fox")
        async with asyncio.timeout(10):
            while house.slack.sockets.connections:
                await asyncio.sleep(0.005)
        assert not house.app.failed.done()
        await settled(house)


async def test_after_a_crash_between_upload_and_edit_the_same_files_are_shown(tmp_path: Path) -> None:
    async with Slack() as slack:
        slack.hold("deliver")
        async with program(slack, tmp_path, durable=True) as house:
            await slack.bob.command("a red fox --count 2")
            await slack.reached("deliver")
        uploads = slack.count("files.getUploadURLExternal")
        slack.release("deliver")
        async with program(slack, tmp_path, durable=True) as house:
            assert await pictures(house, 2) == 2
            await settled(house)
            assert await pictures(house, 2) == 2
        assert slack.count("files.getUploadURLExternal") == uploads


@pytest.mark.parametrize("applied", [False, True])
async def test_after_a_crash_around_a_share_pictures_are_there_once(
    tmp_path: Path, impatient: None, applied: bool
) -> None:
    async with Slack() as slack:
        slack.refuse("chat.update", "invalid_blocks", times=-1, where=with_image)
        slack.hold("files.completeUploadExternal", lambda call: bool(call.get("channel_id")), after=applied)
        async with program(slack, tmp_path, durable=True) as house:
            await slack.bob.command("a red fox --count 2")
            await slack.reached("files.completeUploadExternal")
        slack.release("files.completeUploadExternal")
        async with program(slack, tmp_path, durable=True) as house:
            await slack.until(house.done)
            await settled(house)
            assert await pictures(house, 2) == 2


async def test_where_slack_takes_no_files_it_is_said_and_nothing_hangs(house: SlackHouse) -> None:
    slack = house.slack
    slack.refuse("files.getUploadURLExternal", "file_uploads_disabled", times=-1)
    await slack.bob.command("a red fox")
    status = await house.ended("Slack does not take the files here")
    assert slack.labels(status)[0] == "Again"
    await settled(house)


async def test_what_is_hidden_is_never_shared_into_the_thread(house: SlackHouse) -> None:
    slack = house.slack
    slack.troubles.processing_delay = math.inf
    await slack.bob.command("a red fox --spoiler")
    status = await house.finished("a red fox")
    await settled(house)
    slack.finish_files()
    assert slack.images(slack.thread(slack.messages(slack.general)[0])) == []
    assert "Show picture" in slack.labels(status)


async def test_what_may_help_a_failed_request_is_offered(house: SlackHouse) -> None:
    result = ImageResult(
        "AAAAAAAA",
        Requester("slack", "T1", "U1"),
        "a red fox",
        State.FAILED,
        message="out of GPU memory at 2048×2048",
        reference="7K2Q",
        remedy={"width": 1024, "height": 1024},
        remedy_label="1024×1024",
    )
    shown = render.unfinished(result, user="U1", alone=False)
    (row,) = [block for block in shown.blocks if block["type"] == "actions"]
    assert [element["text"]["text"] for element in row["elements"]] == ["Retry at 1024×1024", "Remix"]
    assert shown.text == ":warning: Not made: out of GPU memory at 2048×2048. Not charged."


def test_pictures_go_out_as_png_or_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "one.webp"
    data = io.BytesIO()
    Image.effect_noise((256, 256), 80).convert("RGB").save(data, "WEBP", lossless=True)
    path.write_bytes(data.getvalue())
    picture = Picture("one.webp", 0, path, "image/webp", 256, 256, 1, "noise", {})
    name, sent = encoded(picture)
    assert name == "one.jpg"
    assert mime_of(sent) == "image/jpeg"
