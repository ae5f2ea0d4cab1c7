"""A1111's `parameters` text, which most tools of the field read: written from recipes, read into options.

    a red fox
    in snow
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, Model: sd15

Source: the webui's own wiki ("PNG info") and files that it writes. The format cannot tell a prompt's own
line "Negative prompt:" from the separator, so what is written here never holds one, and our JSON beside it
is the authority.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from bot.core.options import Options
from bot.core.permutations import plain
from bot.core.recipe import before_upscale
from bot.core.request import JSON
from bot.core.schedulers import find_scheduler
from bot.core.text import clean

NEGATIVE: Final = "Negative prompt:"

# What readers take for structure, wherever in a line they look for it.
_STRUCTURE: Final = re.compile(r"(Negative prompt|Steps):", re.IGNORECASE)
_SCHEDULES: Final = ("Karras", "Exponential", "Beta")
_STEPS_LINE: Final = re.compile(r"\s*Steps:\s*\d+\s*(?:,|$)")
# Lengths are bounded so that no text, however long, is looked through more than once.
_PAIR: Final = re.compile(r'\s*(\w[\w \-/]{0,60}):\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_WHOLE: Final = re.compile(r"\d{1,12}")
_REAL: Final = re.compile(r"\d{1,6}(?:\.\d{1,12})?")
_SIZE: Final = re.compile(r"(\d{1,6})x(\d{1,6})")


def write_parameters(recipe: Mapping[str, JSON]) -> str:
    """The text for a recipe (see recipe.py).

    "Negative prompt:" and "Steps:" inside the prompts are written with a space before the colon.
    """
    lines = [_inner(recipe["prompt"])]
    if recipe.get("negative_prompt"):
        lines.append(f"{NEGATIVE} {_inner(recipe['negative_prompt'])}")
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in _pairs(recipe).items()))
    return "\n".join(lines)


def parse_parameters(text: str) -> Options:
    """What a text says, as far as it can be understood; the rest is left unsaid. Ranges are not checked.

    The last line that begins with "Steps: N", or else the last that holds three pairs, ends the prompts
    (extensions write lines of their own behind it); the last line that begins with "Negative prompt:" parts
    them. Denoising strength is not taken over: without its picture it means nothing.
    """
    lines = clean(text).strip().split("\n")
    end = _settings_line(lines)
    settings = _settings(lines[end]) if end < len(lines) else {}
    prompt, negative = _prompts(lines[:end])
    size = _SIZE.fullmatch(settings.get("size", ""))
    return Options(
        prompt=plain(prompt),
        negative_prompt=negative or None,
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        steps=_whole(settings.get("steps")),
        guidance_scale=_real(settings.get("cfg scale")),
        seed=_whole(settings.get("seed")),
        count=1,
        scheduler=_scheduler(settings.get("sampler", ""), settings.get("schedule type", "")),
        model=settings.get("model") or None,
    )


def _pairs(recipe: Mapping[str, JSON]) -> dict[str, JSON]:
    scheduler, schedule = _parted(str(recipe.get("scheduler") or ""))
    pairs: dict[str, JSON] = {
        "Steps": recipe["steps"],
        "Sampler": scheduler,
        "Schedule type": schedule,
        "CFG scale": recipe["guidance_scale"],
        "Seed": recipe["seed"],
        "Size": _size(recipe),
        "Model": recipe.get("model"),
        "Denoising strength": recipe.get("strength"),
        "Hires upscale": 2 if recipe.get("upscale") else None,
        "Version": recipe.get("software"),
    }
    return {name: value for name, value in pairs.items() if value not in (None, "")}


def _size(recipe: Mapping[str, JSON]) -> str:
    """What A1111 calls the size is that before its own second pass, the "hires fix"."""
    width, height = before_upscale(recipe) if recipe.get("upscale") else (recipe["width"], recipe["height"])
    return f"{width}x{height}"


def _parted(scheduler: str) -> tuple[str, str]:
    """Sampler and schedule type, two fields since webui 1.9: "DPM++ 2M Karras" is one name here."""
    for schedule in _SCHEDULES:
        if scheduler.endswith(f" {schedule}"):
            return scheduler.removesuffix(f" {schedule}"), schedule
    return scheduler, ""


def _scheduler(sampler: str, schedule: str) -> str | None:
    if not sampler:
        return None
    return find_scheduler(f"{sampler} {schedule}") or find_scheduler(sampler) or sampler


def _inner(prompt: JSON) -> str:
    return _STRUCTURE.sub(r"\1 :", clean(str(prompt))).strip()


def _quoted(value: JSON) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(',:\n"') & set(text) else text


def _settings_line(lines: list[str]) -> int:
    """The index of the line that holds the settings; len(lines) where there is none."""
    for index in range(len(lines) - 1, -1, -1):
        if _STEPS_LINE.match(lines[index]):
            return index
    return len(lines) - 1 if len(_settings(lines[-1])) >= 3 else len(lines)


def _settings(line: str) -> dict[str, str]:
    """The pairs of a line, names in lower case; text between them that is no pair is passed over."""
    found: dict[str, str] = {}
    position = 0
    while position < len(line):
        pair = _PAIR.match(line, position)
        if pair is None:
            comma = line.find(",", position)
            position = comma + 1 if comma >= 0 else len(line)
            continue
        found.setdefault(pair[1].strip().lower(), _unquoted(pair[2].strip()))
        position = max(pair.end(), position + 1)
    return found


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            text = json.loads(value)
        except ValueError:
            return value
        return str(text)
    return value


def _prompts(lines: list[str]) -> tuple[str, str]:
    starts = [index for index, line in enumerate(lines) if line.lstrip().startswith(NEGATIVE)]
    if not starts:
        return _joined(lines), ""
    first, *rest = lines[starts[-1] :]
    return _joined(lines[: starts[-1]]), _joined([first.lstrip().removeprefix(NEGATIVE), *rest])


def _joined(lines: list[str]) -> str:
    return "\n".join(line.strip() for line in lines).strip()


def _whole(value: str | None) -> int | None:
    return int(value) if value and _WHOLE.fullmatch(value) else None


def _real(value: str | None) -> float | None:
    return float(value) if value and _REAL.fullmatch(value) else None
