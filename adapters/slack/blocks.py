"""Block Kit, as far as it is used here.

What people typed goes into rich text and plain text alone: there nothing is parsed, so no mention, link or
emoji comes of it. A line of rich text also has a form for notifications (`spoken`), which is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

Block: TypeAlias = dict[str, Any]

MAX_ALT: Final = 2000
MAX_TEXT: Final = 3000
MAX_VALUE: Final = 2000


def escape(text: str) -> str:
    """`text` for mrkdwn: no mention and no link comes of it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- rich text --------------------------------------------------------------------------------------------


def words(text: str, *, bold: bool = False) -> Block:
    """Literal text."""
    made: Block = {"type": "text", "text": text}
    return {**made, "style": {"bold": True}} if bold else made


def emoji(name: str) -> Block:
    """An emoji by its name."""
    return {"type": "emoji", "name": name}


def person(user: str) -> Block:
    """A mention."""
    return {"type": "user", "user_id": user}


def moment(at: float) -> Block:
    """A time of day, in the reader's own zone."""
    shown = datetime.fromtimestamp(at, UTC).strftime("%H:%M UTC")
    return {"type": "date", "timestamp": int(at), "format": "{time}", "fallback": shown}


def spoken(line: Iterable[Block]) -> str:
    """A line of rich text as mrkdwn, for notifications."""
    return "".join(_spoken(element) for element in line)


def _spoken(element: Block) -> str:
    match element["type"]:
        case "emoji":
            return f":{element['name']}:"
        case "user":
            return f"<@{element['user_id']}>"
        case "channel":
            return f"<#{element['channel_id']}>"
        case "date":
            return f"<!date^{element['timestamp']}^{element['format']}|{element['fallback']}>"
    text = escape(element["text"])
    return f"*{text}*" if element.get("style", {}).get("bold") else text


def rich(line: Sequence[Block]) -> Block:
    """A line of rich text as a block."""
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(line)}]}


# --- other blocks -----------------------------------------------------------------------------------------


def plain(text: str) -> Block:
    """A text object in which nothing is parsed."""
    return {"type": "plain_text", "text": text[:MAX_TEXT] or " ", "emoji": False}


def section(text: str) -> Block:
    """Words of ours, as mrkdwn; what others typed must be escaped."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:MAX_TEXT], "verbatim": True}}


def literal(text: str) -> Block:
    """A section in which nothing is parsed."""
    return {"type": "section", "text": plain(text)}


def header(text: str) -> Block:
    """A heading."""
    return {"type": "header", "text": plain(text[:150])}


def preformatted(text: str) -> Block:
    """Text to be copied; nothing in it is parsed."""
    return {"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": [words(text)]}]}


def context(*texts: str) -> list[Block]:
    """Small grey lines in which nothing is parsed; no block where there is nothing to say."""
    elements = [plain(text) for text in texts if text]
    return [{"type": "context", "elements": elements[:10]}] if elements else []


def image(file_id: str, alt_text: str) -> Block:
    """A picture that was uploaded."""
    return {"type": "image", "slack_file": {"id": file_id}, "alt_text": alt_text[:MAX_ALT] or "A picture"}


def button(
    label: str, action: str, value: str, *, style: str = "", described: str = "", confirm: Block | None = None
) -> Block:
    """A button. style: primary or danger; described: for screen readers."""
    made: Block = {
        "type": "button",
        "text": {"type": "plain_text", "text": label[:75], "emoji": True},
        "action_id": action,
        "value": value[:MAX_VALUE],
    }
    if style:
        made["style"] = style
    if described:
        made["accessibility_label"] = described[:75]
    if confirm:
        made["confirm"] = confirm
    return made


def confirmed(title: str, text: str, yes: str, no: str) -> Block:
    """A question that a button asks first."""
    return {
        "title": plain(title),
        "text": plain(text),
        "confirm": plain(yes),
        "deny": plain(no),
        "style": "danger",
    }


def actions(*buttons: Block) -> list[Block]:
    """A row of buttons; no block where there is none."""
    return [{"type": "actions", "elements": list(buttons)}] if buttons else []
