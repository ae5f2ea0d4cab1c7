"""What fairness costs and what it buys: `python -m benchmarks.fairqueue`.

The fair queue beside a FIFO and a round robin by guild, in the same run: processor microseconds a job
(push, pop, complete) with 1,000 guilds and 100,000 jobs queued, all places at 1,000 jobs, and how fairly
simulated GPUs are shared under three loads.

Fairness is measured as in "Fairness in Serving Large Language Models" (OSDI 2024): 600 s; at each tick after
a warm-up of 30 s, over a window of 60 s, the sum over guilds of min(most served - served, |asked - served|),
in GPU-seconds a second. 0 is fair. The fair queue is given estimates that are off by up to 30 %. No GPU is
used and the times of jobs are simulated; a seed makes a run repeatable.
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from time import process_time
from typing import Protocol

from bot.core.fairqueue import Entry, FairQueue

GUILDS, QUEUED, TURNS, ROUNDS = 1_000, 100_000, 10_000, 3
LENGTH, WARM_UP, WINDOW, TICK = 600.0, 30.0, 60.0, 5.0
ERROR = 0.3


class Line(Protocol):
    """What the benchmark asks of a queue."""

    def push(self, entry: Entry) -> None: ...

    def pop(self) -> Entry | None: ...

    def complete(self, job_id: str, actual: float) -> None: ...


class Fifo:
    """First come, first served."""

    def __init__(self) -> None:
        self._jobs: deque[Entry] = deque()

    def push(self, entry: Entry) -> None:
        self._jobs.append(entry)

    def pop(self) -> Entry | None:
        return self._jobs.popleft() if self._jobs else None

    def complete(self, job_id: str, actual: float) -> None:
        """Forgets at once."""


class RoundRobin:
    """One job of each guild in turn, whatever it costs."""

    def __init__(self) -> None:
        self._jobs: dict[str, deque[Entry]] = {}
        self._turns: deque[str] = deque()

    def push(self, entry: Entry) -> None:
        jobs = self._jobs.setdefault(entry.guild, deque())
        if not jobs:
            self._turns.append(entry.guild)
        jobs.append(entry)

    def pop(self) -> Entry | None:
        if not self._turns:
            return None
        guild = self._turns.popleft()
        entry = self._jobs[guild].popleft()
        if self._jobs[guild]:
            self._turns.append(guild)
        return entry

    def complete(self, job_id: str, actual: float) -> None:
        """Forgets at once."""


QUEUES: Mapping[str, Callable[[], Line]] = {
    "fair (this)": FairQueue,
    "FIFO": Fifo,
    "round robin": RoundRobin,
}


# --- speed ---


def entries(rng: random.Random, count: int) -> list[Entry]:
    """Jobs of 1 to 30 s of 20 members each of many guilds."""
    return [
        Entry(
            f"job-{n}", f"guild-{rng.randrange(GUILDS)}", f"user-{rng.randrange(20)}", rng.uniform(1.0, 30.0)
        )
        for n in range(count)
    ]


def turn(queue: Line, jobs: Sequence[Entry]) -> float:
    """Processor microseconds a job for push, pop and complete, the queue staying as long as it is."""
    begun = process_time()
    for job in jobs:
        queue.push(job)
        taken = queue.pop()
        assert taken is not None
        queue.complete(taken.job_id, taken.cost * 1.1)
    return (process_time() - begun) / len(jobs) * 1e6


def speeds(rng: random.Random) -> dict[str, float]:
    """Microseconds a job of each queue: the median of rounds that take turns."""
    jobs = entries(rng, QUEUED + ROUNDS * TURNS)
    queues = {name: new() for name, new in QUEUES.items()}
    for queue in queues.values():
        for job in jobs[:QUEUED]:
            queue.push(job)
    gc.collect()
    gc.freeze()  # the jobs of the benchmark itself are not what is measured
    times: dict[str, list[float]] = {name: [] for name in queues}
    for start in range(QUEUED, len(jobs), TURNS):
        for name, queue in queues.items():
            times[name].append(turn(queue, jobs[start : start + TURNS]))
    gc.unfreeze()
    return {name: statistics.median(each) for name, each in times.items()}


def places_time(rng: random.Random, count: int = 1_000) -> tuple[float, float]:
    """Milliseconds for all places of a queue that was just filled, and again after one job more."""
    first, again = [], []
    for _ in range(7):
        queue = FairQueue()
        for job in entries(rng, count):
            queue.push(job)
        first.append(_milliseconds(queue.places))
        queue.push(Entry("one more", "guild-1", "user-1", 5.0))
        again.append(_milliseconds(queue.places))
    return statistics.median(first), statistics.median(again)


def _milliseconds(act: Callable[[], object]) -> float:
    begun = process_time()
    act()
    return (process_time() - begun) * 1e3


# --- fairness ---


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that a guild asks for at a time (s), and what it really takes (device-seconds)."""

    at: float
    guild: str
    cost: float


@dataclass(frozen=True, slots=True)
class Service:
    """A job that a GPU worked on."""

    guild: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Load:
    """gpus, and for each guild its jobs a second and the seconds of a job."""

    name: str
    gpus: int
    guilds: Mapping[str, tuple[float, float]]

    def arrivals(self, rng: random.Random) -> list[Arrival]:
        """Poisson arrivals; sizes within a quarter of the guild's usual one."""
        return sorted(
            (
                Arrival(at, guild, size * rng.uniform(0.75, 1.25))
                for guild, (rate, size) in self.guilds.items()
                for at in poisson(rng, rate)
            ),
            key=lambda arrival: arrival.at,
        )


LOADS = (
    Load("overload 1:2, 1 GPU", 1, {"a": (0.5, 2.0), "b": (1.0, 2.0)}),
    Load("short/long, 4 GPUs", 4, {"short": (4.0, 1.0), "long": (0.2, 20.0)}),
    Load("8 guilds, 2 GPUs", 2, {f"g{n}": (0.02 * 2**n / (1 + n % 3), 1.0 + n % 3 * 3.0) for n in range(8)}),
)


def poisson(rng: random.Random, rate: float) -> Iterator[float]:
    at = rng.expovariate(rate)
    while at < LENGTH:
        yield at
        at += rng.expovariate(rate)


def simulate(queue: Line, load: Load, arrivals: Sequence[Arrival], rng: random.Random) -> list[Service]:
    """What the GPUs do until the end of the measured time."""
    served: list[Service] = []
    busy: list[tuple[float, str]] = []
    costs: dict[str, float] = {}
    coming = deque(arrivals)
    now = 0.0
    while now < LENGTH:
        while len(busy) < load.gpus and (job := queue.pop()) is not None:
            served.append(Service(job.guild, now, now + costs[job.job_id]))
            heappush(busy, (served[-1].end, job.job_id))
        next_arrival = coming[0].at if coming else math.inf
        if busy and busy[0][0] <= next_arrival:
            now, job_id = heappop(busy)
            queue.complete(job_id, costs[job_id])
        elif coming:
            arrival = coming.popleft()
            now, job_id = arrival.at, f"job-{len(costs)}"
            costs[job_id] = arrival.cost
            guess = arrival.cost * rng.uniform(1.0 - ERROR, 1.0 + ERROR)
            queue.push(Entry(job_id, arrival.guild, f"{arrival.guild}-{len(costs) % 4}", guess))
        else:
            break
    return served


def unfairness(load: Load, arrivals: Sequence[Arrival], served: Sequence[Service]) -> list[float]:
    """The metric at each tick, in GPU-seconds a second."""
    values = []
    ticks = int((LENGTH - WARM_UP - WINDOW) / TICK) + 1
    for begin in (WARM_UP + TICK * tick for tick in range(ticks)):
        end = begin + WINDOW
        asked, given = dict.fromkeys(load.guilds, 0.0), dict.fromkeys(load.guilds, 0.0)
        for arrival in arrivals:
            if begin <= arrival.at < end:
                asked[arrival.guild] += arrival.cost
        for job in served:
            given[job.guild] += max(0.0, min(job.end, end) - max(job.begin, begin))
        most = max(given.values())
        values.append(sum(min(most - given[g], abs(asked[g] - given[g])) for g in given) / WINDOW)
    return values


def throughput(served: Sequence[Service]) -> float:
    """GPU-seconds a second over the whole time."""
    return sum(min(job.end, LENGTH) - job.begin for job in served) / LENGTH


def fairness_rows(seed: int) -> Iterator[tuple[str, str, list[float], float]]:
    """(load, queue, the metric at each tick, throughput)."""
    for load in LOADS:
        arrivals = load.arrivals(random.Random(seed))
        for name, new in QUEUES.items():
            served = simulate(new(), load, arrivals, random.Random(seed))
            yield load.name, name, unfairness(load, arrivals, served), throughput(served)


def print_speed(rng: random.Random) -> None:
    measured = speeds(rng)
    print(f"{GUILDS:,} guilds, {QUEUED:,} queued: processor time of push + pop + complete")
    for name, each in measured.items():
        print(f"  {name:<12} {each:8.2f} us a job   {each / measured['FIFO']:6.1f} x FIFO")
    first, again = places_time(rng)
    print(f"all places at 1,000 jobs: {first:.2f} ms at first, {again:.2f} ms after one more job\n")


def print_fairness(seed: int) -> None:
    print("unfairness, GPU-s/s (0 is fair)          average      max  variance  throughput   of FIFO's")
    rows = list(fairness_rows(seed))
    for load, name, values, done in rows:
        fifo = next(each[3] for each in rows if each[:2] == (load, "FIFO"))
        spread = statistics.pvariance(values)
        print(
            f"  {load:<20} {name:<14} {statistics.mean(values):10.3f} {max(values):8.3f} {spread:9.4f}"
            f" {done:11.3f} {done / fifo:11.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    print_speed(random.Random(seed))
    print_fairness(seed)


if __name__ == "__main__":
    main()
