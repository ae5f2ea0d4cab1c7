"""The menus on a message: Remix, Recipe, Delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from adapters.discord.answers import guarded
from adapters.discord.declare import BOTH_INSTALLS, EVERYWHERE, Interaction
from adapters.discord.deleting import delete_on_message
from adapters.discord.recipes import recipe_of, remix_of_message

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord

Handle = Callable[["Discord", Interaction, discord.Message], Awaitable[None]]


def menus(adapter: Discord) -> list[app_commands.ContextMenu]:
    """All menus, in the order in which Discord is told of them."""
    handles: dict[str, Handle] = {
        "Remix": remix_of_message,
        "Recipe": recipe_of,
        "Delete": delete_on_message,
    }
    return [_menu(adapter, name, handle) for name, handle in handles.items()]


def _menu(adapter: Discord, name: str, handle: Handle) -> app_commands.ContextMenu:
    async def chosen(interaction: Any, message: discord.Message) -> None:
        await guarded(interaction, handle(adapter, interaction, message))

    return app_commands.ContextMenu(
        name=name,
        callback=chosen,
        type=discord.AppCommandType.message,
        allowed_contexts=EVERYWHERE,
        allowed_installs=BOTH_INSTALLS,
    )
