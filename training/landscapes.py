"""Simple landscapes: a sky by the time of day, what stands in it, the ground and what is on it.

Like scenes.py this draws scenes at random and paints them; captions are made in captions.py.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from training.palette import COLOURS, NAMES, RGB
from training.scenes import SUPERSAMPLE

TIMES: tuple[str, ...] = ("day", "sunset", "night")
GROUNDS: tuple[str, ...] = ("grass", "sea", "beach", "coast")
RELIEFS: tuple[str, ...] = ("none", "hills", "mountains")
BUILDING_COLOURS: tuple[str, ...] = NAMES
PLAIN_HOUSES: tuple[str, ...] = ("red", "white", "yellow")
PLAIN_BOATS: tuple[str, ...] = ("red", "brown")

# Top and bottom of each sky, then what the light does to each material.
SKY: dict[str, tuple[RGB, RGB]] = {
    "day": ((85, 160, 240), (180, 220, 250)),
    "sunset": ((120, 70, 150), (250, 150, 90)),
    "night": ((10, 14, 45), (35, 45, 100)),
}
INKS: dict[str, dict[str, RGB]] = {
    "day": {
        "grass": (110, 195, 70),
        "sea": (25, 110, 175),
        "sand": (235, 210, 150),
        "hills": (75, 140, 95),
        "mountains": (125, 125, 150),
        "sun": (255, 225, 50),
    },
    "sunset": {
        "grass": (120, 130, 50),
        "sea": (70, 75, 140),
        "sand": (205, 150, 110),
        "hills": (85, 100, 55),
        "mountains": (125, 80, 110),
        "sun": (255, 235, 130),
    },
    "night": {
        "grass": (35, 80, 55),
        "sea": (20, 65, 110),
        "sand": (110, 105, 100),
        "hills": (15, 50, 45),
        "mountains": (95, 95, 125),
        "moon": (250, 245, 210),
    },
}
CLOUD: RGB = (252, 252, 252)
SNOW: RGB = (245, 248, 252)
STAR: RGB = (255, 255, 235)
ROOF: RGB = (70, 60, 80)
PANE: RGB = (255, 240, 170)
CROWN: RGB = (25, 115, 45)
TRUNK: RGB = (105, 65, 35)
SAIL: RGB = (250, 250, 250)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Landscape:
    """What is in the picture, and a seed for where exactly. A None colour means absent."""

    width: int
    height: int
    time: str
    ground: str
    relief: str
    sun: bool
    moon: bool
    stars: bool
    clouds: bool
    house: str | None
    trees: int
    boat: str | None
    seed: int

    def key(self) -> str:
        """What the landscape says, without where exactly."""
        lights = "".join(str(int(x)) for x in (self.sun, self.moon, self.stars, self.clouds))
        things = f"{self.house}|{self.trees}|{self.boat}"
        return f"{self.time}|{self.ground}|{self.relief}|{lights}|{things}"

    def held_out(self) -> bool:
        """Whether this meaning (1 in 16 of them) is kept from training."""
        return zlib.crc32(self.key().encode()) % 16 == 0


def draw_landscape(random: Random, width: int, height: int) -> Landscape:
    """A landscape at random; house and trees need firm ground, a boat needs water."""
    time = random.choices(TIMES, (9, 6, 6))[0]
    ground = random.choices(GROUNDS, (8, 6, 5, 4))[0]
    firm, wet = ground != "sea", ground != "grass"
    day, night = time == "day", time == "night"
    house = _colour(random, PLAIN_HOUSES) if firm and random.random() < 0.45 else None
    boat = _colour(random, PLAIN_BOATS) if wet and random.random() < 0.55 else None
    trees = 0
    if firm and random.random() < 0.45:
        trees = 1 if house or boat else random.choices((1, 2, 3), (5, 2, 3))[0]
    return Landscape(
        width,
        height,
        time,
        ground,
        relief=random.choices(RELIEFS, (5, 3, 2))[0],
        sun=not night and random.random() < 0.55,
        moon=night and random.random() < 0.5,
        stars=night and random.random() < 0.6,
        clouds=day and random.random() < 0.3,
        house=house,
        trees=trees,
        boat=boat,
        seed=random.getrandbits(32),
    )


def _colour(random: Random, plain: tuple[str, ...]) -> str:
    return random.choice(plain if random.random() < 0.4 else BUILDING_COLOURS)


@dataclass(slots=True)
class _Easel:
    """The canvas being painted, the mask of what matters, and the layout's random choices."""

    scene: Landscape
    canvas: ImageDraw.ImageDraw
    mask: ImageDraw.ImageDraw
    random: Random
    scale: int
    things: list[tuple[str, float]]  # name and column, the column as a share of the width
    horizon: float = 0.0  # everything below in canvas pixels
    shore: float = 0.0

    @property
    def wide(self) -> float:
        return float(self.scene.width * self.scale)

    @property
    def high(self) -> float:
        return float(self.scene.height * self.scale)

    @property
    def unit(self) -> float:
        return min(self.wide, self.high)

    def ink(self, name: str) -> RGB:
        return INKS[self.scene.time][name]

    def heed(self, box: Box, margin: float = 2.0) -> None:
        """Note a box (canvas pixels) as one where the loss counts more."""
        x0, y0, x1, y1 = (side / self.scale for side in box)
        self.mask.rectangle((x0 - margin, y0 - margin, x1 + margin, y1 + margin), fill=255)


def paint_with_weight(scene: Landscape) -> tuple[Image.Image, Image.Image]:
    """The ground-truth picture (RGB) and the mask of its named things ("L")."""
    scale = SUPERSAMPLE
    size = (scene.width * scale, scene.height * scale)
    image = _sky(scene.time, size)
    mask = Image.new("L", (scene.width, scene.height), 0)
    random = Random(scene.seed)
    easel = _Easel(scene, ImageDraw.Draw(image), ImageDraw.Draw(mask), random, scale, _columns(scene, random))
    easel.horizon = easel.high * random.uniform(0.54, 0.60)
    easel.shore = easel.horizon + easel.high * 0.18
    _lights(easel)
    _relief(easel)
    _ground(easel)
    _things(easel)
    return image.reduce(scale), mask


def _columns(scene: Landscape, random: Random) -> list[tuple[str, float]]:
    names = ["house"] * bool(scene.house) + ["tree"] * scene.trees + ["boat"] * bool(scene.boat)
    random.shuffle(names)
    columns = {1: (0.5,), 2: (0.27, 0.73), 3: (0.19, 0.5, 0.81)}.get(len(names), ())
    return [(n, c + random.uniform(-0.025, 0.025)) for n, c in zip(names, columns, strict=True)]


def _gap(easel: _Easel) -> float:
    """A column (share of the width) where sun or moon is not hidden by what stands below."""
    free = {0: (0.3, 0.5, 0.7), 1: (0.22, 0.78), 2: (0.5,), 3: (0.345, 0.655)}
    return easel.random.choice(free[len(easel.things)]) + easel.random.uniform(-0.03, 0.03)


def _sky(time: str, size: tuple[int, int]) -> Image.Image:
    top, bottom = SKY[time]
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), ramp)


def _disc(easel: _Easel, x: float, y: float, radius: float, ink: RGB) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    easel.canvas.ellipse(box, fill=ink)
    easel.heed(box)


def _lights(easel: _Easel) -> None:
    scene, random = easel.scene, easel.random
    column = _gap(easel)
    x = easel.wide * column
    radius = easel.unit * random.uniform(0.10, 0.12)
    ridge = 0.26 if scene.relief != "none" else 0.04
    low = easel.horizon - easel.high * ridge - radius
    high = easel.high * 0.05 + radius
    setting = scene.time == "sunset" and len(easel.things) < 3
    y = low if setting else random.uniform(high, (high + low) / 2)
    if scene.stars:
        _stars(easel, (x, y, radius * 1.5 if scene.moon else 0.0))
    if scene.sun:
        _disc(easel, x, max(y, high), radius, easel.ink("sun"))
    if scene.moon:
        _disc(easel, x, max(y, high), radius, easel.ink("moon"))
    if scene.clouds:
        lit = scene.sun
        if not lit or column > 0.4:
            _cloud(easel, 0.07 * easel.wide, easel.wide * (0.10 if lit else 0.2))
        if not lit or column <= 0.55:
            _cloud(easel, 0.70 * easel.wide - 0.04 * easel.unit, easel.wide * 0.74)


def _stars(easel: _Easel, moon: tuple[float, float, float]) -> None:
    """One star in most cells of a grid, apart from one another and from the moon's disc."""
    columns, rows = 5, 3
    cell = (easel.wide / columns, easel.horizon * 0.72 / rows)
    radius = easel.unit * 0.017
    for i in range(columns * rows):
        if easel.random.random() < 0.2:
            continue
        x = (i % columns + easel.random.uniform(0.25, 0.75)) * cell[0]
        y = (i // columns + easel.random.uniform(0.25, 0.75)) * cell[1]
        if math.hypot(x - moon[0], y - moon[1]) < moon[2]:
            continue
        box = (x - radius, y - radius, x + radius, y + radius)
        easel.canvas.ellipse(box, fill=STAR)
        easel.heed(box, margin=3)


def _cloud(easel: _Easel, left: float, right: float) -> None:
    unit = easel.unit
    x = easel.random.uniform(left, right)
    y = easel.high * easel.random.uniform(0.10, 0.22)
    puffs = ((0.0, 0.06), (0.09, 0.075), (0.18, 0.055))
    for dx, radius in puffs:
        middle = x + dx * unit
        reach = radius * unit
        easel.canvas.ellipse((middle - reach, y - reach, middle + reach, y + reach), fill=CLOUD)
    box = (x - 0.06 * unit, y, x + 0.235 * unit, y + 0.055 * unit)
    easel.canvas.rectangle((x, y, x + 0.18 * unit, y + 0.055 * unit), fill=CLOUD)
    easel.heed((box[0], y - 0.08 * unit, box[2], box[3]))


def _relief(easel: _Easel) -> None:
    if easel.scene.relief == "hills":
        _hills(easel)
    elif easel.scene.relief == "mountains":
        _mountains(easel)


def _hills(easel: _Easel) -> None:
    ink, random = easel.ink("hills"), easel.random
    for middle in (0.15, 0.55, 0.95):
        x = easel.wide * (middle + random.uniform(-0.08, 0.08))
        rise = easel.high * random.uniform(0.12, 0.19)
        reach = easel.wide * random.uniform(0.28, 0.36)
        top, bottom = easel.horizon - rise, easel.horizon + rise
        easel.canvas.ellipse((x - reach, top, x + reach, bottom), fill=ink)


def _mountains(easel: _Easel) -> None:
    ink, random = easel.ink("mountains"), easel.random
    for middle in (0.18, 0.82, 0.5):
        x = easel.wide * (middle + random.uniform(-0.06, 0.06))
        rise = easel.high * random.uniform(0.17, 0.24)
        reach = easel.wide * random.uniform(0.26, 0.32)
        base, top = easel.horizon, easel.horizon - rise
        easel.canvas.polygon([(x - reach, base), (x, top), (x + reach, base)], fill=ink)
        cap = 0.4
        snow = [(x - reach * cap, top + rise * cap), (x, top), (x + reach * cap, top + rise * cap)]
        easel.canvas.polygon(snow, fill=SNOW)
        easel.heed((x - reach * cap, top, x + reach * cap, top + rise * cap), margin=1)


def _ground(easel: _Easel) -> None:
    whole = (0.0, easel.horizon, easel.wide, easel.high)
    front = (0.0, easel.shore, easel.wide, easel.high)
    match easel.scene.ground:
        case "grass":
            easel.canvas.rectangle(whole, fill=easel.ink("grass"))
        case "sea":
            easel.canvas.rectangle(whole, fill=easel.ink("sea"))
        case "beach":
            easel.canvas.rectangle(whole, fill=easel.ink("sea"))
            easel.canvas.rectangle(front, fill=easel.ink("sand"))
        case _:
            easel.canvas.rectangle(whole, fill=easel.ink("sea"))
            easel.canvas.rectangle(front, fill=easel.ink("grass"))


def _things(easel: _Easel) -> None:
    scene, random = easel.scene, easel.random
    count = len(easel.things)
    crowd = {1: 1.15, 2: 1.0, 3: 0.82}.get(count, 1.0)
    size = min(easel.unit * crowd, easel.wide * (1.15 if count < 3 else 0.85))
    for name, column in easel.things:
        x = easel.wide * column
        if name == "boat":
            _boat(easel, x, size, COLOURS[scene.boat or "red"])
            continue
        front = easel.horizon if scene.ground == "grass" else easel.shore
        foot = front + easel.high * random.uniform(0.06, 0.13)
        if name == "house":
            _house(easel, x, foot, size, COLOURS[scene.house or "red"])
        else:
            _tree(easel, x, foot, size)


def _house(easel: _Easel, x: float, foot: float, size: float, wall: RGB) -> None:
    pen, half, tall = easel.canvas, 0.15 * size, 0.20 * size
    top = foot - tall
    pen.rectangle((x - half, top, x + half, foot), fill=wall)
    eaves = half * 1.22
    pen.polygon([(x - eaves, top), (x, top - 0.15 * size), (x + eaves, top)], fill=ROOF)
    pen.rectangle((x - 0.10 * size, foot - 0.13 * size, x - 0.02 * size, foot), fill=ROOF)
    pen.rectangle((x + 0.03 * size, top + 0.05 * size, x + 0.10 * size, top + 0.12 * size), fill=PANE)
    easel.heed((x - eaves, top - 0.15 * size, x + eaves, foot))


def _tree(easel: _Easel, x: float, foot: float, size: float) -> None:
    pen, crown = easel.canvas, 0.135 * size
    trunk, middle = 0.028 * size, foot - 0.27 * size
    pen.rectangle((x - trunk, middle, x + trunk, foot), fill=TRUNK)
    pen.ellipse((x - crown, middle - crown, x + crown, middle + crown), fill=CROWN)
    easel.heed((x - crown, middle - crown, x + crown, foot))


def _boat(easel: _Easel, x: float, size: float, hull: RGB) -> None:
    pen, half, deep = easel.canvas, 0.17 * size, 0.085 * size
    band = easel.high - easel.horizon if easel.scene.ground == "sea" else easel.high * 0.18
    keel = easel.horizon + min(band * 0.8, 0.2 * easel.high)
    deck = keel - deep
    mast = 0.012 * size
    pen.rectangle((x - mast, deck - 0.27 * size, x + mast, deck), fill=ROOF)
    sail = [
        (x + mast, deck - 0.26 * size),
        (x + half * 0.9, deck - 0.03 * size),
        (x + mast, deck - 0.03 * size),
    ]
    pen.polygon(sail, fill=SAIL)
    lee = [
        (x - mast, deck - 0.22 * size),
        (x - half * 0.7, deck - 0.03 * size),
        (x - mast, deck - 0.03 * size),
    ]
    pen.polygon(lee, fill=SAIL)
    pen.polygon(
        [(x - half, deck), (x + half, deck), (x + half * 0.7, keel), (x - half * 0.7, keel)], fill=hull
    )
    easel.heed((x - half, deck - 0.27 * size, x + half, keel))
