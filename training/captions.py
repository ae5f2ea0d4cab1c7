"""Captions: the small grammar that the model knows, said in several ways.

Used for training, for evaluation and, word by word, for the tokenizer and the lexicon: whatever
word can come out of here is a word the model knows.
"""

from __future__ import annotations

from random import Random

from training.landscapes import Landscape
from training.scenes import Scene, Thing, default_background

OPENINGS: tuple[str, ...] = (
    "a picture of",
    "a drawing of",
    "an image of",
    "a photo of",
    "a painting of",
)
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "middle": ("in the middle", "in the center"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "left": ("on the left",),
    "right": ("on the right",),
}
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
OPPOSITE: dict[str, str] = {"left": "right", "right": "left", "above": "below", "below": "above"}


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _thing(thing: Thing) -> str:
    size = "" if thing.size == "plain" else f"{thing.size} "
    return article(f"{size}{thing.colour} {thing.shape}")


def plain(scene: Scene) -> str:
    """The canonical caption, with everything named but the middle."""
    return f"{_body(scene, None)} on {article(scene.background)} background"


def shapes_caption(scene: Scene, random: Random) -> str:
    """A caption of one or two shapes, in one of several wordings."""
    body = _body(scene, random)
    colours = [thing.colour for thing in scene.things]
    if scene.background == default_background(colours) and random.random() < 0.7:
        return _opened(body, random)
    background = f"{article(scene.background)} background"
    text = random.choices(
        (f"{body} on {background}", f"{body} with {background}", f"{background} with {body}"),
        (7, 2, 2),
    )[0]
    return _opened(text, random)


def _body(scene: Scene, random: Random | None) -> str:
    first = _thing(scene.things[0])
    if scene.relation is None:
        place = scene.place or "middle"
        if place == "middle" and (random is None or random.random() < 0.6):
            return first
        words = PLACE_WORDS[place]
        return f"{first} {random.choice(words) if random else words[0]}"
    second, relation = _thing(scene.things[1]), scene.relation
    if random is None:
        return f"{first} {RELATION_WORDS[relation][0]} {second}"
    if relation == "left" and random.random() < 0.4:
        return f"{first} {random.choice(('and', 'next to'))} {second}"
    if random.random() < 0.2:
        first, second, relation = second, first, OPPOSITE[relation]
    return f"{first} {random.choice(RELATION_WORDS[relation])} {second}"


def _opened(text: str, random: Random) -> str:
    chance = random.random()
    if chance < 0.12:
        return f"{random.choice(OPENINGS)} {text}"
    if chance < 0.2:
        return " ".join(word for word in text.split() if word not in ("a", "an"))
    return text


def landscape_caption(scene: Landscape, random: Random, omit: float = 0.04) -> str:
    """A caption of a landscape; each light and the relief goes unnamed with probability `omit`."""
    subjects = _subjects(scene, random)
    lights = _lights(scene, random, omit)
    relief = [] if random.random() < omit else _relief(scene, random)
    tell = _noun_first if random.random() < 0.3 else _subject_first
    text = tell(scene, subjects, relief, lights, random)
    return _opened(text, random)


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _subjects(scene: Landscape, random: Random) -> list[str]:
    parts = []
    if scene.house:
        parts.append(_coloured(scene.house, "house", ("red", "white", "yellow"), random))
    if scene.trees == 1:
        parts.append("a tree")
    elif scene.trees == 2:
        parts.append("two trees")
    elif scene.trees:
        parts.append(random.choice(("three trees", "trees", "a forest")))
    if scene.boat:
        noun = random.choice(("boat", "boat", "sailboat"))
        parts.append(_coloured(scene.boat, noun, ("red", "brown"), random))
    random.shuffle(parts)
    return parts


def _coloured(colour: str, noun: str, usual: tuple[str, ...], random: Random) -> str:
    if colour in usual and random.random() < 0.4:
        return f"a {noun}"
    return article(f"{colour} {noun}")


def _relief(scene: Landscape, random: Random) -> list[str]:
    if scene.relief == "none":
        return []
    if scene.relief == "hills":
        return [random.choice(("hills", "green hills"))]
    return [random.choice(("mountains", "snowy mountains"))]


def _lights(scene: Landscape, random: Random, omit: float) -> list[str]:
    """Sun, moon, stars and clouds that are named."""
    sun = random.choice(("the sun", "a sun"))
    there = ((scene.sun, sun), (scene.moon, random.choice(("the moon", "a moon"))))
    more = ((scene.stars, "stars"), (scene.clouds, "clouds"))
    return [word for shown, word in there + more if shown and random.random() >= omit]


def _ground(scene: Landscape, random: Random) -> str:
    nouns = {
        "grass": ("a green field", "a meadow", "grass"),
        "sea": ("the sea", "the sea", "a blue sea"),
        "beach": ("a beach", "a beach", "a sandy beach"),
        "coast": ("a green coast", "a green field by the sea"),
    }
    return random.choice(nouns[scene.ground])


def _moment(scene: Landscape, lights: list[str], random: Random) -> str:
    """The time of day as an adverbial; takes the lights it names out of the list."""
    if scene.time == "sunset":
        return random.choice(("at sunset", "at sunset", "in the evening", "under a sunset sky"))
    if scene.time == "night":
        if "stars" in lights and random.random() < 0.5:
            lights.remove("stars")
            return random.choice(("under a starry night sky", "under a starry sky", "on a starry night"))
        return random.choice(("at night", "at night", "under a night sky"))
    if "clouds" in lights and random.random() < 0.5:
        lights.remove("clouds")
        return random.choice(("under a cloudy sky", "on a cloudy day"))
    suns = [light for light in lights if light.endswith("sun")]
    if suns and random.random() < 0.5:
        lights.remove(suns[0])
        return random.choice(("on a sunny day", "in the sun"))
    return random.choice(("", "", "under a blue sky", "by day"))


def _subject_first(
    scene: Landscape, subjects: list[str], relief: list[str], lights: list[str], random: Random
) -> str:
    """As in "a red house and a tree by the sea at night with the moon"."""
    moment = _moment(scene, lights, random)
    if relief and random.random() < 0.5:
        subjects, relief = [*subjects, *relief], []
    ground = _ground(scene, random)
    if not subjects:
        head = ground
    elif scene.ground == "grass":
        head = _join(subjects) + random.choice(("", "", f" on {ground}"))
    elif scene.ground == "coast":
        head = f"{_join(subjects)} {random.choice(('by the sea', f'on {ground}'))}"
    else:
        head = f"{_join(subjects)} on {ground}"
    rest = [*relief, *lights]
    random.shuffle(rest)
    tail = f"{random.choice(('with', 'and'))} {_join(rest)}" if rest else ""
    if len(rest) == 1 and rest[0].endswith(("sun", "moon")) and random.random() < 0.3:
        over = "over the sea" if scene.ground != "grass" else "in the sky"
        tail = f"with {rest[0]} {over}"
    ends = [moment, tail]
    if random.random() < 0.15:
        ends.reverse()
    return " ".join(part for part in (head, *ends) if part)


def _noun_first(
    scene: Landscape, subjects: list[str], relief: list[str], lights: list[str], random: Random
) -> str:
    """As in "a sunny beach with a boat" or "a starry night over the sea with a moon"."""
    rest = list(lights)
    if scene.time == "day":
        head = _lit(scene, rest, random)
    else:
        noun = "sunset" if scene.time == "sunset" else "night"
        if "stars" in rest and random.random() < 0.6:
            rest.remove("stars")
            noun = "starry night"
        over = relief.pop() if relief and scene.ground == "grass" else _ground(scene, random)
        head = f"{random.choice(('a', 'a', 'the'))} {noun} over {over}"
    named = [*subjects, *relief]
    random.shuffle(named)
    named += rest
    return f"{head} with {_join(named)}" if named else head


def _lit(scene: Landscape, rest: list[str], random: Random) -> str:
    nouns = {
        "grass": ("field", "meadow", "landscape"),
        "sea": ("sea",),
        "beach": ("beach",),
        "coast": ("coast",),
    }
    noun = random.choice(nouns[scene.ground])
    suns = [light for light in rest if light.endswith("sun")]
    if suns and random.random() < 0.7:
        rest.remove(suns[0])
        return f"a sunny {noun}"
    if "clouds" in rest and random.random() < 0.5:
        rest.remove("clouds")
        return f"a cloudy {noun}"
    return article(f"{noun}")


def caption(scene: Scene | Landscape, random: Random, omit: float = 0.04) -> str:
    """A caption of any scene; see landscape_caption for `omit`."""
    if isinstance(scene, Landscape):
        return landscape_caption(scene, random, omit)
    return shapes_caption(scene, random)
