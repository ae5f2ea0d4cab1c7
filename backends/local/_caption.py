"""Writes understood words as a caption of the embedded model's grammar (training/captions.py).

Two kinds of captions: landscapes, wherever a word of scenery occurs, and one or two shapes on a background.
"""

from __future__ import annotations

from dataclasses import dataclass, field

COLOURS = frozenset(
    ["red", "green", "blue", "yellow", "orange", "purple", "pink", "cyan", "brown", "black", "white", "gray"]
)
SHAPES = frozenset(["circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring"])
SIZES = frozenset(("small", "large"))
COUNTS = {"two": 2, "three": 3}
PLACES = {
    "middle": "in the middle",
    "center": "in the middle",
    "top": "at the top",
    "bottom": "at the bottom",
    "left": "on the left",
    "right": "on the right",
}
RELATIONS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
ABOVE_AND_BELOW = {"over": "above", "under": "below"}
GROUNDS = {
    "sea": "sea",
    "beach": "beach",
    "sandy": "beach",
    "coast": "coast",
    "field": "grass",
    "meadow": "grass",
    "grass": "grass",
    "landscape": "grass",
}
LIGHTS = {
    "sun": "sun",
    "sunny": "sun",
    "moon": "moon",
    "stars": "stars",
    "starry": "stars",
    "clouds": "clouds",
    "cloudy": "clouds",
}
TIMES = {"sunset": "sunset", "evening": "sunset", "night": "night", "day": "day"}
RELIEFS = {"hills": "hills", "mountains": "mountains", "snowy": "mountains"}
THINGS = frozenset(("house", "boat", "sailboat"))
TREES = {"tree": 1, "trees": 3, "forest": 3}
COLOURED_SCENERY = frozenset((*THINGS, "sea", "sky", "field", "coast", "hills"))
SCENERY = frozenset({*GROUNDS, *LIGHTS, *TIMES, *RELIEFS, *THINGS, *TREES, "sky"})


@dataclass(slots=True)
class Word:
    """A word as written, what it stands for, and how that was found out.

    kind: known, read (as another word), object (likened to a shape) or unknown. write() fills in `drawn`, the
    words for what an object became, and `left_out`, why it is not in the caption.
    """

    text: str
    meaning: str
    kind: str = "known"
    plural: bool = False
    drawn: str = ""
    left_out: str = ""


@dataclass(slots=True)
class _Noun:
    """A shape, or a thing in a landscape, with what was said of it."""

    name: str
    colour: str = ""
    size: str = ""

    def __str__(self) -> str:
        return article(" ".join(part for part in (self.size, self.colour, self.name) if part))


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


APART = "The demonstration model draws shapes and landscapes apart; left out"
AT_MOST_TWO = "The demonstration model draws at most two shapes; left out"


def write(words: list[Word]) -> str:
    """A caption that says what the words say; empty where that is nothing."""
    if not _parts(words) & (SCENERY - {"sky"}):
        return _shapes(words)
    for word in words:
        if word.kind == "object" or (word.meaning in SHAPES and word.meaning != "star"):
            word.left_out = APART
    return _landscape(words)


def _parts(words: list[Word]) -> set[str]:
    return {part for word in words if word.kind != "object" for part in word.meaning.split()}


def well_formed(words: list[str]) -> bool:
    """Whether known words, in this order, are close enough to the grammar to be left as they are."""
    there = set(words)
    if there & (SCENERY - {"sky"}):
        grounded = there & {*GROUNDS, *RELIEFS, *THINGS, *TREES}
        return bool(grounded) and not there & SHAPES and _colours_belong(words, COLOURED_SCENERY)
    count = sum(word in SHAPES for word in words)
    return 1 <= count <= 2 and _colours_belong(words, SHAPES | {"background"})


def _colours_belong(words: list[str], nouns: frozenset[str]) -> bool:
    following = [*words[1:], ""]
    return all(after in nouns for word, after in zip(words, following, strict=True) if word in COLOURS)


@dataclass(slots=True)
class _View:
    """A landscape as it is gathered from words."""

    time: str = ""
    ground: str = ""
    relief: str = ""
    lights: list[str] = field(default_factory=list)
    things: list[str] = field(default_factory=list)
    trees: int = 0


def _landscape(words: list[Word]) -> str:
    view, colour, count = _View(), "", 1
    for word in words:
        if word.kind == "object":
            colour = ""
            continue
        for part in word.meaning.split():
            if part in COLOURS:
                colour = part
            elif part in COUNTS:
                count = COUNTS[part]
            elif part in SCENERY or part == "star":
                _gather(
                    view,
                    "stars" if part == "star" else part,
                    colour,
                    3 if word.plural and count == 1 else count,
                )
                colour, count = "", 1
    return _told(view)


def _gather(view: _View, part: str, colour: str, count: int) -> None:
    if part in THINGS:
        _once(view.things, str(_Noun("boat" if part == "sailboat" else part, colour)))
    elif part in TREES:
        view.trees = max(view.trees, count, TREES[part])
    elif part in TIMES:
        view.time = view.time or TIMES[part]
    elif part in LIGHTS:
        _once(view.lights, LIGHTS[part])
    elif part in RELIEFS:
        view.relief = view.relief or RELIEFS[part]
    elif part in GROUNDS:
        ground = GROUNDS[part]
        if view.ground and {view.ground, ground} == {"sea", "grass"}:
            ground = "coast"
        elif "beach" in (view.ground, ground):
            ground = "beach"
        view.ground = ground if view.ground in ("", "sea", "grass") else view.ground


def _once(items: list[str], item: str) -> None:
    if item not in items:
        items.append(item)


def _told(view: _View) -> str:
    """The view in words; what cannot be (a boat on grass, the sun at night) is put right first."""
    if not view.time and {"moon", "stars"} & set(view.lights):
        view.time = "night"
    wrong = {"night": ("sun", "clouds"), "sunset": ("moon", "stars", "clouds")}.get(
        view.time, ("moon", "stars")
    )
    lights = [light for light in view.lights if light not in wrong]
    if view.trees:  # several only where nothing else stands
        many = {1: "a tree", 2: "two trees"}.get(view.trees, "three trees")
        view.things.append("a tree" if view.things else many)
    boats = [thing for thing in view.things if thing.endswith("boat")]
    firm = [thing for thing in view.things if not thing.endswith("boat")]
    ground = view.ground or ("sea" if boats else "grass")
    if boats and ground == "grass":
        ground = "coast"
    if firm and ground == "sea":
        ground = "coast"
    parts = [_head([*firm, *boats][:3], ground, view), *_tail(view, ground, lights)]
    return " ".join(part for part in parts if part)


def _head(things: list[str], ground: str, view: _View) -> str:
    grounds = {"grass": "a green field", "sea": "the sea", "beach": "a beach", "coast": "a green coast"}
    if not things:
        if view.relief and ground == "grass":
            head, view.relief = view.relief, ""
            return head
        return grounds[ground]
    where = {"grass": "", "sea": "on the sea", "beach": "on a beach", "coast": "by the sea"}[ground]
    return f"{_join(things)} {where}".strip()


def _tail(view: _View, ground: str, lights: list[str]) -> list[str]:
    moment = {"sunset": "at sunset", "night": "at night"}.get(view.time, "")
    rest = [view.relief] if view.relief else []
    if view.time == "night" and "stars" in lights:
        moment = "under a starry night sky"
        lights.remove("stars")
    elif not moment and "sun" in lights and "clouds" not in lights:
        moment = "on a sunny day"
        lights.remove("sun")
    rest += [f"the {light}" if light in ("sun", "moon") else light for light in lights]
    return [moment, f"with {_join(rest)}" if rest else ""]


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


@dataclass(slots=True)
class _Still:
    """Shapes as they are gathered from words."""

    nouns: list[_Noun] = field(default_factory=list)
    background: str = ""
    colour: str = ""
    size: str = ""
    place: str = ""
    relation: str = ""
    count: int = 1
    most: int = 1  # the greatest number asked of one thing
    behind: bool = False  # the pending colour came after "on" or "over"


def _shapes(words: list[Word]) -> str:
    still = _Still()
    for word in words:
        if word.kind == "object" or word.meaning in SHAPES:
            _place_noun(still, word)
        else:
            for part in word.meaning.split():
                _note_part(still, part)
    if still.behind and still.colour and not still.background:
        still.background, still.colour = still.colour, ""
    if len(still.nouns) == 1 and still.most > 1:
        still.nouns *= 2
    return _arranged(still)


def _place_noun(still: _Still, word: Word) -> None:
    if len(still.nouns) == 2:
        word.left_out = AT_MOST_TWO
    else:
        *usual, name = word.meaning.split()
        noun = _Noun(name, still.colour or (usual[0] if usual else "red"), still.size)
        still.nouns.append(noun)
        still.most = max(still.most, still.count, 2 if word.plural else 1)
        if word.kind == "object":
            word.drawn = str(noun)
    still.colour, still.size, still.count, still.behind = "", "", 1, False


def _note_part(still: _Still, part: str) -> None:
    if part in COLOURS:
        still.colour = part
    elif part in SIZES:
        still.size = part
    elif part in COUNTS:
        still.count = COUNTS[part]
    elif part == "background":
        still.background, still.colour = still.colour, ""
    elif part in ("on", "with"):
        still.behind = not still.colour
    elif part in PLACES or part in RELATIONS or part in ABOVE_AND_BELOW:
        still.relation = RELATIONS.get(part, RELATIONS.get(ABOVE_AND_BELOW.get(part, ""), still.relation))
        still.place = PLACES.get(part, still.place)
        still.behind = part == "over" and not still.colour


def _arranged(still: _Still) -> str:
    if not still.nouns:
        if not (still.colour or still.background):
            return ""
        still.nouns.append(_Noun("circle", still.colour or ("red" if still.background != "red" else "white")))
    if len(still.nouns) == 2:
        body = f"{still.nouns[0]} {still.relation or 'left of'} {still.nouns[1]}"
    else:
        body = f"{still.nouns[0]} {still.place}".strip()
    return f"{body} on {article(still.background)} background" if still.background else body
