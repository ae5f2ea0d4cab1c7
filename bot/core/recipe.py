"""Recipes: what reproduces one picture, as a JSON object that travels inside its file.

    {"fairbrush": 1,       the schema's version
     "prompt", "negative_prompt", "width", "height", "steps", "guidance_scale", "scheduler", "strength",
     "model",              the one that made it; null: the default
     "seed",               this picture's own
     "upscale": true,      made from a picture of half the sides, in a second pass at this size
     "source",             the result that it was made from ("7K2QABCD", "7K2QABCD #2")
     "index", "count",     picture `index` (0-based) of `count`
     "backend", "created", "software",
     "applied": {...},     what was really used where it differs from what was asked for
     "notes": [...]}       for people

It knows no file format: stamps.py puts recipes into pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final, cast

from bot.core.options import Options, options_from_json
from bot.core.permutations import plain
from bot.core.request import JSON, ImageRequest
from bot.core.text import clean

VERSION: Final = 1


def make_recipe(
    request: ImageRequest,
    *,
    index: int,
    seed: int,
    backend: str,
    model: str,
    applied: Mapping[str, JSON],
    notes: Sequence[str],
    software: str,
    created: str,
) -> Mapping[str, JSON]:
    """The recipe of picture `index`. seed: the one it was really made from; model: "" for the one asked for;
    software: "Fairbrush 0.1.0"; created: ISO 8601."""
    return {
        "fairbrush": VERSION,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "seed": seed,
        "scheduler": request.scheduler,
        "model": model or request.model,
        **({} if request.strength is None else {"strength": request.strength}),
        **({"upscale": True} if request.upscale else {}),
        **({"source": request.source} if request.source else {}),
        "backend": backend,
        "index": index,
        "count": request.count,
        "created": created,
        "software": software,
        "applied": dict(applied),
        "notes": list(notes),
    }


def recipe_options(recipe: Mapping[str, JSON]) -> Options:
    """Options that make this one picture again: count 1 and its own seed, braces taken as they are. Of an
    upscale those of the smaller picture, without which it cannot be made.

    Ranges are not checked: a recipe may come from a stranger's file. Raises InvalidRequest for a wrong type.
    """
    named = {name: recipe.get(name) for name in _OPTIONS}
    if recipe.get("upscale"):
        width, height = before_upscale(recipe)
        named |= {"width": width, "height": height, "strength": None}
    prompt, negative = clean(str(recipe["prompt"])), clean(str(recipe.get("negative_prompt") or ""))
    return options_from_json(
        {**named, "prompt": plain(prompt), "negative_prompt": negative or None, "count": 1}
    )


def before_upscale(recipe: Mapping[str, JSON]) -> tuple[int, int]:
    """The size of the picture that an upscale was made from."""
    return cast(int, recipe["width"]) // 2, cast(int, recipe["height"]) // 2


def write_recipe(recipe: Mapping[str, JSON]) -> str:
    """The JSON text, ASCII alone, so that every container keeps it as it is."""
    return json.dumps(recipe, separators=(",", ":"), allow_nan=False)


def parse_recipe(text: str) -> Mapping[str, JSON] | None:
    """A recipe of this version with its known fields; None for anything else."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("fairbrush") != VERSION or not _is_sound(data):
        return None
    return {name: data[name] for name in _FIELDS if name in data}


_WHOLE: Final = ("width", "height", "steps", "seed", "index", "count")
_REAL: Final = ("guidance_scale", "strength")
_TEXT: Final = ("prompt", "negative_prompt", "scheduler", "model", "backend", "created", "software", "source")
_OPTIONS: Final = ("width", "height", "steps", "seed", *_REAL, "scheduler", "model")
_FIELDS: Final = ("fairbrush", *_TEXT, *_WHOLE, *_REAL, "upscale", "applied", "notes")
_NEEDED: Final = frozenset({"prompt", "width", "height", "steps", "guidance_scale", "seed"})
_MAY_BE_NULL: Final = frozenset({"scheduler", "model"})


def _is_sound(data: dict[str, object]) -> bool:
    if any(data.get(name) is None for name in _NEEDED):
        return False
    notes = data.get("notes", [])
    return (
        all(type(data.get(name, 0)) is int for name in _WHOLE)
        and all(_is_real(data.get(name, 0.0)) for name in _REAL)
        and all(isinstance(data.get(name, ""), str) or _is_null(data, name) for name in _TEXT)
        and isinstance(data.get("upscale", False), bool)
        and isinstance(data.get("applied", {}), dict)
        and _is_shallow(data.get("applied"), 4)
        and isinstance(notes, list)
        and all(isinstance(note, str) for note in notes)
    )


def _is_null(data: dict[str, object], name: str) -> bool:
    return name in _MAY_BE_NULL and data[name] is None


def _is_real(value: object) -> bool:
    if type(value) is int:
        return abs(value) < 2**53
    return isinstance(value, float) and math.isfinite(value)


def _is_shallow(value: object, depth: int) -> bool:
    """Whether JSON nests at most `depth` deep: deeper would break those who write it again."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_shallow(item, depth - 1) for item in inner)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
