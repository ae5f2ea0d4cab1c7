"""What is in force in a workspace or a channel, in words: what was said here stands out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from adapters.slack.blocks import Block, context, escape, section
from bot.core.guilds import Rules, ThreadMode
from bot.core.ranges import number
from bot.core.request import Defaults, Limits
from bot.core.text import clip

SHOWN: Final = 12  # channels or people that are named

_MODES: Final = {
    ThreadMode.THREAD: "in the request's thread",
    ThreadMode.BOTH: "in the request's thread, and in the channel too",
    ThreadMode.CHANNEL: "in the request's thread",  # there is always one here
}
_LIMITS: Final = (
    ("max_steps", "steps"),
    ("max_count", "pictures at once"),
    ("max_side", "pixels a side"),
    ("waiting_per_user", "waiting requests each"),
)
_TOLD: Final = frozenset(
    {
        *(name for name, _ in _LIMITS),
        *("model", "style", "size", "steps", "guidance_scale", "count", "negative_prompt"),
        *("thread_mode", "allowed_channels"),
    }
)
"""Fields of Rules that mean something here: there are no roles and no age-restricted channels."""


def in_force(
    own: Rules,
    rules: Rules,
    defaults: Defaults,
    limits: Limits,
    most: Limits,
    *,
    channel: str,
    managers: Sequence[str],
) -> list[Block]:
    """own: what is said at this level; rules: with what is said above; limits: as they are; most: the
    operator's; channel: its id, "" for the workspace; managers: whom its admins named."""
    lines = [
        f"*Settings of <#{channel}>*" if channel else "*Settings of this workspace*",
        f"Defaults: {_defaults(own, defaults)}",
        f"Limits: {_limits(own, limits, most)}",
        f"Pictures: {_mark(_MODES[rules.thread_mode or ThreadMode.THREAD], own.thread_mode)}",
        f"Used: {_where(own, rules)}",
        *([] if channel else [f"Changed by: {_who(managers)}"]),
    ]
    hint = "Bold is set here; the rest is as usual." if says(own) else "Nothing is set here yet."
    return [section("\n".join(lines)), *context(hint)]


def says(own: Rules) -> bool:
    """Whether anything is set that means something here."""
    return not _TOLD.isdisjoint(own.said())


def _defaults(own: Rules, defaults: Defaults) -> str:
    pictures = "1 picture" if defaults.count == 1 else f"{defaults.count} pictures"
    style = f"style {escape(clip(defaults.style, 60))}" if defaults.style else ""
    negative = escape(clip(defaults.negative_prompt, 80))
    return _dotted(
        (
            _mark(f"{defaults.width}×{defaults.height}", own.size),
            _mark(f"{defaults.steps} steps", own.steps),
            _mark(f"guidance {number(defaults.guidance_scale)}", own.guidance_scale),
            _mark(pictures, own.count),
            _mark(escape(clip(defaults.model or "", 60)), own.model),
            _mark(style, own.style),
            _mark(f"without {negative}", own.negative_prompt) if negative else "",
        )
    )


def _limits(own: Rules, limits: Limits, most: Limits) -> str:
    return _dotted(_limit(name, what, own, limits, most) for name, what in _LIMITS)


def _limit(name: str, what: str, own: Rules, limits: Limits, most: Limits) -> str:
    now, highest = getattr(limits, name), getattr(most, name)
    tighter = f" of {highest:,}" if now != highest else ""
    return _mark(f"{now:,}{tighter} {what}", getattr(own, name))


def _where(own: Rules, rules: Rules) -> str:
    if not rules.allowed_channels:
        return "in every channel that Fairbrush is invited to"
    named = " ".join(f"<#{each}>" for each in rules.allowed_channels[:SHOWN])
    return _mark(f"in {named}{_more(len(rules.allowed_channels))} alone", own.allowed_channels or None)


def _who(managers: Sequence[str]) -> str:
    named = " ".join(f"<@{each}>" for each in managers[:SHOWN])
    return f"admins and owners, {named}{_more(len(managers))}" if named else "admins and owners"


def _more(count: int) -> str:
    return f" and {count - SHOWN} more" if count > SHOWN else ""


def _mark(text: str, said: object) -> str:
    return f"*{text}*" if said is not None and text else text


def _dotted(parts: Iterable[str]) -> str:
    return " · ".join(filter(None, parts))
