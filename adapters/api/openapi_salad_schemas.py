"""The schemas of Salad's Inference Endpoints in the OpenAPI document, and what examples are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.api.openapi_parts import (
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
    side,
    steps,
    text,
)
from bot.core.request import JSON, Limits

ID: Final = "2fc459a1-1c09-4a34-ade7-54d03fc51d6a"
UUID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
TIME: Final = "2026-01-01T12:00:00.000Z"
INPUT: Final[Mapping[str, JSON]] = {
    "modelInputs": {"prompt": "a red fox in snow", "num_inference_steps": 30, "width": 512, "height": 512},
    "callInputs": {"PIPELINE": "StableDiffusionPipeline", "SCHEDULER": "LMSDiscreteScheduler"},
}
OUTPUT: Final[Mapping[str, JSON]] = {
    "images": ["iVBORw0KGgo..."],
    "image_base64": "iVBORw0KGgo...",
    "seeds": [42],
}
JOB: Final[Mapping[str, JSON]] = {
    "id": ID,
    "input": INPUT,
    "inference_endpoint_name": "stable-diffusion-2-1",
    "organization_name": "acme",
    "status": "pending",
    "events": [{"action": "created", "time": TIME}],
    "create_time": TIME,
    "update_time": TIME,
}
ENDPOINT: Final[Mapping[str, JSON]] = {
    "id": "cb3a4591-efc3-46c0-b06a-3d820c0ec100",
    "name": "stable-diffusion-2-1",
    "organization_name": "acme",
    "display_name": "Stable Diffusion 2.1",
    "description": "Stable Diffusion 2.1, by default 768 x 768 pixels, 30 steps.",
    "icon_url": "http://127.0.0.1:8765/docs/mark.svg",
    "input_schema": "{...}",
    "output_schema": "{...}",
    "price_description": "Free of charge",
    "readme": "# Stable Diffusion 2.1",
}


def schemas(limits: Limits) -> Mapping[str, Schema]:
    """All schemas of both."""
    return {
        "SaladInput": record(
            {"modelInputs": ref("SaladModelInputs"), "callInputs": ref("SaladCallInputs")}, ["modelInputs"]
        ),
        "SaladModelInputs": _model_inputs(limits),
        "SaladCallInputs": _call_inputs(),
        "SaladOutput": _output(),
        "SaladNewJob": _new_job(),
        "SaladJob": _job(),
        "SaladJobs": _page("SaladJob"),
        "SaladEndpoint": _endpoint_schema(),
        "SaladEndpoints": _page("SaladEndpoint"),
        "SaladSubmitted": record(
            {
                "requestId": text(pattern=UUID),
                "resultUrl": text("Where to ask how it stands."),
                "warnings": listed(text()),
            },
            ["requestId", "resultUrl"],
        ),
        "SaladState": record(
            {
                "requestId": text(pattern=UUID),
                "status": text(enum=["pending", "success", "failed"]),
                "modelOutputs": {"oneOf": [ref("SaladOutput"), {"type": "null"}]},
            },
            ["requestId", "status", "modelOutputs"],
        ),
        "SaladProblem": _problem(),
    }


def _model_inputs(limits: Limits) -> Schema:
    def picture(what: str) -> Schema:
        return maybe(text(f"{what}: a PNG, JPEG or WebP in base64, or a data: URL. No address is fetched."))

    return record(
        {
            "prompt": {
                "oneOf": [
                    prompt_text(limits),
                    listed(prompt_text(limits), minItems=1, maxItems=limits.max_prompts),
                ],
                "description": "One prompt, or several.",
            },
            "negative_prompt": negative_text(limits),
            "width": side("Width", limits),
            "height": side("Height", limits),
            "num_inference_steps": steps(limits),
            "guidance_scale": guidance(limits),
            "num_images_per_prompt": count(limits),
            "seed": seed(),
            "init_image": picture("The picture to start from"),
            "image": picture("The same as init_image; send one of them"),
            "mask_image": picture("What is repainted, in white"),
            "strength": maybe(
                {
                    "type": "number",
                    "description": "How much of the picture is repainted.",
                    "minimum": 0.01,
                    "maximum": 1,
                }
            ),
        },
        ["prompt"],
    )


def _call_inputs() -> Schema:
    return record(
        {
            "PIPELINE": maybe(text("A pipeline of diffusers, such as StableDiffusionPipeline.")),
            "SCHEDULER": maybe(text("A scheduler class of diffusers, such as LMSDiscreteScheduler.")),
            "MODEL_ID": maybe(text("Another model than the endpoint's.", minLength=1, maxLength=200)),
            "safety_checker": {
                "type": ["boolean", "string", "null"],
                "description": "Only who runs the server can turn the content check off; a warning says so.",
            },
        }
    )


def _output() -> Schema:
    error = record({"code": text(), "name": text(), "message": text()}, ["code", "message"])
    return record(
        {
            "images": listed(text(contentEncoding="base64"), description="All pictures, in order."),
            "image_base64": text("The picture, where there is one.", contentEncoding="base64"),
            "seeds": listed({"type": "integer"}),
            "message": text("Why there are fewer than were asked for."),
            "notes": listed(text()),
            "warnings": listed(text(), description="What was done otherwise than asked."),
            "$error": error,
        }
    )


def _new_job() -> Schema:
    address = maybe(text(minLength=9, maxLength=2048, pattern="^[hH][tT][tT][pP][sS]://"))
    return record(
        {
            "input": ref("SaladInput"),
            "metadata": {
                "type": ["object", "null"],
                "description": "Anything of yours; at most 16 KB.",
                "maxProperties": 20,
            },
            "webhook_url": address
            | {"description": "Told when the job ends, signed in the Standard Webhooks form. https, public."},
            "webhook": address | {"deprecated": True},
        },
        ["input"],
    )


def _job() -> Schema:
    event = record(
        {
            "action": text(enum=["created", "started", "succeeded", "cancelled", "failed"]),
            "time": text(format="date-time"),
        },
        ["action", "time"],
    )
    return record(
        {
            "id": text(pattern=UUID),
            "input": {"description": "As it was sent; of a large one the long texts are cut."},
            "inference_endpoint_name": text(),
            "organization_name": text(),
            "status": text(enum=["pending", "running", "succeeded", "cancelled", "failed"]),
            "events": listed(event),
            "create_time": text(format="date-time"),
            "update_time": text(format="date-time"),
            "output": ref("SaladOutput"),
            "metadata": {"type": "object"},
            "webhook_url": text(),
            "webhook": text(),
            "warnings": listed(text()),
        },
        [*JOB],
    )


def _page(of: str) -> Schema:
    number: JSON = {"type": "integer", "minimum": 0}
    return record(
        {"items": listed(ref(of), maxItems=100), "page": number, "page_size": number, "total_size": number},
        ["items", "page", "page_size", "total_size"],
    )


def _endpoint_schema() -> Schema:
    return record({name: text() for name in ENDPOINT}, [*ENDPOINT])


def _problem() -> Schema:
    return record(
        {
            "type": text(),
            "title": text(),
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": text("What is wrong, what is allowed, and the way out."),
            "instance": text(),
            "field": text("The field that is wrong."),
            "code": text("As docker-diffusers-api calls it, such as INVALID_INPUTS."),
        },
        ["type", "title", "status", "detail"],
        description="Problem details (RFC 9457).",
    )
