"""The one web server: every adapter's routes, linked pictures, and whether the program is alive and ready."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from bot.core.errors import ConfigurationError, FairbrushError, Forbidden, NotFound
from bot.core.pictures import is_picture_name
from bot.core.request import JSON, Picture

BACKLOG = 1024  # connections that wait to be taken; one too many waits a second for its next try
KEEP_ALIVE = 75.0  # seconds that a connection is kept for a request, the first one's headers included
UNREAD = (
    60.0  # seconds that a client may take nothing of what it is sent: it would be held in memory for ever
)
LINGER = 1.0  # seconds in which the rest of a refused body is read, so that the refusal arrives
MAX_BODY = 24 * 1024 * 1024  # the largest picture that may come in, and what surrounds it

LINKED_FOR = 3600  # seconds that a browser may keep a linked picture: it can be deleted meanwhile
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
"""Headers of what people open from a chat: it runs nothing, and its address, which is a key, goes nowhere."""

Readiness = Callable[[], tuple[bool, Mapping[str, JSON]]]


class Server:
    """Serves until closed. `url` is known once start() returned."""

    def __init__(self, host: str, port: int, routes: Iterable[object], readiness: Readiness) -> None:
        self._host = host
        self._port = port
        self._readiness = readiness
        self._app = web.Application(client_max_size=MAX_BODY)
        self._app.add_routes([web.get("/livez", self._livez), web.get("/readyz", self._readyz)])
        self._app.add_routes(routes)  # type: ignore[arg-type]  # the port names no web framework
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen. Raises ConfigurationError where the address is taken or not ours."""
        runner = web.AppRunner(
            self._app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=2.0,
            lingering_time=LINGER,
            logger=_ServerLog(server_logger, {}),
            keepalive_timeout=KEEP_ALIVE,
        )
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigurationError(
                f"Cannot listen on {self._host}:{self._port}: {error.strerror}. Choose another with --port."
            ) from None
        _give_up_on_who_reads_nothing(site)
        self._runner = runner
        self.url = f"http://{_authority(self._host, _bound_port(site))}"

    async def aclose(self) -> None:
        """Stop listening and end open requests; idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        ready, body = self._readiness()
        return web.Response(
            text=json.dumps(body) + "\n", status=200 if ready else 503, content_type="application/json"
        )


class _ServerLog(logging.LoggerAdapter[logging.Logger]):
    """The web server's log, in which neither a damaged request of somebody's nor a client that goes away is
    an error of ours: a line without what was sent, where a key may stand, and none of the stack."""

    def exception(self, msg: object, *args: object, exc_info: object = True, **more: Any) -> None:
        """Log an error while a request was handled."""
        if isinstance(exc_info, HttpProcessingError):
            self.info("A damaged request (%s) from %s", type(exc_info).__name__, *args)
        elif isinstance(exc_info, ConnectionError):
            self.info("The connection from %s ended before its request did", *args)
        else:
            super().exception(msg, *args, exc_info=exc_info, **more)  # type: ignore[arg-type]


def linked_pictures(linked: Callable[[str, str, str], Awaitable[Picture]]) -> web.RouteDef:
    """GET /pictures/NAME?expires=&signature= for whoever holds a link.

    linked: the picture of a name, an expiry and a signature; raises Forbidden or NotFound.
    """

    async def serve(request: web.Request) -> web.StreamResponse:
        name, query = request.match_info["name"], request.query
        try:
            if not is_picture_name(name):
                raise NotFound("There is no such picture.")
            picture = await linked(name, query.get("expires", ""), query.get("signature", ""))
            if not await asyncio.to_thread(picture.path.is_file):
                raise NotFound("This picture was deleted.")
        except FairbrushError as error:
            status = 403 if isinstance(error, Forbidden) else 404 if isinstance(error, NotFound) else 503
            return web.Response(
                text=f"{error.message}\n", status=status, headers=SAFE | {"Cache-Control": "no-store"}
            )
        headers = SAFE | {
            "Content-Type": picture.mime,
            "Content-Disposition": f'inline; filename="fairbrush-{picture.seed}{picture.path.suffix}"',
            "Cache-Control": f"private, max-age={LINKED_FOR}",
        }
        return web.FileResponse(picture.path, headers=headers)

    return web.get("/pictures/{name}", serve)


def _bound_port(site: web.TCPSite) -> int:
    return int(_sockets(site)[0].getsockname()[1])


def _give_up_on_who_reads_nothing(site: web.TCPSite) -> None:
    """Connections have it from the socket that they came by; where the system has no such thing they stay."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for listening in _sockets(site):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD * 1000))


def _sockets(site: web.TCPSite) -> Sequence[socket.socket]:
    server = site._server  # aiohttp has no public way to ask for the port that was chosen
    return list(getattr(server, "sockets", []))


def _authority(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host  # noqa: S104 - shown, not bound
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
