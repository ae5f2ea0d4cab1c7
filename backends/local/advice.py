"""Which command gives real pictures on this hardware, where only the demonstration model is loaded.

Sizes as their makers and users state them in 2026: Z-Image-Turbo wants 13 to 16 GB of GPU memory, SDXL 8 GB,
Stable Diffusion 1.5 4 GB; all three may be used commercially. Knows no engine.
"""

from __future__ import annotations

from typing import Final

GIB: Final = 1024**3

_BY_MEMORY: Final = (
    (15 * GIB, "Tongyi-MAI/Z-Image-Turbo"),
    (7 * GIB, "stabilityai/stable-diffusion-xl-base-1.0"),
    (0, "stable-diffusion-v1-5/stable-diffusion-v1-5"),
)


def real_pictures(gpu_bytes: int | None) -> str:
    """The command; without a GPU both ways. gpu_bytes: the GPU's memory, None where there is no GPU."""
    memory = gpu_bytes or 0
    model = next(name for least, name in _BY_MEMORY if memory >= least)
    command = f"`FAIRBRUSH_BACKENDS=local:{model} fairbrush run`"
    if gpu_bytes:
        return f"Real pictures on this GPU ({memory / GIB:.0f} GB): {command}"
    return (
        "Real pictures without a GPU: `FAIRBRUSH_BACKENDS=horde: fairbrush run` (free; your prompt leaves "
        "this machine, and the volunteers who make the picture can read it), or here, minutes each: "
        f"{command}"
    )
