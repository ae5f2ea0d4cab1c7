"""Showing a result once: placeholders stored first, then edits that may be repeated, then one short word.

What cannot be shown as it is comes smaller, then over several messages, then as a link; what cannot be shown
in the thread comes in the receipt's own message.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from adapters.discord import files, render
from adapters.discord.errors import TokenDead, TooLarge
from adapters.discord.wire import Body
from adapters.discord.wording import escape
from bot.core.errors import Fault, Gone, Refused
from bot.core.request import ImageResult, State

if TYPE_CHECKING:
    from adapters.discord.address import Place
    from adapters.discord.conversation import DiscordConversation

log = logging.getLogger(__name__)

PING_AFTER: Final = 60.0  # seconds waited
SMALLEST: Final = 256 * 1024  # bytes; a limit below is not believed
LATER: Final = "The answer's token has expired; /show shows the result."


class Result:
    """One result in one conversation. Shown again after trouble it goes on where it stopped."""

    def __init__(self, conversation: DiscordConversation, result: ImageResult) -> None:
        self._talk = conversation
        self._result = result
        self._limit = conversation.place.file_limit
        self._shown: set[str] = set()
        self._beside = False
        self._receipt_gone = False

    @property
    def _place(self) -> Place:
        return self._talk.place

    async def show(self) -> None:
        """Pictures or why there are none, the receipt's end, and a word to whoever waited long."""
        try:
            await self._show()
        except TokenDead as error:
            log.warning("group %s: %s %s", self._result.group_id, error.detail, LATER)
            raise Refused("The result cannot be shown any more.", detail=LATER) from error
        except Gone:
            await self._end_receipt(link="")
            raise
        await self._end_receipt(link=self._place.link())
        await self._ping()

    async def _show(self) -> None:
        """In the status message; where that takes it in no form, in the receipt's; then without files."""
        try:
            await self._show_here()
        except TokenDead:
            raise
        except Gone:
            if self._place.in_place or not self._in_channel:
                raise
            self._receipt_gone = True  # the thread may be there all the same
            await self._show_here()
        except Refused as error:
            log.info("group %s: not shown there: %s %s", self._result.group_id, error.message, error.detail)
            await self._show_otherwise()

    async def _show_here(self) -> None:
        if self._result.pictures:
            await self._show_pictures()
        else:
            view = render.no_pictures(self._place, self._result, channel=self._in_channel)
            await self._edit_once(self._target, Body(view))

    async def _show_otherwise(self) -> None:
        if not self._in_channel:
            self._beside = True
            try:
                await self._show_here()
                return
            except Refused as error:
                log.info("group %s: nor in the channel: %s", self._result.group_id, error.detail)
                self._beside = False
        if not self._result.pictures:
            raise Refused("The result cannot be shown here.")
        await self._send(_bare(self._result))

    @property
    def _in_channel(self) -> bool:
        """Whether the result goes into the receipt's own message, where others speak too."""
        if self._place.in_place or self._receipt_gone:
            return self._place.in_place
        return self._beside or (self._place.mode == "both" and bool(self._result.pictures))

    @property
    def _target(self) -> str:
        return self._place.receipt if self._in_channel else self._place.status

    # --- pictures ---

    async def _show_pictures(self) -> None:
        """With a smaller limit wherever Discord finds them too large all the same."""
        while True:
            packed = await files.pack(self._result, self._limit)
            try:
                await self._send(packed)
                break
            except TooLarge as error:
                if self._limit <= SMALLEST:
                    await self._send(_bare(self._result))
                    break
                log.info("group %s: %s; smaller", self._result.group_id, error.message)
                self._limit = smaller(self._limit, packed)
                self._shown.clear()
        if self._in_channel and not self._place.in_place:
            link = self._place.link(self._place.receipt)
            await self._quietly(self._place.status, Body(render.elsewhere(self._place, self._result, link)))

    async def _send(self, packed: files.Packed) -> None:
        """Every message exists and is known before the first file goes out."""
        messages = [self._target, *await self._more(len(packed.parcels) - 1)]
        sent = packed.parcels[: len(messages)]
        said = self._beyond(packed, len(messages))
        for number, (message, parcel) in enumerate(zip(messages, sent, strict=True), 1):
            view = render.pictures(
                self._place,
                self._result,
                parcel.gallery,
                first=parcel.first,
                channel=self._in_channel,
                last=number == len(sent),
                extra=said,
            )
            await self._edit_once(message, Body(view, parcel.uploads))

    def _beyond(self, packed: files.Packed, messages: int) -> Sequence[str]:
        """Lines about what no message holds."""
        unsent = [
            self._result.pictures[parcel.first + at]
            for parcel in packed.parcels[messages:]
            for at in range(len(parcel.uploads))
        ]
        return files.links([*packed.left, *unsent], self._talk.adapter.studio.link)

    async def _more(self, wanted: int) -> list[str]:
        """Further messages, as placeholders; fewer where Discord gives no more. What is too many goes."""
        for number in range(len(self._place.more), wanted):
            nonce = f"{self._place.interaction}m{number}"
            try:
                message = await self._talk.speaker.create(self._place, Body(render.more()), nonce=nonce)
            except Refused as error:
                log.info("group %s: no further message: %s", self._result.group_id, error.detail)
                break
            await self._talk.note(more=(*self._place.more, message))
        for message in self._place.more[wanted:]:
            await self._quietly(message)
        if len(self._place.more) > wanted:
            await self._talk.note(more=self._place.more[:wanted])
        return list(self._place.more[:wanted])

    async def _quietly(self, message: str, body: Body | None = None) -> bool:
        """Change it, or delete it; False where it is gone or takes nothing."""
        try:
            if body is None:
                await self._talk.speaker.delete(self._place, message)
            else:
                await self._edit_once(message, body)
        except (Gone, Refused) as error:
            log.info("message %s: %s %s", message, error.message, error.detail)
            return False
        return True

    # --- the end ---

    async def _end_receipt(self, *, link: str) -> None:
        """The channel learns how it ended; not where the receipt is gone or holds the pictures."""
        place, result = self._place, self._result
        if self._in_channel:
            return
        sheet = await files.sheet(result) if link else None
        item = render.picture(sheet.name, alt=sheet.description) if sheet else None
        view = render.ended_receipt(place, result.state, link=link, sheet=item)
        if not await self._quietly(place.receipt, Body(view, (sheet,) if sheet else ())) and sheet:
            view = render.ended_receipt(place, result.state, link=link)
            await self._quietly(place.receipt, Body(view))

    async def _ping(self) -> None:
        """Whoever waited long is told, at most once: that it was is stored before it happens."""
        place, result = self._place, self._result
        if place.pinged or result.waited <= PING_AFTER or result.state is State.CANCELLED:
            return
        if not self._talk.lasting:
            return
        await self._talk.note(pinged=True)
        body = Body(render.ping(place, result.state), pings=(place.user,))
        try:
            await self._talk.speaker.create(self._place, body, nonce=f"{place.interaction}p")
        except Fault as error:
            log.info("group %s: no word that it is ready: %s", result.group_id, escape(error.message))

    async def _edit_once(self, message: str, body: Body) -> None:
        """An edit that is not repeated where only what came after it failed."""
        if message not in self._shown:
            await self._talk.speaker.edit(self._place, message, body)
            self._shown.add(message)


def smaller(limit: int, packed: files.Packed) -> int:
    """The limit to try next, where Discord took too little of what was packed within this one."""
    return max(SMALLEST, min(limit, packed.largest) // 2)


def _bare(result: ImageResult) -> files.Packed:
    """No picture attached, all of them as links."""
    return files.Packed((files.Parcel(0, (), ()),), result.pictures)
