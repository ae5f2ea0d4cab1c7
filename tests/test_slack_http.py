"""Slack's requests over HTTP: signatures, hostile headers and bodies, replays."""

from __future__ import annotations

import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from adapters.slack.http import signed
from tests.fakes.slack_events import signature
from tests.fakes.slack_house import SlackHouse, slack_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program over HTTP."""
    async with slack_house(tmp_path, http=True) as house:
        yield house


async def post(house: SlackHouse, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """What the program answers to a request of anybody's."""
    url = f"{house.app.url}/slack/events"
    async with (
        aiohttp.ClientSession() as client,
        client.post(url, data=io.BytesIO(body), headers=headers) as answer,
    ):
        return answer.status, await answer.text()


def headers(house: SlackHouse, body: bytes, *, at: float | None = None) -> dict[str, str]:
    """The headers of Slack's own request."""
    stamp = str(int(time.time() if at is None else at))
    secret = house.slack.world.app.signing_secret
    return {
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": signature(secret, stamp, body.decode()),
        "Content-Type": "application/json",
    }


CHALLENGE = json.dumps({"type": "url_verification", "challenge": "abc", "token": "t"}).encode()


async def test_slack_verifies_the_address(house: SlackHouse) -> None:
    status, text = await post(house, CHALLENGE, headers(house, CHALLENGE))
    assert status == 200
    assert json.loads(text)["challenge"] == "abc"


@pytest.mark.parametrize(
    "changed",
    [
        {"X-Slack-Request-Timestamp": ""},
        {"X-Slack-Request-Timestamp": "abc"},
        {"X-Slack-Request-Timestamp": "-1"},
        {"X-Slack-Request-Timestamp": "9" * 400},
        {"X-Slack-Request-Timestamp": "1e9"},
        {"X-Slack-Signature": ""},
        {"X-Slack-Signature": "v0=0"},
        {"X-Slack-Signature": "v0=é"},
        {"X-Slack-Signature": "v1=" + "0" * 64},
    ],
)
async def test_hostile_headers_are_answered_401(house: SlackHouse, changed: dict[str, str]) -> None:
    status, _ = await post(house, CHALLENGE, headers(house, CHALLENGE) | changed)
    assert status == 401


async def test_unsigned_old_and_altered_requests_are_answered_401(house: SlackHouse) -> None:
    assert (await post(house, CHALLENGE, {"Content-Type": "application/json"}))[0] == 401
    assert (await post(house, CHALLENGE, headers(house, CHALLENGE, at=time.time() - 360)))[0] == 401
    assert (await post(house, CHALLENGE + b" ", headers(house, CHALLENGE)))[0] == 401


async def test_a_signature_over_a_time_that_no_clock_has_is_refused() -> None:
    assert not signed("secret", b"", "１７", "v0=x", now=17.0)
    assert not signed("secret", b"", "17", "v0=\ud800", now=17.0)


async def test_signed_nonsense_is_answered_400(house: SlackHouse) -> None:
    for body in (
        b'{"type": ',
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b"[]",
        b"null",
    ):
        status, _ = await post(house, body, headers(house, body))
        assert status == 400


async def test_a_body_of_a_megabyte_is_answered_413(house: SlackHouse) -> None:
    status, _ = await post(house, b"x" * (1024 * 1024 + 1), {})
    assert status == 413


async def test_a_replayed_request_makes_no_second_job(house: SlackHouse) -> None:
    done = await house.slack.bob.command("a red fox")
    await house.finished()
    fields: dict[str, Any] = done.payload
    body = urlencode(fields).encode()
    form = headers(house, body) | {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await post(house, body, form))[0] == 200
    assert (await post(house, body, form))[0] == 200
    assert len(house.backend.submitted) == 1


async def test_there_is_no_door_for_events_in_socket_mode(tmp_path: Path) -> None:
    async with slack_house(tmp_path) as house:
        assert (await post(house, CHALLENGE, headers(house, CHALLENGE)))[0] == 404
