"""The commands and menus that Discord is told of, and what happens where one of them fails.

Nothing is decided here: each command hands its options to the module that it is about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.enums import AppCommandOptionType

from adapters.discord import help as help_page
from adapters.discord import looking, recipes, settings_form, showing
from adapters.discord.answers import broken, guarded, told
from adapters.discord.declare import IN_SERVERS, SERVER_INSTALL, Interaction, Option, command
from adapters.discord.imagine import Suggestions, imagine
from adapters.discord.menus import menus

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord

CHANGED = "This command has changed since you opened it. Restart Discord, or try again in a minute."


def register(tree: app_commands.CommandTree[Any], adapter: Discord) -> None:
    """Put all of them into the tree. They are made anew for each client."""
    suggest = Suggestions(adapter)
    for each in (imagine(adapter), *_plain(adapter, suggest), _settings(adapter)):
        tree.add_command(each)
    for menu in menus(adapter):
        tree.add_command(menu)
    tree.error(_failed)


def _plain(adapter: Discord, suggest: Suggestions) -> list[app_commands.Command[Any, ..., None]]:
    own = _run(adapter)
    job = Option("job", "Which one; without it the newest", high=100, suggest=suggest.cancel)
    shown = Option("id", "Its id, as /history shows it", required=True, high=100, suggest=suggest.show)
    private = Option("private", "Only you see it", AppCommandOptionType.boolean)
    image = Option("image", "A picture with its recipe in it", AppCommandOptionType.attachment, required=True)
    return [
        command("queue", "Your requests, how long they take, and why", own(looking.queue)),
        command("cancel", "Cancel a request of yours", own(looking.cancel), [job]),
        command("show", "Show a request of yours again", own(showing.show_again), [shown, private]),
        command("recipe", "What made a picture, and a button to remix it", own(recipes.recipe), [image]),
        command("history", "Your requests, newest first", own(looking.history)),
        command("help", "What you can do here, on one page", own(help_page.help_)),
    ]


def _settings(adapter: Discord) -> app_commands.Command[Any, ..., None]:
    channel = Option(
        "channel",
        "Settings of one channel; without it those of the server",
        AppCommandOptionType.channel,
        channels=settings_form.CHANNELS,
    )
    made = command(
        "settings",
        "What holds in this server or channel, and change it",
        _run(adapter)(settings_form.settings),
        [channel],
        contexts=IN_SERVERS,
        installs=SERVER_INSTALL,
    )
    made.default_permissions = discord.Permissions(manage_guild=True)
    return made


def _run(adapter: Discord) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Give a handler its adapter; what it raises is told in private."""

    def with_adapter(handle: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def run(interaction: Interaction, **values: Any) -> None:
            await guarded(interaction, handle(adapter, interaction, **values))

        return run

    return with_adapter


async def _failed(interaction: Interaction, error: app_commands.AppCommandError) -> None:
    """What the library itself found wrong, or a bug that came this far."""
    match error:
        case app_commands.CommandNotFound() | app_commands.CommandSignatureMismatch():
            await told(interaction, CHANGED)
        case app_commands.CommandInvokeError():
            await broken(interaction, error.original)
        case _:
            await broken(interaction, error)
