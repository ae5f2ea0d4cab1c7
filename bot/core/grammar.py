r"""The one grammar of "/imagine": prompt text with flags anywhere, to options and back.

    a red fox in snow --ar 16:9 --steps 40 --negative blurry, text --count 2

A flag starts a word. `--flag value` and `--flag=value` are the same. Values that are names or numbers are one
word, or quoted; --negative and --scheduler run to the next flag. A backslash before what looks like a flag
(`\--steps`) makes it prose. It knows no defaults and no models, and limits only to name them in a message.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from bot.core.errors import InvalidRequest
from bot.core.options import Options, options_from_json, options_to_json
from bot.core.ranges import number, ranges
from bot.core.request import JSON, Limits
from bot.core.text import clean, clip

MAX_TEXT: Final = 20_000
"""Characters that parse() looks at; no platform's message is longer, and a longer text is refused at once."""

_LIMITS: Final = Limits()


class _Takes(Enum):
    """What follows a flag."""

    WHOLE = auto()
    REAL = auto()
    SIZE = auto()
    RATIO = auto()
    NAME = auto()  # one word, or quoted
    WORDS = auto()  # all up to the next flag, or quoted
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class _Flag:
    """A flag; names: the canonical one first; example: a usual use."""

    field: str
    takes: _Takes
    names: tuple[str, ...]
    example: str


_FLAGS: Final = (
    _Flag("negative_prompt", _Takes.WORDS, ("negative", "no"), "--negative blurry, text"),
    _Flag("size", _Takes.SIZE, ("size",), "--size 768x512"),
    _Flag("width", _Takes.WHOLE, ("width",), "--width 512"),
    _Flag("height", _Takes.WHOLE, ("height",), "--height 512"),
    _Flag("aspect", _Takes.RATIO, ("ar",), "--ar 16:9"),
    _Flag("steps", _Takes.WHOLE, ("steps",), "--steps 30"),
    _Flag("guidance_scale", _Takes.REAL, ("guidance", "cfg"), "--guidance 7.5"),
    _Flag("seed", _Takes.WHOLE, ("seed",), "--seed 42"),
    _Flag("count", _Takes.WHOLE, ("count", "n"), "--count 4"),
    _Flag("scheduler", _Takes.WORDS, ("scheduler", "sampler"), "--scheduler Euler a"),
    _Flag("model", _Takes.NAME, ("model",), "--model NAME"),
    _Flag("style", _Takes.NAME, ("style",), "--style NAME"),
    _Flag("strength", _Takes.REAL, ("strength",), "--strength 0.6"),
    _Flag("spoiler", _Takes.NOTHING, ("spoiler",), "--spoiler"),
)
_BY_NAME: Final[Mapping[str, _Flag]] = {name: flag for flag in _FLAGS for name in flag.names if name != "n"}

# Names from other programs, for "did you mean".
_FOREIGN: Final[Mapping[str, str]] = {
    "n": "count",
    "num": "count",
    "batch": "count",
    "w": "width",
    "h": "height",
    "aspect": "ar",
    "ratio": "ar",
    "step": "steps",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "cfg_scale": "guidance",
    "scale": "guidance",
    "negative_prompt": "negative",
    "neg": "negative",
    "sampler_name": "scheduler",
    "denoise": "strength",
    "denoising_strength": "strength",
    "checkpoint": "model",
    "preset": "style",
}

# A phone makes one dash of two, so a long dash is a flag too, but only directly before a flag's whole name.
_KNOWN: Final = "|".join(sorted(_BY_NAME))
_SIGN: Final = rf"--(?P<name>[^\W\d_][^\s=]*)|[—–](?P<known>{_KNOWN})(?=[\s=]|\Z)|-(?P<short>n)(?=[\s=\d]|\Z)"
_START: Final = re.compile(rf"(?<!\S)(?:{_SIGN})")
_ESCAPED: Final = re.compile(rf"(?<!\S)\\(\\*)(?={_SIGN})")
_LOOKS_LIKE: Final = re.compile(rf"(?<!\S)(\\*)(?={_SIGN})")

_BEFORE_VALUE: Final = re.compile(r"=?\s*")
_QUOTED: Final = re.compile(r"""(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')(?=\s|\Z)""", re.DOTALL)
_WORD: Final = re.compile(r"\S+")
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:/+@~-]*")

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_REAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SIZE: Final = re.compile(r"([0-9]{1,9})[xX×*]([0-9]{1,9})")
_RATIO: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")

_STRAIGHT: Final = str.maketrans("“”„‟‘’‚‛", "\"\"\"\"''''")


def parse(text: str, *, limits: Limits = _LIMITS) -> Options:
    """The options in what somebody typed.

    limits: named in messages about values that are no numbers; ranges are checked later, by resolve().
    Raises InvalidRequest for an unknown flag, one given twice, and a missing or malformed value.
    """
    if len(text) > MAX_TEXT:
        raise InvalidRequest(
            f"The text has {len(text):,} characters; at most {limits.max_prompt:,} are allowed. Shorten it.",
            field="prompt",
        )
    line = clean(text).translate(_STRAIGHT)
    said: dict[str, JSON] = {}
    prose: list[str] = []
    end = 0
    while start := _START.search(line, end):
        prose.append(line[end : start.start()])
        flag = _flag(start)
        value, end = _value(flag, line, start.end())
        if value is None:
            raise _missing(flag, limits)
        _say(said, flag, _read(flag, value, limits), value)
    prose.append(line[end:])
    said["prompt"] = " ".join(filter(None, (_unescaped(piece).strip() for piece in prose)))
    return options_from_json(said)


def format_options(options: Options) -> str:
    """The canonical text of `options`: parse() gives them back, for all options that came from parse()."""
    said = options_to_json(options)
    if "width" in said and "height" in said:
        said["size"] = f"{said.pop('width')}x{said.pop('height')}"
    prompt = _LOOKS_LIKE.sub(r"\\\1", options.prompt)
    flags = (_written(flag, said[flag.field]) for flag in _FLAGS if flag.field in said)
    return " ".join(filter(None, (prompt, *flags)))


def _flag(start: re.Match[str]) -> _Flag:
    """The flag that a match of _START names. Raises InvalidRequest where there is none."""
    if start["short"]:
        return _BY_NAME["count"]
    name = start["known"] or start["name"]
    known = _BY_NAME.get(name.casefold())
    if known is None:
        raise _unknown(name)
    return known


def _unknown(name: str) -> InvalidRequest:
    shown = clip(name, 40)
    plain = shown.casefold().replace("-", "_")
    near = [_FOREIGN[plain]] if plain in _FOREIGN else difflib.get_close_matches(plain, _BY_NAME, 1, 0.55)
    known = ", ".join(f"--{flag.names[0]}" for flag in _FLAGS)
    advice = f"Did you mean --{near[0]}?" if near else f"Known: {known}."
    return InvalidRequest(
        f"There is no option --{shown}. {advice} To have it in the prompt, write \\--{shown}.", field=shown
    )


def _value(flag: _Flag, line: str, at: int) -> tuple[str | None, int]:
    """The text of the value that starts at `at`, None where it is missing, and where it ends."""
    if flag.takes is _Takes.NOTHING:
        if line.startswith("=", at):
            raise InvalidRequest(f"--{flag.names[0]} takes no value. Write it alone.", field=flag.field)
        return "", at
    before = _BEFORE_VALUE.match(line, at)
    begin = before.end() if before else at
    if quoted := _QUOTED.match(line, begin):
        inside = quoted[1] if quoted[1] is not None else quoted[2]
        return re.sub(r"""\\(["'\\])""", r"\1", inside), quoted.end()
    if flag.takes is _Takes.WORDS:
        following = _START.search(line, begin)
        end = following.start() if following else len(line)
        return _unescaped(line[begin:end]).strip() or None, end
    word = _WORD.match(line, begin)
    if word is None or _START.match(line, begin):
        return None, begin
    return word[0], word.end()


def _missing(flag: _Flag, limits: Limits) -> InvalidRequest:
    span = ranges(limits).get(flag.field)
    wanted = span.wanted() if span else "a value"
    return InvalidRequest(f"--{flag.names[0]} needs {wanted}. Try {flag.example}.", field=flag.field)


def _read(flag: _Flag, value: str, limits: Limits) -> JSON:
    """The value as JSON. Raises InvalidRequest where it is malformed."""
    match flag.takes:
        case _Takes.NOTHING:
            return True
        case _Takes.WHOLE if _WHOLE.fullmatch(value):
            return int(value)
        case _Takes.REAL if _REAL.fullmatch(value) and abs(float(value)) != float("inf"):
            return float(value)
        case _Takes.SIZE if found := _SIZE.fullmatch(value):
            return [int(found[1]), int(found[2])]
        case _Takes.RATIO if found := _RATIO.fullmatch(value):
            return [int(found[1]), int(found[2])]
        case _Takes.NAME | _Takes.WORDS if value.strip() or flag.field == "negative_prompt":
            return value  # an empty negative prompt says something: none, where another one would be kept
        case _Takes.NAME | _Takes.WORDS:
            raise _missing(flag, limits)
    raise _malformed(flag, value, limits)


def _malformed(flag: _Flag, value: str, limits: Limits) -> InvalidRequest:
    shown = f'"{clip(value, 40)}"'
    if flag.takes is _Takes.SIZE:
        sides = ranges(limits)["width"].wanted()
        return InvalidRequest(
            f"Size must be WIDTHxHEIGHT, each side {sides}, not {shown}. Try {flag.example}.", field="size"
        )
    if flag.takes is _Takes.RATIO:
        most = number(limits.max_ratio)
        return InvalidRequest(
            f"The aspect ratio must be WIDTH:HEIGHT in whole numbers, from 1:{most} to {most}:1, "
            f"not {shown}. Try {flag.example}.",
            field="aspect",
        )
    return ranges(limits)[flag.field].refusal(shown)


def _say(said: dict[str, JSON], flag: _Flag, value: JSON, text: str) -> None:
    """Enter a value. Raises InvalidRequest where the field has one already."""
    entries: dict[str, JSON] = {flag.field: value}
    if flag.takes is _Takes.SIZE and isinstance(value, list):
        entries = dict(zip(("width", "height"), value, strict=True))
    for field, entry in entries.items():
        if field in said:
            shown = f" (now {clip(text, 24)})" if text else ""
            raise InvalidRequest(
                f"The {field.replace('_', ' ')} is given twice{shown}. Keep one --{flag.names[0]}.",
                field=field,
            )
        said[field] = entry


def _unescaped(prose: str) -> str:
    return _ESCAPED.sub(r"\1", prose)


def _written(flag: _Flag, value: JSON) -> str:
    """One flag with its value, as parse() reads it."""
    name = f"--{flag.names[0]}"
    if isinstance(value, bool):
        return name
    if isinstance(value, list):
        return f"{name} {':'.join(map(str, value))}"
    if isinstance(value, int | float):
        return f"{name} {number(value)}"
    text = str(value)
    if _SAFE.fullmatch(text):
        return f"{name} {text}"
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'{name} "{escaped}"'
