"""The rules that an operator set: validated against the operator's limits and what is offered now.

Pure; the texts are for a settings form, so they speak of fields and not of flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from bot.core.checks import checked_text
from bot.core.errors import InvalidRequest
from bot.core.guilds import MAX_ROLE_WEIGHT, MIN_ROLE_WEIGHT, Rules, defaults_of, limits_of, merge
from bot.core.names import find_model, find_style
from bot.core.ports import Model
from bot.core.ranges import number
from bot.core.request import USUAL_NOUNS, Limits, Nouns
from bot.core.sizes import check_ratio

MAX_IDS: Final = 100
"""Roles or channels that one setting names at most."""

MAX_ID: Final = 64
"""Characters of a role's or a channel's id."""


def checked(
    rules: Rules,
    guild: Rules | None,
    *,
    limits: Limits,
    models: Sequence[Model],
    styles: Mapping[str, str],
    nouns: Nouns = USUAL_NOUNS,
) -> Rules:
    """The rules with names as they are offered. guild: the guild's own, where `rules` are a channel's; nouns:
    for texts that name the guild.

    Raises InvalidRequest with the field, its range and the way out, for the first thing that is wrong.
    """
    _check_limits(rules, limits)
    whole = rules if guild is None else merge(guild, rules)
    _check_defaults(rules, limits_of(limits, whole))
    _check_ids(rules)
    if guild is not None:
        _check_channel(rules, nouns)
    _check_weights(rules.role_weights)
    negative = checked_text(rules.negative_prompt or "", "negative_prompt", limits)
    named = replace(
        rules,
        model=rules.model and _model(rules.model, models).id,
        style=find_style(rules.style, styles) if rules.style else None,
        negative_prompt=negative or None,
        allowed_roles=tuple(dict.fromkeys(rules.allowed_roles)),
        allowed_channels=tuple(dict.fromkeys(rules.allowed_channels)),
        role_weights=dict(rules.role_weights),
    )
    if models:
        _check_work(named if guild is None else merge(guild, named), limits, models, styles)
    return named


def problems(
    rules: Rules,
    guild: Rules | None,
    *,
    limits: Limits,
    models: Sequence[Model],
    styles: Mapping[str, str],
    nouns: Nouns = USUAL_NOUNS,
) -> dict[str, str]:
    """All that checked() would refuse, by field: each is found with the ones before it left out."""
    found: dict[str, str] = {}
    while True:
        try:
            checked(rules, guild, limits=limits, models=models, styles=styles, nouns=nouns)
            return found
        except InvalidRequest as error:
            name = error.field or ""
            if name in found or name not in rules.said():
                return {name: error.message, **found}
            found[name] = error.message
            rules = replace(rules, **{name: getattr(Rules(), name)})


def _model(name: str, models: Sequence[Model]) -> Model:
    found = find_model(name, models, said=True)
    assert found is not None  # noqa: S101 - an unknown one is an error
    return found


def _check_limits(rules: Rules, limits: Limits) -> None:
    step = limits.side_multiple
    _check("max_steps", "The limit of steps", rules.max_steps, limits.min_steps, limits.max_steps)
    _check("max_count", "The limit of pictures", rules.max_count, 1, limits.max_count)
    _check("max_side", "The limit of sides", rules.max_side, limits.min_side, limits.max_side, step)
    most = limits.waiting_per_user
    _check("waiting_per_user", "The limit of waiting requests", rules.waiting_per_user, 1, most)


def _check_defaults(rules: Rules, limits: Limits) -> None:
    _check("steps", "Default steps", rules.steps, limits.min_steps, limits.max_steps)
    _check("count", "The default count", rules.count, 1, limits.max_count)
    low, high = limits.min_guidance, limits.max_guidance
    _check("guidance_scale", "Default guidance", rules.guidance_scale, low, high)
    if rules.size is not None:
        for side, label in zip(rules.size, ("width", "height"), strict=True):
            low, high, step = limits.min_side, limits.max_side, limits.side_multiple
            _check("size", f"The default {label}", side, low, high, step)
        check_ratio(*rules.size, limits, field="size")


def _check(field: str, label: str, value: float | None, low: float, high: float, multiple: int = 1) -> None:
    """Raise InvalidRequest where a value is said and out of its range."""
    if value is None or (low <= value <= high and (multiple == 1 or value % multiple == 0)):
        return
    kind = f"a multiple of {multiple}" if multiple > 1 else "a number"
    given = number(value) if -1e18 < value < 1e18 else "a number of that size"
    raise InvalidRequest(
        f"{label} must be {kind} from {number(low)} to {number(high)}, not {given}. Correct it, or leave it "
        "empty.",
        field=field,
    )


def _check_work(rules: Rules, limits: Limits, models: Sequence[Model], styles: Mapping[str, str]) -> None:
    """A request that says nothing must be possible."""
    usual = defaults_of(models, None, rules, limits, styles)
    work = usual.width * usual.height * usual.steps * usual.count
    if work > limits.max_work:
        raise InvalidRequest(
            f"By default {usual.width}×{usual.height} pixels × {usual.steps} steps × {usual.count} pictures "
            f"= {work:,}, over the limit of {limits.max_work:,} for one request. Set a smaller size, fewer "
            "steps or fewer pictures.",
            field="size" if rules.size else "steps" if rules.steps else "count",
        )


def _check_ids(rules: Rules) -> None:
    for field, ids, what in (
        ("allowed_roles", rules.allowed_roles, "roles"),
        ("allowed_channels", rules.allowed_channels, "channels"),
        ("role_weights", tuple(rules.role_weights), "roles"),
    ):
        if len(ids) > MAX_IDS:
            raise InvalidRequest(f"At most {MAX_IDS} {what} can be named, not {len(ids)}.", field=field)
        if not all(0 < len(entry) <= MAX_ID for entry in ids):
            raise InvalidRequest(f"The {what} must be named by ids of 1 to {MAX_ID} characters.", field=field)


def _check_channel(rules: Rules, nouns: Nouns) -> None:
    for field, said, what in (
        ("allowed_channels", rules.allowed_channels, "Allowed channels"),
        ("role_weights", rules.role_weights, "Weights of roles"),
    ):
        if said:
            raise InvalidRequest(
                f"{what} are set for the whole {nouns.guild}, not for a channel.", field=field
            )


def _check_weights(weights: Mapping[str, float]) -> None:
    for role, weight in weights.items():
        if not MIN_ROLE_WEIGHT <= weight <= MAX_ROLE_WEIGHT:
            raise InvalidRequest(
                f"The weight of role {role} must be a number from {number(MIN_ROLE_WEIGHT)} to "
                f"{number(MAX_ROLE_WEIGHT)}, not {number(weight)}. 1 is everybody's.",
                field="role_weights",
            )
