"""The safety checker of the Stable Diffusion pipelines, made to tell only: it leaves the picture as it is.

Whether a flagged picture is shown, and how, is for those who run the server; pipelines would black it out.
"""

from __future__ import annotations

from typing import Any

import torch


def with_own_flags(pipe: Any) -> Any:
    """Let `pipe.flagged` hold, after a call, which pictures the checker flagged; None without a checker."""
    family = type(pipe)

    class Checked(family):  # type: ignore[misc, valid-type]  # a class made at run time
        flagged: list[bool] | None = None

        def run_safety_checker(self, image: torch.Tensor, *details: Any) -> tuple[torch.Tensor, None]:
            _, self.flagged = super().run_safety_checker(image.clone(), *details)
            return image, None

    Checked.__name__ = family.__name__
    pipe.__class__ = Checked
    return pipe
