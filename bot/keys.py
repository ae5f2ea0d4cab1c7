"""API keys from the command line, beside a running program on the same data: made, listed, revoked.

A key is 256 random bits; only its SHA-256 is stored. A running program knows of a change within a second.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from bot.app import open_store
from bot.core.errors import InvalidRequest
from bot.core.ports import ApiKey, Store
from bot.core.ranges import number
from bot.core.settings import Settings
from bot.core.text import clean
from bot.core.weights import checked_weight, store_weight, stored_weight

MAX_NAME: Final = 100
MAX_BUDGET: Final = 1_000_000.0
_ORGANIZATION: Final = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new key is to be. organization: in the addresses of the Salad format, None for any; weight: its
    share among tenants, 0.1 to 100; daily_budget: US dollars that it may spend in a day (UTC) at paid
    backends, None for no limit of its own. As typed where they are texts."""

    name: str
    organization: str | None = None
    weight: str | None = None
    daily_budget: str | None = None


async def create_key(settings: Settings, wanted: Wanted | str) -> str:
    """Make a key and store its digest. Returns the key. wanted: or a name alone.

    Raises InvalidRequest, with the field.
    """
    if isinstance(wanted, str):
        wanted = Wanted(wanted)
    text = "fb_" + secrets.token_urlsafe(32)
    weight = 1.0 if wanted.weight is None else checked_weight(_real(wanted.weight, "weight", "W"))
    key = ApiKey(
        secrets.token_hex(8),
        _name(wanted.name),
        hashlib.sha256(text.encode()).hexdigest(),
        time.time(),
        organization=_organization(wanted.organization),
        daily_budget=_budget(wanted.daily_budget),
    )
    async with _store(settings) as store:
        await store_weight(store, tenant_of(key), weight)
        await store.add_key(key)
    return text


async def listed_keys(settings: Settings) -> Sequence[tuple[ApiKey, float]]:
    """All keys with their weights, oldest first, revoked ones too."""
    async with _store(settings) as store:
        return [(key, await stored_weight(store, tenant_of(key))) for key in await store.keys()]


async def revoke_key(settings: Settings, key_id: str) -> ApiKey:
    """Let a key open nothing any more; what it has asked for goes on. Returns it; one that was revoked
    already stays as it is. Raises InvalidRequest where there is none with this id."""
    async with _store(settings) as store:
        keys = {key.key_id: key for key in await store.keys()}
        key = keys.get(key_id.removeprefix("key:"))
        if key is None:
            valid = [f"{one.key_id} ({one.name})" for one in keys.values() if one.revoked_at is None]
            known = ", ".join(valid[:20]) or "none"
            raise InvalidRequest(f'There is no key "{key_id[:40]}". There is: {known}.', field="key")
        if key.revoked_at is None:
            key = replace(key, revoked_at=time.time())
            await store.add_key(key)
        return key


def tenant_of(key: ApiKey) -> str:
    """Its name in the fair queue, as `fairbrush weight` takes it."""
    return f"key:{key.key_id}"


def table(keys: Sequence[tuple[ApiKey, float]]) -> str:
    """Keys in aligned columns, under a line of their names. Nothing in it opens anything."""
    rows: list[tuple[str, ...]] = [("ID", "NAME", "ORGANIZATION", "WEIGHT", "BUDGET", "CREATED", "REVOKED")]
    rows += [_row(key, weight) for key, weight in keys]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(key: ApiKey, weight: float) -> tuple[str, ...]:
    budget = "-" if key.daily_budget is None else f"${number(key.daily_budget)}/day"
    revoked = "-" if key.revoked_at is None else _date(key.revoked_at)
    organization = key.organization or "-"
    return key.key_id, key.name, organization, number(weight), budget, _date(key.created_at), revoked


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = await open_store(settings)
    try:
        yield store
    finally:
        await store.aclose()


def _name(said: str) -> str:
    name = " ".join(clean(said).split())
    if not 1 <= len(name) <= MAX_NAME:
        raise InvalidRequest(f"NAME must have 1 to {MAX_NAME} characters; it has {len(name)}.", field="name")
    return name


def _organization(said: str | None) -> str | None:
    if said is not None and not _ORGANIZATION.fullmatch(said):
        raise InvalidRequest(
            'ORG must have 2 to 63 characters of a-z, 0-9 and "-", first a letter and last no "-"; this is '
            f'"{said[:70]}". It is the organization in the addresses of the Salad format, such as our-shop.',
            field="organization",
        )
    return said


def _budget(said: str | None) -> float | None:
    if said is None:
        return None
    budget = _real(said.removeprefix("$"), "daily_budget", "B")
    if not 0.0 <= budget <= MAX_BUDGET:
        raise InvalidRequest(
            f"B must be from 0 to {number(MAX_BUDGET)} US dollars a day, not {said[:40]}. Leave "
            "--daily-budget out for no limit of its own.",
            field="daily_budget",
        )
    return budget


def _real(text: str, field: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidRequest(f'{what} must be a number such as 2 or 0.5, not "{text[:40]}".', field=field)
    return value
