"""What somebody reads after doing something at the local Discord."""

from __future__ import annotations

import re
from typing import Any

from bot.core.request import Requester
from tests.fakes.discord import Interaction, Message, text
from tests.fakes.discord_house import DiscordHouse


def first(call: Interaction) -> Message:
    """The message that something was answered with, or that it changed."""
    assert call.original is not None
    return call.original


def read(message: Message) -> str:
    """A message as it reads: without the backslashes of escaped markup."""
    return re.sub(r"\\(\W)", r"\1", text(message))


def seen(call: Interaction) -> str:
    """All that something was answered with, as it reads."""
    messages = ([call.original] if call.original else []) + call.followups
    return "\n".join(map(read, messages))


def private(call: Interaction) -> bool:
    """Whether everything that was answered is seen by the one who asked alone."""
    messages = ([call.original] if call.original else []) + call.followups
    return bool(messages) and all(each.private_to == call.user.id for each in messages)


def fields(form: Interaction) -> dict[str, Any]:
    """The fields of a form as they are filled in, by custom_id."""
    assert form.modal is not None
    inner = [each["component"] for each in form.modal["components"]]
    return {each["custom_id"]: each.get("value") or "" for each in inner}


async def results(house: DiscordHouse, call: Interaction) -> Message:
    """The message with a request's pictures, once all is shown."""
    await house.idle()
    return await house.status(call)


def me(house: DiscordHouse) -> Requester:
    """Ann, as the core knows her."""
    return Requester("discord", str(house.guild.id), str(house.ann.id))
