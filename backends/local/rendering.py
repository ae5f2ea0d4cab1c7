"""Runs one batch of pictures through a diffusers pipeline and gives them back as PNG.

The only place that calls a pipeline. It knows batches, not jobs that wait: which pictures share a batch is
engine.py's matter, and all of a batch agree in kind, size, steps, scheduler and strength.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from PIL import Image as Pillow

from backends.local.board import Slot
from backends.local.checking import with_own_flags
from backends.local.framing import cover, keep_unmasked, open_picture, png
from backends.local.guidance import with_own_guidance
from backends.local.loading import Loaded
from backends.local.masking import Masking
from backends.local.plan import Kind, Plan
from backends.local.previews import Previewer
from backends.local.prompts import PromptEncoder
from backends.local.samplers import ONE_BY_ONE, build_scheduler, class_name
from backends.local.upscaling import Upscaler
from bot.core.ports import ImageReady, ImageRejected
from bot.core.request import Image

REJECTED = "The picture was kept back by the model's content check. Try other words or another seed."

AfterCall: TypeAlias = Callable[[int, int, Callable[[], list[bytes]] | None], bool]
"""(model calls made, of how many, makes a preview of each picture) -> whether to go on."""


class Stopped(Exception):
    """Nobody wants this batch any more."""


class Renderer:
    """Pipelines over one set of weights, for one thread."""

    def __init__(self, loaded: Loaded, *, previews: bool) -> None:
        self.loaded = loaded
        self.previews = previews and loaded.stable
        self._own_scheduler = copy.deepcopy(loaded.pipe.scheduler)
        self._pipes: dict[Kind, Any] = {}
        self._upscaler: Upscaler | None = None
        if loaded.stable:
            self._prompts = PromptEncoder(loaded.pipe)
            self._previewer = Previewer(loaded.pipe) if self.previews else None
        self._pipes[Kind.TEXT] = _adapted(loaded.pipe) if loaded.stable else loaded.pipe

    def windows(self, plan: Plan) -> int:
        """How many of the text encoder's windows the longer of the two prompts takes."""
        if not self.loaded.stable:
            return 1
        return max(self._prompts.windows(plan.prompt), self._prompts.windows(plan.negative_prompt))

    def one_by_one(self, plan: Plan) -> bool:
        """Whether seeds hold only for one picture a run; or one picture, by its parts, is a batch already."""
        return plan.kind is Kind.UPSCALE or class_name(self._own_scheduler, plan.scheduler) in ONE_BY_ONE

    def free_memory(self) -> None:
        """Give back what the failed batch held."""
        gc.collect()
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()

    def fewer_parts(self) -> bool:
        """Take half as many parts of an upscale at once; False where it was one."""
        if self._upscaler is None or self._upscaler.at_once == 1:
            return False
        self._upscaler.at_once //= 2
        return True

    def warm_up(self) -> None:
        """Make the first request as fast as the others; only where that is cheap."""
        if not (self.loaded.stable and (self.loaded.small or self.loaded.device.type == "cuda")):
            return
        profile = self.loaded.profile
        embedding = self._prompts.encode("", 1)
        options: dict[str, Any] = {"prompt_embeds": embedding.sequence}
        if embedding.pooled is not None:
            options["pooled_prompt_embeds"] = embedding.pooled
        pipe = self._pipes[Kind.TEXT]
        pipe.scheduler = copy.deepcopy(self._own_scheduler)
        pipe(
            **options,
            width=profile.default_width,
            height=profile.default_height,
            num_inference_steps=2,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        )

    def render(self, batch: Sequence[Slot], after_call: AfterCall) -> list[ImageReady | ImageRejected]:
        """Make all pictures of a batch. Raises Stopped where after_call says so, and what torch raises."""
        plan = batch[0].work.plan
        pipe = self._pipe(plan.kind)
        pipe.scheduler = build_scheduler(
            self._own_scheduler, self.loaded.profile, plan.scheduler, batch[0].seed
        )
        originals = [_sent(slot, "init_image", plan) for slot in batch] if plan.kind != Kind.TEXT else []
        masks = [_sent(slot, "mask_image", plan) for slot in batch] if plan.kind == Kind.INPAINT else []
        masking = Masking(pipe, originals, masks, [slot.seed for slot in batch]) if masks else None
        options = {**self._inputs(batch), **self._shape(plan, originals)}
        with contextlib.ExitStack() as stack:
            calls = self._begin_second_pass(stack, plan, originals, after_call)
            output = pipe(
                **options,
                num_inference_steps=plan.steps,
                generator=[torch.Generator().manual_seed(slot.seed) for slot in batch],
                callback_on_step_end=self._callback(after_call, masking, calls),
            )
        own = getattr(pipe, "flagged", None)
        flags = own or getattr(output, "nsfw_content_detected", None) or [False] * len(batch)
        results = zip(batch, output.images, flags, strict=True)
        return [_result(*each, blacked=own is None) for each in results]

    def _begin_second_pass(
        self,
        stack: contextlib.ExitStack,
        plan: Plan,
        originals: Sequence[Pillow.Image],
        after_call: AfterCall,
    ) -> int:
        """Make the upscaling pipeline ready until `stack` ends. How often a step calls the UNet."""
        if plan.second is None or self._upscaler is None:
            return 1
        pipe = self._upscaler.pipe
        calls = self._upscaler.calls(plan.second, plan.width, plan.height)

        def between(made: int) -> None:
            if not after_call(made, calls * pipe.num_timesteps, None):
                raise Stopped

        stack.enter_context(self._upscaler.prepared(plan.second, originals, between))
        return calls

    # --- the pipeline's arguments -------------------------------------------------------------------------

    def _pipe(self, kind: Kind) -> Any:
        shared = Kind.IMAGE if kind == Kind.INPAINT else kind
        if shared not in self._pipes:
            self._pipes[shared] = self._image_pipe()
        if shared == Kind.UPSCALE and self._upscaler is None:
            unet = self.loaded.second_unet or self._pipes[shared].unet
            self._upscaler = Upscaler(self._pipes[shared], unet, self.loaded.slots)
        return self._pipes[shared]

    def _image_pipe(self) -> Any:
        """The image-to-image pipeline over the same weights."""
        import diffusers

        text = self._pipes[Kind.TEXT]
        name = type(text).__name__.replace("Pipeline", "Img2ImgPipeline")
        extra = {"requires_safety_checker": False} if "requires_safety_checker" in text.config else {}
        pipe = getattr(diffusers, name)(**text.components, **extra)
        pipe.set_progress_bar_config(disable=True)
        return _adapted(pipe)

    def _shape(self, plan: Plan, originals: Sequence[Pillow.Image]) -> Mapping[str, Any]:
        if originals:
            return {"image": list(originals), "strength": plan.strength}
        return {"width": plan.width, "height": plan.height}

    def _inputs(self, batch: Sequence[Slot]) -> dict[str, Any]:
        plans = [slot.work.plan for slot in batch]
        largest = max(plan.guidance for plan in plans)
        if not self.loaded.stable:
            return self._plain_inputs(plans)
        self._own_guidance(plans)
        windows = batch[0].work.windows
        inputs = self._embedded([plan.prompt for plan in plans], windows, "")
        if plans[0].guided:
            inputs |= self._embedded([plan.negative_prompt for plan in plans], windows, "negative_")
        return inputs | {"guidance_scale": largest}

    def _plain_inputs(self, plans: Sequence[Plan]) -> dict[str, Any]:
        """For families that encode their prompts themselves; what the pipeline does not take is left out."""
        inputs = {
            "prompt": [plan.prompt for plan in plans],
            "negative_prompt": [plan.negative_prompt for plan in plans],
            "guidance_scale": plans[0].guidance,
        }
        taken = inspect.signature(self._pipes[Kind.TEXT].__call__).parameters
        return {name: value for name, value in inputs.items() if name in taken}

    def _own_guidance(self, plans: Sequence[Plan]) -> None:
        scales = [plan.guidance for plan in plans]
        pipe = self._pipe(plans[0].kind)
        pipe.picture_guidance = None
        if plans[0].guided and len(set(scales)) > 1:
            dtype = pipe.unet.dtype
            pipe.picture_guidance = torch.tensor(scales, device=self.loaded.device, dtype=dtype).view(
                -1, 1, 1, 1
            )

    def _embedded(self, texts: Sequence[str], windows: int, prefix: str) -> dict[str, Any]:
        parts = [self._prompts.encode(text, windows, negative=bool(prefix)) for text in texts]
        inputs = {f"{prefix}prompt_embeds": torch.cat([part.sequence for part in parts])}
        pooled = [part.pooled for part in parts if part.pooled is not None]
        if pooled:
            inputs[f"{prefix}pooled_prompt_embeds"] = torch.cat(pooled)
        return inputs

    def _callback(
        self, after_call: AfterCall, masking: Masking | None, calls: int
    ) -> Callable[..., dict[str, Any]]:
        """calls: of the UNet in a step."""

        def after_step(pipe: Any, step: int, _: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
            latents = tensors["latents"]
            changed = {} if masking is None else {"latents": masking.blend(pipe, step, latents)}

            def look() -> list[bytes]:
                assert self._previewer is not None  # noqa: S101  given only where it is there
                return self._previewer.pictures(latents, pipe.scheduler)

            total = calls * getattr(pipe, "num_timesteps", step + 1)
            if not after_call(calls * (step + 1), total, look if self.previews else None):
                raise Stopped
            return changed

        return after_step


def _adapted(pipe: Any) -> Any:
    """A pipeline of the families that our guidance and flags work with."""
    return with_own_guidance(with_own_flags(pipe) if hasattr(pipe, "run_safety_checker") else pipe)


def _sent(slot: Slot, field: str, plan: Plan) -> Pillow.Image:
    image: Image = getattr(slot.work.job.request, field)
    return open_picture(image, plan.width, plan.height, field=field)


def _result(slot: Slot, picture: Pillow.Image, flagged: bool, *, blacked: bool) -> ImageReady | ImageRejected:
    """blacked: a flagged picture is no longer what was made."""
    if flagged and blacked:
        return ImageRejected(slot.index, REJECTED, seed=slot.seed)
    request = slot.work.job.request
    made = cover(picture, request.width, request.height)
    if request.init_image is not None and request.mask_image is not None:
        size = (request.width, request.height)
        original = open_picture(request.init_image, *size, field="init_image")
        made = keep_unmasked(made, original, open_picture(request.mask_image, *size, field="mask_image"))
    if flagged:
        return ImageRejected(slot.index, REJECTED, png(made), "image/png", slot.seed)
    return ImageReady(slot.index, png(made), "image/png", slot.seed)
