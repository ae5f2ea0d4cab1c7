"""A tiny Stable Diffusion checkpoint under the key names of the original release, as people download them.

The names are written out from the published architecture, for the tiny model's two blocks alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.fakes.tiny_model import tiny_pipeline

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    r"time_embedding.linear_1": "time_embed.0",
    r"time_embedding.linear_2": "time_embed.2",
    r"conv_in": "input_blocks.0.0",
    r"conv_norm_out": "out.0",
    r"conv_out": "out.2",
    r"mid_block.resnets.0": "middle_block.0",
    r"mid_block.attentions.0": "middle_block.1",
    r"mid_block.resnets.1": "middle_block.2",
    r"down_blocks.0.resnets.0": "input_blocks.1.0",
    r"down_blocks.0.attentions.0": "input_blocks.1.1",
    r"down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    r"down_blocks.1.resnets.0": "input_blocks.3.0",
    r"up_blocks.0.resnets.0": "output_blocks.0.0",
    r"up_blocks.0.resnets.1": "output_blocks.1.0",
    r"up_blocks.0.upsamplers.0": "output_blocks.1.1",
    r"up_blocks.1.resnets.0": "output_blocks.2.0",
    r"up_blocks.1.attentions.0": "output_blocks.2.1",
    r"up_blocks.1.resnets.1": "output_blocks.3.0",
    r"up_blocks.1.attentions.1": "output_blocks.3.1",
}
_VAE = {
    r"mid_block.resnets.0": "mid.block_1",
    r"mid_block.resnets.1": "mid.block_2",
    r"mid_block.attentions.0": "mid.attn_1",
    r"conv_norm_out": "norm_out",
    r"conv_shortcut": "nin_shortcut",
    r"down_blocks.(\d).resnets.(\d)": r"down.\1.block.\2",
    r"down_blocks.(\d).downsamplers.0": r"down.\1.downsample",
    r"up_blocks.0.resnets.(\d)": r"up.1.block.\1",
    r"up_blocks.1.resnets.(\d)": r"up.0.block.\1",
    r"up_blocks.0.upsamplers.0": r"up.1.upsample",
    r"group_norm": "norm",
    r"to_q": "q",
    r"to_k": "k",
    r"to_v": "v",
    r"to_out.0": "proj_out",
}


def save_single_file(folder: Path) -> Path:
    """FOLDER.safetensors, beside it FOLDER with the configuration and no weights; the path of the file."""
    pipe = tiny_pipeline(vae="kl")
    file = folder.with_suffix(".safetensors")
    save_file({key: value.contiguous() for key, value in original_weights(pipe).items()}, file)
    pipe.save_pretrained(folder, safe_serialization=True)
    for part in folder.rglob("*.safetensors"):
        part.unlink()
    return file


def original_weights(pipe: Any) -> dict[str, torch.Tensor]:
    """All weights of the pipeline under their original names."""
    weights = {}
    for key, value in pipe.unet.state_dict().items():
        weights["model.diffusion_model." + _unet_name(key)] = value
    for key, value in pipe.vae.state_dict().items():
        linear = "attentions" in key and "group_norm" not in key and key.endswith("weight")
        weights["first_stage_model." + _renamed(key, _VAE)] = value[..., None, None] if linear else value
    for key, value in pipe.text_encoder.state_dict().items():
        name = key if key.startswith("text_model.") else f"text_model.{key}"
        weights[f"cond_stage_model.transformer.{name}"] = value
    return weights


def _unet_name(key: str) -> str:
    name = _renamed(key, _UNET)
    return _renamed(name, _RESNET) if "resnets" in key else name


def _renamed(key: str, names: dict[str, str]) -> str:
    for pattern, name in names.items():
        key = re.sub(rf"(?:^|(?<=\.)){pattern}(?=\.|$)", name, key)
    return key
