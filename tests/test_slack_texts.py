"""What people read in Slack, against the reference texts."""

from __future__ import annotations

from typing import Any

import pytest
from slack_sdk.errors import SlackApiError

from adapters.slack import render
from adapters.slack.problems import Closed, Removed, fault_of
from bot.core.errors import Unavailable
from bot.core.ports import JobStatus, Position
from bot.core.request import State


@pytest.mark.parametrize(
    ("ahead", "restarted", "line"),
    [
        (9, False, ":hourglass: About *9 requests ahead*"),
        (1, False, ":hourglass: About *1 request ahead*"),
        (0, False, ":hourglass: Next"),
        (9, True, ":hourglass: Restarted, your place was kept · About *9 requests ahead*"),
    ],
)
def test_a_waiting_request_reads_as_the_reference_says(ahead: int, restarted: bool, line: str) -> None:
    position = Position(own_rank=2, own_total=3, ahead=ahead, low=60.0, high=120.0)
    status = JobStatus(
        "7K2QABCD", "a red fox", State.QUEUED, position=position, by=1_700_000_000.0, restarted=restarted
    )
    message = render.status(status, alone=False, user="U1")
    assert message.text == f"{line} · by <!date^1700000000^{{time}}|22:13 UTC>"
    blocks: list[dict[str, Any]] = message.blocks
    (context,) = [block for block in blocks if block["type"] == "context"]
    assert [element["text"] for element in context["elements"]] == ["your #2 of 3"]
    buttons = next(block for block in blocks if block["type"] == "actions")["elements"]
    assert [button["text"]["text"] for button in buttons] == ["Why?", "Cancel"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("token_revoked", Removed),
        ("org_login_required", Unavailable),  # while a workspace moves into an organisation
        ("team_access_not_granted", Closed),  # one workspace of an organisation, not the whole of it
        ("is_archived", Closed),
    ],
)
def test_only_a_dead_token_is_a_removed_app(code: str, kind: type[Exception]) -> None:
    error = SlackApiError("refused", {"ok": False, "error": code})  # type: ignore[no-untyped-call]
    assert type(fault_of(error, "chat.postMessage")) is kind


def test_a_socket_s_ticket_is_in_no_log_line() -> None:
    error = ConnectionError("403, url='wss://wss-primary.slack.com/link/?ticket=7f3b&app_id=A1'")
    told = fault_of(error, "socket")
    assert "wss-primary.slack.com" in told.detail
    assert "7f3b" not in told.detail
