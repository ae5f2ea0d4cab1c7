"""The limits of a request, each refusal with the field, the limit and the way out.

It knows limits and what was asked; not how defaults came about nor which backend will run it.
"""

from __future__ import annotations

import math
from typing import Final

from bot.core.errors import InvalidRequest
from bot.core.options import Options
from bot.core.ranges import number, ranges
from bot.core.request import Defaults, Image, ImageRequest, Limits
from bot.core.sizes import check_ratio
from bot.core.text import clean

_WORDS: Final = {
    "negative_prompt": "negative prompt",
    "guidance_scale": "guidance",
    "init_image": "attached picture",
    "mask_image": "mask",
    "upscale": "larger size",
}


def checked_text(text: str, field: str, limits: Limits) -> str:
    """A prompt, cleaned. Raises InvalidRequest where it is too long."""
    if len(text) > limits.max_prompt:
        raise InvalidRequest(
            f"The {_WORDS.get(field, field)} has {len(text):,} characters; at most {limits.max_prompt:,} are "
            "allowed. Shorten it.",
            field=field,
        )
    return clean(text).strip()


def check_params(
    draft: ImageRequest, options: Options, defaults: Defaults, params: frozenset[str] | None
) -> None:
    """Raise InvalidRequest where something was asked for that would be ignored. params: None for all."""
    asked = {
        "negative_prompt": draft.negative_prompt not in ("", defaults.negative_prompt),
        "steps": draft.steps != defaults.steps,
        "guidance_scale": draft.guidance_scale != defaults.guidance_scale,
        "seed": options.seed is not None,
        "scheduler": draft.scheduler != defaults.scheduler,
        "init_image": draft.init_image is not None,
        "mask_image": draft.mask_image is not None,
        "strength": options.strength is not None,
        "upscale": draft.upscale,
    }
    for field, wanted in asked.items():
        if params is not None and wanted and field not in params:
            word = _WORDS.get(field, field)
            whose = draft.model or "The model here"
            raise InvalidRequest(f"{whose} cannot take the {word} into account. Leave it out.", field=field)


def check_numbers(draft: ImageRequest, limits: Limits) -> None:
    """Raise InvalidRequest where steps, guidance, seed, count or strength is out of its range."""
    table = ranges(limits)
    for field in ("steps", "guidance_scale", "seed", "count"):
        table[field].check(getattr(draft, field))
    if draft.strength is None:
        return
    table["strength"].check(draft.strength)
    if int(draft.steps * draft.strength) < 1:
        least = math.ceil(100 / draft.steps) / 100
        raise InvalidRequest(
            f"Strength {number(draft.strength)} of {draft.steps} steps is less than one step. "
            f"Try --strength {number(least)} or more.",
            field="strength",
        )


def check_inputs(init: Image | None, mask: Image | None, options: Options, limits: Limits) -> None:
    """Raise InvalidRequest where pictures are missing, too large or do not fit each other."""
    if init is None:
        missing = "strength" if options.strength is not None else "mask_image" if mask else None
        missing = "upscale" if options.upscale else missing
        if missing:
            word = _WORDS.get(missing, missing)
            raise InvalidRequest(
                f"A {word} needs a picture to start from. Attach one, or leave the {word} out.", field=missing
            )
        return
    _check_image(init, "init_image", limits)
    if mask is None:
        return
    _check_image(mask, "mask_image", limits)
    if options.upscale:
        raise InvalidRequest("An upscale takes no mask. Leave the mask out.", field="mask_image")
    if (mask.width, mask.height) != (init.width, init.height):
        raise InvalidRequest(
            f"The mask must be as large as the picture, {init.width}×{init.height}, not "
            f"{mask.width}×{mask.height}. Scale it.",
            field="mask_image",
        )


def doubled(image: Image, options: Options, limits: Limits) -> tuple[int, int]:
    """The size of an upscale. Raises InvalidRequest where another was said, or where it is out of range."""
    width, height = 2 * image.width, 2 * image.height
    said = (options.width, options.height)
    if options.aspect is not None or any(
        a not in (None, b) for a, b in zip(said, (width, height), strict=True)
    ):
        raise InvalidRequest(
            f"An upscale is twice as large as its picture, {width}×{height}. Leave the size out.",
            field="width",
        )
    most, least = limits.max_side, limits.min_side
    for field, side in (("width", width), ("height", height)):
        if side > most:
            raise InvalidRequest(
                f"Twice the size is {width}×{height}, and a side may have at most {most} pixels. Upscale a "
                f"picture of at most {most // 2}×{most // 2}.",
                field=field,
            )
        if side < least or side % limits.side_multiple:
            raise InvalidRequest(
                f"Twice the size is {width}×{height}, and sides must be multiples of {limits.side_multiple} "
                f"from {least}. Scale the picture first.",
                field=field,
            )
    check_ratio(width, height, limits, field="upscale")
    return width, height


def _check_image(image: Image, field: str, limits: Limits) -> None:
    pixels = image.width * image.height
    if len(image.data) <= limits.max_image_bytes and 0 < pixels <= limits.max_image_pixels:
        return
    raise InvalidRequest(
        f"The {_WORDS[field]} has {image.width}×{image.height} pixels in {len(image.data):,} bytes; at "
        f"most {limits.max_image_pixels:,} pixels and {limits.max_image_bytes:,} bytes are allowed. "
        "Scale it down.",
        field=field,
    )


def check_work(request: ImageRequest, limits: Limits, prompts: int) -> None:
    """Raise InvalidRequest where a group of `prompts` such requests is more than may be asked for at once."""
    pixels = request.width * request.height
    if request.upscale:
        _check_upscale(request, limits, prompts)
        return
    work = pixels * request.steps * request.count * prompts
    if work <= limits.max_work:
        return
    times = f" × {prompts} prompts" if prompts > 1 else ""
    steps = limits.max_work // (pixels * request.count * prompts)
    count = limits.max_work // (pixels * request.steps * prompts)
    fits = [f"--steps {steps}"] * (steps >= limits.min_steps) + [f"--count {count}"] * (count >= 1)
    fits += ["fewer prompts"] * (prompts > 1) + ["a smaller size"]
    pictures = "1 picture" if request.count == 1 else f"{request.count} pictures"
    raise InvalidRequest(
        f"{request.width}×{request.height} pixels × {request.steps} steps × {pictures}{times} = {work:,}, "
        f"over the limit of {limits.max_work:,} for one request. Try {' or '.join(fits)}.",
        field="steps",
    )


def _check_upscale(request: ImageRequest, limits: Limits, prompts: int) -> None:
    """An upscale makes `strength` of its steps alone, and nobody typed its size."""
    steps = max(1, int(request.steps * (request.strength or 1.0)))
    work = request.width * request.height * steps * request.count * prompts
    if work > limits.max_work:
        raise InvalidRequest(
            f"Twice the size, {request.width}×{request.height} pixels × {steps} steps = {work:,}, is over "
            f"the limit of {limits.max_work:,} for one request. Upscale a smaller picture, or one with fewer "
            "steps.",
            field="steps",
        )
