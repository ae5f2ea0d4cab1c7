"""The OpenAPI 3.1 document of everything that is served to programs, and a page that shows it to people.

One table of operations makes both, with the limits of the settings; a test holds it against the routes.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from adapters.api import openapi_models, openapi_openai, openapi_salad, openapi_server, openapi_stochastic
from adapters.api.context import HEADERS, Context
from adapters.api.openai_form import OpenAIForm
from adapters.api.openapi_page import page_of
from adapters.api.openapi_parts import KEYS, Operation, Schema
from bot.core.request import JSON, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

STATIC: Final = Path(__file__).with_name("static")
PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
ABOUT: Final = (
    "Pictures from prompts, over one fair queue. Four formats are served, so that programs written for "
    "another service run with this address; choose whichever your program speaks. A key comes from "
    "`fairbrush key create NAME`, and each key has its own fair share."
)
_PARTS: Final = (openapi_openai, openapi_models, openapi_stochastic, openapi_salad, openapi_server)
TAGS: Final = (
    (openapi_openai.TAG, openapi_openai.ABOUT),
    (openapi_models.TAG, openapi_models.ABOUT),
    (openapi_stochastic.TAG, openapi_stochastic.ABOUT),
    (openapi_salad.TAG, openapi_salad.ABOUT),
    (openapi_salad.BETA_TAG, openapi_salad.BETA_ABOUT),
    (openapi_server.TAG, openapi_server.ABOUT),
)


def routes(context: Context) -> list[web.RouteDef]:
    """The document, the page and its files; none needs a key, for none says a secret."""
    form = OpenAIForm()
    return [
        *context.open("/openapi.json", form, partial(_document, context)),
        *context.open("/docs", form, partial(_page, context)),
        *context.open("/docs/{file:docs\\.css|mark\\.svg}", form, _file),
    ]


def operations(limits: Limits) -> list[Operation]:
    """The one table."""
    return [operation for part in _PARTS for operation in part.operations(limits)]


def document(limits: Limits, base: str) -> dict[str, JSON]:
    """The OpenAPI document. base: the address that it is asked for at."""
    paths: dict[str, dict[str, JSON]] = {}
    for operation in operations(limits):
        paths.setdefault(operation.path, {})[operation.method] = operation.to_json()
    schemas: dict[str, Schema] = {}
    for part in _PARTS:
        schemas |= part.schemas(limits)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairbrush",
            "version": "1",
            "description": ABOUT,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "tags": [{"name": name, "description": about} for name, about in TAGS],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": dict(KEYS)},
    }


async def _document(context: Context, request: web.Request) -> web.StreamResponse:
    text = json.dumps(document(context.settings.limits, context.base_of(request)), indent=1)
    return web.Response(text=text, content_type="application/json", headers=HEADERS)


async def _page(context: Context, request: web.Request) -> web.StreamResponse:
    made: Mapping[str, Any] = document(context.settings.limits, context.base_of(request))
    return web.Response(text=page_of(made), content_type="text/html", headers=PAGE_HEADERS)


async def _file(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(STATIC / request.match_info["file"], headers=PAGE_HEADERS)
