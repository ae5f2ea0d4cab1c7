"""What a method of the local Slack's Web API gets, and the questions that most of them ask first."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes.slack_blocks import check_blocks, check_view, text_length, with_ids
from tests.fakes.slack_shapes import KINDS
from tests.fakes.slack_state import Channel, Installation, Message, Payload, Refused, Workspace, World
from tests.fakes.slack_trouble import Troubles

MOST_BLOCKS_TEXT = 13_000  # undocumented; seen to begin a little above
STRUCTURED = ("blocks", "view", "files", "attachments", "metadata", "file_ids", "users")


@dataclass
class Context:
    """One call. installation: whose token it came with; base: this server's address."""

    world: World
    troubles: Troubles
    installation: Installation
    arguments: Payload
    base: str

    def need(self, name: str) -> str:
        """An argument that must be there."""
        value = self.arguments.get(name)
        if value in (None, ""):
            messages = [f"[ERROR] missing required field: {name}"]
            raise Refused("invalid_arguments", response_metadata={"messages": messages})
        return str(value)

    def flag(self, name: str) -> bool:
        """A boolean argument: JSON's or a form's."""
        return str(self.arguments.get(name, "")).lower() in ("1", "true")

    def workspace(self) -> Workspace:
        """The workspace that the call is about: the token's, or `team_id` with an organisation's token."""
        team = self.installation.team or str(self.arguments.get("team_id", ""))
        if not team:
            raise Refused("missing_argument", response_metadata={"messages": ["[ERROR] team_id"]})
        if team not in self.world.workspaces or not self.world.reaches(self.installation, team):
            raise Refused("team_not_found")
        return self.world.workspaces[team]

    def channel(self, name: str = "channel", *, write: bool = True) -> Channel:
        """The conversation named by an argument, where the bot may see it and, with `write`, post."""
        found = self.world.channels.get(self.need(name))
        if found is None or not self.world.reaches(self.installation, found.team):
            raise Refused("channel_not_found")
        inside = self.installation.bot_user in found.members
        if not inside and found.kind != "public":
            raise Refused("channel_not_found")
        if write:
            self._may_post(found, inside)
        return found

    def _may_post(self, channel: Channel, inside: bool) -> None:
        if channel.archived:
            raise Refused("is_archived")
        if not inside and "chat:write.public" not in self.installation.scopes.split(","):
            raise Refused("not_in_channel")
        if channel.restricted:
            raise Refused("restricted_action")

    def message(self, channel: Channel, denied: str) -> Message:
        """The bot's own message named by `ts`."""
        found = self.world.messages.get((channel.id, self.need("ts")))
        if found is None or found.deleted:
            raise Refused("message_not_found")
        if found.user != self.installation.bot_user:
            raise Refused(denied)
        return found

    def usable(self, file_id: str) -> bool:
        """Whether an image block may name a file: processed, a picture, and within the bot's reach."""
        file = self.world.files.get(file_id)
        if file is None or file.deleted or file.mimetype not in KINDS:
            return False
        return file.owner == self.installation.bot_user or any(
            self.installation.bot_user in self.world.channels[share.channel].members for share in file.shares
        )

    def blocks(self) -> list[Payload]:
        """The call's blocks, checked and completed; raises Refused(invalid_blocks)."""
        blocks = self.arguments.get("blocks")
        if blocks is None:
            return []
        refuse_faults("invalid_blocks", check_blocks(blocks, self.usable))
        if text_length(blocks) > MOST_BLOCKS_TEXT:
            raise Refused("msg_blocks_too_long")
        return with_ids(blocks, self.fresh_id)

    def view(self) -> Payload:
        """The call's view, checked and completed; raises Refused(invalid_arguments)."""
        view = self.arguments.get("view")
        refuse_faults("invalid_arguments", check_view(view, self.usable))
        assert isinstance(view, dict)
        return {**view, "blocks": with_ids(view["blocks"], self.fresh_id)}

    def fresh_id(self) -> str:
        """A block id or action id that Slack makes up."""
        return self.world.new_id("b")[-6:]


def refuse_faults(error: str, faults: list[str]) -> None:
    """Refuse with the faults, in Slack's form, where there are any."""
    if faults:
        messages = [f"[ERROR] {fault}" for fault in faults]
        raise Refused(error, errors=faults, response_metadata={"messages": messages})


Handler = Callable[[Context], Awaitable[Payload]]


@dataclass(frozen=True)
class Method:
    """A method and the scope that its token needs."""

    handler: Handler
    scope: str = ""


def structured(arguments: dict[str, Any]) -> Payload:
    """Arguments with the JSON in forms read."""
    made = dict(arguments)
    for name in STRUCTURED:
        if isinstance(made.get(name), str) and made[name][:1] in ("[", "{"):
            try:
                made[name] = json.loads(made[name])
            except ValueError:
                raise Refused("invalid_arguments") from None
    return made
