"""Who may manage a workspace: its admins and owners, as Slack says, and the operators of this program."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from adapters.slack.visit import Visit
from bot.core.errors import Fault

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

REMEMBERED: Final = 60.0  # seconds


async def is_admin(slack: Slack, visit: Visit) -> bool:
    """Whether somebody is an admin or owner of the workspace, or an operator; False where nobody can say."""
    if slack.studio.is_operator(visit.requester):
        return True
    key = (visit.team, visit.user)
    if (known := slack.admins.get(key)) is not None:
        return known
    try:
        workspace = await slack.clients.workspace(visit.team, visit.enterprise)
        said = await workspace.person(visit.user)
    except Fault as error:
        log.info("who is an admin is not known: %s %s", error.message, error.detail)
        return False
    found = any(bool(said.get(name)) for name in ("is_admin", "is_owner", "is_primary_owner"))
    slack.admins.put(key, found)
    return found
