"""What a server of AUTOMATIC1111's API offers, read from its lists: models and samplers. Pure.

From version 1.9 on a schedule of noise levels (Karras ...) is a field of its own; before that, and in other
programs of this API, it is the end of a sampler's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from backends._checkpoints import checkpoint, habit_of
from bot.core.ports import Model
from bot.core.request import JSON
from bot.core.schedulers import SCHEDULERS, find_scheduler

_SUFFIXES: Final = ("Karras", "Exponential", "Beta")
_PLAIN: Final = ("Uniform", "Normal", "Simple")  # schedules that are the model's own noise levels
_DEFAULTS: Final = ("Euler", "Euler a", "DPM++ 2M", "UniPC", "DDIM")
_MOST: Final = 500  # models


@dataclass(frozen=True, slots=True)
class Sampler:
    """How one of our schedulers is asked for. schedule: a label, None to leave it to the server."""

    name: str
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """titles: model id -> what the server knows it by, the loaded one first; samplers: our name -> theirs;
    flow_schedule: what models that sample by rectified flow want; settings: names of its options."""

    titles: Mapping[str, str] = field(default_factory=dict)
    samplers: Mapping[str, Sampler] = field(default_factory=dict)
    flow_schedule: str | None = None
    settings: frozenset[str] = frozenset()

    @property
    def default_scheduler(self) -> str | None:
        """What is used where nothing is asked for."""
        return next((name for name in _DEFAULTS if name in self.samplers), next(iter(self.samplers), None))

    def models(self) -> tuple[Model, ...]:
        """The models as our port knows them."""
        return tuple(checkpoint(model_id, self.default_scheduler, self.samplers) for model_id in self.titles)

    def sampler(self, scheduler: str, model_id: str) -> Sampler | None:
        """How a scheduler of ours is asked for with a model; None where it is not offered."""
        found = self.samplers.get(scheduler)
        flow = found is not None and not scheduler.endswith(_SUFFIXES) and habit_of(model_id).flow
        if found is not None and flow and self.flow_schedule is not None:
            return Sampler(found.name, self.flow_schedule)
        return found


def read_catalogue(models: JSON, samplers: JSON, schedulers: JSON, options: JSON) -> Catalogue:
    """The catalogue in the answers of sd-models, samplers, schedulers (None where there is none), options."""
    settings = options if isinstance(options, Mapping) else {}
    labels = [label for item in _items(schedulers) if (label := _text(item, "label"))]
    return Catalogue(
        titles=_titles(_items(models), str(settings.get("sd_model_checkpoint") or "")),
        samplers=_samplers(_items(samplers), labels),
        flow_schedule="Simple" if "Simple" in labels else None,
        settings=frozenset(map(str, settings)),
    )


def _titles(items: Sequence[Mapping[str, JSON]], current: str) -> dict[str, str]:
    """By model_name, or by title where two share a name; the current one first."""
    pairs = [(_text(item, "model_name"), _text(item, "title")) for item in items]
    pairs = [(name or title, title or name) for name, title in pairs if name or title][:_MOST]
    names = [name for name, _ in pairs]
    titles = {(title if names.count(name) > 1 else name): title for name, title in pairs}

    def loaded(model_id: str) -> bool:
        title = titles[model_id]
        plain = title.partition(" [")[0]
        return current != "" and (current in (title, model_id) or current.partition(" [")[0] == plain)

    return {model_id: titles[model_id] for model_id in sorted(titles, key=loaded, reverse=True)}


def _samplers(items: Sequence[Mapping[str, JSON]], labels: Sequence[str]) -> dict[str, Sampler]:
    """Every scheduler of ours that the server has. A sampler may have a schedule of its own, which is what
    "Automatic" means: then the plain one is asked for by its name, or not offered."""
    found: dict[str, Sampler] = {}
    for item in items:
        name = _text(item, "name")
        ours = find_scheduler(name)
        if ours is None:
            continue
        options = item.get("options")
        own = str(options.get("scheduler", "")) if isinstance(options, Mapping) else ""
        if labels and own and not ours.endswith(_SUFFIXES):
            plain = next((label for label in _PLAIN if label in labels), None)
            if plain is not None:
                found.setdefault(ours, Sampler(name, plain))
        else:
            found.setdefault(ours, Sampler(name))
        for suffix in _SUFFIXES:
            if suffix in labels and (full := f"{ours} {suffix}") in SCHEDULERS:
                found.setdefault(full, Sampler(name, suffix))
    return found


def _items(value: JSON) -> list[Mapping[str, JSON]]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return []
    return [item for item in value if isinstance(item, Mapping)]


def _text(item: Mapping[str, JSON], name: str) -> str:
    value = item.get(name)
    return value.strip() if isinstance(value, str) else ""
