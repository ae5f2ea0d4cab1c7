"""The Playground on a real server, and a page that reads it, for tests of the web adapter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, CookieJar, web

from adapters.web.playground import Playground
from bot.core.settings import Settings
from tests.fakes.studio import FakeStudio

API = "/playground/api"
EVENT = "0123456789abcdef"


@dataclass
class House:
    """A server with the Playground on it. client: a browser that has opened the page."""

    url: str
    adapter: Playground
    studio: FakeStudio
    client: ClientSession
    running: asyncio.Task[None] | None
    browsers: list[ClientSession] = field(default_factory=list)

    async def browser(self) -> ClientSession:
        """Another browser, with the page open."""
        client = ClientSession(self.url, cookie_jar=CookieJar(unsafe=True), headers={"Origin": self.url})
        self.browsers.append(client)
        async with client.get("/") as page:
            assert page.status == 200
        return client

    async def submit(self, text: str = "a red fox", client: ClientSession | None = None, **more: Any) -> str:
        """Queue a request; its id."""
        body = {"event": f"{EVENT}{len(self.studio.submissions)}", "text": text, **more}
        async with (client or self.client).post(f"{API}/jobs", json=body) as answer:
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["id"])

    async def get(self, path: str) -> Any:
        """What a path answers, which must be 200, as JSON."""
        async with self.client.get(path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def refused(self, method: str, path: str, status: int, **more: Any) -> dict[str, Any]:
        """The error that a request is answered with, which must have this status and the common form."""
        async with self.client.request(method, path, **more) as answer:
            assert answer.status == status, await answer.text()
            error: dict[str, Any] = (await answer.json())["error"]
            assert set(error) == {"message", "field"}
            return error


@asynccontextmanager
async def house(tmp_path: Path, *, open_now: bool = True, **settings: Any) -> AsyncIterator[House]:
    """Serve the Playground; open_now: whether the core is ready from the start."""
    adapter = Playground(Settings(tmp_path, **settings))
    studio = FakeStudio(Settings(tmp_path, **settings), adapter)
    app = web.Application(client_max_size=2**30)
    app.add_routes(adapter.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = ClientSession(url, cookie_jar=CookieJar(unsafe=True), headers={"Origin": url})
    made = House(url, adapter, studio, client, None)
    made.browsers.append(client)
    if open_now:
        made.running = asyncio.ensure_future(adapter.run(studio.as_studio()))
        await asyncio.sleep(0)
    try:
        async with client.get("/") as page:
            assert page.status in (200, 403)
        yield made
    finally:
        if made.running is not None:
            made.running.cancel()
            await asyncio.gather(made.running, return_exceptions=True)
        for browser in made.browsers:
            await browser.close()
        await runner.cleanup()


class Page:
    """What an open page knows, told by the server's events alone: requests by id, merged as app.js does."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events = 0
        self._changed = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._hello = asyncio.Event()
        self.ended = False

    async def open(self, client: ClientSession) -> Page:
        """Follow the events from now on."""
        self._reading = asyncio.ensure_future(self._read(client))
        async with asyncio.timeout(5):
            await self._hello.wait()
        return self

    async def close(self) -> None:
        """Leave."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what the page knows meets a condition."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(condition)

    async def _read(self, client: ClientSession) -> None:
        name = ""
        async with client.get(f"{API}/events") as answer:
            assert answer.status == 200
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    await self._hear(name, json.loads(line.removeprefix("data: ")))
        async with self._changed:
            self.ended = True
            self._changed.notify_all()

    async def _hear(self, name: str, data: dict[str, Any]) -> None:
        if name == "hello":
            self._hello.set()
            return
        async with self._changed:
            self.events += 1
            self.jobs.setdefault(data["id"], {}).update(data)
            self._changed.notify_all()
