"""Pictures made on this machine by diffusers, in a worker process of its own. Imports no engine."""

from __future__ import annotations

from backends.local.backend import LocalBackend
from backends.local.options import LocalOptions
from backends.local.sources import find_source
from bot.core.ports import Backend
from bot.core.settings import BackendEntry, Settings


def create(target: str, settings: Settings) -> Backend:
    """The backend of `local:TARGET`: empty: the embedded model; a folder; a .safetensors file; a repository.

    Raises ConfigurationError, with the way out, where the target cannot be loaded.
    """
    entry = next(
        (entry for entry in settings.backends if entry.kind == "local" and entry.target == target),
        BackendEntry("local", target),
    )
    options = LocalOptions.from_entry(entry, settings)
    return LocalBackend(find_source(target, settings.cache_dir), options, name=entry.name)


__all__ = ["LocalBackend", "LocalOptions", "create"]
