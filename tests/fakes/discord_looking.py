"""How a message at the local Discord looks: its words, buttons and pictures."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fakes.discord_bodies import text_of
from tests.fakes.discord_components import BUTTON, GALLERY, walk
from tests.fakes.discord_state import Attachment, Message


@dataclass(frozen=True, slots=True)
class Button:
    """A button as people see it."""

    label: str
    custom_id: str
    disabled: bool
    style: int
    url: str = ""
    emoji: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An item of a gallery. data: the attachment's bytes."""

    filename: str
    description: str | None
    spoiler: bool
    data: bytes
    width: int | None
    height: int | None


def text(message: Message) -> str:
    """All its words, in order: content, text displays, embeds."""
    return text_of(message)


def buttons(message: Message) -> list[Button]:
    """Its buttons, in order."""
    return [
        Button(
            each.get("label", ""),
            each.get("custom_id", ""),
            bool(each.get("disabled")),
            each["style"],
            each.get("url") or "",
            (each.get("emoji") or {}).get("name", ""),
        )
        for each in walk(message.components)
        if each["type"] == BUTTON
    ]


def labels(message: Message, *, disabled: bool = False) -> list[str]:
    """What its usable buttons say; with `disabled`, the others too."""
    return [each.label or each.emoji for each in buttons(message) if disabled or not each.disabled]


def pictures(message: Message) -> list[Picture]:
    """What its galleries show, in order; without a gallery its attached pictures."""
    by_id = {str(each.id): each for each in message.attachments}
    items = [item for each in walk(message.components) if each["type"] == GALLERY for item in each["items"]]
    shown = [
        _picture(by_id[item["media"]["attachment_id"]], item["description"], item["spoiler"])
        for item in items
        if "attachment_id" in item["media"]
    ]
    if items:
        return shown
    plain = [each for each in message.attachments if each.mime.startswith("image/")]
    return [_picture(each, each.description, each.spoiler) for each in plain]


def _picture(file: Attachment, description: str | None, spoiler: bool) -> Picture:
    width, height = file.size or (None, None)
    return Picture(file.filename, description, spoiler or file.spoiler, file.data, width, height)


def line_of(message: Message) -> str:
    """A message in one line, for a failing test."""
    shown = text(message).replace("\n", " / ")
    files = f"+{len(message.attachments)} files, flags {message.flags}"
    return f"{message.author.name}: {shown} {labels(message)} {files}"
