"""A request shown again: /show, the list of /history, and Show, where the bot cannot come by itself.

It is a copy for whoever asks, made from the store; the request's own messages are not touched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import discord
from discord import ui

from adapters.discord import files, flow, render
from adapters.discord.actions import Pressed
from adapters.discord.address import Place
from adapters.discord.answers import in_time
from adapters.discord.delivery import SMALLEST, smaller
from adapters.discord.errors import TooLarge, translated
from adapters.discord.files import Packed
from adapters.discord.flow import place_of
from adapters.discord.wire import file_of
from bot.core.errors import Refused
from bot.core.guilds import ThreadMode
from bot.core.ports import StoredGroup
from bot.core.request import ImageResult

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

FLAGGED = "flagged by the content check, so not shown in a channel that is not age-restricted"


async def show_again(
    adapter: Discord, interaction: Interaction, id: str, private: bool | None = None
) -> None:
    """/show: one's own request, for everybody in the channel unless it is to be private."""
    typed = (id.split() or [""])[0].upper()[:32]
    await adapter.studio.show(typed, flow.requester_of(interaction))
    await show(adapter, interaction, typed, private=bool(private))


async def show(adapter: Discord, interaction: Interaction, group_id: str, *, private: bool) -> None:
    """A request as it stands, or its pictures with their buttons. Raises NotFound."""
    group = await adapter.studio.seen(group_id, flow.requester_of(interaction))
    status = adapter.studio.status(group.group_id)
    place = _place(adapter, interaction, group)
    if status is not None and not status.state.ended:
        await flow.tell(interaction, render.status(place, status))
        return
    result = _allowed(await adapter.studio.result(group.group_id), interaction)
    if not result.pictures:
        await flow.tell(interaction, render.no_pictures(place, result, channel=True))
        return
    limit = place.file_limit
    while True:
        packed = await in_time(interaction, files.pack(result, limit), private=private)
        try:
            await _send_all(adapter, interaction, place, result, packed, private=private)
            return
        except TooLarge:
            if limit <= SMALLEST or packed.largest == 0:
                raise
            limit = smaller(limit, packed)


async def _send_all(
    adapter: Discord,
    interaction: Interaction,
    place: Place,
    result: ImageResult,
    packed: Packed,
    *,
    private: bool,
) -> None:
    """A message for each parcel. Raises TooLarge, before anything is sent."""
    left = files.links(packed.left, adapter.studio.link)
    for parcel in packed.parcels:
        view = render.pictures(
            place,
            result,
            parcel.gallery,
            first=parcel.first,
            channel=True,
            last=parcel is packed.parcels[-1],
            extra=left,
        )
        attached = [file_of(upload) for upload in parcel.uploads]
        try:
            with translated():
                await _send(interaction, view, attached, private=private)
        except TooLarge as error:
            if parcel is packed.parcels[0]:
                raise
            raise Refused("Discord does not take the rest of the pictures.", detail=error.detail) from error


async def show_here(adapter: Discord, interaction: Interaction, pressed: Pressed) -> None:
    """The Show button: a fresh answer where the first one can be changed no more. What is unfinished goes on
    in it. Raises NotFound."""
    group = await adapter.studio.seen(pressed.group_id, flow.requester_of(interaction))
    status, talk = adapter.studio.status(group.group_id), adapter.talks.get(group.group_id)
    unfinished = status is not None and not status.state.ended
    if status is None or talk is None or not unfinished or talk.place.reachable:
        await show(adapter, interaction, group.group_id, private=False)
        return
    place = _place(adapter, interaction, group)
    told = await interaction.response.send_message(view=render.status(place, status))
    await talk.move(replace(place, receipt=str(told.message_id)))


def _place(adapter: Discord, interaction: Interaction, group: StoredGroup) -> Place:
    """Here and now, with the request's own author."""
    prompt = str(group.jobs[0].request.get("prompt", ""))
    place = place_of(interaction, ThreadMode.CHANNEL, now=adapter.clock.now(), prompt=prompt)
    return replace(place, user=group.requester.user, group=group.group_id)


def _allowed(result: ImageResult, interaction: Interaction) -> ImageResult:
    """Without what may be shown in age-restricted channels alone."""
    shown = tuple(picture for picture in result.pictures if not picture.spoiler)
    flagged = len(result.pictures) - len(shown)
    if not flagged or flow.age_restricted(interaction):
        return result
    notes = (*result.notes, f"{flagged} {FLAGGED}")
    # The buttons count pictures, so that they are left out where some are missing.
    return replace(result, pictures=shown, notes=notes, vary=False, upscale=False)


async def _send(
    interaction: Interaction, view: ui.LayoutView, attached: list[discord.File], *, private: bool
) -> None:
    if interaction.response.is_done():
        await interaction.followup.send(view=view, files=attached, ephemeral=private)
    else:
        await interaction.response.send_message(view=view, files=attached, ephemeral=private)
