"""The Playground: a web page on the same queue, for trying things out without a chat platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.core.ports import Adapter
    from bot.core.settings import Settings


def create(settings: Settings) -> Adapter | None:
    """The web adapter; always on, since it needs no token."""
    from adapters.web.playground import Playground

    return Playground(settings)
