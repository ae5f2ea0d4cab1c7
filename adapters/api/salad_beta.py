"""Salad's Inference Endpoints, beta: submit, then ask at `resultUrl`.

POST /api/beta/organizations/{organization}/inference-endpoints/{endpoint}
GET  /api/beta/organizations/{organization}/inference-endpoints/{endpoint}/{id}
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from adapters._incoming import Problem
from adapters.api.asking import ask, owner_of, wording
from adapters.api.bodies import read_json
from adapters.api.context import Context, json_response
from adapters.api.door import Visit
from adapters.api.fields import Fields
from adapters.api.salad import MAX_BODY, NAMES, SaladForm, place_of, read_inputs
from bot.core.request import JSON, State

API: Final = "salad-beta"
AT: Final = "/api/beta"


def routes(context: Context) -> list[web.RouteDef]:
    """The API's routes."""
    api, form = _Api(context), SaladForm()
    path = f"{AT}/organizations/{{organization}}/inference-endpoints/{{endpoint}}"
    return [
        *context.resource(path, form, post=api.submit),
        *context.resource(f"{path}/{{id}}", form, get=api.poll),
        *context.nothing_else(AT, form),
    ]


class _Api:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def submit(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Queue a request."""
        organization, endpoint = place_of(request, visit)
        base = self._context.base_of(request)
        body = Fields(await read_json(request, MAX_BODY, visit.room))
        inputs = await read_inputs(body, endpoint, visit.studio)
        owner = owner_of(visit, API, organization, endpoint)
        address = {"api": API, "warnings": list(inputs.warnings)}
        with wording(NAMES):
            ticket = await ask(
                visit,
                owner,
                inputs.prompts,
                inputs.options,
                address=address,
                init_image=inputs.init_image,
                mask_image=inputs.mask_image,
            )
        public = self._context.ids.uuid(ticket.group_id, owner)
        path = f"{AT}/organizations/{organization}/inference-endpoints/{endpoint}/{public}"
        told: dict[str, JSON] = {"requestId": public, "resultUrl": base + path}
        told |= {"warnings": list(inputs.warnings)} if inputs.warnings else {}
        return json_response(told, status=202)

    async def poll(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """How a request stands, with its pictures once they are made."""
        owner = owner_of(visit, API, *place_of(request, visit))
        public = request.match_info["id"]
        group_id = self._context.ids.group_of_uuid(public, owner)
        if group_id is None:
            raise Problem(404, "There is no request with this id of this key's at this endpoint.")
        status = visit.studio.status(group_id)
        if status is not None and not status.state.ended:
            return _told(public, "pending", None)
        result = await self._context.recent.result(group_id, visit.studio)
        if not result.state.ended:  # it is being taken up again
            return _told(public, "pending", None)
        stored = await visit.studio.show(group_id, visit.requester)
        output = await self._context.outputs.of(result, texts(stored.address.get("warnings")))
        return _told(public, "success" if result.state is State.DONE else "failed", output)


def texts(value: JSON) -> list[str]:
    """What of a stored value are texts."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, (list, tuple)) else []


def _told(public: str, status: str, outputs: JSON) -> web.Response:
    return json_response({"requestId": public.lower(), "status": status, "modelOutputs": outputs})
