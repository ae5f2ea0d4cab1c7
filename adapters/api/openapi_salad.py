"""Salad's Inference Endpoints, current and beta, in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.api.openapi_parts import (
    Answer,
    Operation,
    Schema,
    in_path,
    in_query,
    record,
    ref,
    text,
    title_of,
)
from adapters.api.openapi_salad_schemas import ENDPOINT, ID, INPUT, JOB, OUTPUT, UUID
from adapters.api.openapi_salad_schemas import schemas as schemas
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
_NAME: Final = "^[a-z][a-z0-9-]{0,61}[a-z0-9]$"


def operations(limits: Limits) -> list[Operation]:
    """All operations of both."""
    return [_create(), _show(), _list(), _cancel(), _endpoints(), _endpoint(), _secret(), _submit(), _poll()]


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
    return in_path("id", "The id that was answered.", ID, pattern=UUID)


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
            201: Answer("Created.", ref("SaladJob"), JOB, headers={"Location": "The job's address."}),
            **_errors(400, 401, 403, 404, 408, 413, 422, 429, 500, 503),
        },
        key="saladKey",
        parameters=_place(),
        body=ref("SaladNewJob"),
        examples={
            "a job": {"input": INPUT},
            "with a webhook": {
                "input": {"modelInputs": {"prompt": "a red fox in snow"}},
                "metadata": {"order": 17},
                "webhook_url": "https://hooks.example.com/fairbrush",
            },
        },
    )


def _show() -> Operation:
    done: JSON = {**JOB, "status": "succeeded", "output": OUTPUT}
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
    page: JSON = {"items": [JOB], "page": 1, "page_size": 25, "total_size": 1}
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
    page: JSON = {"items": [ENDPOINT], "page": 1, "page_size": 25, "total_size": 1}
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
            200: Answer("The endpoint.", ref("SaladEndpoint"), ENDPOINT),
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
    url = f"http://127.0.0.1:8765/api/beta/organizations/acme/inference-endpoints/stable-diffusion-2-1/{ID}"
    return Operation(
        "post",
        BETA,
        BETA_TAG,
        "submitRequest",
        "Submit a request",
        "It is durable when the answer comes.",
        {
            202: Answer("Accepted.", ref("SaladSubmitted"), {"requestId": ID, "resultUrl": url}),
            **_errors(400, 401, 403, 404, 408, 413, 422, 429, 500, 503),
        },
        key="saladKey",
        parameters=_place(),
        body=ref("SaladInput"),
        examples={
            "a request": INPUT,
            "two pictures": {"modelInputs": {"prompt": "a red fox", "num_images_per_prompt": 2, "seed": 42}},
        },
    )


def _poll() -> Operation:
    done: JSON = {"requestId": ID, "status": "success", "modelOutputs": OUTPUT}
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
