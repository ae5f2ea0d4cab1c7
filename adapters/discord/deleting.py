"""Delete: the pictures go from the store, from the request's own messages and from the one that was chosen.

Other copies that /show made are not remembered: they stay, and their buttons say that there is nothing more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import discord

from adapters.discord import flow, render
from adapters.discord.actions import Pressed
from adapters.discord.address import Place, is_place, place_from_json
from adapters.discord.answers import in_time, show_instead
from adapters.discord.conversation import DiscordConversation
from adapters.discord.recipes import groups_on
from adapters.discord.wire import Body
from adapters.discord.wording import title
from bot.core.errors import Fault, NotFound

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

log = logging.getLogger(__name__)


async def delete(adapter: Discord, interaction: Interaction, pressed: Pressed) -> None:
    """The Delete button: the message that it is on says so at once. Raises Forbidden or NotFound."""
    place = await in_time(interaction, _forget(adapter, interaction, pressed.group_id))
    await show_instead(interaction, render.deleted(place))
    await _erase(adapter, place)


async def delete_on_message(adapter: Discord, interaction: Interaction, message: discord.Message) -> None:
    """The Delete menu: on any message of ours with buttons of a request. Raises Forbidden or NotFound."""
    groups = groups_on(message) if message.author.id == interaction.application_id else []
    if not groups:
        raise NotFound("There are no pictures of mine on this message. Choose one with my buttons under it.")
    place = await in_time(interaction, _forget(adapter, interaction, groups[0].group_id))
    await flow.tell(interaction, f"{render.DELETED} Deleted {title(place.prompt)}")
    if str(message.id) not in (place.receipt, place.status, *place.more):
        await _erase_copy(adapter, place, message)
    await _erase(adapter, place)


async def _forget(adapter: Discord, interaction: Interaction, group_id: str) -> Place:
    """Forget a group with its pictures; where its messages are."""
    by, studio = flow.requester_of(interaction), adapter.studio
    stored = await studio.seen(group_id, by)
    await studio.delete(group_id, by, moderator=flow.is_moderator(interaction))
    adapter.recent.forget(stored.requester, group_id)
    return place_from_json(stored.address) if is_place(stored.address) else Place("", "", "", 0.0, "", "")


async def _erase_copy(adapter: Discord, place: Place, message: discord.Message) -> None:
    """A message of /show, where the bot itself reaches it."""
    try:
        await adapter.wire.edit(str(message.channel.id), str(message.id), Body(render.deleted(place)))
    except Fault as error:
        log.info("message %s: not erased: %s %s", message.id, error.message, error.detail)


async def _erase(adapter: Discord, place: Place) -> None:
    """All messages of the request, as far as they can be reached."""
    if place.interaction:
        await DiscordConversation(adapter, place).erase()
