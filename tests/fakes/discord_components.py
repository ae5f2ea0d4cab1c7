"""Message components: what the local Discord refuses in them, and how it answers them.

Answered components carry an id each, and their files are resolved: `attachment://name` becomes the attachment
of that name at the same message.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from tests.fakes.discord_errors import invalid
from tests.fakes.discord_message_json import media_json
from tests.fakes.discord_state import Attachment, Json, World

ROW, BUTTON, SELECT, INPUT, SECTION, TEXT, THUMBNAIL = 1, 2, 3, 4, 9, 10, 11
GALLERY, FILE, SEPARATOR, CONTAINER, LABEL = 12, 13, 14, 17, 18
SELECTS = frozenset({3, 5, 6, 7, 8})
TOP_LEVEL = frozenset({ROW, SECTION, TEXT, GALLERY, FILE, SEPARATOR, CONTAINER})
IN_CONTAINER = TOP_LEVEL - {CONTAINER}
MOST, MOST_TEXT, MOST_LEGACY_ROWS = 40, 4000, 5


def walk(components: Sequence[Json]) -> Iterator[Json]:
    """Every component, children after their parents."""
    for each in components:
        yield each
        yield from walk(each.get("components") or ())
        for key in ("accessory", "component"):
            if each.get(key):
                yield from walk([each[key]])


def check(components: Sequence[Json], *, v2: bool) -> None:
    """Raise what Discord answers where the components break its rules."""
    _check_types(components, TOP_LEVEL if v2 else frozenset({ROW}), "components")
    everything = list(walk(components))
    if v2 and len(everything) > MOST:
        raise invalid("components", "BASE_TYPE_BAD_LENGTH", f"Must be {MOST} or fewer in length.")
    if not v2 and len(components) > MOST_LEGACY_ROWS:
        raise invalid("components", "BASE_TYPE_BAD_LENGTH", "Must be 5 or fewer in length.")
    if sum(len(each.get("content", "")) for each in everything if each["type"] == TEXT) > MOST_TEXT:
        raise invalid("components", "COMPONENT_TEXT_TOO_LONG", f"Total text is over {MOST_TEXT} characters.")
    _check_names(everything)
    for each in everything:
        _check_one(each)


def _check_types(components: Sequence[Json], allowed: frozenset[int], where: str) -> None:
    for index, each in enumerate(components):
        place = f"{where}.{index}"
        if each["type"] not in allowed:
            names = ", ".join(map(str, sorted(allowed)))
            raise invalid(f"{place}.type", "UNION_TYPE_CHOICES", f"Value must be one of {{{names}}}.")
        if each["type"] == CONTAINER:
            _check_types(each["components"], IN_CONTAINER, f"{place}.components")
        if each["type"] == SECTION:
            _check_types(each["components"], frozenset({TEXT}), f"{place}.components")
            _check_types([each["accessory"]], frozenset({BUTTON, THUMBNAIL}), f"{place}.accessory")
        if each["type"] == ROW:
            _check_types(each["components"], SELECTS | {BUTTON}, f"{place}.components")


def _check_names(everything: Sequence[Json]) -> None:
    names = [each["custom_id"] for each in everything if each.get("custom_id")]
    if len(set(names)) < len(names):
        raise invalid(
            "components", "COMPONENT_CUSTOM_ID_DUPLICATED", "Component custom id cannot be duplicated"
        )
    ids = [each["id"] for each in everything if each.get("id")]
    if len(set(ids)) < len(ids):
        raise invalid("components", "COMPONENT_ID_DUPLICATED", "Component id cannot be duplicated")


def _length(value: str | None, least: int, most: int, what: str) -> None:
    if value is not None and not least <= len(value) <= most:
        raise invalid(
            f"components.{what}", "BASE_TYPE_BAD_LENGTH", f"Must be between {least} and {most} in length."
        )


def _check_one(each: Json) -> None:
    kind = each["type"]
    _length(each.get("custom_id"), 1, 100, "custom_id")
    if kind == ROW:
        widths = [5 if child["type"] in SELECTS else 1 for child in each["components"]]
        if not 1 <= sum(widths) <= 5:
            raise invalid("components.components", "COMPONENT_LAYOUT_WIDTH_EXCEEDED", "The row is full.")
    if kind == BUTTON:
        _length(each.get("label"), 0, 80, "label")
        _check_button(each)
    if kind == TEXT:
        _length(each["content"], 1, MOST_TEXT, "content")
    if kind == GALLERY:
        if not 1 <= len(each["items"]) <= 10:
            raise invalid("components.items", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 10 in length.")
        for item in each["items"]:
            _length(item.get("description"), 1, 1024, "description")
    if kind == SELECT and not 1 <= len(each["options"]) <= 25:
        raise invalid("components.options", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 25 in length.")
    if kind == SECTION and not 1 <= len(each["components"]) <= 3:
        raise invalid("components.components", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 3 in length.")
    if kind == CONTAINER and not each["components"]:
        raise invalid("components.components", "BASE_TYPE_REQUIRED", "This field is required")


def _check_button(button: Json) -> None:
    link = button["style"] == 5
    if link != bool(button.get("url")) or (not link and not button.get("custom_id")):
        raise invalid("components.url", "BUTTON_COMPONENT_INVALID", "A link has a url, others a custom_id.")
    if not button.get("label") and not button.get("emoji"):
        raise invalid(
            "components.label", "BUTTON_COMPONENT_INVALID", "A button must have a label or an emoji."
        )


# --- answering --------------------------------------------------------------------------------------------


def resolve(world: World, components: Sequence[Json], attachments: Sequence[Attachment]) -> list[Json]:
    """Components as they are answered: with ids, defaults and files."""
    taken = {each["id"] for each in walk(components) if each.get("id")}
    numbers = (number for number in itertools.count(1) if number not in taken)
    return [_resolved(world, each, attachments, numbers) for each in components]


def _resolved(world: World, each: Json, attachments: Sequence[Attachment], numbers: Iterator[int]) -> Json:
    made = {key: value for key, value in each.items() if value is not None}
    made["id"] = made.get("id") or next(numbers)
    if "emoji" in made:
        made["emoji"] = {key: value for key, value in made["emoji"].items() if value is not None}
    for key in ("components", "accessory"):
        if isinstance(made.get(key), list):
            made[key] = [_resolved(world, child, attachments, numbers) for child in made[key]]
        elif key in made:
            made[key] = _resolved(world, made[key], attachments, numbers)
    kind = each["type"]
    if kind == GALLERY:
        made["items"] = [_item(world, item, attachments) for item in each["items"]]
    elif kind == THUMBNAIL:
        made |= _item(world, each, attachments)
    elif kind == FILE:
        file = find(each["file"]["url"], attachments)
        made |= {"file": media_json(world, file), "name": file.filename, "size": len(file.data)}
        made["spoiler"] = bool(each.get("spoiler"))
    elif kind == CONTAINER:
        made |= {"accent_color": each.get("accent_color"), "spoiler": bool(each.get("spoiler"))}
    elif kind == SEPARATOR:
        made |= {"divider": each.get("divider", True), "spacing": each.get("spacing") or 1}
    elif kind in SELECTS:
        made |= {"min_values": each.get("min_values", 1), "max_values": each.get("max_values", 1)}
    return made


def _item(world: World, item: Json, attachments: Sequence[Attachment]) -> Json:
    url = item["media"]["url"]
    shown = {"description": item.get("description"), "spoiler": bool(item.get("spoiler"))}
    if url.startswith("attachment://") or url.startswith(world.cdn):
        return shown | {"media": media_json(world, find(url, attachments))}
    foreign = {"id": str(world.new_id()), "url": url, "proxy_url": url, "width": None, "height": None}
    return shown | {"media": foreign}


def find(url: str, attachments: Sequence[Attachment]) -> Attachment:
    """The attachment that `attachment://name` or a link names."""
    name = url.removeprefix("attachment://") if url.startswith("attachment://") else None
    for each in attachments:
        if each.filename == name or (name is None and f"/{each.id}/" in url):
            return each
    raise invalid(
        "components.media.url", "UNFURLED_MEDIA_ITEM_REFERENCED_ATTACHMENT_NOT_FOUND", f"There is no {url}."
    )
