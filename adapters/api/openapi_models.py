"""The models in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.api.openapi_openai import errors
from adapters.api.openapi_parts import Answer, Operation, Schema, in_path, listed, record, ref, text
from bot.core.request import JSON, Limits

TAG: Final = "Models"
ABOUT: Final = "What can be made here, in OpenAI's form with the fields of a model card."
_CARD: Final[Mapping[str, JSON]] = {
    "id": "stabilityai/sd-turbo",
    "object": "model",
    "created": 0,
    "owned_by": "stabilityai",
    "title": "SD Turbo",
    "default": True,
    "default_size": "512x512",
    "native_pixels": None,
    "steps": 4,
    "guidance_scale": 0.0,
    "scheduler": "Euler a",
    "schedulers": ["Euler", "Euler a"],
    "params": ["guidance_scale", "negative_prompt", "seed", "steps"],
    "licence": "Stability AI Community",
    "commercial": False,
    "demo": False,
    "advice": "",
    "price": None,
    "backends": ["local"],
    "aliases": ["stable-diffusion-2"],
}


def operations(limits: Limits) -> list[Operation]:
    """Its operations."""
    return [_models(), _model()]


def schemas(limits: Limits) -> Mapping[str, Schema]:
    """Its schemas."""
    return {
        "Model": _card(),
        "Models": record({"object": {"const": "list"}, "data": listed(ref("Model"))}, ["object", "data"]),
    }


def _card() -> Schema:
    price = record(
        {
            "per_image": {"type": "number"},
            "per_megapixel": {"type": "number"},
            "per_second": {"type": "number"},
            "currency": {"const": "USD"},
        }
    )
    flag: JSON = {"type": "boolean"}
    fields: dict[str, JSON] = {
        **{name: text() for name in ("id", "owned_by", "title", "default_size", "licence", "advice")},
        **dict.fromkeys(("default", "commercial", "demo"), flag),
        **{name: listed(text()) for name in ("schedulers", "aliases")},
        "object": {"const": "model"},
        "created": {"type": "integer", "description": "Always 0: it is not known."},
        "native_pixels": {
            "type": ["integer", "null"],
            "description": "Larger pictures are made at this area and enlarged; null: made as asked.",
        },
        "steps": {"type": "integer"},
        "guidance_scale": {"type": "number"},
        "scheduler": {"type": ["string", "null"]},
        "params": listed(text(), description="The optional fields of a request that it honours."),
        "price": {"oneOf": [price, {"type": "null"}], "description": "null: free."},
        "backends": listed(text(), description="The kinds of backend that offer it."),
    }
    return record(fields, [*_CARD])


def _models() -> Operation:
    example: JSON = {"object": "list", "data": [_CARD]}
    return Operation(
        "get",
        "/v1/models",
        TAG,
        "listModels",
        "List models",
        "All that are offered now, the default first.",
        {200: Answer("The models.", ref("Models"), example), **errors(401, 429, 500, 503)},
        key="bearer",
    )


def _model() -> Operation:
    return Operation(
        "get",
        "/v1/models/{id}",
        TAG,
        "getModel",
        "Look at a model",
        "By its id, which may hold a slash, or by an alias.",
        {200: Answer("The model.", ref("Model"), _CARD), **errors(401, 404, 429, 500, 503)},
        key="bearer",
        parameters=[in_path("id", "A model's id or an alias.", "stabilityai/sd-turbo", maxLength=200)],
    )
