"""What is in force in a server or a channel, in words: what was said here stands out."""

from __future__ import annotations

from collections.abc import Iterable

from adapters.discord.wording import clipped, escape, lines, small
from bot.core.guilds import NsfwPolicy, Rules, ThreadMode
from bot.core.ranges import number
from bot.core.request import Defaults, Limits

LONGEST = 3000  # characters, of the 4,000 that a message may have
SHOWN = 12  # roles or channels that are named

_MODES = {
    ThreadMode.THREAD: "updates and pictures in a thread",
    ThreadMode.BOTH: "updates in a thread, pictures in the channel",
    ThreadMode.CHANNEL: "all in the channel",
}
_POLICIES = {
    NsfwPolicy.WITHHOLD: "flagged pictures withheld",
    NsfwPolicy.SPOILER: "flagged pictures behind a spoiler in age-restricted channels, else withheld",
}


def in_force(
    own: Rules,
    rules: Rules,
    defaults: Defaults,
    limits: Limits,
    most: Limits,
    *,
    channel: str,
    said: str = "",
) -> str:
    """own: what is said at this level; rules: with what is said above; limits: as they are; most: the
    operator's; channel: its id, "" for the server; said: a line above."""
    where = f"<#{channel}>" if channel else "this server"
    text = lines(
        said,
        f"**Settings of {where}**",
        f"Defaults: {_defaults(own, defaults)}",
        f"Limits: {_limits(own, limits, most)}",
        f"Shown: {_modes(own, rules)}",
        f"Who: {roles_allowed(rules)}",
        *([] if channel else [f"Where: {channels_allowed(rules)}"]),
        *([f"Weights: {_weights(rules)}"] if rules.role_weights and not channel else []),
        small("**Bold** is set here; the rest is as usual." if own.said() else "Nothing is set here yet."),
    )
    return clipped(text, LONGEST)


def allowed(rules: Rules, defaults: Defaults, limits: Limits) -> str:
    """What a member may ask for here, for /help."""
    nothing = Rules()
    return lines(
        f"Here: {_defaults(nothing, defaults)}",
        f"At most {_limits(nothing, limits, limits)}",
        f"Who: {roles_allowed(rules)}" if rules.allowed_roles else "",
        f"Where: {channels_allowed(rules)}" if rules.allowed_channels else "",
    )


def _defaults(own: Rules, defaults: Defaults) -> str:
    pictures = "1 picture" if defaults.count == 1 else f"{defaults.count} pictures"
    parts = [
        _mark(f"{defaults.width}×{defaults.height}", own.size),
        _mark(f"{defaults.steps} steps", own.steps),
        _mark(f"guidance {number(defaults.guidance_scale)}", own.guidance_scale),
        _mark(pictures, own.count),
        _mark(escape(defaults.model or ""), own.model),
        _mark(f"style {escape(defaults.style)}" if defaults.style else "", own.style),
        _mark(f"no {escape(clipped(defaults.negative_prompt, 80))}", own.negative_prompt)
        if defaults.negative_prompt
        else "",
    ]
    return _dotted(parts)


def _limits(own: Rules, limits: Limits, most: Limits) -> str:
    found = (
        ("max_steps", "steps"),
        ("max_count", "pictures"),
        ("max_side", "pixels a side"),
        ("waiting_per_user", "waiting"),
    )
    return _dotted(_limit(name, what, own, limits, most) for name, what in found)


def _limit(name: str, what: str, own: Rules, limits: Limits, most: Limits) -> str:
    now, highest = getattr(limits, name), getattr(most, name)
    tighter = f" of {highest:,}" if now != highest else ""
    return _mark(f"{now:,}{tighter} {what}", getattr(own, name))


def _modes(own: Rules, rules: Rules) -> str:
    mode, policy = rules.thread_mode or ThreadMode.THREAD, rules.nsfw or NsfwPolicy.WITHHOLD
    return _dotted([_mark(_MODES[mode], own.thread_mode), _mark(_POLICIES[policy], own.nsfw)])


def roles_allowed(rules: Rules) -> str:
    """The roles that may ask."""
    return _named(rules.allowed_roles, "<@&{}>") or "everybody"


def channels_allowed(rules: Rules) -> str:
    """The channels in which they may."""
    return _named(rules.allowed_channels, "<#{}>") or "everywhere"


def _weights(rules: Rules) -> str:
    named = [f"<@&{role}> {number(weight)}×" for role, weight in list(rules.role_weights.items())[:SHOWN]]
    return _dotted([*named, *_more(len(rules.role_weights))])


def _named(ids: tuple[str, ...], form: str) -> str:
    named = [form.format(each) for each in ids[:SHOWN]]
    return " ".join([*named, *_more(len(ids))])


def _more(count: int) -> list[str]:
    return [f"and {count - SHOWN} more"] if count > SHOWN else []


def _mark(text: str, said: object) -> str:
    return f"**{text}**" if said is not None and text else text


def _dotted(parts: Iterable[str]) -> str:
    return " · ".join(filter(None, parts))
