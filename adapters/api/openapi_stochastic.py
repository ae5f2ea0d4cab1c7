"""Stochastic's model API in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.api.openapi_parts import (
    Answer,
    Operation,
    Schema,
    count,
    guidance,
    in_path,
    listed,
    negative_text,
    prompt_text,
    record,
    ref,
    seed,
    side,
    steps,
    text,
)
from bot.core.request import JSON, Limits

TAG: Final = "Stochastic"
ABOUT: Final = (
    "Submit a prompt, or several at once, then ask at `responseUrl` until the pictures are there. A program "
    "written for Stochastic's model API runs unchanged with this server's address."
)
_ID: Final = "0a1b2c3d4e5f60718293a4b5"
_ASK: Final = f"http://127.0.0.1:8765/v1/modelApi/inference/{_ID}"
_WAITING: Final[Mapping[str, JSON]] = {"id": _ID, "responseUrl": _ASK, "queuePosition": "3"}
_PICTURE: Final[Mapping[str, JSON]] = {
    "presigned_url": "http://127.0.0.1:8765/pictures/NAME.png?expires=1700003600&signature=5f1c",
    "seed": 42,
}


def operations(limits: Limits) -> list[Operation]:
    """Its operations."""
    return [_submit(limits), _poll()]


def schemas(limits: Limits) -> Mapping[str, Schema]:
    """Its schemas."""
    waiting: dict[str, JSON] = {
        "id": text(pattern="^[0-9a-f]{24}$"),
        "responseUrl": text("Where to ask how it stands."),
        "queuePosition": text("Requests that go before it, a whole number.", pattern="^[0-9]+$"),
    }
    picture = record(
        {"presigned_url": text("The picture, for an hour, without a key."), "seed": {"type": "integer"}},
        ["presigned_url", "seed"],
    )
    made = waiting | {
        "generatedImages": listed(
            picture, description="There once they are made, and not before.", minItems=1
        ),
        "message": text("Why there are fewer than were asked for."),
        "notes": listed(text()),
    }
    return {
        "StochasticRequest": record(
            {
                "prompt": {
                    "oneOf": [
                        prompt_text(limits),
                        listed(prompt_text(limits), minItems=1, maxItems=limits.max_prompts),
                    ],
                    "description": "One prompt, or several: one request, one id.",
                },
                "params": record(
                    {
                        "img_width": side("Width", limits),
                        "img_height": side("Height", limits),
                        "num_inference_steps": steps(limits),
                        "guidance_scale": guidance(limits),
                        "seed": seed(),
                        "num_images_per_prompt": count(limits),
                        "negative_prompt": negative_text(limits),
                    }
                ),
            },
            ["prompt", "params"],
        ),
        "StochasticSubmitted": record(
            {"success": {"const": True}, "data": record(waiting, list(waiting))}, _BOTH
        ),
        "StochasticState": record({"success": {"const": True}, "data": record(made, list(waiting))}, _BOTH),
        "StochasticError": record(
            {
                "success": {"const": False},
                "message": text("What is wrong, what is allowed, and the way out."),
                "field": text("The field of the body that is wrong."),
                "data": record({"id": text(), "status": text(enum=["failed", "cancelled", "withheld"])}),
            },
            ["success", "message"],
        ),
    }


_BOTH: Final = ["success", "data"]


def _submit(limits: Limits) -> Operation:
    full: JSON = {
        "prompt": "a red fox in snow",
        "params": {
            "img_height": 512,
            "img_width": 512,
            "num_inference_steps": 30,
            "guidance_scale": 7.5,
            "seed": 42,
        },
    }
    field: JSON = {
        "success": False,
        "message": "params.img_width: Width must be a multiple of 8 from 64 to 2048, not 100.",
        "field": "params.img_width",
    }
    return Operation(
        "post",
        "/v1/modelApi/submit/{model}",
        TAG,
        "submitInference",
        "Submit a request",
        "Queues one request for all prompts together. It is durable when the answer comes.",
        {
            200: Answer("Accepted.", ref("StochasticSubmitted"), {"success": True, "data": {**_WAITING}}),
            **_errors(400, 401, 408, 413, 422, 429, 500, 503, example_400=field),
        },
        key="stochasticKey",
        parameters=[_model()],
        body=ref("StochasticRequest"),
        examples={
            "one prompt": full,
            "several prompts": {
                "prompt": ["a red fox", "a blue owl"],
                "params": {"num_images_per_prompt": 2},
            },
        },
    )


def _poll() -> Operation:
    made: JSON = {**_WAITING, "queuePosition": "0", "generatedImages": [_PICTURE]}
    return Operation(
        "get",
        "/v1/modelApi/inference/{id}",
        TAG,
        "getInference",
        "Ask how a request stands",
        "Without `generatedImages` while it waits or runs. Each call gives fresh links. A request that came "
        "to no picture answers with an error, so that a program which waits for pictures ends.",
        {
            200: Answer("As it stands.", ref("StochasticState"), {"success": True, "data": made}),
            **_errors(401, 404, 410, 422, 429, 500, 503),
        },
        key="stochasticKey",
        parameters=[in_path("id", "The request's id.", _ID, pattern="^[0-9a-f]{24}$")],
    )


def _model() -> Schema:
    return in_path(
        "model",
        "A model's id, an alias, or any other name, which means the default model. `%2F` stands for a slash.",
        "stable-diffusion-2",
        maxLength=200,
    )


_TOLD: Final[Mapping[int, tuple[str, str]]] = {
    400: ("A field is wrong; nothing was queued.", "prompt: The prompt is empty. Say what to draw."),
    401: ("No key, or a wrong one.", "This API key is not valid. Make one with: fairbrush key create NAME"),
    404: ("No such request of this key's.", "There is no request with this id of this key's."),
    408: ("The body came too slowly.", "The request came too slowly."),
    410: ("It was cancelled.", "Cancelled. Not charged."),
    413: ("The body is too large.", "That is too large: at most 512 KB are read."),
    422: (
        "A content rule forbids it, or it could not be made.",
        "Not made: the backend failed. Not charged.",
    ),
    429: (
        "Too often, or too much waits: see Retry-After.",
        "Not queued: 1,000 of your 1,000 places are taken.",
    ),
    500: ("Something broke here.", "Something broke here (ref 0a1b2c3d)."),
    503: ("Not ready: see Retry-After.", "No backend is ready to make pictures."),
}


def _errors(*statuses: int, example_400: JSON = None) -> dict[int, Answer]:
    found: dict[int, Answer] = {}
    for status in statuses:
        description, message = _TOLD[status]
        example: JSON = {"success": False, "message": message}
        if status == 400 and example_400 is not None:
            example = example_400
        headers = {"Retry-After": "Seconds."} if status in (429, 503) else {}
        found[status] = Answer(description, ref("StochasticError"), example, headers=headers)
    return found
