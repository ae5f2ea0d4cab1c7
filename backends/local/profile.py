"""A model's profile: what it does best, read from JSON or derived from the pipeline's configuration.

A folder may carry `profile.json` (ours) or `fairbrush.json` (anybody's), with any of Profile's fields. What
it leaves out is derived. No engine is imported: the program reads profiles before a model is loaded.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import cast

from backends.local.advice import real_pictures
from bot.core.errors import ConfigurationError
from bot.core.ports import Model
from bot.core.request import JSON
from bot.core.schedulers import SCHEDULERS, find_scheduler

FLOW = "Flow Euler"
PROFILE_FILES = ("profile.json", "fairbrush.json")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a model does best. Sides in pixels.

    native_pixels: the area that pictures are made at whatever is asked, None: as asked; guidance_points:
    (asked, own), rising, joined by straight lines and level beyond the ends; empty: guidance as asked;
    scheduler_overrides: A1111 name -> configuration that it needs with this model; flow: a flow-matching
    model.
    """

    title: str
    licence: str = ""
    commercial: bool = True
    demo: bool = False
    default_width: int = 512
    default_height: int = 512
    default_steps: int = 25
    default_guidance: float = 7.5
    default_scheduler: str | None = None
    native_pixels: int | None = None
    min_side: int = 64
    max_side: int = 2048
    side_multiple: int = 8
    guidance_points: tuple[tuple[float, float], ...] = ()
    refused_schedulers: Mapping[str, str] = field(default_factory=dict)
    scheduler_overrides: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    advice: str = ""
    flow: bool = False

    def own_guidance(self, asked: float) -> float:
        """The guidance scale that the model is run with where `asked` is asked on the usual scale."""
        points = self.guidance_points
        if not points:
            return asked
        at = bisect_right([point[0] for point in points], asked)
        if at in (0, len(points)):
            return points[min(at, len(points) - 1)][1]
        (x0, y0), (x1, y1) = points[at - 1], points[at]
        return y0 + (y1 - y0) * (asked - x0) / (x1 - x0)

    @property
    def schedulers(self) -> tuple[str, ...]:
        """The A1111 names that the model can use."""
        if self.flow:
            return (FLOW,)
        return tuple(name for name in SCHEDULERS if name != FLOW and name not in self.refused_schedulers)

    def refusal_of(self, scheduler: str) -> str:
        """Why the model cannot use a scheduler; empty where it can."""
        if scheduler in self.schedulers:
            return ""
        if self.flow:
            return f"this is a flow-matching model, which only {FLOW} can sample"
        if scheduler == FLOW:
            return "it samples flow-matching models only"
        return self.refused_schedulers.get(scheduler, "it is not known")

    def model(self, model_id: str) -> Model:
        """The profile as the port's Model."""
        return Model(
            id=model_id,
            title=self.title,
            width=self.default_width,
            height=self.default_height,
            steps=self.default_steps,
            guidance_scale=self.default_guidance,
            scheduler=self.default_scheduler,
            licence=self.licence,
            commercial=self.commercial,
            demo=self.demo,
            native_pixels=self.native_pixels,
            schedulers=self.schedulers,
            refused_schedulers={
                name: self.refusal_of(name) for name in SCHEDULERS if name not in self.schedulers
            },
            examples=self.examples,
            advice=self.advice,
        )

    def to_json(self) -> Mapping[str, JSON]:
        """Plain JSON; from_json gives the same profile back."""
        return cast(Mapping[str, JSON], asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, JSON], basis: Profile | None = None) -> Profile:
        """A profile with `data` laid over `basis`. Raises ConfigurationError for a field that it lacks."""
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigurationError(f"The model's profile has unknown fields: {', '.join(unknown)}.")
        values = dict(data)
        for name in ("guidance_points", "examples"):
            if name in values:
                values[name] = tuple(
                    tuple(item) if isinstance(item, list) else item
                    for item in cast("list[JSON]", values[name])
                )
        changed = replace(basis or cls(title=""), **values)  # type: ignore[arg-type]  # checked by name above
        return replace(changed, default_scheduler=_canonical(changed))


def _canonical(profile: Profile) -> str | None:
    name = profile.default_scheduler
    known = find_scheduler(name) if name else None
    return known if known in profile.schedulers else None


def read_profile(folder: Path | None, model_id: str) -> Profile:
    """The profile of the model in `folder`; without one, a guess by name until the model has come."""
    basis = _derive(folder, model_id)
    if folder is not None:
        for name in PROFILE_FILES:
            if (folder / name).is_file():
                return _advised(Profile.from_json(_json(folder / name), basis))
    return basis


def _advised(profile: Profile) -> Profile:
    """With the way to real pictures; the worker, which sees the GPU, knows better later."""
    return replace(profile, advice=profile.advice or real_pictures(None)) if profile.demo else profile


def _json(path: Path) -> Mapping[str, JSON]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} must hold a JSON object.")
    return data


def _component(folder: Path, name: str, file: str = "config.json") -> Mapping[str, JSON]:
    path = folder / name / file
    return _json(path) if path.is_file() else {}


# Sides and steps that the families were trained for, by the start of the pipeline's class name:
# (side, steps, guidance, side multiple); from their model cards.
_FAMILIES: Mapping[str, tuple[int, int, float, int]] = {
    "StableDiffusionXL": (1024, 30, 7.0, 8),
    "StableDiffusion3": (1024, 28, 7.0, 16),
    "StableDiffusion": (512, 25, 7.5, 8),
    "Flux": (1024, 28, 3.5, 16),
    "ZImage": (1024, 9, 0.0, 16),
    "QwenImage": (1024, 30, 4.0, 16),
}
_FEW_STEPS = ("turbo", "lightning", "schnell", "hyper-", "hyper_", "lcm")


def _derive(folder: Path | None, model_id: str) -> Profile:
    index = _component(folder, ".", "model_index.json") if folder else {}
    pipeline = str(index.get("_class_name") or _guess_pipeline(model_id))
    name = next((name for name in _FAMILIES if pipeline.startswith(name)), "StableDiffusion")
    side, steps, guidance, multiple = _FAMILIES[name]
    scheduler = _component(folder, "scheduler", "scheduler_config.json") if folder else {}
    flow = "FlowMatch" in str(scheduler.get("_class_name", "")) or name in ("Flux", "ZImage", "QwenImage")
    if folder:
        side = _native_side(folder) or side
    if name not in ("ZImage", "QwenImage") and any(word in model_id.lower() for word in _FEW_STEPS):
        steps, guidance = 4, 0.0
    return Profile(
        title=model_id,
        default_width=side,
        default_height=side,
        default_steps=steps,
        default_guidance=guidance,
        default_scheduler=FLOW if flow else _own_scheduler(scheduler),
        min_side=min(64, side),
        side_multiple=multiple,
        flow=flow,
    )


def _guess_pipeline(model_id: str) -> str:
    name = model_id.lower()
    signs = {"xl": "StableDiffusionXL", "flux": "Flux", "z-image": "ZImage", "qwen": "QwenImage"}
    signs |= {"stable-diffusion-3": "StableDiffusion3"}
    return next((family for sign, family in signs.items() if sign in name), "StableDiffusion")


def _native_side(folder: Path) -> int | None:
    """UNet's sample_size times the autoencoder's factor; transformers give no such thing."""
    sample = _component(folder, "unet").get("sample_size")
    blocks = _component(folder, "vae").get("block_out_channels")
    if not isinstance(sample, int) or not isinstance(blocks, list):
        return None
    return int(sample * 2 ** (len(blocks) - 1))


def _own_scheduler(config: Mapping[str, JSON]) -> str | None:
    name = find_scheduler(str(config.get("_class_name", "")))
    if name is None:
        return None
    if config.get("use_karras_sigmas") and f"{name} Karras" in SCHEDULERS:
        return f"{name} Karras"
    return name
