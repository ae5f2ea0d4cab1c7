"""The served APIs over the real core: a running program with a test backend, a key, and a client.

async with house(tmp_path) as home:
    answer = await home.call("POST", "/v1/modelApi/submit/x", json=..., key="apiKey")
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from adapters.api.adapter import Api
from bot.app import REAL_CLOCK, App, build
from bot.core.ports import ApiKey, Store
from bot.core.settings import BackendEntry, Secret, Settings
from bot.core.studio import Studio
from tests.fakes.backend import FakeBackend
from tests.fakes.memory_store import MemoryStore

KEY = "fb_" + "k" * 43
OTHER_KEY = "fb_" + "o" * 43


@dataclass
class Answer:
    """What came back. data: its JSON, None where it is none."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    data: Any


@dataclass
class House:
    """A running program. key: what calls are made with where they do not say; header: where it goes."""

    app: App
    adapter: Api
    backend: FakeBackend
    store: Store
    client: ClientSession
    url: str
    key: str = KEY
    header: str = "apiKey"
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def studio(self) -> Studio:
        """What adapters call."""
        return self.app.studio

    async def call(self, method: str, path: str, *, key: str | None = None, **more: Any) -> Answer:
        """One request; key: another one, "" for none. A path may be a whole address."""
        key = self.key if key is None else key
        headers = {**({self.header: key} if key else {}), **more.pop("headers", {})}
        url = path if path.startswith("http") else self.url + path
        async with self.client.request(method, url, headers=headers, **more) as answer:
            body = await answer.read()
            is_json = answer.content_type in ("application/json", "application/problem+json")
            return Answer(answer.status, answer.headers, body, json.loads(body) if is_json and body else None)

    async def until(self, path: str, ready: Callable[[Answer], bool], *, key: str | None = None) -> Answer:
        """Ask until the answer is `ready`, as clients do."""
        async with asyncio.timeout(10):
            while not ready(answer := await self.call("GET", path, key=key)):
                assert answer.status != 500, answer.body
                await asyncio.sleep(0.005)
        return answer

    async def add_key(self, text: str, key_id: str, **more: Any) -> None:
        """Make another key valid."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        await self.store.add_key(ApiKey(key_id, f"key {key_id}", digest, time.time(), **more))


@asynccontextmanager
async def house(
    folder: Path,
    *,
    backend: FakeBackend | None = None,
    store: Store | None = None,
    adapter: Callable[[Settings], Api] = Api,
    header: str = "apiKey",
    **settings: Any,
) -> AsyncIterator[House]:
    """A running program in `folder` with the keys KEY and OTHER_KEY; settings as of Settings."""
    made = Settings(
        folder,
        port=0,
        backends=(BackendEntry("fake", ""),),
        secrets={"FAIRBRUSH_SECRET_KEY": Secret("a secret of the tests, 32 characters")},
        **settings,
    )
    api, store = adapter(made), store or MemoryStore()
    backend = backend or FakeBackend()
    app = build(made, adapters=[api], backends=[backend], clock=REAL_CLOCK, store=store)
    client = ClientSession()
    try:
        await app.start()
        home = House(app, api, backend, store, client, app.url, header=header)
        await home.add_key(KEY, "0123456789abcdef")
        await home.add_key(OTHER_KEY, "fedcba9876543210")
        await home.until("/readyz", lambda answer: answer.status == 200)
        yield home
    finally:
        await client.close()
        await app.aclose()
