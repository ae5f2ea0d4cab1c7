"""The body of POST /v1/images/generations, read strictly: what is not known is refused by its name, never
ignored, so that nobody believes in a setting that does nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from adapters.api.aliases import model_of
from adapters.api.fields import Fields
from adapters.api.openai_form import OpenAIProblem
from bot.core.options import Options
from bot.core.request import JSON

if TYPE_CHECKING:
    from bot.core.studio import Studio

FORMATS: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
QUALITIES: Final[Mapping[str, float]] = {
    "auto": 1.0,
    "standard": 1.0,
    "low": 0.5,
    "medium": 1.0,
    "high": 1.5,
    "hd": 1.5,
    "xhigh": 2.0,
    "max": 2.0,
}
"""Quality, and the steps that it stands for beside the model's own."""

NEUTRAL_STYLES: Final = ("vivid", "natural")
MAX_PARTIALS: Final = 3
MAX_NAME: Final = 256
_SIZE: Final = re.compile(r"([0-9]{1,6})x([0-9]{1,6})", re.ASCII)
KNOWN: Final = frozenset(
    {
        "background",
        "guidance_scale",
        "model",
        "moderation",
        "n",
        "negative_prompt",
        "output_compression",
        "output_format",
        "partial_images",
        "prompt",
        "quality",
        "response_format",
        "safety_identifier",
        "scheduler",
        "seed",
        "size",
        "steps",
        "stream",
        "style",
        "user",
    }
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a body asks for. links: addresses instead of bytes; form: "png", "jpeg" or "webp"; compression: 0
    to 100, of JPEG and WebP; partials: partial pictures of a stream; quality, background: as the answer
    repeats them."""

    options: Options
    links: bool = False
    form: str = "png"
    compression: int = 100
    stream: bool = False
    partials: int = 0
    quality: str = "auto"
    background: str = "opaque"

    @property
    def mime(self) -> str:
        """The type of the pictures."""
        return FORMATS[self.form]


def read_wanted(body: JSON, studio: Studio) -> Wanted:
    """A body's meaning. Raises OpenAIProblem or InvalidRequest for the first thing that is wrong."""
    fields = Fields(body)
    for name in body if isinstance(body, Mapping) else ():
        if name not in KNOWN:
            raise OpenAIProblem(
                f"There is no field {name[:60]!r} here. Leave it out; there is: {', '.join(sorted(KNOWN))}.",
                code="unknown_parameter",
                param=name[:60],
            )
    if not fields.has("prompt"):
        raise OpenAIProblem("prompt is missing. Say what to draw.", code="missing_parameter", param="prompt")
    for name in ("user", "safety_identifier"):
        _name(fields, name)
    _choice(fields, "moderation", ("auto", "low"))
    model, stream = _name(fields, "model"), bool(fields.flag("stream"))
    form = _choice(fields, "output_format", FORMATS)
    quality = _choice(fields, "quality", QUALITIES) or "auto"
    return Wanted(
        options=_options(fields, model, quality, studio),
        links=_links(fields, model, form, stream=stream),
        form=form or "png",
        compression=_compression(fields, form),
        stream=stream,
        partials=_partials(fields, stream=stream),
        quality={"standard": "medium", "hd": "high"}.get(quality, quality),
        background=_background(fields),
    )


def _options(fields: Fields, model: str, quality: str, studio: Studio) -> Options:
    width, height = _size(fields)
    chosen = model_of(model, studio) if model.strip() else None
    style, steps, count = _name(fields, "style"), fields.whole("steps"), fields.whole("n")
    return Options(
        prompt=fields.text("prompt") or "",
        negative_prompt=fields.text("negative_prompt"),
        width=width,
        height=height,
        steps=_steps(quality, chosen, studio) if steps is None else steps,
        guidance_scale=fields.real("guidance_scale"),
        seed=fields.whole("seed"),
        count=1 if count is None else count,
        scheduler=_name(fields, "scheduler") or None,
        model=chosen,
        style=None if not style or style in NEUTRAL_STYLES else style,
    )


def _steps(quality: str, model: str | None, studio: Studio) -> int | None:
    """The steps that a quality stands for; None for the model's own, also where it takes none."""
    if QUALITIES[quality] == 1.0 or "steps" not in studio.params(model):
        return None
    own = studio.defaults(model).steps
    return min(max(1, round(own * QUALITIES[quality])), studio.limits.max_steps)


def _size(fields: Fields) -> tuple[int | None, int | None]:
    text = fields.text("size") or "auto"
    if text == "auto":
        return None, None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OpenAIProblem(
            'size must be "auto" or a width and a height in pixels, such as "512x512".', param="size"
        )
    return int(match[1]), int(match[2])


def _links(fields: Fields, model: str, form: str, *, stream: bool) -> bool:
    """Whether links are wanted: what nothing is said about comes as bytes, but for models of the time when
    links were usual."""
    said = _choice(fields, "response_format", ("b64_json", "url"))
    usual = model.strip().lower().startswith("dall-e") and not stream and not form
    if said == "url" and stream:
        raise OpenAIProblem(
            'A stream carries the picture itself: response_format must be "b64_json".',
            param="response_format",
        )
    if said == "url" and form:
        raise OpenAIProblem(
            'A link is to the picture as it is kept: with response_format "url" leave output_format out.',
            param="output_format",
        )
    return said == "url" or (usual and not said)


def _compression(fields: Fields, form: str) -> int:
    given = _within(fields, "output_compression", 0, 100)
    if given is not None and given < 100 and form not in ("jpeg", "webp"):
        raise OpenAIProblem(
            'output_compression is for output_format "jpeg" and "webp": a PNG loses nothing. Leave it out.',
            param="output_compression",
        )
    return 100 if given is None else given


def _partials(fields: Fields, *, stream: bool) -> int:
    partials = _within(fields, "partial_images", 0, MAX_PARTIALS) or 0
    if partials and not stream:
        raise OpenAIProblem("partial_images needs stream: true.", param="partial_images")
    if stream and (fields.whole("n") or 1) > 1:
        raise OpenAIProblem("A stream carries one picture: n must be 1.", param="n")
    return partials


def _background(fields: Fields) -> str:
    if fields.text("background") == "transparent":
        raise OpenAIProblem(
            'No model here makes a transparent background: it must be "auto" or "opaque".', param="background"
        )
    _choice(fields, "background", ("auto", "opaque"))
    return "opaque"


def _name(fields: Fields, name: str) -> str:
    value = fields.text(name) or ""
    if len(value) > MAX_NAME:
        raise OpenAIProblem(f"{name} may have at most {MAX_NAME} characters.", param=name)
    return value


def _choice(fields: Fields, name: str, allowed: Collection[str]) -> str:
    value = fields.text(name)
    if value is not None and value not in allowed:
        raise OpenAIProblem(f"{name} must be one of: {', '.join(allowed)}.", param=name)
    return value or ""


def _within(fields: Fields, name: str, low: int, high: int) -> int | None:
    value = fields.whole(name)
    if value is not None and not low <= value <= high:
        raise OpenAIProblem(f"{name} must be a whole number from {low} to {high}.", param=name)
    return value
