"""Export of the trained parts as one fp16 pipeline in diffusers' own format."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from training import tokenizer as tokenizers


def tidy(config: Path) -> None:
    """Take out of a saved configuration the path of the machine that trained it."""
    data = json.loads(config.read_text(encoding="utf-8"))
    if data.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def export(folder: Path, unet: UNet2DConditionModel, target: Path) -> None:
    """Assemble the parts trained in `folder` with `unet` and write them to `target` in fp16."""
    from training.unet import scheduler

    pipeline = StableDiffusionPipeline(
        vae=AutoencoderTiny.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=tokenizers.load(folder),
        unet=copy.deepcopy(unet),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    pipeline.save_pretrained(part, safe_serialization=True)
    for config in part.rglob("*.json"):
        tidy(config)
    _move(part, target)


def _move(part: Path, target: Path) -> None:
    """Put the new parts in the place of the old; files of people's making there stay."""
    target.mkdir(exist_ok=True)
    for new in part.iterdir():
        old = target / new.name
        if old.is_dir():
            shutil.rmtree(old)
        new.replace(old)
    part.rmdir()
