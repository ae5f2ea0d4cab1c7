"""The local backend beside plain diffusers, and what the bot around it costs. `python -m benchmarks.local`

Prints: seconds a picture of our backend and of `pipe(prompt)` in turn, same model, same thread count, at 1, 4
and 8 waiting requests; the bot's own time a job; event-loop lag while pictures are made, beside an empty
loop in a process of its own at the same time; memory of the bot and its worker.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from bot.app import App, build, load_backends
from bot.core.ports import Backend, Done
from bot.core.request import ImageRequest, Requester
from bot.core.settings import BackendEntry, Settings
from bot.core.studio import Submission
from tests.fakes.backend import FakeBackend
from tests.fakes.notebook import Notebook

STEPS, SEED, PROMPT = 20, 7, "a red circle on a blue background"
GOALS = {1: 1.05, 4: 1.0, 8: 1.0}


# --- plain diffusers, in a process of its own ---------------------------------------------------------------


def plain(pipe: Connection, folder: str, threads: int, size: tuple[int, int], guidance: float) -> None:
    """Load the model as its documentation says and answer each number n with the seconds for n pictures."""
    import torch
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(threads)
    model = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, use_safetensors=True, dtype=torch.float32
    )
    model.set_progress_bar_config(disable=True)

    def one() -> None:
        generator = torch.Generator().manual_seed(SEED)
        model(
            PROMPT,
            width=size[0],
            height=size[1],
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=generator,
        )

    one()
    pipe.send(0.0)
    while (count := pipe.recv()) is not None:
        began = time.perf_counter()
        for _ in range(count):
            one()
        pipe.send(time.perf_counter() - began)


async def ours(backend: Backend, request: ImageRequest, count: int, name: str) -> float:
    """Seconds until `count` requests, submitted together, are all done."""

    async def one(number: int) -> None:
        ref = await backend.submit(request, job_id=f"{name}-{number}")
        async for event in backend.events(ref):
            if isinstance(event, Done):
                return

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(count)))
    return time.perf_counter() - began


async def speed(backend: Backend, settings: Settings, folder: Path, rounds: int) -> None:
    """The table of seconds a picture, in turn, medians of the pairs' ratios."""
    model = (await backend.capabilities()).models[0]
    request = ImageRequest(PROMPT, model.width, model.height, STEPS, model.guidance_scale, SEED)
    await ours(backend, request, 1, "warm")
    here, there = multiprocessing.get_context("spawn").Pipe()
    size, threads = (model.width, model.height), settings.threads or 1
    peer = multiprocessing.get_context("spawn").Process(
        target=plain, args=(there, str(folder), threads, size, 2.5), daemon=True
    )
    peer.start()
    await asyncio.to_thread(here.recv)
    print(f"\n{model.title}, {size[0]}x{size[1]}, {STEPS} steps, {threads} threads, {rounds} rounds in turn")
    print(
        f"{'waiting':>8} {'diffusers s/picture':>20} {'fairbrush s/picture':>20} "
        f"{'pictures/s':>11} {'ratio':>7}  goal"
    )
    for count in (1, 4, 8):
        pairs = []
        for number in range(rounds):
            here.send(count)
            theirs = await asyncio.to_thread(here.recv)
            pairs.append((theirs / count, await ours(backend, request, count, f"{count}.{number}") / count))
        peer_s, our_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(mine / other for other, mine in pairs)
        print(
            f"{count:>8} {peer_s:>20.3f} {our_s:>20.3f} {1 / our_s:>11.2f} {ratio:>7.2f}  <= {GOALS[count]}"
        )
    here.send(None)
    peer.join()


# --- the bot's own time -------------------------------------------------------------------------------------


class TimedBackend(FakeBackend):
    """Notes when a job reaches it and when it is through."""

    def __init__(self) -> None:
        super().__init__("timed:", previews=False)
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    async def submit(self, request, *, job_id):  # type: ignore[no-untyped-def]
        """Note, then take it."""
        self.began[request.prompt] = time.perf_counter()
        return await super().submit(request, job_id=job_id)

    async def events(self, ref):  # type: ignore[no-untyped-def]
        """Note the end."""
        async for event in super().events(ref):
            if isinstance(event, Done):
                self.ended[self.jobs[str(ref.data["ticket"])].request.prompt] = time.perf_counter()
            yield event


async def overhead(folder: Path, jobs: int) -> None:
    """Submit to backend start, and backend end to stored and shown, one job after the other."""
    backend, notebook = TimedBackend(), Notebook()
    app = build(Settings(data_dir=folder), adapters=[notebook], backends=[backend], serve=False)
    await app.start()
    before, after = [], []
    for number in range(jobs):
        prompt = f"job {number}"
        page = notebook.page(prompt)
        began = time.perf_counter()
        await app.studio.submit(
            Submission(Requester("notebook", "g", "u"), prompt, {"page": prompt}, text=prompt)
        )
        while not page.delivered:
            page.changed.clear()
            await page.changed.wait()
        shown = time.perf_counter()
        before.append(backend.began[prompt] - began)
        after.append(shown - backend.ended[prompt])
    await app.aclose()
    print(f"\nthe bot's own time a job, {jobs} jobs, real SQLite, synced")
    print(f"{'':34}{'p50 ms':>8}{'p99 ms':>8}  goal")
    for name, values in (("submit to backend start", before), ("backend end to stored and shown", after)):
        print(f"{name:34}{quantile(values, 0.5) * 1e3:>8.1f}{quantile(values, 0.99) * 1e3:>8.1f}  p50 < 10")


# --- the event loop and memory ------------------------------------------------------------------------------


async def lags(stop: asyncio.Event) -> list[float]:
    """How late a one-millisecond sleep wakes, until stopped: seconds."""
    found = []
    while not stop.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        found.append(time.perf_counter() - began - 0.001)
    return found


def empty_loop(pipe: Connection) -> None:
    """The limit: a loop with nothing else to do, beside the same load."""

    async def main() -> list[float]:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
        return await lags(stop)

    pipe.send(asyncio.run(main()))


async def lag_and_memory(settings: Settings, folder: Path, pictures: int) -> None:
    """Make pictures through the whole program while two loops are watched."""
    notebook = Notebook()
    app: App = build(
        dataclasses.replace(settings, data_dir=folder, port=0), adapters=[notebook, *_web(settings)]
    )
    await app.start()
    requester = Requester("notebook", "g", "u")

    async def make(key: str) -> None:
        submission = Submission(requester, key, {"page": key}, text=f"{PROMPT} --steps {STEPS}")
        await app.studio.submit(submission)
        await notebook.delivered(key, 600.0)

    await make("warm")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    beside = context.Process(target=empty_loop, args=(there,), daemon=True)
    beside.start()
    stop = asyncio.Event()
    own = asyncio.ensure_future(lags(stop))
    for number in range(0, pictures, 8):
        await asyncio.gather(*(make(f"p{number + extra}") for extra in range(8)))
    stop.set()
    mine = await own
    here.send(None)
    empty = await asyncio.to_thread(here.recv)
    beside.join()
    report_lag(mine, empty)
    report_memory()
    await app.aclose()


def _web(settings: Settings):  # type: ignore[no-untyped-def]
    from bot.app import load_adapters

    return load_adapters(settings)


def report_lag(mine: Sequence[float], empty: Sequence[float]) -> None:
    """p50, p99 and p99.9 of both loops."""
    print(f"\nevent-loop lag while pictures are made, ms ({len(mine)} and {len(empty)} wake-ups)")
    print(f"{'':14}{'p50':>8}{'p99':>8}{'p99.9':>8}")
    for name, values in (("bot", mine), ("empty loop", empty)):
        print(f"{name:14}" + "".join(f"{quantile(values, q) * 1e3:>8.1f}" for q in (0.5, 0.99, 0.999)))
    more = (quantile(mine, 0.999) - quantile(empty, 0.999)) * 1e3
    print(f"bot over empty at p99.9: {more:+.1f} ms (goal <= +10)")


def report_memory() -> None:
    """Resident memory of this process, which imports what the bot does, and of the worker."""
    own = resident(os.getpid())
    workers = [resident(pid) for pid in children(os.getpid())]
    print(f"\nmemory: bot {own:.0f} MB (goal < 120), worker {max(workers, default=0.0):.0f} MB")


def resident(pid: int) -> float:
    """Resident megabytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def quantile(values: Sequence[float], q: float) -> float:
    """The value at rank q of the sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


async def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="", help="what follows local: (default: the embedded model)")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--pictures", type=int, default=64)
    args = parser.parse_args()
    entry = BackendEntry("local", args.target)
    model = (
        Path(args.target) if args.target else Path(__file__).parent.parent / "backends" / "local" / "embedded"
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "a", backends=(entry,), threads=args.threads)
        await lag_and_memory(settings, Path(folder) / "b", args.pictures)
        await overhead(Path(folder) / "c", args.jobs)
        (backend,) = load_backends(settings)
        await speed(backend, settings, model, args.rounds)
        await backend.aclose()


if __name__ == "__main__":
    asyncio.run(main())
