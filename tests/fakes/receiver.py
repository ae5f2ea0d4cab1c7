"""A receiver of webhooks: a server that speaks TLS with a certificate of its own, under the name HOST.

async with receiver() as hooks:
    reach = hooks.reach()            # leads its name to it, and trusts it
    call = await hooks.next()
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web

from adapters.api.webhooks import Reach
from bot.core.addresses import IPAddress
from tests.fakes.tls import Names, contexts

HOST = "hooks.example"


@dataclass(frozen=True)
class Call:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """tls: trusts it; resolver: leads to it; answers: to the next calls, (status, headers); then 204."""

    tls: ssl.SSLContext
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    answers: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    resolver: Names = field(default_factory=lambda: Names({HOST: [["127.0.0.1"]]}))
    _unread: asyncio.Queue[Call] = field(default_factory=asyncio.Queue)

    @property
    def url(self) -> str:
        """Where it is called."""
        return f"https://{HOST}:{self.port}/done?x=1"

    def reach(self, public: Callable[[IPAddress], bool] = lambda address: True) -> Reach:
        """What makes webhooks reach it."""
        return Reach(resolver=lambda: self.resolver, tls=self.tls, public=public)

    async def next(self) -> Call:
        """The next call."""
        return await asyncio.wait_for(self._unread.get(), 10)

    async def take(self, request: web.Request) -> web.Response:
        """Note a call."""
        call = Call(request.path_qs, dict(request.headers), await request.read())
        self.calls.append(call)
        self._unread.put_nowait(call)
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A running one."""
    with TemporaryDirectory() as folder:
        server, client = contexts(Path(folder), HOST)
    made = Receiver(client)
    app = web.Application(client_max_size=2**27)
    app.router.add_route("*", "/{rest:.*}", made.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()
