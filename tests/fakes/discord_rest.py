"""The HTTP side of the local Discord: one server, its routes, what went over it.

A request is read, let through or spoiled by trouble, applied by a handler, checked against Discord's OpenAPI
file where that is at hand, and recorded. The handlers are in discord_channels.py and discord_hooks.py.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from aiohttp import BodyPartReader, web

from tests.fakes.discord_bodies import Body, Upload
from tests.fakes.discord_errors import Refused
from tests.fakes.discord_spec import Spec
from tests.fakes.discord_state import Json, World
from tests.fakes.discord_trouble import Spoiled, Trouble, Troubles, too_many

API = "/api/v10"
OPEN = ("/webhooks/", "/interactions/")  # routes whose token is in the path
HTML = "<html><body><h1>Bad gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Call:
    """A request as handlers see it. ids: the parts of the path; query: its parameters."""

    world: World
    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: Body


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers; body None: no content."""

    status: int = 204
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler: TypeAlias = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, as recorded. at: the world's time; took: real seconds; files: names and
    sizes; spoiled: trouble was made; operation: "PATCH /channels/{channel_id}"."""

    at: float
    took: float
    method: str
    path: str
    operation: str
    status: int
    sent: Any
    files: tuple[tuple[str, int], ...]
    answer: Any
    spoiled: bool


@dataclass
class Rest:
    """Serves a world. token: the bot's; violations: what broke the OpenAPI file; keep: whether `traffic` is
    recorded; sink: called with each exchange."""

    world: World
    token: str
    troubles: Troubles = field(default_factory=Troubles)
    spec: Spec | None = None
    keep: bool = True
    traffic: list[Exchange] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    sink: Callable[[Exchange], None] | None = None
    in_flight: int = 0

    def add(self, app: web.Application, routes: Mapping[str, Handler]) -> None:
        """Serve these handlers, by operation."""
        for operation, handler in routes.items():
            method, _, path = operation.partition(" ")
            app.router.add_route(method, API + path, self._serving(operation, handler))

    def _serving(self, operation: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            began = time.monotonic()
            self.in_flight += 1
            try:
                body = await _read(request)
                return await self._answer(request, operation, handler, body, began)
            finally:
                self.in_flight -= 1

        return serve

    async def _answer(
        self, request: web.Request, operation: str, handler: Handler, body: Body, began: float
    ) -> web.Response:
        path = request.path.removeprefix(API)
        asked = f"{request.method} {path}"
        before = self.troubles.find(asked, applied=False)
        spoiled = await self._suffer(request, before)
        paced = self.troubles.paced(asked, _major(request.match_info), time.monotonic())
        if spoiled is None and paced.wait > 0:
            limited = too_many(paced.wait, everywhere=paced.everywhere)
            spoiled = replace(limited, headers=limited.headers | paced.headers)
        if spoiled is not None:
            return self._spoil(request, operation, body, spoiled, began)
        answer = self._applied(request, path, operation, handler, body)
        after = self.troubles.find(asked, applied=True) if answer.status < 300 else None
        lost = await self._suffer(request, after)
        if lost is not None:
            return self._spoil(request, operation, body, lost, began)
        self._record(request, operation, body, answer, began)
        if self.spec is not None:
            self.violations += self.wrongs(self.spec, operation, body.json, answer)
        return _response(answer, answer.headers or paced.headers)

    def _applied(
        self, request: web.Request, path: str, operation: str, handler: Handler, body: Body
    ) -> Answer:
        try:
            if not path.startswith(OPEN) and request.headers.get("Authorization") != f"Bot {self.token}":
                raise Refused(0)
            answer = handler(Call(self.world, request.match_info, request.query, body))
        except Refused as error:
            via = {"Via": "1.1 local"} if error.status == 429 else {}
            answer = Answer(error.status, error.body(), via)
        except Exception as error:  # a malformed request, or a mistake here: a client's retries would hide it
            answer = Answer(400, {"message": "Invalid Form Body", "code": 50035, "errors": {}})
            where = traceback.extract_tb(error.__traceback__)[-1]
            wrong = self.spec.request(operation, body.json) if self.spec is not None else None
            self.violations.append(wrong or f"{operation}: {error!r} at {where.filename}:{where.lineno}")
        self.world.changes.tell()
        return answer

    async def _suffer(self, request: web.Request, trouble: Trouble | None) -> Spoiled | None:
        if trouble is None:
            return None
        self.world.changes.tell()
        if trouble.gate is not None:
            await trouble.gate.wait()
        if trouble.cut:
            assert request.transport is not None
            request.transport.close()
            return Spoiled(499, None)
        return trouble.answer

    def _spoil(
        self, request: web.Request, operation: str, body: Body, spoiled: Spoiled, began: float
    ) -> web.Response:
        self._record(request, operation, body, Answer(spoiled.status, spoiled.body), began, spoiled=True)
        if spoiled.body is None:
            return web.Response(status=spoiled.status, text=HTML, content_type="text/html")
        return _response(Answer(spoiled.status, spoiled.body), spoiled.headers)

    def _record(
        self,
        request: web.Request,
        operation: str,
        body: Body,
        answer: Answer,
        began: float,
        *,
        spoiled: bool = False,
    ) -> None:
        made = Exchange(
            self.world.now(),
            time.monotonic() - began,
            request.method,
            request.path.removeprefix(API),
            operation,
            answer.status,
            body.json,
            tuple((each.filename, len(each.data)) for each in body.files),
            answer.body,
            spoiled,
        )
        if self.keep:
            self.traffic.append(made)
        if self.sink is not None:
            self.sink(made)
        self.world.changes.tell()

    def wrongs(self, spec: Spec, operation: str, sent: Any, answer: Answer) -> list[str]:
        """What is wrong with a request and its answer; a body that was refused as wrong is no matter."""
        if not spec.knows(operation) or answer.status >= 500:
            return []
        found = [spec.answer(operation, answer.status, answer.body)]
        if answer.status != 400:
            found.append(spec.request(operation, sent))
        return [each for each in found if each is not None]


def _major(ids: Mapping[str, str]) -> str:
    """Which channel, webhook or guild a rate limit counts for."""
    return ids.get("channel_id") or ids.get("webhook_token") or ids.get("guild_id") or ""


def _response(answer: Answer, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON whose Content-Type has no charset, as Discord's."""
    given = {
        "X-RateLimit-Limit": "100000",
        "X-RateLimit-Remaining": "99999",
        "X-RateLimit-Reset": f"{time.time() + 1:.3f}",
        "X-RateLimit-Reset-After": "0.001",
    } | dict(headers or {})
    if answer.body is None:
        return web.Response(status=answer.status, headers=given)
    data = json.dumps(answer.body).encode()
    return web.Response(status=answer.status, body=data, headers=given | {"Content-Type": "application/json"})


async def _read(request: web.Request) -> Body:
    if not request.content_type.startswith("multipart/"):
        raw = await request.read()
        return Body(json.loads(raw) if raw else None)
    sent: Json = {}
    files: list[Upload] = []
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        assert part.name is not None
        if part.name == "payload_json":
            sent = json.loads(await part.read(decode=True))
        elif part.name.startswith("files["):
            data = bytes(await part.read(decode=True))
            files.append(Upload(int(part.name[6:-1]), part.filename or "file", data))
    return Body(sent, files)
