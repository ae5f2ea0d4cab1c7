"""Pictures as attachments: as large as they are where the limits allow, smaller where not, as links last.

Reads and encodes in threads. Knows the limits of messages and nothing of who sees them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import discord

from adapters.discord import render
from adapters.discord.wire import Upload
from adapters.discord.wording import alt
from bot.core import pictures
from bot.core.errors import InvalidRequest, NotFound, Refused
from bot.core.ports import Preview
from bot.core.request import ImageResult, Picture

log = logging.getLogger(__name__)

IN_A_MESSAGE: Final = 10
MESSAGE_MOST: Final = (
    25 * 1024**2 - 64 * 1024
)  # bytes of a message's files, with room for what surrounds them
SHEET_SIDE: Final = 512
LINKS_MOST: Final = 1800  # characters of links, of the 4,000 that a message may have
_SUFFIXES: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one message of a result holds. first: the place of its first picture in the result (0-based)."""

    first: int
    uploads: tuple[Upload, ...]
    hidden: tuple[bool, ...]

    @property
    def gallery(self) -> list[discord.MediaGalleryItem]:
        """The pictures as people see them."""
        return [
            render.picture(upload.name, alt=upload.description, spoiler=hidden)
            for upload, hidden in zip(self.uploads, self.hidden, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Packed:
    """A result, ready to be sent: at least one parcel; left: pictures that fit in no form."""

    parcels: tuple[Parcel, ...]
    left: tuple[Picture, ...] = ()

    @property
    def largest(self) -> int:
        """Bytes of the largest file."""
        return max((len(upload.data) for parcel in self.parcels for upload in parcel.uploads), default=0)


async def pack(result: ImageResult, limit: int) -> Packed:
    """A result's pictures over messages. limit: bytes of one file. Raises NotFound where a file is gone."""
    return await asyncio.to_thread(_pack, result, limit)


def _pack(result: ImageResult, limit: int) -> Packed:
    """Only the last picture of a message may be followed by a gap: where one is left out, a message ends."""
    packing, left = _Packing(max(limit, MESSAGE_MOST)), []
    for at, picture in enumerate(result.pictures):
        upload = _upload(result, at, picture, limit)
        if upload is None:
            left.append(picture)
        else:
            packing.add(at, upload, hidden=result.spoiler or picture.spoiler)
    packing.close()
    return Packed(tuple(packing.parcels) or (Parcel(0, (), ()),), tuple(left))


class _Packing:
    """Parcels filled one after the other, each of neighbours."""

    def __init__(self, most: int) -> None:
        self.parcels: list[Parcel] = []
        self._most = most
        self._first = 0
        self._uploads: list[Upload] = []
        self._hidden: list[bool] = []

    def add(self, at: int, upload: Upload, *, hidden: bool) -> None:
        size = sum(len(each.data) for each in self._uploads) + len(upload.data)
        follows = at == self._first + len(self._uploads)
        if self._uploads and (len(self._uploads) == IN_A_MESSAGE or size > self._most or not follows):
            self.close()
        if not self._uploads:
            self._first = at
        self._uploads.append(upload)
        self._hidden.append(hidden)

    def close(self) -> None:
        if self._uploads:
            self.parcels.append(Parcel(self._first, tuple(self._uploads), tuple(self._hidden)))
        self._uploads, self._hidden = [], []


def _upload(result: ImageResult, at: int, picture: Picture, limit: int) -> Upload | None:
    """A picture as a file of at most `limit` bytes; None where there is no such form."""
    try:
        data, mime = pictures.fit_to_bytes(_read(picture), limit)
    except Refused as error:
        log.info("picture %s: %s", picture.name, error.message)
        return None
    number = f"-{at + 1}" if len(result.pictures) > 1 else ""
    name = f"fairbrush-{result.group_id}{number}.{_SUFFIXES.get(mime, 'png')}"
    return Upload(name, data, alt(picture.alt_text))


def _read(picture: Picture) -> bytes:
    try:
        return picture.path.read_bytes()
    except FileNotFoundError:
        raise NotFound("The pictures were deleted.", detail=picture.name) from None


async def sheet(result: ImageResult) -> Upload | None:
    """All pictures on one small sheet, for where the pictures themselves are not; none of hidden ones."""
    shown = result.pictures
    if not shown or result.spoiler or any(picture.spoiler for picture in shown):
        return None
    return await asyncio.to_thread(_sheet, result.group_id, shown)


def _sheet(group_id: str, shown: Sequence[Picture]) -> Upload | None:
    try:
        data = pictures.contact_sheet([_read(picture) for picture in shown], max_side=SHEET_SIDE)
    except InvalidRequest as error:  # a damaged file: the sheet is only a glance
        log.warning("group %s: no sheet: %s", group_id, error.message)
        return None
    return Upload(f"fairbrush-{group_id}.jpg", data, alt(shown[0].alt_text))


def glimpse(preview: Preview) -> Upload:
    """A preview as a file."""
    return Upload(f"preview.{_SUFFIXES.get(preview.mime, 'png')}", preview.data, "Preview")


def links(left: Sequence[Picture], link: Callable[[Picture], str | None]) -> tuple[str, ...]:
    """Lines for pictures that cannot be attached: as many links as there is room for, and a count."""
    if not left:
        return ()
    found = [f"[picture {picture.index + 1}]({url})" for picture in left if (url := link(picture))]
    ends = itertools.accumulate(len(each) + len(" · ") for each in found)
    named = [each for each, end in zip(found, ends, strict=True) if end <= LINKS_MOST]
    if not named:
        many = "1 picture" if len(left) == 1 else f"{len(left)} pictures"
        return (f"{many} cannot be attached here",)
    more = [f"and {len(left) - len(named)} more"] if len(left) > len(named) else []
    return (f"not attached here: {' · '.join([*named, *more])}",)
