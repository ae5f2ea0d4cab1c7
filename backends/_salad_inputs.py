"""What a Salad endpoint is asked and what it answers: the vocabulary of docker-diffusers-api, which both of
Salad's APIs carry. `modelInputs` go to a pipeline of diffusers, `callInputs` say which.

One picture is asked for at a time: several in one call come from one generator, so that all but the first
could never be made again by themselves. Knows no HTTP.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from bot.core.errors import FairbrushError, InvalidRequest, ProtocolError, Unavailable
from bot.core.pictures import exact_size
from bot.core.request import JSON, Image, ImageRequest
from bot.core.schedulers import SCHEDULER_ALIASES, SCHEDULERS

_OTHER_MODELS: Final = ("LCM", "TCD", "Flow Euler", "SASolver", "DPM++ SDE", "DPM++ 3M SDE", "DPM++ 2M SDE")
OFFERED_SCHEDULERS: Final = tuple(
    name
    for name, spec in SCHEDULERS.items()
    if name not in _OTHER_MODELS and SCHEDULER_ALIASES[spec.class_name] == name
)
"""Those that a class name alone tells: the API takes no settings of a scheduler."""
REFUSED_SCHEDULERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        name: "Salad's endpoints take a scheduler's name without settings."
        for name in SCHEDULERS
        if name not in OFFERED_SCHEDULERS
    }
)
PIPELINES: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "sd": (
            "StableDiffusionPipeline",
            "StableDiffusionImg2ImgPipeline",
            "StableDiffusionInpaintPipeline",
        ),
        "sdxl": (
            "StableDiffusionXLPipeline",
            "StableDiffusionXLImg2ImgPipeline",
            "StableDiffusionXLInpaintPipeline",
        ),
        "auto": (
            "AutoPipelineForText2Image",
            "AutoPipelineForImage2Image",
            "AutoPipelineForInpainting",
        ),
    }
)
"""Family -> pipelines for words, for a picture, for a picture with a mask."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How an endpoint is spoken to. pipelines: a key of PIPELINES; image: the name of a picture's field,
    `image`, or `init_image` with old images of docker-diffusers-api; safety_checker: whether it is on."""

    pipelines: str = "sd"
    image: str = "image"
    safety_checker: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """pictures: base64, data: URLs or links; flagged: which of them the safety checker kept back."""

    pictures: tuple[str, ...]
    flagged: tuple[bool, ...]


def inputs_of(request: ImageRequest, seed: int, wording: Wording) -> dict[str, JSON]:
    """The inputs for one picture. Scales input pictures: milliseconds to seconds of CPU."""
    inputs: dict[str, JSON] = {
        "prompt": request.prompt,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "num_images_per_prompt": 1,
        "seed": seed,
    }
    if request.negative_prompt:
        inputs["negative_prompt"] = request.negative_prompt
    if request.init_image is not None:
        inputs[wording.image] = _encoded(request.init_image, request)
        if request.strength is not None:
            inputs["strength"] = request.strength
    if request.mask_image is not None:
        inputs["mask_image"] = _encoded(request.mask_image, request)
    if request.init_image is None or request.mask_image is not None:
        inputs |= {"width": request.width, "height": request.height}  # image to image takes the picture's
    return {"modelInputs": inputs, "callInputs": _call(request, wording)}


def _call(request: ImageRequest, wording: Wording) -> dict[str, JSON]:
    words, picture, mask = PIPELINES[wording.pipelines]
    pipeline = words if request.init_image is None else picture if request.mask_image is None else mask
    call: dict[str, JSON] = {
        "PIPELINE": pipeline,
        "safety_checker": "true" if wording.safety_checker else "false",  # strings, as documented
    }
    if request.scheduler is not None:  # else the endpoint's own
        call["SCHEDULER"] = SCHEDULERS[request.scheduler].class_name
    return call


def _encoded(image: Image, request: ImageRequest) -> str:
    return base64.b64encode(exact_size(image.data, request.width, request.height)).decode("ascii")


def with_seed(inputs: JSON, seed: int) -> JSON:
    """The same inputs for another picture, as a job tells them. Raises ProtocolError."""
    wanted = inputs.get("modelInputs") if isinstance(inputs, Mapping) else None
    if not isinstance(inputs, Mapping) or not isinstance(wanted, Mapping):
        raise ProtocolError("Salad does not show what it was asked.", detail="job without modelInputs")
    return {**inputs, "modelInputs": {**wanted, "seed": seed}}


# --- answers ----------------------------------------------------------------------------------------------

_KEYS: Final = ("images", "images_base64", "image_base64", "image")


def read_output(output: JSON) -> Output:
    """The pictures of an output, in order. Raises what a `$error` in it means, and ProtocolError (accepted
    None: such an answer was worked for, and would be again)."""
    if isinstance(output, Sequence) and not isinstance(output, str) and len(output) == 1:
        output = output[0]  # some workers answer a list of one
    if not isinstance(output, Mapping):
        raise ProtocolError("Salad answered without pictures.", detail=type(output).__name__, accepted=None)
    if (error := output.get("$error")) is not None:
        raise _error(error)
    found = next((found for key in _KEYS if (found := output.get(key))), None)
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        keys = ", ".join(sorted(map(str, output)))[:200]
        raise ProtocolError("Salad answered without pictures.", detail=f"keys: {keys}", accepted=None)
    pictures = tuple(str(text) for text in texts)
    flags = output.get("nsfw_content_detected")
    flags = flags if isinstance(flags, Sequence) and not isinstance(flags, str) else (flags,)
    flagged = tuple(index < len(flags) and flags[index] is True for index in range(len(pictures)))
    return Output(pictures, flagged)


_REFUSALS: Final[Mapping[str, tuple[str | None, str]]] = MappingProxyType(
    {
        "INVALID_INPUTS": (None, "The endpoint does not take such a request."),
        "INVALID_SCHEDULER": (
            "scheduler",
            "The endpoint does not have this scheduler. Choose another one, or leave it out.",
        ),
        "NO_MODEL_ID": ("model", "The endpoint does not know which model it holds; its owner has to set it."),
        "MODEL_MISMATCH": ("model", "The endpoint holds another model. Leave the model out."),
        "NO_SUCH_PIPELINE": (
            "image",
            "The endpoint cannot make this kind of picture; it may take words alone.",
        ),
    }
)
_MISTAKES: Final = frozenset({"ValueError", "TypeError", "KeyError", "AttributeError", "NotImplementedError"})


def _error(error: JSON) -> FairbrushError:
    """What a `$error` means: a refusal, or a fault that another try may get over. Stacks are told nobody."""
    facts = error if isinstance(error, Mapping) else {"message": error}
    code, name = str(facts.get("code", ""))[:60], str(facts.get("name", ""))[:60]
    detail = f"{code} {name}: {str(facts.get('message', ''))[:300]}"
    if code in _REFUSALS:
        field, text = _REFUSALS[code]
        return InvalidRequest(text, field=field, detail=detail, accepted=True)
    if code == "PIPELINE_ERROR" and name in _MISTAKES:
        text = "The endpoint's model does not take such a request. Try another size, or fewer options."
        return InvalidRequest(text, detail=detail, accepted=True)
    return Unavailable("The endpoint failed while making the picture.", detail=detail, accepted=True)
