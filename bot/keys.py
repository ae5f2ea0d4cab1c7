"""API keys: 256 random bits, stored as their SHA-256."""

from __future__ import annotations

import hashlib
import secrets
import time

from bot.app import open_store
from bot.core.errors import InvalidRequest
from bot.core.ports import ApiKey
from bot.core.settings import Settings

MAX_NAME = 100


async def create_key(settings: Settings, name: str) -> str:
    """Make a key and store its digest; works beside a running bot, which knows it at once. Returns the key.

    Raises InvalidRequest for an empty or overlong name.
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME:
        raise InvalidRequest(f"NAME must have 1 to {MAX_NAME} characters; it has {len(name)}.", field="name")
    text = "fb_" + secrets.token_urlsafe(32)
    digest = hashlib.sha256(text.encode()).hexdigest()
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = await open_store(settings)
    try:
        await store.add_key(ApiKey(secrets.token_hex(8), name, digest, time.time()))
    finally:
        await store.aclose()
    return text
