"""What Salad's two APIs share: the key, errors as problem details, the paths, and what inputs mean.

Inputs are those of docker-diffusers-api: `modelInputs` go to a pipeline, `callInputs` say which one.
Addresses to fetch from or to send to are refused by name, whatever they hold.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters._incoming import Problem, status_of
from adapters.api.aliases import check_name, model_of, slug
from adapters.api.context import json_response
from adapters.api.fields import Fields
from bot.core.errors import ContentRejected, FairbrushError, InvalidRequest
from bot.core.options import Options
from bot.core.request import JSON
from bot.core.schedulers import find_scheduler
from bot.core.text import clip

if TYPE_CHECKING:
    from adapters.api.door import Visit
    from bot.core.studio import Studio

MAX_BODY: Final = 64 * 2**20  # two pictures in base64
MAX_TEXT: Final = 64 * 1024  # characters of a prompt that are looked at
NAMES: Final = {
    "prompt": "modelInputs.prompt",
    "width": "modelInputs.width",
    "height": "modelInputs.height",
    "steps": "modelInputs.num_inference_steps",
    "guidance_scale": "modelInputs.guidance_scale",
    "seed": "modelInputs.seed",
    "count": "modelInputs.num_images_per_prompt",
    "negative_prompt": "modelInputs.negative_prompt",
    "strength": "modelInputs.strength",
    "scheduler": "callInputs.SCHEDULER",
    "init_image": "modelInputs.init_image",
    "image": "modelInputs.init_image",
    "mask_image": "modelInputs.mask_image",
}
"""Fields of the core, and what these APIs call them."""
_PICTURES: Final = ("init_image", "image", "mask_image")
_ORGANIZATION: Final = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", re.ASCII)
_FETCHED: Final = frozenset({"MODEL_URL", "CHECKPOINT_URL", "SEND_URL", "SIGN_KEY", "is_url", "VAE_URL"})
_NOT_FETCHED: Final = "is never taken: this server fetches from and sends to no address that a request names."
_TEXT: Final = frozenset(
    {
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusion3Pipeline",
        "FluxPipeline",
        "AutoPipelineForText2Image",
    }
)
_FROM_PICTURE: Final = frozenset(
    {
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusion3Img2ImgPipeline",
        "FluxImg2ImgPipeline",
        "AutoPipelineForImage2Image",
    }
)
_INPAINT: Final = frozenset(
    {
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInpaintPipelineLegacy",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusion3InpaintPipeline",
        "FluxInpaintPipeline",
        "AutoPipelineForInpainting",
    }
)
_ANY: Final = frozenset({"DiffusionPipeline"})
_CODES: Final = {
    "callInputs.PIPELINE": "NO_SUCH_PIPELINE",
    "callInputs.SCHEDULER": "INVALID_SCHEDULER",
    "callInputs.MODEL_ID": "MODEL_MISMATCH",
}


class SaladForm:
    """The Form port: the header Salad-Api-Key, and errors as problem details (RFC 9457)."""

    name = "salad"

    def key_in(self, request: web.Request) -> str:
        """The key; empty where there is none."""
        return request.headers.get("Salad-Api-Key", "").strip()

    def refusal(self, request: web.Request, problem: Problem | FairbrushError) -> web.Response:
        """What went wrong. field: which one of the body; code: that of docker-diffusers-api."""
        status = status_of(problem)
        told: dict[str, JSON] = {
            "type": "about:blank",
            "title": _title(status),
            "status": status,
            "detail": clip(problem.message, 1900) or _title(status),
            "instance": request.rel_url.raw_path[:2000],
        }
        if problem.field and not isinstance(problem, ContentRejected):
            told["field"] = clip(problem.field, 200)
        if isinstance(problem, InvalidRequest):
            told["code"] = _CODES.get((problem.field or "").removeprefix("input."), "INVALID_INPUTS")
        return json_response(told, status=status, content_type="application/problem+json")


def place_of(request: web.Request, visit: Visit) -> tuple[str, str]:
    """The organization and the endpoint that a path names. Problem 404 where they cannot be names, 403 where
    the key belongs to another organization. The endpoint is empty where the path has none."""
    organization = request.match_info["organization"]
    if not _ORGANIZATION.fullmatch(organization):
        raise Problem(404, "There is no such organization: names are a-z, 0-9 and -, up to 63 characters.")
    if visit.key.organization is not None and visit.key.organization != organization:
        raise Problem(403, f"This key is of the organization {visit.key.organization} alone.")
    name = request.match_info.get("endpoint", "")
    if not name:
        return organization, ""
    check_name(name, "endpoint")
    return organization, slug(name)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a request asks for. warnings: what of it is done otherwise, for people."""

    prompts: tuple[str, ...]
    options: Options
    init_image: bytes | None
    mask_image: bytes | None
    warnings: tuple[str, ...]


async def read_inputs(body: Fields, endpoint: str, studio: Studio) -> Inputs:
    """`modelInputs` and `callInputs` of `body`; large pictures are read in a thread. Raises InvalidRequest,
    and Problem 413 for an endless prompt."""
    model_inputs, call_inputs = body.object("modelInputs", required=True), body.object("callInputs")
    body.finish()
    model_inputs.refuse(_FETCHED, _NOT_FETCHED)
    call_inputs.refuse(_FETCHED, _NOT_FETCHED)
    init_image, mask_image = None, None
    if any(model_inputs.has(name) for name in _PICTURES):
        init_image, mask_image = await asyncio.to_thread(_pictures, model_inputs)
    _check_pipeline(call_inputs, model_inputs, init_image is not None, mask_image is not None)
    model, warnings = _model(call_inputs, endpoint, studio)
    warnings += _content_check(call_inputs, studio, model)
    prompts, options = _options(model_inputs, model, _scheduler(call_inputs))
    model_inputs.finish()
    call_inputs.finish()
    return Inputs(prompts, options, init_image, mask_image, tuple(warnings))


def _options(fields: Fields, model: str | None, scheduler: str | None) -> tuple[tuple[str, ...], Options]:
    prompts, negative = fields.texts("prompt"), fields.text("negative_prompt")
    if max(map(len, (*prompts, negative or ""))) > MAX_TEXT:
        raise Problem(413, f"A prompt is too long: at most {MAX_TEXT:,} characters are read.")
    options = Options(
        negative_prompt=negative,
        width=fields.whole("width"),
        height=fields.whole("height"),
        steps=fields.whole("num_inference_steps"),
        guidance_scale=fields.real("guidance_scale"),
        seed=fields.whole("seed"),
        count=fields.whole("num_images_per_prompt"),
        strength=fields.real("strength"),
        scheduler=scheduler,
        model=model,
    )
    return prompts, options


def _pictures(fields: Fields) -> tuple[bytes | None, bytes | None]:
    return _picture(fields, *_PICTURES[:2]), fields.picture(_PICTURES[2])


def _picture(fields: Fields, *names: str) -> bytes | None:
    """One picture that goes by several names."""
    found = [(name, data) for name in names if (data := fields.picture(name)) is not None]
    if len(found) > 1:
        first, second = (fields.name(name) for name, _ in found)
        raise InvalidRequest(f"{first} and {second} are the same input. Send one of them.", field=second)
    return found[0][1] if found else None


def _check_pipeline(calls: Fields, inputs: Fields, has_picture: bool, has_mask: bool) -> None:
    """Raise InvalidRequest for a pipeline that is not run here, or that the pictures do not fit."""
    name, field = calls.text("PIPELINE"), calls.name("PIPELINE")
    if name is None or name in _ANY:
        return
    if name not in _TEXT | _FROM_PICTURE | _INPAINT:
        known = ", ".join(sorted(_TEXT | _FROM_PICTURE | _INPAINT))
        raise InvalidRequest(f"{field}: {clip(name, 60)} is not run here. Known: {known}.", field=field)
    for picture, has, takes, other in (
        ("init_image", has_picture, _FROM_PICTURE | _INPAINT, "StableDiffusionImg2ImgPipeline"),
        ("mask_image", has_mask, _INPAINT, "StableDiffusionInpaintPipeline"),
    ):
        field, wanted = inputs.name(picture), name in takes
        if wanted and not has:
            raise InvalidRequest(f"{field} is missing: {name} needs one.", field=field)
        if has and not wanted:
            raise InvalidRequest(f"{name} takes no {field}. Leave it out, or ask for {other}.", field=field)


def _scheduler(fields: Fields) -> str | None:
    name, field = fields.text("SCHEDULER"), fields.name("SCHEDULER")
    if name is None:
        return None
    if (found := find_scheduler(name)) is None:
        raise InvalidRequest(
            f"{field}: there is no scheduler {clip(name, 60)}. Send the name of a class of diffusers, such "
            "as DPMSolverMultistepScheduler.",
            field=field,
        )
    return found


def _model(fields: Fields, endpoint: str, studio: Studio) -> tuple[str | None, list[str]]:
    """The model that MODEL_ID names, else the endpoint's."""
    name, usual = fields.text("MODEL_ID"), model_of(endpoint, studio)
    if name is None:
        return usual, []
    model = model_of(name, studio, field=fields.name("MODEL_ID"))
    if model is not None or usual is None:
        return model, [] if model else [f"{clip(name, 60)} is not offered here: the default model was taken."]
    return usual, [f"{clip(name, 60)} is not offered here: {usual} was taken, as the endpoint says."]


def _content_check(fields: Fields, studio: Studio, model: str | None) -> list[str]:
    wanted = fields.flag("safety_checker", as_text=True)
    if wanted is None or wanted == (checked := studio.checks_content(model)):
        return []
    if checked:
        return ["The content check stays on: only who runs this server can turn it off."]
    return ["This model has no content check: its pictures are not looked at."]


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
