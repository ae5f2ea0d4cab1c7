"""Recipes in picture files: put in, and read out again.

Three marks: A1111's `parameters` for other tools, our JSON (the authority), and an XMP packet that says that
the picture is synthetic, with its alt text. In PNG they are text chunks; in JPEG and WebP the parameters are
EXIF's UserComment and the JSON is a property of the XMP packet. The pixels are never encoded anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from bot.core.containers import Marks, container, xmp
from bot.core.options import Options
from bot.core.parameters import parse_parameters, write_parameters
from bot.core.recipe import parse_recipe, recipe_options, write_recipe
from bot.core.request import JSON
from bot.core.text import clean, clip

MAX_PARAMETERS: Final = 100_000
"""Characters of A1111 text that are read; no tool writes more."""

MAX_ALT_TEXT: Final = 1000
"""Slack's limit; Discord takes 1024."""

_TAGS: Final = re.compile(r"<[\w/!@#:][^<>]{0,200}>")
_MARKUP: Final = re.compile(r"[*_~`|#<>{}\[\]\\]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A recipe found in a file. source: our own JSON, or another tool's text; options: what makes it again;
    recipe: ours, empty for a foreign file; text: the A1111 text as it stood there, "" where there is none."""

    source: Literal["fairbrush", "parameters"]
    options: Options
    recipe: Mapping[str, JSON] = field(default_factory=dict)
    text: str = ""


def stamp(data: bytes, recipe: Mapping[str, JSON]) -> bytes:
    """The same picture with its recipe and marks; whatever other texts it carried are dropped.

    Raises InvalidRequest where `data` is not a whole PNG, JPEG or WebP.
    """
    return with_marks(data, marks_for(recipe))


def read_recipe(data: bytes) -> Found | None:
    """The recipe in a picture file, ours first; None where there is none.

    Raises InvalidRequest where `data` is no PNG, JPEG or WebP; nothing else, whatever the bytes.
    """
    marks: Marks = container(data).texts(data)
    recipe = parse_recipe(marks.recipe) if marks.recipe else None
    if recipe is not None:
        return Found("fairbrush", recipe_options(recipe), recipe, marks.parameters)
    if not marks.parameters.strip() or len(marks.parameters) > MAX_PARAMETERS:
        return None
    return Found("parameters", parse_parameters(marks.parameters), text=marks.parameters)


def marks_for(recipe: Mapping[str, JSON]) -> Marks:
    """The three texts for a recipe."""
    packet = xmp.packet(tool=str(recipe.get("software", "")), alt_text=alt_text(str(recipe["prompt"])))
    return Marks(write_parameters(recipe), write_recipe(recipe), packet)


def marks_in(data: bytes) -> Marks:
    """The marks that a picture of ours carries, for another form of it."""
    marks: Marks = container(data).texts(data)
    recipe = parse_recipe(marks.recipe) if marks.recipe else None
    return marks if recipe is None else marks_for(recipe)


def with_marks(data: bytes, marks: Marks) -> bytes:
    """`data` with these marks instead of its own."""
    marked: bytes = container(data).mark(data, marks)
    return marked


def alt_text(prompt: str, *, index: int = 0, count: int = 1) -> str:
    """What a screen reader says of picture `index` (0-based) of `count`.

    One line of at most 1,000 characters, without markup, which would be read out sign by sign.
    """
    words = _MARKUP.sub(" ", _TAGS.sub(" ", clean(prompt)))
    which = f"Generated picture {index + 1} of {count}" if count > 1 else "Generated picture"
    text = f"{which}: {words}" if words.strip() else which
    return clip(text, MAX_ALT_TEXT)
