"""kill -9 of the real program while hosted services work for it: none is asked for a picture twice, nothing
accepted is lost or shown twice, and where it cannot be known whether a job was taken its author hears so."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from tests.fakes.gates import Gates
from tests.fakes.hosted import HostedFake
from tests.fakes.postbox import Platform
from tests.fakes.program import Program
from tests.fakes.salad import SaladFake
from tests.fakes.stochastic import StochasticFake
from tests.test_kill import verdict

SEED = 20_260_301
SERVICE = ("arriving", "taken", "answered", "pending", "running", "fetching", "loading")
"""Where the service is when the program is killed: the POST came (its job is made when nobody waits for the
answer any more), its job is there, its answer is on the way, ..., its pictures are fetched."""
PLATFORM = ("delivering", "shown")
LATE = "late"
"""As `arriving`, but the job is made only after the program is back and has looked for it in vain."""
DOUBT = "may have been made and charged"


class StagedStochastic(StochasticFake):
    """Stochastic's service, held at stages; it has no `fetching` apart from `running`."""

    def __init__(self) -> None:
        super().__init__(polls=2)
        self.gates = Gates(SERVICE)

    @property
    def seeds(self) -> list[int]:
        """The seed of every picture that it was asked to make, in order."""
        return [int(body["params"]["seed"]) for body in self.bodies]

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        await self.gates.through("arriving")
        answer = await super()._submit(request)
        await self.gates.through("taken")
        return answer

    async def _inference(self, request: web.Request) -> web.StreamResponse:
        waits = self.gates.closed("pending") or self.gates.closed("running")
        (self.hold if waits else self.release)()
        answer = await super()._inference(request)
        if not waits:
            await self.gates.through("fetching")
        return answer

    async def _file(self, request: web.Request) -> web.StreamResponse:
        await self.gates.through("loading")
        return await super()._file(request)


@dataclass
class Stage:
    """A service, a platform, and the program between them. wanted: seeds that were asked of the program;
    doubtful: events whose job may have been taken without anybody knowing it."""

    service: SaladFake | StagedStochastic
    platform: Platform
    program: Program
    rng: random.Random
    wanted: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)

    @property
    def finds(self) -> bool:
        """Whether the service tells which jobs of ours it has."""
        return isinstance(self.service, SaladFake)

    async def kill_at(self, stage: str) -> None:
        """Ask for pictures, kill the program at a stage, start it again, and let the work end."""
        event = f"e{len(self.events)}"
        handing_in = stage in ("arriving", "taken", "answered", LATE)
        count = self.rng.randint(1, 3) if self.finds or not handing_in else 1
        seed = self.rng.randrange(2**31)
        self.events.append(event)
        self.wanted += range(seed, seed + count)
        if handing_in and not self.finds:
            self.doubtful.add(event)
        await self._come_to(stage, event, f"a fox --seed {seed} --count {count} --size 64x64", count)
        await self.program.kill()
        if stage == LATE:
            self.service.gates.hold("listing")
            await self.program.start()
            await self.service.gates.reached("listing")
        self.service.gates.release_all()  # in the order of the stages
        self.platform.release(stage)
        if stage != LATE:
            await self.program.start()
        await self.platform.until(lambda: self.ended(event))

    async def _come_to(self, stage: str, event: str, text: str, count: int) -> None:
        if stage in PLATFORM:
            self.platform.hold(stage)
            await self.platform.post(event, text)
            await self.platform.reached(stage)
            return
        held = {"answered": "taken", LATE: "arriving"}.get(stage, stage)
        several = stage in ("arriving", "taken", "answered", "loading")
        self.service.gates.hold(held, skip=self.rng.randrange(count) if several else 0)
        await self.platform.post(event, text)
        await self.service.gates.reached(held)
        if stage == "answered":
            self.service.gates.release(held)
            await asyncio.sleep(self.rng.uniform(0, 0.02))  # anywhere between the answer and the first poll

    def ended(self, event: str) -> bool:
        """Whether people see how it ended."""
        return any(message.text.startswith(("done", "failed")) for message in self.platform.answers(event))

    def in_doubt(self, event: str) -> bool:
        """Whether its author was told that it may have been made."""
        return any(DOUBT in message.text for message in self.platform.answers(event))

    def check(self, stages: list[str]) -> None:
        """Nothing was asked for twice, and every author was answered once."""
        asked = Counter(self.service.seeds)
        twice = {seed: times for seed, times in asked.items() if times > 1}
        doubts = [event for event in self.events if self.in_doubt(event)]
        wrong = verdict(self.platform, [event for event in self.events if event not in doubts])
        print(
            f"kills {len(stages)}: {dict(Counter(stages))}; pictures wanted {len(self.wanted)}, asked for "
            f"{sum(asked.values())}, twice {len(twice)}; told in doubt {len(doubts)}; wrong {dict(wrong)}"
        )
        assert set(self.events) <= self.platform.acknowledged
        assert not twice
        assert set(asked) == set(self.wanted)
        assert not wrong
        assert set(doubts) <= self.doubtful


@asynccontextmanager
async def stage_set(folder: Path, service: SaladFake | StagedStochastic, seed: int) -> AsyncIterator[Stage]:
    """All three; the program runs."""
    platform = Platform()
    await platform.start()
    await service.start()
    program = Program(
        ["--platform", platform.url, "--data-dir", str(folder)],
        environment(service),
        module="tests.fakes.hosted_program",
    )
    try:
        await program.start()
        yield Stage(service, platform, program, random.Random(seed))
    finally:
        await program.kill()
        await platform.aclose()
        await service.stop()


def environment(service: HostedFake) -> Mapping[str, str]:
    """Settings for the program."""
    if isinstance(service, SaladFake):
        return {
            "FAIRBRUSH_BACKENDS": "salad:acme/pictures",
            "FAIRBRUSH_SALAD_URL": service.url,
            "SALAD_API_KEY": service.secret,
        }
    return {
        "FAIRBRUSH_BACKENDS": "stochastic:stable-diffusion-2",
        "FAIRBRUSH_STOCHASTIC_URL": service.url,
        "STOCHASTIC_API_KEY": service.secret,
    }


async def rounds(folder: Path, service: SaladFake | StagedStochastic, stages: list[str], seed: int) -> None:
    """Kill once for each entry of `stages`, in one data folder, then look at everything."""
    print(f"seed {seed}, {type(service).__name__}")
    async with stage_set(folder, service, seed) as stage:
        for name in stages:
            await stage.kill_at(name)
        stage.check(stages)
        assert await stage.program.stop() == 0


async def test_salad_is_asked_once_through_kill_9(tmp_path: Path) -> None:
    await rounds(tmp_path, SaladFake(form="links"), ["arriving", "taken", "loading"], SEED)


async def test_stochastic_is_never_asked_twice_through_kill_9(tmp_path: Path) -> None:
    await rounds(tmp_path, StagedStochastic(), ["taken", "running"], SEED)


@pytest.mark.soak
@pytest.mark.parametrize("service", [SaladFake, StagedStochastic])
async def test_hosted_jobs_survive_thirty_kills(
    service: type[SaladFake] | type[StagedStochastic], tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    fake = SaladFake(form="links") if service is SaladFake else StagedStochastic()
    kinds = [*SERVICE, *PLATFORM, *([LATE] if service is SaladFake else [])]
    stages = [*kinds * (30 // len(kinds)), *rng.choices(kinds, k=30 % len(kinds))]
    rng.shuffle(stages)
    await rounds(tmp_path, fake, stages, seed)
