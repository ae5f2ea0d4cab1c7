"""Tiny diffusers models with random weights, made in seconds: all files of a real one, nothing to look at."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

SIDE = 32
_WIDTH = 16

Vae = Literal["tiny", "kl"]


def tiny_tokenizer(window: int = 16) -> CLIPTokenizer:
    """Letters, digits and two special tokens; every letter is a token, so long prompts are easily made."""
    letters = string.ascii_lowercase + string.digits
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=window)


def tiny_pipeline(*, vae: Vae = "tiny", checker: bool = False, window: int = 16) -> Any:
    """A Stable Diffusion pipeline of a few thousand parameters for pictures of 32 x 32, always the same."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(window)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=window,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    channels = 4
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=_WIDTH,
    )
    return StableDiffusionPipeline(
        vae=_tiny_vae(channels) if vae == "tiny" else _kl_vae(channels),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=rejecting_checker() if checker else None,
        feature_extractor=CLIPImageProcessorPil(size=_WIDTH, crop_size=_WIDTH) if checker else None,
        requires_safety_checker=False,
    )


def tiny_xl_pipeline() -> Any:
    """A Stable Diffusion XL pipeline, as tiny: two text encoders, pooled embeddings, time ids."""
    base = tiny_pipeline(vae="kl")
    config = base.text_encoder.config
    second = CLIPTextModelWithProjection(CLIPTextConfig(**(config.to_dict() | {"projection_dim": 8})))
    unet = UNet2DConditionModel(
        **{
            **{key: value for key, value in base.unet.config.items() if not key.startswith("_")},
            "cross_attention_dim": 2 * _WIDTH,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 8 + 6 * 4,
        }
    )
    return StableDiffusionXLPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        text_encoder_2=second.eval(),
        tokenizer=base.tokenizer,
        tokenizer_2=base.tokenizer,
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(steps_offset=1),
        add_watermarker=False,
    )


def _tiny_vae(channels: int) -> Any:
    return AutoencoderTiny(
        latent_channels=channels,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()


def _kl_vae(channels: int) -> Any:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 8),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=SIDE,
    ).eval()


def rejecting_checker() -> Any:
    """A safety checker that flags every picture: its thresholds lie below any cosine."""
    vision = {
        "hidden_size": _WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        vision_config=vision | {"image_size": _WIDTH, "patch_size": 8, "projection_dim": 8},
        text_config={"hidden_size": _WIDTH, "projection_dim": 8},
        projection_dim=8,
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    checker.concept_embeds_weights.data.fill_(-1.0)
    checker.special_care_embeds_weights.data.fill_(-1.0)
    return checker


def save_tiny_model(
    folder: Path, *, vae: Vae = "tiny", checker: bool = False, window: int = 16, **profile: object
) -> Path:
    """A model folder in safetensors, with a fairbrush.json of `profile`."""
    tiny_pipeline(vae=vae, checker=checker, window=window).save_pretrained(folder, safe_serialization=True)
    if profile:
        (folder / "fairbrush.json").write_text(json.dumps(profile))
    return folder
