"""Slack: /imagine, in servers, threads and direct messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.core.ports import Adapter
    from bot.core.settings import Settings


def create(settings: Settings) -> Adapter | None:
    """The Slack adapter; None where no token is set."""
    return None
