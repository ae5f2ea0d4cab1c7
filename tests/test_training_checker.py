"""The checker finds what ground-truth pictures show, and nothing that they do not show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

pytest.importorskip("numpy")
pytest.importorskip("scipy")

from PIL import Image, ImageFilter

from training import checker, landscape_checker, landscapes, mix, scenes
from training.palette import NAMES
from training.shapes import SHAPES


@pytest.mark.parametrize("draw", [scenes.one, scenes.two])
def test_every_ground_truth_picture_is_exact(draw: mix.Draw) -> None:
    random = Random(1)
    for _ in range(120):
        scene = draw(random, *mix.bucket(random))
        assert isinstance(scene, scenes.Scene)
        verdict = checker.judge(scene, scenes.paint(scene))
        assert all(verdict.values()), (scene, verdict)


def test_sizes_are_told_apart() -> None:
    random = Random(2)
    for _ in range(60):
        scene = scenes.one(random, *mix.bucket(random))
        assert checker.size_of(scene, scenes.paint(scene)) == scene.things[0].size


def test_a_picture_of_something_else_is_not_exact() -> None:
    random = Random(3)
    for _ in range(60):
        scene = scenes.one(random, 128, 128)
        thing = scene.things[0]
        other_shape = replace(thing, shape=random.choice([s for s in SHAPES if s != thing.shape]))
        free = [c for c in NAMES if c not in (thing.colour, scene.background)]
        other_colour = replace(thing, colour=random.choice(free))
        for metric, wrong in (("shape", other_shape), ("colour", other_colour)):
            verdict = checker.judge(scene, scenes.paint(replace(scene, things=(wrong,))))
            assert not verdict[metric]
            assert not verdict["exact"]
        papers = [c for c in NAMES if c not in (thing.colour, scene.background)]
        verdict = checker.judge(scene, scenes.paint(replace(scene, background=random.choice(papers))))
        assert not verdict["background"]


def test_two_things_the_wrong_way_round_are_not_placed() -> None:
    random = Random(4)
    judged = 0
    for _ in range(60):
        scene = scenes.two(random, 128, 128)
        if scene.things[0].colour == scene.things[1].colour:
            continue
        opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
        turned = replace(scene, relation=opposite[scene.relation or "left"])
        assert not checker.judge(turned, scenes.paint(scene))["placement"]
        judged += 1
    assert judged > 30


def test_slightly_blurred_pictures_are_still_exact() -> None:
    random = Random(5)
    right = 0
    for _ in range(60):
        scene = scenes.one(random, 128, 128)
        image = scenes.paint(scene).filter(ImageFilter.GaussianBlur(1.0))
        right += checker.judge(scene, image)["exact"]
    assert right >= 58


def test_noise_is_no_shape() -> None:
    random = Random(6)
    image = Image.frombytes("RGB", (128, 128), random.randbytes(128 * 128 * 3))
    scene = scenes.one(random, 128, 128)
    assert not checker.judge(scene, image)["exact"]


def test_every_part_of_a_ground_truth_landscape_is_found() -> None:
    random = Random(7)
    seen: Counter[str] = Counter()
    for _ in range(200):
        scene = landscapes.draw_landscape(random, *mix.bucket(random))
        verdict = landscape_checker.judge(scene, landscapes.paint_with_weight(scene)[0])
        assert all(verdict.values()), (scene, verdict)
        seen.update(verdict.keys())
    assert min(seen.values()) > 10


def test_no_part_is_found_where_it_is_absent() -> None:
    random = Random(8)
    for _ in range(200):
        scene = landscapes.draw_landscape(random, *mix.bucket(random))
        found = landscape_checker.intruders(scene, landscapes.paint_with_weight(scene)[0])
        assert not any(found.values()), (scene, found)


def test_a_picture_of_shapes_is_no_landscape() -> None:
    random = Random(9)
    shown = asked = 0
    for _ in range(60):
        scene = landscapes.draw_landscape(random, 128, 128)
        verdict = landscape_checker.judge(scene, scenes.paint(scenes.two(random, 128, 128)))
        shown += sum(verdict.values())
        asked += len(verdict)
    assert shown < 0.15 * asked
