"""What a press does. The library hands every press, select and form to the two classes made here, whatever
was running when the message was sent; all they need is in the custom_id and the store.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import discord
from discord import ui

from adapters.discord import controls, flow, forms, looking, settings_form, showing
from adapters.discord.actions import TEMPLATE, Action, Pressed, parse
from adapters.discord.answers import guarded, heard, in_time
from adapters.discord.asking import again, retry, upscale, vary
from adapters.discord.deleting import delete
from adapters.discord.flow import Act

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

Press = Callable[["Discord", "Interaction", Pressed], Awaitable[None]]

CONTROLS: Final[Mapping[str, controls.Handler]] = {**looking.CONTROLS, **settings_form.CONTROLS}
FORMS: Final[Mapping[str, controls.Handler]] = settings_form.FORMS


def register(client: discord.Client, adapter: Discord) -> None:
    """Let this client's presses, selects and forms come here."""

    class Button(_Dynamic, template=TEMPLATE):
        """A button of a request."""

        async def callback(self, interaction: Interaction) -> None:
            pressed = parse(self.custom_id)
            if pressed is not None:
                await guarded(interaction, PRESSES[pressed.action](adapter, interaction, pressed))

    class Control(_Dynamic, template=controls.TEMPLATE):
        """A control of a private answer."""

        async def callback(self, interaction: Interaction) -> None:
            used = controls.used(_data(interaction))
            if used is not None and (handle := CONTROLS.get(used.name)):
                await guarded(interaction, handle(adapter, interaction, used))

    async def on_interaction(interaction: Interaction) -> None:
        if interaction.type is discord.InteractionType.modal_submit:
            await guarded(interaction, _form(adapter, interaction))

    client.add_dynamic_items(Button, Control)
    client.event(on_interaction)


class _Dynamic(ui.DynamicItem[ui.Item[Any]], template=r"(?!)"):
    """An item that is known by its custom_id alone."""

    @classmethod
    async def from_custom_id(
        cls, interaction: Interaction, item: ui.Item[Any], match: re.Match[str], /
    ) -> _Dynamic:
        return cls(item)


def _data(interaction: Interaction) -> Mapping[str, Any]:
    return dict(interaction.data or {})


async def _form(adapter: Discord, interaction: Interaction) -> None:
    """A form came back, also one that was opened before a restart."""
    data = _data(interaction)
    pressed = parse(str(data.get("custom_id", "")))
    if pressed is not None:
        await forms.submitted(adapter, interaction, pressed, data)
    elif (used := controls.used(data)) and (handle := FORMS.get(used.name)):
        await handle(adapter, interaction, used)


# --- presses ----------------------------------------------------------------------------------------------


async def _cancel(adapter: Discord, interaction: Interaction, pressed: Pressed) -> None:
    """The message itself says so, once it is so."""
    by = flow.requester_of(interaction)
    await in_time(interaction, adapter.studio.cancel(pressed.group_id, by))
    await heard(interaction)


async def _why(adapter: Discord, interaction: Interaction, pressed: Pressed) -> None:
    await looking.queue(adapter, interaction)


def _asks(act: Callable[[Discord, Pressed], Act]) -> Press:
    """A press that asks for a new request, whoever presses."""

    async def press(adapter: Discord, interaction: Interaction, pressed: Pressed) -> None:
        await flow.ask(adapter, interaction, act(adapter, pressed))

    return press


PRESSES: Final[Mapping[Action, Press]] = {
    Action.CANCEL: _cancel,
    Action.WHY: _why,
    Action.AGAIN: _asks(lambda adapter, pressed: again(adapter, pressed.group_id)),
    Action.VARY: _asks(lambda adapter, pressed: vary(adapter, pressed.group_id, pressed.index or 0)),
    Action.UPSCALE: _asks(lambda adapter, pressed: upscale(adapter, pressed.group_id, pressed.index or 0)),
    Action.RETRY: _asks(lambda adapter, pressed: retry(adapter, pressed.group_id)),
    Action.REMIX: forms.open_form,
    Action.EDIT: forms.open_form,
    Action.DELETE: delete,
    Action.SHOW: showing.show_here,
}
