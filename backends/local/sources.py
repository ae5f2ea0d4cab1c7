"""Where a model comes from: the embedded one, a folder, a single file, or the hub. Safetensors only.

Knows names and files, not engines: nothing is loaded or downloaded here.
"""

from __future__ import annotations

import importlib.resources
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bot.core.errors import ConfigurationError

_PICKLES = frozenset({".ckpt", ".bin", ".pt", ".pth", ".pkl", ".pickle"})
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


class Kind(StrEnum):
    """How a source is opened."""

    FOLDER = "folder"
    FILE = "file"
    HUB = "hub"


@dataclass(frozen=True, slots=True)
class Source:
    """One model. model_id: what --model takes; location: a path, or a repository on the hub;
    folder: where its JSON configuration lies now, None where that is not on this machine yet."""

    kind: Kind
    model_id: str
    location: str
    folder: Path | None

    @property
    def weight_bytes(self) -> int | None:
        """Size of the weights in bytes, None where they are not on this machine yet."""
        if self.kind is Kind.FILE:
            return Path(self.location).stat().st_size
        if self.folder is None:
            return None
        return sum(path.stat().st_size for path in self.folder.rglob("*.safetensors"))


def embedded_folder() -> Path:
    """Where the weights that come with the package lie."""
    return Path(str(importlib.resources.files("backends.local"))) / "embedded"


def find_source(target: str, cache_dir: Path | None = None) -> Source:
    """What `local:TARGET` means.

    Raises ConfigurationError, with the way out, where it cannot be a model that may be loaded.
    """
    if not target:
        return _embedded()
    path = Path(target).expanduser()
    if path.suffix.lower() in _PICKLES:
        raise _pickle(path)
    if path.suffix == ".safetensors":
        return _single_file(path)
    if path.is_dir():
        return Source(Kind.FOLDER, path.resolve().name, str(path.resolve()), _checked(path.resolve()))
    if target.startswith(("/", ".", "~")) or not _REPOSITORY.fullmatch(target):
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: there is no model folder at {target!r}. Give local: (the embedded model), "
            "local:/path/to/folder, local:/path/to/file.safetensors or local:ORGANISATION/NAME from the hub."
        )
    return Source(Kind.HUB, target, target, _snapshot(target, cache_dir))


def _embedded() -> Source:
    folder = embedded_folder()
    if not (folder / "model_index.json").is_file():
        raise ConfigurationError(
            f"The embedded model's weights are missing at {folder}. Install the package again "
            "(pip install --force-reinstall 'fairbrush[local]'), or name another model in "
            "FAIRBRUSH_BACKENDS, as local:/path/to/folder or local:ORGANISATION/NAME."
        )
    return Source(Kind.FOLDER, "embedded", str(folder), folder)


def _single_file(path: Path) -> Source:
    if not path.is_file():
        raise ConfigurationError(f"FAIRBRUSH_BACKENDS: there is no file {path}.")
    beside = [path.with_suffix(""), path.parent]
    folder = next((place for place in beside if (place / "model_index.json").is_file()), None)
    return Source(Kind.FILE, path.stem, str(path.resolve()), folder)


def _checked(folder: Path) -> Path:
    if not (folder / "model_index.json").is_file():
        raise ConfigurationError(
            f"{folder} is not a diffusers model: it has no model_index.json. "
            "For a single checkpoint give the .safetensors file itself."
        )
    if any(folder.rglob("*.safetensors")):
        return folder
    pickled = next((path for path in folder.rglob("*") if path.suffix in _PICKLES), None)
    if pickled is not None:
        raise _pickle(pickled)
    raise ConfigurationError(f"{folder} holds no .safetensors file: its weights are missing.")


def _pickle(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is a pickle file, which can run any code when it is opened, so it is never loaded. "
        "Use the model's .safetensors version, or convert it on a machine that you do not mind losing."
    )


def _snapshot(repository: str, cache_dir: Path | None) -> Path | None:
    """The newest downloaded snapshot in the hub's cache layout."""
    if cache_dir is None:
        return None
    home = cache_dir / f"models--{repository.replace('/', '--')}"
    head = home / "refs" / "main"
    if not head.is_file():
        return None
    folder = home / "snapshots" / head.read_text().strip()
    return folder if (folder / "model_index.json").is_file() else None
