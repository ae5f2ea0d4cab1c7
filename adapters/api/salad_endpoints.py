"""Salad's list of inference endpoints: one for each model that is offered here, and one for each alias.

    GET  /api/public/organizations/{organization}/inference-endpoints[/{endpoint}]

Any other name works too and means the default model, so it is described as that.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters.api.aliases import model_of, slug
from adapters.api.context import Context, json_response
from adapters.api.door import Visit
from adapters.api.salad import SaladForm, place_of
from adapters.api.salad_jobs import AT, paging
from bot.core.errors import Unavailable
from bot.core.ports import Model, Price
from bot.core.request import JSON, MAX_SEED

if TYPE_CHECKING:
    from bot.core.studio import Studio

_NOT_SHOWN: Final = re.compile(r"[^ ,.0-9A-Za-z-]+", re.ASCII)


def routes(context: Context) -> list[web.RouteDef]:
    """The endpoints' routes."""
    api, form = _Api(context), SaladForm()
    path = f"{AT}/organizations/{{organization}}/inference-endpoints"
    return [
        *context.resource(path, form, get=api.listed),
        *context.resource(f"{path}/{{endpoint}}", form, get=api.show),
        *context.nothing_else(AT, form),
    ]


class _Api:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def listed(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """One page of them, by name."""
        organization, _ = place_of(request, visit)
        page, size = paging(request)
        base, studio = self._context.base_of(request), visit.studio
        names = _names(studio)
        begin = (page - 1) * size
        items = [_endpoint(name, organization, base, studio) for name in names[begin : begin + size]]
        return json_response({"items": items, "page": page, "page_size": size, "total_size": len(names)})

    async def show(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """One of them."""
        organization, name = place_of(request, visit)
        return json_response(_endpoint(name, organization, self._context.base_of(request), visit.studio))


def _names(studio: Studio) -> list[str]:
    wanted = [*studio.settings.aliases, *(model.id for model in studio.models())]
    return sorted({slug(name) for name in wanted})


def _endpoint(name: str, organization: str, base: str, studio: Studio) -> dict[str, JSON]:
    models = studio.models()
    if not models:
        raise Unavailable("No backend is ready to make pictures.", retry_after=10.0)
    wanted = model_of(name, studio)
    model = next((model for model in models if model.id == wanted), models[0])
    schema = input_schema(model, studio)
    shown = _NOT_SHOWN.sub(" ", model.title).strip()[:63]
    licence = f" Licence: {model.licence}." if model.licence else ""
    usual = f"{model.width} x {model.height} pixels, {model.steps} steps"
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{organization}/{name}")),
        "name": name,
        "organization_name": organization,
        "display_name": shown if len(shown) >= 2 else name,
        "description": f"{model.title}, by default {usual}.{licence}"[:1000],
        "icon_url": f"{base}/docs/mark.svg",
        "price_description": _price(model.price),
        "readme": (
            f"The model `{model.id}`, by default {usual}.{licence} "
            "Send `modelInputs` with a `prompt`, and `callInputs` where the pipeline matters."
        ),
        "input_schema": json.dumps(schema),
        "output_schema": json.dumps(OUTPUT_SCHEMA),
    }


def input_schema(model: Model, studio: Studio) -> dict[str, JSON]:
    """What an input may hold for a model (JSON Schema)."""
    limits, honoured = studio.limits, studio.params(model.id)
    text: dict[str, JSON] = {"type": "string", "maxLength": limits.max_prompt}
    side: dict[str, JSON] = {
        "type": "integer",
        "minimum": limits.min_side,
        "maximum": limits.max_side,
        "multipleOf": limits.side_multiple,
    }
    optional: dict[str, tuple[str, JSON]] = {
        "steps": (
            "num_inference_steps",
            {"type": "integer", "minimum": limits.min_steps, "maximum": limits.max_steps},
        ),
        "guidance_scale": (
            "guidance_scale",
            {"type": "number", "minimum": limits.min_guidance, "maximum": limits.max_guidance},
        ),
        "seed": ("seed", {"type": "integer", "minimum": 0, "maximum": MAX_SEED}),
        "negative_prompt": ("negative_prompt", text),
        "init_image": ("init_image", {"type": "string", "contentEncoding": "base64"}),
        "mask_image": ("mask_image", {"type": "string", "contentEncoding": "base64"}),
        "strength": ("strength", {"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
    }
    inputs: dict[str, JSON] = {
        "prompt": {"anyOf": [text, {"type": "array", "items": text, "maxItems": limits.max_prompts}]},
        "width": side | {"default": model.width},
        "height": side | {"default": model.height},
        "num_images_per_prompt": {"type": "integer", "minimum": 1, "maximum": limits.max_count},
    }
    inputs |= {name: schema for field, (name, schema) in optional.items() if field in honoured}
    calls: dict[str, JSON] = {name: {"type": "string"} for name in ("PIPELINE", "SCHEDULER", "MODEL_ID")}
    calls["safety_checker"] = {"type": ["boolean", "string"]}
    return {
        "type": "object",
        "required": ["modelInputs"],
        "properties": {
            "modelInputs": {
                "type": "object",
                "required": ["prompt"],
                "properties": inputs,
                "additionalProperties": False,
            },
            "callInputs": {"type": "object", "properties": calls, "additionalProperties": False},
        },
        "additionalProperties": False,
    }


OUTPUT_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "images": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}},
        "image_base64": {"type": "string", "contentEncoding": "base64"},
        "seeds": {"type": "array", "items": {"type": "integer"}},
        "message": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
        "warnings": {"type": "array", "items": {"type": "string"}},
        "$error": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("code", "name", "message")},
        },
    },
}
"""What an output may hold (JSON Schema)."""


def _price(price: Price | None) -> str:
    if price is None:
        return "Free of charge"
    parts = (
        price.per_image and f"${price.per_image:g} a picture",
        price.per_megapixel and f"${price.per_megapixel:g} a megapixel",
        price.per_second and f"${price.per_second:g} a second",
    )
    return " and ".join(part for part in parts if part)[:100] or "Free of charge"
