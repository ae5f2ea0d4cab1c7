"""Weights of tenants from the command line, beside a running program on the same data."""

from __future__ import annotations

from collections.abc import Sequence

from bot.app import installed, open_store
from bot.core.errors import InvalidRequest
from bot.core.names import unknown
from bot.core.ports import ApiKey
from bot.core.settings import Settings
from bot.core.weights import checked_tenant, checked_weight, store_weight, stored_weight


async def weight(settings: Settings, tenant: str, text: str | None = None) -> float:
    """A tenant's weight; with `text` it is set to that first, and a running program counts it within 5 s.

    Raises InvalidRequest for an unknown platform or key, and outside of 0.1 to 100.
    """
    _check_platform(tenant)
    new = None if text is None else checked_weight(_number(text))
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = await open_store(settings)
    try:
        if tenant.startswith("key:"):
            _check_key(tenant, await store.keys())
        return await stored_weight(store, tenant) if new is None else await store_weight(store, tenant, new)
    finally:
        await store.aclose()


def _check_platform(tenant: str) -> None:
    platform = checked_tenant(tenant).partition(":")[0]
    known = [*installed("fairbrush.adapters"), "key"]
    if platform not in known:
        raise unknown("platform", platform, known)


def _check_key(tenant: str, keys: Sequence[ApiKey]) -> None:
    if tenant not in (f"key:{key.key_id}" for key in keys):
        known = ", ".join(f"key:{key.key_id} ({key.name})" for key in keys[:20])
        raise InvalidRequest(f'There is no key "{tenant}". There is: {known or "none yet"}.', field="tenant")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(
            f'W must be a number such as 2 or 0.5, not "{text[:40]}".', field="weight"
        ) from None
