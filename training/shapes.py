"""The eight shapes as outlines in the unit box, and how they are drawn.

Every outline is centred on the middle of its bounding box, y pointing down, so that a shape's
place is its box's middle, for the painter and for the checker alike.
"""

from __future__ import annotations

import math
from functools import cache

from PIL import Image, ImageDraw

from training.palette import RGB

Point = tuple[float, float]
SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "diamond",
    "cross",
    "ring",
)
RING_HOLE = 0.55  # inner radius over outer radius


def _regular(corners: int, radius: float, turn: float) -> list[Point]:
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(radius * math.sin(a), -radius * math.cos(a)) for a in angles]


def _star() -> list[Point]:
    outer, inner = _regular(5, 1.05, 0.0), _regular(5, 0.47, math.pi / 5)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart() -> list[Point]:
    points: list[Point] = []
    for i in range(72):
        t = 2 * math.pi * i / 72
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3, -y / 16))
    return points


def _cross(arm: float = 0.34) -> list[Point]:
    quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    points = list(quarter)
    for _ in range(3):
        quarter = [(-y, x) for x, y in quarter]
        points += quarter
    return points


@cache
def outline(shape: str) -> tuple[Point, ...]:
    """Corners of a shape within about [-1, 1]; the ring gives its outer edge."""
    corners: list[Point]
    match shape:
        case "circle" | "ring":
            corners = _regular(72, 1.0, 0.0)
        case "square":
            corners = [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]
        case "triangle":
            corners = [(0.0, -0.9), (1.0, 0.9), (-1.0, 0.9)]
        case "star":
            corners = _star()
        case "heart":
            corners = _heart()
        case "diamond":
            corners = [(0.0, -1.0), (0.78, 0.0), (0.0, 1.0), (-0.78, 0.0)]
        case "cross":
            corners = _cross()
        case _:
            raise ValueError(f"no such shape: {shape}")
    return _centred(corners)


def _centred(corners: list[Point]) -> tuple[Point, ...]:
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    cx, cy = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    return tuple((x - cx, y - cy) for x, y in corners)


def extent(shape: str) -> Point:
    """Half width and half height of the shape of radius 1."""
    corners = outline(shape)
    return max(x for x, _ in corners), max(y for _, y in corners)


def draw(
    canvas: ImageDraw.ImageDraw,
    shape: str,
    centre: Point,
    radius: float,
    ink: RGB | int,
    paper: RGB | int,
) -> None:
    """Draw a shape in canvas pixels; `paper` fills the ring's hole."""
    cx, cy = centre
    canvas.polygon([(cx + radius * x, cy + radius * y) for x, y in outline(shape)], fill=ink)
    if shape == "ring":
        hole = radius * RING_HOLE
        canvas.ellipse((cx - hole, cy - hole, cx + hole, cy + hole), fill=paper)


@cache
def template(shape: str, side: int = 64) -> Image.Image:
    """The shape stretched to fill a square box, as an "L" mask of 0 and 255."""
    scale = 4
    half = side * scale / 2
    width, height = extent(shape)
    image = Image.new("L", (side * scale, side * scale), 0)
    pen = ImageDraw.Draw(image)
    points = [(half + half * x / width, half + half * y / height) for x, y in outline(shape)]
    pen.polygon(points, fill=255)
    if shape == "ring":
        hole = half * RING_HOLE
        pen.ellipse((half - hole, half - hole, half + hole, half + hole), fill=0)
    return image.resize((side, side), Image.Resampling.BOX)
