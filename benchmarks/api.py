"""The served APIs beside bare aiohttp. `python -m benchmarks.api [--quick]`

100 clients that keep their connections call, each one request after another, a server in a process of its
own: the whole program with the real SQLite store, and a bare aiohttp handler that reads and writes the same
JSON, keeps the job in a dictionary and does nothing else. In turn, several rounds. Prints requests a second
and the 99th percentile of submits (each on disk before it is answered) and of polls, of jobs that wait and
of ones that are done, beside the bare handler, and the memory that a waiting job takes. Also the processor
time that the server's process takes for a request (all its threads), which says the same where the machine
does something else meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from aiohttp import web

from benchmarks.local import quantile
from bot.app import build, load_adapters
from bot.core.request import Limits
from bot.core.settings import Settings
from bot.keys import create_key
from bot.run import spare_pauses
from tests.fakes.backend import FakeBackend

CLIENTS = 100
SECONDS, ROUNDS = 2.0, 6
WAITING = 10_000
GOAL_SUBMIT, GOAL_POLL = 0.25, 0.5
ROOM = Limits(waiting_per_key=10_000_000)
BODY = {
    "prompt": "a red circle on a blue background",
    "params": {
        "img_height": 64,
        "img_width": 64,
        "num_inference_steps": 4,
        "guidance_scale": 7.5,
        "seed": 7,
    },
}
SUBMIT, POLL = "/v1/modelApi/submit/stable-diffusion-2", "/v1/modelApi/inference/"


# --- servers, each in a process of its own ----------------------------------------------------------------


async def serve_ours(folder: Path, *, held: bool) -> None:
    """The program. held: its backend starts one job and never finishes, so that all others wait."""
    settings = Settings(folder, port=0, limits=ROOM, requests_per_second=1e9)
    key = await create_key(settings, "benchmark")
    backend = FakeBackend(slots=1 if held else 8)
    if held:
        backend.hold("start")
    adapters = [adapter for adapter in load_adapters(settings) if adapter.name == "api"]
    app = build(settings, adapters=adapters, backends=[backend])
    await app.start()
    spare_pauses()
    print(json.dumps({"url": app.url, "key": key}), flush=True)
    await _until_told()
    await app.aclose()


async def serve_bare() -> None:
    """The least that such a server does."""
    jobs: dict[str, dict[str, object]] = {}

    async def submit(request: web.Request) -> web.Response:
        body = await request.json()
        if request.headers.get("apiKey") != "bare" or not isinstance(body["prompt"], str):
            raise web.HTTPUnauthorized
        name = secrets.token_hex(12)
        url = f"http://{request.host}{POLL}{name}"
        jobs[name] = {"id": name, "responseUrl": url, "queuePosition": str(len(jobs)), **body["params"]}
        told = {"id": name, "responseUrl": url, "queuePosition": str(len(jobs))}
        return web.json_response({"success": True, "data": told})

    async def poll(request: web.Request) -> web.Response:
        if request.headers.get("apiKey") != "bare":
            raise web.HTTPUnauthorized
        job = jobs[request.match_info["id"]]
        told = {"id": job["id"], "responseUrl": job["responseUrl"], "queuePosition": job["queuePosition"]}
        return web.json_response({"success": True, "data": told})

    app = web.Application()
    app.add_routes([web.post("/v1/modelApi/submit/{model}", submit), web.get(POLL + "{id}", poll)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}", "key": "bare"}), flush=True)
    await _until_told()
    await runner.cleanup()


async def _until_told() -> None:
    """The other process closes our standard input to end us."""
    await asyncio.to_thread(sys.stdin.read)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. pid: its process; port; key: what it takes."""

    pid: int
    port: int
    key: str


@asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[Server]:
    """A server in a process of its own, ended when the context ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.api", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        yield Server(process.pid, int(told["url"].rsplit(":", 1)[1]), told["key"])
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()


# --- clients: as lean as can be, for they share the machine with the server -------------------------------


@dataclass(slots=True)
class Tally:
    """What clients saw: seconds of each request, answers that were no 200, and the time it all took; and
    the processor seconds that the server spent on it."""

    seconds: list[float]
    elapsed: float
    refused: int = 0
    spent: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.elapsed

    @property
    def cost(self) -> float:
        """Microseconds of processor time that the server takes for a request."""
        return self.spent / len(self.seconds) * 1e6


def submit_bytes(server: Server) -> bytes:
    """One submit."""
    body = json.dumps(BODY).encode()
    head = f"POST {SUBMIT} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\napiKey: {server.key}\r\n"
    more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + more).encode() + body


def poll_bytes(server: Server, job: str) -> bytes:
    """One poll."""
    return (
        f"GET {POLL}{job} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\napiKey: {server.key}\r\n\r\n".encode()
    )


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of the next answer on a connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


async def rush(
    server: Server, request: Callable[[], bytes], *, seconds: float = 0.0, number: int = 0
) -> tuple[Tally, list[str]]:
    """CLIENTS connections call for some seconds, or `number` times in all. Also returns the jobs' ids."""
    tally, ids = Tally([], 0.0), list[str]()
    left = number

    async def client(until: float) -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while (time.perf_counter() < until) if not number else left > 0:
            left -= 1
            begun = time.perf_counter()
            writer.write(request())
            status, body = await answer(reader)
            tally.seconds.append(time.perf_counter() - begun)
            if status != 200:
                tally.refused += 1
            elif b'"responseUrl"' in body and len(ids) < 20_000:
                ids.append(body.split(b'"id"', 1)[1].split(b'"', 2)[1].decode())
        writer.close()

    spent, begun = processor_seconds(server.pid), time.perf_counter()
    await asyncio.gather(*(client(begun + seconds) for _ in range(CLIENTS)))
    tally.elapsed = time.perf_counter() - begun
    tally.spent = processor_seconds(server.pid) - spent
    return tally, ids


def merged(tallies: Sequence[Tally]) -> Tally:
    """All rounds as one."""
    return replace(
        tallies[0],
        seconds=[each for tally in tallies for each in tally.seconds],
        elapsed=sum(tally.elapsed for tally in tallies),
        refused=sum(tally.refused for tally in tallies),
        spent=sum(tally.spent for tally in tallies),
    )


# --- what is measured -------------------------------------------------------------------------------------


async def done_jobs(server: Server) -> list[str]:
    """Ids of jobs that have their pictures."""
    _, ids = await rush(server, lambda: submit_bytes(server), number=2 * CLIENTS)
    ready = b'"presigned_url"'
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for job in ids:
        async with asyncio.timeout(60):
            while True:
                writer.write(poll_bytes(server, job))
                if ready in (await answer(reader))[1]:
                    break
                await asyncio.sleep(0.05)
    writer.close()
    return ids


def each_of(server: Server, jobs: Sequence[str]) -> Callable[[], bytes]:
    """Polls of these jobs in turn."""
    calls = cycle([poll_bytes(server, job) for job in jobs])
    return lambda: next(calls)


async def speeds(folder: Path, seconds: float, rounds: int) -> list[tuple[str, Tally, Tally, float]]:
    """Rows: what, ours, bare, the goal. Both servers take turns, so that noise meets both."""
    found: dict[str, list[list[Tally]]] = {
        "submit": [[], []],
        "poll, waiting": [[], []],
        "poll, done": [[], []],
    }
    async with (
        serving("--serve", str(folder / "held"), "--held") as held,
        serving("--serve", str(folder / "free")) as free,
        serving("--bare") as bare,
    ):
        finished = await done_jobs(free)
        await rush(bare, lambda: submit_bytes(bare), number=CLIENTS)  # both are warm
        _, waiting = await rush(held, lambda: submit_bytes(held), number=2 * CLIENTS)
        _, known = await rush(bare, lambda: submit_bytes(bare), number=2 * CLIENTS)
        for _ in range(rounds):
            for name, ours, peer in (
                ("poll, waiting", (held, each_of(held, waiting)), each_of(bare, known)),
                ("poll, done", (free, each_of(free, finished)), each_of(bare, known)),
                ("submit", (held, lambda: submit_bytes(held)), lambda: submit_bytes(bare)),
            ):
                found[name][0].append((await rush(ours[0], ours[1], seconds=seconds))[0])
                found[name][1].append((await rush(bare, peer, seconds=seconds))[0])
    return [
        (name, merged(ours), merged(bare_), GOAL_SUBMIT if name == "submit" else GOAL_POLL)
        for name, (ours, bare_) in found.items()
    ]


def processor_seconds(pid: int) -> float:
    """Processor time that all threads of a process have taken."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def memory(folder: Path, number: int) -> tuple[float, float]:
    """KB that each of `number` waiting jobs takes, and MB of the program with them."""
    async with serving("--serve", str(folder / "memory"), "--held") as server:
        await rush(server, lambda: submit_bytes(server), number=CLIENTS)
        before = resident(server.pid)
        await rush(server, lambda: submit_bytes(server), number=number)
        after = resident(server.pid)
        return (after - before) / number / 1000, after / 1e6


def print_rows(rows: Sequence[tuple[str, Tally, Tally, float]]) -> None:
    """The table. us: of the server's processor for a request."""
    print(
        f"{'':<14}{'ours/s':>8}{'p50 ms':>8}{'p99 ms':>8}{'bare/s':>8}{'p99 ms':>8}{'ratio':>7}{'goal':>6}",
        end="",
    )
    print(f"{'ours us':>9}{'bare us':>9}{'ratio':>7}")
    for name, ours, bare, goal in rows:
        middle, late = statistics.median(ours.seconds) * 1e3, quantile(ours.seconds, 0.99) * 1e3
        peer = quantile(bare.seconds, 0.99) * 1e3
        print(
            f"{name:<14}{ours.rate:>8.0f}{middle:>8.1f}{late:>8.1f}{bare.rate:>8.0f}{peer:>8.1f}"
            f"{ours.rate / bare.rate:>7.2f}{goal:>6.2f}"
            f"{ours.cost:>9.1f}{bare.cost:>9.1f}{bare.cost / ours.cost:>7.2f}"
            + (f"  {ours.refused} refused" if ours.refused else "")
        )


async def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--held", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        await serve_bare()
        return 0
    if args.serve:
        await serve_ours(args.serve, held=args.held)
        return 0
    seconds, rounds, number = (1.5, 1, 2000) if args.quick else (SECONDS, ROUNDS, WAITING)
    with tempfile.TemporaryDirectory() as folder:
        rows = await speeds(Path(folder), seconds, rounds)
        each, whole = await memory(Path(folder), number)
    print(f"{CLIENTS} clients, {rounds} x {seconds:g} s each in turn, {os.cpu_count()} cores for all\n")
    print_rows(rows)
    print(f"\nA waiting job takes {each:.1f} KB; the program with {number:,} of them {whole:.0f} MB.")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
