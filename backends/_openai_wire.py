"""The wire format of OpenAI's images API: bodies that go out, answers, events and errors that come in.

Pure; knows no connection. What other servers add is in the offer.
"""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, cast

from PIL import Image as Raster

from backends._http import PICTURES, Answer, raise_for
from backends._openai_models import Size
from backends._openai_offer import Offer
from bot.core.errors import AuthFailed, ContentRejected, InvalidRequest, ProtocolError, QuotaExceeded
from bot.core.request import JSON, Image, ImageRequest

REFUSALS: Final = (400, 401, 402, 403, 404, 413, 422, 429)
"""Statuses of answers that refuse() reads."""

_CONTENT: Final = frozenset(
    {"moderation_blocked", "content_policy_violation", "content_filter", "contentfilter"}
)  # the last is Azure's
_MONEY: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_MODEL: Final = frozenset({"model_not_found", "invalid_model", "model_deprecated"})
_FIELDS: Final = {
    "size": "size",
    "n": "count",
    "prompt": "prompt",
    "model": "model",
    "image": "init_image",
    "mask": "mask_image",
}
_EXTRA_ARGS: Final = re.compile(r"</?\s*sd_cpp_extra_args\s*/?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """One picture of an answer: base64 or a link."""

    data: str = ""
    link: str = ""
    prompt: str = ""


# --- going out --------------------------------------------------------------------------------------------


def body_of(
    offer: Offer, request: ImageRequest, indices: Sequence[int], size: Size, previews: int | None
) -> dict[str, JSON]:
    """The body for these pictures. previews: None for an answer in one piece, else it is streamed."""
    seed = request.seed_of(indices[0])
    body: dict[str, JSON] = {"model": offer.model.id, "prompt": _prompt(offer, request, seed)}
    body["n"] = len(indices)
    if not {"width", "height"} & set(offer.fields):
        body["size"] = f"{size[0]}x{size[1]}"
    if offer.quality and (offer.known is None or len(offer.known.qualities) > 1):
        body["quality"] = offer.quality
    if offer.response_format:
        body["response_format"] = offer.response_format
    if not offer.wrapped:
        body |= {offer.fields[name]: value for name, value in _extras(offer, request, seed, size).items()}
    if previews is not None:
        body |= {"stream": True, "partial_images": previews}
    return body


def _extras(offer: Offer, request: ImageRequest, seed: int, size: Size) -> dict[str, JSON]:
    """What is sent beyond OpenAI's own fields, by our names."""
    values: dict[str, JSON] = {
        "steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "seed": seed,
        "width": size[0],
        "height": size[1],
    }
    if request.negative_prompt:
        values["negative_prompt"] = request.negative_prompt
    if request.scheduler is not None:
        values["scheduler"] = request.scheduler
    return {name: value for name, value in values.items() if name in offer.fields}


def _prompt(offer: Offer, request: ImageRequest, seed: int) -> str:
    """The prompt; what stable-diffusion.cpp would read as settings is taken out of what people wrote."""
    if offer.known is not None:
        return request.prompt
    prompt = _EXTRA_ARGS.sub(" ", request.prompt)
    if not offer.wrapped:
        return prompt
    args: dict[str, JSON] = {
        "seed": seed,
        "negative_prompt": _EXTRA_ARGS.sub(" ", request.negative_prompt),
        "sample_params": {"sample_steps": request.steps, "guidance": {"txt_cfg": request.guidance_scale}},
    }
    if request.init_image is not None and request.strength is not None:
        args["strength"] = request.strength
    return f"{prompt} <sd_cpp_extra_args>{json.dumps(args)}</sd_cpp_extra_args>"


def form_of(body: Mapping[str, JSON], request: ImageRequest) -> tuple[bytes, str]:
    """A body with the request's pictures as multipart/form-data, and its Content-Type. CPU-bound."""
    boundary = f"fairbrush-{secrets.token_hex(16)}"
    parts = [_part(boundary, name, _text(value)) for name, value in body.items()]
    if (image := request.init_image) is not None:
        parts.append(_part(boundary, "image", image.data, image.mime))
        if request.mask_image is not None:
            mask = _transparent_where_white(request.mask_image, image)
            parts.append(_part(boundary, "mask", mask, "image/png"))
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def _text(value: JSON) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _part(boundary: str, name: str, data: bytes, mime: str = "") -> bytes:
    file = f'; filename="{name}.{mime.partition("/")[2]}"\r\nContent-Type: {mime}' if mime else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


def _transparent_where_white(mask: Image, image: Image) -> bytes:
    """A mask as OpenAI wants it: a PNG of the picture's size, transparent where it is to be painted anew."""
    with Raster.open(io.BytesIO(mask.data)) as opened:
        grey = opened.convert("L").resize((image.width, image.height), Raster.Resampling.NEAREST)
    clear = Raster.new("RGBA", grey.size, (0, 0, 0, 255))
    clear.putalpha(grey.point([255 - level for level in range(256)]))
    data = io.BytesIO()
    clear.save(data, "PNG")
    return data.getvalue()


# --- coming in --------------------------------------------------------------------------------------------


def found_in(answer: Mapping[str, JSON]) -> list[Found]:
    """The pictures of an answer or event. Raises ProtocolError where there are none."""
    listed = answer.get("data")
    items = listed if isinstance(listed, Sequence) and not isinstance(listed, str) else [answer]
    pictures = [found for item in items if (found := _found(item)) is not None]
    if not pictures:
        raise ProtocolError(
            "The service answered without a picture.", detail=str(answer)[:300], accepted=None
        )
    return pictures


def _found(item: JSON) -> Found | None:
    if not isinstance(item, Mapping):
        return None
    data, link, prompt = (item.get(name) for name in ("b64_json", "url", "revised_prompt"))
    prompt = prompt if isinstance(prompt, str) else ""
    if isinstance(data, str) and data:
        return Found(data=data, prompt=prompt)
    if isinstance(link, str) and link.startswith("data:"):
        return Found(data=link, prompt=prompt)
    return Found(link=link, prompt=prompt) if isinstance(link, str) and link else None


def refuse(answer: Answer, offer: Offer, service: str) -> NoReturn:
    """Raise what a refusal means; `accepted` says whether anything can have been charged."""
    error = _error_of(answer)
    says, detail = answer.says(), f"{answer.status}: {answer.text()}"
    raise_known(error, offer, service, detail)
    if answer.status == 403:  # such as a model that is for verified organizations alone
        ends = f": {says}" if says else "."
        raise AuthFailed(f"{service} does not let this key do that{ends}", detail=detail, accepted=False)
    if answer.status in (400, 422):
        field = _FIELDS.get(str(error.get("param") or "").partition("[")[0])
        ends = f": {says}" if says else "."
        raise InvalidRequest(
            f"{service} refuses the request{ends}", field=field, detail=detail, accepted=False
        )
    raise_for(answer, post=True)
    raise ProtocolError(f"{service} answered something unexpected.", detail=detail, accepted=None)


def raise_known(error: Mapping[str, JSON], offer: Offer, service: str, detail: str) -> None:
    """Raise what an error's code or type means, where it is one of those with a meaning of their own."""
    codes = {str(error.get(name)).casefold() for name in ("code", "type")}
    if code := next(iter(codes & _CONTENT), ""):
        stage = error.get("moderation_details")
        late = isinstance(stage, Mapping) and stage.get("moderation_stage") == "output"
        raise ContentRejected(
            f"{service}'s content check refuses this. Say it in other words.",
            field=code,
            detail=detail,
            accepted=None if late else False,
        )
    if codes & _MONEY:
        raise QuotaExceeded(f"{service} has no credit left for this.", detail=detail, accepted=False)
    if codes & _MODEL:
        raise InvalidRequest(
            f"{service} does not offer the model {offer.model.id} (any more). Name another one.",
            field="model",
            detail=detail,
            accepted=False,
        )


def _error_of(answer: Answer) -> Mapping[str, JSON]:
    try:
        error = answer.fields().get("error")
    except ProtocolError:
        return {}
    return error if isinstance(error, Mapping) else {}


class Events:
    """Server-sent events out of a stream of bytes: feed() gives the data of those that are complete, for
    read_event()."""

    def __init__(self, most: int = PICTURES) -> None:
        self._most = most
        self._line = bytearray()
        self._data: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Raises ProtocolError for an event that is too large."""
        *lines, rest = chunk.split(b"\n")
        self._held += len(chunk)
        if self._held > self._most:
            raise ProtocolError("The service answered more than can be taken.", accepted=None)
        events: list[bytes] = []
        for line in lines:
            self._line += line
            events += self._end_line(bytes(self._line).rstrip(b"\r"))
            self._line.clear()
        self._line += rest
        return events

    def _end_line(self, line: bytes) -> list[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].strip())
            return []
        if line or not self._data:
            return []
        text, self._data, self._held = b"\n".join(self._data), [], 0
        return [] if text == b"[DONE]" else [text]


def read_event(text: bytes) -> Mapping[str, JSON]:
    """The JSON object of an event. Raises ProtocolError."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise ProtocolError("The service answered something that cannot be read.", accepted=None)
    return cast("Mapping[str, JSON]", event)
