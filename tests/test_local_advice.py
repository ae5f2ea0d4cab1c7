"""The way from the demonstration model to real pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.local.advice import GIB, real_pictures
from backends.local.profile import read_profile


@pytest.mark.parametrize(
    ("memory", "model"),
    [
        (None, "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        (6 * GIB, "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        (12 * GIB, "stabilityai/stable-diffusion-xl-base-1.0"),
        (24 * GIB, "Tongyi-MAI/Z-Image-Turbo"),
    ],
)
def test_the_command_fits_the_hardware(memory: int | None, model: str) -> None:
    assert f"`FAIRBRUSH_BACKENDS=local:{model} fairbrush run`" in real_pictures(memory)


def test_without_a_gpu_the_way_by_volunteers_is_named_with_what_it_means() -> None:
    assert "`FAIRBRUSH_BACKENDS=horde: fairbrush run`" in real_pictures(None)
    assert "your prompt leaves this machine" in real_pictures(None)
    assert "horde" not in real_pictures(12 * GIB)


@pytest.mark.parametrize("demo", [True, False])
def test_only_a_demonstration_model_gives_advice(tmp_path: Path, *, demo: bool) -> None:
    (tmp_path / "profile.json").write_text(json.dumps({"title": "Mine", "demo": demo}))
    assert bool(read_profile(tmp_path, "mine").advice) is demo
