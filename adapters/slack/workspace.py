"""One workspace as the bot sees it: the Web API calls that are used, paced, with errors of ours.

Nothing is retried here: whether a call may be repeated is for its caller to know.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from adapters.slack.blocks import Block
from adapters.slack.pacing import Bucket, Gate, Kept, Window, nothing
from adapters.slack.problems import NO_RETRY_AFTER, TROUBLE, Removed, fault_of
from bot.core.errors import InvalidRequest, RateLimited, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

# Below what Slack takes, so that other processes' calls and clocks that differ do no harm.
EDITS: Final = Window(45, 60.0)  # of 50 a minute in a workspace
POSTS: Final = Bucket(1.0, burst=3)  # of 1 a second in a channel, with room for bursts
FILES: Final = Window(90, 60.0)  # of 100 a minute in a workspace
LOOKS: Final = Window(90, 60.0)
HOMES: Final = Window(90, 60.0)
DELETES: Final = Window(45, 60.0)
PREVIEWS: Final = Window(12, 60.0)  # each is an upload, several looks and a deletion


class Workspace:
    """on_removed: called where Slack no longer takes the token."""

    def __init__(self, client: AsyncWebClient, gate: Gate, team: str, on_removed: Callable[[], None]) -> None:
        self.team = team
        self._client = client
        self._gate = gate
        self._on_removed = on_removed

    # --- messages ---

    async def post(
        self, channel: str, text: str, blocks: Sequence[Block], *, thread: str | None = None, rank: int = 0
    ) -> tuple[str, str]:
        """Post a message; its channel (of the direct messages, where a user's id was given) and its ts."""
        await self._gate.enter(("post", self.team, channel), POSTS, rank=rank)
        answer = await self._call(
            "chat.postMessage",
            lambda: self._client.chat_postMessage(
                channel=channel,
                text=text,
                blocks=list(blocks),
                thread_ts=thread,
                unfurl_links=False,
                unfurl_media=False,
            ),
            channel,
        )
        return str(answer["channel"]), str(answer["ts"])

    async def edit(
        self,
        channel: str,
        ts: str,
        text: str,
        blocks: Sequence[Block],
        *,
        rank: int = 0,
        kept: Kept = nothing,
    ) -> None:
        """Replace a message; waits for its turn. kept: how many edits are left to more urgent ones."""
        await self._gate.enter(("chat.update", self.team), EDITS, rank=rank, kept=kept)
        await self._edit(channel, ts, text, blocks)

    async def edit_now(self, channel: str, ts: str, text: str, blocks: Sequence[Block], *, kept: int) -> bool:
        """Replace a message if there is room for an edit beside `kept` urgent ones; whether it was sent."""
        if not self._gate.enter_now(("chat.update", self.team), EDITS, kept=kept):
            return False
        await self._edit(channel, ts, text, blocks)
        return True

    async def _edit(self, channel: str, ts: str, text: str, blocks: Sequence[Block]) -> None:
        await self._call(
            "chat.update",
            lambda: self._client.chat_update(channel=channel, ts=ts, text=text, blocks=list(blocks)),
        )

    async def remove(self, channel: str, ts: str) -> None:
        """Delete a message of ours."""
        await self._gate.enter(("chat.delete", self.team), DELETES)
        await self._call("chat.delete", lambda: self._client.chat_delete(channel=channel, ts=ts))

    async def whisper(
        self, channel: str, user: str, text: str, blocks: Sequence[Block], *, thread: str | None = None
    ) -> None:
        """Post what one person alone sees."""
        await self._call(
            "chat.postEphemeral",
            lambda: self._client.chat_postEphemeral(
                channel=channel, user=user, text=text, blocks=list(blocks), thread_ts=thread
            ),
        )

    async def respond(self, url: str, text: str, blocks: Sequence[Block]) -> None:
        """Answer privately at a response_url."""

        async def send() -> None:
            webhook = AsyncWebhookClient(url, session=self._client.session, retry_handlers=[])
            answer = await webhook.send(
                text=text, blocks=list(blocks), response_type="ephemeral", replace_original=False
            )
            if answer.status_code != 200:
                raise Unavailable(
                    "Slack did not take an answer.", detail=f"response_url: {answer.status_code}"
                )

        await self._guarded("response_url", send)

    async def permalink(self, channel: str, ts: str) -> str:
        """The address of a message."""
        answer = await self._call(
            "chat.getPermalink", lambda: self._client.chat_getPermalink(channel=channel, message_ts=ts)
        )
        return str(answer.get("permalink") or "")

    # --- views ---

    async def open_view(self, trigger_id: str, view: Block, *, push: bool = False) -> str:
        """Open a modal, within 3 s of what triggered it; its id. push: on top of the one that is open."""
        if push:
            answer = await self._call(
                "views.push", lambda: self._client.views_push(trigger_id=trigger_id, view=view)
            )
        else:
            answer = await self._call(
                "views.open", lambda: self._client.views_open(trigger_id=trigger_id, view=view)
            )
        return str((answer.get("view") or {}).get("id") or "")

    async def update_view(self, view_id: str, view: Block, *, hash: str = "") -> None:
        """Replace an open modal, if it is still the one with this hash."""
        await self._call(
            "views.update",
            lambda: self._client.views_update(view_id=view_id, view=view, hash=hash or None),
        )

    async def publish_home(self, user: str, view: Block, *, rank: int = 0) -> None:
        """Show somebody their App Home; waits for its turn."""
        await self._gate.enter(("views.publish", self.team), HOMES, rank=rank)
        await self._call("views.publish", lambda: self._client.views_publish(user_id=user, view=view))

    # --- people ---

    async def person(self, user: str) -> dict[str, Any]:
        """users.info's user."""
        await self._gate.enter(("users.info", self.team), LOOKS)
        answer = await self._call("users.info", lambda: self._client.users_info(user=user))
        found: dict[str, Any] = answer.get("user") or {}
        return found

    async def identity(self) -> dict[str, Any]:
        """auth.test's answer."""
        return await self._call("auth.test", self._client.auth_test)

    # --- files ---

    async def upload(self, name: str, data: bytes, alt_text: str | None) -> str:
        """Send a file's bytes; its id. It exists once completed."""
        await self._gate.enter(("files.getUploadURLExternal", self.team), FILES)
        answer = await self._call(
            "files.getUploadURLExternal",
            lambda: self._client.files_getUploadURLExternal(
                filename=name, length=len(data), alt_txt=alt_text[:1000] if alt_text else None
            ),
        )
        await self._guarded("upload", lambda: self._send(str(answer["upload_url"]), data))
        return str(answer["file_id"])

    async def _send(self, url: str, data: bytes) -> None:
        async with self._session.post(url, data=data) as response:
            await response.read()
            if response.status != 200:
                raise Unavailable("Slack did not take a file.", detail=f"upload: {response.status}")

    def has_room_for_preview(self) -> bool:
        """Whether one more preview may be made now; if so it is counted."""
        return self._gate.enter_now(("previews", self.team), PREVIEWS)

    async def complete(
        self, files: Sequence[dict[str, str]], *, channel: str | None = None, thread: str | None = None
    ) -> None:
        """Make uploaded files (id, title) exist; with a channel, share them there: that is not idempotent."""
        await self._gate.enter(("files.completeUploadExternal", self.team), FILES)
        await self._call(
            "files.completeUploadExternal",
            lambda: self._client.files_completeUploadExternal(
                files=[dict(each) for each in files], channel_id=channel, thread_ts=thread
            ),
            channel,
        )

    async def file(self, file_id: str) -> dict[str, Any]:
        """files.info's file."""
        await self._gate.enter(("files.info", self.team), FILES)
        answer = await self._call("files.info", lambda: self._client.files_info(file=file_id))
        found: dict[str, Any] = answer.get("file") or {}
        return found

    async def forget_file(self, file_id: str) -> None:
        """Delete a file."""
        await self._gate.enter(("files.delete", self.team), DELETES)
        await self._call("files.delete", lambda: self._client.files_delete(file=file_id))

    async def download(self, url: str, *, most: int) -> bytes | None:
        """A file's bytes; None where Slack shows us a page instead, since the file is gone or not ours to
        see. Raises InvalidRequest where it is over `most` bytes."""
        return await self._guarded("download", lambda: self._download(url, most))

    async def _download(self, url: str, most: int) -> bytes | None:
        headers = {"Authorization": f"Bearer {self._client.token}"}
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status == 429 or response.status >= 500:
                raise Unavailable("Slack did not give the picture.", detail=f"download: {response.status}")
            if response.status != 200 or response.content_type == "text/html":
                return None
            data = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                data += chunk
                if len(data) > most:
                    raise InvalidRequest(
                        f"The picture is over {most // 1024**2} MB. Send a smaller one.", field="image"
                    )
            return bytes(data)

    # --- calling ---

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._client.session is None:
            raise Unavailable("Fairbrush is stopping.")
        return self._client.session

    async def _call(
        self, method: str, send: Callable[[], Awaitable[Any]], channel: str | None = None
    ) -> dict[str, Any]:
        try:
            answer = await self._guarded(method, send)
        except RateLimited as error:
            lane = ("post", self.team, channel) if method == "chat.postMessage" else (method, self.team)
            self._gate.rest(lane, error.retry_after or NO_RETRY_AFTER)
            raise
        data: dict[str, Any] = answer.data
        return data

    async def _guarded(self, method: str, send: Callable[[], Awaitable[T]]) -> T:
        try:
            return await send()
        except TROUBLE as error:
            fault = fault_of(error, method)
            if isinstance(fault, Removed):
                self._on_removed()
            raise fault from None
