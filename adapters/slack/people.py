"""Who may manage a workspace: its admins and owners, as Slack says, whom they name in the settings, and the
operators of this program."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from adapters.slack.visit import Visit
from bot.core.errors import Fault

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

REMEMBERED: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may do with a workspace's settings. admin: of the workspace, or an operator; named: by an
    admin, in the settings; operator: of this program."""

    admin: bool
    named: bool = False
    operator: bool = False

    @property
    def manages(self) -> bool:
        """Whether they may see and change settings."""
        return self.admin or self.named


async def is_admin(slack: Slack, visit: Visit) -> bool:
    """Whether somebody is an admin or owner of the workspace, or an operator; False where nobody can say."""
    if slack.studio.is_operator(visit.requester):
        return True
    try:
        return await _is_slacks_admin(slack, visit)
    except Fault as error:
        log.info("who is an admin is not known: %s %s", error.message, error.detail)
        return False


async def rights(slack: Slack, visit: Visit) -> Rights:
    """What somebody may do. Raises Fault where Slack has to say it and does not."""
    if slack.studio.is_operator(visit.requester):
        return Rights(admin=True, operator=True)
    named = visit.user in await managers(slack, visit)
    try:
        return Rights(await _is_slacks_admin(slack, visit), named)
    except Fault as error:
        if not named:
            raise
        log.info("who is an admin is not known: %s %s", error.message, error.detail)
        return Rights(admin=False, named=True)


async def _is_slacks_admin(slack: Slack, visit: Visit) -> bool:
    key = (visit.team, visit.user)
    if (known := slack.admins.get(key)) is not None:
        return known
    workspace = await slack.clients.workspace(visit.team, visit.enterprise)
    said = await workspace.person(visit.user)
    found = administers(said, visit.team)
    slack.admins.put(key, found)
    return found


def administers(user: Mapping[str, Any], team: str) -> bool:
    """Whether users.info's user is an admin or owner of a workspace. People of others come through shared
    channels, and may be admins at home; those of the same organisation must be the organisation's."""
    if user.get("team_id") in (None, "", team):
        return any(bool(user.get(name)) for name in ("is_admin", "is_owner", "is_primary_owner"))
    org = user.get("enterprise_user") or {}
    return team in (org.get("teams") or ()) and bool(org.get("is_admin") or org.get("is_owner"))


# --- whom admins name -------------------------------------------------------------------------------------


async def managers(slack: Slack, visit: Visit) -> tuple[str, ...]:
    """The ids of those who may change settings beside the admins."""
    kept = await slack.studio.shelf(slack.name).get(_place(visit))
    return tuple(str(each) for each in kept) if isinstance(kept, list) else ()


async def set_managers(slack: Slack, visit: Visit, users: Sequence[str]) -> None:
    """Name others instead. That an admin does so is for the caller to check."""
    await slack.studio.shelf(slack.name).put(_place(visit), list(dict.fromkeys(users)) or None)


def _place(visit: Visit) -> str:
    return f"managers:{visit.requester.guild}"
