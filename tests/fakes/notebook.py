"""A platform in memory: what each conversation was shown, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from bot.core.errors import FairbrushError
from bot.core.ports import Address, Conversation, JobStatus, Pace
from bot.core.request import ImageResult
from bot.core.studio import Studio


@dataclass
class Page:
    """One conversation. prepared: messages made; failures: errors that the next calls raise, by method."""

    prepared: int = 0
    shown: list[JobStatus] = field(default_factory=list)
    delivered: list[ImageResult] = field(default_factory=list)
    failures: dict[str, list[FairbrushError]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def meet(self, method: str) -> None:
        """Raise the next failure planned for a method."""
        planned = self.failures.get(method, [])
        if planned:
            raise planned.pop(0)
        self.changed.set()


class Notebook:
    """The adapter. Pages are kept by the address's "page"."""

    def __init__(self, name: str = "notebook", pace: Pace | None = None) -> None:
        self.name = name
        self.pace = pace or Pace(1.0, 1000)
        self.pages: dict[str, Page] = {}

    def page(self, name: str) -> Page:
        """The page with this name, new if need be."""
        return self.pages.setdefault(name, Page())

    def routes(self) -> Sequence[object]:
        """None."""
        return ()

    async def run(self, studio: Studio) -> None:
        """Nothing to serve."""

    def conversation(self, address: Address) -> Conversation:
        """The page at an address."""
        return _PageConversation(self.page(str(address["page"])), address)

    async def aclose(self) -> None:
        """Nothing to close."""

    async def delivered(self, name: str, seconds: float = 20.0) -> ImageResult:
        """The result on a page, once it is there (in real time)."""
        page = self.page(name)
        async with asyncio.timeout(seconds):
            while not page.delivered:
                page.changed.clear()
                await page.changed.wait()
        return page.delivered[-1]


class _PageConversation:
    def __init__(self, page: Page, address: Address) -> None:
        self._page = page
        self._address = address

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        self._page.meet("prepare")
        if "message" not in self._address:
            self._page.prepared += 1
            self._address = {**self._address, "message": 1}
            await store(self._address)
        return self._address

    async def show(self, status: JobStatus) -> None:
        self._page.meet("show")
        self._page.shown.append(status)

    async def deliver(self, result: ImageResult) -> None:
        self._page.meet("deliver")
        self._page.delivered.append(result)
        self._page.changed.set()
