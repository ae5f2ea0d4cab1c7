"""The pool of encoded scenes in memory that the diffusion model trains on.

Scenes are painted and encoded when the pool is refreshed, and kept in half precision; a refresh
replaces the oldest, so that training goes on seeing new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from training import landscapes, scenes
from training.captions import caption
from training.mix import BUCKETS, AnyScene, draw_training

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]
CACHED = 8  # pictures encoded at once; more do not fit the cache and take longer each
FACTOR = 8  # pixels of a side that one latent stands for


def paint(scene: AnyScene) -> tuple[Pixels, Pixels]:
    """A scene's picture (height, width, 3) and loss mask (height / 8, width / 8)."""
    if isinstance(scene, landscapes.Landscape):
        image, mask = landscapes.paint_with_weight(scene)
    else:
        image, mask = scenes.paint(scene), scenes.weight(scene)
    return np.asarray(image), np.asarray(mask.reduce(FACTOR))


def _paint_many(random: Random, count: int, size: Size) -> tuple[Pixels, Pixels, list[str]]:
    width, height = size
    drawn = [draw_training(random, width, height) for _ in range(count)]
    pairs = [paint(scene) for scene in drawn]
    told = [caption(scene, random) for scene in drawn]
    return np.stack([p for p, _ in pairs]), np.stack([m for _, m in pairs]), told


@dataclass(slots=True)
class Encoders:
    """The trained, fixed models in front of the diffusion model."""

    autoencoder: AutoencoderTiny
    text: CLIPTextModel
    tokenizer: CLIPTokenizer

    @torch.no_grad()
    def latents(self, pixels: Pixels) -> Tensor:
        """Scaled latents (n, 8, height / 8, width / 8) of uint8 pictures (n, height, width, 3)."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        images = images.contiguous(memory_format=torch.channels_last)
        found: Tensor = self.autoencoder.encode(images).latents
        scaled: Tensor = found * self.autoencoder.config.scaling_factor
        return scaled

    @torch.no_grad()
    def embeddings(self, captions: list[str]) -> Tensor:
        """Token embeddings (n, tokens, 128)."""
        from training.text_encoder import ids

        found: Tensor = self.text(ids(self.tokenizer, captions)).last_hidden_state
        return found


@dataclass(slots=True)
class Shelf:
    """The scenes of one picture size, oldest first."""

    latents: list[Tensor] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    texts: list[Tensor] = field(default_factory=list)

    def add(self, latents: Tensor, masks: Tensor, texts: Tensor, limit: int) -> None:
        """Append a chunk, dropping the oldest chunks beyond `limit` scenes."""
        for row, chunk in ((self.latents, latents), (self.masks, masks), (self.texts, texts)):
            row.append(chunk)
            while len(row) > 1 and sum(map(len, row[1:])) >= limit:
                row.pop(0)

    def __len__(self) -> int:
        return sum(map(len, self.latents))

    def take(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """A random chunk's random scenes, as fp32 latents, masks and texts."""
        sizes = torch.tensor([float(len(chunk)) for chunk in self.latents])
        parts: list[list[Tensor]] = [[], [], []]
        for i in torch.multinomial(sizes, 4, replacement=True).tolist():
            rows = torch.randint(len(self.latents[i]), (count // 4,))
            for part, chunk in zip(parts, (self.latents[i], self.masks[i], self.texts[i]), strict=True):
                part.append(chunk[rows].float())
        latents, masks, texts = (torch.cat(part) for part in parts)
        return latents, masks, texts


class ScenePool:
    """Shelves of encoded scenes, one for each picture size in BUCKETS."""

    def __init__(self, encoders: Encoders, limit: int, seed: int) -> None:
        self._encoders = encoders
        self._limit = limit
        self._random = Random(seed)
        self.shelves: dict[Size, Shelf] = {size: Shelf() for size in BUCKETS}

    def __len__(self) -> int:
        return sum(map(len, self.shelves.values()))

    def refresh(self, count: int) -> None:
        """Paint, encode and add about `count` new scenes."""
        for size, chunk in self._chunks(count):
            pixels, masks, told = _paint_many(self._random, chunk, size)
            parts = [self._encoders.latents(p) for p in np.array_split(pixels, chunk // CACHED + 1)]
            texts = self._encoders.embeddings(told)
            mask = torch.from_numpy(masks).half() / 255
            limit = int(self._limit * BUCKETS[size])
            self.shelves[size].add(torch.cat(parts).half(), mask, texts.half(), limit)

    def _chunks(self, count: int) -> Iterator[tuple[Size, int]]:
        for size, share in BUCKETS.items():
            whole = max(16, int(count * share))
            while whole > 0:
                yield size, min(whole, 500)
                whole -= 500

    def batch(self, count: int, size: Size) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of one picture size: latents, masks (n, 1, h, w) and texts."""
        latents, masks, texts = self.shelves[size].take(count)
        return latents, masks[:, None], texts
