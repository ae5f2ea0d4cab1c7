"""Pictures by fal: `fal:fal-ai/flux/schnell`, or another text-to-image model of theirs; the key in FAL_KEY.

Jobs go through fal's queue, are found again after a restart, and tell their place in it. Each picture is a
job of its own, with its own seed. Options:

    price    US dollars a picture, where the model is none of those known here, or your price is another
    steps, guidance, size   what the model does best, where it is none of those known here

FAIRBRUSH_FAL_URL: another address than https://queue.fal.run. fal charges for pictures that came out, and for
nothing else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from backends._answers import number
from backends._endpoint import at_home
from backends._http import PICTURES, Http, poll_delays, raise_for
from backends._licences import licence_of
from backends._remote import Remote
from backends._wire import Ended, Facts, Finished, Found, Handle, Look, Waiting, Wire, Working, one_by_one
from bot.core.errors import (
    Cancelled,
    ConfigurationError,
    ContentRejected,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    Unavailable,
)
from bot.core.ports import Backend, CancelOutcome, Capabilities, Clock, Model, Price
from bot.core.request import JSON, Image, ImageRequest
from bot.core.settings import BackendEntry, Settings

ADDRESS: Final = "https://queue.fal.run"
_SETTING: Final = "FAIRBRUSH_FAL_URL"
_SLOTS: Final = 2  # jobs at a time of an account that is new there
_MODEL: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){1,4}", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ENDS: Final = (400, 422, 499, 500, 502, 503, 504)
"""Statuses of a response that tell how the job ended."""
_PLAIN: Final = frozenset({"steps", "guidance_scale", "seed"})


@dataclass(frozen=True, slots=True)
class Known:
    """A model that is known here. params: what it honours; pictures: where it starts from a picture, the path
    of that form of it and the path that repaints under a mask; prices: published, US dollars."""

    steps: int
    guidance_scale: float
    params: frozenset[str] = _PLAIN
    price: Price | None = None
    side: int = 1024
    from_picture: str = ""
    with_mask: str = ""


_SDXL: Final = _PLAIN | {"negative_prompt"}
KNOWN: Final[Mapping[str, Known]] = {
    "fal-ai/flux/schnell": Known(4, 3.5, price=Price(per_megapixel=0.003)),
    "fal-ai/flux/dev": Known(
        28, 3.5, price=Price(per_megapixel=0.025), from_picture="fal-ai/flux/dev/image-to-image"
    ),
    "fal-ai/flux-pro/v1.1": Known(28, 3.5, frozenset({"seed"}), Price(per_megapixel=0.04)),
    "fal-ai/fast-sdxl": Known(
        25,
        7.5,
        _SDXL,
        from_picture="fal-ai/fast-sdxl/image-to-image",
        with_mask="fal-ai/fast-sdxl/inpainting",
    ),
    "fal-ai/stable-diffusion-v35-large": Known(28, 3.5, _SDXL, Price(per_megapixel=0.065)),
    "fal-ai/stable-diffusion-v35-medium": Known(40, 4.5, _SDXL, Price(per_megapixel=0.02)),
    "fal-ai/qwen-image": Known(30, 2.5, _SDXL, Price(per_megapixel=0.02)),
}
"""Models with their published prices and schemas; a megapixel of theirs is a million pixels, ours 2**20, so
the real price is a few percent off. Without a price here one must be told."""


class FalWire(Wire):
    """fal's queue for one model. safety: have fal look at the pictures."""

    def __init__(self, model: Model, known: Known, *, safety: bool) -> None:
        self._model = model
        self._known = known
        self._safety = safety

    async def offered(self, http: Http) -> Capabilities:
        """One model; there is nothing to ask."""
        params = self._known.params
        if self._known.from_picture:
            params |= {"init_image", "strength"}
        if self._known.with_mask:
            params |= {"mask_image"}
        return Capabilities(
            models=(self._model,),
            slots=_SLOTS,
            params=params,
            cancel=True,
            resumable=True,
            checks_content=self._safety,
        )

    def check(self, request: ImageRequest) -> None:
        """What the schema has no name for is refused."""
        allowed = self._known
        if request.init_image is not None and not allowed.from_picture:
            raise InvalidRequest(f"{self._model.id} takes no picture to start from.", field="init_image")
        if request.mask_image is not None and not allowed.with_mask:
            raise InvalidRequest(f"{self._model.id} takes no mask.", field="mask_image")
        if request.negative_prompt and "negative_prompt" not in allowed.params:
            raise InvalidRequest(f"{self._model.id} takes no negative prompt.", field="negative_prompt")

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        """One job a picture: of several in one, fal tells the first one's seed alone."""
        return one_by_one(request)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        """POST to the queue; its answer names where the job is asked about, which must be fal's own."""
        path = self._path(request)
        answer = await http.post(f"/{path}", self._body(request))
        fields = answer.fields()
        job = fields.get("request_id")
        if not (isinstance(job, str) and _ID.fullmatch(job)):
            raise ProtocolError(
                "fal took the job and did not say which it is.", detail=answer.text(), accepted=None
            )
        # The queue knows jobs by the application, the first two parts of the path, whatever follows.
        usual = f"/{'/'.join(path.split('/')[:2])}/requests/{job}"
        urls: dict[str, JSON] = {
            name: link if isinstance(link := fields.get(f"{name}_url"), str) and http.is_own(link) else url
            for name, url in (
                ("status", f"{usual}/status"),
                ("response", usual),
                ("cancel", f"{usual}/cancel"),
            )
        }
        return {"id": job, **urls}

    def _path(self, request: ImageRequest) -> str:
        if request.mask_image is not None:
            return self._known.with_mask
        return self._known.from_picture if request.init_image is not None else self._model.id

    def _body(self, request: ImageRequest) -> Mapping[str, JSON]:
        params = self._known.params
        body: dict[str, JSON] = {
            "prompt": request.prompt,
            "image_size": {"width": request.width, "height": request.height},
            "seed": request.seed,
            "num_images": 1,
            "enable_safety_checker": self._safety,
            "output_format": "png",
        }
        if "steps" in params:
            body["num_inference_steps"] = request.steps
        if "guidance_scale" in params:
            body["guidance_scale"] = request.guidance_scale
        if request.negative_prompt:
            body["negative_prompt"] = request.negative_prompt
        if request.init_image is not None:
            body["image_url"] = _data_url(request.init_image)
            body["strength"] = request.strength if request.strength is not None else 0.6
        if request.mask_image is not None:
            body["mask_url"] = _data_url(request.mask_image)
        return body

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        """The status; where it is complete, the response."""
        status = (await http.poll(str(job.get("status")))).fields()
        match status.get("status"):
            case "IN_QUEUE":
                ahead = status.get("queue_position")
                return Waiting(max(0, ahead) if isinstance(ahead, int) else 0)
            case "IN_PROGRESS":
                return Working(phase="Working at fal")
            case "COMPLETED":
                return await self._collect(http, job, status)
            case "CANCELLED" | "CANCELED":
                return Ended(Cancelled("The job was cancelled.", accepted=True))
        raise ProtocolError("fal told a status that is not known.", detail=str(status.get("status"))[:100])

    async def _collect(self, http: Http, job: Handle, status: Mapping[str, JSON]) -> Look:
        if error := status.get("error"):
            told = {"detail": error, "error_type": status.get("error_type")}
            return Ended(_refused(http, told, str(error)[:300]))
        answer = await http.poll(str(job.get("response")), most=PICTURES, also=_ENDS)
        fields = answer.fields()
        if answer.status >= 501 and not fields.get("error_type"):  # of what stands before fal's queue
            raise_for(answer)
        if answer.status >= 500:  # the model's own status: it ran, and broke
            return Ended(Unavailable("The model failed at fal.", detail=answer.text(), accepted=True))
        if answer.status >= 400:
            return Ended(_refused(http, fields, answer.text()))
        images = fields.get("images")
        images = (
            images if isinstance(images, Sequence) and not isinstance(images, str) else [fields.get("image")]
        )
        links = [link for image in images if isinstance(image, Mapping) and (link := image.get("url"))]
        if not links:
            return Ended(Unavailable("fal made no picture.", detail=answer.text(), accepted=True))
        flagged = fields.get("has_nsfw_concepts")
        flags = flagged if isinstance(flagged, Sequence) and not isinstance(flagged, str) else ()
        found = [
            Found(index, rejected="fal's content check kept it back.")
            if self._safety and index < len(flags) and flags[index] is True
            else _found(index, str(link))
            for index, link in enumerate(links)
        ]
        return Finished(tuple(found), device_seconds=_seconds(status, fields))

    async def stop(self, http: Http, job: Handle) -> CancelOutcome:
        """PUT; what runs already may still come to its end."""
        answer = await http.put(str(job.get("cancel")), also=(400, 404, 409))
        return CancelOutcome.REQUESTED if answer.status < 300 else CancelOutcome.TOO_LATE


def _data_url(image: Image) -> str:
    return f"data:{image.mime};base64,{base64.b64encode(image.data).decode()}"


def _found(index: int, link: str) -> Found:
    return Found(index, base64=link) if link.startswith("data:") else Found(index, link)


def _seconds(status: Mapping[str, JSON], fields: Mapping[str, JSON]) -> float | None:
    """The time that it took, where fal tells it."""
    metrics, timings = status.get("metrics"), fields.get("timings")
    for where, name in ((metrics, "inference_time"), (timings, "inference")):
        value = where.get(name) if isinstance(where, Mapping) else None
        if (seconds := number(value, 0, 86_400)) is not None:
            return seconds
    return None


def _refused(http: Http, fields: Mapping[str, JSON], text: str) -> FairbrushError:
    """What a refusal of a job that was run means: {"detail": [{"loc", "msg", "type"}]}, or a text."""
    detail = fields.get("detail")
    first = detail[0] if isinstance(detail, Sequence) and not isinstance(detail, str) and detail else detail
    message = str(first.get("msg", "")) if isinstance(first, Mapping) else str(first or "")
    kind = str(first.get("type", "")) if isinstance(first, Mapping) else ""
    if "content_policy" in kind or "nsfw" in message.lower():
        return ContentRejected("fal's content check forbids this.", detail=text, accepted=True)
    fault = fields.get("error_type")
    if isinstance(fault, str) and fault and fault != "bad_request":  # fal's own: its machines, not the model
        return Unavailable("fal could not make the picture.", detail=f"{fault}: {text}", accepted=True)
    says = http.for_people(message)
    return InvalidRequest(
        f"fal refuses the request: {says}" if says else "fal refuses the request.", detail=text, accepted=True
    )


def create(target: str, settings: Settings) -> Backend:
    """The backend of `fal:MODEL`. Raises ConfigurationError."""
    return build(target, settings)


def build(
    target: str,
    settings: Settings,
    *,
    clock: Clock | None = None,
    delays: Callable[[], Iterator[float]] = poll_delays,
) -> Remote:
    """As create(), with the clock and the pace of polls passed in."""
    entry = settings.entry("fal", target)
    entry.expect("price", "steps", "guidance", "size")
    if not _MODEL.fullmatch(target):
        raise ConfigurationError(
            f'FAIRBRUSH_BACKENDS: "{entry.name}" names no model of fal, as in fal:fal-ai/flux/schnell'
        )
    key = settings.secret("FAL_KEY")
    if not key:
        raise ConfigurationError(f"FAL_KEY is not set; {entry.name} needs it (fal.ai, Dashboard, Keys).")
    address = settings.service_urls.get("fal", ADDRESS)
    known = _known(entry, paid=at_home(address, ADDRESS, setting=_SETTING))
    http = Http(
        address,
        headers={"Authorization": f"Key {key.reveal()}"},
        clock=clock,
        service="fal",
        setting=_SETTING,
    )
    wire = FalWire(_model(entry, known), known, safety=settings.safety_checker)
    return Remote(entry.name, wire, http, clock=clock, delays=delays)


def _known(entry: BackendEntry, *, paid: bool) -> Known:
    """What is known of the entry's model. Raises ConfigurationError where its price is not."""
    known = KNOWN.get(entry.target, Known(28, 3.5))
    if "price" in entry.options:
        return replace(known, price=Price(per_image=entry.number("price", 0.0)))
    if known.price is None and paid:
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: {entry.name}: its price is not known here. Add it, as in ;price=0.04 (US "
            "dollars a picture, see the model's page at fal.ai)."
        )
    return known


def _model(entry: BackendEntry, known: Known) -> Model:
    licence, commercial = licence_of(entry.target)
    width, height = entry.size((known.side, known.side))
    return Model(
        id=entry.target,
        title=entry.target.removeprefix("fal-ai/"),
        width=width,
        height=height,
        steps=max(1, int(entry.number("steps", known.steps))),
        guidance_scale=entry.number("guidance", known.guidance_scale),
        licence=licence,
        commercial=commercial,
        price=known.price,
    )
