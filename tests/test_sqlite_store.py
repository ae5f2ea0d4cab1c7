from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.core.ports import Store
from bot.store.sqlite import open_store
from tests.fakes.memory_store import MemoryStore
from tests.store_contract import Reopen, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()

    @pytest.fixture
    def reopen(self, store: MemoryStore) -> Reopen:
        async def again() -> Store:
            await store.aclose()
            return MemoryStore(store.data)

        return again


class TestSqliteStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await open_store(tmp_path / "data" / "fairbrush.db")
        yield store
        await store.aclose()

    @pytest.fixture
    async def reopen(self, store: Store, tmp_path: Path) -> AsyncIterator[Reopen]:
        opened: list[Store] = []

        async def again() -> Store:
            await store.aclose()
            opened.append(await open_store(tmp_path / "data" / "fairbrush.db"))
            return opened[-1]

        yield again
        for other in opened:
            await other.aclose()
