"""The words of a text as a reader would understand them, however they are disguised.

Undone are: full-width and ornamental letters (NFKC), look-alikes of other scripts (Unicode's confusables),
accents, invisible characters, leet ("n4ked"), stretched letters ("naaaked"), punctuation inside a word
("na-ked") and letters spelled out ("n a k e d"). Each way of reading gives a list of words beside the plain
one, so nothing harmless turns into something else on the way. It knows no word lists.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from bot.core.text import clean

_WORD: Final = re.compile(r"[^\W_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_STRETCHED: Final = re.compile(r"([^\W\d_])\1{2,}")
_LEET: Final = str.maketrans("4@35$70", "aaessto")
_LEET_PAIR: Final = re.compile(r"[^\W\d_][013457@$!|]|[013457@$!|][^\W\d_]")
_ONE: Final = re.compile("[1!|]")
_SPACES: Final = re.compile(r"(\s+)")
# Three or more letters on their own, at most three other characters apart.
_SPELLED: Final = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,3}[^\W_](?![^\W_])){2,}")
_WIDE_GAP: Final = re.compile(r"\s{2,}|[\W_]*[,;/|][\W_]*(?=\s)")
_LATIN_BLOCKS: Final = ((0x80, 0x2B0), (0x1D00, 0x1DC0), (0x1E00, 0x1F00), (0x2C60, 0x2C80), (0xA720, 0xA800))
# Flags' letters and white letters on squares and circles, A to Z each; NFKC leaves them as they are.
_MOST_FOLDS: Final = 10_000  # characters remembered: more than any language writes with
_EMOJI_LETTERS: Final = (0x1F150, 0x1F170, 0x1F1E6)


@dataclass(frozen=True, slots=True)
class WordForms:
    """A text's readings. text: normalised, on one line; readings: lists of words, the plain one first;
    spelled: what letters on their own spell, without spaces."""

    text: str
    readings: tuple[Sequence[str], ...]
    spelled: tuple[str, ...]


def word_forms(text: str) -> WordForms:
    """All readings of `text`. Time is linear in its length: under 1 ms for 2,000 characters."""
    camel = _CAMEL.sub(" ", text)
    plain = normal(text)
    spelled = tuple(_spelled(plain))
    readings = [_WORD.findall(plain), *([[word] for word in spelled]), *_joined(plain)]
    if camel != text:
        readings.append(_WORD.findall(normal(camel)))
    leet = _LEET_PAIR.search(plain)
    ones = "il" if _ONE.search(plain) else "i"
    for one in ones if leet else "":
        decoded = _unleet(plain, one)
        readings += [_WORD.findall(decoded), *_joined(decoded), *([word] for word in _spelled(decoded))]
    if _STRETCHED.search(plain):
        readings += [reading for many in list(readings) for reading in _unstretched(many)]
    return WordForms(plain, tuple(readings), spelled)


def normal(text: str) -> str:
    """`text` in small letters without accents, look-alikes replaced by the Latin letters they look like."""
    if text.isascii() and text.isprintable():
        return text.lower()
    return unicodedata.normalize("NFC", text).translate(_folds())


def _spelled(text: str) -> Iterator[str]:
    for run in _SPELLED.finditer(text):
        parts = ["".join(_WORD.findall(part)) for part in _WIDE_GAP.split(run[0])]
        yield "".join(parts)
        if len(parts) > 1:
            yield from parts


def _joined(text: str) -> Iterator[list[str]]:
    """Each word with punctuation inside, as one."""
    for chunk in text.split():
        if not chunk.isalnum() and len(parts := _WORD.findall(chunk)) > 1:
            yield ["".join(parts)]


def _unleet(text: str, one: str) -> str:
    """Digits and signs beside letters read as letters, 1 as `one`; signs at a word's end are punctuation."""
    letters = _LEET | {ord(sign): one for sign in "1!|"}
    words = _SPACES.split(text)
    for at, word in enumerate(words):
        if not word.isalpha() and _LEET_PAIR.search(core := word.rstrip("!|.,;:?)")):
            words[at] = core.translate(letters) + word[len(core) :]
    return "".join(words)


def _unstretched(words: Sequence[str]) -> Iterator[list[str]]:
    """With stretched letters single, and double."""
    yield [_STRETCHED.sub(r"\1", word) for word in words]
    yield [_STRETCHED.sub(r"\1\1", word) for word in words]


class _Folds(dict[int, str]):
    """What normal() makes of one character, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        folded = clean(chr(code))
        for _ in range(4):  # small letters may look like others than their capitals do
            folded = _folded_once(folded)
        if len(self) < _MOST_FOLDS:
            self[code] = folded
        return folded


def _folded_once(text: str) -> str:
    seen = unicodedata.normalize("NFKC", text).translate(_look_alikes()).casefold()
    parts = unicodedata.normalize("NFKD", seen)
    bare = "".join(part for part in parts if unicodedata.category(part) not in ("Mn", "Me"))
    return unicodedata.normalize("NFC", bare).casefold()


@cache
def _folds() -> _Folds:
    return _Folds()


@cache
def _look_alikes() -> dict[int, str]:
    """Character -> the one Latin letter that it looks like. Loading takes 0.1 s, once, on first use."""
    from confusable_homoglyphs.confusables import confusables_data

    table = {
        code: name.split()[3 if "SMALL CAPITAL" not in name else 4].lower()
        for low, high in _LATIN_BLOCKS
        for code in range(low, high)
        if re.fullmatch(
            r"LATIN (?:SMALL|CAPITAL|LETTER SMALL CAPITAL) (?:LETTER )?[A-Z](?: WITH .*)?",
            name := unicodedata.name(chr(code), ""),
        )
    }
    for character, others in confusables_data.items():
        if len(character) == 1 and not character.isascii():
            likely = [o["c"] for o in others if len(o["c"]) == 1 and o["c"].isascii() and o["c"].isalpha()]
            through = [table[ord(o["c"])] for o in others if len(o["c"]) == 1 and ord(o["c"]) in table]
            if likely or through:
                table.setdefault(ord(character), (likely or through)[0])
    letters = "abcdefghijklmnopqrstuvwxyz"
    return table | {start + i: letter for start in _EMOJI_LETTERS for i, letter in enumerate(letters)}
