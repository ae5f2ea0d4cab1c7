"""Stochastic's model API: submit a prompt or several, then ask until the pictures are there.

    POST /v1/modelApi/submit/{model}    {"prompt": str | [str], "params": {...}}
    GET  /v1/modelApi/inference/{id}

A request that came to no picture is answered with an error, for clients ask until there are pictures or one.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from adapters._incoming import Problem, status_of
from adapters.api.aliases import model_of
from adapters.api.asking import ask, owner_of, wording
from adapters.api.bodies import read_json
from adapters.api.context import Context, json_response
from adapters.api.door import Visit
from adapters.api.fields import Fields
from bot.core.errors import FairbrushError, Unavailable
from bot.core.messages import ended
from bot.core.options import Options
from bot.core.request import JSON, ImageResult, State

API: Final = "stochastic"
AT: Final = "/v1/modelApi"
MAX_BODY: Final = 512 * 1024
LINK_SECONDS: Final = 3600
FIELDS: Final = {
    "prompt": "prompt",
    "model": "model",
    "width": "params.img_width",
    "height": "params.img_height",
    "steps": "params.num_inference_steps",
    "guidance_scale": "params.guidance_scale",
    "seed": "params.seed",
    "count": "params.num_images_per_prompt",
    "negative_prompt": "params.negative_prompt",
}
"""Fields of the core, and what the API calls them."""
_NOT_MADE: Final = {State.CANCELLED: 410, State.WITHHELD: 422, State.FAILED: 422}


class StochasticForm:
    """The Form port: the header apiKey, and errors as {"success": false, "message"}."""

    name = API

    def key_in(self, request: web.Request) -> str:
        """The key; empty where there is none."""
        return request.headers.get("apiKey", "").strip()

    def refusal(self, request: web.Request, problem: Problem | FairbrushError) -> web.Response:
        """What went wrong; field: which one of the body, where it is about one."""
        error: dict[str, JSON] = {"success": False, "message": problem.message}
        if isinstance(problem, Problem) or status_of(problem) == 400:
            error |= {"field": problem.field} if problem.field else {}
        return json_response(error, status=status_of(problem))


def routes(context: Context) -> list[web.RouteDef]:
    """The API's routes."""
    api, form = _Api(context), StochasticForm()
    return [
        *context.resource(f"{AT}/submit/{{model:(?s:.+)}}", form, post=api.submit),
        *context.resource(f"{AT}/inference/{{id}}", form, get=api.poll),
        *context.nothing_else(AT, form),
    ]


class _Api:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def submit(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Queue one request for all prompts together."""
        base = self._context.base_of(request)
        body = Fields(await read_json(request, MAX_BODY, visit.room))
        prompts, params = body.texts("prompt"), body.object("params", required=True)
        body.finish()
        options = _options(params, prompts[0], model_of(request.match_info["model"], visit.studio))
        owner = owner_of(visit, API)
        with wording(FIELDS):
            ticket = await ask(visit, owner, prompts, options, address={"api": API})
        public = self._context.ids.short(ticket.group_id, owner)
        place = visit.studio.place(ticket.group_id) or 0
        return json_response({"success": True, "data": _waiting(base, public, place)})

    async def poll(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """How a request stands, with its pictures once they are made. Each call gives fresh links."""
        public = request.match_info["id"]
        group_id = self._context.ids.group_of_short(public, owner_of(visit, API))
        if group_id is None:
            raise Problem(404, "There is no request with this id of this key's.")
        base, studio = self._context.base_of(request), visit.studio
        if (place := studio.place(group_id)) is not None:
            return json_response({"success": True, "data": _waiting(base, public, place)})
        result = await self._context.recent.result(group_id, studio)
        if not result.state.ended:  # it is being taken up again
            return json_response({"success": True, "data": _waiting(base, public, 0)})
        if result.state is not State.DONE:
            told: dict[str, JSON] = {"id": public, "status": result.state.value}
            error: dict[str, JSON] = {"success": False, "message": ended(result, guild="key"), "data": told}
            return json_response(error, status=_NOT_MADE[result.state])
        links: list[JSON] = []
        for picture in result.pictures:
            link = studio.link(picture, base=base, seconds=LINK_SECONDS)
            if link is None:
                raise Unavailable("Links to pictures cannot be signed right now.")
            links.append({"presigned_url": link, "seed": picture.seed})
        return json_response({"success": True, "data": _made(base, public, links, result)})


def _options(params: Fields, prompt: str, model: str | None) -> Options:
    options = Options(
        prompt=prompt,
        model=model,
        width=params.whole("img_width"),
        height=params.whole("img_height"),
        steps=params.whole("num_inference_steps"),
        guidance_scale=params.real("guidance_scale"),
        seed=params.whole("seed"),
        count=params.whole("num_images_per_prompt"),
        negative_prompt=params.text("negative_prompt"),
    )
    params.finish()
    return options


def _waiting(base: str, public: str, place: int) -> dict[str, JSON]:
    return {"id": public, "responseUrl": f"{base}{AT}/inference/{public}", "queuePosition": str(place)}


def _made(base: str, public: str, links: list[JSON], result: ImageResult) -> dict[str, JSON]:
    """message: where there are fewer pictures than were asked for; notes: what was made otherwise."""
    data = {**_waiting(base, public, 0), "generatedImages": links}
    data |= {"message": result.message} if result.message else {}
    return data | ({"notes": list(result.notes)} if result.notes else {})
