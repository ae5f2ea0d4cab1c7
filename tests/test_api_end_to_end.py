"""The served APIs with the model that comes with Fairbrush: clients as the documents of Stochastic and Salad
describe them, and our own backends for both services, pointed at our own server."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from PIL import Image

from bot.app import App, build, load_adapters, load_backends
from bot.core.request import Limits
from bot.core.settings import BackendEntry, Secret, Settings
from bot.keys import create_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = 20
PATIENCE = 120.0
COLOURS = {"red": (0, 255, 255), "green": (255, 0, 255), "blue": (255, 255, 0)}
"""Colours, and how much of each channel of theirs must be missing from a background of it, at most."""


@dataclass(frozen=True)
class Served:
    """A program that serves the APIs, and a key for it."""

    app: App
    key: str


@asynccontextmanager
async def serving(folder: Path, *backends: BackendEntry, **settings: Any) -> AsyncIterator[Served]:
    """The real program with the API alone, and these backends."""
    made = Settings(folder, port=0, backends=backends, limits=Limits(waiting_per_key=1000), **settings)
    key = await create_key(made, "tests")
    adapters = [adapter for adapter in load_adapters(made) if adapter.name == "api"]
    app = build(made, adapters=adapters, backends=load_backends(made))
    await app.start()
    try:
        yield Served(app, key)
    finally:
        await app.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The model that comes with Fairbrush, served."""
    async with serving(
        tmp_path_factory.mktemp("served"), BackendEntry("local", ""), threads=1, requests_per_second=1000
    ) as made:
        yield made


def prompt_of(colour: str) -> str:
    return f"a white circle on a {colour} background"


def background(data: bytes) -> tuple[int, int, int]:
    """The colour in the corner of a picture, which must be 128 pixels a side."""
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (128, 128)
        red, green, blue = picture.convert("RGB").resize((8, 8)).getpixel((0, 0))  # type: ignore[misc]
    return red, green, blue


def is_of(colour: str, data: bytes) -> bool:
    """Whether the background is what was asked for: its own channel is the strongest."""
    corner = background(data)
    return max(range(3), key=corner.__getitem__) == list(COLOURS).index(colour)


# --- clients as the documents describe them: submit, then poll until pictures appear ---


async def by_stochastic(client: ClientSession, url: str, key: str, colour: str, seed: int) -> bytes:
    """Stochastic's documented client."""
    headers = {"apiKey": key}
    params = {
        "img_height": 128,
        "img_width": 128,
        "num_inference_steps": 5,
        "guidance_scale": 7.5,
        "seed": seed,
    }
    body = {"prompt": prompt_of(colour), "params": params}
    submit = f"{url}/v1/modelApi/submit/stable-diffusion-2"
    async with client.post(submit, json=body, headers=headers, raise_for_status=True) as answer:
        data = (await answer.json())["data"]
    assert int(data["queuePosition"]) >= 0
    while not data.get("generatedImages"):
        await asyncio.sleep(0.1)
        async with client.get(data["responseUrl"], headers=headers, raise_for_status=True) as answer:
            data = {**data, **(await answer.json())["data"]}
    (image,) = data["generatedImages"]
    async with client.get(image["presigned_url"], raise_for_status=True) as answer:
        return await answer.read()


def inputs(colour: str, seed: int) -> dict[str, Any]:
    """What both of Salad's APIs take."""
    return {
        "modelInputs": {
            "prompt": prompt_of(colour),
            "num_inference_steps": 5,
            "guidance_scale": 7.5,
            "width": 128,
            "height": 128,
            "seed": seed,
        },
        "callInputs": {"PIPELINE": "StableDiffusionPipeline", "SCHEDULER": "EulerDiscreteScheduler"},
    }


async def by_salad_beta(client: ClientSession, url: str, key: str, colour: str, seed: int) -> bytes:
    """The client of Salad's beta."""
    headers = {"Salad-Api-Key": key}
    path = f"{url}/api/beta/organizations/acme/inference-endpoints/stable-diffusion-2-1"
    async with client.post(path, json=inputs(colour, seed), headers=headers) as answer:
        assert answer.status == 202
        job = await answer.json()
    status: Mapping[str, Any] = {"status": "pending"}
    while status["status"] == "pending":
        await asyncio.sleep(0.1)
        async with client.get(job["resultUrl"], headers=headers, raise_for_status=True) as answer:
            status = await answer.json()
    assert status["status"] == "success", status
    return base64.b64decode(status["modelOutputs"]["images"][0])


async def by_salad_jobs(client: ClientSession, url: str, key: str, colour: str, seed: int) -> bytes:
    """The client of Salad's current API."""
    headers = {"Salad-Api-Key": key}
    path = f"{url}/api/public/organizations/acme/inference-endpoints/stable-diffusion-2-1/jobs"
    async with client.post(path, json={"input": inputs(colour, seed)}, headers=headers) as answer:
        assert answer.status == 201
        job = await answer.json()
    while job["status"] in ("pending", "running"):
        await asyncio.sleep(0.1)
        async with client.get(f"{path}/{job['id']}", headers=headers, raise_for_status=True) as answer:
            job = await answer.json()
    assert job["status"] == "succeeded", job
    return base64.b64decode(job["output"]["images"][0])


async def by_openai(client: ClientSession, url: str, key: str, colour: str, seed: int) -> bytes:
    """OpenAI's form, with our own extra fields."""
    body = {"prompt": prompt_of(colour), "size": "128x128", "response_format": "b64_json"}
    extra = {"seed": seed, "steps": 5, "guidance_scale": 7.5}
    headers = {"Authorization": f"Bearer {key}"}
    async with client.post(
        f"{url}/v1/images/generations", json={**body, **extra}, headers=headers, raise_for_status=True
    ) as answer:
        return base64.b64decode((await answer.json())["data"][0]["b64_json"])


Ask = Callable[[ClientSession, str, str, str, int], Awaitable[bytes]]


async def crowd(served: Served, *ways: Ask) -> list[bytes]:
    """CLIENTS of these kinds at once; each must get the picture that it asked for."""
    colours = [list(COLOURS)[number % len(COLOURS)] for number in range(CLIENTS)]
    async with asyncio.timeout(PATIENCE), ClientSession() as client:
        pictures = await asyncio.gather(
            *(
                ways[number % len(ways)](client, served.app.url, served.key, colour, number)
                for number, colour in enumerate(colours)
            )
        )
    for colour, picture in zip(colours, pictures, strict=True):
        assert is_of(colour, picture), (colour, background(picture))
    return pictures


async def test_clients_as_documented_all_get_their_pictures(served: Served) -> None:
    pictures = await crowd(served, by_stochastic, by_salad_beta, by_salad_jobs, by_openai)
    assert len(set(pictures)) == CLIENTS


async def test_the_stochastic_backend_draws_on_our_own_server(served: Served, tmp_path: Path) -> None:
    async with serving(
        tmp_path,
        BackendEntry("stochastic", "stable-diffusion-2"),
        service_urls={"stochastic": served.app.url},
        secrets={"STOCHASTIC_API_KEY": Secret(served.key)},
    ) as front:
        await crowd(front, by_openai)


@pytest.mark.parametrize("api", ["jobs", "beta"])
async def test_the_salad_backend_draws_on_our_own_server(served: Served, tmp_path: Path, api: str) -> None:
    async with serving(
        tmp_path,
        BackendEntry("salad", "acme/stable-diffusion-2-1", {"api": api}),
        service_urls={"salad": served.app.url},
        secrets={"SALAD_API_KEY": Secret(served.key)},
    ) as front:
        await crowd(front, by_openai)


async def test_the_openai_backend_draws_on_our_own_server(served: Served, tmp_path: Path) -> None:
    async with serving(
        tmp_path,
        BackendEntry("openai", "anything", {"params": "seed+steps+guidance_scale", "size": "128x128"}),
        service_urls={"openai": served.app.url},
        secrets={"OPENAI_API_KEY": Secret(served.key)},
    ) as front:
        await crowd(front, by_openai)
