"""The scenes and captions that the embedded model is trained on."""

from __future__ import annotations

from itertools import combinations
from math import dist
from random import Random

import pytest

pytest.importorskip("numpy")

from backends.local.lexicon import map_prompt, read_lexicon
from backends.local.sources import embedded_folder
from training import captions, landscapes, mix, scenes
from training.palette import COLOURS
from training.shapes import SHAPES, template


def test_a_seed_always_paints_the_same_picture() -> None:
    first, second = (
        landscapes.paint_with_weight(landscapes.draw_landscape(Random(7), 128, 128)) for _ in range(2)
    )
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


def test_colours_are_far_enough_apart_to_be_told_from_each_other() -> None:
    assert min(dist(a, b) for a, b in combinations(COLOURS.values(), 2)) > 60


def test_every_shape_fills_its_box_differently() -> None:
    pictures = {template(shape).tobytes() for shape in SHAPES}
    assert len(pictures) == len(SHAPES)


def test_a_thing_without_a_named_place_lies_over_the_middle() -> None:
    random = Random(2)
    for _ in range(300):
        scene = scenes.one(random, 128, 128)
        words = captions.shapes_caption(scene, random)
        if not any(place in words for place in ("at the", "on the", "in the")):
            thing = scene.things[0]
            assert abs(thing.x - 64) < 4
            assert abs(thing.y - 64) < 4


def test_the_corners_show_the_background_and_the_middle_the_thing() -> None:
    random = Random(3)
    for _ in range(100):
        scene = scenes.one(random, 128, 128)
        image = scenes.paint(scene)
        corners = {image.getpixel(spot) for spot in ((0, 0), (127, 0), (0, 127), (127, 127))}
        assert corners == {COLOURS[scene.background]}
        if scene.place == "middle" and scene.things[0].shape != "ring":
            assert image.getpixel((64, 64)) == COLOURS[scene.things[0].colour]


def test_things_stay_inside_the_picture_and_apart() -> None:
    random = Random(4)
    for _ in range(300):
        width, height = mix.bucket(random)
        for scene in (scenes.one(random, width, height), scenes.two(random, width, height)):
            for thing in scene.things:
                assert thing.x - thing.radius * 0.9 > 0
                assert thing.x + thing.radius * 0.9 < width
                assert thing.y - thing.radius * 0.9 > 0
                assert thing.y + thing.radius * 0.9 < height


def test_training_never_draws_what_is_held_out() -> None:
    random = Random(5)
    drawn = [mix.draw_training(random, 128, 128) for _ in range(500)]
    assert not any(scene.held_out() for scene in drawn)
    pairs = {(t.colour, t.shape) for s in drawn if isinstance(s, scenes.Scene) for t in s.things}
    assert not pairs & scenes.UNSEEN_PAIRS


def test_an_unnamed_background_is_the_default_one() -> None:
    random = Random(6)
    for _ in range(300):
        scene = scenes.two(random, 128, 128)
        if "background" not in captions.shapes_caption(scene, random):
            assert scene.background == scenes.default_background([t.colour for t in scene.things])


@pytest.mark.parametrize("draw", [scenes.one, scenes.two, landscapes.draw_landscape])
def test_the_lexicon_leaves_every_caption_of_the_grammar_alone(draw: mix.Draw) -> None:
    lexicon = read_lexicon(embedded_folder())
    assert lexicon is not None
    random = Random(8)
    for _ in range(300):
        words = captions.caption(draw(random, 128, 128), random)
        assert map_prompt(words, lexicon) == (words, ())
