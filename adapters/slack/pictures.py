"""Pictures that people show: found on messages, fetched from Slack alone, and kept for a moment.

What is fetched goes with our token, so only Slack's own addresses are asked; length and time are bounded, and
only the core looks into the bytes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from adapters.slack.names import BOT_NAME
from adapters.slack.problems import Denied
from adapters.slack.visit import Visit
from bot.core.errors import InvalidRequest, TimedOut
from bot.core.patience import Tasks

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

FETCH_MOST: Final = 20.0  # seconds for one picture
KEPT_BYTES: Final = 64 * 1024 * 1024
KEPT_SECONDS: Final = 900.0
UNSEEN: Final = f"Fairbrush cannot see that picture. /invite @{BOT_NAME} where it is, or upload it again."


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that came along. url: needs our token; empty where Slack has to be asked for it."""

    file_id: str
    name: str
    url: str = ""


# --- on messages ------------------------------------------------------------------------------------------


def pictures_on(message: Mapping[str, Any]) -> list[Attached]:
    """A message's pictures: its files, and those that its blocks show."""
    found = [_attached(file) for file in message.get("files") or () if _is_picture(file)]
    found += [Attached(file, "picture") for file in _shown(message.get("blocks") or ())]
    return list({each.file_id: each for each in reversed(found)}.values())[::-1]


def _is_picture(file: Mapping[str, Any]) -> bool:
    """Of what is shared from another organisation a message says no more than the id."""
    unknown = file.get("file_access") == "check_file_info"
    return unknown or str(file.get("mimetype") or "").startswith("image/")


def _attached(file: Mapping[str, Any]) -> Attached:
    return Attached(str(file.get("id") or ""), str(file.get("name") or "picture"), _url(file))


def _shown(blocks: Any) -> Iterator[str]:
    for block in blocks:
        for each in (block, block.get("accessory") or {}):
            file = (each.get("slack_file") or {}).get("id") if each.get("type") == "image" else ""
            if file:
                yield str(file)


def _url(file: Mapping[str, Any]) -> str:
    return str(file.get("url_private_download") or file.get("url_private") or "")


# --- their bytes ------------------------------------------------------------------------------------------


class Pictures:
    """Fetched pictures. A form that starts from one was opened by having it fetched, so that it is there when
    the form is sent, which Slack does not wait for."""

    def __init__(self, slack: Slack) -> None:
        self._slack = slack
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._coming: dict[tuple[str, str], asyncio.Task[bytes]] = {}
        self._tasks = Tasks()

    async def fetch(self, visit: Visit, picture: Attached, *, within: float = FETCH_MOST) -> bytes:
        """A picture's bytes, unchecked. within: seconds; what takes longer goes on, for the next to ask.

        Raises InvalidRequest where it is none of Slack's, too large or not ours to see; Fault.
        """
        key = (visit.team or visit.enterprise, picture.file_id or picture.url)
        if (known := self._kept.get(key)) is not None:
            return known
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = self._tasks.start(self._fetch(key, visit, picture))
            coming.add_done_callback(lambda _: self._coming.pop(key, None))
        await asyncio.wait({coming}, timeout=within)
        if not coming.done():
            raise TimedOut("Slack is slow with the picture. Send it again in a moment.")
        return coming.result()

    async def aclose(self) -> None:
        """Stop fetching; idempotent."""
        await self._tasks.aclose()

    async def _fetch(self, key: tuple[str, str], visit: Visit, picture: Attached) -> bytes:
        try:
            async with asyncio.timeout(FETCH_MOST):
                data = await self._download(visit, picture)
        except TimeoutError:
            raise TimedOut("Slack is slow with the picture. Try again in a minute.") from None
        except Denied as error:
            raise InvalidRequest(UNSEEN, field="image", detail=error.detail) from None
        self._kept[key] = data
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._kept.pop, key, None)
        while sum(map(len, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return data

    async def _download(self, visit: Visit, picture: Attached) -> bytes:
        slack = self._slack
        workspace = await slack.clients.workspace(visit.team, visit.enterprise)
        url = picture.url or _url(await workspace.file(picture.file_id))
        if not slack.clients.is_slacks(url):
            raise InvalidRequest(
                "That picture is not kept by Slack. Upload the file itself.",
                field="image",
                detail="foreign host",
            )
        data = await workspace.download(url, most=slack.studio.limits.max_image_bytes)
        if data is None:
            raise InvalidRequest(UNSEEN, field="image", detail="Slack showed no file")
        return data
