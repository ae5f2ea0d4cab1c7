"""Where one request is answered: receipt, thread, status, result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters.discord import render
from adapters.discord.address import Place, place_to_json
from adapters.discord.wire import Body
from adapters.discord.wording import thread_name
from bot.core.messages import status_line
from bot.core.ports import Address, JobStatus
from bot.core.request import ImageResult

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord

Keep = Callable[[Address], Awaitable[None]]


class DiscordConversation:
    """See the module. place: how far it is."""

    def __init__(self, adapter: Discord, place: Place) -> None:
        self._adapter = adapter
        self.place = place
        self._keep: Keep | None = None

    async def _note(self, **changes: Any) -> None:
        self.place = replace(self.place, **changes)
        if self._keep is not None:
            await self._keep(place_to_json(self.place))

    async def prepare(self, store: Keep) -> Address:
        """Receipt, thread, status message."""
        self._keep = store
        wire, place = self._adapter.wire, self.place
        if not place.receipt:
            found = await wire.original(place.application, place.token)
            await self._note(receipt=str(found["id"]))
        else:
            await self._note()
        if self.place.threads and not self.place.thread:
            name = thread_name(self.place.prompt)
            thread = await wire.open_thread(place.channel, self.place.receipt, name, minutes=60)
            await self._note(thread=thread)
        if not self.place.status:
            if self.place.thread:
                body = Body(render.sealed(render.text("⏳ Queued")))
                status = await wire.create(self.place.thread, body, nonce=f"{place.interaction}s")
                await self._note(status=status)
            else:
                await self._note(status=self.place.receipt)
        return place_to_json(self.place)

    async def show(self, status: JobStatus) -> None:
        """An edit of the status message."""
        body = Body(render.sealed(render.text(status_line(status))))
        await self._adapter.wire.edit(self.place.home, self.place.status, body)

    async def deliver(self, result: ImageResult) -> None:
        """An edit of the status message, with the pictures."""
        body = Body(render.sealed(render.text("done")))
        await self._adapter.wire.edit(self.place.home, self.place.status, body)
