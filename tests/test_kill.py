"""kill -9 of the real program at every stage of a job: nothing acknowledged is lost or shown twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.postbox import STAGES, Platform
from tests.fakes.program import Program

SEED = 20_260_101


@asynccontextmanager
async def stage_set(data_dir: Path) -> AsyncIterator[tuple[Platform, Program]]:
    """A platform and a program that is not running yet."""
    platform = Platform()
    await platform.start()
    program = Program(["--platform", platform.url, "--data-dir", str(data_dir)])
    try:
        yield platform, program
    finally:
        await program.kill()
        await platform.aclose()


async def kill_at(platform: Platform, program: Program, stage: str, event: str, rng: random.Random) -> None:
    """Post a job, let it come to a stage, kill, start again. A job is unfinished at the kill."""
    count, seed = rng.randint(1, 3), rng.randrange(2**32)
    blocker = "running" if stage == "queued" else stage
    platform.hold(blocker)
    if stage == "queued":
        await platform.post(f"{event}-first", "in the way --seed 1", user="bob")
        await platform.reached("running")
    await platform.post(event, f"a picture --seed {seed} --count {count}")
    if stage == "queued":
        await platform.until(lambda: any(m.text == "queued" for m in platform.answers(event)))
    else:
        await platform.reached(stage)
    await program.kill()
    platform.release(blocker)
    await program.start()


def expected(platform: Platform, event: str) -> bool:
    """Whether an event's message shows its result."""
    return any(message.text.startswith("done") for message in platform.answers(event))


def verdict(platform: Platform, events: list[str]) -> Counter[str]:
    """Count what went wrong: lost, doubled messages, results that changed, wrong numbers of pictures."""
    wrong = Counter[str]()
    for event in events:
        answers = platform.answers(event)
        wrong["lost"] += not answers or not expected(platform, event)
        wrong["doubled"] += len(answers) > 1 or platform.made[event] > 1
        wrong["changed"] += any(result != answers[0].results[0] for result in answers[0].results)
    return +wrong


async def rounds(tmp_path: Path, stages: list[str], seed: int) -> None:
    """Kill once for each entry of `stages`, in one long-lived data folder, then look at every message."""
    rng = random.Random(seed)
    async with stage_set(tmp_path) as (platform, program):
        await program.start()
        events = []
        for number, stage in enumerate(stages):
            events.append(f"e{number}")
            await kill_at(platform, program, stage, events[-1], rng)
            await platform.until(lambda: all(expected(platform, event) for event in events))
        wrong = verdict(platform, events)
        print(f"seed {seed}; kills {dict(Counter(stages))}; wrong {dict(wrong)}")
        assert set(events) <= platform.acknowledged
        assert not wrong
        assert await program.stop() == 0


@pytest.mark.parametrize("stage", STAGES)
async def test_a_job_survives_kill_9(stage: str, tmp_path: Path) -> None:
    await rounds(tmp_path, [stage], SEED)


@pytest.mark.soak
async def test_jobs_survive_twenty_kills_in_each_stage(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    stages = list(STAGES) * 20
    random.Random(seed).shuffle(stages)
    await rounds(tmp_path, stages, seed)
