"""Text that came from outside, made safe to keep and to show. Knows nothing of platforms' markup.

What is removed cannot be seen by the people who read the text, and can mislead them or a filter: control
characters, lone surrogates, marks that reverse the reading direction, characters of no width, and heaps of
combining marks ("zalgo").
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_MARKS: Final = 3
"""Combining marks kept on one letter: enough for every living script's ordinary text."""

# Everything of the categories Cc (but for tab and newlines), Cs and Cf that hides or reverses text. The
# joiner (U+200D) is treated on its own: emoji of several parts are written with it.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
_LINE_ENDS: Final = re.compile("\r\n?|[\x85\u2028\u2029]")
_JOINER: Final = "\u200d"


def clean(text: str) -> str:
    """`text` in NFC without what cannot be seen; line ends become "\\n", tabs spaces. Idempotent.

    >>> clean("a\\u202e cat\\x00\\ud800")
    'a cat'
    """
    text = _UNSEEN.sub("", _LINE_ENDS.sub("\n", text).replace("\t", " "))
    if text.isascii():
        return text
    return _few_marks(unicodedata.normalize("NFC", _without_stray_joiners(text)))


def one_line(text: str) -> str:
    """`clean(text)` with every run of white space as one space, and none at its ends."""
    return " ".join(clean(text).split())


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters; what is cut ends in an ellipsis, at the end of a word if one is near."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space > limit * 0.8 else cut).rstrip() + "…"


def _few_marks(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)


def _without_stray_joiners(text: str) -> str:
    """Keep a joiner only between two parts of an emoji; elsewhere it splits words before a filter's eyes."""
    if _JOINER not in text:
        return text
    parts = text.split(_JOINER)
    joined = parts[0]
    for part in parts[1:]:
        joined += (_JOINER if _is_emoji(joined[-1:]) and _is_emoji(part[:1]) else "") + part
    return joined


def _is_emoji(character: str) -> bool:
    # So: pictographs; Sk: skin tones; U+FE0F: the selector of the coloured form.
    return character == "\ufe0f" or (character != "" and unicodedata.category(character) in ("So", "Sk"))
