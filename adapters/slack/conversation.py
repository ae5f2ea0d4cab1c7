"""Where one request is answered: a root message with the receipt, and a status message in its thread which
ends as the result. Where it was asked in a thread, that thread and no receipt.

The address, all JSON: team, enterprise, channel (a user's id until the first message gives that of the direct
messages), user, key (of the event), thread (it was asked in), reply (a response_url), both (also to the
channel), prompt, told (differences from the defaults), spoiler (no previews); then group, root, status (ts),
files, more (ts of further
messages), share, pinged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from adapters.slack import render
from adapters.slack.previews import Previews
from adapters.slack.problems import Closed, Denied, Removed
from adapters.slack.render import PER_MESSAGE, Rendered
from adapters.slack.showing import Showing
from adapters.slack.workspace import Workspace
from bot.core.errors import Fault, Gone, Refused
from bot.core.ports import Address, JobStatus
from bot.core.request import JSON, ImageResult, Picture, State

log = logging.getLogger(__name__)

Store = Callable[[Address], Awaitable[None]]

PING_AFTER: Final = 60.0  # seconds from asking to the result
GAPS: Final = (4.0, 8.0, 12.0, 16.0, 20.0)  # seconds between progress edits; the last one repeats
FINAL, POSTED, RECEIPT, PING = 0, 0, 1, 2  # ranks: what is sent first where Slack lets only some through


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of a request once it is accepted."""

    group_id: str
    prompt: str
    told: tuple[str, ...]
    spoiler: bool = False


class Desk(Protocol):
    """What a conversation needs of its adapter."""

    async def workspace(self, address: Address) -> Workspace:
        """The bot where the conversation is."""
        ...

    def receipt(self, key: str) -> Receipt | None:
        """What was accepted under an event's key, where that was in this run of the program."""
        ...

    async def calm(self) -> None:
        """Until what has arrived is acknowledged: messages can wait, acknowledgements cannot."""
        ...

    def opened(self, conversation: SlackConversation, team: str) -> None:
        """A conversation whose result is still to come."""
        ...

    def closed(self, conversation: SlackConversation, team: str) -> None:
        """Its result is shown."""
        ...

    def open_in(self, team: str) -> int:
        """How many of them there are in a workspace: each needs an edit for its result."""
        ...

    def link(self, picture: Picture) -> str | None:
        """A picture's address for a while, None where others cannot reach it."""
        ...

    def bot_name(self) -> str:
        """What people invite."""
        ...

    def later(self, work: Awaitable[None]) -> None:
        """Do what may be lost in a crash."""
        ...


class SlackConversation:
    """The Conversation port."""

    def __init__(
        self,
        desk: Desk,
        address: Address,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._desk = desk
        self._address: dict[str, JSON] = dict(address)
        self._store: Store | None = None
        self._monotonic = monotonic
        self._sleep = sleep
        self._previews = Previews(desk.later, sleep)
        self._shown: State | None = None
        self._edits = 0
        self._edited_at = float("-inf")

    # --- prepare ---

    async def prepare(self, store: Store) -> Address:
        """Post what is not there yet; see the port."""
        self._store = store
        receipt = self._desk.receipt(self._text("key"))
        if receipt is not None and "group" not in self._address:
            self._address |= {
                "group": receipt.group_id,
                "prompt": receipt.prompt,
                "told": list(receipt.told),
                **({"spoiler": True} if receipt.spoiler else {}),
            }
        await self._desk.calm()
        workspace = await self._desk.workspace(self._address)
        self._desk.opened(self, workspace.team)
        try:
            if not self._thread:
                await self._post_root(workspace)
            if "status" not in self._address:
                await self._post_status(workspace)
        except Closed as error:
            await self._say_closed(workspace, error)
            raise
        return dict(self._address)

    async def _post_root(self, workspace: Workspace) -> None:
        message = render.receipt(self._text("prompt"), self._text("user"), self._told)
        channel, ts = await workspace.post(self._text("channel"), message.text, message.blocks, rank=RECEIPT)
        await self._note(channel=channel, root=ts)

    async def _post_status(self, workspace: Workspace) -> None:
        message = render.accepted(
            self._text("prompt"),
            self._text("user"),
            self._told,
            group=self._text("group"),
            alone=self._alone,
        )
        channel, ts = await workspace.post(
            self._text("channel"), message.text, message.blocks, thread=self._thread, rank=POSTED
        )
        await self._note(channel=channel, status=ts)

    async def _say_closed(self, workspace: Workspace, error: Closed) -> None:
        """Privately, with what to do. It may be said twice, after a crash; nobody may hear it at all where
        Slack takes no answer any more."""
        log.info("cannot post in %s: %s", self._text("channel"), error.detail)
        message = render.no_access(self._text("group"), self._desk.bot_name())
        if reply := self._text("reply"):
            try:
                await workspace.respond(reply, message.text, message.blocks)
                return
            except Fault as trouble:  # it is good for half an hour
                log.info("not answered where it was asked: %s %s", trouble.message, trouble.detail)
        await self._tell(workspace, message)

    async def _tell(self, workspace: Workspace, message: Rendered) -> None:
        """By direct message; there is no other way left."""
        try:
            await workspace.post(self._text("user"), message.text, message.blocks)
        except Fault as trouble:
            log.info("nor answered privately: %s %s", trouble.message, trouble.detail)

    # --- show ---

    async def show(self, status: JobStatus) -> None:
        """Edit the status message. A progress is left out where it comes too soon after another."""
        if "status" not in self._address or not self._is_due(status):
            return
        workspace = await self._desk.workspace(self._address)
        self._offer_preview(workspace, status)
        try:
            if not await self._show(workspace, status):
                return
        except Denied:
            if not self._previews.file:
                raise
            self._previews.end(workspace)  # whatever it was, the next one goes without a picture
            return
        self._shown, self._edited_at = status.state, self._monotonic()
        self._edits += status.state is State.RUNNING

    def _offer_preview(self, workspace: Workspace, status: JobStatus) -> None:
        """Not for what is to be hidden, nor before there was a progress: most requests are done by then."""
        begun = self._shown is State.RUNNING
        if status.preview is not None and begun and not self._address.get("spoiler"):
            self._previews.offer(workspace, status.preview)

    async def _show(self, workspace: Workspace, status: JobStatus) -> bool:
        """Whether it was sent."""
        preview = self._previews.file if status.state is State.RUNNING else ""
        message = render.status(status, alone=self._alone, user=self._text("user"), preview=preview)
        if status.state.ended:
            await self._edit_status(workspace, message)
            return True
        return await workspace.edit_now(
            self._text("channel"),
            self._text("status"),
            message.text,
            message.blocks,
            kept=self._desk.open_in(workspace.team),
        )

    def _is_due(self, status: JobStatus) -> bool:
        """A change of state is always due; progress ever more seldom, for Slack takes few edits."""
        if status.state is not self._shown or status.state is not State.RUNNING:
            return True
        gap = GAPS[min(self._edits, len(GAPS)) - 1]
        return self._monotonic() - self._edited_at >= gap

    async def _edit_status(self, workspace: Workspace, message: Rendered) -> None:
        await workspace.edit(
            self._text("channel"), self._text("status"), message.text, message.blocks, rank=FINAL
        )

    # --- deliver ---

    async def deliver(self, result: ImageResult) -> None:
        """The result; see the port."""
        workspace = await self._desk.workspace(self._address)
        shown = [picture for picture in result.pictures if not picture.withheld]
        try:
            pictures = await self._deliver(workspace, result, shown)
        except Closed as error:
            await self._say_lost(workspace, result, error)
            raise
        except Gone as error:  # whoever deletes the status message wants no pictures
            if not isinstance(error, Removed):
                self._desk.later(self._strike_receipt(workspace))
            raise
        self._previews.end(workspace)
        self._desk.closed(self, workspace.team)
        if self._address.get("both"):
            await self._end_receipt(workspace, result, pictures)
        elif "root" in self._address:
            self._desk.later(self._end_receipt(workspace, result, pictures))
        if shown and result.waited > PING_AFTER:
            await self._ping(workspace)

    async def _deliver(
        self, workspace: Workspace, result: ImageResult, shown: Sequence[Picture]
    ) -> list[tuple[Picture, str]]:
        """Each picture with its file, empty where it was shared instead."""
        user = self._text("user")
        if not shown:
            await self._edit_status(workspace, render.unfinished(result, user=user, alone=self._alone))
            return []
        try:
            return await Showing(workspace, self._address, self._note, self._sleep).show(result, shown)
        except Closed:
            raise
        except Refused as error:  # also where no form of a picture is small enough
            log.warning("Slack takes pictures in no form: %s %s", error.message, error.detail)
        links = [self._desk.link(picture) for picture in shown if not render.is_hidden(result, picture)]
        message = render.untaken(result, [link for link in links if link], user=user, alone=self._alone)
        await self._edit_status(workspace, message)
        return []

    async def _say_lost(self, workspace: Workspace, result: ImageResult, error: Closed) -> None:
        """Where pictures are made and may not be posted any more, privately how to see them."""
        log.info("cannot post in %s any more: %s", self._text("channel"), error.detail)
        if result.pictures:
            message = render.lost(result, self._text("channel"))
            await self._tell(workspace, message)

    async def _end_receipt(
        self, workspace: Workspace, result: ImageResult, pictures: Sequence[tuple[Picture, str]]
    ) -> None:
        """The root message's end, with the pictures where they also go to the channel. Else it may be late,
        or lost in a crash: they are shown by now."""
        if "root" not in self._address:
            return
        also = render.pictures(result, pictures[:PER_MESSAGE]) if self._address.get("both") else []
        message = render.receipt_end(result, self._text("user"), self._told, also)
        try:
            await workspace.edit(
                self._text("channel"),
                self._text("root"),
                message.text,
                message.blocks,
                rank=RECEIPT,
                kept=lambda: self._desk.open_in(workspace.team),
            )
        except (Gone, Refused) as error:
            log.info("a receipt was not ended: %s %s", error.message, error.detail)

    async def _strike_receipt(self, workspace: Workspace) -> None:
        """The root message of a request whose status message is gone."""
        if "root" in self._address:
            message = render.deleted(self._text("user"))
            await workspace.edit(
                self._text("channel"), self._text("root"), message.text, message.blocks, rank=RECEIPT
            )

    async def _ping(self, workspace: Workspace) -> None:
        """At most once: it is marked before it is sent."""
        if self._address.get("pinged"):
            return
        await self._note(pinged=True)
        message = render.ready(self._text("user"))
        try:
            await workspace.post(
                self._text("channel"), message.text, message.blocks, thread=self._thread, rank=PING
            )
        except Fault as error:
            log.info("a ping was not sent: %s %s", error.message, error.detail)

    # --- the address ---

    async def _note(self, **more: JSON) -> None:
        """Add to the address, and store it before anything is done with what it says."""
        self._address |= more
        if self._store is not None:
            await self._store(dict(self._address))

    def _text(self, name: str) -> str:
        value = self._address.get(name)
        return value if isinstance(value, str) else ""

    @property
    def _told(self) -> tuple[str, ...]:
        told = self._address.get("told")
        return tuple(str(each) for each in told) if isinstance(told, list) else ()

    @property
    def _thread(self) -> str:
        """The thread that status and pictures are in; empty before there is a root."""
        return self._text("thread") or self._text("root")

    @property
    def _alone(self) -> bool:
        """Whether there is no receipt above the status message."""
        return bool(self._text("thread"))
