"""What is done to every text that comes in: characters that deceive or break things are taken out.

It knows nothing of options or of a platform's markup; adapters escape.
"""

from __future__ import annotations

import unicodedata
from typing import Final

MARKS_KEPT: Final = 3
"""Combining marks kept on one letter; scripts in use need no more."""

# Format characters (Cf) that are seen, so they stay: Arabic and other number and verse signs.
_SEEN: Final = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
# Invisible letters and marks that are no format characters: joiners and Hangul and Khmer fillers.
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_BREAKS: Final = frozenset("\n\u2028\u2029")
_BLANKS: Final = frozenset("\t\v\f\u2800")


def clean(text: str) -> str:
    """`text` without control characters, lone surrogates, bidi controls, zero-width and non-characters.

    Line breaks become "\\n", every other space " ", and at most MARKS_KEPT combining marks stay on a letter.
    Cleaning twice changes nothing more.
    """
    if text.isascii() and text.isprintable():
        return text
    kept: list[str] = []
    marks = 0
    for char in text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n"):
        shown = _shown(char)
        if not shown:
            continue
        if unicodedata.category(char) in ("Mn", "Me"):
            marks += 1
            if marks > MARKS_KEPT:
                continue
        elif unicodedata.category(char) != "Mc":
            marks = 0
        kept.append(shown)
    return "".join(kept)


def _shown(char: str) -> str:
    """The character that stands for `char`, or nothing."""
    if char in _BREAKS:
        return "\n"
    category = unicodedata.category(char)
    if char in _BLANKS or category == "Zs":
        return " "
    if char in _UNSEEN or category in ("Cc", "Cs") or (category == "Cf" and char not in _SEEN):
        return ""
    return "" if _is_noncharacter(ord(char)) else char


def _is_noncharacter(code: int) -> bool:
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def clip(text: str, limit: int = 80) -> str:
    """`text` on one line, at most `limit` (>= 1) characters, the last an ellipsis where something is cut.

    A letter is not parted from its marks, an emoji not from its skin tone, nor a flag in its middle.
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    end = limit - 1
    while end > 0 and _joined(line, end):
        end -= 1
    return line[:end].rstrip() + "…"


def _joined(line: str, at: int) -> bool:
    """Whether a cut before `at` would part what is seen as one character."""
    char = line[at]
    if unicodedata.category(char) in ("Mn", "Me", "Mc") or "\U0001f3fb" <= char <= "\U0001f3ff":
        return True
    if "\u200d" in (char, line[at - 1]):
        return True
    flags_before = len(line[:at]) - len(line[:at].rstrip(_REGIONAL))
    return char in _REGIONAL and flags_before % 2 == 1


_REGIONAL: Final = "".join(map(chr, range(0x1F1E6, 0x1F200)))
