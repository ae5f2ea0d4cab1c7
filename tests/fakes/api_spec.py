"""Checks answers against Salad's OpenAPI file, which FAIRBRUSH_SPECS (its folder) names."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

NAME = "salad-inference-openapi.json"
BASE = "urn:salad"
FOLDER = os.environ.get("FAIRBRUSH_SPECS", "")
ENDPOINTS = "/organizations/{organization_name}/inference-endpoints"
ENDPOINT = ENDPOINTS + "/{inference_endpoint_name}"
JOBS = ENDPOINT + "/jobs"
JOB = JOBS + "/{inference_endpoint_job_id}"


@functools.cache
def _document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(FOLDER) / NAME).read_text("utf-8"))
    return loaded


def problems(method: str, path: str, status: int, body: Any) -> list[str]:
    """What is wrong with an answer, one line each; nothing where the file is not there."""
    if not FOLDER:
        return []
    responses = _document()["paths"][path][method.lower()]["responses"]
    answer = responses.get(str(status)) or responses["default"]
    name = answer["$ref"].rpartition("/")[2]
    content = _document()["components"]["responses"][name].get("content")
    if content is None:
        return [] if body is None else [f"{method} {path} {status}: a body where there is none"]
    pointer = f"{BASE}#/components/responses/{name}/content/application~1json/schema"
    registry: Registry[Any] = Registry().with_resource(BASE, DRAFT202012.create_resource(_document()))
    validator = Draft202012Validator(
        {"$ref": pointer}, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    return [
        f"{method} {path} {status}: {error.json_path} {error.message[:200]}"
        for error in validator.iter_errors(body)
    ]
