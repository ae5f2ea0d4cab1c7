"""Pictures from a trained pipeline, asked for as the product asks: schedulers by name, usual guidance."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image

from backends.local.profile import Profile, read_profile
from backends.local.samplers import build_scheduler


@dataclass(frozen=True, slots=True)
class Manner:
    """How pictures are sampled. guidance: on the usual scale, before the profile maps it."""

    scheduler: str | None = None
    guidance: float = 7.5
    steps: int = 20


class Sampler:
    """A pipeline folder with its profile; the same code path for schedulers as the product's."""

    def __init__(self, folder: Path) -> None:
        self.profile: Profile = read_profile(folder, folder.name)
        self._pipeline = StableDiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, safety_checker=None
        ).to(dtype=torch.float32)
        self._pipeline.unet.set_attn_processor(AttnProcessor())
        self._pipeline.set_progress_bar_config(disable=True)
        self._own = copy.deepcopy(self._pipeline.scheduler)

    def pictures(
        self,
        captions: Sequence[str],
        size: tuple[int, int],
        manner: Manner,
        seed: int = 0,
        batch: int = 8,
    ) -> list[Image.Image]:
        """One picture of `size` (width, height) for each caption."""
        images: list[Image.Image] = []
        for start in range(0, len(captions), batch):
            images += self._batch(list(captions[start : start + batch]), size, manner, seed + start)
        return images

    def _batch(
        self, captions: list[str], size: tuple[int, int], manner: Manner, seed: int
    ) -> list[Image.Image]:
        pipeline = self._pipeline
        pipeline.scheduler = build_scheduler(self._own, self.profile, manner.scheduler, seed)
        generators = [torch.Generator().manual_seed(seed + i) for i in range(len(captions))]
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of schedulers, about settings that do not matter here
            made = pipeline(
                captions,
                width=size[0],
                height=size[1],
                num_inference_steps=manner.steps,
                guidance_scale=self.profile.own_guidance(manner.guidance),
                generator=generators,
            )
        images: list[Image.Image] = made.images
        return images
