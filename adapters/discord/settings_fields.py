"""The forms of /settings (defaults, limits, weights), and what they came back with.

Pure: rules in, fields out, and back. What the values may be is for the core to say; here only what is no
number or no size at all is refused, every such field with its own line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import discord
from discord import ui

from bot.core.errors import InvalidRequest
from bot.core.grammar import format_options, parse
from bot.core.guilds import MAX_ROLE_WEIGHT, MIN_ROLE_WEIGHT, Rules
from bot.core.options import Options
from bot.core.ranges import number
from bot.core.request import Defaults, Limits
from bot.core.text import clip

T = TypeVar("T")

_SIZE: Final = re.compile(r"(\d{1,9})[xX×*](\d{1,9})")
_WHOLE: Final = re.compile(r"\d{1,9}")
_REAL: Final = re.compile(r"\d{1,9}(?:[.,]\d{1,9})?")

LIMITS: Final = {
    "max_steps": "Most steps",
    "max_count": "Most pictures at once",
    "max_side": "Longest side in pixels",
    "waiting_per_user": "Waiting requests of each member",
}
"""Fields of Rules that tighten a limit, and what the form calls them."""


# --- opening ----------------------------------------------------------------------------------------------


def defaults_form(custom_id: str, own: Rules, usual: Defaults, limits: Limits) -> ui.Modal:
    """What a request gets where it does not say. usual: what counts where nothing is said here."""
    size = f"{own.size[0]}x{own.size[1]}" if own.size else ""
    numbers = _numbers_text(own)
    return _modal(
        "Defaults",
        custom_id,
        _text("model", "Model", own.model, f"Empty: {usual.model or 'the first one offered'}"),
        _text("style", "Style", own.style, f"Empty: none. Offered: {', '.join(sorted(usual.styles))}"),
        _text("size", "Size", size, f"Empty: {usual.width}x{usual.height}"),
        _text(
            "numbers", "Steps, guidance, pictures", numbers, "As flags: --steps 30 --guidance 7.5 --count 2"
        ),
        _text("negative", "Negative prompt", own.negative_prompt, "Empty: none", most=limits.max_prompt),
    )


def limits_form(custom_id: str, own: Rules, limits: Limits) -> ui.Modal:
    """Limits that are tighter than the operator's. limits: the operator's."""
    fields = [
        _text(name, label, _shown(getattr(own, name)), f"Empty: {getattr(limits, name)}, which is the most")
        for name, label in LIMITS.items()
    ]
    return _modal("Limits", custom_id, *fields)


def role_form(custom_id: str) -> ui.Modal:
    """The share of a role's members within the server."""
    roles: ui.RoleSelect[Any] = ui.RoleSelect(custom_id="roles", min_values=1, max_values=10, required=True)
    hint = f"{number(MIN_ROLE_WEIGHT)} to {number(MAX_ROLE_WEIGHT)}; 1 is everybody's. Empty: take it away"
    return _modal(
        "Weight of roles",
        custom_id,
        ui.Label(text="Roles", component=roles),
        _text("weight", "Weight", "", hint),
    )


def weight_form(custom_id: str, weight: float) -> ui.Modal:
    """The share of the server among servers."""
    return _modal("Weight of this server", custom_id, _text("weight", "Weight", number(weight), "0.1 to 100"))


def _modal(title: str, custom_id: str, *fields: ui.Label[Any]) -> ui.Modal:
    modal = ui.Modal(title=title, custom_id=custom_id, timeout=None)
    for field in fields:
        modal.add_item(field)
    modal.stop()  # what comes back is read from its data, also after a restart
    return modal


def _text(name: str, label: str, value: str | None, hint: str, *, most: int = 100) -> ui.Label[Any]:
    most = min(most, 4000)
    style = discord.TextStyle.paragraph if most > 100 else discord.TextStyle.short
    field: ui.TextInput[Any] = ui.TextInput(
        custom_id=name, style=style, default=(value or "")[:most] or None, required=False, max_length=most
    )
    return ui.Label(text=label, description=clip(hint, 100), component=field)


def _numbers_text(own: Rules) -> str:
    said = Options(steps=own.steps, guidance_scale=own.guidance_scale, count=own.count)
    return format_options(said)


def _shown(value: float | None) -> str:
    return "" if value is None else number(value)


# --- coming back ------------------------------------------------------------------------------------------


def defaults_in(values: Mapping[str, str], own: Rules, limits: Limits) -> Rules:
    """The rules with the defaults of a form. Raises InvalidRequest with a line for each field."""
    problems: list[InvalidRequest] = []
    size = _tried(partial(_size, values.get("size", "")), problems)
    said = _tried(partial(_numbers, values.get("numbers", ""), limits), problems) or Options()
    _raise(problems)
    return replace(
        own,
        model=values.get("model", "").strip() or None,
        style=values.get("style", "").strip() or None,
        size=size,
        steps=said.steps,
        guidance_scale=said.guidance_scale,
        count=said.count,
        negative_prompt=values.get("negative", "").strip() or None,
    )


def limits_in(values: Mapping[str, str], own: Rules) -> Rules:
    """The rules with the limits of a form. Raises InvalidRequest with a line for each field."""
    problems: list[InvalidRequest] = []
    steps, count, side, waiting = (
        _tried(partial(_whole, label, values.get(name, "")), problems) for name, label in LIMITS.items()
    )
    _raise(problems)
    return replace(own, max_steps=steps, max_count=count, max_side=side, waiting_per_user=waiting)


def roles_in(values: Mapping[str, str], roles: Sequence[str], own: Rules) -> Rules:
    """The rules with a weight for these roles, or without. Raises InvalidRequest."""
    weight = _real("The weight", values.get("weight", ""))
    kept = {role: each for role, each in own.role_weights.items() if role not in roles}
    return replace(own, role_weights=kept if weight is None else kept | dict.fromkeys(roles, weight))


def weight_in(values: Mapping[str, str]) -> float:
    """The server's weight. Raises InvalidRequest."""
    weight = _real("The weight", values.get("weight", ""))
    return 1.0 if weight is None else weight


def _size(text: str) -> tuple[int, int] | None:
    said = "".join(text.split())
    if not said:
        return None
    found = _SIZE.fullmatch(said)
    if found is None:
        raise _wrong("Size", "WIDTHxHEIGHT, such as 768x512", said)
    return int(found[1]), int(found[2])


def _numbers(text: str, limits: Limits) -> Options:
    """Steps, guidance and count as flags, and nothing else."""
    said = parse(text, limits=limits)
    if beyond := said.said() - {"steps", "guidance_scale", "count"}:
        shown = clip(said.prompt, 40) or min(beyond)
        raise InvalidRequest(
            f'Steps, guidance, pictures: "{shown}" does not belong there. Write --steps, --guidance, --count.'
        )
    return said


def _whole(label: str, text: str) -> int | None:
    if not (said := text.strip()):
        return None
    if not _WHOLE.fullmatch(said):
        raise _wrong(label, "a whole number", said)
    return int(said)


def _real(label: str, text: str) -> float | None:
    if not (said := text.strip()):
        return None
    if not _REAL.fullmatch(said):
        raise _wrong(label, "a number, such as 1.5", said)
    return float(said.replace(",", "."))


def _wrong(label: str, wanted: str, given: str) -> InvalidRequest:
    return InvalidRequest(
        f'{label} must be {wanted}, not "{clip(given, 40)}". Correct it, or leave it empty.'
    )


def _tried(read: Callable[[], T], problems: list[InvalidRequest]) -> T | None:
    try:
        return read()
    except InvalidRequest as problem:
        problems.append(problem)
        return None


def _raise(problems: Sequence[InvalidRequest]) -> None:
    if problems:
        raise InvalidRequest("\n".join(problem.message for problem in problems))
