"""What every route of the APIs shares: its key, its errors in its own form, its answers to other methods.

A group of routes is a function `routes(context) -> list[RouteDef]`; adapter.py lists the groups.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from adapters._incoming import Problem
from adapters.api.door import Door, Visit
from adapters.api.ids import Ids
from adapters.api.recent import Recent
from adapters.api.salad_outputs import Outputs
from bot.core.errors import FairbrushError
from bot.core.request import JSON
from bot.core.settings import Secret, Settings

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Visited: TypeAlias = Callable[[web.Request, Visit], Awaitable[web.StreamResponse]]

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_HEADERS: Final = CIMultiDict(HEADERS)
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
USUAL_WAIT: Final = 10  # seconds, for a Retry-After where nothing better is known


class Form(Protocol):
    """How one API is spoken."""

    name: str

    def key_in(self, request: web.Request) -> str:
        """The key that a request carries; empty where there is none."""
        ...

    def refusal(self, request: web.Request, problem: Problem | FairbrushError) -> web.Response:
        """The answer to what went wrong; Retry-After and the like are added to it."""
        ...


class Context:
    """What a group of routes is given. recent: what ended of late; outputs: reads pictures, few at a
    time over polls and webhooks alike; secret, ids: of the
    running program, set when it starts."""

    def __init__(self, settings: Settings, door: Door) -> None:
        self.settings = settings
        self.door = door
        self.recent = Recent()
        self.outputs = Outputs()
        self.sign_with(Secret(""))

    def sign_with(self, secret: Secret) -> None:
        """From now on ids and webhooks are signed with the program's secret."""
        self.secret = secret
        self.ids = Ids(secret)

    def resource(self, path: str, form: Form, **methods: Visited) -> list[web.RouteDef]:
        """All routes of a path: the handlers by method (get=, post=, delete=), each with a known key; HEAD
        where there is GET; OPTIONS says what there is, and any other method is refused."""
        head = {"HEAD"} if "get" in methods else set()
        allowed = sorted({name.upper() for name in methods} | head | {"OPTIONS"})
        routes = [
            web.route(method.upper(), path, self._guarded(form, self._visited(form, handler)))
            for method, handler in methods.items()
        ]
        routes.append(web.route("*", path, self._guarded(form, _other(allowed))))
        return routes

    def open(self, path: str, form: Form, get: Handler) -> list[web.RouteDef]:
        """As resource(), for what needs no key and is only read."""
        allowed = ["GET", "HEAD", "OPTIONS"]
        return [
            web.get(path, self._guarded(form, get)),
            web.route("*", path, self._guarded(form, _other(allowed))),
        ]

    def nothing_else(self, path: str, form: Form) -> list[web.RouteDef]:
        """What is not there below a path ("/v1/modelApi"), with a key as without: 404."""

        async def missing(request: web.Request) -> web.StreamResponse:
            raise Problem(404, "There is nothing at this address.")

        return [web.route("*", f"{path}{{rest:(?s:/.*)?}}", self._guarded(form, missing))]

    def base_of(self, request: web.Request) -> str:
        """The address that a client reaches us at: FAIRBRUSH_PUBLIC_URL, else what it says itself, which is
        told to nobody but itself. Problem 400 where it says nothing sensible."""
        if self.settings.public_url:
            return self.settings.public_url.rstrip("/")
        if not _HOST.fullmatch(request.host):
            raise Problem(400, "The Host header is not a host name with a port.", field="Host")
        return f"{request.scheme}://{request.host}"

    def _visited(self, form: Form, handler: Visited) -> Handler:
        async def visited(request: web.Request) -> web.StreamResponse:
            return await handler(request, await self.door.visit(request, form.key_in(request)))

        return visited

    def _guarded(self, form: Form, handler: Handler) -> Handler:
        """Every error in the API's own form."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except (Problem, FairbrushError) as problem:
                return _refused(form, request, problem)
            except (HttpProcessingError, ClientPayloadError, web.RequestPayloadError):
                return _refused(form, request, Problem(400, "The body is damaged."))
            except web.HTTPException as error:
                return _refused(form, request, Problem(error.status, error.reason))
            except ConnectionError:
                raise
            except Exception:  # a bug: the client is told so in its own language, the log has the rest
                reference = secrets.token_hex(4)
                log.exception("%s: %s %s failed, ref %s", form.name, request.method, request.path, reference)
                return _refused(form, request, Problem(500, f"Something broke here (ref {reference})."))

        return guarded


class _OtherMethod(Problem):
    """405; allowed: what is possible."""

    def __init__(self, status: int, message: str, *, allowed: str) -> None:
        super().__init__(status, message)
        self.allowed = allowed


def _other(allowed: list[str]) -> Handler:
    names = ", ".join(allowed)

    async def other(request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":  # no CORS: a key belongs to programs, not to other sites' pages
            return web.Response(status=204, headers={"Allow": names})
        raise _OtherMethod(405, f"{request.method[:20]} is not possible here: only {names}.", allowed=names)

    return other


def _refused(form: Form, request: web.Request, problem: Problem | FairbrushError) -> web.Response:
    response = form.refusal(request, problem)
    response.headers.update(HEADERS)
    if isinstance(problem, _OtherMethod):
        response.headers["Allow"] = problem.allowed
    wait = problem.retry_after
    if wait is None and response.status in (429, 503):
        wait = USUAL_WAIT
    if wait is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(wait)))
    if response.status in (408, 413):
        response.force_close()  # the rest of the body is not worth reading
    return response


def json_response(data: JSON, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    """JSON that no cache keeps, in plain ASCII."""
    headers = _HEADERS.copy()
    headers["Content-Type"] = content_type
    return web.Response(body=_ENCODER.encode(data).encode("ascii"), status=status, headers=headers)
