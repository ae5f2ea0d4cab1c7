"""Pictures that people attach, fetched from Discord's own servers and from nowhere else.

A length and a time are set for every download, whatever the server says. What the bytes are is for the core
to judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import discord
from yarl import URL

from bot.core.errors import InvalidRequest, Unavailable

HOSTS: Final = frozenset({"cdn.discordapp.com", "media.discordapp.net"})
SECONDS: Final = 30.0
_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Attached:
    """An attachment as Discord describes it; size: in bytes, which is not trusted."""

    url: str
    file_name: str
    size: int = 0

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Attached:
        """From the JSON of an attachment."""
        return cls(str(data["url"]), str(data.get("filename", "")), int(data.get("size", 0)))

    @classmethod
    def from_attachment(cls, attachment: discord.Attachment) -> Attached:
        """From the library's attachment."""
        return cls(attachment.url, attachment.filename, attachment.size)


def looks_like_a_picture(attachment: discord.Attachment) -> bool:
    """Whether it may hold one, by what Discord says of it."""
    kind = attachment.content_type or ""
    return kind.startswith("image/") or attachment.filename.lower().endswith(
        (".png", ".jpg", ".jpeg", ".webp")
    )


class Downloads:
    """Fetches attachments. api_url: another address of Discord's, where it is not the real one; files may
    come from its host too."""

    def __init__(self, api_url: str = "", *, seconds: float = SECONDS) -> None:
        self._own = URL(api_url).origin() if api_url else None
        self._seconds = seconds

    async def fetch(self, upload: Attached, *, most: int) -> bytes:
        """The bytes of an attachment, at most `most`.

        Raises InvalidRequest where it is too large, not Discord's or gone; Unavailable for the rest.
        """
        if upload.size > most:
            raise _too_large(most)
        url = self._checked(upload.url)
        try:
            async with (
                asyncio.timeout(self._seconds),
                aiohttp.ClientSession() as session,
                session.get(url, allow_redirects=False) as response,
            ):
                return await _read(response, most)
        except TimeoutError:
            raise InvalidRequest(
                f"The picture did not arrive within {self._seconds:.0f} seconds. Attach it again.",
                field="image",
            ) from None
        except aiohttp.ClientError as error:
            raise _unavailable(f"{type(error).__name__}: {error}") from None

    def _checked(self, text: str) -> URL:
        """Raises InvalidRequest for an address that is not Discord's."""
        try:
            url = URL(text, encoded=True)
            own = self._own is not None and url.origin() == self._own
            if own or (url.scheme == "https" and url.host in HOSTS and url.port == 443 and not url.user):
                return url
        except ValueError:
            pass
        raise InvalidRequest("The picture is not one of Discord's. Attach it to the message.", field="image")


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    if response.status >= 500 or response.status == 429:
        raise _unavailable(f"HTTP {response.status}")
    if response.status != 200:
        raise InvalidRequest("The picture is gone, or its link has expired. Attach it again.", field="image")
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        data += chunk
        if len(data) > most:
            raise _too_large(most)
    return bytes(data)


def _unavailable(detail: str) -> Unavailable:
    return Unavailable(
        "The picture cannot be fetched from Discord right now. Send it again in a minute.",
        detail=detail,
        retry_after=30.0,
    )


def _too_large(most: int) -> InvalidRequest:
    return InvalidRequest(f"The picture is over {most // 1024**2} MB. Attach a smaller one.", field="image")
