"""/settings: what is in force in this server or one of its channels, and controls to change it.

Discord offers the command to those who may manage the server; here that is checked again, at every single
press, and the core checks it once more. A control's id says which level it changes: `server`, or a channel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import discord
from discord import ui

from adapters.discord import flow, render, settings_fields
from adapters.discord.answers import in_time, show_instead
from adapters.discord.controls import Used, control_id
from adapters.discord.modals import read_form
from adapters.discord.settings_text import in_force
from bot.core.errors import Forbidden, InvalidRequest
from bot.core.guilds import NsfwPolicy, Rules, ThreadMode
from bot.core.request import Requester

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

log = logging.getLogger(__name__)

E = TypeVar("E", ThreadMode, NsfwPolicy)

SERVER: Final = "server"
NOT_SAID: Final = "-"
CHANNELS: Final = (
    discord.ChannelType.text,
    discord.ChannelType.news,
    discord.ChannelType.voice,
    discord.ChannelType.stage_voice,
    discord.ChannelType.forum,
)
"""Channels that can have rules of their own; a thread has its parent's."""

MODES: Final = {
    ThreadMode.THREAD: "Updates and pictures in a thread",
    ThreadMode.BOTH: "Updates in a thread, pictures in the channel",
    ThreadMode.CHANNEL: "All in the channel, no thread",
}
POLICIES: Final = {
    NsfwPolicy.WITHHOLD: "Flagged pictures are withheld",
    NsfwPolicy.SPOILER: "Behind a spoiler in age-restricted channels",
}


@dataclass(frozen=True, slots=True)
class Level:
    """Whose rules are looked at. channel: "" for the server's own; admin: Discord says they may manage it."""

    by: Requester
    channel: str
    admin: bool

    @property
    def key(self) -> str:
        """What a control's id says of it."""
        return self.channel or SERVER


def level_of(adapter: Discord, interaction: Interaction, key: str) -> Level:
    """The level that a control speaks of. Raises Forbidden for those who may not change it."""
    by, admin = flow.requester_of(interaction), flow.is_admin(interaction)
    if not flow.in_guild(interaction):
        raise Forbidden("Settings belong to a server. Add the bot to one, and use /settings there.")
    if not admin and not adapter.studio.is_operator(by):
        log.warning("member %s was refused the settings of %s", by.member, by.tenant)
        raise Forbidden("Only those who manage this server can see and change its settings.")
    return Level(by, key if key.isdecimal() else "", admin)


# --- the panel --------------------------------------------------------------------------------------------


async def settings(adapter: Discord, interaction: Interaction, channel: Any = None) -> None:
    """/settings, for the server or for one channel."""
    parent = getattr(channel, "parent_id", None)
    level = level_of(adapter, interaction, str(parent or channel.id) if channel else SERVER)
    await flow.tell(interaction, await in_time(interaction, panel(adapter, interaction, level)))


async def panel(
    adapter: Discord, interaction: Interaction, level: Level, *, said: str = "", sure: bool = False
) -> ui.LayoutView:
    """What is in force and the controls. said: a line above; sure: the next press of Reset is meant."""
    studio, tenant = adapter.studio, level.by.tenant
    own = await studio.own_rules(tenant, level.channel)
    rules = await studio.rules(tenant, level.channel)
    defaults, limits = studio.defaults(rules=rules), studio.limits_of(rules)
    text = in_force(own, rules, defaults, limits, studio.limits, channel=level.channel, said=said)
    items: list[ui.Item[ui.LayoutView]] = [
        render.text(text),
        _modes(level, own),
        _policies(level, own),
        render.text("Who may ask"),
        _roles(level, own, interaction.guild),
    ]
    if not level.channel:
        items += [render.text("Where they may ask"), _channels(level, own, interaction.guild)]
    operator = studio.is_operator(level.by) and not level.channel
    return render.sealed(*items, *render.rows(_buttons(level, own, sure=sure, operator=operator)))


def _modes(level: Level, own: Rules) -> ui.ActionRow[Any]:
    options = [_choice(label, mode, own.thread_mode) for mode, label in MODES.items()]
    return _select("mode", level, [*options, _unsaid(level, own.thread_mode, MODES[ThreadMode.THREAD])])


def _policies(level: Level, own: Rules) -> ui.ActionRow[Any]:
    options = [_choice(label, policy, own.nsfw) for policy, label in POLICIES.items()]
    return _select("nsfw", level, [*options, _unsaid(level, own.nsfw, POLICIES[NsfwPolicy.WITHHOLD])])


def _choice(label: str, value: str, now: str | None) -> discord.SelectOption:
    return discord.SelectOption(label=label, value=value, default=value == now)


def _unsaid(level: Level, now: str | None, usual: str) -> discord.SelectOption:
    label = "As the server says" if level.channel else f"As usual: {usual[0].lower()}{usual[1:]}"
    return discord.SelectOption(label=label, value=NOT_SAID, default=now is None)


def _select(name: str, level: Level, options: list[discord.SelectOption]) -> ui.ActionRow[Any]:
    select: ui.Select[Any] = ui.Select(custom_id=control_id(name, level.key), options=options)
    return ui.ActionRow(select)


def _roles(level: Level, own: Rules, guild: discord.Guild | None) -> ui.ActionRow[Any]:
    known = guild.get_role if guild is not None else None
    select: ui.RoleSelect[Any] = ui.RoleSelect(
        custom_id=control_id("roles", level.key),
        placeholder="As the server says" if level.channel else "Everybody",
        min_values=0,
        max_values=25,
        default_values=_defaults(own.allowed_roles, known, discord.SelectDefaultValueType.role),
    )
    return ui.ActionRow(select)


def _channels(level: Level, own: Rules, guild: discord.Guild | None) -> ui.ActionRow[Any]:
    known = guild.get_channel if guild is not None else None
    select: ui.ChannelSelect[Any] = ui.ChannelSelect(
        custom_id=control_id("channels", level.key),
        placeholder="Everywhere",
        channel_types=list(CHANNELS),
        min_values=0,
        max_values=25,
        default_values=_defaults(own.allowed_channels, known, discord.SelectDefaultValueType.channel),
    )
    return ui.ActionRow(select)


def _defaults(
    ids: Sequence[str], known: Callable[[int], object] | None, kind: discord.SelectDefaultValueType
) -> list[discord.SelectDefaultValue]:
    """What a list begins with; what was deleted since is not there any more."""
    there = [each for each in ids if each.isdecimal() and (known is None or known(int(each)) is not None)]
    # The library would send numbers as they are; Discord describes ids as text.
    return [discord.SelectDefaultValue(id=cast(int, each), type=kind) for each in there[:25]]


def _buttons(level: Level, own: Rules, *, sure: bool, operator: bool) -> list[ui.Button[Any]]:
    found = [_button("defaults", level, "Defaults…"), _button("limits", level, "Limits…")]
    if not level.channel:
        found.append(_button("weights", level, "Weight of roles…"))
    if operator:
        found.append(_button("weight", level, "Weight of this server…"))
    if own.said():
        name, label = ("reset", "Really forget all of these?") if sure else ("ask_reset", "Reset")
        found.append(_button(name, level, label, discord.ButtonStyle.danger))
    return found


def _button(
    name: str, level: Level, label: str, style: discord.ButtonStyle = discord.ButtonStyle.secondary
) -> ui.Button[Any]:
    return ui.Button(style=style, label=label, custom_id=control_id(name, level.key))


# --- presses ----------------------------------------------------------------------------------------------

Change = Callable[[Rules, Sequence[str]], Rules]


def _changes(change: Change) -> Callable[[Discord, Interaction, Used], Any]:
    """A list or a button that changes the rules at its level; the panel then shows what is in force."""

    async def handle(adapter: Discord, interaction: Interaction, used: Used) -> None:
        level = level_of(adapter, interaction, used.rest)
        own = await adapter.studio.own_rules(level.by.tenant, level.channel)
        await _set(adapter, interaction, level, change(own, used.values))

    return handle


async def _set(adapter: Discord, interaction: Interaction, level: Level, rules: Rules) -> None:
    """Let these rules hold, and show it. Raises Forbidden or InvalidRequest."""
    if problems := await adapter.studio.rule_problems(level.by, rules, channel=level.channel):
        raise InvalidRequest("\n".join(problems.values()))
    await adapter.studio.set_rules(level.by, rules, channel=level.channel, admin=level.admin)
    log.info("%s: rules of %s set by %s", level.by.tenant, level.key, level.by.member)
    await show_instead(interaction, await panel(adapter, interaction, level, said="Saved."))


def _mode(own: Rules, values: Sequence[str]) -> Rules:
    return replace(own, thread_mode=_named(ThreadMode, values))


def _nsfw(own: Rules, values: Sequence[str]) -> Rules:
    return replace(own, nsfw=_named(NsfwPolicy, values))


def _named(kind: type[E], values: Sequence[str]) -> E | None:
    chosen = values[0] if values else NOT_SAID
    if chosen == NOT_SAID:
        return None
    if chosen not in list(kind):
        raise InvalidRequest(f"That choice is not offered any more. Choose one of {', '.join(kind)}.")
    return kind(chosen)


async def _ask_reset(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level = level_of(adapter, interaction, used.rest)
    await show_instead(interaction, await panel(adapter, interaction, level, sure=True))


# --- forms ------------------------------------------------------------------------------------------------


async def _open_defaults(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level, studio = level_of(adapter, interaction, used.rest), adapter.studio
    own = await studio.own_rules(level.by.tenant, level.channel)
    below = await studio.rules(level.by.tenant) if level.channel else Rules()
    usual = studio.defaults(rules=below)
    modal = settings_fields.defaults_form(
        control_id("defaults", level.key), own, usual, studio.limits_of(below)
    )
    await interaction.response.send_modal(modal)


async def _open_limits(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level = level_of(adapter, interaction, used.rest)
    own = await adapter.studio.own_rules(level.by.tenant, level.channel)
    modal = settings_fields.limits_form(control_id("limits", level.key), own, adapter.studio.limits)
    await interaction.response.send_modal(modal)


async def _open_weights(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level = level_of(adapter, interaction, used.rest)
    await interaction.response.send_modal(settings_fields.role_form(control_id("weights", level.key)))


async def _open_weight(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level = level_of(adapter, interaction, used.rest)
    if not adapter.studio.is_operator(level.by):
        raise Forbidden("Only an operator of this bot can change the weight of a server.")
    weight = adapter.studio.weight(level.by.tenant)
    modal = settings_fields.weight_form(control_id("weight", level.key), weight)
    await interaction.response.send_modal(modal)


async def _defaults_set(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level = level_of(adapter, interaction, used.rest)
    own = await adapter.studio.own_rules(level.by.tenant, level.channel)
    rules = settings_fields.defaults_in(_values(used), own, adapter.studio.limits)
    await _set(adapter, interaction, level, rules)


async def _limits_set(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level = level_of(adapter, interaction, used.rest)
    own = await adapter.studio.own_rules(level.by.tenant, level.channel)
    await _set(adapter, interaction, level, settings_fields.limits_in(_values(used), own))


async def _weights_set(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level = level_of(adapter, interaction, used.rest)
    own = await adapter.studio.own_rules(level.by.tenant)
    roles = read_form(used.data or {}).chosen
    await _set(adapter, interaction, level, settings_fields.roles_in(_values(used), roles, own))


async def _weight_set(adapter: Discord, interaction: Interaction, used: Used) -> None:
    level = level_of(adapter, interaction, used.rest)
    weight = settings_fields.weight_in(_values(used))
    await adapter.studio.set_weight(level.by, level.by.tenant, weight)
    await show_instead(
        interaction, await panel(adapter, interaction, level, said=f"The weight is {weight:g}.")
    )


def _values(used: Used) -> Mapping[str, str]:
    return read_form(used.data or {}).values


CONTROLS = {
    "mode": _changes(_mode),
    "nsfw": _changes(_nsfw),
    "roles": _changes(lambda own, values: replace(own, allowed_roles=tuple(values))),
    "channels": _changes(lambda own, values: replace(own, allowed_channels=tuple(values))),
    "reset": _changes(lambda own, values: Rules()),
    "ask_reset": _ask_reset,
    "defaults": _open_defaults,
    "limits": _open_limits,
    "weights": _open_weights,
    "weight": _open_weight,
}
FORMS = {
    "defaults": _defaults_set,
    "limits": _limits_set,
    "weights": _weights_set,
    "weight": _weight_set,
}
