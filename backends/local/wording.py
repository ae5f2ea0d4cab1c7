"""The words that a model is really given, where it knows only few: by the lexicon that lies beside it."""

from __future__ import annotations

import re
from pathlib import Path

from backends.local.lexicon import Lexicon, map_prompt, read_lexicon

_WORD = re.compile(r"[^\W_]+")


class LexiconWording:
    """A Wording (plan.py) by a lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon

    def prompt(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The prompt in known words, and what was changed."""
        return map_prompt(text, self._lexicon)

    def negative(self, text: str) -> str:
        """The known words alone: an unknown one ("blurry") would push the picture anywhere."""
        words = _WORD.findall(text.lower())
        return text if all(map(self._knows, words)) else " ".join(filter(self._knows, words))

    def _knows(self, word: str) -> bool:
        return word in self._lexicon.known


def read_wording(folder: Path | None) -> LexiconWording | None:
    """The wording for the model in `folder`, None where it takes any words."""
    lexicon = read_lexicon(folder) if folder is not None else None
    return None if lexicon is None else LexiconWording(lexicon)
