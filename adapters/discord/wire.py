"""The calls to Discord's REST API that conversations need, in plain values.

By the bot's token (`create`, `edit`, ...) or by an interaction's (`..._by_token`). Errors are the core's.
Goes below the library's message objects on purpose: they would be built and thrown away for every edit.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import discord
from discord import ui
from discord.http import MultipartParameters, Route, handle_message_parameters
from discord.webhook.async_ import async_context

from adapters.discord.errors import translated
from bot.core.errors import Unavailable

LOADING: Final = 1 << 7
RESPONSES: Final = "/webhooks/{webhook_id}/{webhook_token}/messages"
ORIGINAL: Final = "@original"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a message. description: its alternative text."""

    name: str
    data: bytes
    description: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """A message as it is to be: everything on it, for what is not listed goes. pings: users it notifies."""

    view: ui.LayoutView
    uploads: tuple[Upload, ...] = ()
    pings: tuple[str, ...] = ()


class Wire:
    """See the module. online: the client that is logged in, waited for."""

    def __init__(self, online: Callable[[], Awaitable[discord.Client]]) -> None:
        self._online = online

    # --- by the bot's token ---

    async def create(self, channel: str, body: Body, *, nonce: str) -> str:
        """A new message; its id. Within minutes the same nonce makes no second one."""
        params = _parameters(body, nonce)
        found = await self._as_bot(
            Route("POST", "/channels/{channel_id}/messages", channel_id=channel), params
        )
        return _id(found)

    async def edit(self, channel: str, message: str, body: Body) -> None:
        """Make a message be `body`."""
        route = Route(
            "PATCH", "/channels/{channel_id}/messages/{message_id}", channel_id=channel, message_id=message
        )
        await self._as_bot(route, _parameters(body))

    async def delete(self, channel: str, message: str) -> None:
        """Delete a message."""
        route = Route(
            "DELETE", "/channels/{channel_id}/messages/{message_id}", channel_id=channel, message_id=message
        )
        await self._json(route)

    async def open_thread(self, channel: str, message: str, name: str, *, minutes: int) -> str:
        """A thread from a message, archived after `minutes` of silence; its id."""
        route = Route(
            "POST",
            "/channels/{channel_id}/messages/{message_id}/threads",
            channel_id=channel,
            message_id=message,
        )
        found = await self._json(route, {"name": name, "auto_archive_duration": minutes})
        return _id(found)

    async def unarchive(self, thread: str) -> None:
        """Open an archived thread again."""
        await self._json(Route("PATCH", "/channels/{channel_id}", channel_id=thread), {"archived": False})

    async def _as_bot(self, route: Route, params: MultipartParameters) -> Mapping[str, Any]:
        client = await self._online()
        with translated(), params:
            if params.files:
                found = await client.http.request(route, files=params.files, form=params.multipart)
            else:
                found = await client.http.request(route, json=params.payload)
        return _object(found)

    async def _json(self, route: Route, payload: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        client = await self._online()
        with translated():
            if payload is None:
                found = await client.http.request(route)
            else:
                found = await client.http.request(route, json=payload)
        return _object(found)

    # --- by an interaction's token ---

    async def original(self, application: str, token: str) -> Mapping[str, Any]:
        """The first response's message."""
        found = await self._by_token("GET", application, token, f"/{ORIGINAL}")
        _id(found)
        return found

    async def create_by_token(self, application: str, token: str, body: Body) -> str:
        """A follow-up message; its id."""
        params = _parameters(body)
        return _id(await self._by_token("POST", application, token, "", params))

    async def edit_by_token(self, application: str, token: str, message: str, body: Body) -> None:
        """Make a message of the interaction be `body`; message: its id or ORIGINAL."""
        await self._by_token("PATCH", application, token, f"/{message}", _parameters(body))

    async def delete_by_token(self, application: str, token: str, message: str) -> None:
        """Delete a message of the interaction."""
        await self._by_token("DELETE", application, token, f"/{message}")

    async def _by_token(
        self,
        method: str,
        application: str,
        token: str,
        rest: str,
        params: MultipartParameters | None = None,
    ) -> Mapping[str, Any]:
        client = await self._online()
        path = RESPONSES if rest else RESPONSES.removesuffix("/messages")
        route = Route(method, path + rest, webhook_id=application, webhook_token=token)
        params = params or MultipartParameters(payload=None, multipart=None, files=None)
        with translated(), params:
            found = await async_context.get().request(
                route,
                session(client),
                payload=params.payload,
                multipart=params.multipart,
                files=params.files,
                params={"wait": 1, "with_components": 1} if method == "POST" else None,
            )
        return _object(found)


def session(client: discord.Client) -> aiohttp.ClientSession:
    """The library's own HTTP session; it gives its webhooks the same."""
    found: aiohttp.ClientSession = client.http._HTTPClient__session  # type: ignore[attr-defined]
    return found


def _object(found: object) -> Mapping[str, Any]:
    """An answer's object; nothing of nothing. Raises Unavailable for what is none, such as a proxy's page."""
    if isinstance(found, Mapping):
        return found
    if found:
        raise Unavailable("Discord's answer cannot be read.", detail="it is no JSON object")
    return {}


def _id(found: Mapping[str, Any]) -> str:
    if "id" not in found:
        raise Unavailable("Discord's answer cannot be read.", detail="it has no id")
    return str(found["id"])


def _parameters(body: Body, nonce: str | None = None) -> MultipartParameters:
    files = [file_of(upload) for upload in body.uploads]
    return handle_message_parameters(
        view=body.view, attachments=files, allowed_mentions=mentions(body.pings), nonce=nonce
    )


def file_of(upload: Upload) -> discord.File:
    """A file as the library sends it."""
    return discord.File(io.BytesIO(upload.data), upload.name, description=upload.description or None)


def mentions(pings: Sequence[str] = ()) -> discord.AllowedMentions:
    """These users are notified, and nobody else."""
    users = [discord.Object(int(user)) for user in pings]
    return discord.AllowedMentions(everyone=False, roles=False, users=users, replied_user=False)
