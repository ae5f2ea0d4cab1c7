"""The Slack app's manifest, and when there is a Slack adapter at all."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from jsonschema import Draft202012Validator
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse

import adapters.slack
from adapters.slack import create
from adapters.slack.adapter import Slack
from adapters.slack.manifest import main, manifest
from adapters.slack.names import COMMAND, EVENTS, SCOPES, SHORTCUTS
from bot.core.errors import ConfigurationError
from bot.core.settings import Secret, Settings
from tests.fakes.slack_web import METHODS

SPECS = os.environ.get("FAIRBRUSH_SPECS")
PUBLIC = "https://pictures.example"


def settings(public_url: str = "", **secrets: str) -> Settings:
    """Settings with these secrets."""
    made = {name: Secret(value) for name, value in secrets.items()}
    return Settings(data_dir=Path("/nowhere"), public_url=public_url, secrets=made)


@pytest.mark.skipif(not SPECS, reason="FAIRBRUSH_SPECS is not set")
@pytest.mark.parametrize(("public_url", "http"), [("", False), (PUBLIC, False), (PUBLIC, True)])
def test_the_manifest_is_valid(public_url: str, http: bool) -> None:
    schema = json.loads((Path(str(SPECS)) / "slack-manifest.schema.json").read_text())
    Draft202012Validator(schema).validate(manifest(settings(public_url), http=http))


def test_socket_mode_needs_no_address() -> None:
    made = manifest(settings())
    assert made["settings"]["socket_mode_enabled"]
    assert "http" not in json.dumps(made)


def test_http_mode_names_its_address_everywhere() -> None:
    made = manifest(settings(PUBLIC), http=True)
    assert not made["settings"]["socket_mode_enabled"]
    events = f"{PUBLIC}/slack/events"
    assert made["settings"]["event_subscriptions"]["request_url"] == events
    assert made["settings"]["interactivity"]["request_url"] == events
    assert [command["url"] for command in made["features"]["slash_commands"]] == [events]
    assert made["oauth_config"]["redirect_urls"] == [f"{PUBLIC}/slack/oauth_redirect"]


def test_http_mode_without_an_address_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="FAIRBRUSH_PUBLIC_URL"):
        manifest(settings("http://127.0.0.1:8765"), http=True)


def test_the_link_carries_the_whole_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(settings(), ["--url"]) == 0
    address = urlparse(capsys.readouterr().out.strip())
    assert address.hostname == "api.slack.com"
    assert json.loads(parse_qs(address.query)["manifest_json"][0]) == manifest(settings())


def test_the_manifest_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(settings(), []) == 0
    assert json.loads(capsys.readouterr().out) == manifest(settings())


async def test_exactly_what_is_listened_to_is_in_the_manifest() -> None:
    adapter = Slack(settings(SLACK_BOT_TOKEN="xoxb-1", SLACK_APP_TOKEN="xapp-1"))
    possible = {*EVENTS, "app_home_opened", "reaction_added", "file_shared", "member_joined_channel"}
    try:
        heard = {name for name in possible if await _is_heard(adapter, _event(name))}
        assert heard == set(EVENTS)
        assert await _is_heard(adapter, {"command": COMMAND})
        for shortcut in SHORTCUTS:
            kind = "message_action" if shortcut.kind == "message" else "shortcut"
            assert await _is_heard(adapter, {"type": kind, "callback_id": shortcut.callback_id})
    finally:
        await adapter.aclose()


def _event(name: str) -> dict[str, Any]:
    return {"type": "event_callback", "event": {"type": name.partition(".")[0]}}


async def _is_heard(adapter: Slack, body: dict[str, Any]) -> bool:
    """Whether some listener is for a payload."""
    request = AsyncBoltRequest(mode="socket_mode", body=body)
    matches = [
        await listener.async_matches(req=request, resp=BoltResponse(status=200))
        for listener in adapter.app._async_listeners
    ]
    return any(matches)


def test_every_scope_is_needed_by_a_call_an_event_or_a_command() -> None:
    """Held against the local Slack, which refuses calls without their scope."""
    folder = Path(adapters.slack.__file__).parent
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    called = {name for name in METHODS if re.search(rf"\b{name.replace('.', '_')}\(", source)}
    needed = {METHODS[name].scope for name in called} - {""}
    events = {"app_mention": "app_mentions:read", "message.im": "im:history"}
    needed |= {events[name] for name in EVENTS if name in events} | {"commands"}
    # files.info, to see whether a file is processed, and downloads; users.info, for admins
    assert needed == set(SCOPES)


# --- when there is an adapter -----------------------------------------------------------------------------


def test_without_a_token_there_is_no_adapter() -> None:
    assert create(settings()) is None
    assert create(settings(SLACK_SIGNING_SECRET="s")) is None


@pytest.mark.parametrize(
    ("secrets", "missing"),
    [
        ({"SLACK_BOT_TOKEN": "xoxb-1"}, "SLACK_APP_TOKEN.*SLACK_SIGNING_SECRET"),
        ({"SLACK_APP_TOKEN": "xapp-1"}, "SLACK_BOT_TOKEN"),
        ({"SLACK_CLIENT_ID": "1"}, "SLACK_CLIENT_SECRET"),
        ({"SLACK_CLIENT_SECRET": "1", "SLACK_BOT_TOKEN": "xoxb-1"}, "SLACK_CLIENT_ID"),
        ({"SLACK_CLIENT_ID": "1", "SLACK_CLIENT_SECRET": "2"}, "SLACK_SIGNING_SECRET"),
    ],
)
def test_what_is_missing_is_said(secrets: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        create(settings(**secrets))


async def test_each_way_in_makes_an_adapter() -> None:
    for secrets in (
        {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1"},
        {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_SIGNING_SECRET": "s"},
        {"SLACK_CLIENT_ID": "1", "SLACK_CLIENT_SECRET": "2", "SLACK_SIGNING_SECRET": "s"},
        {"SLACK_CLIENT_ID": "1", "SLACK_CLIENT_SECRET": "2", "SLACK_APP_TOKEN": "xapp-1"},
    ):
        adapter = create(settings(**secrets))
        assert adapter is not None
        await adapter.aclose()
