"""Socket Mode: connections that end, are refused, and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.slack.adapter import Slack as SlackAdapter
from bot.app import build
from bot.core.errors import ConfigurationError
from tests.fakes.backend import FakeBackend
from tests.fakes.memory_store import MemoryStore
from tests.fakes.slack import Slack
from tests.fakes.slack_house import SlackHouse, slack_house, slack_settings


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlackHouse]:
    """The program in Socket Mode, impatient."""
    monkeypatch.setattr("adapters.slack.sockets.AGAIN_FIRST", 0.01)
    async with slack_house(tmp_path) as house:
        yield house


@pytest.mark.parametrize("reason", ["refresh_requested", "warning"])
async def test_it_connects_anew_before_slack_hangs_up(house: SlackHouse, reason: str) -> None:
    slack = house.slack
    await slack.sockets.disconnect(reason)
    await slack.until(lambda: slack.sockets.opened == 2)
    await slack.bob.command("a red fox")
    await house.finished("a red fox")
    assert slack.failures == []


async def test_it_comes_back_however_often_it_is_cut(house: SlackHouse) -> None:
    slack = house.slack
    for times in range(2, 6):
        await slack.sockets.cut()
        await slack.until(lambda times=times: slack.sockets.opened >= times)  # type: ignore[misc]
    await slack.connected()
    await slack.bob.command("a red fox")
    await house.finished("a red fox")


async def test_it_comes_back_after_slack_was_out_of_reach(house: SlackHouse) -> None:
    slack = house.slack
    slack.breaks("apps.connections.open", times=3)
    await slack.sockets.cut()
    await slack.until(lambda: slack.sockets.opened == 2)
    await slack.bob.command("a red fox")
    await house.finished("a red fox")


async def test_a_lost_acknowledgement_of_a_mention_makes_no_second_request(house: SlackHouse) -> None:
    slack = house.slack
    slack.courier.ack_seconds = 0.3
    slack.courier.retry_delays = (0.0,)
    slack.hold("ack")
    asking = asyncio.ensure_future(slack.bob.mention("a red fox"))
    await slack.reached("ack")
    await house.finished("a red fox")
    slack.release("ack", lose=True)
    delivery = await asking
    assert delivery is not None
    assert len(delivery.sent) == 2
    assert len(house.backend.submitted) == 1


async def _refusal(slack: Slack, folder: Path, token: str | None = None) -> ConfigurationError:
    """What the program ends with."""
    settings = slack_settings(slack, folder, token=token)
    app = build(settings, adapters=[SlackAdapter(settings)], backends=[FakeBackend()], store=MemoryStore())
    try:
        await app.start()
        async with asyncio.timeout(10):
            await app.failed
    except ConfigurationError as error:
        return error
    finally:
        await app.aclose()
    raise AssertionError("it was taken")


async def test_a_bot_token_that_is_refused_at_start_ends_the_program_in_one_line(tmp_path: Path) -> None:
    async with Slack() as slack:
        error = await _refusal(slack, tmp_path, token="xoxb-wrong")
        assert "SLACK_BOT_TOKEN" in error.message
        assert "\n" not in error.message
        assert "xoxb-wrong" not in error.message + error.detail


async def test_an_app_token_that_is_refused_at_start_ends_the_program_in_one_line(tmp_path: Path) -> None:
    async with Slack() as slack:
        slack.refuse("apps.connections.open", "invalid_auth", times=-1)
        error = await _refusal(slack, tmp_path)
        assert "SLACK_APP_TOKEN" in error.message
        assert "connections:write" in error.message


async def test_an_app_token_that_is_refused_later_stops_the_adapter_alone(house: SlackHouse) -> None:
    slack = house.slack
    slack.refuse("apps.connections.open", "invalid_auth", times=-1)
    await slack.sockets.cut()
    await slack.until(lambda: slack.count("apps.connections.open", error="invalid_auth") == 1)
    async with asyncio.timeout(10):
        while any("_supervise" in str(task) for task in house.app._tasks._tasks):
            await asyncio.sleep(0.005)
    assert not house.app.failed.done()
