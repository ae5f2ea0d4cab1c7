"""The served APIs over the real core: a running program with a test backend, a key, and a client.

async with house(tmp_path) as home:
    answer = await home.call("POST", "/v1/modelApi/submit/x", json=...)
    data = await home.asked("GET", "/v1/models", 200, headers=home.bearer)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
    key: str = KEY
    header: str = "apiKey"

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.app.url

    @property
    def bearer(self) -> Mapping[str, str]:
        """The key's header for OpenAI's format."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def salad(self) -> Mapping[str, str]:
        """The key's header for Salad's formats."""
        return {"Salad-Api-Key": self.key}

    @property
    def stochastic(self) -> Mapping[str, str]:
        """The key's header for Stochastic's format."""
        return {"apiKey": self.key}

    @property
    def studio(self) -> Studio:
        """What adapters call."""
        return self.app.studio

    async def call(self, method: str, path: str, *, key: str | None = None, **more: Any) -> Answer:
        """One request; key: another one, "" for none. A path may be a whole address."""
        key = self.key if key is None else key
        headers = {**({self.header: key} if key else {}), **more.pop("headers", {})}
        async with self.client.request(method, path, headers=headers, **more) as answer:
            body = await answer.read()
            is_json = answer.content_type in ("application/json", "application/problem+json")
            return Answer(answer.status, answer.headers, body, json.loads(body) if is_json and body else None)

    async def asked(self, method: str, path: str, status: int, **more: Any) -> Any:
        """What a request is answered with, which must have this status, as JSON; no key unless given."""
        async with self.client.request(method, path, **more) as answer:
            assert answer.status == status, (answer.status, await answer.text())
            return await answer.json()

    async def when(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)

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
    secrets: Mapping[str, Secret] | None = None,
    **settings: Any,
) -> AsyncIterator[House]:
    """A running program in `folder` with the keys KEY and OTHER_KEY; settings as of Settings."""
    made = Settings(
        folder,
        port=0,
        backends=(BackendEntry("fake", ""),),
        secrets={"FAIRBRUSH_SECRET_KEY": Secret("a secret of the tests, 32 characters"), **(secrets or {})},
        **settings,
    )
    api, store = adapter(made), store or MemoryStore()
    backend = backend or FakeBackend()
    app = build(made, adapters=[api], backends=[backend], clock=REAL_CLOCK, store=store)
    try:
        await app.start()
        async with ClientSession(app.url) as client:
            home = House(app, api, backend, store, client, header=header)
            await home.add_key(KEY, "0123456789abcdef")
            await home.add_key(OTHER_KEY, "fedcba9876543210")
            await home.until("/v1/models", lambda answer: answer.status != 503)  # its door is open
            yield home
    finally:
        await app.aclose()
