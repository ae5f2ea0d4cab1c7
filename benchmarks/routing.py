"""What a long queue costs where pictures can be paid for: `python -m benchmarks.routing`.

A free and a paid backend, both busy, and 100,000 jobs queued of 1,000 guilds and 10,000 members: milliseconds
of processor time for a look at what a free slot may take (done at every change) when the paid backend may
take the next job, when every guild's budget is spent, and once that is known; and for one look along the
whole line, which notes places and waits, is done in pieces, and takes at most a tenth of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from time import process_time

from bot.core.desk import LiveGroup, LiveJob
from bot.core.request import ImageRequest, Requester, State
from tests.fakes.house import House
from tests.fakes.paid import budget_of, hosted, lane_of, local, paid

GUILDS, MEMBERS = 1_000, 10_000


def fill(home: House, jobs: int) -> None:
    """Line up jobs of 1 to 30 s."""
    rng, dispatcher = random.Random(1), home.app._dispatcher
    for number in range(jobs):
        guild, member = f"g{rng.randrange(GUILDS)}", f"u{rng.randrange(MEMBERS)}"
        group = LiveGroup(f"g{number}", f"e{number}", Requester("notebook", guild, member), home.clock.time)
        request = ImageRequest("a fox", 64, 64, 4, 7.5, 1, model="fake")
        group.jobs = [LiveJob(f"j{number}", 0, request, rng.uniform(1, 30), group, state=State.QUEUED)]
        home.desk.add(group)
        home.queue.push(dispatcher.entry(group.jobs[0]))


def looked(home: House) -> float:
    """Milliseconds to find out what can start now."""
    dispatcher, begun = home.app._dispatcher, process_time()
    turn = dispatcher._turn()
    entry = home.queue.pop(turn.can_run, serves=turn.serves, skips=turn.skips)
    took = (process_time() - begun) * 1000
    if entry is None:
        turn.over()
    else:
        home.queue.requeue(entry.job_id)
    return took


async def along(home: House) -> float:
    """Milliseconds of a look along the whole line, all pieces together."""
    places, begun = home.app._dispatcher._places, process_time()
    places._next = 0.0
    await places.look(lambda: [])
    return (process_time() - begun) * 1000


async def measure(folder: Path, jobs: int) -> None:
    free, hired = local(), paid()
    for backend in (free, hired):
        backend.hold("start")
    async with hosted(folder, free, hired, budget_per_guild=50.0, budget_per_user=50.0) as home:
        await home.ask("in the way", user="zoe")
        await home.until(lambda: bool(free.submitted))
        fill(home, jobs)
        first, again = await along(home), [await along(home) for _ in range(3)]
        print(f"{jobs:,} queued jobs: processor time in ms")
        print(f"  the line, first time      {first:10.1f}")
        print(f"  the line, again           {statistics.median(again):10.1f}")
        takes = [looked(home) for _ in range(20)]
        print(f"  a paid slot, a job found  {statistics.median(takes):10.3f}   most {max(takes):.3f}")
        budget = budget_of(home)
        budget._settings = replace(budget._settings, budget_per_guild=0.0)
        budget.changes += 1
        takes = [looked(home) for _ in range(20)]
        print(f"  all budgets spent, first  {takes[0]:10.3f}")
        print(f"  all budgets spent, then   {statistics.median(takes[1:]):10.3f}")
        lane_of(home, "local:").running.clear()
        takes = [looked(home) for _ in range(20)]
        print(f"  a free slot               {statistics.median(takes):10.3f}   most {max(takes):.3f}")
        home.app._dispatcher._stopping = True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), parser.parse_args().jobs))


if __name__ == "__main__":
    main()
