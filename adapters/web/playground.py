"""The Playground as an adapter: its routes, and what holds for every one of them.

Before the core is ready every route that needs it answers 503. Knows the core through Studio alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web

from adapters._incoming import Problem
from adapters.web.conversation import WebConversation
from adapters.web.doorway import Doorway, Visit
from adapters.web.gate import HEADERS, Gate
from adapters.web.handlers import Handlers
from adapters.web.hub import Hub
from adapters.web.problems import refusal
from bot.core.errors import FairbrushError
from bot.core.ports import Address, Pace
from bot.core.settings import Settings

if TYPE_CHECKING:
    from bot.core.ports import Conversation
    from bot.core.studio import Studio

STATIC: Final = Path(__file__).with_name("static")

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Visited: TypeAlias = Callable[[web.Request, Visit], Awaitable[web.StreamResponse]]


class Playground:
    """The Adapter port over HTTP."""

    name = "web"
    pace = Pace(seconds_per_message=0.25, edits_per_minute=6000)

    def __init__(self, settings: Settings) -> None:
        self._gate = Gate(settings)
        self._doorway = Doorway(self._gate)
        self._hub = Hub()
        self._handlers = Handlers(self._hub)
        self._files = frozenset(path.name for path in STATIC.iterdir())

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The page, its files, and the JSON that it works with. Not a public API: it may change any day."""
        on, at = self._handlers, "/playground/api"
        return [
            web.get("/", self._guarded(self._page)),
            web.get("/playground/static/{file}", self._guarded(self._file)),
            web.get("/playground/pictures/{name}", self._visited(on.picture)),
            web.get("/playground/thumbnails/{name}", self._visited(on.thumbnail)),
            web.post(f"{at}/session", self._guarded(self._doorway.sign_in)),
            web.delete(f"{at}/session", self._guarded(self._doorway.sign_out)),
            web.get(f"{at}/setup", self._visited(on.setup)),
            web.get(f"{at}/events", self._visited(on.events), allow_head=False),
            web.post(f"{at}/check", self._visited(on.check)),
            web.post(f"{at}/recipe", self._visited(on.recipe)),
            web.get(f"{at}/jobs", self._visited(on.history)),
            web.post(f"{at}/jobs", self._visited(on.submit)),
            web.get(f"{at}/jobs/{{id}}", self._visited(on.show)),
            web.delete(f"{at}/jobs/{{id}}", self._visited(on.delete)),
            web.post(f"{at}/jobs/{{id}}/cancel", self._visited(on.cancel)),
            web.post(f"{at}/jobs/{{id}}/again", self._visited(on.again)),
        ]

    async def run(self, studio: Studio) -> None:
        """Serve until cancelled."""
        self._doorway.open(studio)
        try:
            await asyncio.Event().wait()
        finally:
            self._doorway.close()
            self._hub.close()

    def conversation(self, address: Address) -> Conversation:
        """The open pages of the browser that asked."""
        return WebConversation(self._hub, address)

    async def aclose(self) -> None:
        """End all streams; idempotent."""
        self._hub.close()

    def _guarded(self, handler: Handler) -> Handler:
        """Host and Origin are checked, errors become JSON, every answer carries the security headers."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                self._gate.check(request)
                response = await handler(request)
            except (Problem, FairbrushError) as problem:
                response = refusal(problem)
            if not response.prepared:
                response.headers.update(HEADERS)
            return response

        return guarded

    def _visited(self, handler: Visited) -> Handler:
        """As _guarded(), for what needs the core and a known visitor."""

        async def visited(request: web.Request) -> web.StreamResponse:
            return await handler(request, await self._doorway.visit(request))

        return self._guarded(visited)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        response = web.FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})
        self._doorway.welcome(request, response)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        if name not in self._files:
            raise Problem(404, "There is no such file.")
        return web.FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})
