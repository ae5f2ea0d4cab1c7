"""Ways to make a picture twice as large, compared on held-out scenes: `python -m training.upscales`.

Two questions, a table each. Made: pictures of 128 pixels by the embedded model, upscaled: are they still
what was asked, how sharp are their edges beside a plain Lanczos enlargement's, how rough is what was smooth,
do the parts' borders show (1: no more than in the plain one), how far are they from the original? Painted:
scenes painted at 256 pixels, reduced, upscaled: how near is that to the painting? --sheet writes the first
pictures of each kind, one way a column.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image
from scipy import ndimage

from backends.local.holding import Hold
from backends.local.loading import be_quiet, load
from backends.local.masking import clean_latents
from backends.local.opening import Opening
from backends.local.profile import Profile
from backends.local.samplers import build_scheduler
from backends.local.second_pass import DEFAULT_STRENGTH
from backends.local.sources import embedded_folder
from backends.local.tiling import TiledUnet
from training import checker, landscape_checker, landscapes, scenes
from training.captions import caption
from training.evaluate import held_out, named
from training.mix import AnyScene
from training.palette import Floats, Mask
from training.pool import paint
from training.sampling import Manner, Sampler

SMALL, LARGE = 128, 256
STEPS = 20
LINES = (64, 128, 192)  # pixels: where the three parts of a side begin and end
Picture = Image.Image
Enlarge = Callable[[Sequence[Picture], Sequence[str]], list[Picture]]
KINDS: dict[str, Any] = {
    "one object": scenes.one,
    "two objects": scenes.two,
    "landscapes": landscapes.draw_landscape,
}


@dataclass(frozen=True, slots=True)
class Way:
    """How to denoise. part: latents of a side; own: by the model's own UNet, not the second one."""

    part: int = 16
    hold: bool = True
    prompt: bool = True
    own: bool = False


WAYS: dict[str, Way] = {
    "own UNet, whole picture": Way(part=32, hold=False, own=True),
    "own UNet, parts": Way(hold=False, own=True),
    "own UNet, parts, held": Way(own=True),
    "own UNet, parts, held, no prompt": Way(own=True, prompt=False),
    "second UNet, whole picture": Way(part=32, hold=False),
    "second UNet, parts": Way(hold=False),
    "second UNet, parts, held": Way(),
    "second UNet, parts, held, no prompt": Way(prompt=False),
}


class Bench:
    """The embedded model, or the one in `folder`, with both its UNets."""

    def __init__(self, folder: Path) -> None:
        loaded = load(Opening("folder", str(folder), "embedded", str(folder)))
        self.profile: Profile = loaded.profile
        self.pipe = StableDiffusionImg2ImgPipeline(**loaded.pipe.components, requires_safety_checker=False)
        self.pipe.set_progress_bar_config(disable=True)
        self._scheduler = copy.deepcopy(loaded.pipe.scheduler)
        self._own, self._second = loaded.pipe.unet, loaded.second_unet

    def autoencoded(self, pictures: Sequence[Picture], _: Sequence[str]) -> list[Picture]:
        """Enlarged by Lanczos, encoded and decoded."""
        with torch.no_grad():
            latents = clean_latents(self.pipe, lanczos(pictures, ()))
            decoded = self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor).sample
        made: list[Picture] = self.pipe.image_processor.postprocess(decoded, output_type="pil")
        return made

    def enlarge(self, way: Way, pictures: Sequence[Picture], prompts: Sequence[str]) -> list[Picture]:
        """A second pass of each picture."""
        return [self._one(way, *each, seed) for seed, each in enumerate(zip(pictures, prompts, strict=True))]

    def _one(self, way: Way, picture: Picture, prompt: str, seed: int) -> Picture:
        pipe, large = self.pipe, lanczos([picture], ())
        pipe.scheduler = build_scheduler(self._scheduler, self.profile, self.profile.default_scheduler, seed)
        tiled = TiledUnet(self._own if way.own else self._second, pipe.vae_scale_factor)
        hold = Hold(clean_latents(pipe, large), pipe.scheduler) if way.hold else None
        tiled.reset((way.part, way.part), 8, correct=hold)
        pipe.unet = tiled
        guidance = self.profile.own_guidance(self.profile.default_guidance)
        result: Picture = pipe(
            prompt if way.prompt else "",
            image=large,
            strength=DEFAULT_STRENGTH,
            num_inference_steps=STEPS,
            guidance_scale=guidance if way.prompt else 1.0,
            generator=[torch.Generator().manual_seed(seed)],
        ).images[0]
        return result


def lanczos(pictures: Sequence[Picture], _: Sequence[str]) -> list[Picture]:
    """The plain enlargement."""
    return [each.resize((2 * each.width, 2 * each.height), Image.Resampling.LANCZOS) for each in pictures]


# --- measures ---------------------------------------------------------------------------------------------


def slopes(picture: Picture) -> Floats:
    """How much each pixel's colour changes, in levels a pixel."""
    rows, columns = np.gradient(np.asarray(picture.convert("RGB")).astype(np.float32), axis=(0, 1))
    result: Floats = np.sqrt((rows**2 + columns**2).sum(axis=-1))
    return result


def edges_of(picture: Picture) -> Mask:
    """The ridges of the steepest slopes."""
    steep = slopes(picture)
    ridge: Mask = (steep >= ndimage.maximum_filter(steep, 3)) & (
        steep > max(8.0, float(np.percentile(steep, 97)) / 2)
    )
    return ridge


def sharpness(picture: Picture, edges: Mask) -> float:
    """The mean over `edges` of the steepest slope within two pixels."""
    return float(ndimage.maximum_filter(slopes(picture), 5)[edges].mean())


def roughness(picture: Picture, edges: Mask) -> float:
    """The mean slope where there is no edge within ten pixels."""
    smooth = ~ndimage.binary_dilation(edges, iterations=10)
    return float(slopes(picture)[smooth].mean()) if smooth.any() else 0.0


def seams(picture: Picture) -> float:
    """How much steeper slopes are across the lines where parts begin and end than over all; 1: no steeper."""
    pixels = np.asarray(picture.convert("RGB")).astype(np.float32)
    shares = []
    for axis in (0, 1):
        jumps = np.abs(np.diff(pixels, axis=axis)).mean(axis=(1 - axis, 2))
        shares.append(float(jumps[[line - 1 for line in LINES]].mean() / jumps.mean()))
    return sum(shares) / 2


def difference(picture: Picture, original: Picture) -> float:
    """The mean difference of the reduced picture from the original, in levels."""
    small = np.asarray(picture.resize(original.size, Image.Resampling.BOX)).astype(np.float32)
    return float(np.abs(small - np.asarray(original.convert("RGB"))).mean())


def right(scene: AnyScene, words: str, picture: Picture) -> float:
    """1 where a picture of shapes is exact; the share of the named parts that a landscape shows."""
    if isinstance(scene, landscapes.Landscape):
        shown = named(scene, landscape_checker.judge(scene, picture), words)
        return sum(shown.values()) / len(shown)
    return float(checker.judge(scene, picture)["exact"])


def strangers(scene: AnyScene, picture: Picture) -> int:
    """Things that nobody asked for."""
    if isinstance(scene, landscapes.Landscape):
        return sum(landscape_checker.intruders(scene, picture).values())
    return max(0, len(checker.read(picture)[1]) - len(scene.things))


def nearness(picture: Picture, truth: Picture) -> float:
    """The peak signal to noise ratio, in dB."""
    wrong = np.asarray(picture).astype(np.float32) - np.asarray(truth.convert("RGB")).astype(np.float32)
    return float(10 * np.log10(255**2 / np.mean(wrong**2)))


# --- the tables -------------------------------------------------------------------------------------------


def _asked(kind: str, count: int, side: int) -> tuple[list[AnyScene], list[str]]:
    random = Random(f"{kind} {side}")
    drawn = [held_out(KINDS[kind], random, (side, side)) for _ in range(count)]
    return drawn, [caption(scene, random, omit=0) for scene in drawn]


def made_table(ways: Mapping[str, Enlarge], sampler: Sampler, count: int) -> dict[str, list[Picture]]:
    """Print how the model's own pictures fare; the first of each kind by each way."""
    sheet: dict[str, list[Picture]] = {name: [] for name in ways}
    for kind in KINDS:
        asked, told = _asked(kind, count, SMALL)
        originals = sampler.pictures(told, (SMALL, SMALL), Manner("DDIM", 7.5, STEPS), 1)
        plain = lanczos(originals, told)
        edges = [edges_of(each) for each in plain]
        before = np.mean([right(*each) for each in zip(asked, told, originals, strict=True)])
        print(f"\n{kind}, made: right before {before:.2f}")
        for name, enlarge in ways.items():
            large = enlarge(originals, told)
            sheet[name] += large[:3]
            pairs = list(zip(large, plain, edges, strict=True))
            print(
                f"  {name:36s} right {np.mean([right(*e) for e in zip(asked, told, large, strict=True)]):.2f}"
                f"  strangers {sum(map(strangers, asked, large)):3d}"
                f"  sharpness {np.mean([sharpness(a, e) / sharpness(b, e) for a, b, e in pairs]):.2f}"
                f"  roughness {np.mean([roughness(a, e) for a, _, e in pairs]):.2f}"
                f"  seams {np.mean([seams(a) / seams(b) for a, b, _ in pairs]):.2f}"
                f"  difference {np.mean(list(map(difference, large, originals))):.1f}",
                flush=True,
            )
    return sheet


def painted_table(ways: Mapping[str, Enlarge], count: int) -> None:
    """Print how near each way comes to scenes painted at the large size."""
    for kind in KINDS:
        asked, told = _asked(kind, count, LARGE)
        truths = [Image.fromarray(paint(scene)[0]) for scene in asked]
        edges = [edges_of(truth) for truth in truths]
        print(f"\n{kind}, painted")
        for name, enlarge in ways.items():
            large = enlarge([truth.reduce(2) for truth in truths], told)
            triples = list(zip(large, truths, edges, strict=True))
            print(
                f"  {name:36s} right {np.mean([right(*e) for e in zip(asked, told, large, strict=True)]):.2f}"
                f"  sharpness {np.mean([sharpness(a, e) / sharpness(b, e) for a, b, e in triples]):.2f}"
                f"  {np.mean(list(map(nearness, large, truths))):.1f} dB",
                flush=True,
            )


def write_sheet(path: Path, columns: Sequence[Sequence[Picture]]) -> None:
    """Pictures side by side, one way a column."""
    sheet = Image.new("RGB", (len(columns) * (LARGE + 8), len(columns[0]) * (LARGE + 8)), "white")
    for x, column in enumerate(columns):
        for y, picture in enumerate(column):
            sheet.paste(picture, (x * (LARGE + 8), y * (LARGE + 8)))
    sheet.save(path, optimize=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m training.upscales", description=__doc__)
    parser.add_argument("--model", type=Path, default=embedded_folder())
    parser.add_argument("--pictures", type=int, default=24, help="of each kind; default: %(default)s")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), help="of the second pass, by name")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    be_quiet()
    torch.set_num_threads(options.threads)
    bench = Bench(options.model)
    ways: dict[str, Enlarge] = {"Lanczos": lanczos, "autoencoder alone": bench.autoencoded}
    for name in options.ways:
        ways[name] = lambda pictures, prompts, way=WAYS[name]: bench.enlarge(way, pictures, prompts)  # type: ignore[misc]
    sheet = made_table(ways, Sampler(options.model), options.pictures)
    painted_table(ways, options.pictures)
    if options.sheet:
        write_sheet(options.sheet, list(sheet.values()))


if __name__ == "__main__":
    main()
