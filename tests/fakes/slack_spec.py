"""Holding what the local Slack says against Slack's official sample payloads and answers.

A sample is the union of what may be there, with empty values that tell the type; an empty list or object is
one that was shortened and says nothing of what is in it. So: no key that the sample lacks, the same types.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from tests.fakes.slack_state import Payload

CHANNEL = re.compile(r"[CDG][A-Z0-9]{7,}_?")
# Null in a workspace without an organisation, or the other way round; or where there is nothing of the kind.
MAY_BE_NULL = {"team", "team_id", "enterprise", "enterprise_id", "previous_view_id", "submit", "close"}
# What Slack sends although the samples leave it out.
ALSO = {"view.blocks", "event.files", "errors", "req_method", "response_metadata"}
EVENTS = {
    "app_mention": "AppMentionPayload",
    "app_uninstalled": "AppUninstalledPayload",
    "tokens_revoked": "TokensRevokedPayload",
}
INTERACTIONS = {
    "block_actions": "BlockActionPayload",
    "view_submission": "ViewSubmissionPayload",
    "view_closed": "ViewSubmissionPayload",
    "message_action": "MessageShortcutPayload",
}


def folder() -> Path | None:
    """Where the samples are: FAIRBRUSH_SPECS/slack-samples."""
    specs = os.environ.get("FAIRBRUSH_SPECS")
    return Path(specs) / "slack-samples" if specs else None


@cache
def sample(path: Path) -> Any:
    """A sample file."""
    return json.loads(path.read_text())


def differences(wanted: Any, found: Any, at: str = "") -> list[str]:
    """Where a value is not of its sample's shape."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return _in_object(wanted, found, at)
    if isinstance(wanted, list) and isinstance(found, list):
        items = enumerate(found) if wanted else ()
        return [each for i, item in items for each in differences(wanted[0], item, f"{at}[{i}]")]
    if _kind(wanted) != _kind(found) and not (found is None and at.rpartition(".")[2] in MAY_BE_NULL):
        return [f"{at}: {_kind(found)} in place of {_kind(wanted)}"]
    return []


def _in_object(wanted: Payload, found: Payload, at: str) -> list[str]:
    if not wanted:
        return []
    if all(CHANNEL.fullmatch(key) for key in wanted):  # a map by channel id
        return [
            each for value in found.values() for each in differences(next(iter(wanted.values())), value, at)
        ]
    faults = []
    for key, value in found.items():
        path = f"{at}.{key}" if at else key
        if key in wanted:
            faults += differences(wanted[key], value, path)
        elif path not in ALSO:
            faults.append(f"{path}: not in the sample")
    return faults


def _kind(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


def answer_faults(method: str, answer: Payload) -> list[str]:
    """What is wrong with an answer of the Web API; nothing where there is no sample for the method."""
    return _faults(method, answer)


def payload_faults(kind: str, payload: Payload) -> list[str]:
    """What is wrong with a payload that is handed to the program."""
    if kind == "command":
        wrong = [f"{key}: not a string" for key, value in payload.items() if not isinstance(value, str)]
        return wrong + _faults("SlashCommandPayload", {**payload, "is_enterprise_install": False})
    if kind == "interaction":
        name = INTERACTIONS.get(payload["type"])
        return _faults(name, payload) if name else []
    name = EVENTS.get(payload["event"]["type"])
    if name is None:  # no sample of this event: its envelope is every event's
        return _faults("AppMentionPayload", {key: value for key, value in payload.items() if key != "event"})
    return _faults(name, payload)


def _faults(name: str, value: Payload) -> list[str]:
    where = folder()
    if where is None or not (where / f"{name}.json").exists():
        return []
    return [f"{name}: {each}" for each in differences(sample(where / f"{name}.json"), value)]
