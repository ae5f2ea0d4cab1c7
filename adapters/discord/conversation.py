"""Where one request is answered: receipt, thread, status, result. Each step can be found or made again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from adapters.discord import files, render
from adapters.discord.address import Place, place_to_json
from adapters.discord.delivery import Result
from adapters.discord.errors import HAS_THREAD, TokenDead, code_of
from adapters.discord.speaking import Speaker
from adapters.discord.wire import LOADING, ORIGINAL, Body, Upload
from adapters.discord.wording import thread_name
from bot.core.errors import Fault, Gone, RateLimited, Refused
from bot.core.ports import Address, JobStatus
from bot.core.request import ImageResult

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord

log = logging.getLogger(__name__)

Keep = Callable[[Address], Awaitable[None]]

ARCHIVED_AFTER: Final = 60  # minutes without a message
ERASE_AGAIN: Final = (1.0, 10.0, 60.0, 300.0)  # seconds


class DiscordConversation:
    """See the module. place: how far it is."""

    def __init__(self, adapter: Discord, place: Place) -> None:
        self.adapter = adapter
        self.place = place
        self.speaker = Speaker(adapter.wire, adapter.clock.now)
        self._keep: Keep | None = None
        self._result: Result | None = None
        self._previews = True  # until Discord takes none here

    async def note(self, **changes: Any) -> None:
        """The place is another now: stored where it can be."""
        self.place = replace(self.place, **changes)
        if self._keep is not None:
            await self._keep(place_to_json(self.place))

    @property
    def lasting(self) -> bool:
        """Whether what is noted outlives a restart."""
        return self._keep is not None

    # --- before anything is made ---

    async def prepare(self, store: Keep) -> Address:
        """Receipt, thread, status message: each once, whatever happens in between. A step is stored while the
        next is under way."""
        self._keep = store
        self.adapter.live(self)
        if not self.place.receipt:
            self._know(receipt=await self._receipt())
        if self.place.threads and not self.place.thread:
            await self._while_noting(self._open_thread())
        if not self.place.status:
            if self.place.thread:
                await self._while_noting(self._open_status())
            await self.note(status=self.place.status or self.place.receipt)
        return place_to_json(self.place)

    def _know(self, **changes: Any) -> None:
        self.place = replace(self.place, **changes)

    async def _while_noting(self, step: Awaitable[None]) -> None:
        noting = asyncio.ensure_future(self.note())
        try:
            await step
        finally:
            await noting

    async def _receipt(self) -> str:
        """The first response, if Discord took it: an acknowledgement may have been cut off on either side."""
        place, wire = self.place, self.adapter.wire
        if not self.speaker.token_lives(place):
            return await self._late_receipt()
        try:
            found = await wire.original(place.application, place.token)
        except TokenDead:
            return await self._late_receipt()
        message = str(found["id"])
        if _loading(found):
            await wire.edit_by_token(place.application, place.token, ORIGINAL, Body(render.receipt(place)))
        return message

    async def _late_receipt(self) -> str:
        """Nobody can tell any more whether it was answered: where the bot may speak it says so again."""
        place = self.place
        if not place.reachable:
            raise Gone("Nobody can be answered here any more.", detail="the token expired before the receipt")
        return await self.adapter.wire.create(
            place.channel, Body(render.receipt(place)), nonce=f"{place.interaction}r"
        )

    async def _open_thread(self) -> None:
        """A thread from the receipt; where Discord makes none, the answer stays in place."""
        place = self.place
        try:
            thread = await self.adapter.wire.open_thread(
                place.channel, place.receipt, thread_name(place.prompt), minutes=ARCHIVED_AFTER
            )
        except (Refused, RateLimited) as error:
            if code_of(error) == HAS_THREAD:  # made before a restart; a message's thread has its id
                thread = place.receipt
            else:
                log.info("message %s: no thread: %s %s", place.receipt, error.message, error.detail)
                self._know(threads=False)
                return
        self._know(thread=thread)

    async def _open_status(self) -> None:
        """The message in the thread that carries everything; where there can be none it is the receipt."""
        place = self.place
        try:
            status = await self.speaker.create(
                place, Body(render.waiting(place)), nonce=f"{place.interaction}s"
            )
        except Refused as error:
            log.info("thread %s: not writable: %s %s", place.thread, error.message, error.detail)
            self._know(thread="", threads=False)
        else:
            self._know(status=status)

    # --- while it is made ---

    async def show(self, status: JobStatus) -> None:
        """An edit of the status message. Where no token reaches it any more it stays as it is."""
        self._named(status.group_id)
        preview = None
        if status.preview and self._previews and not status.state.ended:
            preview = files.glimpse(status.preview)
        try:
            await self._show(status, preview)
        except TokenDead as error:
            log.info("group %s: its status is not shown: %s", status.group_id, error.detail)
        except Refused as error:
            if preview is None:
                raise
            log.info("group %s: no previews: %s %s", status.group_id, error.message, error.detail)
            self._previews = False
            await self._show(status, None)
        if status.state.ended and not self.place.in_place:  # it was deleted: there will be no result
            body = Body(render.ended_receipt(self.place, status.state))
            await self._surely(partial(self.speaker.edit, self.place, self.place.receipt, body))

    async def _show(self, status: JobStatus, preview: Upload | None) -> None:
        place, item = self.place, None
        if preview is not None:
            item = render.picture(preview.name, alt=preview.description, spoiler=place.spoiler)
        body = Body(render.status(place, status, item), (preview,) if preview else ())
        await self.speaker.edit(place, place.status, body)

    async def deliver(self, result: ImageResult) -> None:
        """Edits of the status message and the receipt, with the pictures."""
        self._named(result.group_id)
        self._result = self._result or Result(self, result)
        await self._result.show()

    async def erase(self) -> None:
        """After a deletion: nothing is left but a word."""
        place, body = self.place, Body(render.deleted(self.place))
        for message in dict.fromkeys((place.status, place.receipt)):
            if message:
                await self._surely(partial(self.speaker.edit, place, message, body))
        for message in place.more:
            await self._surely(partial(self.speaker.delete, place, message))

    async def _surely(self, call: Callable[[], Awaitable[None]]) -> None:
        """Tried again while Discord is in trouble, for nobody else does."""
        for pause in ERASE_AGAIN:
            try:
                await call()
                return
            except (Gone, Refused) as error:
                log.info("interaction %s: %s %s", self.place.interaction, error.message, error.detail)
                return
            except Fault as error:
                log.info("interaction %s: erased later: %s", self.place.interaction, error.message)
                await self.adapter.clock.sleep(max(pause, error.retry_after or 0.0))
        log.warning("interaction %s: a deleted picture may still be shown", self.place.interaction)

    async def move(self, place: Place) -> None:
        """Go on at another place, with a token that lives."""
        await self.note(
            **{name: getattr(place, name) for name in ("application", "interaction", "token", "until")},
            channel=place.channel,
            receipt=place.receipt,
            status=place.receipt,
            thread="",
            threads=False,
            more=(),
        )

    def _named(self, group_id: str) -> None:
        """A crash may have come between the commit and the place's knowing its group."""
        if not self.place.group:
            self.place = replace(self.place, group=group_id)
            self.adapter.live(self)


def _loading(message: Mapping[str, Any]) -> bool:
    return bool(int(message.get("flags") or 0) & LOADING)
