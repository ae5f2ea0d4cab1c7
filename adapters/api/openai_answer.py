"""What OpenAI's images API answers: pictures as base64 or links, made from a result.

Everything about files here is slow, and is called in a thread.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Final

from adapters.api.openai_form import OpenAIProblem
from adapters.api.openai_request import FORMATS, Wanted
from bot.core import messages
from bot.core.errors import ContentRejected, NotFound
from bot.core.pictures import as_type, exact_size
from bot.core.ports import Preview
from bot.core.request import JSON, ImageRequest, ImageResult, Picture, State

USAGE: Final[dict[str, JSON]] = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
"""Nothing here is counted in tokens; clients read the fields."""

Linked = Callable[[Picture], str | None]


def check_made(result: ImageResult) -> None:
    """Raise what there is to say where no picture was made."""
    match result.state:
        case State.DONE if result.pictures:
            return
        case State.WITHHELD | State.DONE:
            raise ContentRejected(messages.withheld(result.message, guild="key"))
        case State.CANCELLED:
            raise OpenAIProblem("The request was cancelled.", code="cancelled", status=409)
    said = messages.failed(result.message, result.reference)
    if result.remedy:
        label = f"{result.remedy['width']}x{result.remedy['height']}"
        raise OpenAIProblem(f"{said} Try size {label}.", code="invalid_value", param="size")
    raise OpenAIProblem(said, code="generation_failed", status=502)


def answer_of(result: ImageResult, wanted: Wanted, linked: Linked) -> bytes:
    """The whole answer as JSON. Raises NotFound where the pictures were deleted meanwhile."""
    first = result.pictures[0]
    mime = first.mime if wanted.links else wanted.mime
    body: dict[str, JSON] = {
        "created": int(time.time()),
        "data": [_item(picture, wanted, linked) for picture in result.pictures],
        **_common(result, wanted),
        "output_format": next(form for form, known in FORMATS.items() if known == mime),
        "usage": USAGE,
    }
    if result.message:
        body["message"] = result.message
    return _encoded(body)


def completed_of(result: ImageResult, wanted: Wanted) -> bytes:
    """The last event of a stream."""
    picture = result.pictures[0]
    item = _item(picture, wanted, lambda _: None)
    kind = "image_generation.completed"
    return event(
        kind, _streamed(wanted, picture.width, picture.height) | item | {"usage": USAGE, "type": kind}
    )


def partial_of(preview: Preview, index: int, request: ImageRequest, wanted: Wanted) -> bytes:
    """A preview as an event of a stream, at the size of the picture. Raises ProtocolError where the backend's
    preview is none."""
    data = as_type(exact_size(preview.data, request.width, request.height), wanted.mime, quality=85)
    kind = "image_generation.partial_image"
    body = _streamed(wanted, request.width, request.height) | {
        "b64_json": base64.b64encode(data).decode("ascii"),
        "partial_image_index": index,
        "type": kind,
    }
    return event(kind, body)


def event(name: str, body: JSON) -> bytes:
    """A server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + _encoded(body) + b"\n\n"


def _streamed(wanted: Wanted, width: int, height: int) -> dict[str, JSON]:
    return {
        "created_at": int(time.time()),
        "size": f"{width}x{height}",
        "quality": wanted.quality,
        "background": wanted.background,
        "output_format": wanted.form,
    }


def _common(result: ImageResult, wanted: Wanted) -> dict[str, JSON]:
    first = result.pictures[0]
    told: dict[str, JSON] = {
        "size": f"{first.width}x{first.height}",
        "background": wanted.background,
        "model": result.model,
        "device_seconds": result.device_seconds,
        "cost": result.money,
    }
    return told if wanted.quality == "auto" else told | {"quality": wanted.quality}


def _item(picture: Picture, wanted: Wanted, linked: Linked) -> dict[str, JSON]:
    item: dict[str, JSON] = {"seed": picture.seed}
    made_from = str(picture.recipe.get("prompt", ""))
    if made_from and made_from != wanted.options.prompt:
        item["revised_prompt"] = made_from
    if wanted.links:
        return item | {"url": linked(picture) or ""}
    try:
        data = picture.path.read_bytes()
    except FileNotFoundError:
        raise NotFound("The pictures of this request were deleted.") from None
    data = as_type(data, wanted.mime, quality=max(1, wanted.compression))
    return item | {"b64_json": base64.b64encode(data).decode("ascii")}


def _encoded(body: JSON) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")
