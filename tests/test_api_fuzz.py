"""The served APIs under random data, made from their own description: right and wrong bodies, paths, queries
and headers against the real program. Nothing may break it, every answer is one that is described, and what is
wrong is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from adapters.api.openapi import document, operations
from bot.core.request import Limits
from tests.fakes.api import KEY, house
from tests.fakes.backend import FakeBackend

LIMITS: Final = Limits(max_side=128, max_count=2, max_steps=20, waiting_per_key=10**6, waiting_per_user=10**6)
HEADERS: Final = {"Authorization": f"Bearer {KEY}", "Salad-Api-Key": KEY, "apiKey": KEY}
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
LONGEST: Final = 8000  # characters of an address
SECONDS: Final = 20.0  # of one call: nothing may hang
CALLS: Final = [
    pytest.param(each.method, each.path, mode, id=f"{each.name}-{mode.value}")
    for each in operations(LIMITS)
    for mode in GenerationMode
    if each.parameters or each.body or mode is GenerationMode.POSITIVE  # nothing can be wrong about nothing
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the program, which runs on a loop of its own."""
    ready, stop, found = threading.Event(), asyncio.Event(), []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve(folder: Path) -> None:
        loops.append(asyncio.get_running_loop())
        async with house(
            folder, backend=FakeBackend(slots=4), limits=LIMITS, requests_per_second=1e6
        ) as home:
            found.append(home.url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(tmp_path_factory.mktemp("fuzz")),))
    thread.start()
    assert ready.wait(20)
    yield found[0]
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(20)
    assert not thread.is_alive()


def described(url: str) -> dict[str, Any]:
    """The document without keys, which are always sent: else a missing one would count as wrong data."""
    made: Any = document(LIMITS, url)
    for methods in made["paths"].values():
        for operation in methods.values():
            del operation["security"]
    return {**made, "components": {"schemas": made["components"]["schemas"]}}


def fuzz(url: str, method: str, path: str, mode: GenerationMode, examples: int) -> None:
    schema = schemathesis.openapi.from_dict(described(url))

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(mode))
    def try_all(case: Case[Any]) -> None:
        response = case.call(base_url=url, headers=HEADERS, timeout=SECONDS)
        if len(str(response.request.url)) < LONGEST:  # else the web server itself refuses, in its own words
            case.validate_response(response, checks=CHECKS)

    try_all()


@pytest.mark.parametrize(("method", "path", "mode"), CALLS)
def test_random_data_is_answered_as_described(url: str, method: str, path: str, mode: GenerationMode) -> None:
    fuzz(url, method, path, mode, 20 if method == "post" else 8)


@pytest.mark.soak
@pytest.mark.parametrize(("method", "path", "mode"), CALLS)
def test_much_random_data_is_answered_as_described(
    url: str, method: str, path: str, mode: GenerationMode
) -> None:
    fuzz(url, method, path, mode, 1000)
