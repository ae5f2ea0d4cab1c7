"""OpenAI's images in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.api.openai_request import FORMATS, MAX_NAME, MAX_PARTIALS, QUALITIES
from adapters.api.openapi_parts import (
    Answer,
    Operation,
    Schema,
    count,
    guidance,
    listed,
    maybe,
    negative_text,
    prompt_text,
    record,
    ref,
    seed,
    steps,
    text,
    whole,
)
from bot.core.request import JSON, Limits

TAG: Final = "OpenAI images"
ABOUT: Final = (
    "One call that answers once the pictures are made, or streams partial ones while a picture forms. "
    "OpenAI's own clients work with `base_url` set to this server's address and `/v1`."
)
_SIZE: Final = "^(auto|[0-9]{1,6}x[0-9]{1,6})$"
_DATA: Final[Mapping[str, JSON]] = {"seed": 42, "b64_json": "iVBORw0KGgo..."}
_USAGE: Final[Mapping[str, JSON]] = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
_NUMBER: Final[Schema] = {"type": "integer"}


def operations(limits: Limits) -> list[Operation]:
    """Its operations."""
    return [_generate(limits)]


# --- schemas ----------------------------------------------------------------------------------------------


def schemas(limits: Limits) -> Mapping[str, Schema]:
    """Its schemas."""
    return {
        "ImageRequest": _request(limits),
        "ImageAnswer": _answer(),
        "ImageEvent": _event(),
        "ImagePartial": _streamed("image_generation.partial_image", {"partial_image_index": _NUMBER}),
        "ImageCompleted": _streamed(
            "image_generation.completed", {"usage": _usage(), "seed": _NUMBER, "revised_prompt": text()}
        ),
        "ImageFailed": record(
            {"type": {"const": "error"}, "error": {"$ref": "#/components/schemas/Error/properties/error"}},
            ["type", "error"],
        ),
        "Error": record(
            {
                "error": record(
                    {
                        "message": text("What is wrong, what is allowed, and the way out."),
                        "type": text(),
                        "param": {"type": ["string", "null"], "description": "The field that is wrong."},
                        "code": {"type": ["string", "null"], "description": "What programs look at."},
                    },
                    ["message", "type", "param", "code"],
                )
            },
            ["error"],
        ),
    }


def _request(limits: Limits) -> Schema:
    return record(
        {
            "prompt": prompt_text(limits),
            "model": maybe(
                text(
                    "A model's id or an alias; any other name means the default model. With a name that "
                    "begins with dall-e, links are the default form of the answer.",
                    maxLength=200,
                )
            ),
            "n": count(limits),
            "size": maybe(
                text(
                    f'"auto", or width and height in pixels: multiples of {limits.side_multiple} from '
                    f"{limits.min_side} to {limits.max_side}, the longer at most {limits.max_ratio:g} times "
                    "the other.",
                    pattern=_SIZE,
                    default="auto",
                )
            ),
            "response_format": _choice(["b64_json", "url"], "Bytes, or a link that works for an hour."),
            "output_format": _choice([*FORMATS], "Of bytes. The recipe is in each of them.", default="png"),
            "output_compression": whole("Quality of JPEG and WebP, in percent.", 0, 100, default=100),
            "quality": _choice(
                [*QUALITIES],
                "A matter of steps: low half of the model's own, high and hd half as many more, xhigh and "
                "max twice as many; `steps` wins. Without effect where a model takes no steps.",
                default="auto",
            ),
            "style": maybe(
                text("A style preset of this server; vivid and natural mean none.", maxLength=MAX_NAME)
            ),
            "background": _choice(
                ["auto", "opaque"], "No model here makes a transparent one.", default="auto"
            ),
            "moderation": _choice(["auto", "low"], "Without effect: the server's own rules hold."),
            "user": maybe(text("Without effect.", maxLength=MAX_NAME)),
            "safety_identifier": maybe(text("Without effect.", maxLength=MAX_NAME)),
            "stream": {
                "type": ["boolean", "null"],
                "description": "Server-sent events, for one picture.",
                "default": False,
            },
            "partial_images": whole(
                "With `stream`: exactly so many partial pictures, evenly spaced over the steps. None where "
                "the backend shows none, or where results are checked for content.",
                0,
                MAX_PARTIALS,
                default=0,
            ),
            "seed": seed(),
            "steps": steps(limits),
            "guidance_scale": guidance(limits),
            "negative_prompt": negative_text(limits),
            "scheduler": maybe(text("One of the model's `schedulers`.", maxLength=MAX_NAME)),
        },
        ["prompt"],
    )


def _choice(values: list[str], description: str, **more: JSON) -> Schema:
    return maybe({"type": "string", "enum": list(values), "description": description, **more})


def _answer() -> Schema:
    item = record(
        {
            "b64_json": text(contentEncoding="base64"),
            "url": text("For an hour, without a key."),
            "seed": {"type": "integer"},
            "revised_prompt": text("What it was made from, where that differs from the prompt."),
        },
        ["seed"],
    )
    return record(
        {
            "created": {"type": "integer", "description": "Unix seconds."},
            "data": listed(item, minItems=1),
            "size": text(),
            "quality": text(),
            "background": text(),
            "output_format": text(enum=[*FORMATS]),
            "model": text(),
            "device_seconds": {"type": "number"},
            "cost": {"type": ["number", "null"], "description": "US dollars; null where it is free."},
            "message": text("Why there are fewer than were asked for."),
            "usage": _usage(),
        },
        ["created", "data", "size", "output_format", "usage"],
    )


def _usage() -> Schema:
    return record(
        {
            "total_tokens": _NUMBER,
            "input_tokens": _NUMBER,
            "output_tokens": _NUMBER,
            "input_tokens_details": record({"text_tokens": _NUMBER, "image_tokens": _NUMBER}),
        },
        description="Nothing is counted in tokens here: all are 0.",
    )


def _event() -> Schema:
    names = ["image_generation.partial_image", "image_generation.completed", "error"]
    kinds: JSON = [ref("ImagePartial"), ref("ImageCompleted"), ref("ImageFailed")]
    data = text(
        "The event as JSON, by its `type`.",
        contentMediaType="application/json",
        contentSchema={"oneOf": kinds},
    )
    return record(
        {"event": text(enum=[*names]), "data": data},
        ["event", "data"],
        description="One event of the stream.",
    )


def _streamed(kind: str, more: Mapping[str, JSON]) -> Schema:
    common: dict[str, JSON] = {
        "type": {"const": kind},
        "b64_json": text(contentEncoding="base64"),
        "created_at": {"type": "integer", "description": "Unix seconds."},
        "size": text(),
        "quality": text(),
        "background": text(),
        "output_format": text(enum=[*FORMATS]),
    }
    required = [*common, *(name for name in ("partial_image_index", "usage") if name in more)]
    return record({**common, **more}, required)


# --- operations -------------------------------------------------------------------------------------------


def _generate(limits: Limits) -> Operation:
    answer: JSON = {
        "created": 1700000000,
        "data": [_DATA],
        "size": "512x512",
        "background": "opaque",
        "output_format": "png",
        "model": "stabilityai/sd-turbo",
        "device_seconds": 1.8,
        "cost": None,
        "usage": _USAGE,
    }
    stream: JSON = {
        "event": "image_generation.completed",
        "data": '{"type":"image_generation.completed","b64_json":"iVBORw0KGgo...","created_at":1700000000}',
    }
    return Operation(
        "post",
        "/v1/images/generations",
        TAG,
        "generateImages",
        "Make pictures",
        "The connection stays open until they are made; a proxy between must allow for that, or use "
        "`stream`, which says something every 15 seconds. A client that goes away has its request cancelled, "
        "unless it sent an `Idempotency-Key`: then the request goes on, and the same key with the same body "
        "finds it again. Errors that another try cannot mend carry `x-should-retry: false`. Within a stream "
        "an error is the event `error`.",
        {
            200: Answer(
                "The pictures, or events.",
                ref("ImageAnswer"),
                answer,
                others={"text/event-stream": (ref("ImageEvent"), stream)},
                headers={"x-request-id": "The request's id."},
            ),
            **errors(400, 401, 408, 409, 413, 429, 500, 502, 503),
        },
        key="bearer",
        parameters=[
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key is the same request: a repeated call makes nothing new.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "minLength": 1, "maxLength": 255},
            }
        ],
        body=ref("ImageRequest"),
        examples={
            "a picture": {"model": "stable-diffusion-2", "prompt": "a red fox in snow", "size": "512x512"},
            "settings": {
                "prompt": "a red fox in snow",
                "n": 2,
                "seed": 42,
                "steps": 30,
                "guidance_scale": 7.5,
                "output_format": "webp",
            },
            "a stream": {"prompt": "a red fox in snow", "stream": True, "partial_images": 2},
        },
    )


_KIND: Final = "invalid_request_error"
_TOLD: Final[Mapping[int, tuple[str, str, str, str | None, str]]] = {
    400: (
        "A field is wrong, or a content rule forbids it (`content_policy_violation`).",
        "n: Count must be a whole number from 1 to 10, not 11.",
        _KIND,
        "n",
        "invalid_value",
    ),
    401: (
        "No key, or a wrong one.",
        "This API key is not valid. Make one with: fairbrush key create NAME",
        _KIND,
        None,
        "invalid_api_key",
    ),
    404: ("There is no such model.", "There is no model 'x' here.", _KIND, "model", "model_not_found"),
    408: ("The body came too slowly.", "The request came too slowly.", _KIND, None, "timeout"),
    409: ("It was cancelled by somebody.", "The request was cancelled.", _KIND, None, "cancelled"),
    413: (
        "The body is too large.",
        "That is too large: at most 64 KB are read.",
        _KIND,
        None,
        "request_too_large",
    ),
    429: (
        "Too often, too much waits, or the budget is spent (`insufficient_quota`): see Retry-After.",
        "Not queued: 1,000 of your 1,000 places are taken.",
        "rate_limit_error",
        None,
        "rate_limit_exceeded",
    ),
    500: (
        "Something broke here.",
        "Something broke here (ref 0a1b2c3d).",
        "server_error",
        None,
        "server_error",
    ),
    502: (
        "It could not be made.",
        "Not made: the backend failed. Not charged. ref 7K2Q",
        "server_error",
        None,
        "generation_failed",
    ),
    503: (
        "Not ready: see Retry-After.",
        "No backend is ready to make pictures.",
        "server_error",
        None,
        "service_unavailable",
    ),
}


def errors(*statuses: int) -> dict[int, Answer]:
    """The errors of an operation."""
    found: dict[int, Answer] = {}
    for status in statuses:
        description, message, kind, param, code = _TOLD[status]
        example: JSON = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        headers = {"Retry-After": "Seconds."} if status in (429, 503) else {}
        found[status] = Answer(description, ref("Error"), example, headers=headers)
    return found
