"""The whole program with the served APIs on a real server, a fake backend and two API keys.

async with api_house(tmp_path) as home:
    async with home.client.post(path, headers=home.bearer, json=...) as answer: ...
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from adapters.api.adapter import Api
from bot.app import App, build
from bot.core.ports import ApiKey, Backend, Store
from bot.core.settings import BackendEntry, Settings
from bot.core.studio import Studio
from tests.fakes.backend import FakeBackend
from tests.fakes.memory_store import MemoryStore

KEY, OTHER_KEY = "fb_" + "k" * 43, "fb_" + "o" * 43


@dataclass
class ApiHouse:
    """A running program. bearer, salad, stochastic: headers with the key, as each API wants it."""

    app: App
    store: Store
    client: ClientSession
    key: str = KEY

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.app.url

    @property
    def studio(self) -> Studio:
        """The core."""
        return self.app.studio

    @property
    def bearer(self) -> Mapping[str, str]:
        """For OpenAI's format."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def salad(self) -> Mapping[str, str]:
        """For Salad's formats."""
        return {"Salad-Api-Key": self.key}

    @property
    def stochastic(self) -> Mapping[str, str]:
        """For Stochastic's format."""
        return {"apiKey": self.key}

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)

    async def asked(self, method: str, path: str, status: int, **more: Any) -> Any:
        """What a request is answered with, which must have this status, as JSON."""
        async with self.client.request(method, path, **more) as answer:
            assert answer.status == status, (answer.status, await answer.text())
            return await answer.json()


@asynccontextmanager
async def api_house(
    folder: Path,
    *,
    backends: Sequence[Backend] | None = None,
    store: Store | None = None,
    **settings: Any,
) -> AsyncIterator[ApiHouse]:
    """A running program in `folder`, in real time; settings as of Settings."""
    store = MemoryStore() if store is None else store
    made = Settings(data_dir=folder, port=0, backends=(BackendEntry("fake", ""),), **settings)
    app = build(
        made, adapters=[Api(made)], backends=[FakeBackend()] if backends is None else backends, store=store
    )
    try:
        await app.start()
        for name, text in (("tests", KEY), ("others", OTHER_KEY)):
            await store.add_key(ApiKey(f"id-{name}", name, hashlib.sha256(text.encode()).hexdigest(), 0.0))
        async with ClientSession(app.url) as client:
            yield ApiHouse(app, store, client)
    finally:
        await app.aclose()
