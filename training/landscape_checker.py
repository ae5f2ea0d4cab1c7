"""Which parts a landscape shows, read from its pixels.

Each part has a test of colour, region and shape that finds it on every ground-truth picture that
has it and on none that has not; tests/test_training_checker.py holds both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from training.components import Region, opened, overlap, regions
from training.landscapes import CLOUD, CROWN, INKS, ROOF, SAIL, SKY, SNOW, TIMES, Landscape
from training.palette import COLOURS, RGB, Mask, Pixels, distance, nearest

DISC_OVERLAP = 0.82
SEA_SHARE = 0.04
ROW_ABOVE_HORIZON = (0.485, 0.535)  # the band where hills and mountains are widest


@dataclass(frozen=True, slots=True)
class View:
    """A picture and its time of day, with measures that the tests share."""

    pixels: Pixels
    time: str

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def area(self) -> int:
        return int(self.pixels.shape[0] * self.pixels.shape[1])

    @property
    def unit(self) -> int:
        return int(min(self.pixels.shape[:2]))

    def near(self, colour: RGB, reach: float) -> Mask:
        return distance(self.pixels, colour) < reach

    def rows(self, mask: Mask, top: float, bottom: float) -> Mask:
        """The rows between two shares of the height."""
        return mask[int(top * self.height) : max(1, int(bottom * self.height))]


def view(image: Image.Image) -> View:
    """Look at a picture; the time of day is the sky that fits its upper rows best."""
    pixels = np.asarray(image.convert("RGB"))
    return View(pixels, _time(pixels))


def _time(pixels: Pixels) -> str:
    rows = max(2, int(0.1 * pixels.shape[0]))
    seen = np.median(pixels[:rows].reshape(-1, 3), axis=0)
    gaps = {}
    for time in TIMES:
        top, bottom = (np.asarray(colour, dtype=np.float32) for colour in SKY[time])
        gaps[time] = float(np.linalg.norm(seen - (top * 0.95 + bottom * 0.05)))
    best = min(gaps, key=lambda time: gaps[time])
    return best if gaps[best] < 80 else "unknown"


def _ink(seen: View, name: str) -> RGB | None:
    return INKS.get(seen.time, {}).get(name)


def _near_ink(seen: View, name: str, reach: float) -> Mask:
    ink = _ink(seen, name)
    if ink is None:
        return np.zeros(seen.pixels.shape[:2], dtype=np.bool_)
    return seen.near(ink, reach)


def ground(seen: View) -> str:
    """Which of GROUNDS lies at the bottom, the sea behind it counted."""
    inks = INKS.get(seen.time)
    if inks is None:
        return "unknown"
    bottom = np.median(seen.pixels[int(0.94 * seen.height) :].reshape(-1, 3), axis=0)
    gaps = {name: float(np.linalg.norm(bottom - np.asarray(inks[name]))) for name in _FLOORS}
    floor = min(gaps, key=lambda name: gaps[name])
    if gaps[floor] > 45:
        return "unknown"
    wet = seen.rows(_near_ink(seen, "sea", 32), 0.5, 1.0).sum() >= SEA_SHARE * seen.area
    if floor == "grass":
        return "coast" if wet else "grass"
    if floor == "sand":
        return "beach" if wet else "unknown"
    return "sea"


_FLOORS = ("grass", "sea", "sand")


def _disc(seen: View, name: str, reach: float) -> bool:
    mask = _near_ink(seen, name, reach).copy()
    mask[int(0.6 * seen.height) :] = False
    least = 0.6 * np.pi * (0.10 * seen.unit) ** 2
    return any(_round(region, DISC_OVERLAP) for region in regions(mask, least))


def _round(region: Region, least: float) -> bool:
    return 0.75 < region.width / region.height < 1.33 and overlap(region, "circle") > least


def sun(seen: View) -> bool:
    """A disc of the sun's colour in the sky."""
    return _disc(seen, "sun", 55)


def moon(seen: View) -> bool:
    """A disc of the moon's colour in the sky."""
    return _disc(seen, "moon", 38)


def stars(seen: View) -> bool:
    """At least four small bright spots in a night sky."""
    if seen.time != "night":
        return False
    bright = seen.pixels.astype(np.int32).sum(axis=-1) > 3 * 130
    sky = seen.rows(bright, 0.0, 0.45)
    spots = [r for r in regions(sky, 3) if max(r.width, r.height) < 0.08 * seen.unit]
    return len(spots) >= 4


def clouds(seen: View) -> bool:
    """White above the mountains' snow, in a day's sky."""
    if seen.time != "day":
        return False
    return bool(seen.rows(seen.near(CLOUD, 45), 0.0, 0.28).sum() >= 0.008 * seen.area)


def relief(seen: View) -> str:
    """Which of RELIEFS stands on the horizon."""
    top, bottom = ROW_ABOVE_HORIZON
    if seen.rows(_near_ink(seen, "hills", 24), top, bottom).mean() > 0.28:
        return "hills"
    ridge = seen.rows(_near_ink(seen, "mountains", 30), 0.3, bottom).sum()
    snow = seen.rows(seen.near(SNOW, 50), 0.28, 0.5).sum()
    wide = seen.rows(_near_ink(seen, "mountains", 30), top, bottom).mean()
    if wide > 0.2 and ridge > 0.015 * seen.area and snow > 0.0005 * seen.area:
        return "mountains"
    return "none"


def house(seen: View) -> str | None:
    """The colour of the walls below the largest roof, or None where there is no roof."""
    for roof in regions(opened(seen.near(ROOF, 34)), 0.008 * seen.unit**2):
        if not 1.4 < roof.width / roof.height < 4 or overlap(roof, "triangle") < 0.45:
            continue
        inset = int(0.22 * roof.width)
        below = roof.bottom + max(1, int(0.08 * roof.width))
        patch = seen.pixels[
            below : below + max(2, int(0.1 * roof.width)),
            roof.left + inset : roof.right - inset,
        ]
        if patch.size:
            return nearest(np.median(patch.reshape(-1, 3), axis=0))
    return None


def trees(seen: View) -> int:
    """How many round crowns there are."""
    least = 0.5 * np.pi * (0.135 * 0.82 * seen.unit) ** 2
    crowns = regions(seen.near(CROWN, 32), min(least, 0.012 * seen.unit**2))
    return sum(_round(crown, 0.72) for crown in crowns)


def boat(seen: View) -> str | None:
    """The colour of a hull, long and low, with white sails above it; None without."""
    for name, colour in COLOURS.items():
        for hull in regions(opened(seen.near(colour, 34)), 0.006 * seen.unit**2):
            if _is_hull(seen, hull):
                return name
    return None


def _is_hull(seen: View, hull: Region) -> bool:
    if not 2.4 < hull.width / hull.height < 6.5 or hull.y < 0.5 * seen.height:
        return False
    if hull.area < 0.65 * hull.width * hull.height or hull.width > 0.6 * seen.unit:
        return False
    above = seen.near(SAIL, 60)[
        max(0, hull.top - int(0.75 * hull.width)) : hull.top - int(0.05 * hull.width),
        hull.left : hull.right,
    ]
    return bool(above.size) and 0.2 < float(above.mean()) < 0.75


def judge(scene: Landscape, image: Image.Image) -> dict[str, bool]:
    """For each part that the scene has, whether the picture shows it."""
    seen = view(image)
    result = {"time": seen.time == scene.time, "ground": ground(seen) == scene.ground}
    lights = (("sun", sun), ("moon", moon), ("stars", stars), ("clouds", clouds))
    result |= {name: test(seen) for name, test in lights if getattr(scene, name)}
    if scene.relief != "none":
        result["relief"] = relief(seen) == scene.relief
    if scene.house:
        colour = house(seen)
        result |= {"house": colour is not None, "house colour": colour == scene.house}
    if scene.trees:
        result["trees"] = trees(seen) == scene.trees
    if scene.boat:
        colour = boat(seen)
        result |= {"boat": colour is not None, "boat colour": colour == scene.boat}
    return result


def intruders(scene: Landscape, image: Image.Image) -> dict[str, bool]:
    """For each part that the scene has not, whether the picture seems to show it."""
    seen = view(image)
    lights = (("sun", sun), ("moon", moon), ("stars", stars), ("clouds", clouds))
    result = {name: test(seen) for name, test in lights if not getattr(scene, name)}
    if scene.relief == "none":
        result["relief"] = relief(seen) != "none"
    if not scene.house:
        result["house"] = house(seen) is not None
    if not scene.trees:
        result["trees"] = trees(seen) > 0
    if not scene.boat:
        result["boat"] = boat(seen) is not None
    return result
