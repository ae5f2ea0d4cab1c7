"""Small, rough pictures of latents, cheap enough to show while a picture forms.

Where the autoencoder is tiny its own decoder is used; else a linear map from latent channels to RGB, fitted
once at start on flat colours that the autoencoder itself encodes (so it holds for any of them).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

MAX_BYTES = 20_000
_LONG_SIDE = 192
_PATCH = 64  # pixels: a flat patch, of which the middle latent is taken


class Previewer:
    """Makes previews for one pipeline."""

    def __init__(self, pipe: Any) -> None:
        self._vae = pipe.vae
        self._tiny = type(pipe.vae).__name__ == "AutoencoderTiny"
        self._map = None if self._tiny else _fit(pipe.vae)

    def pictures(self, latents: torch.Tensor, scheduler: Any) -> list[bytes]:
        """One JPEG of at most MAX_BYTES for each latent; latents: (n, channels, height, width)."""
        with torch.no_grad():
            rgb = self._decode(_to_data_scale(latents, scheduler))
        pixels = (rgb.float().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
        return [_jpeg(picture) for picture in pixels.permute(0, 2, 3, 1).cpu().numpy()]

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        if self._map is None:
            decoded: torch.Tensor = self._vae.decode(latents / self._vae.config.scaling_factor).sample
            return decoded
        weights, bias = self._map
        flat: torch.Tensor = torch.einsum("nchw,cr->nrhw", latents.float(), weights.to(latents.device))
        shifted: torch.Tensor = flat + bias.to(latents.device)[None, :, None, None]
        return shifted


def _to_data_scale(latents: torch.Tensor, scheduler: Any) -> torch.Tensor:
    """Samplers in sigma space (Euler and kin) hold x + sigma * noise: bring that to unit variance."""
    index = getattr(scheduler, "step_index", None)
    if float(scheduler.init_noise_sigma) <= 1.5 or index is None:
        return latents
    sigma = float(scheduler.sigmas[min(index, len(scheduler.sigmas) - 1)])
    scaled: torch.Tensor = latents / (sigma**2 + 1) ** 0.5
    return scaled


def _fit(vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Least squares on flat colours: scaled latent channels -> RGB in -1..1: weights (channels, 3), bias."""
    levels = torch.tensor([-0.9, 0.0, 0.9])
    colours = torch.cartesian_prod(levels, levels, levels)
    latents = []
    with torch.no_grad():
        for colour in colours:
            patch = colour[None, :, None, None].expand(1, 3, _PATCH, _PATCH)
            encoded = vae.encode(patch.to(vae.device, vae.dtype)).latent_dist.mode()
            middle = encoded[0, :, encoded.shape[2] // 2, encoded.shape[3] // 2]
            latents.append(middle.float().cpu() * vae.config.scaling_factor)
    stacked = torch.stack(latents)
    design = torch.cat([stacked, torch.ones(len(stacked), 1)], dim=1)
    # pinv: an autoencoder that is not trained may give latents of low rank.
    solution = torch.linalg.pinv(design) @ colours
    return solution[:-1], solution[-1]


def _jpeg(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    picture = Image.fromarray(pixels)
    scale = _LONG_SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    data = io.BytesIO()
    for quality in (75, 40, 10):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality)
        if data.tell() <= MAX_BYTES:
            break
    return data.getvalue()
