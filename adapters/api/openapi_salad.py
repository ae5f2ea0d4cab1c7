"""Salad's Inference Endpoints, current and beta, in the OpenAPI document."""

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
    in_query,
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
    title_of,
)
from bot.core.request import JSON, Limits

TAG: Final = "Salad jobs"
ABOUT: Final = (
    "Salad's Inference Endpoints as they are now: jobs that are created, listed, looked at, cancelled and "
    "told of by a webhook. Every offered model and every alias is an endpoint; any other name means the "
    "default model."
)
BETA_TAG: Final = "Salad beta"
BETA_ABOUT: Final = "The older form of Salad's Inference Endpoints: submit, then ask at `resultUrl`."

PUBLIC: Final = "/api/public/organizations/{organization}/inference-endpoints"
BETA: Final = "/api/beta/organizations/{organization}/inference-endpoints/{endpoint}"
PROBLEM: Final = "application/problem+json"
MAX_PAGE: Final = 2**31 - 1
_ID: Final = "2fc459a1-1c09-4a34-ade7-54d03fc51d6a"
_UUID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_NAME: Final = "^[a-z][a-z0-9-]{0,61}[a-z0-9]$"
_TIME: Final = "2026-01-01T12:00:00.000Z"
_INPUT: Final[Mapping[str, JSON]] = {
    "modelInputs": {"prompt": "a red fox in snow", "num_inference_steps": 30, "width": 512, "height": 512},
    "callInputs": {"PIPELINE": "StableDiffusionPipeline", "SCHEDULER": "LMSDiscreteScheduler"},
}
_OUTPUT: Final[Mapping[str, JSON]] = {
    "images": ["iVBORw0KGgo..."],
    "image_base64": "iVBORw0KGgo...",
    "seeds": [42],
}
_JOB: Final[Mapping[str, JSON]] = {
    "id": _ID,
    "input": _INPUT,
    "inference_endpoint_name": "stable-diffusion-2-1",
    "organization_name": "acme",
    "status": "pending",
    "events": [{"action": "created", "time": _TIME}],
    "create_time": _TIME,
    "update_time": _TIME,
}


def operations(limits: Limits) -> list[Operation]:
    """All operations of both."""
    return [_create(), _show(), _list(), _cancel(), _endpoints(), _endpoint(), _secret(), _submit(), _poll()]


# --- schemas ----------------------------------------------------------------------------------------------


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
                "requestId": text(pattern=_UUID),
                "resultUrl": text("Where to ask how it stands."),
                "warnings": listed(text()),
            },
            ["requestId", "resultUrl"],
        ),
        "SaladState": record(
            {
                "requestId": text(pattern=_UUID),
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
            "id": text(pattern=_UUID),
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
        [*_JOB],
    )


def _page(of: str) -> Schema:
    number: JSON = {"type": "integer", "minimum": 0}
    return record(
        {"items": listed(ref(of), maxItems=100), "page": number, "page_size": number, "total_size": number},
        ["items", "page", "page_size", "total_size"],
    )


def _endpoint_schema() -> Schema:
    return record({name: text() for name in _ENDPOINT}, [*_ENDPOINT])


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


# --- operations -------------------------------------------------------------------------------------------


def _organization() -> Schema:
    return in_path(
        "organization", "Any name, but for a key that belongs to one organization.", "acme", pattern=_NAME
    )


def _endpoint_name() -> Schema:
    return in_path(
        "endpoint",
        "A model's id or an alias, with - for other characters; any other name means the default model.",
        "stable-diffusion-2-1",
        maxLength=200,
    )


def _place() -> list[Schema]:
    return [_organization(), _endpoint_name()]


def _job_id() -> Schema:
    return in_path("id", "The id that was answered.", _ID, pattern=_UUID)


def _paging() -> list[Schema]:
    return [
        in_query("page", "From 1.", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1}),
        in_query(
            "page_size",
            "At most so many a page.",
            {"type": "integer", "minimum": 1, "maximum": 100, "default": 25},
        ),
    ]


def _create() -> Operation:
    return Operation(
        "post",
        f"{PUBLIC}/{{endpoint}}/jobs",
        TAG,
        "createJob",
        "Create a job",
        "It is durable when the answer comes. The webhook gets the whole job, once, when it ends.",
        {
            201: Answer("Created.", ref("SaladJob"), _JOB, headers={"Location": "The job's address."}),
            **_errors(400, 401, 403, 404, 408, 413, 422, 429, 500, 503),
        },
        key="saladKey",
        parameters=_place(),
        body=ref("SaladNewJob"),
        examples={
            "a job": {"input": _INPUT},
            "with a webhook": {
                "input": {"modelInputs": {"prompt": "a red fox in snow"}},
                "metadata": {"order": 17},
                "webhook_url": "https://hooks.example.com/fairbrush",
            },
        },
    )


def _show() -> Operation:
    done: JSON = {**_JOB, "status": "succeeded", "output": _OUTPUT}
    return Operation(
        "get",
        f"{PUBLIC}/{{endpoint}}/jobs/{{id}}",
        TAG,
        "getJob",
        "Look at a job",
        "With its output once it has ended.",
        {200: Answer("The job.", ref("SaladJob"), done), **_errors(400, 401, 403, 404, 429, 500, 503)},
        key="saladKey",
        parameters=[*_place(), _job_id()],
    )


def _list() -> Operation:
    page: JSON = {"items": [_JOB], "page": 1, "page_size": 25, "total_size": 1}
    return Operation(
        "get",
        f"{PUBLIC}/{{endpoint}}/jobs",
        TAG,
        "listJobs",
        "List jobs",
        "This key's jobs at this endpoint, newest first, without their outputs.",
        {200: Answer("One page.", ref("SaladJobs"), page), **_errors(400, 401, 403, 404, 429, 500, 503)},
        key="saladKey",
        parameters=[*_place(), *_paging()],
    )


def _cancel() -> Operation:
    return Operation(
        "delete",
        f"{PUBLIC}/{{endpoint}}/jobs/{{id}}",
        TAG,
        "cancelJob",
        "Cancel a job",
        "One that has ended stays as it is.",
        {202: Answer("It will stop, or has ended."), **_errors(400, 401, 403, 404, 429, 500, 503)},
        key="saladKey",
        parameters=[*_place(), _job_id()],
    )


def _endpoints() -> Operation:
    page: JSON = {"items": [_ENDPOINT], "page": 1, "page_size": 25, "total_size": 1}
    return Operation(
        "get",
        PUBLIC,
        TAG,
        "listEndpoints",
        "List inference endpoints",
        "One for each model that is offered now and one for each alias, by name.",
        {200: Answer("One page.", ref("SaladEndpoints"), page), **_errors(400, 401, 403, 404, 429, 500, 503)},
        key="saladKey",
        parameters=[_organization(), *_paging()],
    )


def _endpoint() -> Operation:
    return Operation(
        "get",
        f"{PUBLIC}/{{endpoint}}",
        TAG,
        "getEndpoint",
        "Look at an inference endpoint",
        "With the JSON Schemas of its input and output, as texts.",
        {
            200: Answer("The endpoint.", ref("SaladEndpoint"), _ENDPOINT),
            **_errors(400, 401, 403, 404, 429, 500, 503),
        },
        key="saladKey",
        parameters=_place(),
    )


def _secret() -> Operation:
    example: JSON = {"secret_key": "whsec_..."}
    return Operation(
        "get",
        "/api/public/organizations/{organization}/webhook-secret-key",
        TAG,
        "getWebhookSecretKey",
        "The secret of webhooks",
        "What this key's webhooks are signed with, for checking `webhook-signature`.",
        {
            200: Answer("The secret.", record({"secret_key": text()}, ["secret_key"]), example),
            **_errors(401, 403, 404, 429, 500, 503),
        },
        key="saladKey",
        parameters=[_organization()],
    )


def _submit() -> Operation:
    url = f"http://127.0.0.1:8765/api/beta/organizations/acme/inference-endpoints/stable-diffusion-2-1/{_ID}"
    return Operation(
        "post",
        BETA,
        BETA_TAG,
        "submitRequest",
        "Submit a request",
        "It is durable when the answer comes.",
        {
            202: Answer("Accepted.", ref("SaladSubmitted"), {"requestId": _ID, "resultUrl": url}),
            **_errors(400, 401, 403, 404, 408, 413, 422, 429, 500, 503),
        },
        key="saladKey",
        parameters=_place(),
        body=ref("SaladInput"),
        examples={
            "a request": _INPUT,
            "two pictures": {"modelInputs": {"prompt": "a red fox", "num_images_per_prompt": 2, "seed": 42}},
        },
    )


def _poll() -> Operation:
    done: JSON = {"requestId": _ID, "status": "success", "modelOutputs": _OUTPUT}
    return Operation(
        "get",
        f"{BETA}/{{id}}",
        BETA_TAG,
        "getRequest",
        "Ask how a request stands",
        "`modelOutputs` is null while it is pending; of one that failed it holds `$error`.",
        {200: Answer("As it stands.", ref("SaladState"), done), **_errors(400, 401, 403, 404, 429, 500, 503)},
        key="saladKey",
        parameters=[*_place(), _job_id()],
    )


_ENDPOINT: Final[Mapping[str, JSON]] = {
    "id": "cb3a4591-efc3-46c0-b06a-3d820c0ec100",
    "name": "stable-diffusion-2-1",
    "organization_name": "acme",
    "display_name": "Stable Diffusion 2.1",
    "description": "Stable Diffusion 2.1, by default 768 x 768 pixels, 30 steps.",
    "icon_url": "http://127.0.0.1:8765/playground/static/mark.svg",
    "input_schema": "{...}",
    "output_schema": "{...}",
    "price_description": "Free of charge",
    "readme": "# Stable Diffusion 2.1",
}
_TOLD: Final[Mapping[int, tuple[str, str]]] = {
    400: ("A field is wrong; nothing was queued.", "modelInputs.width must be a whole number."),
    401: ("No key, or a wrong one.", "This API key is not valid. Make one with: fairbrush key create NAME"),
    403: ("The key belongs to another organization.", "This key is of the organization acme alone."),
    404: ("There is none, or it is another key's.", "There is no job with this id of this key's."),
    408: ("The body came too slowly.", "The request came too slowly."),
    413: ("The body is too large.", "That is too large: at most 64 MB are read."),
    422: ("A content rule forbids it.", "A content rule forbids this."),
    429: (
        "Too often, or too much waits: see Retry-After.",
        "Not queued: 1,000 of your 1,000 places are taken.",
    ),
    500: ("Something broke here.", "Something broke here (ref 0a1b2c3d)."),
    503: ("Not ready: see Retry-After.", "No backend is ready to make pictures."),
}


def _errors(*statuses: int) -> dict[int, Answer]:
    found: dict[int, Answer] = {}
    for status in statuses:
        description, detail = _TOLD[status]
        example: JSON = {"type": "about:blank", "title": title_of(status), "status": status, "detail": detail}
        headers = {"Retry-After": "Seconds."} if status in (429, 503) else {}
        found[status] = Answer(description, ref("SaladProblem"), example, PROBLEM, headers=headers)
    return found
