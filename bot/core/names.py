"""Names that people type for models, schedulers and styles, looked up; with the nearest where there is none.

It knows what is offered from its arguments alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bot.core.errors import InvalidRequest
from bot.core.ports import Model
from bot.core.schedulers import SCHEDULERS, find_scheduler
from bot.core.text import clip

NAMES_SHOWN: Final = 12
"""Names that a refusal lists at most."""


def find_model(name: str | None, models: Sequence[Model], *, said: bool) -> Model | None:
    """The model with this id, or else title, in any case; None where none was asked for.

    said: somebody typed it, so an unknown one is an error; a default that is not offered just now is not.
    """
    if name is None:
        return None
    for model in models:  # as programs and defaults say it; there may be hundreds
        if model.id == name:
            return model
    folded = name.strip().casefold()
    by_id = {model.id.casefold(): model for model in models}
    by_title = {model.title.casefold(): model for model in reversed(models)}
    if found := by_id.get(folded, by_title.get(folded)):
        return found
    if not said:
        return None
    raise unknown("model", name, [model.id for model in models])


def find_style(name: str, styles: Mapping[str, str]) -> str:
    """The style's own name. Raises InvalidRequest where there is none."""
    folded = name.strip().casefold()
    for style in styles:
        if style.casefold() == folded:
            return style
    raise unknown("style", name, styles)


def pick_scheduler(name: str | None, model: Model | None, *, default: str | None) -> str | None:
    """The scheduler as the model calls it; `default` where none was asked for.

    Where the model lists none, every known scheduler will do. Raises InvalidRequest where the model refuses
    it (with its reason), or does not offer it.
    """
    if name is None:
        return default
    offered = model.schedulers if model and model.schedulers else tuple(SCHEDULERS)
    found = _same(name, offered)
    refused = model.refused_schedulers if model else {}
    refused_name = _same(name, refused)
    if refused_name is not None:
        reason = refused[refused_name].rstrip(".")
        others = _listed(entry for entry in offered if entry not in refused)
        raise InvalidRequest(
            f"{refused_name} does not work with this model: {reason}. "
            f"Leave --scheduler out, or take one of: {others}.",
            field="scheduler",
        )
    if found is None:
        raise unknown("scheduler", name, offered)
    return found


def _same(name: str, offered: Iterable[str]) -> str | None:
    """The offered name that is the same scheduler as `name`."""
    folded, canonical = name.strip().casefold(), find_scheduler(name)
    by_case = {entry.casefold(): entry for entry in offered}
    if folded in by_case:
        return by_case[folded]
    same = (entry for entry in by_case.values() if canonical and find_scheduler(entry) == canonical)
    return next(same, None)


def unknown(field: str, name: str, offered: Iterable[str]) -> InvalidRequest:
    """The refusal of a name: the nearest of the offered ones, and a list of them."""
    names = list(offered)
    shown = f'There is no {field} "{clip(name, 60)}" here.'
    if not names:
        return InvalidRequest(f"{shown} None is offered; leave --{field} out.", field=field)
    by_case = {entry.casefold(): entry for entry in names}
    near = difflib.get_close_matches(name.casefold()[:100], by_case, 1, 0.5)
    guess = f" Did you mean {by_case[near[0]]}?" if near else ""
    return InvalidRequest(f"{shown}{guess} Offered: {_listed(names)}.", field=field)


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = len(found) - NAMES_SHOWN
    return ", ".join(found[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
