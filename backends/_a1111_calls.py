"""The calls to AUTOMATIC1111's API that make one request, and what its answers mean. Pure.

Source: modules/api and modules/progress.py of AUTOMATIC1111/stable-diffusion-webui 1.10; older versions,
Forge and SD.Next ignore fields that they do not know.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backends._a1111_catalogue import Catalogue, Sampler
from backends._http import Answer, decoded_picture, raise_for
from bot.core.errors import AuthFailed, FairbrushError, InvalidRequest, ProtocolError, Unavailable
from bot.core.request import JSON, MAX_SEED, Image, ImageRequest

DEFAULT_STRENGTH: Final = 0.75
UPSCALE_STRENGTH: Final = 0.35
_MOST_IN_ONE_CALL: Final = 4  # pictures; an answer holds them all in base64
_BATCH_PIXELS: Final = 512 * 512  # times the batch: pixels made at a time
_CROP: Final = 1  # resize_mode: scale to cover, cut what stands out
_ORIGINAL: Final = 1  # inpainting_fill: start from what is under the mask
_PLACE: Final = re.compile(r"queue:?\s*(\d{1,9})\s*/\s*\d+", re.IGNORECASE)
# Options that put grids and masks among the pictures.
_OVERRIDES: Final[Mapping[str, JSON]] = {
    "return_grid": False,
    "return_mask": False,
    "return_mask_composite": False,
}
_FIELDS: Final = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "steps": "steps",
    "cfg_scale": "guidance_scale",
    "width": "size",
    "height": "size",
    "seed": "seed",
    "sampler_name": "scheduler",
    "sampler_index": "scheduler",
    "scheduler": "scheduler",
    "denoising_strength": "strength",
    "init_images": "init_image",
    "mask": "mask_image",
    "batch_size": "count",
    "n_iter": "count",
    "sd_model_checkpoint": "model",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One POST for pictures first ... first + count - 1. task: what progress is asked for by."""

    first: int
    count: int
    path: str
    task: str
    body: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Made:
    """One picture of an answer, as it came."""

    index: int
    seed: int
    data: bytes
    mime: str


@dataclass(frozen=True, slots=True)
class Stand:
    """How a task stands at the server. ahead: tasks before it, None where it does not wait; preview: a data:
    URL; preview_id: what the next question names, so that it is not sent twice."""

    active: bool = False
    ahead: int | None = None
    fraction: float = 0.0
    preview: str = ""
    preview_id: int = -1

    @property
    def known(self) -> bool:
        """Whether the server has it: it waits or is being made."""
        return self.active or self.ahead is not None


def calls_for(
    request: ImageRequest, catalogue: Catalogue, model_id: str, ticket: str, batch: int
) -> Iterator[Call]:
    """The calls, in order. batch: pictures of 512 x 512 pixels made at a time. The server counts seeds up
    from the first one without a bound, so that a call ends where ours start again at 0."""
    common = _common(request, catalogue, model_id)
    at_once = max(1, batch * _BATCH_PIXELS // (request.width * request.height))
    first = 0
    while first < request.count:
        seed = request.seed_of(first)
        count = min(_MOST_IN_ONE_CALL, request.count - first, MAX_SEED - seed + 1)
        size = max(size for size in range(1, count + 1) if count % size == 0 and size <= at_once)
        task = task_name(ticket, first)
        own: dict[str, JSON] = {"seed": seed, "batch_size": size, "n_iter": count // size}
        path = "/sdapi/v1/txt2img" if request.init_image is None else "/sdapi/v1/img2img"
        yield Call(first, count, path, task, {**common, **own, "force_task_id": task})
        first += count


def task_name(ticket: str, first: int) -> str:
    """What the server calls the call that begins with picture `first`."""
    return f"task(fairbrush-{ticket}-{first})"


def strength_of(request: ImageRequest) -> float | None:
    """How much is repainted; None where there is nothing to start from."""
    if request.init_image is None:
        return None
    default = UPSCALE_STRENGTH if request.upscale else DEFAULT_STRENGTH
    return default if request.strength is None else request.strength


def _common(request: ImageRequest, catalogue: Catalogue, model_id: str) -> dict[str, JSON]:
    scheduler = request.scheduler or catalogue.default_scheduler
    sampler = catalogue.sampler(scheduler, model_id) if scheduler else None
    overrides = {name: value for name, value in _OVERRIDES.items() if name in catalogue.settings}
    body: dict[str, JSON] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "steps": request.steps,
        "cfg_scale": request.guidance_scale,
        "width": request.width,
        "height": request.height,
        "override_settings": {"sd_model_checkpoint": catalogue.titles.get(model_id, model_id), **overrides},
        "override_settings_restore_afterwards": True,
        "send_images": True,
        "save_images": False,
    }
    return {**body, **_sampling(sampler), **_start(request)}


def _sampling(sampler: Sampler | None) -> dict[str, JSON]:
    if sampler is None:
        return {}
    schedule: dict[str, JSON] = {} if sampler.schedule is None else {"scheduler": sampler.schedule}
    return {"sampler_name": sampler.name, **schedule}


def _start(request: ImageRequest) -> dict[str, JSON]:
    if request.init_image is None:
        return {}
    body: dict[str, JSON] = {
        "init_images": [_coded(request.init_image)],
        "denoising_strength": strength_of(request),
        "resize_mode": _CROP,
        "include_init_images": False,
    }
    if request.mask_image is not None:
        body |= {
            "mask": _coded(request.mask_image),
            "inpainting_mask_invert": 0,  # white is repainted
            "inpainting_fill": _ORIGINAL,
            "inpaint_full_res": False,
            "mask_blur": 4,
        }
    return body


def _coded(image: Image) -> str:
    return base64.b64encode(image.data).decode("ascii")


# --- answers ----------------------------------------------------------------------------------------------


def read_stand(fields: Mapping[str, JSON]) -> Stand:
    """The answer of /internal/progress."""
    active, queued = fields.get("active") is True, fields.get("queued") is True
    place = _PLACE.search(str(fields.get("textinfo") or ""))
    fraction = fields.get("progress")
    done = min(1.0, max(0.0, fraction)) if active and isinstance(fraction, int | float) else 0.0
    preview, number = fields.get("live_preview"), fields.get("id_live_preview")
    return Stand(
        active=active,
        # The numbers are places among those that wait; one more is being made.
        ahead=(int(place[1]) if place else 1) if queued and not active else None,
        fraction=float(done),
        preview=preview if active and isinstance(preview, str) else "",
        preview_id=number if isinstance(number, int) else -1,
    )


def read_made(answer: Answer, call: Call, seeds: Sequence[int]) -> list[Made]:
    """The pictures of an answer, checked by their headers; seeds: those that were asked for. Blocking.

    Raises ProtocolError. What extensions put before or after them is left out.
    """
    fields = answer.fields()
    images = fields.get("images")
    if isinstance(images, str) or not isinstance(images, Sequence):
        raise _odd("no images")
    info = _info(fields.get("info"))
    first = info.get("index_of_first_image")
    start = first if isinstance(first, int) and 0 <= first <= len(images) else 0
    told = info.get("all_seeds")
    used = told if isinstance(told, Sequence) and not isinstance(told, str) else ()
    made = []
    for number, text in enumerate(images[start : start + call.count]):
        data, mime = decoded_picture(str(text))
        seed = used[number] if number < len(used) else None
        made.append(Made(call.first + number, seed if isinstance(seed, int) else seeds[number], data, mime))
    if not made:
        raise _odd("no pictures")
    return made


def _info(text: JSON) -> Mapping[str, JSON]:
    """What the server says of the pictures: JSON in a string."""
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}


def _odd(why: str) -> ProtocolError:
    return ProtocolError("The image server answered without pictures.", detail=why, accepted=True)


def refuse(answer: Answer, *, keyed: bool) -> None:
    """Raise what an answer to a call means that is no success; nothing for one that is.

    Nothing is paid here, so that what failed inside may always be tried again (accepted is not None). keyed:
    FAIRBRUSH_A1111_AUTH was sent.
    """
    if answer.status < 300:
        return
    if answer.status == 401:
        what = "does not accept" if keyed else "wants a user and a password:"
        raise AuthFailed(
            f"The image server {what} FAIRBRUSH_A1111_AUTH.", detail=answer.text(), accepted=False
        )
    try:
        fields = answer.fields()
    except ProtocolError:
        fields = {}
    raise _meaning(answer, fields)


def _meaning(answer: Answer, fields: Mapping[str, JSON]) -> FairbrushError:
    detail = f"{answer.status}: {answer.text()}"
    kind, texts = str(fields.get("error", "")), f"{fields.get('errors', '')} {fields.get('detail', '')}"
    if "outofmemory" in kind.casefold() or "out of memory" in texts.casefold():
        return InvalidRequest(
            "The image server has too little memory for this. Ask for a smaller size.",
            field="size",
            detail=detail,
            accepted=False,
        )
    if answer.status == 422 or answer.status in (400, 404):
        return _refusal(fields, detail)
    if answer.status >= 500 and answer.status != 503:
        return Unavailable("The image server failed inside.", detail=detail, accepted=True)
    try:
        raise_for(answer, post=True)
    except FairbrushError as error:
        return error
    return ProtocolError("The image server answered something unexpected.", detail=detail, accepted=False)


def _refusal(fields: Mapping[str, JSON], detail: str) -> FairbrushError:
    """400, 404 and 422: which of our fields it does not take."""
    said = fields.get("detail")
    if isinstance(said, str):
        for word, name in (("sampler", "scheduler"), ("scheduler", "scheduler"), ("model", "model")):
            if word in said.casefold():
                return InvalidRequest(
                    f"The image server no longer has this {name}.", field=name, detail=detail, accepted=False
                )
    items = said if isinstance(said, Sequence) and not isinstance(said, str) else ()
    for item in items:
        place = item.get("loc") if isinstance(item, Mapping) else None
        names = [str(part) for part in place] if isinstance(place, Sequence) else []
        field = next((_FIELDS[name] for name in names if name in _FIELDS), None)
        if field is not None:
            return InvalidRequest(
                f"The image server does not take this {field.replace('_', ' ')}.",
                field=field,
                detail=detail,
                accepted=False,
            )
    return InvalidRequest("The image server refuses the request.", detail=detail, accepted=False)
