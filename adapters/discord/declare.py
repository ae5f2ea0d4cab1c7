"""Commands declared by tables: what Discord is told of each option, in one place and in a fixed order.

The payload depends on the operator's limits alone, so that it changes only when something changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import discord
from discord import app_commands
from discord.app_commands import Choice
from discord.enums import AppCommandOptionType, ChannelType

Interaction: TypeAlias = "discord.Interaction[discord.Client]"
Suggest: TypeAlias = Callable[[Interaction, str], Awaitable[list[Choice[str]]]]
Callback: TypeAlias = Callable[..., Awaitable[None]]

EVERYWHERE = app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=True)
IN_SERVERS = app_commands.AppCommandContext(guild=True, dm_channel=False, private_channel=False)
BOTH_INSTALLS = app_commands.AppInstallationType(guild=True, user=True)
SERVER_INSTALL = app_commands.AppInstallationType(guild=True, user=False)


@dataclass(frozen=True, slots=True)
class Option:
    """One option. low, high: of a number, or of a text's length; choices: all there are; suggest: what is
    offered while it is typed."""

    name: str
    description: str
    kind: AppCommandOptionType = AppCommandOptionType.string
    required: bool = False
    low: float | None = None
    high: float | None = None
    choices: Sequence[Choice[str]] = ()
    suggest: Suggest | None = None
    channels: Sequence[ChannelType] = ()


class _Taken(app_commands.Transformer[discord.Client]):
    """An option's value as Discord sends it: what it means is for the core."""

    def __init__(self, option: Option) -> None:
        self._option = option

    @property
    def type(self) -> AppCommandOptionType:
        return self._option.kind

    @property
    def min_value(self) -> float | None:
        return self._option.low

    @property
    def max_value(self) -> float | None:
        return self._option.high

    @property
    def choices(self) -> list[Choice[str | int | float]] | None:
        return [Choice(name=one.name, value=one.value) for one in self._option.choices] or None

    @property
    def channel_types(self) -> list[ChannelType]:
        return list(self._option.channels)

    async def transform(self, interaction: Interaction, value: Any, /) -> Any:
        return value


class _Suggested(_Taken):
    """An option with suggestions."""

    async def autocomplete(
        self, interaction: Interaction, value: int | float | str, /
    ) -> list[Choice[int | float | str]]:
        if self._option.suggest is None:
            return []
        found = await self._option.suggest(interaction, str(value))
        return [Choice(name=one.name, value=one.value) for one in found]


def command(
    name: str,
    description: str,
    callback: Callback,
    options: Sequence[Option] = (),
    *,
    contexts: app_commands.AppCommandContext = EVERYWHERE,
    installs: app_commands.AppInstallationType = BOTH_INSTALLS,
) -> app_commands.Command[Any, ..., None]:
    """A slash command. callback: called with the interaction and the options by name, None for none."""

    async def invoke(interaction: Interaction, **values: Any) -> None:
        await callback(interaction, **values)

    interaction = inspect.Parameter("interaction", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    invoke.__signature__ = inspect.Signature([interaction, *map(_parameter, options)])  # type: ignore[attr-defined]
    if options:
        app_commands.describe(**{option.name: option.description for option in options})(invoke)
    return app_commands.Command(
        name=name,
        description=description,
        callback=invoke,
        allowed_contexts=contexts,
        allowed_installs=installs,
    )


def _parameter(option: Option) -> inspect.Parameter:
    taken = _Taken(option) if option.suggest is None else _Suggested(option)
    default = inspect.Parameter.empty if option.required else None
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=taken)
