"""The served APIs as an adapter: programs send requests over HTTP, each in the format that it knows.

Knows the core through Studio alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters.api import models, openai, stochastic
from adapters.api.context import Context
from adapters.api.door import Door
from adapters.api.ids import Ids
from bot.core.errors import Gone
from bot.core.ports import Address, JobStatus, Pace
from bot.core.request import ImageResult
from bot.core.settings import Settings

if TYPE_CHECKING:
    from bot.core.ports import Conversation
    from bot.core.studio import Studio

SECRET: Final = "FAIRBRUSH_SECRET_KEY"  # noqa: S105 - its name
GROUPS: Final[tuple[Callable[[Context], list[web.RouteDef]], ...]] = (
    stochastic.routes,
    openai.routes,
    models.routes,
)
"""Every API's routes; the order matters only where paths overlap."""


class Api:
    """The Adapter port over HTTP."""

    name = "api"
    pace = Pace(seconds_per_message=0.0, edits_per_minute=0)

    def __init__(self, settings: Settings) -> None:
        self._door = Door()
        self._context = Context(settings, self._door, Ids(settings.secret(SECRET)))

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """All APIs' routes."""
        return [route for group in GROUPS for route in group(self._context)]

    async def run(self, studio: Studio) -> None:
        """Serve until cancelled."""
        self._context.ids = Ids(studio.settings.secret(SECRET))
        self._door.open(studio)
        try:
            await asyncio.Event().wait()
        finally:
            self._door.close()

    def conversation(self, address: Address) -> Conversation:
        """Nobody to tell: clients ask."""
        return ApiConversation(address)

    async def aclose(self) -> None:
        """Nothing to leave behind; idempotent."""


class ApiConversation:
    """The Conversation port for clients that ask themselves how their request stands."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        """Nothing to make: the address is complete from the start. Only after a restart is it asked for: then
        nobody waits any more for what was to be answered at once."""
        if self._address.get("awaited"):
            raise Gone("Its connection ended with the program.")
        return self._address

    async def show(self, status: JobStatus) -> None:
        """Nobody looks."""

    async def deliver(self, result: ImageResult) -> None:
        """Nobody to tell."""
