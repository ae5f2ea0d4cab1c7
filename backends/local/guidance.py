"""Guidance for each picture of a batch, in pipelines that take one number for all."""

from __future__ import annotations

from typing import Any

import torch


def with_own_guidance(pipe: Any) -> Any:
    """Let `pipe.picture_guidance` (n, 1, 1, 1), where set, stand for the guidance_scale of its calls.

    The Stable Diffusion pipelines read the property `guidance_scale` where they combine the two predictions;
    whether they guide at all they decide by the number of the call.
    """
    family = type(pipe)

    class Guided(family):  # type: ignore[misc, valid-type]  # a class made at run time
        picture_guidance: torch.Tensor | None = None

        @property
        def guidance_scale(self) -> Any:
            return self._guidance_scale if self.picture_guidance is None else self.picture_guidance

    Guided.__name__ = family.__name__
    pipe.__class__ = Guided
    return pipe
