"""kill -9 of the real program while clients ask over its APIs: whatever was answered with an id is there when
it is back, under that id, and comes to its pictures once; what was not answered was never promised."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientError, ClientSession

from bot.core.settings import Settings
from bot.keys import create_key
from tests.fakes.program import Program

CLIENTS = 6
ENDPOINT = "/organizations/acme/inference-endpoints/x"
BETA, JOBS = f"/api/beta{ENDPOINT}", f"/api/public{ENDPOINT}/jobs"
INPUT = {"modelInputs": {"prompt": "a fox", "width": 64, "height": 64}}


@dataclass
class House:
    """A program that is killed. promised: the paths of what it has answered with an id."""

    program: Program
    key: str
    client: ClientSession
    url: str = ""
    promised: list[str] = field(default_factory=list)

    async def start(self) -> None:
        """Until it serves."""
        await self.program.start()
        self.url = await self.program.ready()

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """A request with the key, as every API wants it; the JSON of its answer, which must be no error."""
        headers = {"apiKey": self.key, "Salad-Api-Key": self.key, "Authorization": f"Bearer {self.key}"}
        headers |= more.pop("headers", {})
        async with self.client.request(method, self.url + path, headers=headers, **more) as answer:
            assert answer.status < 300, (answer.status, await answer.text())
            return await answer.json()

    async def ask(self, rng: random.Random) -> None:
        """One request over one of the APIs that answer with an id."""
        which = rng.randrange(3)
        if which == 0:
            body: dict[str, Any] = {
                "prompt": ["a fox", "a hat"],
                "params": {"img_width": 64, "img_height": 64},
            }
            told = await self.call("POST", "/v1/modelApi/submit/x", json=body)
            self.promised.append(urlsplit(told["data"]["responseUrl"]).path)
        elif which == 1:
            told = await self.call("POST", BETA, json=INPUT)
            self.promised.append(urlsplit(told["resultUrl"]).path)
        else:
            told = await self.call("POST", JOBS, json={"input": INPUT, "metadata": {"n": "7"}})
            self.promised.append(f"{JOBS}/{told['id']}")

    async def pictures(self, path: str) -> int:
        """Ask, as clients do, until there are pictures, or something else that is not waiting."""
        while True:
            told = await self.call("GET", path)
            if "data" in told:
                links = told["data"].get("generatedImages")
                if links:
                    return len({link["presigned_url"] for link in links})
            elif told["status"] not in ("pending", "running"):
                assert told["status"] in ("success", "succeeded"), told
                return len((told.get("modelOutputs") or told["output"])["images"])
            await asyncio.sleep(0.01)


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """A program of its own process, with a key, not started yet."""
    key = await create_key(Settings(folder), "tests")
    program = Program(("--data-dir", str(folder)), {"FAIRBRUSH_REQUESTS_PER_SECOND": "100000"})
    async with ClientSession() as client:
        try:
            yield House(program, key, client)
        finally:
            await program.kill()


async def kill_in_the_middle(home: House, rng: random.Random) -> None:
    """Clients that ask without a pause; the program is killed the moment that one of them is answered."""
    enough = asyncio.Event()
    wanted = len(home.promised) + rng.randint(1, 30)

    async def asking() -> None:
        try:
            while not enough.is_set():
                await home.ask(rng)
                if len(home.promised) >= wanted:
                    enough.set()
        except ClientError:  # killed before it answered
            return

    clients = [asyncio.ensure_future(asking()) for _ in range(CLIENTS)]
    await asyncio.wait_for(enough.wait(), 30)
    await home.program.kill()
    await asyncio.gather(*clients)


async def check(home: House) -> None:
    """Everything promised is there: two pictures of each request over Stochastic's, one of the others."""
    async with asyncio.timeout(60):
        made = await asyncio.gather(*(home.pictures(path) for path in home.promised))
    assert made == [2 if "modelApi" in path else 1 for path in home.promised]
    listed = await home.call("GET", f"{JOBS}?page_size=100")
    ids = [item["id"] for item in listed["items"]]
    assert len(ids) == len(set(ids))
    promised = {path.rpartition("/")[2] for path in home.promised if path.startswith(JOBS)}
    assert promised <= set(ids) or listed["total_size"] > 100


async def kills(folder: Path, seed: int, times: int) -> None:
    """So many kills, and a look at everything after each."""
    rng = random.Random(seed)
    async with house(folder) as home:
        await home.start()
        for _ in range(times):
            await kill_in_the_middle(home, rng)
            await home.start()
            await check(home)


async def test_what_was_answered_with_an_id_survives_kills(tmp_path: Path) -> None:
    await kills(tmp_path, 20_261_123, 3)


@pytest.mark.soak
async def test_what_was_answered_with_an_id_survives_many_kills(tmp_path: Path) -> None:
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        await kills(folder, seed, 5)


async def test_an_idempotency_key_finds_its_picture_after_a_kill(tmp_path: Path) -> None:
    """Whoever lost the answer asks again in the same words, and is given the very picture."""
    body = {"prompt": "a fox", "size": "64x64"}
    again = {"Idempotency-Key": "order-1"}
    async with house(tmp_path) as home:
        await home.start()
        first = await home.call("POST", "/v1/images/generations", json=body, headers=again)
        await home.program.kill()
        await home.start()
        second = await home.call("POST", "/v1/images/generations", json=body, headers=again)
    (one,), (other,) = first["data"], second["data"]
    assert base64.b64decode(one["b64_json"]) == base64.b64decode(other["b64_json"])
    assert one["seed"] == other["seed"]
