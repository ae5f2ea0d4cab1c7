"""Salad's Inference Endpoints, current: jobs that are created, listed, looked at and cancelled; a webhook
tells when they end.

    POST, GET      /api/public/organizations/{organization}/inference-endpoints/{endpoint}/jobs
    GET, DELETE    /api/public/organizations/{organization}/inference-endpoints/{endpoint}/jobs/{id}
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from aiohttp import web

from adapters._incoming import Problem
from adapters.api.asking import ask, owner_of, wording
from adapters.api.bodies import read_json
from adapters.api.context import Context, json_response
from adapters.api.door import Visit
from adapters.api.fields import Fields, is_finite
from adapters.api.salad import MAX_BODY, NAMES, SaladForm, place_of, read_inputs
from adapters.api.salad_beta import texts
from adapters.api.salad_views import Card, card_of, created, echo, job_json
from adapters.api.webhooks import Webhooks, check_url, webhook_secret
from bot.core.errors import InvalidRequest, NotFound, Refused
from bot.core.ports import Address
from bot.core.request import JSON, ImageResult, State
from bot.core.studio import Studio

API: Final = "salad"
AT: Final = "/api/public"
PAGE_SIZE, MAX_PAGE_SIZE = 25, 100
MAX_PAGE: Final = 2**31 - 1
MAX_METADATA: Final = 16 * 1024
MAX_PROPERTIES: Final = 20
REMEMBERED: Final = 1000  # jobs in hand whose facts are kept beside the store
WEBHOOK_SECONDS: Final = 24 * 3600.0  # after a job's end that its webhook is tried
WEBHOOK_BYTES: Final = 16 * 2**20  # of pictures that a webhook carries


def routes(context: Context) -> list[web.RouteDef]:
    """The jobs' routes, and the secret that webhooks are signed with."""
    api, form = Jobs(context), SaladForm()
    organization = f"{AT}/organizations/{{organization}}"
    jobs = f"{organization}/inference-endpoints/{{endpoint}}/jobs"
    return [
        *context.resource(jobs, form, get=api.listed, post=api.create),
        *context.resource(f"{jobs}/{{id}}", form, get=api.show, delete=api.cancel),
        *context.resource(f"{organization}/webhook-secret-key", form, get=api.secret),
    ]


class Jobs:
    """The handlers."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cards: OrderedDict[str, Card] = OrderedDict()

    async def create(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Queue a job."""
        organization, endpoint = place_of(request, visit)
        base = self._context.base_of(request)
        body = Fields(await read_json(request, MAX_BODY, visit.room))
        kept = _kept(body)
        inputs = await read_inputs(body.object("input", required=True), endpoint, visit.studio)
        body.finish()
        kept |= {"organization": organization, "endpoint": endpoint, "warnings": list(inputs.warnings)}
        owner = owner_of(visit, API, organization, endpoint)
        with wording({field: f"input.{name}" for field, name in NAMES.items()}):
            ticket = await ask(
                visit,
                owner,
                inputs.prompts,
                inputs.options,
                address=kept,
                init_image=inputs.init_image,
                mask_image=inputs.mask_image,
            )
        card = self._remember(ticket.group_id, Card(kept, created(kept), State.QUEUED))
        public = self._context.ids.uuid(ticket.group_id, owner)
        response = json_response(job_json(public, organization, endpoint, card), status=201)
        path = f"{AT}/organizations/{organization}/inference-endpoints/{endpoint}/jobs/{public}"
        response.headers["Location"] = base + path
        return response

    async def show(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """How a job stands, with its output once it has ended."""
        organization, endpoint = place_of(request, visit)
        group_id, public = self._job(request, visit, organization, endpoint)
        card = await self._standing(group_id, visit)
        output: JSON = None
        if card.state.ended:
            result = await self._context.recent.result(group_id, visit.studio)
            output = await self._context.outputs.of(result, texts(card.address.get("warnings")))
        return json_response(job_json(public, organization, endpoint, card, output))

    async def cancel(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Stop a job; one that has ended stays as it is."""
        group_id, _ = self._job(request, visit, *place_of(request, visit))
        status = visit.studio.status(group_id)
        if status is None or status.state.ended:
            await visit.studio.show(group_id, visit.requester)  # NotFound where it was deleted
        else:
            with suppress(NotFound):  # it has ended in this moment
                await visit.studio.cancel(group_id, visit.requester)
        return web.Response(status=202)

    async def listed(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """The key's jobs at an endpoint, newest first; without their outputs, which may be large."""
        organization, endpoint = place_of(request, visit)
        page, size = paging(request)
        owner = owner_of(visit, API, organization, endpoint)
        groups, total = await visit.studio.listed(
            visit.requester, f"{owner}:", limit=size, offset=(page - 1) * size
        )
        ids = self._context.ids
        items = [
            job_json(ids.uuid(group.group_id, owner), organization, endpoint, card_of(group))
            for group in groups
        ]
        return json_response({"items": items, "page": page, "page_size": size, "total_size": total})

    async def secret(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """The secret that this key's webhooks are signed with."""
        place_of(request, visit)
        return json_response({"secret_key": webhook_secret(self._context.secret, visit.key.key_id)})

    def _job(self, request: web.Request, visit: Visit, organization: str, endpoint: str) -> tuple[str, str]:
        """The group that a path names, and its public id."""
        owner, public = owner_of(visit, API, organization, endpoint), request.match_info["id"].lower()
        group_id = self._context.ids.group_of_uuid(public, owner)
        if group_id is None:
            raise Problem(404, "There is no job with this id of this key's at this endpoint.")
        return group_id, public

    async def _standing(self, group_id: str, visit: Visit) -> Card:
        """A job as it stands now. While it is in hand the store is asked once, and once more when it runs."""
        status = visit.studio.status(group_id)
        known = self._cards.get(group_id)
        if status is None or status.state.ended:
            self._cards.pop(group_id, None)
            return card_of(await visit.studio.show(group_id, visit.requester))
        running = status.state is State.RUNNING
        if known is None or (running and known.started_at is None):
            known = card_of(await visit.studio.show(group_id, visit.requester))
            if known.state.ended:  # meanwhile
                return known
            self._remember(group_id, known)
        return replace(known, state=status.state, started_at=known.started_at if running else None)

    def _remember(self, group_id: str, card: Card) -> Card:
        self._cards[group_id] = card
        self._cards.move_to_end(group_id)
        while len(self._cards) > REMEMBERED:
            self._cards.popitem(last=False)
        return card


async def tell(
    context: Context, studio: Studio, hooks: Webhooks, address: Address, result: ImageResult
) -> None:
    """Send a job's webhook. Raises as Webhooks.send() does, and Refused a day after the job's end."""
    key_id, url = result.requester.user, str(address.get("webhook_url") or address.get("webhook"))
    organization, endpoint = str(address.get("organization")), str(address.get("endpoint"))
    card = card_of(await studio.show(result.group_id, result.requester))
    if card.ended_at is not None and time.time() > card.ended_at + WEBHOOK_SECONDS:
        raise Refused("The webhook's receiver took nothing for a day.")
    public = context.ids.uuid(result.group_id, f"{key_id}:{API}:{organization}/{endpoint}")
    output = await context.outputs.of(result, texts(address.get("warnings")), most=WEBHOOK_BYTES)
    body = json.dumps(job_json(public, organization, endpoint, card, output), separators=(",", ":"))
    await hooks.send(url, webhook_secret(context.secret, key_id), public, body.encode("ascii"))


def paging(request: web.Request) -> tuple[int, int]:
    """page and page_size of a query. Problem 400 where they are out of range."""
    return _number(request, "page", 1, MAX_PAGE), _number(request, "page_size", PAGE_SIZE, MAX_PAGE_SIZE)


def _number(request: web.Request, name: str, usual: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and 1 <= int(text) <= most):
        raise Problem(400, f"{name} must be a whole number from 1 to {most}.", field=name)
    return int(text)


def _kept(body: Fields) -> dict[str, JSON]:
    """What of a body is stored to be told again."""
    metadata = body.plain("metadata")
    if metadata is not None:
        if not isinstance(metadata, Mapping) or len(metadata) > MAX_PROPERTIES or not is_finite(metadata):
            raise InvalidRequest(
                f"metadata must be a JSON object of at most {MAX_PROPERTIES} properties and finite numbers.",
                field="metadata",
            )
        if len(json.dumps(metadata)) > MAX_METADATA:
            raise InvalidRequest(
                f"metadata is too large: at most {MAX_METADATA // 1024} KB are kept.", field="metadata"
            )
    kept: dict[str, JSON] = {"api": API, "created": time.time(), "metadata": metadata}
    for name in ("webhook_url", "webhook"):
        if (url := body.text(name)) is not None:
            check_url(url, name)
            kept[name] = url
    kept["input"] = echo(body.plain("input"))
    return kept
