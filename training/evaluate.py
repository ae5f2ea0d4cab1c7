"""Evaluation of a trained pipeline on held-out captions: `python -m training.evaluate [MODEL_DIR]`.

Prints one table of scores by kind of scene and, with --schedulers, one by scheduler and guidance
scale. --picture writes twenty pictures with their captions, --sheet pictures to be labelled blind.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch

from backends.local.sources import embedded_folder
from bot.core.schedulers import SCHEDULERS
from training import checker, contact_sheet, landscape_checker, landscapes, scenes
from training.captions import caption
from training.mix import AnyScene, Draw, draw
from training.sampling import Manner, Sampler

SQUARE = (128, 128)
ASPECTS: tuple[tuple[int, int], ...] = ((160, 96), (96, 160), (160, 128), (128, 160), (192, 96), (96, 192))
GUIDANCES = (3.0, 7.5, 20.0)
Scores = dict[str, float]


def _unseen(random: Random, width: int, height: int) -> scenes.Scene:
    return scenes.one(random, width, height, unseen=True)


def held_out(draw_one: Draw, random: Random, size: tuple[int, int]) -> AnyScene:
    """A scene that training never drew; colour-shape pairs kept from training come by _unseen only."""
    while True:
        scene = draw_one(random, *size)
        unseen = isinstance(scene, scenes.Scene) and scene.unseen()
        if scene.held_out() and unseen == (draw_one is _unseen):
            return scene


def score(
    sampler: Sampler, draw_one: Draw, count: int, manner: Manner, size: tuple[int, int], seed: int
) -> Scores:
    """The share of pictures that pass, by metric; for landscapes the share of named parts shown."""
    random = Random(seed)
    asked = [held_out(draw_one, random, size) for _ in range(count)]
    told = [caption(scene, random, omit=0) for scene in asked]
    made = sampler.pictures(told, size, manner, seed)
    passed: dict[str, list[bool]] = defaultdict(list)
    for scene, words, image in zip(asked, told, made, strict=True):
        if isinstance(scene, landscapes.Landscape):
            parts = named(scene, landscape_checker.judge(scene, image), words)
            for name, shown in parts.items():
                passed[name].append(shown)
                passed["parts"].append(shown)
            passed["all parts"].append(all(parts.values()))
        else:
            for name, right in checker.judge(scene, image).items():
                passed[name].append(right)
            if scene.relation is None:
                passed["size"].append(checker.size_of(scene, image) == scene.things[0].size)
    return {name: sum(results) / len(results) for name, results in passed.items()}


def named(scene: landscapes.Landscape, parts: dict[str, bool], words: str) -> dict[str, bool]:
    """Without the colours that the caption leaves open."""
    hidden = set()
    if f"{scene.house} house" not in words:
        hidden.add("house colour")
    if f"{scene.boat} boat" not in words and f"{scene.boat} sailboat" not in words:
        hidden.add("boat colour")
    return {name: shown for name, shown in parts.items() if name not in hidden}


def _kinds(sampler: Sampler, count: int, manner: Manner, seed: int) -> Iterator[tuple[str, Scores]]:
    for name, draw_one in (
        ("one object", scenes.one),
        ("two objects", scenes.two),
        ("unseen pairs", _unseen),
    ):
        yield name, score(sampler, draw_one, count, manner, SQUARE, seed)
    yield "landscapes", score(sampler, landscapes.draw_landscape, count, manner, SQUARE, seed)


def _row(name: str, scores: Scores) -> str:
    return f"{name:16s} " + "  ".join(f"{metric} {value:.2f}" for metric, value in scores.items())


def _exact_of_shapes(
    sampler: Sampler, count: int, manner: Manner, size: tuple[int, int], seed: int
) -> Scores:
    one = score(sampler, scenes.one, count // 2, manner, size, seed)
    two = score(sampler, scenes.two, count - count // 2, manner, size, seed)
    return {"exact": (one["exact"] + two["exact"]) / 2}


def _print_schedulers(sampler: Sampler, names: list[str], count: int, steps: int, seed: int) -> None:
    print("\nexact of one and two objects by scheduler and guidance " + " ".join(map(str, GUIDANCES)))
    for name in names:
        cells = []
        for guidance in GUIDANCES:
            manner = Manner(name, guidance, steps)
            exact = _exact_of_shapes(sampler, count, manner, SQUARE, seed)["exact"]
            cells.append(f"{exact:.2f}")
        low = "  BELOW 0.7" if min(map(float, cells)) < 0.7 else ""
        print(f"{name:24s} {'  '.join(cells)}{low}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=embedded_folder())
    parser.add_argument("--pictures", type=int, default=200, help="pictures for each row")
    parser.add_argument("--aspects", type=int, default=0, metavar="N", help="N pictures of each other size")
    parser.add_argument("--schedulers", nargs="*", help="these schedulers by A1111 name, or all")
    parser.add_argument("--scheduler-pictures", type=int, default=40)
    parser.add_argument("--steps", type=int, help="default: the profile's")
    parser.add_argument("--guidance", type=float, help="on the usual scale; default: the profile's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="more are slower beside other programs")
    parser.add_argument("--picture", type=Path, help="write twenty captioned pictures here")
    parser.add_argument("--sheet", type=Path, help="write twenty pictures here, and their captions beside it")
    return parser.parse_args()


def _write_pictures(sampler: Sampler, options: argparse.Namespace, manner: Manner) -> None:
    if options.picture:
        told = list(contact_sheet.SHOWN)
        made = sampler.pictures(told, SQUARE, manner, options.seed)
        contact_sheet.write(options.picture, made, told)
    if options.sheet:
        random = Random(options.seed)
        told = [caption(draw(random, *SQUARE), random, omit=0) for _ in range(20)]
        made = sampler.pictures(told, SQUARE, manner, options.seed)
        contact_sheet.write(options.sheet, made, [f"{i + 1}" for i in range(20)])
        options.sheet.with_suffix(".txt").write_text("\n".join(told) + "\n", encoding="utf-8")


def main() -> None:
    """Print the tables and write the pictures that were asked for."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    sampler = Sampler(options.model)
    profile = sampler.profile
    steps = options.steps or profile.default_steps
    guidance = profile.default_guidance if options.guidance is None else options.guidance
    manner = Manner(profile.default_scheduler, guidance, steps)
    start = time.monotonic()
    if options.pictures:
        print(
            f"{options.pictures} pictures a row, {manner}, own guidance {profile.own_guidance(guidance):.2f}"
        )
        for name, scores in _kinds(sampler, options.pictures, manner, options.seed):
            print(_row(name, scores), flush=True)
        print(f"{(time.monotonic() - start) / options.pictures / 4:.2f} s a picture")
    for size in ASPECTS if options.aspects else ():
        found = _exact_of_shapes(sampler, options.aspects, manner, size, options.seed)
        land = score(sampler, landscapes.draw_landscape, options.aspects, manner, size, options.seed)
        print(_row(f"{size[0]}x{size[1]}", found | {"parts": land["parts"]}), flush=True)
    if options.schedulers is not None:
        names = options.schedulers or [n for n in SCHEDULERS if n in profile.schedulers]
        _print_schedulers(sampler, names, options.scheduler_pictures, steps, options.seed)
    _write_pictures(sampler, options, manner)


if __name__ == "__main__":
    main()
