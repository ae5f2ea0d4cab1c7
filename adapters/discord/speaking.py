"""Saying things in one place: which token reaches a message, and what to do where one does not.

The interaction's token is the fast path while it lives, for the answer itself; the bot's own reaches it after
that, and reaches threads. Further messages are the bot's own wherever it may speak: only those have a nonce,
so that one whose making was not confirmed is not made twice. An archived thread is opened and tried again.
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
        elif message == place.receipt or not place.reachable:
            await self._edit_here(place, message, body)
        else:
            await self._edit_more(place, message, body)

    async def _edit_more(self, place: Place, message: str, body: Body) -> None:
        """One of `more` in the channel, whichever token made it."""
        try:
            await self._opened(place.channel, lambda: self._wire.edit(place.channel, message, body))
        except TooLarge:
            raise
        except Refused as error:
            if not self.token_lives(place):
                raise
            try:
                await self._wire.edit_by_token(place.application, place.token, message, body)
            except Gone:  # it is not an answer
                raise error from None

    async def _edit_here(self, place: Place, message: str, body: Body) -> None:
        """The answer, in the channel itself."""
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
        if place.reachable:
            try:
                return await self._wire.create(place.channel, body, nonce=nonce)
            except (Gone, Refused):
                if not self.token_lives(place):
                    raise
        if not self.token_lives(place):
            raise TokenDead("Nothing more can be said here.", detail="the answer's token has expired")
        try:
            return await self._wire.create_by_token(place.application, place.token, body)
        except Gone as error:
            if self._expired(place, error):
                raise TokenDead("Nothing more can be said here.", detail=error.detail) from error
            raise

    async def delete(self, place: Place, message: str) -> None:
        """Delete one of `more`."""
        if place.thread or place.reachable:
            await self._wire.delete(place.thread or place.channel, message)
        elif self.token_lives(place):
            await self._wire.delete_by_token(place.application, place.token, message)
        else:
            raise TokenDead("Nothing can be deleted here any more.", detail="the answer's token has expired")

    def _goes_on(self, place: Place, error: Fault) -> bool:
        """Whether the bot's own token is to be tried, or found wanting, next."""
        return self._expired(place, error) or place.reachable

    def _expired(self, place: Place, error: Fault) -> bool:
        """Whether it was the token that was not taken; then it is tried no more."""
        expired = code_of(error) in (DEAD_TOKEN, UNKNOWN_WEBHOOK)
        if expired:
            self._dead = {place.token}
        return expired

    async def _opened(self, thread: str, once: Callable[[], Awaitable[None]]) -> None:
        """Once more, where the thread had to be opened first."""
        try:
            await once()
        except Archived:
            log.info("thread %s: archived, opened again", thread)
            await self._wire.unarchive(thread)
            await once()
