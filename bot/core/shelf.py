"""What an adapter puts away: durable key and value pairs of its own."""

from __future__ import annotations

from bot.core.ports import Store
from bot.core.request import JSON


class Shelf:
    """Durable key and value pairs of one adapter."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    async def get(self, key: str) -> JSON:
        """The value, None where there is none."""
        return await self._store.shelf_get(self._name, key)

    async def put(self, key: str, value: JSON) -> None:
        """Set the value; None deletes it."""
        await self._store.shelf_put(self._name, key, value)

    async def put_once(self, key: str, value: JSON) -> bool:
        """Set the value where there is none; False where there was one."""
        return await self._store.shelf_put_once(self._name, key, value)
