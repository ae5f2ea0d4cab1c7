"""GET /v1/models: what can be made here, in OpenAI's form with the fields of a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from adapters.api.aliases import model_of
from adapters.api.context import Context, json_response
from adapters.api.door import Visit
from adapters.api.openai_form import OpenAIForm, OpenAIProblem
from bot.core.errors import InvalidRequest
from bot.core.ports import Model
from bot.core.request import JSON

if TYPE_CHECKING:
    from bot.core.studio import Studio


def routes(context: Context) -> list[web.RouteDef]:
    """The routes of the list and of each model, whose id may hold slashes; and of what OpenAI's API has and
    there is not here, for which they come last."""
    form = OpenAIForm()
    return [
        *context.resource("/v1/models", form, get=models),
        *context.resource("/v1/models/{id:(?s:.+)}", form, get=model),
        *context.nothing_else("/v1", form),
    ]


async def models(request: web.Request, visit: Visit) -> web.StreamResponse:
    """All models offered now, the default first."""
    return json_response(
        {"object": "list", "data": [card(one, visit.studio) for one in visit.studio.models()]}
    )


async def model(request: web.Request, visit: Visit) -> web.StreamResponse:
    """One model, by its id or an alias."""
    name = request.match_info["id"]
    try:
        meant = model_of(name, visit.studio)
    except InvalidRequest:
        meant = None
    for one in visit.studio.models():
        if one.id == meant:
            return json_response(card(one, visit.studio))
    raise OpenAIProblem(
        f"There is no model {name[:100]!r} here. GET /v1/models lists what there is.",
        code="model_not_found",
        param="model",
        status=404,
    )


def card(model: Model, studio: Studio) -> dict[str, JSON]:
    """A model as OpenAI's clients read it, and what it does best."""
    best, price = studio.defaults(model.id), model.price
    owner, slash, _ = model.id.partition("/")
    aliases = studio.settings.aliases.items()
    return {
        "id": model.id,
        "object": "model",
        "created": 0,  # when a model was made is not known here
        "owned_by": owner if slash and owner else "fairbrush",
        "title": model.title,
        "default": model.id == studio.models()[0].id,
        "default_size": f"{best.width}x{best.height}",
        "native_pixels": model.native_pixels,
        "steps": best.steps,
        "guidance_scale": best.guidance_scale,
        "scheduler": best.scheduler,
        "schedulers": list(model.schedulers),
        "params": sorted(studio.params(model.id)),
        "licence": model.licence,
        "commercial": model.commercial,
        "demo": model.demo,
        "advice": model.advice,
        "price": None
        if price is None
        else {
            "per_image": price.per_image,
            "per_megapixel": price.per_megapixel,
            "per_second": price.per_second,
            "currency": "USD",
        },
        "backends": list(studio.kinds(model.id)),
        "aliases": sorted(alias for alias, target in aliases if target == model.id),
    }
