"""What a picture of shapes shows, read from its pixels, and whether that is what was asked.

The reading knows nothing of the caption: the background is the border's median colour, things
are regions that differ from it, a thing's shape is the outline it fills best.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from PIL import Image

from training.components import Region, overlap, regions
from training.palette import Floats, Pixels, distance, nearest
from training.scenes import Scene, Thing
from training.shapes import SHAPES, extent

METRICS: tuple[str, ...] = ("background", "count", "colour", "placement", "shape", "exact")
CONTRAST = 45.0  # RGB distance from the background at which a pixel belongs to a thing
LEAST_AREA = 0.005  # share of the picture
LEAST_OVERLAP = 0.75  # IoU below which a region is no shape at all
NEAR_MIDDLE = 0.05  # share of the shorter side


@dataclass(frozen=True, slots=True)
class Seen:
    """A thing as seen; x, y and the box's sides are in pixels."""

    shape: str
    colour: str
    x: float
    y: float
    width: float
    height: float


def read(image: Image.Image) -> tuple[str, list[Seen]]:
    """The background's colour and the things, largest first."""
    pixels = np.asarray(image.convert("RGB"))
    border = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
    sides = np.concatenate([pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3)])
    paper = np.median(np.concatenate([border, sides]), axis=0)
    away = distance(pixels, (int(paper[0]), int(paper[1]), int(paper[2])))
    least = LEAST_AREA * pixels.shape[0] * pixels.shape[1]
    rough = regions(away > CONTRAST, least)
    return nearest(paper), [_seen(_trimmed(region, away), pixels, away) for region in rough]


def _trimmed(region: Region, away: Floats) -> Region:
    """The region up to where half of its own contrast is reached, blurred edges cut midway."""
    box = (slice(region.top, region.bottom), slice(region.left, region.right))
    contrast = float(np.percentile(away[box][region.mask], 75))
    inner = regions(region.mask & (away[box] > contrast / 2), 1)[0]
    return inner.moved(region.left, region.top)


def _seen(region: Region, pixels: Pixels, away: Floats) -> Seen:
    box = (slice(region.top, region.bottom), slice(region.left, region.right))
    inside = region.mask & (away[box] >= np.median(away[box][region.mask]) * 0.9)
    colour = nearest(np.median(pixels[box][inside], axis=0))
    shape = _shape(region)
    return Seen(shape, colour, region.x, region.y, region.width, region.height)


def _shape(region: Region) -> str:
    """The best-filled outline whose proportions agree within a quarter, or "blob"."""
    scores = {}
    for shape in SHAPES:
        wide, high = extent(shape)
        stretch = (region.width / region.height) / (wide / high)
        if 0.8 < stretch < 1.25:
            scores[shape] = overlap(region, shape)
    best = max(scores, key=lambda name: scores[name], default="blob")
    return best if scores.get(best, 0.0) >= LEAST_OVERLAP else "blob"


def judge(scene: Scene, image: Image.Image) -> dict[str, bool]:
    """Each of METRICS for a picture of `scene`; "exact" is all the others together."""
    background, found = read(image)
    wanted = scene.things
    result = {"background": background == scene.background, "count": len(found) == len(wanted)}
    if len(found) < len(wanted):
        result |= {"colour": False, "placement": False, "shape": False, "exact": False}
        return result
    orders = permutations(found[: len(wanted)])
    matched = max(orders, key=lambda order: _likeness(wanted, order))
    pairs = list(zip(wanted, matched, strict=True))
    result["colour"] = all(thing.colour == seen.colour for thing, seen in pairs)
    result["placement"] = _placed(scene, matched, image.size)
    result["shape"] = all(thing.shape == seen.shape for thing, seen in pairs)
    result["exact"] = all(result.values())
    return result


def _likeness(wanted: tuple[Thing, ...], found: tuple[Seen, ...]) -> int:
    pairs = list(zip(wanted, found, strict=True))
    return sum(2 * (w.colour == f.colour) + (w.shape == f.shape) for w, f in pairs)


def _placed(scene: Scene, found: tuple[Seen, ...], size: tuple[int, int]) -> bool:
    if scene.relation is None:
        return place(found[0], size) == (scene.place or "middle")
    dx, dy = found[0].x - found[1].x, found[0].y - found[1].y
    wanted = {"left": -dx, "right": dx, "above": -dy, "below": dy}[scene.relation]
    across = abs(dy) if scene.relation in ("left", "right") else abs(dx)
    return wanted > across


def place(seen: Seen, size: tuple[int, int]) -> str:
    """Which of PLACES the thing's middle is at."""
    dx, dy = seen.x - size[0] / 2, seen.y - size[1] / 2
    if max(abs(dx), abs(dy)) < NEAR_MIDDLE * min(size):
        return "middle"
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "top" if dy < 0 else "bottom"


def size_of(scene: Scene, image: Image.Image) -> str:
    """The size word that fits the largest thing of a one-thing picture, or "none"."""
    _, found = read(image)
    if not found:
        return "none"
    wide, high = extent(scene.things[0].shape)
    radius = max(found[0].width / wide, found[0].height / high) / 2 / min(image.size)
    small, large = (0.255, 0.39) if scene.place == "middle" else (0.205, 0.292)
    return "small" if radius < small else "large" if radius > large else "plain"
