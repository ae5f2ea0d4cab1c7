"""Maps any prompt onto the few words that a small model knows, and says what it changed.

The table lies beside the weights as lexicon.json. A prompt made of known words passes unchanged; otherwise
every word is read as a known word, as a thing that the table likens to one (fox: orange circle), as a typing
error, or is left out, and the rest is written anew as a caption of the model's own grammar. Pure Python: no
engine is imported, and nothing here knows which model it serves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from backends.local._caption import Word, well_formed, write

LEXICON_FILE = "lexicon.json"
MOST_NOTES = 4
UNKNOWN = "Not known to the demonstration model and left out"
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """known: the model's words; silent: left out without a note; spelling: another spelling or size word,
    changed without a note; colours, shapes, scenery: word -> known word(s); objects: word -> "COLOUR SHAPE";
    fallbacks: captions for prompts in which nothing is known."""

    known: frozenset[str]
    silent: frozenset[str]
    spelling: Mapping[str, str]
    colours: Mapping[str, str]
    shapes: Mapping[str, str]
    scenery: Mapping[str, str]
    objects: Mapping[str, str]
    fallbacks: tuple[str, ...]

    def meaning(self, word: str) -> Word | None:
        """What a word as written stands for, without mending its spelling."""
        if word in self.known:
            return Word(word, word)
        if word in self.spelling:
            return Word(word, self.spelling[word])
        for kind, table in (("read", self.colours), ("read", self.shapes), ("read", self.scenery)):
            if word in table:
                return Word(word, table[word], kind)
        return Word(word, self.objects[word], "object") if word in self.objects else None


def read_lexicon(folder: Path) -> Lexicon | None:
    """The lexicon of the model in `folder`, None where it has none."""
    path = folder / LEXICON_FILE
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    tables = {name: _by_word(data[name]) for name in ("colours", "shapes", "scenery", "objects")}
    return Lexicon(
        known=frozenset(data["known"]),
        silent=frozenset(data["silent"]),
        spelling=_by_word(data["spelling"]),
        fallbacks=tuple(data["fallbacks"]),
        **tables,
    )


def _by_word(table: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {word: concept for concept, words in table.items() for word in words}


def map_prompt(prompt: str, lexicon: Lexicon) -> tuple[str, tuple[str, ...]]:
    """The prompt to feed the model, and notes for people on what was changed, one idea a line."""
    spelt = [word.lower() for word in _WORD.findall(prompt.replace("’", "'"))]
    if not spelt or (lexicon.known.issuperset(spelt) and well_formed(spelt)):
        return prompt, ()
    words = [_understand(word, lexicon) for word in spelt]
    caption = write([word for word in words if word.kind != "unknown"])
    if not caption:
        fallback = lexicon.fallbacks[crc32(" ".join(spelt).encode()) % len(lexicon.fallbacks)]
        return fallback, (f"The demonstration model knows nothing in this prompt; drew {fallback} instead",)
    return caption, _notes(words, lexicon)


def map_negative(prompt: str, lexicon: Lexicon) -> str:
    """A negative prompt reduced to what the model knows, which may be nothing."""
    spelt = (word.lower() for word in _WORD.findall(prompt))
    found = (_understand(word, lexicon) for word in spelt if word not in lexicon.silent)
    texts = (word.meaning for word in found if word.kind != "unknown" and word.meaning)
    return " ".join(dict.fromkeys(texts))


def _understand(word: str, lexicon: Lexicon) -> Word:
    found = lexicon.meaning(word)
    if found is not None:
        return found
    if word in lexicon.silent:
        return Word(word, "", "unknown")
    for stem in _singulars(word):
        found = lexicon.meaning(stem)
        if found is not None:
            return Word(word, found.meaning, found.kind, plural=True)
    if "-" in word:
        return next(
            (w for part in word.split("-") if (w := lexicon.meaning(part))), Word(word, "", "unknown")
        )
    return _mended(word, lexicon)


def _singulars(word: str) -> list[str]:
    stems = []
    if word.endswith("'s"):
        stems.append(word[:-2])
    if len(word) > 3 and word.endswith("s"):
        stems.append(word[:-1])
    if len(word) > 4 and word.endswith("es"):
        stems.append(word[:-2])
    if len(word) > 4 and word.endswith("ies"):
        stems.append(word[:-3] + "y")
    if len(word) > 4 and word.endswith("ves"):
        stems += [word[:-3] + "f", word[:-3] + "fe"]
    return stems


def _mended(word: str, lexicon: Lexicon) -> Word:
    """The known word, or else the table's word, that `word` is a typing error of."""
    reach = 0 if len(word) < 4 else 1 if len(word) < 7 else 2
    content = [known for known in lexicon.known if len(known) > 3]
    for table in (content, lexicon.colours, lexicon.shapes, lexicon.scenery, lexicon.objects):
        gaps = {known: edits(word, known) for known in table if abs(len(known) - len(word)) <= reach}
        best = min(sorted(gaps), key=lambda known: gaps[known], default="")
        if best and gaps[best] <= reach:
            found = lexicon.meaning(best)
            if found is not None:
                kind = "read" if found.kind == "known" else found.kind
                return Word(word, found.meaning, kind)
    return Word(word, "", "unknown")


def edits(one: str, other: str) -> int:
    """Insertions, deletions, changes and swaps of neighbours from one word to the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        last, before, row = before, row, [i]
        for j, b in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _notes(words: list[Word], lexicon: Lexicon) -> tuple[str, ...]:
    notes = list(dict.fromkeys(_change(word) for word in words if not word.left_out))
    notes = [note for note in notes if note]
    if len(notes) > MOST_NOTES:
        more = len(notes) - MOST_NOTES + 1
        notes = [*notes[: MOST_NOTES - 1], f"{more} more words were read as the nearest that the model knows"]
    reasons: dict[str, list[str]] = {}
    for word in words:
        if word.kind == "unknown" and word.text not in lexicon.silent:
            reasons.setdefault(UNKNOWN, []).append(word.text)
        elif word.left_out:
            reasons.setdefault(word.left_out, []).append(word.text)
    return (*notes, *(f"{reason}: {_listed(left)}" for reason, left in reasons.items()))


def _change(word: Word) -> str:
    if word.kind == "object":
        return f'"{word.text}" is not known to the demonstration model; drew {word.drawn} instead'
    return f'"{word.text}" was read as "{word.meaning}"' if word.kind == "read" else ""


def _listed(words: list[str], most: int = 6) -> str:
    distinct = list(dict.fromkeys(words))
    shown = ", ".join(f'"{word}"' for word in distinct[:most])
    return f"{shown} and {len(distinct) - most} more" if len(distinct) > most else shown
