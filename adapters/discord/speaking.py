"""Saying things in one place: which token reaches a message, and what to do where one does not.

The interaction's token is the fast path while it lives, for messages in the channel where it was asked; the
bot's own reaches them after that, and reaches threads. An archived thread is opened and tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from adapters.discord.address import Place
from adapters.discord.errors import DEAD_TOKEN, UNKNOWN_WEBHOOK, Archived, TokenDead, TooLarge, code_of
from adapters.discord.wire import Body, Wire
from bot.core.errors import Fault, Gone, Refused

log = logging.getLogger(__name__)


class Speaker:
    """See the module. Errors are those of a conversation; TokenDead where nothing reaches the message."""

    def __init__(self, wire: Wire, now: Callable[[], float]) -> None:
        self._wire = wire
        self._now = now
        self._dead: set[str] = set()

    def token_lives(self, place: Place) -> bool:
        """Whether the interaction's token is worth a try."""
        return place.fresh(self._now()) and place.token not in self._dead

    async def edit(self, place: Place, message: str, body: Body) -> None:
        """Make a message of this request be `body`. In a thread it is the status or one of `more`."""
        if place.thread and message != place.receipt:
            await self._opened(place.thread, lambda: self._wire.edit(place.thread, message, body))
        else:
            await self._edit_here(place, message, body)

    async def _edit_here(self, place: Place, message: str, body: Body) -> None:
        """A message in the channel itself."""
        if self.token_lives(place):
            try:
                await self._wire.edit_by_token(place.application, place.token, message, body)
                return
            except TooLarge:
                raise
            except (Gone, Refused) as error:  # Gone also where the message is the bot's own, not an answer
                if not self._goes_on(place, error):
                    raise
        if not place.reachable:
            raise TokenDead("The answer cannot be changed any more.", detail="its token has expired")
        await self._opened(place.channel, lambda: self._wire.edit(place.channel, message, body))

    async def create(self, place: Place, body: Body, *, nonce: str) -> str:
        """A further message of this request, in its thread or else in the channel; its id."""
        if place.thread:
            return await self._wire.create(place.thread, body, nonce=nonce)
        if self.token_lives(place):
            try:
                return await self._wire.create_by_token(place.application, place.token, body)
            except (Gone, Refused) as error:
                if not self._goes_on(place, error):
                    raise
        if not place.reachable:
            raise TokenDead("Nothing more can be said here.", detail="the answer's token has expired")
        return await self._wire.create(place.channel, body, nonce=nonce)

    async def delete(self, place: Place, message: str) -> None:
        """Delete one of `more`."""
        if not place.thread and self.token_lives(place):
            try:
                await self._wire.delete_by_token(place.application, place.token, message)
                return
            except (Gone, Refused) as error:
                if not self._goes_on(place, error):
                    raise
        if not place.reachable:
            raise TokenDead("Nothing can be deleted here any more.", detail="the answer's token has expired")
        await self._wire.delete(place.thread or place.channel, message)

    def _goes_on(self, place: Place, error: Fault) -> bool:
        """Whether the bot's own token is to be tried, or found wanting, next."""
        expired = code_of(error) in (DEAD_TOKEN, UNKNOWN_WEBHOOK)
        if expired:
            self._dead = {place.token}
        return expired or place.reachable

    async def _opened(self, thread: str, once: Callable[[], Awaitable[None]]) -> None:
        """Once more, where the thread had to be opened first."""
        try:
            await once()
        except Archived:
            log.info("thread %s: archived, opened again", thread)
            await self._wire.unarchive(thread)
            await once()
