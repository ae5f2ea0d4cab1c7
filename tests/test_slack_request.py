"""A request from Slack to its pictures in the thread, in Socket Mode and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.slack_house import SlackHouse, slack_house


@pytest.fixture(params=["socket", "http"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program, in each mode."""
    async with slack_house(tmp_path, http=request.param == "http") as house:
        yield house


async def test_a_command_becomes_a_receipt_a_thread_and_a_picture(house: SlackHouse) -> None:
    slack = house.slack
    done = await slack.bob.command("a red fox --seed 7 --steps 9")
    assert not done.failure
    assert done.ack == {}
    status = await house.finished("a red fox")
    (root,) = slack.messages(slack.general)
    assert status.thread_ts == root.ts
    assert slack.thread(root) == [status]
    (picture,) = slack.images(status)
    assert "a red fox" in picture.alt
    await slack.until(lambda: "white_check_mark" in root.text)
    assert slack.read(root).splitlines()[-1] == "9 steps"
    assert "seed 7" in slack.read(status)
    assert slack.failures == []
