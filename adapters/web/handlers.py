"""What the page asks of the core, one method a route. Each knows its visitor already.

Bodies are capped and read strictly; what they mean is for the core to judge.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from aiohttp import web

from adapters._incoming import Problem, read_body
from adapters.web.conversation import address_of
from adapters.web.doorway import Visit
from adapters.web.forms import read_form, read_object
from adapters.web.hub import Hub
from adapters.web.problems import json_response
from adapters.web.stream import stream_news
from adapters.web.views import (
    command,
    defaults_json,
    file_name,
    group_json,
    limits_json,
    model_json,
    remix_json,
    request_json,
    result_json,
    status_json,
    ticket_json,
)
from adapters.web.wording import line_of, outcome_line
from bot.core.errors import InvalidRequest, Unavailable
from bot.core.grammar import parse
from bot.core.options import Options, merge, options_from_json, options_to_json
from bot.core.pictures import read_recipe
from bot.core.pictures import thumbnail as shrunk
from bot.core.ports import StoredGroup
from bot.core.request import JSON, ImageRequest
from bot.core.resolve import resolve
from bot.core.studio import Submission

PAGE_OF_HISTORY: Final = 24
MAX_JSON_BYTES: Final = 64 * 1024
THUMBNAIL_SIDE: Final = 320
THUMBNAILS_AT_A_TIME: Final = 2
FOREVER: Final = "private, max-age=31536000, immutable"
_EVENT: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")


class Handlers:
    """The routes behind the visitor's check."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._shrinking = asyncio.Semaphore(THUMBNAILS_AT_A_TIME)

    async def setup(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """What the form is built from."""
        studio = visit.studio
        models = studio.models()
        return json_response(
            {
                "models": [model_json(model, studio.kinds(model.id)) for model in models],
                "defaults": {model.id: defaults_json(studio.defaults(model.id)) for model in models},
                "params": {model.id: sorted(studio.params(model.id)) for model in models},
                "styles": sorted(studio.settings.styles),
                "limits": limits_json(studio.limits),
                "key_name": visit.key_name,
            }
        )

    async def submit(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Queue a request; the same event sent twice is one."""
        fields, image = await read_form(request, MAX_JSON_BYTES, visit.studio.limits.max_image_bytes)
        submission = Submission(
            visit.requester,
            self._event(fields, visit),
            address_of(visit.requester),
            text=_text(fields),
            options=_options(fields),
            init_image=image,
        )
        ticket = await visit.studio.submit(submission)
        return json_response(ticket_json(ticket), status=201)

    async def check(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """What the text says in flags, and the command that makes the same picture."""
        fields = await read_object(request, MAX_JSON_BYTES)
        try:
            typed = parse(_text(fields), limits=visit.studio.limits)
            whole = merge(_options(fields), typed)
        except InvalidRequest as error:  # half a flag is no mistake yet
            return json_response({"problem": error.message})
        answer: dict[str, JSON] = {"typed": options_to_json(typed), "command": command(whole)}
        try:
            return json_response(answer | {"request": request_json(_resolved(visit, whole), whole.seed)})
        except (InvalidRequest, Unavailable) as error:
            return json_response(answer | {"problem": error.message})

    async def recipe(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """The options in a picture's recipe; null where it carries none."""
        data = await read_body(request, visit.studio.limits.max_image_bytes)
        found = await asyncio.to_thread(read_recipe, data)
        return json_response({"remix": remix_json(found.options) if found else None})

    async def history(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """The visitor's requests, newest first, those in hand as they stand now."""
        before = request.query.get("before", "")
        if before and not re.fullmatch(r"[0-9]{1,15}", before):
            raise Problem(400, "before must be a whole number.", field="before")
        groups = await visit.studio.history(
            visit.requester, limit=PAGE_OF_HISTORY, before=int(before) if before else None
        )
        return json_response(
            {
                "jobs": [await _view(visit, group) for group in groups],
                "more": len(groups) == PAGE_OF_HISTORY,
            }
        )

    async def show(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """One request."""
        group = await visit.studio.show(request.match_info["id"], visit.requester)
        return json_response(await _view(visit, group))

    async def cancel(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Cancel what is unfinished of a request of one's own."""
        group = await visit.studio.show(request.match_info["id"], visit.requester)
        await visit.studio.cancel(group.group_id, visit.requester)
        return json_response(await _view(visit, await visit.studio.show(group.group_id, visit.requester)))

    async def again(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """The same with another seed."""
        fields = await read_object(request, MAX_JSON_BYTES)
        group = await visit.studio.show(request.match_info["id"], visit.requester)
        submission = Submission(visit.requester, self._event(fields, visit), address_of(visit.requester))
        ticket = await visit.studio.redo(group.group_id, submission)
        return json_response(ticket_json(ticket), status=201)

    async def delete(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Forget a request of one's own with its pictures."""
        await visit.studio.delete(request.match_info["id"], visit.requester)
        return web.Response(status=204)

    async def picture(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """A picture's file. Its name is never used again, so a browser may keep it."""
        picture = await visit.studio.picture(request.match_info["name"], visit.requester)
        kind = "attachment" if "download" in request.query else "inline"
        headers = {
            "Content-Type": picture.mime,
            "Content-Disposition": f'{kind}; filename="{file_name(picture)}"',
            "Cache-Control": FOREVER,
        }
        return web.FileResponse(picture.path, headers=headers)

    async def thumbnail(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """A small form of a picture, for lists."""
        picture = await visit.studio.picture(request.match_info["name"], visit.requester)

        def small() -> bytes:
            return shrunk(picture.path.read_bytes(), THUMBNAIL_SIDE)

        async with self._shrinking:
            data = await asyncio.to_thread(small)
        return web.Response(body=data, content_type="image/jpeg", headers={"Cache-Control": FOREVER})

    async def events(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Server-sent events: what happens to the visitor's requests, until the page goes away."""
        member = (visit.requester.guild, visit.requester.user)
        stream = self._hub.open(member)
        if stream is None:
            raise Problem(429, "Too many open pages of this browser. Close one.", retry_after=30)
        try:
            return await stream_news(request, stream, visit.recheck)
        finally:
            self._hub.leave(member, stream)

    def _event(self, fields: Mapping[str, JSON], visit: Visit) -> str:
        event = fields.get("event")
        if not isinstance(event, str) or not _EVENT.fullmatch(event):
            raise Problem(
                400, "event must be 8 to 64 letters or digits, new for each request.", field="event"
            )
        return f"{visit.requester.user}:{event}"


async def _view(visit: Visit, group: StoredGroup) -> dict[str, JSON]:
    """A stored request as it stands: what is in hand knows better than the store, an end is in the store."""
    view = group_json(group)
    status = visit.studio.status(group.group_id)
    if status is not None and not status.state.ended:
        return view | status_json(status, line_of(status), status.preview)
    if all(job.state.ended for job in group.jobs):
        result = await visit.studio.result(group.group_id)
        return view | result_json(result, outcome_line(result))
    return view


def _resolved(visit: Visit, options: Options) -> tuple[ImageRequest, ...]:
    """What the options stand for, without a start picture. Raises InvalidRequest or Unavailable."""
    studio = visit.studio
    defaults = studio.defaults(options.model)
    return resolve(
        replace(options, strength=None),
        defaults=defaults,
        limits=studio.limits,
        models=studio.models(),
        seed=lambda: 0,
        params=studio.params(defaults.model),
    )


def _text(fields: Mapping[str, JSON]) -> str:
    text = fields.get("text", "")
    if not isinstance(text, str):
        raise Problem(400, "text must be a text.", field="prompt")
    return text


def _options(fields: Mapping[str, JSON]) -> Options:
    options = fields.get("options", {})
    if not isinstance(options, Mapping):
        raise Problem(400, "options must be an object.", field="options")
    return options_from_json(options)
