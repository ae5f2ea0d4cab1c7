"""What a button does and to which request, written into the button itself, so that it survives a restart.

`fb:ACTION:GROUP[:INDEX]`: GROUP is a group's id or a draft's token, INDEX a picture's place in the group
(0-based). Nothing in it is trusted: whoever acts on it checks who pressed and what there is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """What a button asks for. EDIT opens a refused request (its id is a draft's token), the others speak of
    a group; SHOW shows it anew where its message cannot be reached any more."""

    CANCEL = "cancel"
    WHY = "why"
    AGAIN = "again"
    VARY = "vary"
    UPSCALE = "upscale"
    REMIX = "remix"
    DELETE = "delete"
    RETRY = "retry"
    EDIT = "edit"
    SHOW = "show"


TEMPLATE: Final = re.compile(
    rf"fb:(?P<action>{'|'.join(Action)}):(?P<group>[0-9A-Za-z]{{1,32}})(?::(?P<index>[0-9]{{1,3}}))?"
)
"""What custom ids of this program look like; matched whole."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button's meaning. index: 0-based over the group's pictures, None where it speaks of all."""

    action: Action
    group_id: str
    index: int | None = None


def custom_id(action: Action, group_id: str, index: int | None = None) -> str:
    """ "fb:again:GROUPID[:2]", at most 100 characters."""
    return f"fb:{action}:{group_id}" + ("" if index is None else f":{index}")


def parse(text: str) -> Pressed | None:
    """The inverse; None for anything else."""
    found = TEMPLATE.fullmatch(text)
    if found is None:
        return None
    index = found["index"]
    return Pressed(Action(found["action"]), found["group"], None if index is None else int(index))
