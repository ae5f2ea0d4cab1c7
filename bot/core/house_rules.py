"""The rules of guilds as the running program holds them: read once, changed by their admins, always durable.

Knows what an operator is; whether somebody may manage a guild is the platform's word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bot.core.desk import Desk
from bot.core.errors import Forbidden, InvalidRequest, Unavailable
from bot.core.fairqueue import FairQueue
from bot.core.guilds import Rules, merge, role_weight, rules_from_json, rules_to_json
from bot.core.ports import Clock, Model, Store
from bot.core.request import JSON, Requester
from bot.core.rulebook import checked, problems
from bot.core.settings import Settings
from bot.core.weights import Weights

log = logging.getLogger(__name__)

SHELF: Final = "guilds"
MAX_CHANNELS: Final = 500  # with rules of their own, in one guild


@dataclass(frozen=True, slots=True)
class Book:
    """All rules of one guild: its own, and those of its channels by id. damaged: they cannot be read."""

    guild: Rules = field(default_factory=Rules)
    channels: Mapping[str, Rules] = field(default_factory=dict)
    damaged: bool = False


class HouseRules:
    """See the module. weights: those of tenants."""

    def __init__(self, settings: Settings, store: Store, queue: FairQueue, desk: Desk, clock: Clock) -> None:
        self.weights = Weights(store, queue, clock)
        self._settings = settings
        self._store = store
        self._queue = queue
        self._desk = desk
        self._books: dict[str, Book] = {}
        self._writing = asyncio.Lock()
        self._members: dict[tuple[str, str], float] = {}  # weights other than 1, by tenant and member

    # --- read ---

    async def rules(self, tenant: str, channel: str = "") -> Rules:
        """The guild's rules with the channel's over them."""
        book = await self._book(tenant)
        return merge(book.guild, book.channels[channel]) if channel in book.channels else book.guild

    async def in_force(self, by: Requester, channel: str) -> Rules:
        """The same for a request. Raises Unavailable where they cannot be read: they may forbid it."""
        if (await self._book(by.tenant)).damaged:
            raise Unavailable(
                f"The settings of this {by.nouns.guild} cannot be read. Ask an admin to set them again."
            )
        return await self.rules(by.tenant, channel)

    async def own_rules(self, tenant: str, channel: str = "") -> Rules:
        """What is said at exactly this level."""
        book = await self._book(tenant)
        return book.channels.get(channel, Rules()) if channel else book.guild

    async def _book(self, tenant: str) -> Book:
        if (known := self._books.get(tenant)) is not None:
            return known
        read = _book_from_json(tenant, await self._store.shelf_get(SHELF, tenant))
        return self._books.setdefault(tenant, read)  # whoever wrote meanwhile knows better

    # --- change ---

    def is_operator(self, by: Requester) -> bool:
        """Whether FAIRBRUSH_OPERATORS names them."""
        return by.member in self._settings.operators

    async def set_rules(
        self, by: Requester, rules: Rules, *, channel: str, admin: bool, models: Sequence[Model]
    ) -> Rules:
        """Replace the rules at this level; returns them with names as they are offered.

        Raises Forbidden unless `by` may manage the guild or is an operator, and InvalidRequest.
        """
        if not (admin and by.guild != "dm") and not self.is_operator(by):
            raise Forbidden(f"Only those who manage this {by.nouns.guild} can change its settings.")
        async with self._writing:
            book = await self._book(by.tenant)
            new = checked(
                rules,
                book.guild if channel else None,
                limits=self._settings.limits,
                models=models,
                styles=self._settings.styles,
                nouns=by.nouns,
            )
            await self._keep(by.tenant, _with(book, channel, new))
        for group in list(self._desk.groups.values()):
            if group.requester.tenant == by.tenant:
                await self.weigh(group.requester)
        return new

    async def problems(
        self, by: Requester, rules: Rules, *, channel: str, models: Sequence[Model]
    ) -> dict[str, str]:
        """What is wrong with rules for this level, by field."""
        return problems(
            rules,
            (await self._book(by.tenant)).guild if channel else None,
            limits=self._settings.limits,
            models=models,
            styles=self._settings.styles,
            nouns=by.nouns,
        )

    async def _keep(self, tenant: str, book: Book) -> None:
        await self._store.shelf_put(SHELF, tenant, _book_to_json(book))
        self._books[tenant] = book

    async def set_weight(self, by: Requester, tenant: str, weight: float) -> None:
        """A tenant's weight. Raises Forbidden unless `by` is an operator, and InvalidRequest."""
        if not self.is_operator(by):
            raise Forbidden("Only an operator can change a weight. FAIRBRUSH_OPERATORS names them.")
        await self.weights.set(tenant, weight)

    # --- the fair queue ---

    async def weigh(self, member: Requester) -> None:
        """Let a member's weight within the guild be that of their roles now."""
        key = member.tenant, member.member
        weight = role_weight(member.roles, (await self._book(member.tenant)).guild)
        if weight == self._members.get(key, 1.0):
            return
        self._queue.set_weight(member.tenant, weight, member.member)
        self._members.pop(key, None)
        if weight != 1.0:
            self._members[key] = weight


def _with(book: Book, channel: str, rules: Rules) -> Book:
    """The book with one level replaced; a channel that says nothing leaves it."""
    if not channel:
        return Book(rules, book.channels)
    channels = {name: said for name, said in book.channels.items() if name != channel}
    if rules.said():
        channels[channel] = rules
    if len(channels) > MAX_CHANNELS:
        raise InvalidRequest(
            f"At most {MAX_CHANNELS} channels can have settings of their own. Clear those of another first.",
            field="channel",
        )
    return Book(book.guild, channels)


def _book_to_json(book: Book) -> JSON:
    channels = {channel: rules_to_json(rules) for channel, rules in book.channels.items()}
    if not channels and not book.guild.said():
        return None
    return {"guild": rules_to_json(book.guild), "channels": channels}


def _book_from_json(tenant: str, data: JSON) -> Book:
    if data is None:
        return Book()
    try:
        if not isinstance(data, Mapping) or not isinstance(channels := data.get("channels"), Mapping):
            raise InvalidRequest("guild and channels missing")
        return Book(
            rules_from_json(data.get("guild")),
            {channel: rules_from_json(said) for channel, said in channels.items()},
        )
    except InvalidRequest as error:
        log.error("the rules of %s cannot be read: %s", tenant, error.message)
        return Book(damaged=True)
