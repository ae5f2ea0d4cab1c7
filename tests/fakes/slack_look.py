"""Reading what people see in the local Slack: words, pictures, buttons, inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes.slack_blocks import options_of
from tests.fakes.slack_state import Message, Payload, View, World
from tests.fakes.slack_trouble import Call


@dataclass(frozen=True)
class Picture:
    """A picture that is visible. file: its id, empty for one shown by address; ready: Slack can show it."""

    file: str
    data: bytes
    alt: str
    url: str = ""


def blocks_of(holder: Message | View) -> list[Payload]:
    """The blocks of a message or view."""
    blocks: list[Payload] = holder.blocks if isinstance(holder, Message) else holder.content["blocks"]
    return blocks


def pictures(world: World, holder: Message | View) -> list[Picture]:
    """Pictures in blocks and, below them, of attached files; not those whose file is deleted."""
    found: list[Picture] = []
    for block in blocks_of(holder):
        for each in (block, block.get("accessory") or {}, *block.get("elements", [])):
            if each.get("type") == "image":
                found += _of_block(world, each)
    for name in holder.files if isinstance(holder, Message) else []:
        file = world.files[name]
        if not file.deleted and file.mimetype.startswith("image/"):
            found.append(Picture(file.id, file.data or b"", file.alt))
    return found


def _of_block(world: World, block: Payload) -> Iterator[Picture]:
    if "image_url" in block:
        yield Picture("", b"", block["alt_text"], block["image_url"])
        return
    source = block["slack_file"]
    name = source.get("id") or source["url"].rpartition("/files/")[2].partition("/")[0]
    file = world.files[name]
    if not file.deleted:
        yield Picture(file.id, file.data or b"", block["alt_text"])


def words(holder: Message | View) -> str:
    """All that can be read in it, a line for each text; a message's own text only where it has no blocks."""
    lines = list(_words(blocks_of(holder)))
    if isinstance(holder, Message) and not holder.blocks:
        lines.insert(0, holder.text)
    if isinstance(holder, View) and "title" in holder.content:
        lines.insert(0, holder.content["title"]["text"])
    return "\n".join(lines)


def story(world: World, calls: Sequence[Call], failures: Sequence[tuple[str, str]]) -> str:
    """Every message, modal and failed call, a line each."""
    lines = []
    for message in sorted([*world.messages.values(), *world.ephemerals], key=lambda m: m.ts):
        place = f"{'  ' if message.thread_ts else ''}{world.channels[message.channel].name}"
        only = f" only for {world.accounts[message.only_for].name}" if message.only_for else ""
        gone = " deleted" if message.deleted else ""
        shown = f"{len(pictures(world, message))} pictures, {len(message.edits)} edits"
        lines.append(f"{place}{only}{gone}: {message.text!r} {labels(message)} {shown}")
    lines += [f"modal: {words(stack[-1])!r}" for stack in world.modals.values() if stack]
    lines += [
        f"{call.method}: {call.error or call.status}" for call in calls[-40:] if call.error or not call.status
    ]
    return "\n".join([*lines, *(text for _, text in failures)])


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("type") in ("mrkdwn", "plain_text", "text", "markdown") and isinstance(
            value.get("text"), str
        ):
            yield value["text"]
        for key, inner in value.items():
            if key not in ("options", "option_groups", "confirm", "placeholder"):
                yield from _words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _words(inner)


def elements(blocks: Sequence[Payload]) -> Iterator[tuple[Payload, Payload]]:
    """Every interactive element with its block."""
    for block in blocks:
        for each in (block.get("element"), block.get("accessory"), *block.get("elements", [])):
            if isinstance(each, dict) and "action_id" in each:
                yield block, each


def labels(holder: Message | View) -> list[str]:
    """What its buttons say, in order; menus by their placeholder."""
    return [_label(block, element) for block, element in elements(blocks_of(holder))]


def _label(block: Payload, element: Payload) -> str:
    for text in (element.get("text"), block.get("label"), element.get("placeholder")):
        if isinstance(text, dict):
            return str(text["text"])
    return str(element["action_id"])


def find(holder: Message | View, name: str) -> tuple[Payload, Payload]:
    """The element called so: its label, action_id or block_id. LookupError with what there is."""
    known = list(elements(blocks_of(holder)))
    for key in (
        lambda block, element: _label(block, element),
        lambda block, element: element["action_id"],
        lambda block, element: block["block_id"],
        lambda block, element: element.get("accessibility_label", ""),
    ):
        found = [each for each in known if key(*each) == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise LookupError(f"{name!r} is there {len(found)} times")
    raise LookupError(
        f"no {name!r}; there is {[_label(*each) + ' = ' + each[1]['action_id'] for each in known]}"
    )


def entered(element: Payload, value: Any) -> Payload:
    """An element's state after a value was entered; ValueError where Slack's client would not let them."""
    kind = element["type"]
    if kind in ("plain_text_input", "number_input", "url_text_input", "email_text_input"):
        return {"type": kind, "value": _typed(element, value)}
    if kind in ("static_select", "radio_buttons", "overflow"):
        return {"type": kind, "selected_option": None if value is None else _option(element, str(value))}
    if kind in ("checkboxes", "multi_static_select"):
        return {"type": kind, "selected_options": [_option(element, str(each)) for each in value]}
    if kind == "file_input":
        return {"type": kind, "files": list(value)}
    for what in ("conversation", "channel", "user"):
        if kind == f"{what}s_select":
            return {"type": kind, f"selected_{what}": value}
        if kind == f"multi_{what}s_select":
            return {"type": kind, f"selected_{what}s": list(value)}
    raise LookupError(f"a {kind} takes no value")


def _typed(element: Payload, value: Any) -> str | None:
    text = "" if value is None else str(value)
    if element["type"] == "plain_text_input" and text:
        if len(text) > element.get("max_length", 3000):
            raise ValueError(f"at most {element.get('max_length', 3000)} characters")
        if len(text) < element.get("min_length", 0):
            raise ValueError(f"at least {element['min_length']} characters")
    if element["type"] == "number_input" and text:
        number = float(text)
        low, high = float(element.get("min_value", number)), float(element.get("max_value", number))
        if not low <= number <= high:
            raise ValueError(f"between {low} and {high}")
        if not element["is_decimal_allowed"] and not text.lstrip("-").isdigit():
            raise ValueError("a whole number")
    return text or None


def _option(element: Payload, name: str) -> Payload:
    options = options_of(element)
    for option in options:
        if name in (option["value"], option["text"]["text"]):
            return option
    raise LookupError(f"no option {name!r}; there is {[option['text']['text'] for option in options]}")


def is_empty(value: Payload) -> bool:
    """Whether an element's state says nothing."""
    return not any(inner for key, inner in value.items() if key != "type")
