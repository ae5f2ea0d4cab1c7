"""Text for Discord: people's words made harmless, times and mentions.

Knows Discord's markdown and nothing of what is said.
"""

from __future__ import annotations

import math
import re
from typing import Final

from bot.core.messages import one_line
from bot.core.text import clean, clip

TEXT_MOST: Final = 4000
"""Characters of all texts of one message."""
ALT_MOST, THREAD_NAME_MOST = 1024, 100

_MARKUP: Final = re.compile(r"([\\`*_~|<>\[\]@]|(?<=:)/|(?<=:/)/)")
_GRID: Final = 15  # seconds; as coarse as the core's idea of "the same time"


def escape(text: str) -> str:
    """Plain words that stay plain: no markdown, mention, link or timestamp comes alive, and no invisible or
    direction-changing character is kept. Not for the beginning of a line, where # and - mean something."""
    return _MARKUP.sub(r"\\\1", clean(text))


def title(prompt: str) -> str:
    """A prompt on one line in bold, at most 80 characters of it."""
    return f"**{escape(one_line(clean(prompt))) or '…'}**"


def code(text: str) -> str:
    """A text whole, in a code span that it cannot leave; line breaks become spaces. Three backticks in a row
    end any span of Discord's, however long its own: such a text is escaped instead."""
    line = " ".join(clean(text).split())
    if "```" in line:
        return ("\\" if line[0] in "#-" else "") + escape(line)
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def mention(user: str) -> str:
    """How a message names a user; whether that notifies anybody is another matter."""
    return f"<@{user}>"


def soon(by: float) -> str:
    """ "in 2 minutes", ticking by itself. A little later than `by`, on a grid, so that two times that count
    as the same read the same and none that is shown has passed before its edit arrives."""
    return f"<t:{round(by / _GRID) * _GRID + _GRID}:R>"


def at(time: float) -> str:
    """A relative time, as it is."""
    return f"<t:{math.ceil(time)}:R>"


def small(text: str) -> str:
    """A line in small print; nothing for nothing."""
    return f"-# {text}" if text else ""


def lines(*parts: str) -> str:
    """The non-empty parts, one a line."""
    return "\n".join(filter(None, parts))


def thread_name(prompt: str) -> str:
    """1 to 100 characters."""
    return clip(clean(prompt), THREAD_NAME_MOST) if prompt.strip() else "Pictures"


def alt(text: str) -> str:
    """A description of a picture, at most 1,024 characters."""
    return clip(clean(text), ALT_MOST)


def clipped(text: str, most: int) -> str:
    """At most `most` characters, the last an ellipsis where something is cut; line breaks stay."""
    return text if len(text) <= most else text[: most - 1].rstrip("\\\n ") + "…"
