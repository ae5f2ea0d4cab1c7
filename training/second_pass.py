"""Trains the UNet of the second pass: `python -m training.second_pass [--minutes N]`.

The embedded model knows whole scenes of 128 pixels. An upscale shows it a part of a scene at a time, larger
than it ever saw things, with the caption of the whole. So a copy of its UNet goes on learning on parts of
scenes painted at two to four times the size, mostly at the noise levels of a second pass. The first pass
keeps its own UNet.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel

from backends.local.sources import embedded_folder
from training import tokenizer as tokenizers
from training.captions import caption
from training.export import tidy
from training.mix import draw_training
from training.pool import Encoders, paint
from training.unet import STEPS, scheduler

FOLDER = Path(__file__).parent.parent / ".cache" / "training"
PART = 16  # latents of a part's side
SIDES: dict[int, float] = {256: 0.75, 384: 0.15, 512: 0.10}  # pixels of the painted scenes, and how often
USUAL = 0.5  # noise levels of a second pass: the quieter half ...
USUAL_SHARE = 0.85  # ... this often, else any


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. minutes: of wall-clock time, painting not counted; scenes: painted once, before."""

    minutes: float
    scenes: int = 4000
    batch: int = 64
    rate: float = 4e-4
    warm_up: int = 50
    caption_drop: float = 0.15
    thing_weight: float = 4.0  # added to 1 where things are
    average: float = 0.995


@dataclass(slots=True)
class Large:
    """Encoded scenes of one size: latents (n, 8, h, w), masks (n, 1, h, w), texts (n, tokens, 128)."""

    latents: Tensor
    masks: Tensor
    texts: Tensor

    def parts(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random parts of random scenes; of two places the one that shows more is taken half the time."""
        rows = torch.randint(len(self.latents), (count,))
        room = self.latents.shape[-1] - PART + 1
        latents, masks = [], []
        for row in rows.tolist():
            places = torch.randint(room, (2, 2)).tolist()
            cut = [self.masks[row, :, y : y + PART, x : x + PART] for y, x in places]
            first = torch.rand(()) < 0.5 or cut[0].sum() >= cut[1].sum()
            y, x = places[0] if first else places[1]
            latents.append(self.latents[row, :, y : y + PART, x : x + PART].float())
            masks.append((cut[0] if first else cut[1]).float())
        return torch.stack(latents), torch.stack(masks), self.texts[rows].float()


def paint_scenes(encoders: Encoders, side: int, count: int, seed: int) -> Large:
    """Scenes of side x side pixels, painted and encoded."""
    random = Random(seed)
    latents, masks, told = [], [], []
    for _ in range(count):
        scene = draw_training(random, side, side)
        pixels, mask = paint(scene)
        latents.append(encoders.latents(pixels[None])[0].half())
        masks.append(torch.from_numpy(np.array(mask)).half()[None] / 255)
        told.append(caption(scene, random))
    texts = [encoders.embeddings(told[i : i + 64]).half() for i in range(0, count, 64)]
    return Large(torch.stack(latents), torch.stack(masks), torch.cat(texts))


class Trainer:
    """The copy of the UNet, its average, and the scenes."""

    def __init__(self, source: Path, plan: Plan, seed: int) -> None:
        torch.manual_seed(seed)
        self.plan = plan
        vae = AutoencoderTiny.from_pretrained(source / "vae").float().eval()
        text = CLIPTextModel.from_pretrained(source / "text_encoder").float().eval()
        encoders = Encoders(vae, text, tokenizers.load(source))
        self.model = UNet2DConditionModel.from_pretrained(source / "unet").float()
        self.model.set_attn_processor(AttnProcessor())
        self.model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.signal = scheduler().alphas_cumprod
        self.nothing = encoders.embeddings([""])
        self.pool = {
            side: paint_scenes(encoders, side, max(8, int(plan.scenes * share**1.3)), seed + side)
            for side, share in SIDES.items()
        }

    def run(self) -> None:
        """Train until the planned minutes are over; the learning rate follows the clock."""
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=self.plan.rate, betas=(0.9, 0.99))
        begun, step, losses = time.monotonic(), 0, []
        while (done := (time.monotonic() - begun) / (60 * self.plan.minutes)) < 1:
            warm = min(1.0, (step + 1) / self.plan.warm_up)
            for group in optimiser.param_groups:
                group["lr"] = self.plan.rate * warm * (0.5 + 0.5 * math.cos(math.pi * done))
            loss = self._loss()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward([loss])
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimiser.step()
            keep = min(self.plan.average, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
            step += 1
            losses.append(loss.item())
            if step % 50 == 0:
                print(f"{done:4.0%}, step {step}, loss {sum(losses) / len(losses):.4f}", flush=True)
                losses = []

    def _loss(self) -> Tensor:
        side = int(
            np.random.default_rng(int(torch.randint(2**31, ()))).choice(list(SIDES), p=list(SIDES.values()))
        )
        latents, masks, texts = self.pool[side].parts(self.plan.batch)
        count = len(latents)
        texts[torch.rand(count) < self.plan.caption_drop] = self.nothing
        share = torch.where(torch.rand(count) < USUAL_SHARE, USUAL, 1.0)
        times = (torch.rand(count) * share * STEPS).long()
        signal = self.signal[times].sqrt()[:, None, None, None]
        noise_share = (1 - self.signal[times]).sqrt()[:, None, None, None]
        noise = torch.randn_like(latents)
        noisy = (signal * latents + noise_share * noise).contiguous(memory_format=torch.channels_last)
        target = signal * noise - noise_share * latents
        output = self.model(noisy, times, encoder_hidden_states=texts).sample
        weight = 1 + self.plan.thing_weight * masks
        loss: Tensor = ((output - target) ** 2 * (weight / weight.mean())).mean()
        return loss

    def save(self, target: Path) -> None:
        """Write the average in fp16."""
        half = copy.deepcopy(self.average).half()
        half.save_pretrained(target, safe_serialization=True)
        tidy(target / "config.json")


def main() -> None:
    """Train from the embedded model and write the UNet's folder."""
    parser = argparse.ArgumentParser(prog="python -m training.second_pass", description=__doc__)
    parser.add_argument("--model", type=Path, default=embedded_folder(), help="default: %(default)s")
    parser.add_argument("--target", type=Path, default=FOLDER / "second_unet", help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trainer = Trainer(options.model, Plan(minutes=options.minutes), options.seed)
    trainer.run()
    trainer.save(options.target)
    print(f"The UNet lies in {options.target}.")


if __name__ == "__main__":
    main()
