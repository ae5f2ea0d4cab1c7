"""The Discord adapter at a local Discord, beside bare discord.py. `python -m benchmarks.discord [--quick]`

The local Discord is a process of its own and checks all traffic against Discord's OpenAPI file afterwards,
where FAIRBRUSH_SPECS says where that is. Prints: the time to acknowledge a burst of interactions; from an
interaction to the backend's start while nothing waits; event-loop lag while the embedded model makes
pictures; memory at 2,500 servers. Each beside a peer or a limit measured in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import discord
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket
from discord.http import Route

from benchmarks.local import empty_loop, lags, quantile, report_lag
from bot.app import App, build, load_adapters, load_backends
from bot.core.ports import Backend, RemoteRef
from bot.core.request import ImageRequest, Limits
from bot.core.settings import Secret, Settings
from bot.run import spare_pauses
from tests.fakes.backend import FakeBackend
from tests.fakes.discord_remote import Remote, remote_discord

GUILDS, BURST, IDLE = 100, 500, 100
WARM, ROUNDS = 20, 3
AT_ONCE, PICTURES = 8, 64
SERVERS, CHANNELS, ROLES = 2500, 30, 20
BREATH = 0.05  # seconds from one picture's beginning to the next request
SETTLING = 5.0  # seconds from being connected to measuring memory
CROWD = Limits(waiting_per_user=100_000, waiting_per_guild=100_000)  # the local Discord's members are few


# --- our program, and bare discord.py -----------------------------------------------------------------------


class Begun:
    """When each picture was begun, by its prompt: seconds of the machine's monotonic clock."""

    def __init__(self) -> None:
        self._at: dict[str, asyncio.Future[float]] = {}

    def of(self, prompt: str) -> asyncio.Future[float]:
        """The time, once it is there."""
        return self._at.setdefault(prompt, asyncio.get_running_loop().create_future())

    def note(self, prompt: str) -> None:
        """It begins now, for the first time."""
        if not self.of(prompt).done():
            self.of(prompt).set_result(time.monotonic())


class TimedBackend(FakeBackend):
    """Notes when each job reaches it."""

    def __init__(self) -> None:
        super().__init__("timed:", previews=False)
        self.begun = Begun()

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Note, then take it."""
        self.begun.note(request.prompt)
        return await super().submit(request, job_id=job_id)


def settings_for(remote: Remote, folder: Path) -> Settings:
    """The program's, at this Discord."""
    return Settings(
        data_dir=folder,
        limits=CROWD,
        secrets={"DISCORD_TOKEN": Secret(remote.token)},
        platform_urls={"discord": remote.api_url, "discord-gateway": remote.gateway_url},
    )


@asynccontextmanager
async def ours(remote: Remote, folder: Path, backends: Sequence[Backend] | None = None) -> AsyncIterator[App]:
    """The whole program but its web server, with the real SQLite store, connected."""
    settings = settings_for(remote, folder)
    adapters = [adapter for adapter in load_adapters(settings) if adapter.name == "discord"]
    app = build(settings, adapters=adapters, backends=backends, serve=False)
    await app.start()
    try:
        await remote.get("wait", connected=1, commands=1)
        spare_pauses()
        yield app
    finally:
        await app.aclose()


class Bare(discord.AutoShardedClient):
    """The least that a bot does: the answer, a thread, a message in it. Nothing is stored, checked or
    queued. begun: when it would begin with the picture."""

    def __init__(self) -> None:
        super().__init__(intents=discord.Intents(guilds=True), max_messages=None)
        self.tree = app_commands.CommandTree(self)
        self.tree.command(name="imagine", description="Make a picture")(self._imagine)
        self.begun = Begun()

    async def _imagine(self, interaction: discord.Interaction[discord.Client], prompt: str) -> None:
        told = await interaction.response.send_message(prompt)
        assert isinstance(told.resource, discord.InteractionMessage)
        thread = await told.resource.create_thread(name=prompt)
        await thread.send("Queued")
        self.begun.note(prompt)

    async def setup_hook(self) -> None:
        """Register the command."""
        await self.tree.sync()


@asynccontextmanager
async def bare(remote: Remote) -> AsyncIterator[Bare]:
    """Bare discord.py, connected."""
    Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY = remote.api_url, yarl.URL(remote.gateway_url)
    client = Bare()
    running = asyncio.ensure_future(client.start(remote.token))
    try:
        await remote.get("wait", connected=1, commands=1)
        yield client
    finally:
        await client.close()
        await asyncio.gather(running, return_exceptions=True)


# --- the time to acknowledge --------------------------------------------------------------------------------


async def burst(remote: Remote, count: int) -> list[float]:
    """Seconds from each INTERACTION_CREATE to its answer."""
    state = await remote.get("state")
    await remote.post("burst", count=count)
    await remote.get("wait", answered=state["answered"] + count, seconds=120)
    calls = await remote.get("interactions", after=state["interactions"])
    return [call["answered_at"] - call["sent_at"] for call in calls]


async def their_burst(count: int) -> list[float]:
    """Bare discord.py's times to acknowledge."""
    async with remote_discord(guilds=GUILDS) as remote, bare(remote):
        await burst(remote, WARM)
        return await burst(remote, count)


async def our_burst(folder: Path, count: int) -> tuple[list[float], float, str]:
    """The program's times to acknowledge, the seconds until all is shown, and what checking said."""
    async with remote_discord(guilds=GUILDS) as remote:
        async with ours(remote, folder, [TimedBackend()]):
            await burst(remote, WARM)
            mine = await burst(remote, count)
            began = time.monotonic()
            await remote.get("wait", edited=count + WARM, seconds=300)
            shown = time.monotonic() - began
            await settled(remote)
        return mine, shown, told(await remote.get("violations"))


async def acknowledgements(folder: Path, count: int, rounds: int) -> None:
    """The table of times to acknowledge."""
    theirs, mine = [], []
    for number in range(rounds):
        theirs.append(await their_burst(count))
        found, shown, checked = await our_burst(folder / str(number), count)
        mine.append(found)
    print(f"\n{count} interactions at once over {GUILDS} servers: ms from INTERACTION_CREATE to the answer")
    print(f"{f'medians of {rounds} rounds in turn':32}{'p50':>8}{'p99':>8}{'most':>8}  goal")
    table("discord.py, answering at once", *theirs)
    table("fairbrush, committed first", *mine, goal="p99 < 500, most < 3000")
    ratios = [quantile(ours, 0.99) / quantile(other, 0.99) for other, ours in zip(theirs, mine, strict=True)]
    print(f"{'ratio at p99':32}{statistics.median(ratios):>16.2f}")
    print(f"all {count} shown {shown:.1f} s later; {checked}")


async def settled(remote: Remote) -> None:
    """Wait until nothing is asked of Discord for a while."""
    before = -1
    while (now := (await remote.get("state"))["requests"]) != before:
        before = now
        await asyncio.sleep(0.5)


def told(checked: dict[str, object]) -> str:
    """What came of checking the traffic."""
    violations = checked["violations"]
    assert not violations, violations
    if not checked["checked"]:
        return "not checked: FAIRBRUSH_SPECS is not set"
    return f"{checked['checked']} requests and answers checked against Discord's OpenAPI file: none breaks it"


def table(name: str, *rounds: Sequence[float], goal: str = "") -> None:
    """One row, in milliseconds: medians over rounds."""
    each = [(quantile(values, 0.5), quantile(values, 0.99), max(values)) for values in rounds]
    shown = (statistics.median(column) for column in zip(*each, strict=True))
    print(f"{name:32}" + "".join(f"{value * 1e3:>8.1f}" for value in shown) + (f"  {goal}" if goal else ""))


# --- from an interaction to the backend ---------------------------------------------------------------------


async def one_by_one(remote: Remote, begun: Begun, count: int, prefix: str) -> list[float]:
    """Seconds from each INTERACTION_CREATE to the beginning of its picture, one after the other."""
    found = []
    for number in range(count):
        prompt = f"{prefix} {number}"
        state = await remote.get("state")
        await remote.post("burst", count=1, options={"prompt": prompt})
        began = await asyncio.wait_for(begun.of(prompt), 30)
        (call,) = await remote.get("interactions", after=state["interactions"])
        found.append(began - call["sent_at"])
        await asyncio.sleep(BREATH)
    return found


async def idle(folder: Path, count: int) -> None:
    """The table of times to the backend."""
    async with remote_discord(guilds=GUILDS) as remote, bare(remote) as client:
        await one_by_one(remote, client.begun, 5, "warm")
        theirs = await one_by_one(remote, client.begun, count, "picture")
    backend = TimedBackend()
    async with remote_discord(guilds=GUILDS) as remote, ours(remote, folder, [backend]):
        await one_by_one(remote, backend.begun, 5, "warm")
        mine = await one_by_one(remote, backend.begun, count, "picture")
    print(f"\nms from INTERACTION_CREATE to the backend, an idle queue, {count} times")
    print(f"{'':32}{'p50':>8}{'p99':>8}{'most':>8}  goal")
    table("discord.py, the same three calls", theirs)
    table("fairbrush, every step stored", mine, goal="p50 < 20")
    print(f"{'ratio at p50':32}{quantile(mine, 0.5) / quantile(theirs, 0.5):>8.2f}")


# --- the event loop -----------------------------------------------------------------------------------------


async def lag(folder: Path, pictures: int) -> None:
    """Lag of the program's loop while the embedded model works for it, beside an empty loop's."""
    async with remote_discord(guilds=GUILDS) as remote:
        threads = max(1, (os.cpu_count() or 2) // 2)
        settings = replace(settings_for(remote, folder), threads=threads)
        async with ours(remote, folder, load_backends(settings)):
            await made(remote, 1)
            context = multiprocessing.get_context("spawn")
            here, there = context.Pipe()
            beside = context.Process(target=empty_loop, args=(there,), daemon=True)
            beside.start()
            stop = asyncio.Event()
            own = asyncio.ensure_future(lags(stop))
            for _ in range(0, pictures, AT_ONCE):
                await made(remote, AT_ONCE)
            stop.set()
            mine = await own
            here.send(None)
            empty = await asyncio.to_thread(here.recv)
            beside.join()
        checked = await remote.get("violations")
    report_lag(mine, empty)
    print(told(checked))


async def made(remote: Remote, count: int) -> None:
    """Ask for so many pictures at once and wait until their receipts have ended."""
    state = await remote.get("state")
    await remote.post("burst", count=count, options={"prompt": "a red circle on blue {n} --steps 20"})
    await remote.get("wait", edited=state["edited"] + count, seconds=600)


# --- memory -------------------------------------------------------------------------------------------------

BARE_WITH_CACHES = """
import asyncio, sys, discord, yarl
discord.http.Route.BASE = sys.argv[1]
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(sys.argv[2])
client = discord.Client(intents=discord.Intents.default())
@client.event
async def on_ready():
    print("connected as", client.user, "in", len(client.guilds), "servers", file=sys.stderr, flush=True)
asyncio.run(client.start(sys.argv[3]))
"""


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes of one process: resident now, its share of what others use too, resident at most."""

    resident: float
    share: float
    most: float


async def memory(folder: Path, guilds: int) -> None:
    """The table of memory, of processes of their own that know so many servers."""
    async with remote_discord(guilds=guilds, channels=CHANNELS, roles=ROLES) as remote:
        where = (remote.api_url, remote.gateway_url, remote.token)
        theirs = await measured((sys.executable, "-c", BARE_WITH_CACHES, *where), {}, guilds)
    async with remote_discord(guilds=guilds, channels=CHANNELS, roles=ROLES) as remote:
        environment = {
            "DISCORD_TOKEN": remote.token,
            "FAIRBRUSH_DISCORD_API_URL": remote.api_url,
            "FAIRBRUSH_DISCORD_GATEWAY_URL": remote.gateway_url,
        }
        program = (sys.executable, "-m", "bot", "run", "--port", "0", "--data-dir", str(folder))
        mine = await measured(program, environment, guilds, without="torch")
    print(f"\nMB of a process at {guilds:,} servers of {CHANNELS} channels and {ROLES} roles")
    print(f"{'':32}{'RSS':>8}{'PSS':>8}{'most':>8}  goal")
    for name, found, goal in (
        ("discord.py, default caches", theirs, ""),
        ("fairbrush run, without worker", mine, "RSS < 300, no torch in it"),
    ):
        print(f"{name:32}{found.resident:>8.0f}{found.share:>8.0f}{found.most:>8.0f}  {goal}".rstrip())
    print(f"{'ratio of RSS':32}{mine.resident / theirs.resident:>8.2f}")


async def measured(
    command: Sequence[str], environment: Mapping[str, str], guilds: int, *, without: str = ""
) -> Memory:
    """Memory of a program once it says that it is connected. without: a library that it must not load."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=_bare_environment() | dict(environment),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(300):
            while not (line := await process.stderr.readline()).count(b"connected as"):
                assert line, "it ended"
        assert f"in {guilds} servers".encode() in line, line
        await asyncio.sleep(SETTLING)
        assert not without or without not in _maps(process.pid), f"{without} is in the program's own process"
        return _memory(process.pid)
    finally:
        process.terminate()
        await process.communicate()


def _bare_environment() -> dict[str, str]:
    own = ("FAIRBRUSH_", "DISCORD_", "SLACK_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}


def _maps(pid: int) -> str:
    """Everything that a process has loaded."""
    return Path(f"/proc/{pid}/maps").read_text()


def _memory(pid: int) -> Memory:
    status, rollup = (Path(f"/proc/{pid}/{name}").read_text() for name in ("status", "smaps_rollup"))
    return Memory(_kilobytes(status, "VmRSS"), _kilobytes(rollup, "Pss"), _kilobytes(status, "VmHWM"))


def _kilobytes(text: str, name: str) -> float:
    """A line "Name:   1234 kB" as megabytes."""
    found = next((line for line in text.splitlines() if line.startswith(f"{name}:")), f"{name}: 0 kB")
    return int(found.split()[1]) / 1024


async def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    quick = parser.parse_args().quick
    logging.disable(logging.WARNING)
    print(f"{os.cpu_count()} processors, at a load of {os.getloadavg()[0]:.1f} before this")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await memory(folder / "memory", 500 if quick else SERVERS)
        await acknowledgements(folder / "burst", BURST, 1 if quick else ROUNDS)
        await idle(folder / "idle", IDLE // 4 if quick else IDLE)
        await lag(folder / "lag", 2 * AT_ONCE if quick else PICTURES)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
