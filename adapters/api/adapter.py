"""The served APIs as an adapter: programs send requests over HTTP, each in the format that it knows.

Knows the core through Studio alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters.api import models, openai, openapi, salad_beta, salad_endpoints, salad_jobs, stochastic
from adapters.api.context import Context
from adapters.api.door import Door
from adapters.api.webhooks import Reach, Webhooks
from bot.core.errors import Gone, Unavailable
from bot.core.ports import Address, JobStatus, Pace
from bot.core.request import ImageResult
from bot.core.settings import Settings

if TYPE_CHECKING:
    from bot.core.ports import Conversation
    from bot.core.studio import Studio

GROUPS: Final[tuple[Callable[[Context], list[web.RouteDef]], ...]] = (
    stochastic.routes,
    salad_beta.routes,
    salad_jobs.routes,
    salad_endpoints.routes,
    openai.routes,
    models.routes,
    openapi.routes,
)
"""Every API's routes; the order matters only where paths overlap."""


class Api:
    """The Adapter port over HTTP."""

    name = "api"
    pace = Pace(seconds_per_message=0.0, edits_per_minute=0)

    def __init__(self, settings: Settings, reach: Reach | None = None) -> None:
        """reach: what webhooks may reach, other than the public internet, in tests."""
        self._door = Door()
        self._context = Context(settings, self._door)
        self._hooks = Webhooks(reach)
        self._started = asyncio.Event()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """All APIs' routes."""
        return [route for group in GROUPS for route in group(self._context)]

    async def run(self, studio: Studio) -> None:
        """Serve until cancelled."""
        self._context.sign_with(studio.settings.secret("FAIRBRUSH_SECRET_KEY"))
        self._door.open(studio)
        self._started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._door.close()

    def conversation(self, address: Address) -> Conversation:
        """Clients ask, so there is nobody to tell but a webhook."""
        return ApiConversation(address, self._tell)

    async def aclose(self) -> None:
        """Close connections to webhooks; idempotent."""
        await self._hooks.aclose()

    async def _tell(self, address: Address, result: ImageResult) -> None:
        await self._started.wait()  # what was left of an earlier run comes before run() is called
        if (studio := self._door.studio) is None:
            raise Unavailable("The program is stopping.")
        self._context.recent.put(result, studio)
        if address.get("webhook_url") or address.get("webhook"):
            await salad_jobs.tell(self._context, studio, self._hooks, address, result)


class ApiConversation:
    """The Conversation port for clients that ask themselves how their request stands."""

    def __init__(self, address: Address, tell: Callable[[Address, ImageResult], Awaitable[None]]) -> None:
        self._address = address
        self._tell = tell

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        """Nothing to make: the address is complete from the start. Only after a restart is it asked for: then
        nobody waits any more for what was to be answered at once."""
        if self._address.get("awaited"):
            raise Gone("Its connection ended with the program.")
        return self._address

    async def show(self, status: JobStatus) -> None:
        """Nobody looks."""

    async def deliver(self, result: ImageResult) -> None:
        """Remember it for whoever asks, and tell the webhook, where there is one; its receiver knows a
        repeated one by its id."""
        await self._tell(self._address, result)
