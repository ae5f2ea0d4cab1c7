"""Permutation prompts: "a {red, blue} fox" is two prompts.

It knows braces, commas and backslashes; nothing of options.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Final

from bot.core.errors import InvalidRequest
from bot.core.request import Limits

_LIMITS: Final = Limits()

# A group has no braces inside, so the innermost one counts; a backslash takes its next character along.
_GROUP: Final = re.compile(r"(?<!\\)(?P<slashes>\\*)\{(?P<inside>(?:\\.|[^{}\\])*)\}", re.DOTALL)
_ESCAPED: Final = re.compile(r"(\\+)([{}])")
_TOKEN: Final = re.compile(r"\\.|[^\\,]+|,", re.DOTALL)


def unfold(prompt: str, *, limits: Limits = _LIMITS) -> tuple[str, ...]:
    r"""The prompts that `{a, b}` groups stand for, the last group varying fastest.

    Several groups multiply. `\{` and `\}` are plain braces and `\,` in a group a plain comma; a group without
    a comma is plain text. Of nested groups the innermost counts. Raises InvalidRequest where there are more
    than `limits.max_prompts`.
    """
    parts = _parts(prompt)
    total = math.prod(len(choices) for choices in parts)
    if total > limits.max_prompts:
        shown = f"{total:,}" if total < 1_000_000 else "over a million"
        raise InvalidRequest(
            f"The groups in braces make {shown} prompts; at most {limits.max_prompts} are allowed. "
            r"Take choices out, or write \{ and \} for plain braces.",
            field="prompt",
        )
    return tuple("".join(chosen).strip() for chosen in itertools.product(*parts))


def plain(prompt: str) -> str:
    r"""`prompt` written so that unfold() gives it back alone: braces escaped where they would count."""
    if not ("{" in prompt or "}" in prompt) or _parts(prompt) == [(prompt,)]:
        return prompt
    return re.sub(r"(\\*)([{}])", lambda m: m[1] * 2 + "\\" + m[2], prompt)


def _parts(prompt: str) -> list[tuple[str, ...]]:
    """The prompt as a sequence of choices; plain text is a single choice."""
    parts: list[tuple[str, ...]] = []
    text, end = "", 0
    for group in _GROUP.finditer(prompt):
        choices = _choices(group)
        if len(choices) < 2:
            continue
        text = prompt[end : group.start()] + group["slashes"][::2]
        parts += [(_unescaped(text),), choices]
        end = group.end()
    return [*parts, (_unescaped(prompt[end:]),)]


def _choices(group: re.Match[str]) -> tuple[str, ...]:
    """What a group offers; nothing where its brace is escaped."""
    if len(group["slashes"]) % 2:
        return ()
    choices = [""]
    for piece in _TOKEN.findall(group["inside"]):
        if piece == ",":
            choices.append("")
        else:
            choices[-1] += "," if piece == r"\," else piece
    return tuple(_unescaped(choice).strip() for choice in choices)


def _unescaped(text: str) -> str:
    """Backslashes before a brace are halved, and an odd one makes the brace plain; others stay."""
    return _ESCAPED.sub(lambda m: m[1][: len(m[1]) // 2] + m[2], text)
