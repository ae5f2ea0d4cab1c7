"""Picture files on disk: names that cannot be guessed, and writes that happen wholly or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

_ENDINGS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{32}\.(?:png|jpg|webp)", re.ASCII)
_DRAFT: Final = re.compile(rf"\.{_NAME.pattern}\.[0-9a-f]{{8}}\.part", re.ASCII)
_RANDOM_BYTES: Final = 24


def picture_name(mime: str, *, token: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """A fresh file name of 192 random bits: whoever knows it was given it."""
    return f"{token(_RANDOM_BYTES)}.{_ENDINGS[mime]}"


def is_picture_name(name: str) -> bool:
    """Whether `name` could be from picture_name(): nothing else may reach the file system."""
    return _NAME.fullmatch(name) is not None


def is_ours(name: str) -> bool:
    """Whether `name` is a picture's, or that of a draft which write_file() did not come to finish."""
    return is_picture_name(name) or _DRAFT.fullmatch(name) is not None


def write_file(path: Path, data: bytes) -> None:
    """Write durably: after it returns the whole file survives a power cut, before that there is none.

    An existing file is replaced. Raises OSError, and leaves nothing behind then.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(draft, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A rename is durable only once the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
