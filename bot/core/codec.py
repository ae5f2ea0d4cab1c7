"""Requests as JSON for the store. Input pictures go by file name; their bytes lie in files.

It knows no file system: the caller names and loads the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Final

from bot.core.errors import InvalidRequest, ProtocolError
from bot.core.options import options_from_json
from bot.core.request import JSON, Image, ImageRequest

_PICTURES: Final = ("init_image", "mask_image")
_PLAIN: Final = tuple(
    (field.name, field.default) for field in fields(ImageRequest) if field.name not in _PICTURES
)
_NEEDED: Final = ("prompt", "width", "height", "steps", "guidance_scale", "seed")


def request_to_json(
    request: ImageRequest, *, image_names: tuple[str | None, str | None] = (None, None)
) -> dict[str, JSON]:
    """All fields that differ from their defaults; image_names: of init_image and mask_image.

    Raises ValueError where a picture has no name, for it would be lost.
    """
    data: dict[str, JSON] = {}
    for field, default in _PLAIN:
        value = getattr(request, field)
        if value != default:
            data[field] = value
    for field_name, name in zip(_PICTURES, image_names, strict=True):
        if getattr(request, field_name) is not None:
            if name is None:
                raise ValueError(f"{field_name} has no file name")
            data[field_name] = name
    return data


def request_from_json(data: Mapping[str, JSON], *, load: Callable[[str], Image]) -> ImageRequest:
    """The inverse; unknown keys are ignored, so that an older program reads a newer one's rows.

    load: the picture of a file name; what it raises passes through. Raises ProtocolError where the stored
    data is damaged.
    """
    try:
        missing = [name for name in _NEEDED if data.get(name) is None]
        if missing:
            raise InvalidRequest(f"{', '.join(missing)} missing")
        # Options share the names and types of all these fields.
        said = options_from_json(data)
    except InvalidRequest as error:
        raise ProtocolError("The stored request cannot be read.", detail=error.message) from error
    init_image, mask_image = (_picture(data, name, load) for name in _PICTURES)
    return ImageRequest(
        prompt=said.prompt,
        width=said.width or 0,
        height=said.height or 0,
        steps=said.steps or 0,
        guidance_scale=said.guidance_scale or 0.0,
        seed=said.seed or 0,
        count=1 if said.count is None else said.count,
        negative_prompt=said.negative_prompt or "",
        scheduler=said.scheduler,
        model=said.model,
        style=said.style,
        init_image=init_image,
        mask_image=mask_image,
        strength=said.strength,
        spoiler=said.spoiler,
        upscale=said.upscale,
        source=said.source,
        show_flagged=data.get("show_flagged") is True,
        previews=_previews(data),
    )


def _previews(data: Mapping[str, JSON]) -> int:
    value = data.get("previews", 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ProtocolError("The stored request cannot be read.", detail="previews is no number")
    return value


def _picture(data: Mapping[str, JSON], name: str, load: Callable[[str], Image]) -> Image | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ProtocolError("The stored request cannot be read.", detail=f"{name} is no file name")
    return load(value)
