"""/recipe and the Recipe and Remix menus: from a picture to what made it, on whichever platform or tool.

Pictures of strangers are hostile until read: length, time and address are bounded when they are fetched, and
only the core looks into the bytes.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import discord
from discord import ui

from adapters.discord import render
from adapters.discord.actions import Action, Pressed, parse
from adapters.discord.answers import in_time
from adapters.discord.asking import draft_of_options, remix_of
from adapters.discord.forms import drafts, open_form, show_form
from adapters.discord.uploads import Attached, looks_like_a_picture
from adapters.discord.wording import code, escape, lines, small
from bot.core.errors import InvalidRequest, NotFound
from bot.core.grammar import format_options
from bot.core.pictures import Found

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

SHOWN: Final = 3000
"""Characters of a recipe that stand in the message; a longer one comes as a file."""

AT_ONCE: Final = 1.5
"""Seconds in which a form must be opened: one cannot be deferred."""

NO_PICTURE: Final = "There is no picture on this message. Choose one that has a PNG, JPEG or WebP."


async def recipe(adapter: Discord, interaction: Interaction, image: discord.Attachment) -> None:
    """/recipe: what made an attached picture."""
    found = await in_time(interaction, found_in(adapter, Attached.from_attachment(image)))
    await tell_found(adapter, interaction, found)


async def found_in(adapter: Discord, *pictures: Attached) -> Found:
    """The first recipe in any of the pictures. Raises what the last of them was refused for."""
    refusal: NotFound | InvalidRequest = NotFound(NO_PICTURE)
    for picture in pictures[:4]:
        try:
            data = await adapter.downloads.fetch(picture, most=adapter.studio.limits.max_image_bytes)
            return await adapter.studio.read_recipe(data)
        except (NotFound, InvalidRequest) as error:
            refusal = error
    raise refusal


# --- the answer -------------------------------------------------------------------------------------------


async def tell_found(adapter: Discord, interaction: Interaction, found: Found) -> None:
    """A recipe found in a file, with a button that opens it as a form."""
    token = await drafts(adapter).keep(draft_of_options(found.options))
    origin = _origin(found)
    button = render.button(Action.EDIT, token, "Remix")
    await _tell(interaction, f"/imagine {format_options(found.options)}", origin, button)


async def tell_own(adapter: Discord, interaction: Interaction, pressed: Pressed) -> None:
    """The recipe of a request of ours, from the store. Raises NotFound."""
    draft = await remix_of(adapter, interaction, pressed.group_id, pressed.index)
    button = render.button(Action.REMIX, pressed.group_id, "Remix", pressed.index)
    text = f"/imagine {draft.text} {format_options(draft.options)}"
    await _tell(interaction, text, pressed.group_id, button)


async def _tell(interaction: Interaction, text: str, origin: str, button: ui.Button[Any]) -> None:
    items: list[ui.Item[ui.LayoutView]]
    attached: list[discord.File] = []
    if len(shown := code(text)) <= SHOWN:
        items = [render.text(lines(shown, small(escape(origin))))]
    else:
        attached = [discord.File(io.BytesIO(text.encode("utf-8", "replace")), "recipe.txt")]
        items = [render.text(small(escape(origin)) or "Recipe"), ui.File("attachment://recipe.txt")]
    view = render.sealed(*items, *render.rows([button]))
    if interaction.response.is_done():
        await interaction.followup.send(view=view, files=attached, ephemeral=True)
    else:
        await interaction.response.send_message(view=view, files=attached, ephemeral=True)


def _origin(found: Found) -> str:
    """ "Fairbrush 0.1.0 · local · 2026-01-02", or that another tool wrote it."""
    if found.source == "parameters":
        return "from another tool's text"
    made = found.recipe
    backend = str(made.get("backend") or "").partition(":")[0]
    said = (str(made.get("software") or ""), backend, str(made.get("created") or "")[:10])
    return " · ".join(filter(None, said))


# --- menus on messages ------------------------------------------------------------------------------------


async def recipe_of(adapter: Discord, interaction: Interaction, message: discord.Message) -> None:
    """The Recipe menu: of a request of ours, or of whatever picture the message has."""
    for pressed in groups_on(message):
        try:
            await tell_own(adapter, interaction, pressed)
            return
        except NotFound:
            continue  # of another server, or deleted since: its files may still say
    _check_not_a_receipt(interaction, message)
    found = await in_time(interaction, found_in(adapter, *pictures_on(message)))
    await tell_found(adapter, interaction, found)


async def remix_of_message(adapter: Discord, interaction: Interaction, message: discord.Message) -> None:
    """The Remix menu: the form at once, where the recipe is there in time, or else with one press more."""
    for pressed in groups_on(message):
        try:
            await open_form(adapter, interaction, pressed)
            return
        except NotFound:
            continue
    _check_not_a_receipt(interaction, message)
    reading = asyncio.ensure_future(found_in(adapter, *pictures_on(message)))
    await asyncio.wait({reading}, timeout=AT_ONCE)
    if not reading.done():
        await interaction.response.defer(ephemeral=True, thinking=True)
        await tell_found(adapter, interaction, await reading)
        return
    draft = draft_of_options(reading.result().options)
    token = await drafts(adapter).keep(draft)
    await show_form(adapter, interaction, draft, Pressed(Action.EDIT, token))


def _check_not_a_receipt(interaction: Interaction, message: discord.Message) -> None:
    """Raise NotFound for a receipt of ours: its small sheet has no recipe, its thread has the pictures."""
    if message.author.id == interaction.application_id and not groups_on(message):
        raise NotFound("This message has no recipe. Choose the one with the pictures, in its thread.")


def groups_on(message: discord.Message) -> list[Pressed]:
    """The requests that a message's buttons speak of, each once, as Remix of them would."""
    pressed = (parse(custom_id) for custom_id in _custom_ids(message.components))
    groups = dict.fromkeys(each.group_id for each in pressed if each and each.action is not Action.EDIT)
    return [Pressed(Action.REMIX, group) for group in groups]


def pictures_on(message: discord.Message) -> list[Attached]:
    """A message's pictures: attached, or in a gallery."""
    found = {
        attachment.url: Attached.from_attachment(attachment)
        for attachment in message.attachments
        if looks_like_a_picture(attachment)
    }
    for component in _every(message.components):
        for item in getattr(component, "items", ()):
            url = getattr(getattr(item, "media", None), "url", "")
            if url and url not in found:
                found[url] = Attached(url, url.partition("?")[0].rpartition("/")[2])
    return list(found.values())


def _custom_ids(components: Sequence[Any]) -> Iterator[str]:
    return (str(each.custom_id) for each in _every(components) if getattr(each, "custom_id", None))


def _every(components: Sequence[Any]) -> Iterator[Any]:
    """All components of a message, also those inside others."""
    for each in components:
        yield each
        yield from _every(getattr(each, "children", ()))
