"""The one web server: every adapter's routes, and whether the program is alive and ready."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping

from aiohttp import web

from bot.core.errors import ConfigurationError
from bot.core.request import JSON

MAX_BODY = 24 * 1024 * 1024  # the largest picture that may come in, and what surrounds it

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
        runner = web.AppRunner(self._app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigurationError(
                f"Cannot listen on {self._host}:{self._port}: {error.strerror}. Choose another with --port."
            ) from None
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


def _bound_port(site: web.TCPSite) -> int:
    server = site._server  # aiohttp has no public way to ask for the port that was chosen
    sockets: list[socket.socket] = list(getattr(server, "sockets", []))
    return int(sockets[0].getsockname()[1])


def _authority(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host  # noqa: S104 - shown, not bound
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
