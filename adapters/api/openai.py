"""POST /v1/images/generations in OpenAI's format: the answer comes once the pictures are made.

A client that goes away has its request cancelled, for nobody would see what comes of it; one that sent an
Idempotency-Key may come back for it, so its request goes on, and the same key finds it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters import _strictjson as strictjson
from adapters._incoming import read_body
from adapters.api.asking import wording
from adapters.api.context import HEADERS, Context
from adapters.api.door import Visit
from adapters.api.openai_answer import answer_of, check_made
from adapters.api.openai_form import OpenAIForm, OpenAIProblem
from adapters.api.openai_request import Wanted, read_wanted
from adapters.api.openai_stream import stream_pictures
from adapters.api.waiting import keep_alive, while_here, write_all
from bot.core.errors import FairbrushError
from bot.core.request import JSON, ImageResult
from bot.core.studio import Submission

if TYPE_CHECKING:
    from bot.core.studio import Ticket

PATH: Final = "/v1/images/generations"
MAX_BODY: Final = 64 * 1024
LINK_SECONDS: Final = 3600
GONE: Final = 499  # what nobody reads: the connection is closed
FIELDS: Final = {
    "aspect": "size",
    "count": "n",
    "guidance_scale": "guidance_scale",
    "height": "size",
    "negative_prompt": "negative_prompt",
    "prompt": "prompt",
    "scheduler": "scheduler",
    "seed": "seed",
    "steps": "steps",
    "style": "style",
    "width": "size",
}
"""Fields of the core, and what the API calls them."""
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


def routes(context: Context) -> list[web.RouteDef]:
    """The routes of this API."""
    return context.resource(PATH, OpenAIForm(), post=Images(context).generate)


class Images:
    """The handler."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def generate(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Make pictures, and answer with them."""
        raw = await read_body(request, MAX_BODY)
        wanted = read_wanted(_parsed(raw), visit.studio)
        submission = _submission(request, visit, wanted, raw)
        with wording(FIELDS):
            ticket = await visit.studio.submit(submission)
        keep_alive(request)
        try:
            if wanted.stream:
                async with visit.studio.watch(ticket.group_id) as news:
                    await _check_same(visit, ticket, submission)
                    return await stream_pictures(request, visit.studio, ticket, wanted, news)
            await _check_same(visit, ticket, submission)
            result = await while_here(request, visit.studio.ended(ticket.group_id))
            return await self._answer(request, visit, wanted, result)
        except ConnectionError:
            return web.Response(status=GONE)
        finally:
            await _give_up(visit, ticket, submission)

    async def _answer(
        self, request: web.Request, visit: Visit, wanted: Wanted, result: ImageResult
    ) -> web.StreamResponse:
        check_made(result)
        base = self._context.base_of(request)

        def answer() -> bytes:
            return answer_of(
                result, wanted, lambda picture: visit.studio.link(picture, base=base, seconds=LINK_SECONDS)
            )

        body = await asyncio.to_thread(answer)
        response = web.StreamResponse(headers=HEADERS | {"x-request-id": result.group_id})
        response.content_type = "application/json"
        response.content_length = len(body)
        await response.prepare(request)
        await write_all(response, body)
        await response.write_eof()
        return response


def _parsed(raw: bytes) -> JSON:
    try:
        return strictjson.loads(raw)
    except ValueError as error:
        raise OpenAIProblem(str(error), code="invalid_json") from None


def _submission(request: web.Request, visit: Visit, wanted: Wanted, raw: bytes) -> Submission:
    """The same Idempotency-Key is the same request."""
    given = request.headers.get("Idempotency-Key")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        raise OpenAIProblem(
            "Idempotency-Key must be 1 to 255 visible ASCII characters, new for each request.",
            param="Idempotency-Key",
        )
    unique = secrets.token_hex(16) if given is None else f"again-{_digest(given.encode())}"
    return Submission(
        visit.requester,
        f"{visit.key.key_id}:openai:images:{unique}",
        {"api": "openai", "awaited": given is None, "body": _digest(raw)},
        options=wanted.options,
        literal=True,
        prepared=True,
        previews=wanted.partials,
    )


async def _check_same(visit: Visit, ticket: Ticket, submission: Submission) -> None:
    """Raise OpenAIProblem where an Idempotency-Key comes a second time with another body."""
    if not ticket.repeated:
        return
    known = await visit.studio.show(ticket.group_id, visit.requester)
    if known.address.get("body") != submission.address["body"]:
        raise OpenAIProblem(
            "This Idempotency-Key came with another body before. Use a new one for each request.",
            code="idempotency_key_reused",
            param="Idempotency-Key",
        )


async def _give_up(visit: Visit, ticket: Ticket, submission: Submission) -> None:
    """Cancel what is unfinished where nobody will ask for it again."""
    status = visit.studio.status(ticket.group_id)
    if submission.address["awaited"] and status is not None and not status.state.ended:
        with suppress(FairbrushError):  # it has ended meanwhile
            await visit.studio.cancel(ticket.group_id, visit.requester)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
