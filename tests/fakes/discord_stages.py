"""A local Discord at which a program can be killed with a request, or its backend, at a named point.

    async with Stages() as discord:
        halt = discord.halt("thread", applied=False)
        ...
        await halt.full()                # the request that makes a thread waits there
        ...kill the program...
        halt.end()                       # applied False: that request is lost; True: its answer is

Kinds of requests: answer (the first response), thread, status (its message), more (a further message), ping,
pictures (an edit with a result's files), receipt (its end). Of the backend (StagedBackend): started, running.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.discord import Discord
from tests.fakes.discord_bodies import Body
from tests.fakes.discord_rest import Handler, Rest

_BY_NONCE = {"s": "status", "m": "more", "p": "ping"}
_ANSWER = "POST /interactions/{interaction_id}/{interaction_token}/callback"
_THREAD = "POST /channels/{channel_id}/messages/{message_id}/threads"
_CREATE = "POST /channels/{channel_id}/messages"


@dataclass(eq=False)
class Halt:
    """Where all of a kind wait from now on. skip: so many pass first."""

    kind: str
    applied: bool
    skip: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def holds(self, kind: str) -> bool:
        """Whether one of this kind waits here; counts those that pass."""
        if self._over.is_set() or not kind or kind != self.kind:
            return False
        self.skip -= 1
        return self.skip < 0

    async def full(self, seconds: float = 60.0) -> None:
        """Until somebody waits here."""
        async with asyncio.timeout(seconds):
            await self.reached.wait()

    async def wait(self) -> None:
        """Stay here."""
        self.reached.set()
        await self._over.wait()

    def end(self) -> None:
        """Let go, and hold nothing more."""
        self._over.set()


class Stages(Discord):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.rest = self._staged = _Rest(self.world, self.token, self.troubles, self.rest.spec)

    def application(self) -> web.Application:
        """Discord's, and the place where a backend tells how far it is."""
        app = super().application()
        app.router.add_post("/stage/{kind}", self._stage)
        return app

    @property
    def stages_url(self) -> str:
        """For StagedBackend."""
        return f"http://127.0.0.1:{self.port}"

    def halt(self, kind: str, *, applied: bool = False, skip: int = 0) -> Halt:
        """Hold what is of this kind; of the backend there is nothing to be applied."""
        self._staged.halt = Halt(kind, applied, skip)
        return self._staged.halt

    async def __aenter__(self) -> Stages:
        await self.start()
        return self

    async def stop(self) -> None:
        """Stop serving."""
        self._staged.halt.end()
        await super().stop()

    async def _stage(self, request: web.Request) -> web.Response:
        halt = self._staged.halt
        if halt.holds(request.match_info["kind"]):
            await halt.wait()
        return web.json_response({})


class _Rest(Rest):
    halt = Halt("", applied=False)

    async def _answer(
        self, request: web.Request, operation: str, handler: Handler, body: Body, began: float
    ) -> web.Response:
        halt = self.halt
        held = halt.holds(kind_of(operation, body))
        if held and not halt.applied:
            await halt.wait()
            return web.Response(status=502)  # whoever asked is dead
        answer = await super()._answer(request, operation, handler, body, began)
        if held:
            await halt.wait()
        return answer


def kind_of(operation: str, body: Body) -> str:
    """What a request is for."""
    if operation == _ANSWER:
        return "answer"
    if operation == _THREAD:
        return "thread"
    if operation == _CREATE:
        return _BY_NONCE.get(_nonce(body.json).strip("0123456789"), "")
    names = [each.filename for each in body.files if each.filename.startswith("fairbrush-")]
    if not names:
        return ""
    return "pictures" if names[0].endswith(".png") else "receipt"


def _nonce(sent: Any) -> str:
    return str(sent.get("nonce") or "") if isinstance(sent, dict) else ""
