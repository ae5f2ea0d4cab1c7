"""Discord as a platform: the connection, and a conversation for each request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from adapters.discord import render
from adapters.discord.address import Place, place_from_json
from adapters.discord.autocomplete import Recent
from adapters.discord.client import Client
from adapters.discord.connection import Connection
from adapters.discord.conversation import DiscordConversation
from adapters.discord.uploads import Downloads
from adapters.discord.wire import Wire
from bot.core.intake import Ticket
from bot.core.messages import one_line
from bot.core.ports import Address, Clock, Conversation, Pace
from bot.core.settings import Settings
from bot.core.studio import Studio

if TYPE_CHECKING:
    from adapters.discord.flow import Answer

REAL_CLOCK = Clock(now=time.time, monotonic=time.monotonic, sleep=asyncio.sleep)
PACE = Pace(seconds_per_message=4.0, edits_per_minute=120)


class Discord:
    """The adapter. studio: set once run() begins; client: the present one, None before the first login."""

    name = "discord"
    pace = PACE

    def __init__(self, settings: Settings, *, clock: Clock = REAL_CLOCK) -> None:
        self.settings = settings
        self.clock = clock
        self.studio: Studio
        self.connection = Connection(self)
        self.wire = Wire(self.connection.online)
        self.answered: dict[str, Place] = {}
        self.talks: WeakValueDictionary[str, DiscordConversation] = WeakValueDictionary()
        self.recent = Recent()
        self.downloads = Downloads(settings.platform_urls.get("discord", ""))

    @property
    def client(self) -> Client | None:
        """The client that is logged in, None where there is none."""
        return self.connection.client

    def routes(self) -> Sequence[object]:
        """None: Discord is reached by its gateway."""
        return ()

    async def run(self, studio: Studio) -> None:
        """Be connected until cancelled. Raises ConfigurationError, or AuthFailed once it has worked."""
        self.studio = studio
        await self.connection.run()

    def conversation(self, address: Address) -> Conversation:
        """The conversation at a stored address; what was answered since it was stored is known here."""
        place = place_from_json(address)
        if not place.receipt:
            place = self.answered.pop(place.interaction, place)
        return DiscordConversation(self, place)

    def live(self, talk: DiscordConversation) -> None:
        """A conversation knows whose it is: buttons that speak of its group find it."""
        if talk.place.group:
            self.talks[talk.place.group] = talk

    async def acknowledge(self, answer: Answer, place: Place, ticket: Ticket) -> None:
        """Answer an accepted request with its receipt, and hand on to its conversation what is known now."""
        place = replace(
            place,
            group=ticket.group_id,
            prompt=one_line(_prompt(ticket)),
            told=ticket.differences,
            spoiler=any(request.spoiler for request in ticket.requests),
        )
        self.answered[place.interaction] = place
        receipt = await answer.accept(render.receipt(place))
        self.answered[place.interaction] = replace(place, receipt=receipt)

    async def aclose(self) -> None:
        """Leave the gateway; idempotent."""
        await self.connection.aclose()


def _prompt(ticket: Ticket) -> str:
    """What was asked for, in words: the prompt as made, or what several were unfolded from."""
    return ticket.requests[0].prompt if len(ticket.requests) == 1 else ticket.options.prompt
