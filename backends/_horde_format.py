"""The AI Horde's format: its sizes and samplers, bodies that go out, refusals and models that come in.

Sources: its Swagger document (API 2) and the source of its server. Pure.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Final

from PIL import Image as Raster

from backends._answers import number
from backends._http import Answer, raise_for
from backends._licences import licence_of
from bot.core.errors import ContentRejected, InvalidRequest, ProtocolError, QuotaExceeded, Unavailable
from bot.core.pictures import exact_size
from bot.core.ports import Model
from bot.core.request import JSON, Image, ImageRequest

ANONYMOUS: Final = "0000000000"
MOST_MODELS: Final = 50
FREE_STEPS: Final = 50
"""Model calls a picture above which the Horde asks for kudos in advance, which nobody anonymous has."""
FREE_PIXELS: Final = 1024 * 1024
"""Likewise pixels, while it is idle; the busier it is, the fewer, down to 576 x 576."""
FREE_LCM_STEPS: Final = 10
ADVICE: Final = (
    "Your prompt leaves this machine: volunteers of the AI Horde make the picture and can read it."
)
ANONYMOUS_ADVICE: Final = " Without an account, pictures may be shared with the public too."
NOTE: Final = "Made by a volunteer of the AI Horde, who could read the prompt."

_STEP: Final = 64
_MOST_SIDE: Final = 3072
_PLAIN: Final = {
    "Euler a": "k_euler_a",
    "Euler": "k_euler",
    "LMS": "k_lms",
    "Heun": "k_heun",
    "DPM2": "k_dpm_2",
    "DPM2 a": "k_dpm_2_a",
    "DPM++ 2M": "k_dpmpp_2m",
    "DPM++ SDE": "k_dpmpp_sde",
    "DDIM": "DDIM",
    "LCM": "lcm",
}
_KARRAS: Final = ("Euler", "LMS", "Heun", "DPM2", "DPM2 a", "DPM++ 2M", "DPM++ SDE")
SAMPLERS: Final[Mapping[str, tuple[str, bool]]] = {
    **{name: (sampler, False) for name, sampler in _PLAIN.items()},
    **{f"{name} Karras": (_PLAIN[name], True) for name in _KARRAS},
}
"""A1111's name -> sampler_name, karras."""
_DOUBLE: Final = frozenset({"k_heun", "k_dpm_2", "k_dpm_2_a", "k_dpmpp_sde"})

_LARGE: Final = re.compile(r"xl|pony|illustrious|noob|animagine|flux|cascade|qwen|z-image", re.IGNORECASE)
_DIRECT: Final = re.compile(r"flux|z-image", re.IGNORECASE)
_FEW: Final = re.compile(r"turbo|lightning|schnell|hyper|lcm", re.IGNORECASE)
_OVER: Final = re.compile(r"over (\d{2,4})x(\d{2,4})")
_HASHES: Final = re.compile(r"#{3,}")

_FIELD_OF: Final[Mapping[str, str]] = {
    "InvalidSize": "size",
    "TooManySteps": "steps",
    "InvalidPromptSize": "prompt",
    "MissingPrompt": "prompt",
    "UnsupportedSampler": "scheduler",
    "UnsupportedModel": "model",
    "SourceImageRequiredForModel": "model",
    "Img2ImgMismatch": "init_image",
    "ImageValidationFailed": "init_image",
    "SourceImageResolutionExceeded": "init_image",
    "SourceImageSizeExceeded": "init_image",
    "SourceImageUnreadable": "init_image",
    "SourceMaskUnnecessary": "mask_image",
    "InpaintingMissingMask": "mask_image",
    "NotTrusted": "init_image",
    "UntrustedUnsafeIP": "init_image",
}
_KUDOS: Final = frozenset({"KudosUpfront", "SharedKeyEmpty", "SharedKeyInsufficientKudos"})


def fitted(width: int, height: int) -> tuple[int, int]:
    """The sides that are asked for in place of these: the nearest multiples of 64.

    >>> fitted(1000, 600), fitted(32, 4000)
    ((1024, 576), (64, 3072))
    """
    wide, high = ((side + _STEP // 2) // _STEP * _STEP for side in (width, height))
    return min(max(wide, _STEP), _MOST_SIDE), min(max(high, _STEP), _MOST_SIDE)


def free_steps(request: ImageRequest) -> int:
    """The most steps of such a request that nobody needs kudos for: some samplers call the model twice in
    each, and a picture to start from saves some."""
    sampler, _ = SAMPLERS.get(request.scheduler or "Euler a", ("k_euler_a", False))
    if sampler == "lcm":
        return FREE_LCM_STEPS
    most = FREE_STEPS / (2 if sampler in _DOUBLE else 1)
    if request.init_image is not None and request.mask_image is None and request.strength:
        most /= request.strength
    return int(most)


# --- going out --------------------------------------------------------------------------------------------


def body_of(request: ImageRequest, *, censor: bool) -> dict[str, JSON]:
    """What is posted for one picture. censor: workers keep back what is not fit for work. CPU-bound where
    there is a picture to start from."""
    width, height = fitted(request.width, request.height)
    sampler, karras = SAMPLERS[request.scheduler or "Euler a"]
    params: dict[str, JSON] = {
        "n": 1,
        "width": width,
        "height": height,
        "steps": request.steps,
        "cfg_scale": request.guidance_scale,
        "seed": str(request.seed),
        "sampler_name": sampler,
        "karras": karras,
    }
    body: dict[str, JSON] = {
        "prompt": _prompt(request),
        "params": params,
        "models": [request.model or ""],
        "nsfw": not censor,
        "censor_nsfw": censor,
        "r2": True,
        "shared": False,
    }
    if request.init_image is not None:
        body["source_image"] = _webp(request.init_image, width, height)
        body["source_processing"] = "inpainting" if request.mask_image is not None else "img2img"
        if request.mask_image is not None:
            body["source_mask"] = _webp(request.mask_image, width, height)
        if request.strength is not None:
            params["denoising_strength"] = min(1.0, max(0.01, request.strength))
    return body


def _prompt(request: ImageRequest) -> str:
    """Both prompts in one text; three hashes part them, so nobody else may write them."""
    parts = [_HASHES.sub("##", text) for text in (request.prompt, request.negative_prompt)]
    return " ### ".join(parts if request.negative_prompt else parts[:1])


def _webp(image: Image, width: int, height: int) -> str:
    with Raster.open(io.BytesIO(exact_size(image.data, width, height))) as raster:
        data = io.BytesIO()
        raster.convert("RGB").save(data, "WEBP", quality=95, method=2)
    return base64.b64encode(data.getvalue()).decode()


# --- coming in --------------------------------------------------------------------------------------------


def refuse(answer: Answer, *, anonymous: bool) -> None:
    """Raise what a refusal of a POST means; the Horde has not taken the job."""
    code = _code(answer)
    says, detail = answer.says(), f"{answer.status}: {answer.text()}"
    if code == "CorruptPrompt":
        raise ContentRejected(
            "The AI Horde does not take this prompt. Say it in other words.",
            field=code,
            detail=detail,
            accepted=False,
        )
    if code in _KUDOS:
        way = " An account of the AI Horde (HORDE_API_KEY) has more." if anonymous else ""
        limit = _OVER.search(says)
        most = f" above {limit[1]}×{limit[2]}" if limit else " of this size"
        raise QuotaExceeded(
            f"The AI Horde is busy: a picture{most} needs kudos that are not there. Ask for a smaller one or "
            f"fewer steps.{way}",
            detail=detail,
            accepted=False,
        )
    if code in ("TimeoutIP", "TooManyNewIPs"):
        raise Unavailable("The AI Horde takes nothing from here for now.", detail=detail, accepted=False)
    if (field := _FIELD_OF.get(code)) is not None:
        ends = f": {says}" if says else "."
        raise InvalidRequest(f"The AI Horde refuses this{ends}", field=field, detail=detail, accepted=False)
    raise_for(answer, post=True)


def _code(answer: Answer) -> str:
    try:
        return str(answer.fields().get("rc") or "")
    except ProtocolError:
        return ""


def models_in(listing: JSON, target: str, *, anonymous: bool) -> tuple[Model, ...]:
    """The models that volunteers offer now, those with most workers first; target: that one alone. anonymous:
    those of small pictures come first, which are made for nothing even while the Horde is busy."""
    items = listing if isinstance(listing, Sequence) and not isinstance(listing, str) else []
    ranked: list[tuple[bool, float, float, str]] = []
    for item in items:
        if not isinstance(item, Mapping) or item.get("type", "image") != "image":
            continue
        name, count, eta = item.get("name"), number(item.get("count")) or 0.0, number(item.get("eta")) or 0.0
        if isinstance(name, str) and name and count > 0 and len(name) <= 200 and name.isprintable():
            ranked.append((anonymous and bool(_LARGE.search(name)), -count, eta, name))
    names = list(dict.fromkeys(name for *_, name in sorted(ranked)))
    if target:
        names = [name for name in names if name.casefold() == target.casefold()]
    return tuple(_model(name, anonymous) for name in names[:MOST_MODELS])


def _model(name: str, anonymous: bool) -> Model:
    """What a model does best, guessed by its name: the listing does not say."""
    side = 1024 if _LARGE.search(name) else 512
    few, direct = bool(_FEW.search(name)), bool(_DIRECT.search(name))
    licence, commercial = licence_of(name)
    return Model(
        id=name,
        title=name,
        width=side,
        height=side,
        steps=8 if few else 25,
        guidance_scale=1.0 if direct else 2.0 if few else 7.0,
        scheduler="Euler" if direct else "Euler a",
        licence=licence,
        commercial=commercial,
        schedulers=tuple(SAMPLERS),
        advice=ADVICE + (ANONYMOUS_ADVICE if anonymous else ""),
    )
