"""Text as Slack sends it, back to what was typed. The grammar repairs dashes and quotes; this undoes Slack's
own markup: escapes, mentions, channels and links."""

from __future__ import annotations

import re
from typing import Final

_MARKUP: Final = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


def typed(text: str, *, bot: str = "") -> str:
    """What a person typed. bot: the program's own user id, whose mentions are left out."""
    return unescape(_MARKUP.sub(lambda found: _plain(found, bot), text)).strip()


def unescape(text: str) -> str:
    """Without the three escapes; `&amp;lt;` is the text "&lt;"."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _plain(found: re.Match[str], bot: str) -> str:
    sign, name, label = found[1], found[2], found[3] or ""
    if sign == "@":
        return "" if bot and name == bot else f"@{label or name}"
    if sign == "#":
        return f"#{label or name}"
    if sign == "!":
        return label or "@" + name.partition("^")[0]
    return label or name.removeprefix("mailto:")
