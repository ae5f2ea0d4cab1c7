"""Model names as clients of other services say them, and what they mean here.

FAIRBRUSH_ALIASES comes first, then the ids and titles of the models that are offered; any other name means
the default model, so that a client runs unchanged. Addresses, paths and files are refused: models are never
fetched for a client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from bot.core.errors import InvalidRequest

if TYPE_CHECKING:
    from bot.core.studio import Studio

MAX_NAME: Final = 200
_FILES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".safetensors", ".gguf", ".onnx")


def model_of(name: str, studio: Studio, *, field: str = "model") -> str | None:
    """The id of the model that a name means; None for the default one.

    Raises InvalidRequest where the name is none: an address, a path, a file.
    """
    check_name(name, field)
    if (alias := _found(name, studio.settings.aliases)) is not None:
        return alias
    models = studio.models()
    if any(model.id == name for model in models):  # most often, and there may be hundreds
        return name
    return _found(
        name, {model.title: model.id for model in models} | {model.id: model.id for model in models}
    )


def check_name(name: str, field: str) -> None:
    """Raise InvalidRequest where a model's name is none."""
    bad = (
        not name.strip()
        or len(name) > MAX_NAME
        or "://" in name
        or "\\" in name
        or name.startswith(("/", ".", "~"))
        or ".." in name
        or name.lower().endswith(_FILES)
        or not name.isprintable()
    )
    if bad:
        raise InvalidRequest(
            f"{field} must be the name of a model that is offered here, not an address or a file.",
            field=field,
        )


@lru_cache(maxsize=256)
def slug(name: str) -> str:
    """A name as it can stand in a path of Salad's: "stabilityai/sd-turbo" -> "stabilityai-sd-turbo"."""
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    text = text if len(text) >= 2 and text[:1].isalpha() else f"m-{text or 'x'}"
    return text[:63].rstrip("-")


def _found(name: str, names: Mapping[str, str]) -> str | None:
    if name in names:
        return names[name]
    wanted = slug(name)
    return next((value for key, value in names.items() if slug(key) == wanted), None)
