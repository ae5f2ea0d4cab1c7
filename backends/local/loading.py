"""Opens a model with diffusers: from a folder, a single file or the hub; safetensors only.

Runs in the worker. Every failure comes out as an error that says what the operator can do.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError

from backends.local.opening import SMALL_MODEL_BYTES, SMALL_MODEL_SLOTS, Opening
from backends.local.plan import Wording
from backends.local.profile import Profile, read_profile
from backends.local.sources import Kind
from backends.local.wording import read_wording
from bot.core.errors import ConfigurationError, Unavailable

SECOND_UNET = "second_unet"
"""Beside a model's other parts: a UNet made for the second pass of upscales. Models need none."""

_LATENT_FAMILIES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


@dataclass(frozen=True, slots=True)
class Loaded:
    """An opened model. pipe: its text-to-image pipeline; small: bound by overhead rather than by arithmetic;
    stable: of a family that our prompt windows, masks and guidance for each picture work with; second_unet:
    what upscales are denoised with, where the model brings one of its own for them."""

    pipe: Any
    profile: Profile
    device: torch.device
    slots: int
    small: bool
    stable: bool
    checks_content: bool
    wording: Wording | None = None
    second_unet: Any = None


def load(opening: Opening) -> Loaded:
    """Open a model. Raises ConfigurationError (it will not work) or Unavailable (it may, later)."""
    if opening.threads:
        torch.set_num_threads(opening.threads)
    device = torch.device(opening.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with _explained(opening):
        pipe = _open(opening, _dtype(opening.dtype, device))
        pipe.to(device)
        folder = Path(opening.folder) if opening.folder else _folder_of(pipe)
        second_unet = _second_unet(folder, pipe)
    pipe.set_progress_bar_config(disable=True)
    size = sum(_weight(part) for part in pipe.components.values())
    small = size < SMALL_MODEL_BYTES
    for unet in (getattr(pipe, "unet", None), second_unet):
        if device.type == "cuda" and unet is not None:
            unet.to(memory_format=torch.channels_last)
    return Loaded(
        pipe=pipe,
        profile=read_profile(folder, opening.model_id),
        device=device,
        slots=opening.slots or (SMALL_MODEL_SLOTS if small else 4 if device.type == "cuda" else 1),
        small=small,
        stable=type(pipe).__name__ in _LATENT_FAMILIES,
        checks_content=getattr(pipe, "safety_checker", None) is not None,
        wording=read_wording(folder),
        second_unet=second_unet,
    )


def _second_unet(folder: Path | None, pipe: Any) -> Any:
    """The UNet in the model folder's SECOND_UNET, None without."""
    if folder is None or not (folder / SECOND_UNET / "config.json").is_file():
        return None
    unet = diffusers.UNet2DConditionModel.from_pretrained(
        folder / SECOND_UNET, use_safetensors=True, local_files_only=True, dtype=pipe.unet.dtype
    )
    return unet.to(pipe.unet.device).eval()


def _open(opening: Opening, dtype: torch.dtype) -> Any:
    if opening.kind == Kind.FILE:
        return _open_file(opening, dtype)
    options: dict[str, object] = {"use_safetensors": True, "dtype": dtype}
    if opening.kind == Kind.HUB:
        options["cache_dir"] = opening.cache_dir
    else:
        options["local_files_only"] = True
    if not opening.safety_checker and _takes_checker(opening):
        options |= {"safety_checker": None, "requires_safety_checker": False}
    return diffusers.DiffusionPipeline.from_pretrained(opening.location, **options)


def _open_file(opening: Opening, dtype: torch.dtype) -> Any:
    """A checkpoint needs the configuration and tokenizer of its base model: from the folder beside it, or
    from the hub's cache or the hub."""
    family = (
        diffusers.StableDiffusionXLPipeline if _is_xl(opening.location) else diffusers.StableDiffusionPipeline
    )
    options: dict[str, object] = {"dtype": dtype, "cache_dir": opening.cache_dir}
    if opening.folder:
        options |= {"config": opening.folder, "local_files_only": True}
    return family.from_single_file(opening.location, **options)


def _is_xl(path: str) -> bool:
    """Only SDXL's checkpoints have a second text encoder under this name."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return any(key.startswith("conditioner.embedders.1.") for key in file.keys())  # noqa: SIM118


def _takes_checker(opening: Opening) -> bool:
    return not opening.folder or (Path(opening.folder) / "safety_checker").is_dir()


def _dtype(name: str, device: torch.device) -> torch.dtype:
    named = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name:
        return named[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _folder_of(pipe: Any) -> Path | None:
    path = Path(str(pipe.config.get("_name_or_path", "")))
    return path if (path / "model_index.json").is_file() else None


def _weight(part: Any) -> int:
    if not isinstance(part, torch.nn.Module):
        return 0
    return sum(p.numel() * 2 for p in part.parameters())  # as stored: two bytes each


def be_quiet() -> None:
    """For a process of our own: its stderr is for what goes wrong."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")


@contextmanager
def _explained(opening: Opening) -> Iterator[None]:
    """Errors of diffusers and the hub in words that say the way out."""
    name = opening.location
    try:
        yield
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise ConfigurationError(
            f"The hub has no model {name!r} for you: it does not exist, or it must be unlocked on "
            "huggingface.co and HF_TOKEN set.",
            detail=str(error),
        ) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ConfigurationError(
            f"There is not enough memory to load {name!r}: choose a smaller model, or device=cpu.",
            detail=str(error),
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, SingleFileComponentError) as error:
        if opening.kind == Kind.FOLDER:
            text = f"The model at {name} cannot be loaded. Check that it is complete and in safetensors."
            raise ConfigurationError(text, detail=f"{type(error).__name__}: {error}") from error
        raise _from_elsewhere(opening, error) from error


def _from_elsewhere(opening: Opening, error: Exception) -> ConfigurationError | Unavailable:
    detail = f"{type(error).__name__}: {error}"
    if opening.kind == Kind.FILE and opening.folder:
        text = f"{opening.location} does not fit the configuration in {opening.folder}."
        return ConfigurationError(text, detail=detail)
    if opening.kind == Kind.FILE:
        beside = Path(opening.location).with_suffix("")
        return Unavailable(
            f"{opening.location} needs the configuration of its base model, and the hub cannot be reached. "
            f"Put that model's folder (model_index.json, tokenizer, configs; no weights) at {beside}/.",
            detail=detail,
        )
    if "safetensors" in str(error) and "not cached" not in str(error):
        text = f"{opening.location} has no safetensors weights, and pickled weights are never loaded."
        return ConfigurationError(text, detail=detail)
    return Unavailable(
        f"The hub cannot be reached, and {opening.location} is not in the cache. Connect this machine, or "
        "download the model elsewhere and give its folder as local:/path/to/folder.",
        detail=detail,
    )
