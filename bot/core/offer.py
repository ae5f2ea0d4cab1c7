"""What is offered now: models, what a request gets where it does not say, and what is honoured.

Reads the lanes and the settings; decides nothing about a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bot.core.errors import Unavailable
from bot.core.guilds import Rules, defaults_of, limits_of
from bot.core.lanes import Lane
from bot.core.ports import Capabilities, Model
from bot.core.request import USUAL_NOUNS, Defaults, Limits, Nouns
from bot.core.settings import Settings


class Offer:
    """See the module."""

    def __init__(self, settings: Settings, lanes: Sequence[Lane]) -> None:
        self._settings = settings
        self._lanes = lanes
        self._seen: Sequence[Capabilities] = ()
        self._models: tuple[Model, ...] = ()
        self._called: dict[Nouns, Limits] = {}  # the operator's own: few guilds tighten any, and all ask

    def limits_of(self, rules: Rules, nouns: Nouns = USUAL_NOUNS) -> Limits:
        """The ranges where these rules hold; nouns: of a platform, of which there are few."""
        limits = limits_of(self._settings.limits, rules)
        if limits is not self._settings.limits:
            return replace(limits, nouns=nouns)
        known = self._called.get(nouns)
        if known is None:
            known = self._called[nouns] = replace(limits, nouns=nouns)
        return known

    def models(self) -> tuple[Model, ...]:
        """The models offered now, the default first, each as the first backend that has it says, with the
        schedulers of all of them; the same tuple as long as nothing changes."""
        seen = [lane.capabilities for lane in self._lanes]
        if seen != self._seen:
            found: dict[str, list[tuple[Model, bool]]] = {}
            for capabilities in seen:
                heeds = "scheduler" in capabilities.params
                for model in capabilities.models:
                    found.setdefault(model.id, []).append((model, heeds))
            self._models = tuple(map(_together, found.values()))
        self._seen = seen  # also where they are equal: the same ones are compared at no cost
        return self._models

    def defaults(self, model: str | None, rules: Rules, *, models: Sequence[Model] | None = None) -> Defaults:
        """What a request gets where it does not say; models: those offered, where they are at hand. Raises
        Unavailable where none is."""
        models = self.models() if models is None else models
        if not models:
            raise Unavailable("No backend is ready to make pictures.", retry_after=10.0)
        return defaults_of(models, model, rules, self._settings.limits, self._settings.styles)

    def params(self, model: str | None) -> frozenset[str]:
        """Names of the optional fields that some backend honours for this model (None: the default one)."""
        found = [lane.capabilities.params for lane in self._offering(model)]
        return found[0] if len(found) == 1 else frozenset().union(*found)

    def kinds(self, model: str) -> tuple[str, ...]:
        """The kinds of backend that offer a model ("local", "fal"), without where they are."""
        return tuple(dict.fromkeys(lane.name.partition(":")[0] for lane in self._offering(model)))

    def checks_content(self, model: str | None) -> bool:
        """Whether every backend that may make pictures for a model (None: the default one) looks at them
        itself."""
        lanes = [lane for lane in self._lanes if lane.model(model) is not None]
        return bool(lanes) and all(lane.capabilities.checks_content for lane in lanes)

    def _offering(self, model: str | None) -> Sequence[Lane]:
        """Without those where another model stands in for it: what only they could do is not promised."""
        return [lane for lane in self._lanes if lane.own(model) is not None]


def _together(same: Sequence[tuple[Model, bool]]) -> Model:
    """One model of several backends, each with whether that backend heeds schedulers. One that names none
    takes all."""
    first, heeding = same[0][0], [model for model, heeds in same if heeds]
    if len(same) == 1 or not heeding:
        return first
    if not all(model.schedulers for model in heeding):
        return replace(first, schedulers=(), refused_schedulers={})
    names = dict.fromkeys(name for model in heeding for name in model.schedulers)
    refused = {name: why for model in heeding for name, why in model.refused_schedulers.items()}
    return replace(
        first,
        schedulers=tuple(names),
        refused_schedulers={name: why for name, why in refused.items() if name not in names},
    )
