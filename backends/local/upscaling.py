"""The pipeline of an upscale: image to image over parts of the picture, its composition held.

The autoencoder, which needs the most memory of all at this size, works in parts too where it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image as Pillow

from backends.local.holding import Hold
from backends.local.masking import clean_latents
from backends.local.second_pass import SecondPass
from backends.local.tiling import TiledUnet


class Upscaler:
    """Turns an image-to-image pipeline into one for upscales by `unet`. at_once: parts in one call of it."""

    def __init__(self, pipe: Any, unet: Any, at_once: int) -> None:
        self.pipe = pipe
        self.at_once = at_once
        self._unet = TiledUnet(unet, pipe.vae_scale_factor)
        pipe.unet = self._unet

    def calls(self, second: SecondPass, width: int, height: int) -> int:
        """Calls of the UNet in one step over a picture of width x height pixels."""
        factor = self.pipe.vae_scale_factor
        self._unet.reset(self._part(second), self.at_once)
        return self._unet.calls(height // factor, width // factor)

    @contextmanager
    def prepared(
        self, second: SecondPass, originals: Sequence[Pillow.Image], between: Callable[[int], None]
    ) -> Iterator[None]:
        """For one call of the pipeline, whose scheduler is set. originals: enlarged to the size made."""
        with _in_parts(self.pipe.vae):
            hold = Hold(clean_latents(self.pipe, originals), self.pipe.scheduler)
            self._unet.reset(self._part(second), self.at_once, correct=hold, between=between)
            try:
                yield
            finally:
                self._unet.reset((1, 1), 1)

    def _part(self, second: SecondPass) -> tuple[int, int]:
        factor = self.pipe.vae_scale_factor
        return second.part_height // factor, second.part_width // factor


@contextmanager
def _in_parts(vae: Any) -> Iterator[None]:
    """The tiny autoencoders are cheap as a whole, and diffusers' parts of them know four channels only."""
    if type(vae).__name__ != "AutoencoderKL":
        yield
        return
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()
