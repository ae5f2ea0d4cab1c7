"""Controls of private answers (lists, pages, settings): what they mean is in the control itself.

`fx:NAME[:REST]`. As with the buttons of requests, nothing in it is trusted and none needs memory.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

TEMPLATE: Final = re.compile(r"fx:(?P<name>[a-z_]{1,24})(?::(?P<rest>[0-9A-Za-z.,_-]{1,64}))?")
"""What their custom ids look like; matched whole."""


@dataclass(frozen=True, slots=True)
class Used:
    """A control that was used. rest: what else its id says; values: what was chosen from a list; data: all
    that Discord says of it, for forms."""

    name: str
    rest: str = ""
    values: Sequence[str] = ()
    data: Mapping[str, Any] | None = None


Handler: TypeAlias = "Callable[[Discord, Interaction, Used], Awaitable[None]]"


def control_id(name: str, rest: str = "") -> str:
    """ "fx:NAME[:REST]", at most 92 characters."""
    return f"fx:{name}:{rest}" if rest else f"fx:{name}"


def used(data: Mapping[str, Any]) -> Used | None:
    """What an interaction's data means; None for anything else than a control."""
    found = TEMPLATE.fullmatch(str(data.get("custom_id", "")))
    if found is None:
        return None
    values = tuple(str(value) for value in data.get("values", ()))
    return Used(found["name"], found["rest"] or "", values, data)
