"""What ComfyUI tells over its websocket of prompts that we handed in: steps, and previews.

Everything here is a bonus: whether a prompt waits, is being made or has ended is asked of the server itself,
so that a socket that drops costs progress for a while and nothing else.

Source: server.py, protocol.py and comfy_execution/progress.py of ComfyUI. Events go to the client that handed
a prompt in. A binary frame is a number (32 bits, big-endian): 1, then a kind of picture (32 bits) and the
picture, which is of the prompt that is being made; or 4, then the length of a JSON text (32 bits), that text
and the picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import WSMsgType

from backends._answers import number
from backends._http import Backoff, Http
from bot.core.errors import FairbrushError
from bot.core.ports import Clock
from bot.core.request import JSON

log = logging.getLogger(__name__)

_PREVIEW: Final = 1
_PREVIEW_WITH_METADATA: Final = 4
_MOST: Final = 4 * 2**20  # bytes of a preview
_FEATURES: Final = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


@dataclass(slots=True)
class Sight:
    """A prompt as the socket shows it. samplers: nodes whose steps count, empty for any; seen: those that
    have begun; preview: the newest picture, None once it was taken."""

    samplers: frozenset[str]
    running: bool = False
    step: int = 0
    total: int = 0
    fraction: float = 0.0
    preview: bytes | None = field(default=None, repr=False)
    seen: list[str] = field(default_factory=list)

    def progress(self, node: str, step: int, total: int) -> None:
        """Step `step` of `total` of a node is done."""
        if total <= 0 or (self.samplers and node not in self.samplers):
            return
        if node not in self.seen:
            self.seen.append(node)
        stages = max(len(self.samplers), len(self.seen))
        self.step, self.total = max(0, min(step, total)), total
        done = (self.seen.index(node) + self.step / total) / stages
        self.fraction = max(self.fraction, min(1.0, done))


class Socket:
    """One websocket, open while prompts are watched. client_id: what prompts are handed in with."""

    def __init__(self, http: Http, client_id: str, clock: Clock) -> None:
        self.client_id = client_id
        self._http = http
        self._clock = clock
        self._sights: dict[str, Sight] = {}
        self._current = ""
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    async def watch(self, prompt_id: str, samplers: Collection[str], patience: float = 1.0) -> None:
        """Look out for a prompt; waits a little for the socket to be opened, so that no step is missed."""
        self._sights[prompt_id] = Sight(frozenset(samplers))
        if self._task is None or self._task.done():
            self._tried.clear()
            self._task = asyncio.create_task(self._listen())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), patience)

    def sight(self, prompt_id: str) -> Sight | None:
        """What is known of a prompt; None for one that is not watched."""
        return self._sights.get(prompt_id)

    def take_preview(self, prompt_id: str) -> bytes | None:
        """The newest preview of a prompt, once."""
        sight = self._sights.get(prompt_id)
        if sight is None:
            return None
        preview, sight.preview = sight.preview, None
        return preview

    def forget(self, prompt_id: str) -> None:
        """Look out for it no longer."""
        self._sights.pop(prompt_id, None)

    async def aclose(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        backoff = Backoff()
        while self._sights:
            try:
                await self._converse()
                backoff = Backoff()
            except FairbrushError as error:
                log.info("no word over the websocket: %s %s", error.message, error.detail)
            self._tried.set()
            for sight in self._sights.values():
                sight.running = False  # the server may have lost it
            await self._clock.sleep(max(0.2, backoff.wait()))

    async def _converse(self) -> None:
        async with self._http.websocket("/ws", params={"clientId": self.client_id}) as socket:
            self._current = ""  # another prompt may have begun meanwhile, and what greets us names none
            await socket.send_json(_FEATURES)
            self._tried.set()
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._text(message.data)
                elif message.type is WSMsgType.BINARY:
                    self._binary(message.data)

    def _text(self, text: str) -> None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        data = message.get("data") if isinstance(message, Mapping) else None
        if not isinstance(data, Mapping):
            return
        prompt_id = data.get("prompt_id", self._current)
        sight = self._sights.get(prompt_id) if isinstance(prompt_id, str) else None
        kind = message.get("type")
        if kind in ("execution_success", "execution_error", "execution_interrupted"):
            self._current = ""
        elif sight is not None and isinstance(prompt_id, str):
            self._event(str(kind), prompt_id, sight, data)
        elif "prompt_id" in data:
            self._current = ""  # somebody else's: what is handed in without a client is told to all

    def _event(self, kind: str, prompt_id: str, sight: Sight, data: Mapping[str, JSON]) -> None:
        if kind == "execution_start" or (kind == "executing" and data.get("node") is not None):
            self._current, sight.running = prompt_id, True
        elif kind == "executing":
            self._current = ""
        elif kind == "progress":
            step, total = number(data.get("value"), -1e9, 1e9), number(data.get("max"), -1e9, 1e9)
            self._current, sight.running = prompt_id, True
            if step is not None and total is not None:
                sight.progress(str(data.get("node")), int(step), int(total))

    def _binary(self, frame: bytes) -> None:
        if not 8 <= len(frame) <= _MOST:
            return
        kind, number = struct.unpack(">II", frame[:8])
        if kind == _PREVIEW:
            self._show(self._current, frame[8:])
        elif kind == _PREVIEW_WITH_METADATA and 8 + number <= len(frame):
            with contextlib.suppress(ValueError, RecursionError):
                meta = json.loads(frame[8 : 8 + number])
                if isinstance(meta, Mapping):
                    self._show(str(meta.get("prompt_id")), frame[8 + number :])

    def _show(self, prompt_id: str, picture: bytes) -> None:
        if (sight := self._sights.get(prompt_id)) is not None:
            sight.preview = picture
