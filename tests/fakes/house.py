"""The whole core with a notebook for a platform, a fake backend, and time moved by hand."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bot.app import App, build
from bot.core.desk import Desk
from bot.core.fairqueue import FairQueue
from bot.core.ports import Backend, Store
from bot.core.request import Requester, State
from bot.core.settings import BackendEntry, Settings
from bot.core.studio import Studio, Submission, Ticket
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.memory_store import MemoryStore
from tests.fakes.notebook import Notebook, Page


@dataclass
class House:
    """A running program. `ask` submits for a member; each request has a page of its own, named by its key."""

    app: App
    clock: HandClock
    notebook: Notebook
    store: Store
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def studio(self) -> Studio:
        """What adapters call."""
        return self.app.studio

    @property
    def desk(self) -> Desk:
        """What is in hand."""
        return self.app.studio._desk

    @property
    def queue(self) -> FairQueue:
        """The fair queue."""
        return self.app._dispatcher._queue

    def idle(self) -> bool:
        """Whether nothing is left to do."""
        return not self.desk.groups and not self.app._dispatcher._running

    def check(self) -> None:
        """The books are right: the queue runs what the dispatcher runs, and waiting jobs are counted."""
        running = [each.job for each in self.app._dispatcher._running.values() if each.job.dispatched]
        assert self.queue.running() == len(running)
        waiting = Counter[str]()
        for group in self.desk.groups.values():
            jobs = sum(job.state in (State.ACCEPTED, State.QUEUED) for job in group.jobs)
            who = group.requester
            here = f"{who.member} in {who.tenant}"
            waiting += Counter({who.member: jobs, who.tenant: jobs, here: jobs})
        assert self.desk._reserved == waiting

    async def ask(self, text: str, *, user: str = "ann", guild: str = "g1", key: str | None = None) -> Ticket:
        """Submit a request."""
        key = key or f"k{next(self._numbers)}"
        requester = Requester(self.notebook.name, guild, user)
        return await self.studio.submit(Submission(requester, key, {"page": key}, text=text))

    def page(self, key: str) -> Page:
        """What the request with this key was shown."""
        return self.notebook.page(key)

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait in real time, for work in threads; the program's own time stands still meanwhile."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)

    async def until_passing(
        self, condition: Callable[[], bool], *, step: float = 0.25, steps: int = 4000
    ) -> None:
        """Move the program's time on in steps until something is so."""
        for _ in range(steps):
            if condition():
                return
            await self.clock.advance(step)
            await asyncio.sleep(0.001)
        raise TimeoutError("it never came to that")


@asynccontextmanager
async def house(
    folder: Path,
    *,
    backends: Sequence[Backend] | None = None,
    store: Store | None = None,
    notebook: Notebook | None = None,
    now: float = 1_700_000_000.0,
    entries: Sequence[BackendEntry] = (BackendEntry("fake", ""),),
    **settings: object,
) -> AsyncIterator[House]:
    """A running program in `folder`, started at `now`; entries: what FAIRBRUSH_BACKENDS says of the backends;
    settings as of Settings."""
    clock = HandClock(now)
    notebook = notebook or Notebook()
    store = store or MemoryStore()
    made = Settings(data_dir=folder, backends=tuple(entries), **settings)  # type: ignore[arg-type]
    app = build(
        made,
        adapters=[notebook],
        backends=[FakeBackend()] if backends is None else backends,
        clock=clock.clock,
        serve=False,
        store=store,
    )
    try:
        await app.start()
        yield House(app, clock, notebook, store)
    finally:
        await app.aclose()
