"""Where the pictures of one web request are shown: every open page of the browser that asked.

There is no message to make: the page reads the present state from the store whenever it opens, so telling
it is only for those who are looking.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from adapters.web.hub import Hub, Member
from bot.core.ports import Address, JobStatus
from bot.core.request import ImageResult, Requester


def address_of(requester: Requester) -> Address:
    """What is stored with a request of this visitor."""
    return {"guild": requester.guild, "user": requester.user}


class WebConversation:
    """The Conversation port over the hub."""

    def __init__(self, hub: Hub, address: Address) -> None:
        self._hub = hub
        self._address = address
        self._member: Member = (str(address.get("guild", "")), str(address.get("user", "")))

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        """Nothing to make: the address is complete from the start."""
        await store(self._address)
        return self._address

    async def show(self, status: JobStatus) -> None:
        """Tell the open pages."""
        self._hub.publish(self._member, status)

    async def deliver(self, result: ImageResult) -> None:
        """Tell the open pages; they show a result by its group, so twice is once."""
        self._hub.publish(self._member, result)
