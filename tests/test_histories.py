"""Random histories of everything at once: requests, cancels, deletes, full disks, failing and odd backends.

After every step the books are right, and in the end every accepted request was shown exactly once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from bot.core.errors import FairbrushError, RateLimited, Unavailable
from bot.core.ports import CancelOutcome
from bot.core.request import Limits, Requester
from tests.fakes.house import House, house
from tests.fakes.memory_store import Data
from tests.fakes.notebook import Notebook
from tests.fakes.trouble import OddBackend, TroubledStore

STEPS = 75
WRITES = ("save_address", "start", "save_ref", "requeue", "finish", "delivered", "renew", "postpone")


class History:
    """What happens to a program, over its restarts."""

    home: House
    store: TroubledStore
    backends: list[OddBackend]

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.accepted: dict[str, tuple[str, Requester]] = {}
        self.deleted: set[str] = set()

    def begin(self, home: House, store: TroubledStore, backends: list[OddBackend]) -> None:
        """The program was started, with a store and backends of its own."""
        self.home, self.store, self.backends = home, store, backends

    async def step(self) -> None:
        """Do one thing."""
        does = [self.ask] * 6 + [self.cancel] * 3 + [self.delete] + [self.trouble] * 3 + [self.wait] * 4
        await self.rng.choice(does)()
        await self.home.clock.advance(0.0)
        self.home.check()

    async def ask(self) -> None:
        """Somebody asks, now and then twice."""
        rng = self.rng
        by = Requester("notebook", rng.choice("ghi"), rng.choice("abc"))
        key = f"k{len(self.accepted)}"
        text = rng.choice(["a star", "a {red, green, blue} star", "a star --count 3"])
        for _ in range(rng.choice([1, 1, 1, 2])):
            try:
                ticket = await self.home.ask(text, user=by.user, guild=by.guild, key=key)
            except FairbrushError:
                return
            self.accepted[ticket.group_id] = (key, by)

    async def cancel(self) -> None:
        """Somebody cancels, and may not wait for the answer."""
        if self.home.desk.groups:
            group = self.rng.choice(list(self.home.desk.groups.values()))
            self._begin(self.home.studio.cancel(group.group_id, group.requester))

    async def delete(self) -> None:
        """Somebody deletes a request in whatever state it is."""
        if self.accepted:
            group_id = self.rng.choice(list(self.accepted))
            self.deleted.add(group_id)
            self._begin(self.home.studio.delete(group_id, self.accepted[group_id][1]))

    def _begin(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        if self.rng.random() < 0.2:
            asyncio.get_running_loop().call_soon(task.cancel)

    async def trouble(self) -> None:
        """Something breaks."""
        rng, backend = self.rng, self.rng.choice(self.backends)
        kind = rng.randrange(5)
        if kind == 0:
            self.store.full[rng.choice(WRITES)] += rng.randint(1, 3)
        elif kind == 1:
            error = rng.choice(
                [
                    Unavailable("crashed", accepted=False),
                    Unavailable("no answer"),
                    RateLimited("slow down", retry_after=3.0, accepted=False),
                ]
            )
            backend.fail(error, at=rng.choice(["submit", "start", "picture", "done"]))
        elif kind == 2:
            backend.cancel_says = rng.choice([None, None, *CancelOutcome])
        elif kind == 3:
            backend.broken ^= {rng.choice(["capabilities", "health", "cancel"])}
        else:
            page = self.home.page(f"k{len(self.accepted) + rng.randrange(3)}")
            page.failures[rng.choice(["prepare", "show", "deliver"])] = [Unavailable("down")]

    async def wait(self) -> None:
        """Time passes."""
        await self.home.clock.advance(self.rng.choice([0.1, 1.0, 5.0]))
        await asyncio.sleep(0.002)

    async def end(self, *, restarted: bool) -> None:
        """Let everything come to its end, then look."""
        for backend in self.backends:
            backend.broken.clear()
            backend.cancel_says = None
        await self.home.until_passing(self.home.idle, step=1.0, steps=1500)
        deleting = self.home.studio._remakes._tasks
        await self.home.until(lambda: not deleting)  # also what nobody waits for any more
        self.home.check()
        assert self.home.queue.running() == len(self.home.queue) == 0
        assert not self.home.desk._reserved
        assert not self.home.app._courier._lines
        data = self.store.data
        assert not data.outbox
        kept = {p.name for g in data.groups.values() for job in g.jobs for p in job.pictures}
        files = {path.name for path in self.home.app.settings.pictures_dir.iterdir()}
        assert files >= kept if restarted else files == kept  # a crash may leave a file that nothing names
        for group_id, (key, _) in self.accepted.items():
            shown = {tuple(p.name for p in result.pictures) for result in self.home.page(key).delivered}
            assert len(shown) == 1 or (group_id in self.deleted and not shown), (key, shown)
        assert data.groups.keys() <= self.accepted.keys()


def odd_backends() -> list[OddBackend]:
    """Two places that make pictures."""
    return [OddBackend("fake:a", slots=2), OddBackend("fake:b")]


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("seed", range(4))
async def test_the_books_are_right_after_every_step_of_a_random_history(
    tmp_path: Path, seed: int, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.core.running.STOP_MOST", 0.1)
    data, notebook, history = Data(), Notebook(), History(seed)
    limits = Limits(waiting_per_user=8, waiting_per_guild=12)
    for run in range(runs):  # stopped at once and started again in between
        store, backends = TroubledStore(data), odd_backends()
        async with house(
            tmp_path,
            store=store,
            backends=backends,
            notebook=notebook,
            limits=limits,
            job_timeout=40.0,
        ) as home:
            history.begin(home, store, backends)
            for _ in range(STEPS // runs):
                await history.step()
            if run == runs - 1:
                await history.end(restarted=runs > 1)
        for page in notebook.pages.values():
            times = Counter(tuple(p.name for p in result.pictures) for result in page.delivered)
            assert len(times) <= 1
