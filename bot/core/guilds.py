"""What a guild, or one of its channels, says for itself: defaults of a request, tighter limits, who may ask
where, and how results are shown.

Plain values and pure functions. It knows no platform and no store; ids of roles and channels are the
platform's own words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Final, TypeVar

from bot.core.errors import Forbidden, InvalidRequest
from bot.core.names import find_model
from bot.core.ports import Model
from bot.core.request import JSON, USUAL_NOUNS, Defaults, Limits, Nouns, Requester
from bot.core.sizes import nearest_size

MIN_ROLE_WEIGHT: Final = 0.1
MAX_ROLE_WEIGHT: Final = 10.0

TIGHTER: Final = ("max_steps", "max_count", "max_side", "waiting_per_user")
"""Limits that a guild may tighten: fields of Rules and of Limits."""


class ThreadMode(StrEnum):
    """Where pictures are shown: in the request's thread, also in the channel, or in the channel alone."""

    THREAD = "thread"
    BOTH = "both"
    CHANNEL = "channel"


class NsfwPolicy(StrEnum):
    """What becomes of a picture that a content check flags. SPOILER holds in age-restricted channels alone;
    elsewhere such a picture is withheld all the same."""

    WITHHOLD = "withhold"
    SPOILER = "spoiler"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a guild or a channel says; None and empty are "not said".

    model, style, size (pixels), steps, guidance_scale, negative_prompt, count: of requests that do not say;
    size, steps and guidance hold for the guild's own model, others keep their best. max_steps, max_count,
    max_side, waiting_per_user: count where they are tighter than the operator's. allowed_roles,
    allowed_channels: ids; empty: everybody, everywhere. role_weights: role id -> share of its members within
    the guild, 0.1 to 10. A channel says neither allowed_channels nor role_weights.
    """

    model: str | None = None
    style: str | None = None
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    count: int | None = None
    max_steps: int | None = None
    max_count: int | None = None
    max_side: int | None = None
    waiting_per_user: int | None = None
    thread_mode: ThreadMode | None = None
    nsfw: NsfwPolicy | None = None
    allowed_roles: tuple[str, ...] = ()
    allowed_channels: tuple[str, ...] = ()
    role_weights: Mapping[str, float] = field(default_factory=dict)

    def said(self) -> dict[str, object]:
        """The fields that were said."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in found.items() if value not in (None, "", (), {})}


def merge(guild: Rules, channel: Rules) -> Rules:
    """The guild's rules with everything that the channel says put over them."""
    return replace(guild, **channel.said())  # type: ignore[arg-type]  # fields of Rules, with their values


# --- JSON -------------------------------------------------------------------------------------------------


def rules_to_json(rules: Rules) -> dict[str, JSON]:
    """The said fields alone."""
    found: dict[str, JSON] = {}
    for name, value in rules.said().items():
        if isinstance(value, tuple):
            found[name] = list(value)
        elif isinstance(value, Mapping):
            found[name] = dict(value)
        else:
            found[name] = str(value) if isinstance(value, StrEnum) else value  # type: ignore[assignment]
    return found


def rules_from_json(data: JSON) -> Rules:
    """The inverse. Unknown keys and modes, which a newer program may have written, are "not said".

    Raises InvalidRequest (with the field) where a value has the wrong type; ranges are not checked.
    """
    if not isinstance(data, Mapping):
        raise InvalidRequest("rules must be an object of settings; correct them or leave them out.")
    return Rules(
        model=_typed(data, "model", str),
        style=_typed(data, "style", str),
        size=_size(data),
        steps=_typed(data, "steps", int),
        guidance_scale=_real(data, "guidance_scale"),
        negative_prompt=_typed(data, "negative_prompt", str),
        count=_typed(data, "count", int),
        max_steps=_typed(data, "max_steps", int),
        max_count=_typed(data, "max_count", int),
        max_side=_typed(data, "max_side", int),
        waiting_per_user=_typed(data, "waiting_per_user", int),
        thread_mode=_mode(ThreadMode, data, "thread_mode"),
        nsfw=_mode(NsfwPolicy, data, "nsfw"),
        allowed_roles=_ids(data, "allowed_roles"),
        allowed_channels=_ids(data, "allowed_channels"),
        role_weights=_weights(data),
    )


T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def _wrong(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name} has a value of the wrong kind; correct it or leave it out.", field=name)


def _typed(data: Mapping[str, JSON], name: str, kind: type[T]) -> T | None:
    value = data.get(name)
    if value is None or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    raise _wrong(name)


def _real(data: Mapping[str, JSON], name: str) -> float | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(name)
    return float(value)


def _size(data: Mapping[str, JSON]) -> tuple[int, int] | None:
    value = data.get("size")
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        width, height = value
        if type(width) is int and type(height) is int:
            return width, height
    raise _wrong("size")


def _mode(kind: type[E], data: Mapping[str, JSON], name: str) -> E | None:
    value = _typed(data, name, str)
    return kind(value) if value in list(kind) else None


def _ids(data: Mapping[str, JSON], name: str) -> tuple[str, ...]:
    value = data.get(name)
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _wrong(name)
    ids = tuple(entry for entry in value if isinstance(entry, str))
    if len(ids) != len(value):
        raise _wrong(name)
    return ids


def _weights(data: Mapping[str, JSON]) -> Mapping[str, float]:
    value = data.get("role_weights")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong("role_weights")
    found = {role: _real(value, role) for role in value}
    return {role: weight for role, weight in found.items() if weight is not None}


# --- what they mean for a request -------------------------------------------------------------------------


def admit(by: Requester, channel: str, rules: Rules) -> None:
    """Raise Forbidden (field "role" or "channel") where `by` may not ask there."""
    if rules.allowed_channels and channel not in rules.allowed_channels:
        raise Forbidden("Pictures are not made in this channel. Ask in one that allows it.", field="channel")
    if rules.allowed_roles and not set(by.roles) & set(rules.allowed_roles):
        raise Forbidden("Your roles here do not allow this. Ask an admin for one that does.", field="role")


def role_weight(roles: Sequence[str], rules: Rules) -> float:
    """A member's share within the guild: the highest of their roles'; 1 where none has any."""
    return max((rules.role_weights[role] for role in roles if role in rules.role_weights), default=1.0)


def limits_of(limits: Limits, rules: Rules, nouns: Nouns = USUAL_NOUNS) -> Limits:
    """The operator's limits with those that the rules tighten; nouns: for texts that name the guild."""
    tighter = {
        name: value for name in TIGHTER if (value := getattr(rules, name)) and value < getattr(limits, name)
    }
    if not tighter and not limits.tightened and nouns == limits.nouns:
        return limits
    return replace(limits, tightened=frozenset(tighter), nouns=nouns, **tighter)


def shows_flagged(rules: Rules, *, age_restricted: bool) -> bool:
    """Whether a picture that a content check flags is shown behind a spoiler."""
    return age_restricted and rules.nsfw is NsfwPolicy.SPOILER


def defaults_of(
    models: Sequence[Model], wanted: str | None, rules: Rules, limits: Limits, styles: Mapping[str, str]
) -> Defaults:
    """What a request for the model `wanted` gets where it does not say: the model's own best, then the
    rules', within the limits. models: at least one; an unknown or no wish gets the default one."""
    usual = _offered(models, rules.model) or models[0]
    model = _offered(models, wanted) or usual
    said = rules if model is usual and rules.model in (None, usual.id) else Rules()
    limits = limits_of(limits, rules)
    width, height = _within(said.size or (model.width, model.height), limits)
    return Defaults(
        width,
        height,
        min(said.steps or model.steps, limits.max_steps),
        min(max(_or(said.guidance_scale, model.guidance_scale), limits.min_guidance), limits.max_guidance),
        scheduler=model.scheduler,
        model=model.id,
        styles=styles,
        count=min(rules.count or 1, limits.max_count),
        negative_prompt=rules.negative_prompt or "",
        style=rules.style if rules.style in styles else None,
    )


def _offered(models: Sequence[Model], name: str | None) -> Model | None:
    return find_model(name, models, said=False)


def _or(said: float | None, otherwise: float) -> float:
    return otherwise if said is None else said


def _within(size: tuple[int, int], limits: Limits) -> tuple[int, int]:
    width, height = size
    if max(size) <= limits.max_side:
        return size
    return nearest_size(width / height, limits.max_side**2, limits)
