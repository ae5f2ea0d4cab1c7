"""What is checked of a request before anything is sent. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from bot.core.errors import InvalidRequest
from bot.core.request import ImageRequest
from bot.core.schedulers import find_scheduler


def checked_model(request: ImageRequest, models: Collection[str]) -> str:
    """The id of the model that a request means, the first one by default. Raises InvalidRequest."""
    if request.model is None:
        return next(iter(models))
    if request.model in models:
        return request.model
    raise InvalidRequest(
        f"There is no model {request.model!r} here{_perhaps(request.model, models)}", field="model"
    )


def checked_scheduler(request: ImageRequest, offered: Collection[str]) -> str | None:
    """The canonical name of the scheduler that a request asks for, None for none. Raises InvalidRequest."""
    if request.scheduler is None:
        return None
    name = find_scheduler(request.scheduler)
    if name is None or name not in offered:
        raise InvalidRequest(
            f"There is no scheduler {request.scheduler!r} here{_perhaps(request.scheduler, offered)}",
            field="scheduler",
        )
    return name


def check_pictures(request: ImageRequest) -> None:
    """Raise InvalidRequest where the pictures to start from do not fit together."""
    image = request.init_image
    if request.mask_image is not None and image is None:
        raise InvalidRequest("A mask needs a picture to apply to: attach one.", field="mask_image")
    if not request.upscale:
        return
    if image is None:
        raise InvalidRequest("An upscale needs the picture that is to be made larger.", field="upscale")
    if request.mask_image is not None:
        raise InvalidRequest("An upscale paints the whole picture: leave out the mask.", field="mask_image")
    if (request.width, request.height) != (2 * image.width, 2 * image.height):
        raise InvalidRequest(
            f"An upscale is made at twice the sides: {2 * image.width}×{2 * image.height}, "
            f"not {request.width}×{request.height}.",
            field="size",
        )


def _perhaps(text: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(text, names, n=3, cutoff=0.4) or names[:3]
    return f"; there is {', '.join(near)}." if near else "."
