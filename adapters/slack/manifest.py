"""`fairbrush slack-manifest`: the Slack app as one file, with exactly what the program uses; --url: as a link
that makes the app in one click."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from adapters.slack.names import BOT_NAME, COMMAND, EVENTS, SCOPES, SHORTCUTS
from bot.core.errors import ConfigurationError
from bot.core.settings import Settings

NEW_APP: Final = "https://api.slack.com/apps?new_app=1"
DESCRIPTION: Final = "Makes pictures from words, in a line that is fair to everybody"
USAGE: Final = "a red fox in snow --ar 16:9"


def main(settings: Settings, arguments: Sequence[str]) -> int:
    """Print the manifest, or its link. Returns the exit code. Raises ConfigurationError."""
    parser = argparse.ArgumentParser(
        prog="fairbrush slack-manifest", description="Print the manifest of the Slack app."
    )
    parser.add_argument("--url", action="store_true", help="a link that makes the app in one click")
    parser.add_argument(
        "--http", action="store_true", help="Slack reaches FAIRBRUSH_PUBLIC_URL, instead of Socket Mode"
    )
    asked = parser.parse_args(list(arguments))
    made = manifest(settings, http=asked.http)
    sys.stdout.write((link(made) if asked.url else json.dumps(made, indent=2)) + "\n")
    return 0


def link(made: dict[str, Any]) -> str:
    """The one-click address."""
    return f"{NEW_APP}&{urlencode({'manifest_json': json.dumps(made, separators=(',', ':'))})}"


def manifest(settings: Settings, *, http: bool = False) -> dict[str, Any]:
    """The app. Socket Mode needs no address; HTTP mode, and installing by OAuth, need a public one."""
    base = settings.public_url
    if http and not base.startswith("https://"):
        raise ConfigurationError(
            "FAIRBRUSH_PUBLIC_URL must be an https:// address that Slack can reach, for HTTP mode. "
            "Set it, or leave --http out: Socket Mode needs none."
        )
    events = f"{base}/slack/events" if http else ""
    return {
        "_metadata": {"major_version": 1, "minor_version": 1},
        "display_information": {
            "name": "Fairbrush",
            "description": DESCRIPTION,
            "background_color": "#2b4a3f",
        },
        "features": _features(events),
        "oauth_config": {
            **({"redirect_urls": [f"{base}/slack/oauth_redirect"]} if base.startswith("https://") else {}),
            "scopes": {"bot": sorted(SCOPES)},
        },
        "settings": {
            "event_subscriptions": {**_url(events, "request_url"), "bot_events": sorted(EVENTS)},
            "interactivity": {"is_enabled": True, **_url(events, "request_url")},
            "org_deploy_enabled": base.startswith("https://"),
            "socket_mode_enabled": not http,
            "token_rotation_enabled": False,
        },
    }


def _features(events: str) -> dict[str, Any]:
    command = {
        "command": COMMAND,
        **_url(events, "url"),
        "description": "Make a picture",
        "usage_hint": USAGE,
        "should_escape": False,
    }
    shortcuts = [
        {
            "name": each.name,
            "type": each.kind,
            "callback_id": each.callback_id,
            "description": each.description,
        }
        for each in SHORTCUTS
    ]
    return {
        "app_home": {
            "home_tab_enabled": "app_home_opened" in EVENTS,
            "messages_tab_enabled": True,
            "messages_tab_read_only_enabled": False,
        },
        "bot_user": {"display_name": BOT_NAME, "always_online": True},
        **({"shortcuts": shortcuts} if shortcuts else {}),
        "slash_commands": [command],
    }


def _url(address: str, name: str) -> dict[str, str]:
    return {name: address} if address else {}
