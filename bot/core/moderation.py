"""What may be asked for: the operator's blocked words, and the one rule that is always on.

That rule: no sexual content with minors. A term for minors, or an age under 18, and a sexual term in the same
text are refused. It errs on the side of refusing: "a nude statue, children looking at it" is refused, "a nude
statue in a museum", "a child on a swing" and "a 15 year old whisky bottle on a nude wall colour" are not.
Prompt and negative prompt are texts of their own, since "nsfw, nude" in a negative prompt keeps such things
out of pictures of children; where the guidance is so low that the negative prompt pulls instead of pushing
(below 1) they are read as one.

What was asked is never kept or logged: an error's detail is the rule's id and a hash. It knows no pictures:
backends check results (Capabilities.checks_content).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Final

from bot.core.errors import ContentRejected
from bot.core.ports import Capabilities
from bot.core.request import ImageRequest
from bot.core.wordforms import WordForms, normal, word_forms

BLOCKED_WORDS: Final = "blocked-words"
MINORS: Final = "minors"

_MESSAGES: Final = {
    BLOCKED_WORDS: "A word in this request is not allowed here. Say it in other words.",
    MINORS: "This reads as sexual content with minors, which is never made. If that is a mistake, "
    "say it in other words.",
}

# Scripts written without spaces, where a term may stand anywhere: kana, Han, Hangul.
_UNSPACED: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

_ONE_TO_EIGHTEEN: Final = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
)
# Longest first, or "seventeen" would be read as "seven".
_NUMBER: Final = rf"(?<![\w.,])(\d{{1,2}}|{'|'.join(reversed(_ONE_TO_EIGHTEEN))})"
# What has years without being a person. Animals are left out: "cat girl" begins like a cat.
_THINGS: Final = (
    r"(?![\s-]*(?:whisky|whiskey|scotch|bourbon|rum|wine|brandy|cognac|single malt|malt|cheese|bottle|barrel"
    r"|cask|car|house|building|tree|oak|bonsai|laptop|computer)s?\b)"
)
_MONTHS: Final = re.compile(r"\d[\s-]*months?[\s-]*old\b" + _THINGS)


class Terms:
    """Words and phrases to look for, in any script, normalised as texts are."""

    def __init__(self, terms: Iterable[str]) -> None:
        self._phrases: dict[str, list[tuple[str, ...]]] = {}
        unspaced: list[str] = []
        for term in terms:
            if _UNSPACED.search(term):
                unspaced.append(normal(term))
            elif words := tuple(word_forms(term).readings[0]):
                self._phrases.setdefault(words[0], []).append(words)
        self._unspaced = tuple(unspaced)
        self._long = tuple("".join(p) for ps in self._phrases.values() for p in ps if len("".join(p)) >= 3)

    def stand_in(self, forms: WordForms) -> bool:
        """Whether a term stands in the text as whole words, in any reading."""
        if any(term in forms.text for term in self._unspaced):
            return True
        for reading in forms.readings:
            for at, word in enumerate(reading):
                for phrase in self._phrases.get(word, ()):
                    if tuple(reading[at : at + len(phrase)]) == phrase:
                        return True
        return False

    def are_spelled_in(self, forms: WordForms) -> bool:
        """Whether a term is anywhere in letters spelled out on their own: there, word ends cannot be seen."""
        return any(term in spelled for spelled in forms.spelled for term in self._long)


class Moderation:
    """The content rules. blocked_words: the operator's own words and phrases, each as it is blocked: inside
    longer words nothing is blocked, so plurals are listed too."""

    def __init__(self, *, blocked_words: Iterable[str] = ()) -> None:
        self._blocked = Terms(blocked_words)
        tables = _tables()
        self._minor, self._sexual = Terms(tables["minor"]), Terms(tables["sexual"])
        harmless = "|".join(
            re.escape(normal(phrase)).replace(r"\ ", r"[\s-]").replace("'", "['’]")
            for phrase in tables["harmless"]
        )
        self._harmless = re.compile(rf"(?<![^\W_])(?:{harmless})(?![^\W_])")

    def check(self, texts: Iterable[str]) -> None:
        """Check each text by itself: prompts, negative prompts, styles, names of files that came in.

        Raises ContentRejected: field is the rule's id, the message echoes nothing.
        """
        for text in filter(None, texts):
            forms = word_forms(text)
            if self._blocked.stand_in(forms):
                raise _rejected(BLOCKED_WORDS, text)
            if self._is_about_minors_and_sexual(forms):
                raise _rejected(MINORS, text)

    def check_request(self, request: ImageRequest, *, names: Iterable[str] = ()) -> None:
        """Check all that a request says; names: of the picture files that came with it.

        Raises ContentRejected as check() does.
        """
        wanted = " . ".join([request.prompt, *names])
        if request.guidance_scale < 1 and request.negative_prompt:
            self.check([f"{wanted} . {request.negative_prompt}"])
        self.check([wanted, request.negative_prompt])

    def _is_about_minors_and_sexual(self, forms: WordForms) -> bool:
        if not self._has(self._sexual, forms) or not self._has_minor(forms):
            return False
        # Only now, seldom, the harmless phrases: without them, does it still read so?
        rest = self._harmless.sub(" . ", forms.text)
        if rest == forms.text:
            return True
        forms = word_forms(rest)
        return self._has(self._sexual, forms) and self._has_minor(forms)

    def _has_minor(self, forms: WordForms) -> bool:
        texts = (forms.text, *forms.spelled)
        return self._has(self._minor, forms) or any(_names_an_age_under_18(text) for text in texts)

    def _has(self, terms: Terms, forms: WordForms) -> bool:
        return terms.stand_in(forms) or terms.are_spelled_in(forms)


def previews_allowed(capabilities: Capabilities) -> bool:
    """Whether what is forming may be shown: not where the result may still be withheld."""
    return capabilities.previews and not capabilities.checks_content


def _names_an_age_under_18(text: str) -> bool:
    years, below = _age_patterns()
    return (
        any(_number(match[1]) < 18 for pattern in years for match in pattern.finditer(text))
        or any(_number(match[1]) <= 18 for match in below.finditer(text))
        or _MONTHS.search(text) is not None
    )


@cache
def _age_patterns() -> tuple[Sequence[re.Pattern[str]], re.Pattern[str]]:
    """Ages, and bounds of ages ("under 18"); group 1 is the number. Built late, since normal() loads data."""
    unit = "|".join(map(normal, ("ans", "años", "anni", "anos", "Jahre alt", "jährige[rs]?", "лет")))
    return (
        # 15 year old, 15-year-old, 15yo, 15 y/o, fifteen years of age
        re.compile(
            _NUMBER + r"[\s-]*(?:(?:years?|yrs?)[\s-]*(?:old|of age|young)|y[\s./-]?o(?:ld)?)\b" + _THINGS
        ),
        # aged 15, age: 15, at the age of 15
        re.compile(
            r"\bage[ds]?[\s:]+(?:of\s+)?" + _NUMBER + r"\b(?:[\s-]*years?(?:[\s-]*old)?\b)?" + _THINGS
        ),
        re.compile(_NUMBER + rf"(?:[\s-]*(?:{unit})\b|\s*[歳才岁세])"),
    ), re.compile(r"\b(?:under|below|younger than)[\s-]+(?:the age of[\s-]+)?" + _NUMBER + r"(?![\w%])")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else _ONE_TO_EIGHTEEN.index(text) + 1


def _rejected(rule: str, text: str) -> ContentRejected:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return ContentRejected(_MESSAGES[rule], detail=f"{rule} sha256:{digest}", field=rule)


@cache
def _tables() -> Mapping[str, tuple[str, ...]]:
    """Section -> terms of words/minors.txt."""
    text = resources.files("bot.core").joinpath("words/minors.txt").read_text("utf-8")
    tables: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            tables.setdefault(section, []).append(line)
    return {name: tuple(terms) for name, terms in tables.items()}
