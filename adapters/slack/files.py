"""Pictures into Slack, each shown once.

Files are uploaded without a channel, their ids stored, and shown by an edit of a message that exists: that
can be repeated. Where Slack takes no such edit they are shared into the thread instead, which cannot be
repeated: so the ids are stored before, and what became of a share is asked for before another is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.slack.problems import Denied
from adapters.slack.workspace import Workspace
from bot.core.errors import Gone, Unavailable
from bot.core.pictures import fit_to_bytes, mime_of
from bot.core.request import Picture

log = logging.getLogger(__name__)

MOST_BYTES: Final = 16 * 1024 * 1024  # of one picture; larger ones are slow to load in the client
AT_A_TIME: Final = 3  # uploads of one request
FIRST_LOOK, SLOWEST_LOOK, SLOWER = 0.1, 2.0, 2.5  # seconds between looks at a file, each later than before
PROCESSING_MOST: Final = 30.0
SHARING_MOST: Final = 15.0

Sleep = Callable[[float], Awaitable[None]]
SUFFIXES: Final = {"image/png": "png", "image/jpeg": "jpg"}


class Unprocessed(Unavailable):
    """Slack has not finished with a file in time."""


@dataclass(frozen=True, slots=True)
class Share:
    """Files on their way into a thread. alt: whether they carry alternative texts, which can stop a share."""

    ids: tuple[str, ...]
    alt: bool

    def to_json(self) -> dict[str, Any]:
        """For the address."""
        return {"ids": list(self.ids), "alt": self.alt}


def share_from(data: object) -> Share | None:
    """The inverse; None where there is none."""
    if not isinstance(data, Mapping) or not data.get("ids"):
        return None
    return Share(tuple(str(each) for each in data["ids"]), bool(data.get("alt")))


def listed(value: object) -> list[str]:
    """The ids that an address holds under a name."""
    return [str(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def files_in(address: Mapping[str, object]) -> list[str]:
    """The files that show a request's pictures: those that were shared, else those in messages."""
    share = share_from(address.get("share"))
    return list(share.ids) if share else listed(address.get("files"))


def encoded(picture: Picture) -> tuple[str, bytes]:
    """A picture's file name and bytes in a form that Slack shows: PNG or JPEG. In a thread: it may encode."""
    data = picture.path.read_bytes()
    if mime_of(data) not in SUFFIXES:
        data, _ = fit_to_bytes(data, len(data) - 1, mime="image/jpeg")
    data, mime = fit_to_bytes(data, MOST_BYTES, mime="image/jpeg")
    return f"{picture.path.stem}.{SUFFIXES[mime]}", data


class Files:
    """The files of one conversation."""

    def __init__(self, workspace: Workspace, sleep: Sleep) -> None:
        self._workspace = workspace
        self._sleep = sleep

    async def upload(
        self, pictures: Sequence[Picture], *, alt: bool = True
    ) -> tuple[list[str], list[dict[str, str]]]:
        """Send pictures; their ids, and what complete() takes. Raises Gone where one is deleted from disk."""
        room = asyncio.Semaphore(AT_A_TIME)

        async def one(picture: Picture) -> str:
            async with room:
                try:
                    name, data = await asyncio.to_thread(encoded, picture)
                except FileNotFoundError:
                    raise Gone("A picture was deleted before it could be shown.") from None
                return await self._workspace.upload(name, data, picture.alt_text if alt else None)

        ids = list(await asyncio.gather(*(one(picture) for picture in pictures)))
        return ids, [
            {"id": file, "title": picture.alt_text[:80]} for file, picture in zip(ids, pictures, strict=True)
        ]

    async def processed(self, ids: Sequence[str]) -> None:
        """Wait until Slack has finished with files. Raises Unprocessed, or Denied where one is gone."""
        await asyncio.gather(*(self._processed(each) for each in ids))

    async def _processed(self, file_id: str) -> None:
        waited, delay = 0.0, FIRST_LOOK
        while not (await self._workspace.file(file_id)).get("mimetype"):
            if waited >= PROCESSING_MOST:
                raise Unprocessed("Slack is slow with a picture.", detail=file_id, retry_after=5.0)
            await self._sleep(delay)
            waited, delay = waited + delay, min(delay * SLOWER, SLOWEST_LOOK)

    # --- the fallback ---

    async def share(
        self,
        pictures: Sequence[Picture],
        known: Share | None,
        channel: str,
        thread: str,
        keep: Callable[[Share], Awaitable[None]],
    ) -> Share:
        """Pictures as files in a thread. known: a share that was begun; keep: stores one before it is
        made."""
        if known is not None:
            if await self._arrived(known, channel):
                return known
            known = await self._without_alt(known, pictures, channel, thread, keep)
        else:
            known = await self._share(pictures, True, channel, thread, keep)
        if await self._arrived(known, channel):
            return known
        if not known.alt:
            raise Unavailable("Slack does not show the pictures yet.", retry_after=10.0)
        known = await self._without_alt(known, pictures, channel, thread, keep)
        if await self._arrived(known, channel):
            return known
        raise Unavailable("Slack does not show the pictures yet.", retry_after=10.0)

    async def _without_alt(
        self,
        known: Share,
        pictures: Sequence[Picture],
        channel: str,
        thread: str,
        keep: Callable[[Share], Awaitable[None]],
    ) -> Share:
        """Once more, and without alternative texts. The first files are deleted before, so that a late share
        of them shows nothing."""
        log.info("a share did not arrive; shared again without alternative texts")
        for each in known.ids:
            try:
                await self._workspace.forget_file(each)
            except Denied as error:
                if error.code not in ("file_not_found", "file_deleted"):
                    raise
        return await self._share(pictures, False, channel, thread, keep)

    async def _share(
        self,
        pictures: Sequence[Picture],
        alt: bool,
        channel: str,
        thread: str,
        keep: Callable[[Share], Awaitable[None]],
    ) -> Share:
        ids, entries = await self.upload(pictures, alt=alt)
        made = Share(tuple(ids), alt)
        await keep(made)
        await self._workspace.complete(entries, channel=channel, thread=thread)
        return made

    async def _arrived(self, share: Share, channel: str) -> bool:
        """Whether all files of a share are in the channel; waits a while for it."""
        waited, delay = 0.0, FIRST_LOOK
        while True:
            if all([await self._is_in(each, channel) for each in share.ids]):
                return True
            if waited >= SHARING_MOST:
                return False
            await self._sleep(delay)
            waited, delay = waited + delay, min(delay * SLOWER, SLOWEST_LOOK)

    async def _is_in(self, file_id: str, channel: str) -> bool:
        try:
            file = await self._workspace.file(file_id)
        except Denied as error:
            if error.code in ("file_not_found", "file_deleted"):
                return False
            raise
        shares = file.get("shares") or {}
        listed = [*(file.get("ims") or ()), *(shares.get("public") or ()), *(shares.get("private") or ())]
        return channel in listed
