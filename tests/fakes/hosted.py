"""What local hosted services have in common: an aiohttp server on 127.0.0.1 that can be told to misbehave.

A fake inherits HostedFake, adds its routes in routes(), and asks `await self.spoil(request, "submit")` and
`"poll"` first in its handlers, `self.draw(...)` for pictures and `self.link(name)` for links to them.
Troubles that its format cannot have are in `cannot`, and their tests are left out.

    fake.trouble("submit:429", times=2)     # the next two POSTs
    fake.hold(); ...; fake.release()        # jobs stay unfinished in between
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import Counter
from collections.abc import Sequence

from aiohttp import web

from tests.fakes.backend import flat_png

STACK = 'Traceback (most recent call last):\n  File "/srv/app/model.py", line 7, in run\nRuntimeError: boom'
PAGE = "<!doctype html><html><body><h1>502 Bad Gateway</h1><script>alert(1)</script></body></html>"
RETRY_AFTER = 7
CANARY = "canary-4f1c9b77d2"
TROUBLES = frozenset(
    {
        *(
            f"submit:{what}"
            for what in ("401", "402", "429", "503", "500", "html", "truncated", "drop", "page")
        ),
        *(f"poll:{what}" for what in ("404", "429", "500", "html", "truncated", "drop")),
        *(f"picture:{what}" for what in ("svg", "html", "truncated", "huge", "size", "oversized")),
        *(f"link:{what}" for what in ("expired", "http", "inward", "redirect")),
        *(f"job:{what}" for what in ("failed", "lost")),
        "cancel:late",
    }
)


class HostedFake:
    """See the module. attempts: POSTs that would hand in a job; taken: jobs that were made of them; inward:
    requests at the address that nobody may be lured to; wrong: what a client did that it must not do."""

    cannot: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.secret = CANARY
        self.attempts = 0
        self.taken = 0
        self.inward = 0
        self.wrong: list[str] = []
        self.files: dict[str, bytes] = {}
        self.url = ""
        self._troubles: Counter[str] = Counter()
        self._held = False
        self._runner: web.AppRunner | None = None

    # --- for tests ----------------------------------------------------------------------------------------

    def trouble(self, what: str, times: int = 1) -> None:
        """Misbehave in this way, so many times."""
        assert what in TROUBLES, what
        self._troubles[what] += times

    def hold(self) -> None:
        """Jobs do not end until release()."""
        self._held = True

    def release(self) -> None:
        """Jobs may end."""
        self._held = False

    @property
    def held(self) -> bool:
        """Whether jobs must not end yet."""
        return self._held

    async def start(self) -> None:
        """Listen; `url` is then known."""
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes(
            [*self.routes(), web.get("/files/{name}", self._file), web.get("/inward", self._inward)]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening, as a service that is down; idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    # --- for the fakes ------------------------------------------------------------------------------------

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The service's own."""
        raise NotImplementedError

    def due(self, what: str) -> bool:
        """Whether this trouble is to happen now; each call uses one up."""
        if self._troubles[what] <= 0:
            return False
        self._troubles[what] -= 1
        return True

    async def spoil(self, request: web.Request, stage: str) -> web.StreamResponse | None:
        """A spoilt answer of "submit" or "poll", where one is due."""
        if stage == "submit":
            self.attempts += 1
        for what in ("401", "402", "404", "429", "500", "503"):
            if self.due(f"{stage}:{what}"):
                headers = {"Retry-After": str(RETRY_AFTER)} if what in ("429", "503") else {}
                return web.json_response({"error": STACK}, status=int(what), headers=headers)
        if self.due(f"{stage}:html"):
            return web.Response(text=PAGE, content_type="text/html")
        if self.due(f"{stage}:page"):
            return web.Response(status=400, text=PAGE, content_type="text/html")
        if self.due(f"{stage}:truncated"):
            return web.Response(text='{"data": {"id": "6', content_type="application/json")
        if self.due(f"{stage}:drop"):
            await request.read()
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return None

    def draw(self, width: int, height: int, seed: int) -> bytes:
        """A picture in one colour, or what is due instead of it."""
        if self.due("picture:svg"):
            return b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
        if self.due("picture:html"):
            return PAGE.encode()
        if self.due("picture:size"):
            width, height = width + 64, height + 128
        data = flat_png(width, height, seed)
        if self.due("picture:truncated"):
            return data[:-20]
        if self.due("picture:huge"):
            body = b"IHDR" + struct.pack(">II", 50_000, 50_000) + data[24:29]
            return data[:12] + body + struct.pack(">I", zlib.crc32(body)) + data[33:]
        if self.due("picture:oversized"):
            return data + bytes(21 * 2**20)
        return data

    def link(self, name: str, data: bytes) -> str:
        """A link to a picture, or the hostile one that is due."""
        self.files[name] = data
        if self.due("link:http"):
            return f"{self.url.replace('127.0.0.1', 'localhost')}/inward"
        if self.due("link:inward"):
            return f"{self.url.replace('http:', 'https:')}/inward"
        return f"{self.url}/files/{name}"

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if self.due("link:expired"):
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        if self.due("link:redirect"):
            raise web.HTTPFound(f"{self.url.replace('127.0.0.1', 'localhost')}/inward")
        data = self.files.get(request.match_info["name"])
        if data is None:
            raise web.HTTPNotFound()
        return web.Response(body=data, content_type="application/octet-stream")

    async def _inward(self, request: web.Request) -> web.StreamResponse:
        self.inward += 1
        return web.Response(body=flat_png(8, 8, 1), content_type="image/png")


async def until_true(condition: asyncio.Event) -> None:
    """Wait for something that a fake was made to do."""
    async with asyncio.timeout(10):
        await condition.wait()
