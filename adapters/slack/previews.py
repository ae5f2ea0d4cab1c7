"""Pictures that are forming, shown in the status message. Few and seldom: each takes four calls, and Slack
counts them. What was shown is deleted once there is a result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from adapters.slack.files import SUFFIXES, Files
from adapters.slack.workspace import Workspace
from bot.core.errors import FairbrushError
from bot.core.pictures import fit_to_bytes, mime_of
from bot.core.ports import Preview

log = logging.getLogger(__name__)

MOST: Final = 3  # of one request

Sleep = Callable[[float], Awaitable[None]]


class Previews:
    """The previews of one request. file: what an edit may show now, empty where there is none."""

    def __init__(self, later: Callable[[Awaitable[None]], None], sleep: Sleep) -> None:
        self.file = ""
        self._later = later
        self._sleep = sleep
        self._made: list[str] = []
        self._data = b""
        self._busy = False
        self._over = False

    def offer(self, workspace: Workspace, preview: Preview) -> None:
        """There is a new one. Taken where none is on its way and Slack has room for it."""
        if self._over or self._busy or len(self._made) >= MOST or preview.data == self._data:
            return
        if not workspace.has_room_for_preview():
            return
        self._busy, self._data = True, preview.data
        self._later(self._make(workspace, preview.data))

    async def _make(self, workspace: Workspace, data: bytes) -> None:
        try:
            name, data = await asyncio.to_thread(_shown, data)
            file = await workspace.upload(name, data, None)
            await workspace.complete([{"id": file, "title": "preview"}])
            self._made.append(file)
            await Files(workspace, self._sleep).processed([file])
        except FairbrushError as error:
            log.info("no preview: %s %s", error.message, error.detail)
            self._over = True
            return
        finally:
            self._busy = False
        if self._over:
            await self._remove(workspace)
        else:
            self.file = file

    def end(self, workspace: Workspace) -> None:
        """There is a result, or previews are not taken."""
        self._over, self.file = True, ""
        if self._made and not self._busy:
            self._later(self._remove(workspace))

    async def _remove(self, workspace: Workspace) -> None:
        while self._made:
            await workspace.forget_file(self._made.pop())


def _shown(data: bytes) -> tuple[str, bytes]:
    """A file's name and bytes in a form that Slack shows."""
    if mime_of(data) not in SUFFIXES:
        data, _ = fit_to_bytes(data, len(data) - 1, mime="image/jpeg")
    return f"preview.{SUFFIXES[mime_of(data)]}", data
