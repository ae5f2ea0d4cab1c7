"""JSON as a server should read it: valid UTF-8, shallow, no key twice, no NaN.

Pure; raises ValueError with a text that is safe to show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NoReturn, cast

from bot.core.request import JSON

MAX_PARTS: Final = 256 * 1024  # characters beside texts: few large texts are cheap, many parts are not
MAX_DIGITS: Final = 1000
_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # fast where strings are pictures


def loads(body: bytes, *, max_depth: int = 16) -> JSON:
    """Parse a body. ValueError: not UTF-8, not JSON, nested deeper than max_depth, a key given twice, or with
    more than MAX_PARTS characters beside its texts."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("The body is not valid UTF-8.") from None
    bare = _STRING.sub("", text)
    if len(bare) > MAX_PARTS:
        raise ValueError(f"The JSON has too many parts: at most {MAX_PARTS:,} characters beside its texts.")
    if bare.count("[") + bare.count("{") > max_depth and _depth(bare) > max_depth:
        raise ValueError(f"The JSON is nested deeper than {max_depth} levels.")
    try:
        if text.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM (decode using utf-8-sig)", text, 0)
        return cast(JSON, _DECODER.decode(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"The body is not JSON: {error.msg} at character {error.pos}.") from None


def _depth(bare: str) -> int:
    """The deepest nesting, found before parsing: the parser itself recurses. bare: without its texts."""
    deepest = depth = 0
    for character in bare:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _unique(pairs: Sequence[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"The key {twice[:40]!r} is given twice.")
    return found


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"A number has more than {MAX_DIGITS:,} digits.")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that JSON knows.")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_whole, parse_constant=_no_constant)
