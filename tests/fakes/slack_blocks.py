"""Block Kit's rules, as far as the program may use it: check_blocks and check_view say what Slack would.

Every fault is a line like "must be less than 76 characters [json-pointer:/blocks/0/elements/1/text/text]".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.fakes.slack_state import Payload

Usable = Callable[[str], bool]  # whether a file with this id may be shown
Faults = Iterator[str]

OPTION_TEXT, OPTION_VALUE = 75, 150
SELECTS = {"static_select", "multi_static_select", "radio_buttons", "checkboxes", "overflow"}
PICKERS = {
    f"{many}{what}_select" for many in ("", "multi_") for what in ("conversations", "channels", "users")
}
INPUTS = {
    "plain_text_input",
    "number_input",
    "url_text_input",
    "email_text_input",
    "datepicker",
    "timepicker",
    "file_input",
}
MOST_OPTIONS = {"radio_buttons": 10, "checkboxes": 10, "overflow": 5}
IN_INPUT = (INPUTS | SELECTS | PICKERS) - {"overflow"}
IN_MODALS_ONLY = {"number_input", "url_text_input", "email_text_input", "file_input"}
IN_ACTIONS = SELECTS | PICKERS | {"button", "datepicker", "timepicker"}


def _at(fault: str, path: str) -> str:
    return f"{fault} [json-pointer:{path}]"


def _string(value: Any, most: int, path: str, *, least: int = 1) -> Faults:
    if not isinstance(value, str):
        yield _at("must be a string", path)
    elif len(value) > most:
        yield _at(f"must be less than {most + 1} characters", path)
    elif len(value) < least:
        yield _at(f"must be more than {least - 1} characters", path)


def _maybe(holder: Payload, key: str, most: int, path: str) -> Faults:
    if key in holder:
        yield from _string(holder[key], most, f"{path}/{key}")


def _text(value: Any, most: int, path: str, *, plain: bool = False) -> Faults:
    if not isinstance(value, dict):
        yield _at("missing required field: text", path)
        return
    allowed = {"plain_text"} if plain else {"plain_text", "mrkdwn"}
    if value.get("type") not in allowed:
        yield _at(f"must be one of {sorted(allowed)}", f"{path}/type")
    if value.get("type") == "mrkdwn" and "emoji" in value:
        yield _at("invalid additional property: emoji", path)
    yield from _string(value.get("text"), most, f"{path}/text")


def _confirm(value: Payload, path: str) -> Faults:
    yield from _text(value.get("title"), 100, f"{path}/title", plain=True)
    yield from _text(value.get("text"), 300, f"{path}/text")
    yield from _text(value.get("confirm"), 30, f"{path}/confirm", plain=True)
    yield from _text(value.get("deny"), 30, f"{path}/deny", plain=True)


def _option(value: Any, path: str, *, plain: bool) -> Faults:
    if not isinstance(value, dict):
        yield _at("must be an object", path)
        return
    yield from _text(value.get("text"), OPTION_TEXT, f"{path}/text", plain=plain)
    yield from _string(value.get("value"), OPTION_VALUE, f"{path}/value")
    if "description" in value:
        yield from _text(value["description"], OPTION_TEXT, f"{path}/description", plain=plain)


def options_of(element: Payload) -> list[Payload]:
    """Every option of a select, groups opened."""
    groups: list[Payload] = element.get("option_groups") or []
    return [*(element.get("options") or []), *(option for group in groups for option in group["options"])]


def _select(element: Payload, path: str) -> Faults:
    kind = element["type"]
    plain = kind not in ("radio_buttons", "checkboxes")
    for index, group in enumerate(element.get("option_groups") or []):
        yield from _text(group.get("label"), 75, f"{path}/option_groups/{index}/label", plain=True)
    options = options_of(element)
    most = MOST_OPTIONS.get(kind, 100)
    if not 1 <= len(options) <= most:
        yield _at(f"must have between 1 and {most} items", f"{path}/options")
    for index, option in enumerate(options):
        yield from _option(option, f"{path}/options/{index}", plain=plain)
    values = [option.get("value") for option in options]
    if len(set(values)) != len(values):
        yield _at("option values must be unique", f"{path}/options")
    chosen = element.get("initial_options") or (
        [element["initial_option"]] if "initial_option" in element else []
    )
    for option in chosen:
        if option not in options:
            yield _at("initial option must match one of the options exactly", f"{path}/initial_option")


def _element(element: Any, allowed: set[str], path: str, usable: Usable) -> Faults:
    kind = element.get("type") if isinstance(element, dict) else None
    if kind not in allowed:
        yield _at(f"unsupported type: {kind}", path)
        return
    if kind == "image":
        yield from _image(element, path, usable)
        return
    yield from _maybe(element, "action_id", 255, path)
    if "placeholder" in element:
        yield from _text(element["placeholder"], 150, f"{path}/placeholder", plain=True)
    if "confirm" in element:
        yield from _confirm(element["confirm"], f"{path}/confirm")
    if kind == "button":
        yield from _button(element, path)
    elif kind in SELECTS:
        yield from _select(element, path)
    elif kind == "plain_text_input":
        yield from _maybe(element, "initial_value", 3000, path)
        if not 0 <= int(element.get("min_length", 0)) <= int(element.get("max_length", 3000)) <= 3000:
            yield _at("min_length and max_length must be within 0 and 3000", path)
    elif kind == "number_input" and not isinstance(element.get("is_decimal_allowed"), bool):
        yield _at("missing required field: is_decimal_allowed", path)
    elif kind == "file_input" and not 1 <= int(element.get("max_files", 10)) <= 10:
        yield _at("must be between 1 and 10", f"{path}/max_files")


def _button(element: Payload, path: str) -> Faults:
    yield from _text(element.get("text"), 75, f"{path}/text", plain=True)
    yield from _maybe(element, "value", 2000, path)
    yield from _maybe(element, "url", 3000, path)
    yield from _maybe(element, "accessibility_label", 75, path)
    if element.get("style", "primary") not in ("primary", "danger"):
        yield _at("must be one of primary, danger", f"{path}/style")


def _image(block: Payload, path: str, usable: Usable) -> Faults:
    yield from _string(block.get("alt_text"), 2000, f"{path}/alt_text")
    if "title" in block:
        yield from _text(block["title"], 2000, f"{path}/title", plain=True)
    if ("image_url" in block) == ("slack_file" in block):
        yield _at("must have exactly one of image_url, slack_file", path)
    elif "image_url" in block:
        yield from _string(block["image_url"], 3000, f"{path}/image_url")
        if not str(block["image_url"]).startswith(("https://", "http://")):
            yield _at("invalid_url", f"{path}/image_url")
    else:
        file = block["slack_file"]
        name = (
            file.get("id") or str(file.get("url", "")).rstrip("/").rpartition("/files/")[2].partition("/")[0]
        )
        if not usable(name):
            yield _at("invalid slack file", f"{path}/slack_file")


def _section(block: Payload, path: str, usable: Usable) -> Faults:
    if "text" not in block and not block.get("fields"):
        yield _at("missing required field: text", path)
    if "text" in block:
        yield from _text(block["text"], 3000, f"{path}/text")
    fields = block.get("fields", [])
    if len(fields) > 10:
        yield _at("no more than 10 items allowed", f"{path}/fields")
    for index, each in enumerate(fields):
        yield from _text(each, 2000, f"{path}/fields/{index}")
    if "accessory" in block:
        yield from _element(block["accessory"], IN_ACTIONS | {"image"}, f"{path}/accessory", usable)


def _context(block: Payload, path: str, usable: Usable) -> Faults:
    elements = block.get("elements", [])
    if not 1 <= len(elements) <= 10:
        yield _at("must have between 1 and 10 items", f"{path}/elements")
    for index, each in enumerate(elements):
        at = f"{path}/elements/{index}"
        if each.get("type") == "image":
            yield from _image(each, at, usable)
        else:
            yield from _text(each, 3000, at)


def _actions(block: Payload, path: str, usable: Usable) -> Faults:
    elements = block.get("elements", [])
    if not 1 <= len(elements) <= 25:
        yield _at("must have between 1 and 25 items", f"{path}/elements")
    names = [each["action_id"] for each in elements if "action_id" in each]
    if len(set(names)) != len(names):
        yield _at("`action_id` must be unique within a block", f"{path}/elements")
    for index, each in enumerate(elements):
        yield from _element(each, IN_ACTIONS, f"{path}/elements/{index}", usable)


def _input(block: Payload, path: str, usable: Usable) -> Faults:
    yield from _text(block.get("label"), 2000, f"{path}/label", plain=True)
    if "hint" in block:
        yield from _text(block["hint"], 2000, f"{path}/hint", plain=True)
    allowed = IN_INPUT if path.startswith("/view/") else IN_INPUT - IN_MODALS_ONLY
    yield from _element(block.get("element"), allowed, f"{path}/element", usable)


def _block(block: Any, path: str, usable: Usable) -> Faults:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "section":
        yield from _section(block, path, usable)
    elif kind == "context":
        yield from _context(block, path, usable)
    elif kind == "actions":
        yield from _actions(block, path, usable)
    elif kind == "input":
        yield from _input(block, path, usable)
    elif kind == "image":
        yield from _image(block, path, usable)
    elif kind == "header":
        yield from _text(block.get("text"), 150, f"{path}/text", plain=True)
    elif kind == "markdown":
        yield from _string(block.get("text"), 12_000, f"{path}/text")
    elif kind == "rich_text":
        if not isinstance(block.get("elements"), list):
            yield _at("missing required field: elements", path)
    elif kind != "divider":
        yield _at(f"unsupported type: {kind}", path)


def text_length(value: Any) -> int:
    """How many characters of text there are in blocks."""
    if isinstance(value, dict):
        own = len(value["text"]) if isinstance(value.get("text"), str) else 0
        return own + sum(text_length(inner) for inner in value.values())
    return sum(text_length(inner) for inner in value) if isinstance(value, list) else 0


def check_blocks(blocks: Any, usable: Usable, *, most: int = 50, path: str = "/blocks") -> list[str]:
    """What is wrong with a list of blocks; most: how many may be there (50 in a message, 100 in a view)."""
    if not isinstance(blocks, list):
        return [_at("must be an array", path)]
    faults = []
    if len(blocks) > most:
        faults.append(_at(f"no more than {most} items allowed", path))
    seen: set[str] = set()
    for index, block in enumerate(blocks):
        at = f"{path}/{index}"
        faults += _block(block, at, usable)
        if isinstance(block, dict) and "block_id" in block:
            faults += _string(block["block_id"], 255, f"{at}/block_id")
            if block["block_id"] in seen:
                faults.append(_at("`block_id` already exists", f"{at}/block_id"))
            seen.add(block["block_id"])
    return faults


def check_view(view: Any, usable: Usable) -> list[str]:
    """What is wrong with a modal or an App Home."""
    if not isinstance(view, dict) or view.get("type") not in ("modal", "home"):
        return [_at("must be a modal or a home view", "/view/type")]
    faults = list(check_blocks(view.get("blocks"), usable, most=100, path="/view/blocks"))
    faults += _maybe(view, "callback_id", 255, "/view")
    faults += _maybe(view, "external_id", 255, "/view")
    if "private_metadata" in view:
        faults += _string(view["private_metadata"], 3000, "/view/private_metadata", least=0)
    inputs = any(isinstance(b, dict) and b.get("type") == "input" for b in view.get("blocks") or [])
    if view["type"] == "modal":
        faults += _text(view.get("title"), 24, "/view/title", plain=True)
        for key in ("submit", "close"):
            if key in view:
                faults += _text(view[key], 24, f"/view/{key}", plain=True)
        if inputs and "submit" not in view:
            faults.append(_at("missing required field: submit", "/view"))
    else:
        faults += [
            _at(f"invalid additional property: {key}", "/view") for key in ("title", "submit") if key in view
        ]
    if len(json.dumps(view)) > 250_000:
        faults.append(_at("view is too large", "/view"))
    return faults


def with_ids(blocks: list[Payload], fresh: Callable[[], str]) -> list[Payload]:
    """The blocks with what Slack adds: ids for blocks and for elements that have none."""
    made = []
    for block in blocks:
        block = {**block, "block_id": block.get("block_id") or fresh()}
        if "elements" in block and block["type"] == "actions":
            block["elements"] = [
                {**each, "action_id": each.get("action_id") or fresh()} for each in block["elements"]
            ]
        for key in ("element", "accessory"):
            if key in block and block[key].get("type") != "image":
                block[key] = {**block[key], "action_id": block[key].get("action_id") or fresh()}
        made.append(block)
    return made
