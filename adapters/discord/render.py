"""What people see: every message of a request as components, from plain values.

Knows Discord's components and the core's texts; sends nothing. Views come stopped: the library keeps no
stopped view in memory, and every button says by itself what it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import discord
from discord import ui

from adapters.discord.actions import Action, custom_id
from adapters.discord.address import Place
from adapters.discord.wording import lines, mention, small, title

STYLES = {
    Action.CANCEL: discord.ButtonStyle.secondary,
    Action.AGAIN: discord.ButtonStyle.primary,
    Action.RETRY: discord.ButtonStyle.primary,
    Action.EDIT: discord.ButtonStyle.primary,
}


def sealed(*items: ui.Item[ui.LayoutView]) -> ui.LayoutView:
    """A message of these items."""
    view = ui.LayoutView(timeout=None)
    for item in items:
        view.add_item(item)
    view.stop()
    return view


def button(action: Action, group: str, label: str, index: int | None = None) -> ui.Button[ui.LayoutView]:
    """A button that means the same after a restart."""
    style = STYLES.get(action, discord.ButtonStyle.secondary)
    return ui.Button(style=style, label=label, custom_id=custom_id(action, group, index))


def row(buttons: Sequence[ui.Button[ui.LayoutView]]) -> list[ui.Item[ui.LayoutView]]:
    """An action row of at most five buttons; none of none."""
    return [ui.ActionRow(*buttons)] if buttons else []


def text(content: str) -> ui.TextDisplay[ui.LayoutView]:
    """A text in Discord's markdown."""
    return ui.TextDisplay(content)


def receipt_text(place: Place, mark: str = "🖌️") -> str:
    """ "🖌️ **a red fox in snow** · @mention", and what differs from the defaults."""
    return lines(f"{mark} {title(place.prompt)} · {mention(place.user)}", small(" · ".join(place.told)))


def receipt(place: Place) -> ui.LayoutView:
    """The answer that says "heard"."""
    return sealed(text(receipt_text(place)))
