"""Inpainting by latent masking: works with any UNet made for text-to-image.

After every step the latents outside the mask are put back to the original, noised to the level of the next
step (Lugmayr et al., RePaint, without resampling; the way diffusers paints with 4-channel UNets).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow

_NOISE_SALT = 0x6D61736B  # keeps this noise apart from that of the same seed in the pipeline


class Masking:
    """The originals and masks of one batch. seeds: one a picture, so that neighbours change nothing."""

    def __init__(
        self,
        pipe: Any,
        originals: Sequence[Pillow.Image],
        masks: Sequence[Pillow.Image],
        seeds: Sequence[int],
    ) -> None:
        self._clean = clean_latents(pipe, originals)
        shape = self._clean.shape
        noise = [_noise(seed, shape[1:]) for seed in seeds]
        self._noise = torch.stack(noise).to(self._clean)
        self._mask = torch.stack([_mask(mask, shape[3], shape[2]) for mask in masks]).to(self._clean)

    def blend(self, pipe: Any, step: int, latents: torch.Tensor) -> torch.Tensor:
        """The latents after `step` (0-based) with the original put back outside the mask."""
        return (self._at(pipe, step) * (1 - self._mask) + latents * self._mask).to(latents.dtype)

    def _at(self, pipe: Any, step: int) -> torch.Tensor:
        timesteps = pipe.scheduler.timesteps
        following = len(timesteps) - pipe.num_timesteps + step + 1
        if following >= len(timesteps):
            return self._clean
        at = timesteps[following : following + 1].repeat(len(self._clean))
        noised: torch.Tensor = pipe.scheduler.add_noise(self._clean, self._noise, at)
        return noised


def clean_latents(pipe: Any, originals: Sequence[Pillow.Image]) -> torch.Tensor:
    """The scaled latents (n, channels, height, width) of pictures, the likeliest of each."""
    vae, dtype = pipe.vae, pipe.vae.dtype
    upcast = dtype == torch.float16 and vae.config.get("force_upcast", False)  # SDXL's overflows in half
    if upcast:
        vae.to(torch.float32)
    tensor = pipe.image_processor.preprocess(list(originals)).to(vae.device, vae.dtype)
    with torch.no_grad():
        parts = [_latents(vae, tensor[i : i + 1]) for i in range(len(originals))]
    if upcast:
        vae.to(dtype)
    return torch.cat(parts).to(dtype)


def _latents(vae: Any, image: torch.Tensor) -> torch.Tensor:
    encoded = vae.encode(image)
    latents: torch.Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    scaled: torch.Tensor = latents * vae.config.scaling_factor
    return scaled


def _noise(seed: int, shape: torch.Size) -> torch.Tensor:
    noise: torch.Tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed ^ _NOISE_SALT))
    return noise


def _mask(mask: Pillow.Image, width: int, height: int) -> torch.Tensor:
    """(1, height, width) of 0 and 1; a latent that is touched at all is repainted."""
    small = mask.resize((width, height), Pillow.Resampling.BOX)
    return torch.from_numpy((np.asarray(small, dtype=np.float32) > 0).astype(np.float32))[None]
