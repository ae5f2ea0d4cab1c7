"""A UNet over a picture larger than its own: run on overlapping parts, the predictions blended.

Blending noise predictions before the sampler's step (Bar-Tal et al. 2023, MultiDiffusion; the smooth weights
as in Jiménez 2023, Mixture of Diffusers) works with every sampler, for the sampler sees one picture only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from backends.local.second_pass import starts

Place: TypeAlias = tuple[int, int]
Correct: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(prediction, noisy latents as the UNet got them, timestep) -> prediction."""


class TiledUnet(nn.Module):
    """Stands in for `unet` in a pipeline. part: (height, width) in latents; at_once: parts in one call of the
    UNet; factor: pixels of a side to one latent.

    correct: changes the blended prediction; between: called between two calls of the UNet within one step,
    with the number of calls made since the last reset; it may raise to stop.
    """

    def __init__(self, unet: Any, factor: int) -> None:
        super().__init__()
        self.unet = unet
        self._factor = factor
        self.reset((1, 1), 1)

    def reset(
        self,
        part: tuple[int, int],
        at_once: int,
        *,
        correct: Correct | None = None,
        between: Callable[[int], None] | None = None,
    ) -> None:
        """Make ready for a picture; without arguments beyond the first two it holds on to nothing."""
        self._part, self._at_once = part, at_once
        self._correct, self._between = correct, between
        self._calls = 0

    def calls(self, height: int, width: int) -> int:
        """Calls of the UNet in one step over latents of height x width."""
        return len(self._rounds(height, width))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        *,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        timestep_cond: Tensor | None = None,
        return_dict: bool = False,
        **options: Any,
    ) -> tuple[Tensor]:
        """The prediction for `sample` (n, channels, height, width), as the UNet's own forward gives it."""
        height, width = self._sides(*sample.shape[-2:])
        total = torch.zeros_like(sample, dtype=torch.float32)
        weights = torch.zeros(sample.shape[-2:], device=sample.device)
        window = _window(height, width).to(sample.device)
        rounds = self._rounds(*sample.shape[-2:])
        for number, places in enumerate(rounds, start=1):
            cut = [sample[..., top : top + height, left : left + width] for top, left in places]
            predicted = self.unet(
                torch.cat(cut),
                timestep,
                encoder_hidden_states=_repeat(encoder_hidden_states, len(places)),
                added_cond_kwargs=self._conditions(added_cond_kwargs, places, len(sample)),
                timestep_cond=None if timestep_cond is None else _repeat(timestep_cond, len(places)),
                return_dict=False,
                **options,
            )[0]
            for (top, left), part in zip(places, predicted.split(len(sample)), strict=True):
                total[..., top : top + height, left : left + width] += part.float() * window
                weights[top : top + height, left : left + width] += window
            self._count(last=number == len(rounds))
        blended = total / weights
        if self._correct is not None:
            blended = self._correct(blended, sample, timestep)
        return (blended.to(sample.dtype),)

    def _count(self, *, last: bool) -> None:
        self._calls += 1
        if not last and self._between is not None:
            self._between(self._calls)

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        return min(self._part[0], height), min(self._part[1], width)

    def _rounds(self, height: int, width: int) -> list[list[Place]]:
        """The parts' places by calls of the UNet, each with about as many."""
        part_height, part_width = self._sides(height, width)
        places = list(itertools.product(starts(height, part_height), starts(width, part_width)))
        rounds = -(-len(places) // self._at_once)
        size = -(-len(places) // rounds)
        return [places[i : i + size] for i in range(0, len(places), size)]

    def _conditions(
        self, given: Mapping[str, Tensor] | None, places: list[Place], rows: int
    ) -> dict[str, Tensor] | None:
        """Those of each part. SDXL is told in time_ids[2:4] where a picture was cut: here that is true."""
        if given is None:
            return None
        result = {name: _repeat(value, len(places)) for name, value in given.items()}
        if "time_ids" in result:
            corners = torch.tensor(places, device=result["time_ids"].device) * self._factor
            corners = corners.repeat_interleave(rows, dim=0).to(result["time_ids"].dtype)
            result["time_ids"][:, 2:4] = corners
        return result

    # What pipelines read of a UNet.

    @property
    def config(self) -> Any:
        """The UNet's."""
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        """The UNet's."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """The UNet's."""
        device: torch.device = self.unet.device
        return device

    @property
    def add_embedding(self) -> Any:
        """The UNet's (SDXL)."""
        return self.unet.add_embedding


def _repeat(tensor: Tensor, times: int) -> Tensor:
    return tensor.repeat(times, *[1] * (tensor.ndim - 1))


def _window(height: int, width: int) -> Tensor:
    """Hann weights (height, width), above 0 everywhere: a part counts most in its middle."""
    rows, columns = (
        0.5 - 0.5 * torch.cos(2 * math.pi * (torch.arange(side) + 0.5) / side) for side in (height, width)
    )
    return rows[:, None] * columns[None, :]
