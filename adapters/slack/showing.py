"""A result's pictures in its thread, once: in the status message and, where they are many, in messages below
it; as shared files where Slack takes no image blocks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from adapters.slack import render
from adapters.slack.files import Files, Unprocessed, listed, share_from
from adapters.slack.problems import Closed, Denied
from adapters.slack.render import PER_MESSAGE, Rendered, is_hidden
from adapters.slack.workspace import Workspace
from bot.core.errors import Fault
from bot.core.request import JSON, ImageResult, Picture

log = logging.getLogger(__name__)

BLOCKS_TRIES, BLOCKS_AGAIN = 3, 1.0  # edits with pictures before they are shared instead; seconds between

Pairs: TypeAlias = "list[tuple[Picture, str]]"


class Showing:
    """One result. address: of its conversation, as it stands; note: adds to it, and stores it."""

    def __init__(
        self,
        workspace: Workspace,
        address: Mapping[str, JSON],
        note: Callable[..., Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._workspace = workspace
        self._address = address
        self._note = note
        self._sleep = sleep
        self._files = Files(workspace, sleep)

    async def show(self, result: ImageResult, shown: Sequence[Picture]) -> Pairs:
        """Each picture with its file, empty where it was shared instead."""
        if "share" not in self._address:
            known = await self._uploaded(shown)
            pairs = list(zip(shown, known, strict=True))
            if await self._as_blocks(result, pairs):
                return pairs
        await self._as_files(result, shown)
        return [(picture, "") for picture in shown]

    async def _uploaded(self, shown: Sequence[Picture]) -> list[str]:
        """The ids of the pictures' files, in order; stored before they are used."""
        known = listed(self._address.get("files"))
        if len(known) == len(shown):
            return known
        ids, entries = await self._files.upload(shown)
        await self._workspace.complete(entries)
        await self._note(files=list(ids))
        return ids

    # --- in messages ---

    async def _as_blocks(self, result: ImageResult, pairs: Pairs) -> bool:
        """Edit the pictures into the messages; False where Slack does not take them there."""
        visible = [file for picture, file in pairs if not is_hidden(result, picture)]
        hidden = [file for picture, file in pairs if is_hidden(result, picture)]
        for number in range(BLOCKS_TRIES):
            try:
                await self._files.processed(visible)
                with suppress(Unprocessed):  # they are shown on demand, later
                    await self._files.processed(hidden)
                await self._edit_all(result, pairs)
                return True
            except Closed:
                raise
            except Unprocessed as error:  # a shared file shows itself once it is processed
                log.info("pictures not taken as blocks: %s %s", error.message, error.detail)
                return False
            except Denied as error:
                log.info("pictures not taken as blocks: %s %s", error.message, error.detail)
            if number + 1 < BLOCKS_TRIES:
                await self._sleep(BLOCKS_AGAIN * 2.0**number)
        return False

    async def _edit_all(self, result: ImageResult, pairs: Pairs) -> None:
        parts = [pairs[at : at + PER_MESSAGE] for at in range(0, len(pairs), PER_MESSAGE)]
        further = await self._placeholders(len(parts) - 1)
        await self._edit_status(
            render.finished(result, parts[0], user=self._text("user"), alone="thread" in self._address)
        )
        for ts, part in zip(further, parts[1:], strict=True):
            await self._edit(ts, render.further(result, part))

    async def _placeholders(self, count: int) -> list[str]:
        """Further messages, each stored before the next one is posted."""
        known = listed(self._address.get("more"))
        while len(known) < count:
            message = render.placeholder()
            _, ts = await self._workspace.post(
                self._text("channel"), message.text, message.blocks, thread=self._thread
            )
            known.append(ts)
            await self._note(more=list(known))
        return known[:count]

    # --- as files ---

    async def _as_files(self, result: ImageResult, shown: Sequence[Picture]) -> None:
        """What is behind a spoiler is not shared: its button shows it once Slack has it."""
        open_ones = [picture for picture in shown if not is_hidden(result, picture)]
        for ts in listed(self._address.get("more")):
            await self._remove(ts)
        if open_ones:
            await self._files.share(
                open_ones,
                share_from(self._address.get("share")),
                self._text("channel"),
                self._thread,
                lambda share: self._note(share=share.to_json()),
            )
        await self._edit_status(
            render.finished(
                result,
                [(picture, "") for picture in shown],
                user=self._text("user"),
                alone="thread" in self._address,
                below=bool(open_ones),
            )
        )

    async def _remove(self, ts: str) -> None:
        try:
            await self._workspace.remove(self._text("channel"), ts)
        except Fault as error:  # gone already, or it stays as one line without pictures
            log.info("a message was not removed: %s %s", error.message, error.detail)

    # --- the messages ---

    async def _edit_status(self, message: Rendered) -> None:
        await self._edit(self._text("status"), message)

    async def _edit(self, ts: str, message: Rendered) -> None:
        await self._workspace.edit(self._text("channel"), ts, message.text, message.blocks)

    def _text(self, name: str) -> str:
        value = self._address.get(name)
        return value if isinstance(value, str) else ""

    @property
    def _thread(self) -> str:
        return self._text("thread") or self._text("root") or self._text("status")
