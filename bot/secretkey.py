"""FAIRBRUSH_SECRET_KEY: the given one, or one made once and kept in the data folder for its owner alone.

It signs links and encrypts tokens that are stored, so it must be the same at every start.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path

from bot.core.errors import ConfigurationError
from bot.core.settings import Secret, Settings

NAME = "FAIRBRUSH_SECRET_KEY"
LEAST = 32
"""Characters of a key that nobody guesses."""


def with_secret_key(settings: Settings) -> Settings:
    """The settings with a secret key, made on the first start. Raises ConfigurationError where the given one
    is too short or none can be kept."""
    given = settings.secret(NAME)
    if not given:
        given = Secret(_kept(settings.data_dir / "secret-key"))
    elif len(given.reveal()) < LEAST:
        raise ConfigurationError(
            f"{NAME} has {len(given.reveal())} characters; at least {LEAST} are needed. Leave it out, and "
            'one is made, or set the output of: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return replace(settings, secrets={**settings.secrets, NAME: given})


def _kept(path: Path) -> str:
    """The key in the file, made where there is none. Of two processes that make one, both take the first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = _read(path) or _first(path, secrets.token_urlsafe(32))
    except OSError as error:
        raise ConfigurationError(
            f"The secret key {path} cannot be read or made: {error.strerror}. Correct the folder's "
            f"permissions, choose another with --data-dir, or set {NAME}."
        ) from None
    if len(key) < LEAST:
        raise ConfigurationError(
            f"The secret key {path} is damaged. Put it back from a backup, or delete it: links that were "
            "given out stop working then, and stored tokens have to be given again."
        )
    return key


def _read(path: Path) -> str:
    """ "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                os.fchmod(file.fileno(), 0o600)
            return file.read().strip() or "-"  # an empty file is a damaged one
    except FileNotFoundError:
        return ""


def _first(path: Path, key: str) -> str:
    """Write the key, whole and synced, unless another process was faster; the key that holds."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename, it never replaces
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)
    return _read(path)


def _sync(folder: Path) -> None:
    """The name is durable only once the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
