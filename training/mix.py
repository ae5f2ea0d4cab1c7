"""The mix of scenes and of picture sizes that training and evaluation draw from."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from training import landscapes, scenes

AnyScene = scenes.Scene | landscapes.Landscape
Draw = Callable[[Random, int, int], AnyScene]

# (width, height) and how often; each training batch is of one size.
BUCKETS: dict[tuple[int, int], float] = {
    (128, 128): 0.66,
    (160, 96): 0.07,
    (96, 160): 0.07,
    (160, 128): 0.06,
    (128, 160): 0.06,
    (192, 96): 0.02,
    (96, 192): 0.02,
    (96, 96): 0.02,
    (192, 128): 0.01,
    (128, 192): 0.01,
}
SHAPES_ONE, SHAPES_TWO = 0.25, 0.25  # the rest are landscapes


def draw(random: Random, width: int, height: int) -> AnyScene:
    """Any scene, held-out ones included."""
    chance = random.random()
    if chance < SHAPES_ONE:
        return scenes.one(random, width, height)
    if chance < SHAPES_ONE + SHAPES_TWO:
        return scenes.two(random, width, height)
    return landscapes.draw_landscape(random, width, height)


def draw_training(random: Random, width: int, height: int) -> AnyScene:
    """A scene that is not held out."""
    while (scene := draw(random, width, height)).held_out():
        pass
    return scene


def bucket(random: Random) -> tuple[int, int]:
    """A picture size, as often as BUCKETS says."""
    return random.choices(list(BUCKETS), list(BUCKETS.values()))[0]
