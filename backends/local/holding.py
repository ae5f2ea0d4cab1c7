"""Keeps a picture's composition while it is denoised: what is coarse stays as it was.

At every step the predicted clean latents are given the coarse part (means over 2 x 2 latents) of the
original's, and keep their own fine part: range-null space decomposition with this averaging as the operator
(Wang et al. 2023, DDNM; Choi et al. 2021, ILVR). Without it each part of a picture that is denoised in parts
grows objects of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_COARSE = 2  # latents of a side that are averaged
_LEAST_SIGNAL = 1e-4


class Hold:
    """The Correct (tiling.py) of one batch. clean: the originals' scaled latents (n, channels, height,
    width); scheduler: says what is predicted and how noisy a timestep is.

    Linear in the prediction, so that it may be applied before guidance combines two of them.
    """

    def __init__(self, clean: Tensor, scheduler: Any) -> None:
        self._coarse = _coarse(clean.float())
        self._signal = scheduler.alphas_cumprod.double().cpu().clamp(_LEAST_SIGNAL, 1 - _LEAST_SIGNAL)
        self._predicts = str(scheduler.config.get("prediction_type", "epsilon"))

    def __call__(self, prediction: Tensor, sample: Tensor, timestep: Tensor) -> Tensor:
        """The prediction whose clean latents have the originals' coarse part."""
        kept, noise = self._shares(float(timestep))
        noisy = sample.float()
        match self._predicts:
            case "v_prediction":
                clean, by = kept * noisy - noise * prediction, -1 / noise
            case "sample":
                clean, by = prediction, 1.0
            case _:
                clean, by = (noisy - noise * prediction) / kept, -kept / noise
        coarse = self._coarse.repeat(len(clean) // len(self._coarse), 1, 1, 1)
        return prediction + by * (coarse - _coarse(clean))

    def _shares(self, timestep: float) -> tuple[float, float]:
        """Of the clean latents and of the noise at a timestep; between two, by the log of their ratio."""
        low = min(max(int(timestep), 0), len(self._signal) - 1)
        pair = self._signal[[low, min(low + 1, len(self._signal) - 1)]]
        logits = torch.logit(pair)
        signal = torch.sigmoid(logits[0] + (logits[1] - logits[0]) * min(timestep - low, 1.0))
        return float(signal.sqrt()), float((1 - signal).sqrt())


def _coarse(latents: Tensor) -> Tensor:
    means = functional.avg_pool2d(latents, _COARSE, ceil_mode=True, count_include_pad=False)
    return functional.interpolate(means, size=latents.shape[-2:], mode="bilinear", align_corners=False)
