"""The fake keeps the contract too, so that tests built on it mean something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bot.core.errors import Unavailable
from bot.core.ports import Backend
from tests.backend_contract import BackendContract, collect, rejected
from tests.fakes.backend import FakeBackend


class TestFakeBackend(BackendContract):
    lacks = frozenset({"resume"})

    @pytest.fixture
    async def backend(self) -> AsyncIterator[Backend]:
        backend = FakeBackend()
        yield backend
        await backend.aclose()


async def test_a_hold_stops_jobs_until_it_is_released() -> None:
    backend = FakeBackend()
    hold = backend.hold("picture")
    ref = await backend.submit(BackendContract().make_request(), job_id="j")
    watching = asyncio.ensure_future(collect(backend.events(ref)))
    await hold.reached.wait()
    assert not watching.done()
    hold.release()
    assert await watching
    await backend.aclose()


async def test_a_failure_strikes_as_often_as_told() -> None:
    backend = FakeBackend()
    backend.fail(Unavailable("gone", accepted=False), at="submit")
    with pytest.raises(Unavailable):
        await backend.submit(BackendContract().make_request(), job_id="j")
    ref = await backend.submit(BackendContract().make_request(), job_id="j")
    assert await collect(backend.events(ref))
    await backend.aclose()


async def test_rejected_pictures_are_told_apart() -> None:
    backend = FakeBackend(reject={1})
    ref = await backend.submit(BackendContract().make_request(count=2), job_id="j")
    assert rejected(await collect(backend.events(ref))) == [1]
    await backend.aclose()
