"""`fairbrush doctor`: what is configured, does the model load, is the database sound."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from bot import program_version
from bot.app import installed, load_backends, open_store
from bot.core.budget import DAY
from bot.core.errors import FairbrushError
from bot.core.messages import price, prices
from bot.core.ports import Backend, Model, Price
from bot.core.settings import BackendEntry, Settings
from bot.core.terms import Terms

LOAD_DEADLINE = 300.0
LOW_DISK = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. state: "ok", "warning" or "bad"."""

    what: str
    state: str
    detail: str


async def doctor(settings: Settings, *, as_json: bool) -> int:
    """Look at everything, print as it is found. Returns 1 where something is bad."""
    findings = []
    async for finding in _look(settings):
        findings.append(finding)
        if not as_json:
            print(f"{finding.state:8}{finding.what:22}{finding.detail}", flush=True)
    bad = any(finding.state == "bad" for finding in findings)
    if as_json:
        rows = [{"what": f.what, "state": f.state, "detail": f.detail} for f in findings]
        print(json.dumps({"ok": not bad, "findings": rows}, indent=2))
    return 1 if bad else 0


async def _look(settings: Settings) -> AsyncIterator[Finding]:
    version = f"{program_version()}, Python {sys.version.split()[0]}"
    yield Finding("fairbrush", "ok", version)
    yield _data_folder(settings)
    for finding in await _database(settings):
        yield finding
    yield Finding("adapters", "ok", ", ".join(installed("fairbrush.adapters")))
    for entry in settings.backends:
        yield Finding("backend configured", "ok", entry.name)
    try:
        backends = load_backends(settings)
    except FairbrushError as error:
        yield Finding("backends", "bad", error.message)
        return
    offered = set[str]()
    for backend in backends:
        yield await _backend(backend, offered)
    for entry in settings.backends:
        for finding in _terms(entry, offered):
            yield finding


def _data_folder(settings: Settings) -> Finding:
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("data folder", "bad", f"{folder}: {error.strerror}; choose another with --data-dir")
    state = "ok" if free > LOW_DISK else "warning"
    return Finding("data folder", state, f"{folder}, {free / 1024**3:.1f} GiB free")


async def _database(settings: Settings) -> Sequence[Finding]:
    try:
        store = await open_store(settings)
    except FairbrushError as error:
        return [Finding("database", "bad", error.message)]
    try:
        said = await store.check()
        waiting = len(await store.unfinished())
        charges = await store.charges(time.time() // DAY * DAY)
    finally:
        await store.aclose()
    state = "ok" if said == "ok" else "bad"
    return [
        Finding("database", state, f"{said}, {waiting} unfinished requests"),
        *_spending(settings, charges),
    ]


def _spending(settings: Settings, charges: Sequence[tuple[str, str, str, float]]) -> Sequence[Finding]:
    """What hosted pictures cost today, where any backend may cost anything."""
    if not charges and all(entry.kind == "local" for entry in settings.backends):
        return []
    spent = dict[str, float]()
    for backend, _, _, money in charges:
        spent[backend] = spent.get(backend, 0.0) + money
    total = sum(spent.values())
    each = "".join(f"; {backend} {price(money)}" for backend, money in sorted(spent.items()))
    state = "ok" if total < settings.budget else "warning"
    return [Finding("spent today (UTC)", state, f"{price(total)} of {price(settings.budget)}{each}")]


def _terms(entry: BackendEntry, offered: set[str]) -> Sequence[Finding]:
    """What is wrong with what an entry says about any backend."""
    try:
        names = [name for name in Terms.of(entry).stands_for if name not in offered]
    except FairbrushError as error:
        return [Finding(entry.name, "bad", error.message)]
    return [Finding(entry.name, "warning", f"as={name}: no backend offers that model") for name in names]


async def _backend(backend: Backend, offered: set[str]) -> Finding:
    """offered: gets the ids of its models."""
    began = time.monotonic()
    try:
        capabilities = await backend.capabilities()
        health = await backend.health()
        while health.loading and time.monotonic() - began < LOAD_DEADLINE:
            await asyncio.sleep(0.1)
            health = await backend.health()
    except FairbrushError as error:
        return Finding(backend.name, "bad", error.message)
    finally:
        await backend.aclose()
    offered.update(model.id for model in capabilities.models)
    models = ", ".join(_offered(model) for model in capabilities.models)
    took = time.monotonic() - began
    if not health.ok:
        return Finding(backend.name, "bad", health.detail or "not ready")
    return Finding(backend.name, "ok", f"{models}, ready in {took:.1f} s")


def _offered(model: Model) -> str:
    """A model and what it costs."""
    if model.price is None or model.price == Price():
        return model.title
    return f"{model.title} ({prices(model.price)})"
