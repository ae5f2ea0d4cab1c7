"""Opening the form of a request, and taking it back: Remix, Edit, and a recipe's Remix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters.discord import flow
from adapters.discord.actions import Action, Pressed, custom_id
from adapters.discord.asking import from_form, remix_of
from adapters.discord.drafts import Draft, Drafts
from adapters.discord.flow import Act
from adapters.discord.modals import draft_of, form, read_form
from bot.core.errors import FairbrushError, NotFound
from bot.core.grammar import parse
from bot.core.intake import Acknowledge, Submission, Ticket

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

TITLES = {Action.REMIX: "Remix", Action.EDIT: "Edit"}


def drafts(adapter: Discord) -> Drafts:
    """The drafts of forms."""
    return Drafts(adapter.studio.shelf(adapter.name))


async def open_form(adapter: Discord, interaction: Interaction, pressed: Pressed) -> None:
    """Open the form that a Remix or an Edit button means. Raises NotFound."""
    draft = await _draft_for(adapter, interaction, pressed)
    await show_form(adapter, interaction, draft, pressed)


async def show_form(adapter: Discord, interaction: Interaction, draft: Draft, pressed: Pressed) -> None:
    """The form itself; pressed: what it says when it comes back."""
    studio = adapter.studio
    rules = await studio.rules(flow.requester_of(interaction).tenant, flow.channel_of(interaction))
    modal = form(
        draft,
        title=TITLES.get(pressed.action, "Edit"),
        custom_id=custom_id(pressed.action, pressed.group_id, pressed.index),
        limits=studio.limits_of(rules),
        picture="init_image" in studio.params(_model(adapter, draft)),
    )
    await interaction.response.send_modal(modal)


async def submitted(
    adapter: Discord, interaction: Interaction, pressed: Pressed, data: Mapping[str, Any]
) -> None:
    """A form came back: ask for what it says. Where what it was opened for is gone meanwhile it is refused,
    and can be sent as a request of its own."""
    act: Callable[[Discord, Draft], Act] = from_form
    try:
        before = await _draft_for(adapter, interaction, pressed)
    except NotFound as error:
        before, act = Draft(), partial(_refused, error)
    draft = draft_of(read_form(data), before)
    await flow.ask(adapter, interaction, act(adapter, draft), draft)


def _refused(error: NotFound, adapter: Discord, draft: Draft) -> Act:
    async def take(submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket:
        raise error

    return take


async def _draft_for(adapter: Discord, interaction: Interaction, pressed: Pressed) -> Draft:
    if pressed.action is Action.EDIT:
        return await drafts(adapter).read(pressed.group_id)
    return await remix_of(adapter, interaction, pressed.group_id, pressed.index)


def _model(adapter: Discord, draft: Draft) -> str | None:
    """The model that a draft means, None for the default one."""
    try:
        named = parse(draft.text).model or parse(draft.rest or "").model or draft.options.model
    except FairbrushError:
        named = draft.options.model
    return named if any(named == model.id for model in adapter.studio.models()) else None
