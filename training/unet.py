"""Training of the diffusion model (UNet2DConditionModel) on encoded scenes.

v-prediction with zero terminal SNR (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample
Steps are Flawed"), captions dropped one time in ten for guidance without a classifier, a loss that
counts more where things are, and an average of the weights. The schedule follows the clock, so
that training ends on time whatever else the machine does.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel

from training import tokenizer as tokenizers
from training.export import export
from training.gang import Gang, launch
from training.mix import bucket
from training.pool import Encoders, ScenePool

STEPS = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. Times are wall-clock minutes."""

    minutes: float
    ranks: int = 2  # processes of one thread each
    batch: int = 64  # over all ranks
    rate: float = 9e-4
    warm_up: int = 200
    caption_drop: float = 0.1
    thing_weight: float = 4.0  # added to 1 where things are
    average: float = 0.998
    average_every: int = 4
    scenes: int = 50_000
    first_scenes: int = 9_000
    refresh: int = 800
    refresh_minutes: float = 2.0
    checkpoint_minutes: float = 4.0


def build() -> UNet2DConditionModel:
    """An untrained model of 5.4 M parameters for 8-channel latents."""
    model = UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(48, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
        use_linear_projection=True,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    model.set_attn_processor(AttnProcessor())  # twice as fast as SDPA at these sizes on CPU
    return model


def scheduler() -> DDIMScheduler:
    """The noise schedule that the model is trained on and exported with."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def load_encoders(folder: Path) -> Encoders:
    """The trained autoencoder, text encoder and tokenizer under `folder`."""
    autoencoder = AutoencoderTiny.from_pretrained(folder / "vae").eval()
    text = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    return Encoders(autoencoder.to(memory_format=torch.channels_last), text, tokenizers.load(folder))


class Trainer:
    """One rank's model, optimiser and scenes; rank 0 also keeps the clock and the average.

    Resumes from `folder`/unet.pt where that exists.
    """

    def __init__(self, folder: Path, plan: Plan, gang: Gang, seed: int) -> None:
        torch.manual_seed(seed)
        self.folder, self.plan, self.gang = folder, plan, gang
        self.model = build().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=plan.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True
        )
        self.signal = scheduler().alphas_cumprod
        self.step = 0
        self.elapsed = 0.0  # seconds of training so far, over all runs
        if (folder / "unet.pt").exists():
            self._resume()
        self.encoders = load_encoders(folder)
        self.nothing = self.encoders.embeddings([""])
        self.sizes = Random(seed + self.step)  # the same on every rank
        own = 1000 * (seed + self.step) + gang.rank
        torch.manual_seed(own)
        self.pool = ScenePool(self.encoders, plan.scenes // plan.ranks, own)

    def _resume(self) -> None:
        state = torch.load(self.folder / "unet.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self) -> None:
        """Write the checkpoint, then a loadable pipeline under `folder`/export."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        part = self.folder / "unet.pt.part"
        torch.save(state, part)
        part.replace(self.folder / "unet.pt")
        export(self.folder, self.average, self.folder / "export")

    def run(self) -> None:
        """Train until the planned minutes are over."""
        ranks, leads = self.plan.ranks, self.gang.rank == 0
        self.pool.refresh(self.plan.first_scenes // ranks)
        self.gang.barrier.wait()
        diary = _Diary(self.plan, self.elapsed) if leads else None
        self.gang.board[0] = self.elapsed
        while self.elapsed < self.plan.minutes * 60:
            loss = self._train_step(diary)
            refresh, self.elapsed = bool(self.gang.board[1]), float(self.gang.board[0])
            if diary is not None:
                self._lead(diary, loss)
            if refresh:
                self.pool.refresh(self.plan.refresh // ranks)
        if leads:
            self.save()

    def _lead(self, diary: _Diary, loss: float) -> None:
        if self.step % self.plan.average_every == 0:
            self._update_average()
        diary.note(loss, self.step, len(self.pool) * self.plan.ranks)
        if diary.due("saved", self.plan.checkpoint_minutes):
            self.save()

    def _share(self) -> float:
        done = min(1.0, self.elapsed / (self.plan.minutes * 60))
        warm = min(1.0, (self.step + 1) / self.plan.warm_up)
        return warm * (0.5 + 0.5 * math.cos(math.pi * done))

    def _train_step(self, diary: _Diary | None) -> float:
        share = self._share()
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate * share
        count = self.plan.batch // self.plan.ranks
        latents, masks, texts = self.pool.batch(count, bucket(self.sizes))
        dropped = torch.rand(len(texts)) < self.plan.caption_drop
        texts[dropped] = self.nothing
        loss = self._loss(latents, masks, texts)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        if diary is not None:  # before the barrier, read by all after it
            full = len(self.pool) * self.plan.ranks >= 0.95 * self.plan.scenes
            patience = self.plan.refresh_minutes * (3 if full else 1)
            self.gang.board[0] = diary.elapsed()
            self.gang.board[1] = float(diary.due("refreshed", patience))
        self.gang.average(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return loss.item()

    def _loss(self, latents: Tensor, masks: Tensor, texts: Tensor) -> Tensor:
        count = len(latents)
        strata = (torch.randperm(count) + torch.rand(count)) / count  # every noise level each time
        # Noisier levels more often (density 1/2 + t): there the picture's content is decided.
        times = (((1 + 8 * strata).sqrt() - 1) / 2 * STEPS).long().clamp(0, STEPS - 1)
        signal = self.signal[times].sqrt()[:, None, None, None]
        noise_share = (1 - self.signal[times]).sqrt()[:, None, None, None]
        noise = torch.randn_like(latents)
        noisy = signal * latents + noise_share * noise
        target = signal * noise - noise_share * latents
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        output = self.model(noisy, times, encoder_hidden_states=texts).sample
        weight = 1 + self.plan.thing_weight * masks
        weight = weight / weight.mean()
        loss: Tensor = ((output - target) ** 2 * weight).mean()
        return loss

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.plan.average**self.plan.average_every, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)


class _Diary:
    """Rank 0's clock: seconds trained, what is due, and a line of progress every half minute."""

    def __init__(self, plan: Plan, elapsed: float) -> None:
        self._plan = plan
        self._begun = time.monotonic() - elapsed
        self._last = dict.fromkeys(("refreshed", "saved", "shown"), time.monotonic())
        self._losses: list[float] = []

    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    def due(self, what: str, minutes: float) -> bool:
        """Whether `minutes` have passed since this was last due."""
        now = time.monotonic()
        if now - self._last[what] < minutes * 60:
            return False
        self._last[what] = now
        return True

    def note(self, loss: float, step: int, scenes: int) -> None:
        """Take down a step's loss; print a line when one is due."""
        self._losses.append(loss)
        since = time.monotonic() - self._last["shown"]
        if not self.due("shown", 0.5):
            return
        speed = len(self._losses) * self._plan.batch / since
        mean = sum(self._losses) / len(self._losses)
        self._losses = []
        print(
            f"unet {self.elapsed() / 60:6.2f} min, step {step}, {speed:.0f} samples/s,"
            f" pool {scenes}, loss {mean:.4f}",
            flush=True,
        )


def _work(gang: Gang, folder: Path, plan: Plan, seed: int) -> None:
    Trainer(folder, plan, gang, seed).run()


def train(folder: Path, plan: Plan, seed: int = 0) -> None:
    """Train, or go on training, the diffusion model in `folder`."""
    size = sum(p.numel() for p in build().parameters())
    launch(_work, plan.ranks, size, folder, plan, seed)
