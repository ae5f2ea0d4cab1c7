"""What is offered while somebody types: sizes, models, schedulers, styles, and one's own requests.

Everything is answered from memory, for Discord waits three seconds and people less. Nothing offered is
trusted: whatever comes back is checked as if it had been typed.
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from discord.app_commands import Choice

from bot.core.errors import FairbrushError
from bot.core.grammar import parse
from bot.core.messages import one_line
from bot.core.ports import JobStatus, Model
from bot.core.request import Limits, Requester
from bot.core.schedulers import SCHEDULERS
from bot.core.sizes import USUAL_RATIOS, nearest_size, ratio_name
from bot.core.studio import Studio
from bot.core.text import clean, clip

MOST: Final = 25
"""Answers that Discord takes."""

LONGEST: Final = 100
"""Characters of a choice's name and value."""

ALL: Final = "all"
"""What /cancel takes for everything of one's own."""

_TYPED_SIZE: Final = re.compile(r"\s*(\d{1,5})\s*[xX×*]\s*(\d{1,5})\s*")


# --- what a model offers ----------------------------------------------------------------------------------


def chosen_model(studio: Studio, named: str | None, prompt: str | None) -> Model | None:
    """The model that a half-filled command is about: the one named, by option or flag, else the default."""
    models = studio.models()
    try:
        said = parse(prompt or "").model or named
    except FairbrushError:  # half a flag is no mistake yet
        said = named
    folded = (said or "").strip().casefold()
    named_one = (model for model in models if folded in (model.id.casefold(), model.title.casefold()))
    return next(named_one, models[0] if models else None)


def sizes(typed: str, model: Model | None, limits: Limits) -> list[Choice[str]]:
    """Sizes of the model's own area in the usual ratios; what was typed alone, where it is another one.

    The first call for a model takes some 50 ms of CPU: not for the event loop.
    """
    width, height = (model.width, model.height) if model else (512, 512)
    offered = good_sizes(width, height, limits)
    own = _typed_size(typed, limits)
    if own is not None and own not in offered:
        return [Choice(name=f"{own[0]}x{own[1]}", value=f"{own[0]}x{own[1]}")]
    return _matching(typed.replace("×", "x"), [_size(size, name) for size, name in offered.items()])


@functools.lru_cache(maxsize=64)
def good_sizes(width: int, height: int, limits: Limits) -> Mapping[tuple[int, int], str]:
    """The model's own size, then those of the same area in the usual ratios that the limits allow; what
    ratio each of them is."""
    area, most = width * height, limits.max_ratio
    found = {(width, height): ratio_name(width, height, area, limits)}
    for across, down in USUAL_RATIOS:
        if 1 / most <= across / down <= most:
            found.setdefault(nearest_size(across / down, area, limits), f"{across}:{down}")
    return MappingProxyType(found)


def _size(size: tuple[int, int], ratio: str) -> Choice[str]:
    value = f"{size[0]}x{size[1]}"
    return Choice(name=f"{value} · {ratio}" if ":" in ratio else value, value=value)


def _typed_size(typed: str, limits: Limits) -> tuple[int, int] | None:
    found = _TYPED_SIZE.fullmatch(typed)
    if found is None:
        return None
    width, height = int(found[1]), int(found[2])
    low, high, step = limits.min_side, limits.max_side, limits.side_multiple
    fits = all(low <= side <= high and side % step == 0 for side in (width, height))
    shape = max(width, height) <= min(width, height) * limits.max_ratio if fits else False
    return (width, height) if shape else None


def aspects(limits: Limits) -> list[Choice[str]]:
    """The usual ratios that the limits allow: a fixed list, for the command itself."""
    most = limits.max_ratio
    ratios = [(across, down) for across, down in USUAL_RATIOS if 1 / most <= across / down <= most]
    return [Choice(name=f"{across}:{down}", value=f"{across}:{down}") for across, down in ratios[:MOST]]


def models(studio: Studio, typed: str) -> list[Choice[str]]:
    """The models offered now, the default first."""
    found = []
    for model in studio.models():
        name = model.id if model.title in ("", model.id) else f"{model.title} · {model.id}"
        found.append((name, model.id))
    return _matching(typed, _choices(found))


def schedulers(typed: str, model: Model | None) -> list[Choice[str]]:
    """What the model takes, its own first."""
    offered = model.schedulers if model and model.schedulers else tuple(SCHEDULERS)
    refused = model.refused_schedulers if model else {}
    own = model.scheduler if model else None
    names = [name for name in offered if name not in refused]
    names.sort(key=lambda name: name != own)
    return _matching(typed, _choices((f"{name} · default" if name == own else name, name) for name in names))


def styles(studio: Studio, typed: str) -> list[Choice[str]]:
    """The presets with the words that they add."""
    found = ((f"{name} · {words}", name) for name, words in sorted(studio.settings.styles.items()))
    return _matching(typed, _choices(found))


# --- one's own requests -----------------------------------------------------------------------------------


def unfinished(statuses: Sequence[JobStatus], typed: str) -> list[Choice[str]]:
    """Requests that can be cancelled, newest first; all of them where there are several."""
    found = [
        (f"{one_line(status.prompt)} · {status.state}", status.group_id) for status in reversed(statuses)
    ]
    if len(found) > 1:
        found.insert(1, (f"all {len(found)} of yours", ALL))
    return _matching(typed, _choices(found))


@dataclass(frozen=True, slots=True)
class Known:
    """A request that somebody made lately."""

    group_id: str
    prompt: str


class Recent:
    """Everybody's latest requests, in memory: what /show offers. Bounded in members and in requests each."""

    def __init__(self, *, members: int = 2000) -> None:
        self._most = members
        self._known: OrderedDict[tuple[str, str], dict[str, Known]] = OrderedDict()

    def note(self, requester: Requester, group_id: str, prompt: str) -> None:
        """A request was accepted."""
        mine = self._mine(requester)
        mine.pop(group_id, None)
        mine[group_id] = Known(group_id, one_line(prompt))
        while len(mine) > MOST:
            del mine[next(iter(mine))]

    def fill(self, requester: Requester, newest_first: Iterable[Known]) -> None:
        """What the store knows, behind what was noted since."""
        newer = self._known.pop((requester.tenant, requester.member), {})
        self._mine(requester)
        for known in reversed([*newest_first][:MOST]):
            self.note(requester, known.group_id, known.prompt)
        for known in newer.values():
            self.note(requester, known.group_id, known.prompt)

    def forget(self, requester: Requester, group_id: str) -> None:
        """It was deleted."""
        self._known.get((requester.tenant, requester.member), {}).pop(group_id, None)

    def knows(self, requester: Requester) -> bool:
        """Whether anything of theirs is in memory."""
        return (requester.tenant, requester.member) in self._known

    def choices(self, requester: Requester, typed: str) -> list[Choice[str]]:
        """Theirs, newest first."""
        mine = self._known.get((requester.tenant, requester.member), {})
        found = ((f"{known.group_id} · {known.prompt}", known.group_id) for known in reversed(mine.values()))
        return _matching(typed, _choices(found))

    def _mine(self, requester: Requester) -> dict[str, Known]:
        key = (requester.tenant, requester.member)
        mine = self._known.setdefault(key, {})
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return mine


# --- choices ----------------------------------------------------------------------------------------------


def _choices(found: Iterable[tuple[str, str]]) -> list[Choice[str]]:
    """(what is shown, what is sent); what is too long to be sent is left out."""
    cleaned = ((clip(clean(name), LONGEST), value) for name, value in found)
    return [Choice(name=name, value=value) for name, value in cleaned if name and len(value) <= LONGEST]


def _matching(typed: str, choices: Sequence[Choice[str]]) -> list[Choice[str]]:
    """Those that hold every word typed; those that begin with them first."""
    words = typed.casefold().split()
    held = [one for one in choices if all(word in f"{one.name} {one.value}".casefold() for word in words)]
    first = words[0] if words else ""
    held.sort(key=lambda one: not one.name.casefold().startswith(first))
    return held[:MOST]
