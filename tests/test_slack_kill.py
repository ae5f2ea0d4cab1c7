"""kill -9 of the real program at the local Slack, with a request unfinished at every kill.

Whatever was acknowledged comes to its end: every picture once, in its thread. A repeated status line is the
worst that may happen.
"""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from bot.core.pictures import read_recipe
from bot.store.sqlite import open_store
from tests.fakes.backend import colour_of
from tests.fakes.program import Program
from tests.fakes.slack import Slack
from tests.fakes.slack_events import Delivery
from tests.fakes.slack_look import Picture
from tests.fakes.slack_state import Message
from tests.fakes.slack_trouble import with_result

SEED = 20_260_303

# The stages of a request, in order: those of slack_trouble.py, and `queued`, behind another one that runs.
STAGES = (
    "ack",
    "root",
    "root-posted",
    "status",
    "status-posted",
    "queued",
    "started",
    "running",
    "upload",
    "uploaded",
    "complete",
    "completed",
    "processing",
    "deliver",
    "delivered",
)
# Where Slack takes no picture in a message, and files are shared into the thread; slow, so for the long run.
SHARED = ("shared complete", "shared completed")


@dataclass
class Job:
    """A request: what it is called, and the seeds of its pictures."""

    prompt: str
    seed: int
    count: int
    asking: asyncio.Task[Delivery]

    @property
    def expected(self) -> list[tuple[str, int]]:
        """Prompt and seed of each picture."""
        return [(self.prompt, self.seed + index) for index in range(self.count)]

    @property
    def acknowledged(self) -> bool:
        """Whether Slack saw its acknowledgement."""
        return self.asking.done() and not self.asking.result().failure


@dataclass
class Show:
    """A program at the local Slack, and all that was asked of it."""

    slack: Slack
    program: Program
    data_dir: Path
    rng: random.Random
    jobs: list[Job] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    async def start(self) -> None:
        """Start it, and wait until it is connected."""
        await self.program.start()
        await self.slack.connected(seconds=60)

    async def kill(self, stage: str) -> None:
        """kill -9, and wait until Slack noticed."""
        await self.program.kill()
        self.kills[stage] += 1
        await self.slack.until(lambda: not self.slack.sockets.connections, 60)

    def ask(self, *, count: int = 0) -> Job:
        """Somebody asks."""
        number, seed = len(self.jobs), self.rng.randrange(2**32 - 20)
        count = count or self.rng.randint(1, 3)
        prompt = f"a blue fox {number}"
        asking = asyncio.ensure_future(self.slack.bob.command(f"{prompt} --seed {seed} --count {count}"))
        self.jobs.append(Job(prompt, seed, count, asking))
        return self.jobs[-1]

    async def round(self, stage: str, *, crowd: bool = False) -> None:
        """Ask, let it come to a stage, kill, start again, wait for the end. crowd: another request is on its
        way meanwhile."""
        shared = stage.startswith("shared ")
        name = stage.removeprefix("shared ")
        if crowd:
            await self.ask().asking
        if shared:
            self.slack.refuse("chat.update", "invalid_blocks", times=-1, where=with_result)
        blocker = "running" if name == "queued" else name
        self._hold(blocker, shared)
        if name == "queued":
            await self.ask().asking
            await self._reached(blocker)
        job = self.ask()
        if name == "queued":
            await self.slack.until(lambda: self._waits(job), 30)
        await self._reached(blocker)
        if name != "ack":
            await job.asking
        await self.kill(stage)
        self._release(blocker)
        await self.start()
        await self.settled()
        self.slack.mend()

    def _waits(self, job: Job) -> bool:
        return any("Next" in m.text or "ahead" in m.text for m in self.statuses(job))

    def _hold(self, name: str, shared: bool) -> None:
        if shared:
            self.slack.hold(
                "files.completeUploadExternal",
                lambda call: bool(call.get("channel_id")),
                after=name == "completed",
            )
        else:
            self.slack.hold(name)

    async def _reached(self, name: str) -> None:
        await self.slack.reached(self._gate(name))

    def _release(self, name: str) -> None:
        self.slack.release(self._gate(name), lose=name == "ack")

    def _gate(self, name: str) -> str:
        gates = self.slack.troubles.gates
        return name if name in gates else "files.completeUploadExternal"

    async def settled(self) -> None:
        """Until every request shows its result."""
        await self.slack.until(lambda: all(map(self.has_ended, self.jobs)), 60)
        await asyncio.gather(*(job.asking for job in self.jobs))

    # --- looking ---

    def has_ended(self, job: Job) -> bool:
        """Whether its status message says so, and then its receipt, which is the last thing that is done."""
        said = (*self.statuses(job), *self.roots(job))
        return sum(":white_check_mark:" in message.text for message in said) >= 2

    def roots(self, job: Job) -> list[Message]:
        """The receipts of a request: more than one where it was killed between posting and noting one."""
        found = [m for m in self.slack.world.messages.values() if m.bot_id and not m.thread_ts]
        return [message for message in found if job.prompt + "*" in message.first_text]

    def statuses(self, job: Job) -> list[Message]:
        """Everything in its threads."""
        return [message for root in self.roots(job) for message in self.slack.thread(root)]

    def shown(self, job: Job) -> list[tuple[str, int]]:
        """Prompt and seed of each picture in its threads."""
        return [_read(picture) for picture in self.slack.images(self.statuses(job))]


def _read(picture: Picture) -> tuple[str, int]:
    """By its recipe; the seed is also its colour."""
    found = read_recipe(picture.data)
    assert found is not None
    seed = found.recipe["seed"]
    assert isinstance(seed, int)
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.getpixel((0, 0)) == colour_of(seed)
    return str(found.recipe["prompt"]), seed


def wrongs(show: Show) -> Counter[str]:
    """What went wrong, counted by kind."""
    wrong = Counter[str]()
    everywhere = Counter(
        _read(picture)
        for message in show.slack.world.messages.values()
        if message.bot_id and not message.deleted
        for picture in show.slack.images(message)
    )
    for job in show.jobs:
        wrong["lost"] += not show.has_ended(job)
        wrong["pictures"] += sorted(show.shown(job)) != sorted(job.expected)
        wrong["doubled"] += any(everywhere[each] > 1 for each in job.expected)
        wrong["pinged"] += sum("ready" in message.text for message in show.statuses(job)) > 1
    return +wrong


def repeated(show: Show) -> int:
    """Status lines that are there more than once: the worst that may happen."""
    return sum(len(show.roots(job)) - 1 + max(0, len(show.statuses(job)) - 2) for job in show.jobs)


@asynccontextmanager
async def show_at(tmp_path: Path, seed: int) -> AsyncIterator[Show]:
    """A running program at an empty Slack."""
    async with Slack() as slack:
        slack.courier.ack_seconds = 30.0  # the machine may be slow; what is late is another test's
        app = slack.world.app
        environment = {
            "SLACK_BOT_TOKEN": slack.token,
            "SLACK_APP_TOKEN": app.app_token,
            "FAIRBRUSH_SLACK_API_URL": slack.api_url,
        }
        arguments = ["--stages", slack.url, "--data-dir", str(tmp_path)]
        program = Program(arguments, environment)
        show = Show(slack, program, tmp_path, random.Random(seed))
        try:
            await show.start()
            yield show
        finally:
            await program.kill()
            for job in show.jobs:
                job.asking.cancel()


async def close(show: Show, seed: int, stages: Sequence[str], began: float) -> None:
    """Stop the program, then judge everything."""
    assert await show.program.stop() == 0
    wrong = wrongs(show)
    acknowledged = sum(job.acknowledged for job in show.jobs)
    print(
        f"\nseed {seed}; kills {dict(show.kills)}; asked {len(show.jobs)}, acknowledged {acknowledged}, "
        f"pictures {sum(job.count for job in show.jobs)}; repeated lines {repeated(show)}; "
        f"wrong {dict(wrong)}; {time.monotonic() - began:.0f} s"
    )
    assert not wrong, show.slack.story()
    assert acknowledged >= len(show.jobs) - show.kills["ack"]
    store = await open_store(show.data_dir / "fairbrush.sqlite3")
    try:
        assert await store.unfinished() == []
        assert await store.outbox(limit=10) == []
    finally:
        await store.aclose()


async def test_requests_survive_a_kill_in_every_stage(tmp_path: Path) -> None:
    began = time.monotonic()
    async with show_at(tmp_path, SEED) as show:
        for stage in STAGES:
            await show.round(stage)
        await close(show, SEED, STAGES, began)


@pytest.mark.soak
async def test_requests_survive_ten_kills_in_every_stage(tmp_path: Path) -> None:
    began, seed = time.monotonic(), random.SystemRandom().randrange(2**32)
    stages = [*STAGES, *SHARED] * 10
    random.Random(seed).shuffle(stages)
    async with show_at(tmp_path, seed) as show:
        for stage in stages:
            await show.round(stage, crowd=show.rng.random() < 0.5)
        await close(show, seed, stages, began)
