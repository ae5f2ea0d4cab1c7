"""What the bot needs in a server, and nothing more; the invite, the documentation and the checks read it."""

from __future__ import annotations

from typing import Final

import discord

SCOPES: Final = ("bot", "applications.commands")

WHY: Final = {
    "view_channel": "to edit its own messages in a channel after 15 minutes",
    "send_messages": "to answer in a channel and to say when a long job is ready",
    "create_public_threads": "to put each request's pictures in a thread of their own",
    "send_messages_in_threads": "to answer in threads",
    "attach_files": "to attach the pictures",
}
"""Each permission and what it is for."""


def needed() -> discord.Permissions:
    """All of them."""
    return discord.Permissions(**dict.fromkeys(WHY, True))


def may_thread(has: discord.Permissions) -> bool:
    """Whether a thread can be made and used where the bot has these."""
    return has.create_public_threads and has.send_messages_in_threads and has.view_channel
