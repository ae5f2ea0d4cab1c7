"""Deleting a result: here, and what Slack holds of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from adapters.slack import people, render
from adapters.slack.files import files_in, listed
from adapters.slack.visit import Visit
from adapters.slack.workspace import Workspace
from bot.core.errors import Fault
from bot.core.ports import Address, StoredGroup

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)


async def delete(slack: Slack, visit: Visit, group: str) -> None:
    """Delete a request of one's own; admins of the workspace may delete anybody's. Raises NotFound or
    Forbidden."""
    by = visit.requester
    stored = await slack.studio.seen(group, by)
    moderator = stored.requester.member != by.member and await people.is_admin(slack, visit)
    await slack.studio.delete(group, by, moderator=moderator)
    slack.homes.changed(stored.address)
    await _remove(await slack.workspace(stored.address), stored)


async def _remove(workspace: Workspace, stored: StoredGroup) -> None:
    """The pictures first; each thing by itself, for some of it may be gone already."""
    address = stored.address
    channel, status, root = (str(address.get(name) or "") for name in ("channel", "status", "root"))
    for file in _files(address):
        await _quietly(workspace.forget_file(file))
    for ts in filter(None, [status, *listed(address.get("more"))]):
        await _quietly(workspace.remove(channel, ts))
    if root:
        message = render.deleted(stored.requester.user)
        await _quietly(workspace.edit(channel, root, message.text, message.blocks))


def _files(address: Address) -> list[str]:
    """Every file of a request that Slack holds."""
    return list(dict.fromkeys([*listed(address.get("files")), *files_in(address)]))


async def _quietly(work: object) -> None:
    try:
        await work  # type: ignore[misc]
    except Fault as error:
        log.info("not removed from Slack: %s %s", error.message, error.detail)
