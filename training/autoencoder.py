"""Training of the autoencoder (AutoencoderTiny, 8 times smaller each way, 8 latent channels).

Trained on crops at or near things, with a little noise on the latents so that the decoder
forgives what the diffusion model gets slightly wrong. Latents are kept near zero mean and unit
variance per channel by a light penalty on the batch's moments, since the format offers only one
scaling factor for all channels.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from training import landscapes, scenes
from training.gang import Gang, launch

CROP = 64
BATCH = 20  # of each process
RATE = 1.2e-3
LATENT_NOISE = 0.05


def build() -> AutoencoderTiny:
    """An untrained autoencoder of 0.4 M parameters."""
    return AutoencoderTiny(
        latent_channels=8,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(0, 1, 2, 2),
        num_decoder_blocks=(3, 2, 1, 0),
        scaling_factor=1.0,
    )


def pictures(random: Random, count: int, side: int = 128) -> Tensor:
    """Fresh ground-truth pictures, uint8 (count, 3, side, side); half are landscapes."""
    images = []
    for i in range(count):
        if i % 2:
            image, _ = landscapes.paint_with_weight(landscapes.draw_landscape(random, side, side))
        else:
            draw = scenes.two if random.random() < 0.4 else scenes.one
            image = scenes.paint(draw(random, side, side))
        images.append(np.asarray(image))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _crops(pool: Tensor, batch: int, random: Random) -> Tensor:
    crops = []
    room = pool.shape[-1] - CROP
    for _ in range(batch):
        i = random.randrange(len(pool))
        x, y = random.randint(0, room), random.randint(0, room)
        crops.append(pool[i, :, y : y + CROP, x : x + CROP])
    images = torch.stack(crops).float() / 127.5 - 1
    return images.contiguous(memory_format=torch.channels_last)


def _moments(latents: Tensor) -> Tensor:
    mean = latents.mean(dim=(0, 2, 3))
    variance = latents.var(dim=(0, 2, 3)) + 1e-6
    return (mean**2).mean() + (variance.log() ** 2).mean()


class _Trainer:
    """One rank's model, optimiser and pictures."""

    def __init__(self, folder: Path, gang: Gang, seed: int) -> None:
        torch.manual_seed(seed)
        saved = folder / "vae"
        self.model = AutoencoderTiny.from_pretrained(saved) if saved.exists() else build()
        self.model.to(memory_format=torch.channels_last)  # twice as fast on CPU, in fp32
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0)
        self.folder, self.gang = folder, gang
        self.random = Random(1000 * seed + gang.rank)
        self.pool = pictures(self.random, 1500)
        self.step = 0

    def run(self, minutes: float) -> None:
        """Train for a wall-clock time; rank 0 keeps the clock and saves."""
        self.gang.barrier.wait()
        start, share, shown = time.monotonic(), 0.0, 0.0
        while share < 1:
            if self.gang.rank == 0:
                self.gang.board[0] = (time.monotonic() - start) / (minutes * 60)
            loss = self._train_step(share)
            share = float(self.gang.board[0])
            if self.step % 200 == 0:
                first = self.random.randrange(0, len(self.pool) - 100)
                self.pool[first : first + 100] = pictures(self.random, 100)
            if self.gang.rank == 0 and time.monotonic() - shown > 20:
                shown = time.monotonic()
                print(f"autoencoder {self.step} {share:.2f} loss {loss:.5f}", flush=True)
        if self.gang.rank == 0:
            measure(self.model, pictures(self.random, 64))
            self.model.save_pretrained(self.folder / "vae", safe_serialization=True)

    def _train_step(self, share: float) -> float:
        warm = min(1.0, (self.step + 1) / 100)
        for group in self.optimiser.param_groups:
            group["lr"] = RATE * warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, share)))
        images = _crops(self.pool, BATCH, self.random)
        latents = self.model.encode(images).latents
        noisy = latents + LATENT_NOISE * torch.randn_like(latents)
        error = self.model.decode(noisy).sample - images
        loss = (error**2).mean() + 0.1 * error.abs().mean() + 1e-3 * _moments(latents)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        self.gang.average(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return float(loss.item())


def _work(gang: Gang, folder: Path, minutes: float, seed: int) -> None:
    _Trainer(folder, gang, seed).run(minutes)


def train(folder: Path, minutes: float, ranks: int = 2, seed: int = 0) -> None:
    """Train for a wall-clock time, going on from `folder`/vae if it is there, and save there."""
    size = sum(p.numel() for p in build().parameters())
    launch(_work, ranks, size, folder, minutes, seed)


@torch.no_grad()
def measure(model: AutoencoderTiny, images: Tensor) -> float:
    """Set the scaling factor from these pictures; print and return the PSNR in dB."""
    model.eval()
    inputs = images.float() / 127.5 - 1
    latents = model.encode(inputs).latents
    output = model.decode(latents).sample.clamp(-1, 1)
    psnr = -10 * math.log10(((output - inputs) / 2).pow(2).mean().item())
    model.register_to_config(scaling_factor=1 / latents.std().item())
    spread = [round(s, 2) for s in latents.std(dim=(0, 2, 3)).tolist()]
    print(f"autoencoder PSNR {psnr:.1f} dB, latent std {spread}", flush=True)
    return psnr
