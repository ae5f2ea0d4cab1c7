"""What a form was filled with and not queued: kept, so that nobody types it twice, also over a restart.

A button carries a draft's token alone. Places are reused in no order that matters: the shelf never holds
more than PLACES drafts, and one that was overwritten is only no longer there.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bot.core.errors import InvalidRequest, NotFound
from bot.core.intake import new_group_id
from bot.core.options import Options, options_from_json, options_to_json
from bot.core.request import JSON
from bot.core.studio import Shelf

PLACES: Final = 4096


@dataclass(frozen=True, slots=True)
class Draft:
    """A form's contents.

    text: the prompt as it was typed, flags and all; options: the other fields; rest: an options line that
    could not be read, as it was typed; size: likewise; group, index: what it is a remix of, "" for a new
    request; picture, file_name: the address of a picture that came along.
    """

    text: str = ""
    options: Options = field(default_factory=Options)
    rest: str | None = None
    size: str | None = None
    group: str = ""
    index: int | None = None
    picture: str = ""
    file_name: str = ""


class Drafts:
    """Drafts on the adapter's shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def keep(self, draft: Draft) -> str:
        """Store a draft; its token, eight letters and digits."""
        token = new_group_id()
        await self._shelf.put(_place(token), {"token": token, "draft": draft_to_json(draft)})
        return token

    async def read(self, token: str) -> Draft:
        """The draft with this token. Raises NotFound where it is there no longer."""
        kept = await self._shelf.get(_place(token))
        if isinstance(kept, Mapping) and kept.get("token") == token:
            return draft_from_json(kept.get("draft"))
        raise NotFound("What was in this form is not kept any more. Send it again.")


def _place(token: str) -> str:
    return f"draft:{zlib.crc32(token.encode()) % PLACES}"


def draft_to_json(draft: Draft) -> JSON:
    """The filled fields alone."""
    found: dict[str, JSON] = {
        "text": draft.text,
        "options": options_to_json(draft.options),
        "rest": draft.rest,
        "size": draft.size,
        "group": draft.group,
        "index": draft.index,
        "picture": draft.picture,
        "file_name": draft.file_name,
    }
    return {name: value for name, value in found.items() if value not in (None, "", {})}


def draft_from_json(data: JSON) -> Draft:
    """The inverse; what another version wrote otherwise is left empty."""
    if not isinstance(data, Mapping):
        return Draft()
    options = data.get("options")
    try:
        read = options_from_json(options) if isinstance(options, Mapping) else Options()
    except InvalidRequest:
        read = Options()
    index = data.get("index")
    return Draft(
        text=_text(data, "text") or "",
        options=read,
        rest=_text(data, "rest"),
        size=_text(data, "size"),
        group=_text(data, "group") or "",
        index=index if isinstance(index, int) else None,
        picture=_text(data, "picture") or "",
        file_name=_text(data, "file_name") or "",
    )


def _text(data: Mapping[str, JSON], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) else None
