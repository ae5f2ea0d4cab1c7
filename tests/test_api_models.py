"""GET /v1/models, with the real client and over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from bot.core.ports import Price
from tests.fakes.api import House, house
from tests.fakes.backend import FAKE_MODEL, FakeBackend

OTHER = replace(
    FAKE_MODEL,
    id="acme/flat-2",
    title="Flat 2",
    licence="Non-commercial",
    commercial=False,
    demo=False,
    advice="Short prompts do best.",
    price=Price(per_image=0.04),
)
ALIASES = {"stable-diffusion-2": "acme/flat-2", "sd2": "acme/flat-2"}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    backend = FakeBackend(models=(FAKE_MODEL, OTHER))
    async with house(tmp_path, backend=backend, aliases=ALIASES) as made:
        yield made


async def test_the_real_client_lists_models_the_default_first(home: House) -> None:
    async with openai.AsyncOpenAI(base_url=f"{home.url}/v1", api_key=home.key, max_retries=0) as client:
        found = [model async for model in client.models.list()]
    assert [(model.id, model.object, model.owned_by) for model in found] == [
        ("fake", "model", "fairbrush"),
        ("acme/flat-2", "model", "acme"),
    ]


@pytest.mark.parametrize("name", ["acme/flat-2", "stable-diffusion-2", "SD2"])
async def test_the_real_client_finds_one_by_its_id_or_an_alias(home: House, name: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{home.url}/v1", api_key=home.key, max_retries=0) as client:
        model = await client.models.retrieve(name)
    assert model.id == "acme/flat-2"


async def test_a_model_has_the_fields_of_its_card(home: House) -> None:
    first, second = (await home.asked("GET", "/v1/models", 200, headers=home.bearer))["data"]
    assert (first["default"], first["demo"], first["price"], first["aliases"]) == (True, True, None, [])
    assert second["default"] is False
    assert second["aliases"] == ["sd2", "stable-diffusion-2"]
    assert (second["licence"], second["commercial"]) == ("Non-commercial", False)
    assert second["price"] == {"per_image": 0.04, "per_megapixel": 0.0, "per_second": 0.0, "currency": "USD"}
    assert second["default_size"] == "64x64"
    assert second["schedulers"] == ["Euler", "Euler a"]
    assert "negative_prompt" in second["params"]
    assert second["backends"] == ["fake"]


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/models/", "/v1/images/edits", "/v1/images/%0a/x", "/v1/chat/completions"]
)
async def test_what_is_not_there_is_told_in_the_same_form(home: House, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await home.asked(method, path, 404, headers=home.bearer)
        assert answer["error"]["code"] == "not_found"


@pytest.mark.parametrize("name", ["nothing", "x%0ay", "..%2f..%2fetc", "https:%2f%2fexample.org%2fm", "%00"])
async def test_an_unknown_model_is_not_found(home: House, name: str) -> None:
    answer = await home.asked("GET", f"/v1/models/{name}", 404, headers=home.bearer)
    assert answer["error"]["code"] == "model_not_found"


async def test_models_are_for_keys_alone(home: House) -> None:
    for path in ("/v1/models", "/v1/models/fake"):
        assert (await home.asked("GET", path, 401))["error"]["code"] == "invalid_api_key"
