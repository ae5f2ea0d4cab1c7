"""kill -9 of the real program on the local Discord, with a request unfinished at every kill.

Whatever was acknowledged comes to its end exactly once: one receipt, one thread, one status message, every
picture once, at most one word that it is ready. What was never acknowledged is shown to nobody.
"""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from discord.http import Route
from PIL import Image

from adapters.discord.adapter import Discord
from bot.core.pictures import read_recipe
from bot.core.settings import Settings
from bot.store.sqlite import open_store
from tests.fakes.backend import colour_of
from tests.fakes.discord import Interaction, Message, Picture, pictures, text
from tests.fakes.discord_stages import Stages
from tests.fakes.program import Program

SEED = 20_260_202
AWAY = 61.0  # seconds that each restart seems to take: who waited over 60 s is told when it is ready


@dataclass(frozen=True, slots=True)
class Point:
    """Where the program is killed. applied: Discord did what was asked, and its answer was lost; again: it
    was killed once before, while the backend ran; count: pictures of each prompt; skip: so many requests of
    the kind pass; rare: left to the long run."""

    kind: str
    applied: bool = False
    again: bool = False
    count: int = 0
    skip: int = 0
    rare: bool = False


STAGES: dict[str, tuple[Point, ...]] = {
    "acknowledging": (Point("answer"), Point("answer", applied=True)),
    "preparing": (
        Point("thread"),
        Point("thread", applied=True),
        Point("status"),
        Point("status", applied=True),
    ),
    "queued": (Point("queued"),),
    "running": (Point("started"), Point("running")),
    "delivering": (
        Point("pictures"),
        Point("pictures", applied=True),
        Point("more", count=6, rare=True),
        Point("more", applied=True, count=6),
        Point("pictures", applied=True, count=6, skip=1, rare=True),
        Point("receipt", rare=True),
        Point("receipt", applied=True),
        Point("ping", again=True, rare=True),
        Point("ping", applied=True, again=True),
    ),
}


@dataclass
class Job:
    """A request, and what is to come of it: a picture for each prompt and seed, in this order."""

    call: Interaction
    prompts: tuple[str, ...]
    seed: int
    count: int

    @property
    def expected(self) -> list[tuple[str, int]]:
        """Prompt and seed of each picture."""
        return [(prompt, self.seed + at) for prompt in self.prompts for at in range(self.count)]


@dataclass
class Show:
    """A program at the local Discord, and all that was asked of it."""

    discord: Stages
    program: Program
    data_dir: Path
    rng: random.Random
    jobs: list[Job] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0

    def __post_init__(self) -> None:
        self.guild = self.discord.guild()
        self.channel = self.discord.channel(self.guild, "general")
        self.ann = self.discord.member(self.guild, "ann")

    # --- the program ---

    async def start(self) -> None:
        """Start it, later than ever before, and wait until it is connected."""
        await self.program.start("--ahead", str(self.starts * AWAY))
        self.starts += 1
        await self.discord.until(lambda: self.discord.gateway.connected, 60, "a connection")
        await self.discord.until(lambda: self.discord.world.commands, 60, "commands")

    async def kill(self, stage: str) -> None:
        """kill -9, and wait until Discord noticed."""
        await self.program.kill()
        self.kills[stage] += 1
        await self.discord.until(lambda: not self.discord.gateway.connected, what="the end")

    # --- the requests ---

    def ask(self, count: int = 0) -> Job:
        """Somebody asks; count: of each of two prompts, 0 for a few of one."""
        number, seed = len(self.jobs), self.rng.randrange(2**32 - 20)
        names = ("red", "green") if count else ("blue",)
        prompts = tuple(f"a {name} fox {number}" for name in names)
        prompt = f"a {{red, green}} fox {number}" if count else prompts[0]
        count = count or self.rng.randint(1, 3)
        call = self.discord.type(self.channel, self.ann, "imagine", prompt=prompt, seed=seed, count=count)
        self.jobs.append(Job(call, prompts, seed, count))
        return self.jobs[-1]

    async def acknowledged(self, job: Job) -> None:
        """Wait for the receipt."""
        await self.discord.answered(job.call)

    def settled(self, job: Job) -> bool:
        """Whether it has ended: its receipt says so, or nobody could be answered and that was found out."""
        if job.call.original is not None:
            return text(job.call.original).startswith("✅")
        asked = f"/{job.call.token}/messages/@original"
        return any(each.path.endswith(asked) for each in self.discord.traffic)

    async def all_settled(self) -> None:
        """Wait until everything has ended."""
        await self.discord.until(lambda: all(map(self.settled, self.jobs)), 60, "the end of all requests")

    # --- one kill ---

    async def round(self, stage: str, point: Point, *, crowd: bool = False) -> None:
        """Ask, let it come to the point, kill, start again, wait for the end. crowd: another request is on
        its way meanwhile."""
        if crowd:
            await self.acknowledged(self.ask())
        blocker = "running" if point.kind == "queued" or point.again else point.kind
        halt = self.discord.halt(blocker, applied=point.applied, skip=point.skip)
        if point.kind == "queued":
            await self.acknowledged(self.ask())
            await halt.full()
        job = self.ask(point.count)
        if point.kind == "queued":
            await self.discord.until(lambda: self._waits(job), what="a place in the queue")
        await halt.full()
        if point.kind != "answer":
            await self.acknowledged(job)
        if point.again:
            await self.kill(stage)
            halt.end()
            halt = self.discord.halt(point.kind, applied=point.applied)
            await self.start()
            await halt.full()
        await self.kill(stage)
        halt.end()
        await self.start()
        await self.all_settled()

    def _waits(self, job: Job) -> bool:
        return any("Next" in text(message) or "ahead" in text(message) for message in self.thread(job))

    # --- looking ---

    def thread(self, job: Job) -> list[Message]:
        """What its thread shows."""
        thread = self.discord.thread(job.call.original) if job.call.original else None
        return self.discord.messages(thread) if thread else []


def shown(message: Message) -> list[tuple[str, int]]:
    """Prompt and seed of each full picture of a message, by its recipe; the seed is also its colour."""
    return [_read(each) for each in pictures(message) if each.filename.endswith(".png")]


def _read(picture: Picture) -> tuple[str, int]:
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
    world = show.discord.world
    everything = [each for channel in world.channels.values() for each in channel.messages.values()]
    everywhere = Counter(seen for message in everything for seen in shown(message))
    known = 0
    for job in show.jobs:
        if job.call.original is None:
            wrong["half shown"] += any(every in everywhere for every in job.expected)
            continue
        known += 1
        wrong += _wrongs_of(show, job, everywhere)
    wrong["receipts"] += len(show.discord.messages(show.channel)) != known
    wrong["threads"] += len(show.guild.threads) != known
    wrong["private"] += len(world.hidden)
    return +wrong


def _wrongs_of(show: Show, job: Job, everywhere: Counter[tuple[str, int]]) -> Counter[str]:
    wrong = Counter[str]()
    thread = show.thread(job)
    pings = [message for message in thread if message.pings]
    said = [message for message in thread if not message.pings]
    wrong["lost"] += not show.settled(job)
    wrong["pictures"] += [each for message in said for each in shown(message)] != job.expected
    wrong["doubled"] += any(everywhere[each] != 1 for each in job.expected)
    wrong["statuses"] += len(said) != -(-len(job.expected) // 10)
    wrong["pings"] += len(pings) > 1 or any("ready" not in text(each) for each in pings)
    wrong["changed"] += any(len(_results(message)) > 1 for message in said)
    return wrong


def _results(message: Message) -> set[tuple[str, ...]]:
    """The different results that a message ever showed, by the names of their files."""
    return {edit.files for edit in message.edits if any("fairbrush-" in name for name in edit.files)}


@asynccontextmanager
async def show_at(tmp_path: Path, seed: int) -> AsyncIterator[Show]:
    """A running program at an empty Discord."""
    async with Stages() as discord:
        environment = {
            "DISCORD_TOKEN": discord.token,
            "FAIRBRUSH_DISCORD_API_URL": discord.api_url,
            "FAIRBRUSH_DISCORD_GATEWAY_URL": discord.gateway_url,
        }
        arguments = ["--stages", discord.stages_url, "--data-dir", str(tmp_path)]
        program = Program(arguments, environment)
        show = Show(discord, program, tmp_path, random.Random(seed))
        try:
            await show.start()
            yield show
        finally:
            await program.kill()


async def close(show: Show, seed: int, points: Sequence[Point], began: float) -> None:
    """Stop the program, then judge everything."""
    assert await show.program.stop() == 0
    wrong = wrongs(show)
    known = [job for job in show.jobs if job.call.original is not None]
    dropped = len(show.jobs) - len(known)
    told = Counter(f"{point.kind}{' taken' if point.applied else ''}" for point in points)
    pings = sum(bool(message.pings) for job in known for message in show.thread(job))
    print(
        f"\nseed {seed}; kills {dict(show.kills)} at {dict(told)}; acknowledged {len(known)} with "
        f"{sum(len(job.expected) for job in known)} pictures, told {pings}; never acknowledged {dropped}, "
        f"shown to nobody; wrong {dict(wrong)}; {time.monotonic() - began:.0f} s"
    )
    assert not wrong, show.discord.told()
    assert show.discord.violations == []
    store = await open_store(show.data_dir / "fairbrush.sqlite3")
    try:
        assert await store.unfinished() == []
        assert await store.outbox(limit=10) == []
    finally:
        await store.aclose()


async def test_what_goes_on_after_a_restart_asks_the_address_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is asked before the connection begins."""
    monkeypatch.setattr(Route, "BASE", Route.BASE)
    urls = {"discord": "http://127.0.0.1:9/api"}
    Discord(Settings(data_dir=tmp_path, platform_urls=urls))
    assert Route("GET", "/users/@me").url == "http://127.0.0.1:9/api/users/@me"


@pytest.mark.parametrize("stage", list(STAGES))
async def test_a_request_survives_kill_9(stage: str, tmp_path: Path) -> None:
    began = time.monotonic()
    points = [point for point in STAGES[stage] if not point.rare]
    async with show_at(tmp_path, SEED) as show:
        for point in points:
            await show.round(stage, point)
        await close(show, SEED, points, began)


@pytest.mark.soak
@pytest.mark.parametrize("stage", list(STAGES))
async def test_requests_survive_ten_kills_at_each_point(stage: str, tmp_path: Path) -> None:
    """Each stage in a folder of its own: Discord bears only so many connections a day, which the program
    counts."""
    began, seed = time.monotonic(), random.SystemRandom().randrange(2**32)
    points = list(STAGES[stage]) * 10
    random.Random(seed).shuffle(points)
    async with show_at(tmp_path, seed) as show:
        for point in points:
            await show.round(stage, point, crowd=show.rng.random() < 0.5)
        await close(show, seed, points, began)
