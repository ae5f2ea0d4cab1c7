"""Inputs of modals, and what they come back with. Pure; what the values mean is for each form to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from adapters.slack.blocks import Block, plain

VALUE: Final = "value"  # every input's action_id
USUAL: Final = "usual"  # the option that says nothing
LONGEST: Final = 3000  # characters of an input
MOST_OPTIONS: Final = 99
MOST_IDS: Final = 100

CHANNELS: Final = {"include": ["public", "private"], "exclude_bot_users": True}
"""Conversations that the program can be invited to."""


# --- opening ----------------------------------------------------------------------------------------------


def field(name: str, label: str, element: Block, *, needed: bool = False, hint: str = "") -> Block:
    """An input block. name: its block_id; hint: small, below it."""
    made: Block = {
        "type": "input",
        "block_id": name,
        "label": plain(label),
        "element": element,
        "optional": not needed,
    }
    return {**made, "hint": plain(hint[:2000])} if hint else made


def text(
    name: str,
    label: str,
    value: str = "",
    *,
    multiline: bool = False,
    needed: bool = False,
    placeholder: str = "",
    hint: str = "",
    most: int = 100,
) -> Block:
    """A text. most: its characters."""
    element: Block = {
        "type": "plain_text_input",
        "action_id": VALUE,
        "multiline": multiline,
        "max_length": most,
    }
    if value:
        element["initial_value"] = value[:most]
    if placeholder:
        element["placeholder"] = plain(placeholder[:150])
    return field(name, label, element, needed=needed, hint=hint)


def select(name: str, label: str, said: str, offered: Mapping[str, str], *, hint: str = "") -> Block:
    """One of several. offered: value -> title, the usual one first; said: what is chosen, offered or not."""
    shown = dict(list(offered.items())[:MOST_OPTIONS])
    if said and said not in shown:
        shown[said] = said
    options = [{"text": plain(title[:75]), "value": value[:150]} for value, title in shown.items()]
    chosen = next((option for option in options if option["value"] == said), options[0])
    element = {
        "type": "static_select",
        "action_id": VALUE,
        "options": options,
        "initial_option": chosen,
    }
    return field(name, label, element, hint=hint)


def radio(name: str, label: str, said: str, offered: Mapping[str, str]) -> Block:
    """One of a few, all to be seen."""
    options = [{"text": plain(title[:75]), "value": value} for value, title in offered.items()]
    chosen = next((option for option in options if option["value"] == said), options[0])
    element = {"type": "radio_buttons", "action_id": VALUE, "options": options, "initial_option": chosen}
    return field(name, label, element)


def conversation(name: str, label: str, said: str, *, placeholder: str, hint: str = "") -> Block:
    """A channel; where none is said, the one that the reader looks at."""
    element: Block = {
        "type": "conversations_select",
        "action_id": VALUE,
        "filter": CHANNELS,
        "placeholder": plain(placeholder[:150]),
        **({"initial_conversation": said} if said else {"default_to_current_conversation": True}),
    }
    return field(name, label, element, hint=hint)


def conversations(name: str, label: str, said: Sequence[str], *, placeholder: str, hint: str = "") -> Block:
    """Channels."""
    element: Block = {
        "type": "multi_conversations_select",
        "action_id": VALUE,
        "filter": CHANNELS,
        "placeholder": plain(placeholder[:150]),
        "max_selected_items": MOST_IDS,
        **({"initial_conversations": list(said)} if said else {}),
    }
    return field(name, label, element, hint=hint)


def people(name: str, label: str, said: Sequence[str], *, placeholder: str, hint: str = "") -> Block:
    """Members of the workspace."""
    element: Block = {
        "type": "multi_users_select",
        "action_id": VALUE,
        "placeholder": plain(placeholder[:150]),
        "max_selected_items": MOST_IDS,
        **({"initial_users": list(said)} if said else {}),
    }
    return field(name, label, element, hint=hint)


# --- coming back ------------------------------------------------------------------------------------------


def values_in(view: Mapping[str, Any]) -> dict[str, str]:
    """What a view's inputs say, by their block; what is empty or usual is left out."""
    found: dict[str, str] = {}
    for name, entry in _entries(view).items():
        option = entry.get("selected_option") or {}
        value = str(entry.get("value") or option.get("value") or entry.get("selected_conversation") or "")
        if value.strip() and value != USUAL:
            found[name] = value
    return found


def lists_in(view: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What is chosen where several can be, by block, also where nothing is."""
    found: dict[str, tuple[str, ...]] = {}
    for name, entry in _entries(view).items():
        for kind in ("selected_conversations", "selected_users"):
            if isinstance(chosen := entry.get(kind), Sequence) and not isinstance(chosen, str):
                found[name] = tuple(str(each) for each in chosen)
    return found


def _entries(view: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    values = (view.get("state") or {}).get("values") or {}
    return {name: entries.get(VALUE) or {} for name, entries in values.items()}
