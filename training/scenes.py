"""Scenes of one or two shapes on a plain background: drawn at random, painted, weighted.

A scene says what is to be seen; `paint` makes the ground-truth picture. Captions are made in
captions.py, landscapes in landscapes.py.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from training import shapes
from training.palette import COLOURS, NAMES

PLACES: tuple[str, ...] = ("middle", "top", "bottom", "left", "right")
RELATIONS: tuple[str, ...] = ("left", "right", "above", "below")
SIZES: tuple[str, ...] = ("small", "plain", "large")
SUPERSAMPLE = 3

# Colour-shape pairs that no training scene has: what the model makes of them shows whether it
# has learnt colour and shape apart.
UNSEEN_PAIRS: frozenset[tuple[str, str]] = frozenset(
    {
        ("purple", "star"),
        ("orange", "heart"),
        ("cyan", "cross"),
        ("green", "triangle"),
        ("brown", "ring"),
        ("pink", "diamond"),
        ("gray", "circle"),
        ("yellow", "square"),
    }
)

# Radius as a share of half the free cell's shorter side.
_ALONE = {"small": (0.33, 0.40), "plain": (0.62, 0.72), "large": (0.84, 0.93)}
_PLACED = {"small": (0.29, 0.35), "plain": (0.47, 0.55), "large": (0.62, 0.68)}
_PAIRED = {"small": (0.50, 0.56), "plain": (0.74, 0.82), "large": (0.88, 0.91)}


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape. Centre and radius are in pixels of the finished picture."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Scene:
    """One or two shapes. `place` is for one shape, `relation` of the first to the second for two."""

    width: int
    height: int
    background: str
    things: tuple[Thing, ...]
    place: str | None = None
    relation: str | None = None

    def key(self) -> str:
        """What the scene says, without where exactly: equal for scenes with equal captions."""
        words = [f"{t.size} {t.colour} {t.shape}" for t in self.things]
        return "|".join([self.background, *words, str(self.place), str(self.relation)])

    def held_out(self) -> bool:
        """Whether this meaning (1 in 16 of them) or a colour-shape pair is kept from training."""
        return self.unseen() or zlib.crc32(self.key().encode()) % 16 == 0

    def unseen(self) -> bool:
        """Whether a thing is one of UNSEEN_PAIRS."""
        return any((t.colour, t.shape) in UNSEEN_PAIRS for t in self.things)


def default_background(colours: list[str]) -> str:
    """The background where none is named: white, or what the things still show on."""
    return next(name for name in ("white", "gray", "black") if name not in colours)


def _between(random: Random, bounds: tuple[float, float]) -> float:
    return random.uniform(*bounds)


def _size(random: Random) -> str:
    return random.choices(SIZES, (2, 5, 2))[0]


def _pair(random: Random, background: str, unseen: bool) -> tuple[str, str]:
    """A colour and a shape for a background; one of UNSEEN_PAIRS if asked for."""
    if unseen:
        return random.choice(sorted(p for p in UNSEEN_PAIRS if p[0] != background))
    return random.choice([c for c in NAMES if c != background]), random.choice(shapes.SHAPES)


def one(random: Random, width: int, height: int, *, unseen: bool = False) -> Scene:
    """A scene of one thing; with no place named in the caption it lies over the middle."""
    background = random.choice(NAMES)
    colour, shape = _pair(random, background, unseen)
    if random.random() < 0.25:
        background = default_background([colour])
    place = random.choices(PLACES, (4, 1, 1, 1, 1))[0]
    size = _size(random)
    half = min(width, height) / 2
    radius = half * _between(random, _ALONE[size] if place == "middle" else _PLACED[size])
    x, y = _spot(random, place, width, height, radius)
    return Scene(width, height, background, (Thing(shape, colour, size, x, y, radius),), place)


def _spot(random: Random, place: str, width: int, height: int, radius: float) -> tuple[float, float]:
    wobble = 0.02 * min(width, height)
    x = width / 2 + random.uniform(-wobble, wobble)
    y = height / 2 + random.uniform(-wobble, wobble)
    edge = 1.05 * radius + 0.05 * min(width, height) + random.uniform(-wobble, wobble)
    match place:
        case "top":
            y = edge
        case "bottom":
            y = height - edge
        case "left":
            x = edge
        case "right":
            x = width - edge
    return x, y


def two(random: Random, width: int, height: int, *, unseen: bool = False) -> Scene:
    """A scene of two things beside or above each other."""
    background = random.choice(NAMES)
    first, second = _pair(random, background, unseen), _pair(random, background, False)
    if random.random() < 0.25:
        background = default_background([first[0], second[0]])
    relation = random.choice(RELATIONS)
    things = tuple(
        _paired(random, pair, where, width, height)
        for pair, where in zip((first, second), _cells(relation), strict=True)
    )
    return Scene(width, height, background, things, None, relation)


def _cells(relation: str) -> tuple[str, str]:
    match relation:
        case "left":
            return "left", "right"
        case "right":
            return "right", "left"
        case "above":
            return "top", "bottom"
        case _:
            return "bottom", "top"


def _paired(random: Random, pair: tuple[str, str], cell: str, width: int, height: int) -> Thing:
    beside = cell in ("left", "right")
    half = min(width / 2 if beside else width, height if beside else height / 2) / 2
    size = random.choices(SIZES, (1, 8, 1))[0]
    radius = half * _between(random, _PAIRED[size])
    wobble = 0.012 * min(width, height)
    x = width / 2 + random.uniform(-wobble, wobble)
    y = height / 2 + random.uniform(-wobble, wobble)
    away = -1 if cell in ("left", "top") else 1
    if beside:
        x += away * width * 0.25
    else:
        y += away * height * 0.25
    return Thing(pair[1], pair[0], size, x, y, radius)


def paint(scene: Scene) -> Image.Image:
    """The ground-truth picture, RGB, edges smoothed by supersampling."""
    scale = SUPERSAMPLE
    paper = COLOURS[scene.background]
    image = Image.new("RGB", (scene.width * scale, scene.height * scale), paper)
    canvas = ImageDraw.Draw(image)
    for thing in scene.things:
        centre = (thing.x * scale, thing.y * scale)
        shapes.draw(canvas, thing.shape, centre, thing.radius * scale, COLOURS[thing.colour], paper)
    return image.reduce(scale)


def weight(scene: Scene) -> Image.Image:
    """Where the loss counts more: an "L" mask of each thing's box with a margin."""
    mask = Image.new("L", (scene.width, scene.height), 0)
    canvas = ImageDraw.Draw(mask)
    for thing in scene.things:
        reach = thing.radius * 1.1 + 2
        box = (thing.x - reach, thing.y - reach, thing.x + reach, thing.y + reach)
        canvas.rectangle(box, fill=255)
    return mask
