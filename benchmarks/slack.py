"""The Slack adapter at a local Slack, beside bare slack_bolt. `python -m benchmarks.slack [--quick]`

The local Slack is a process of its own. Prints: the time to acknowledge a burst of commands over HTTP and
over Socket Mode, beside a slack_bolt app that acknowledges and does nothing else; and how often messages are
edited while jobs run, with Slack's rate limits enforced, beside an edit for each step.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response, to_bolt_request
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from benchmarks.local import quantile
from bot.app import build, load_adapters
from bot.core.ports import Backend, ImageReady, Preview, Progress
from bot.core.request import Limits
from bot.core.settings import Secret, Settings
from bot.run import spare_pauses
from tests.fakes.backend import FakeBackend, FakeJob, flat_png
from tests.fakes.slack_control import RemoteSlack

WORKSPACES, PEOPLE = 50, 6
WARM, ALONE, BURST = 20, 30, 300  # commands
CROWD = Limits(waiting_per_user=100_000, waiting_per_guild=100_000)  # the local Slack's people are few
AT_ONCE = (1, 10, 30)  # jobs in a workspace each, all at the same time
STEPS_A_SECOND, PREVIEW_SECONDS = 1.0, 5.0
SIDE = 256
BACKLOG = 1024


# --- our program, and bare slack_bolt -----------------------------------------------------------------------


class Serving(Protocol):
    """A program at a local Slack, as a context: ready within."""

    def __call__(self, slack: RemoteSlack, mode: str, folder: Path) -> AbstractAsyncContextManager[None]: ...


def settings_for(slack: RemoteSlack, about: Mapping[str, Any], mode: str, folder: Path) -> Settings:
    """The program's, installed by OAuth in every workspace."""
    secrets = {
        "SLACK_CLIENT_ID": about["client_id"],
        "SLACK_CLIENT_SECRET": about["client_secret"],
        "SLACK_SIGNING_SECRET": about["signing_secret"],
    }
    if mode == "Socket Mode":
        secrets["SLACK_APP_TOKEN"] = about["app_token"]
    return Settings(
        data_dir=folder,
        port=0,
        limits=CROWD,
        secrets={name: Secret(value) for name, value in secrets.items()},
        platform_urls={"slack": slack.api_url},
    )


async def connect(slack: RemoteSlack, mode: str, url: str) -> None:
    """Have the local Slack hand things to the program."""
    if mode == "HTTP":
        await slack.ask("program", events_url=f"{url}/slack/events")
    else:
        await slack.ask("connected")


@asynccontextmanager
async def ours(
    slack: RemoteSlack, mode: str, folder: Path, backend: Backend | None = None
) -> AsyncIterator[None]:
    """The whole program with the real SQLite store."""
    settings = settings_for(slack, await slack.ask("describe"), mode, folder)
    adapters = [adapter for adapter in load_adapters(settings) if adapter.name == "slack"]
    app = build(settings, adapters=adapters, backends=[backend or FakeBackend()])
    await app.start()
    try:
        where = {"url": f"{app.url}/slack/install", "redirect_uri": f"{app.url}/slack/oauth_redirect"}
        await slack.ask("install", **where)
        await connect(slack, mode, app.url)
        spare_pauses()
        yield
    finally:
        await app.aclose()


def bare_app(slack: RemoteSlack, about: Mapping[str, Any]) -> AsyncApp:
    """The least that a bot does: it acknowledges. Nothing is stored, checked or queued."""
    known = {workspace["id"]: workspace for workspace in about["workspaces"]}

    async def authorize(enterprise_id: str | None, team_id: str | None) -> AuthorizeResult:
        home = known[team_id]
        return AuthorizeResult(
            enterprise_id=enterprise_id,
            team_id=team_id,
            bot_token=home["token"],
            bot_id=home["bot_id"],
            bot_user_id=home["bot_user"],
        )

    client = AsyncWebClient(base_url=slack.api_url)
    app = AsyncApp(client=client, signing_secret=about["signing_secret"], authorize=authorize)

    @app.command("/imagine")
    async def imagine(ack: Any) -> None:
        await ack()

    return app


@asynccontextmanager
async def bare(slack: RemoteSlack, mode: str, folder: Path) -> AsyncIterator[None]:
    """Bare slack_bolt, served as its documentation says."""
    about = await slack.ask("describe")
    app = bare_app(slack, about)
    if mode == "HTTP":
        async with bare_server(app) as url:
            await connect(slack, mode, url)
            yield
        return
    handler = AsyncSocketModeHandler(app, about["app_token"])
    await handler.connect_async()  # type: ignore[no-untyped-call]
    try:
        await connect(slack, mode, "")
        yield
    finally:
        await handler.close_async()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def bare_server(app: AsyncApp) -> AsyncIterator[str]:
    """It on a web server; the address."""

    async def events(request: web.Request) -> web.Response:
        return await to_aiohttp_response(await app.async_dispatch(await to_bolt_request(request)))

    server = web.Application()
    server.add_routes([web.post("/slack/events", events)])
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


# --- the time to acknowledge --------------------------------------------------------------------------------


async def burst(slack: RemoteSlack, count: int, first: int = 0) -> list[float]:
    """Seconds from each command to its acknowledgement. first: workspace. A command that failed ends the
    benchmark."""
    teams = [workspace["id"] for workspace in (await slack.ask("describe"))["workspaces"][1:]]
    teams = teams[first:] + teams[:first]
    acks = await slack.ask("burst", count=count, text="a red fox --seed {n}", teams=teams)
    assert not any(ack["failure"] for ack in acks), [ack for ack in acks if ack["failure"]]
    return [ack["seconds"] for ack in acks]


async def times(serving: Serving, mode: str, folder: Path, *, shown: bool) -> tuple[list[float], list[float]]:
    """Seconds of single commands and of a burst, after some to warm up. shown: wait for their pictures."""
    installed = serving is bare
    async with RemoteSlack() as slack:
        await slack.ask("add_workspaces", count=WORKSPACES, people=PEOPLE, installed=installed)
        async with serving(slack, mode, folder):
            await burst(slack, WARM)
            alone = [(await burst(slack, 1, WARM + number))[0] for number in range(ALONE)]
            together = await burst(slack, BURST)
            if shown:
                await until_all_shown(slack, WARM + ALONE + BURST)
    return alone, together


async def until_all_shown(slack: RemoteSlack, count: int) -> None:
    """Wait for everybody's picture, and say how that went."""
    began = time.monotonic()
    await slack.ask("until_shown", threads=count, seconds=300)
    print(f"all {count} pictures shown {time.monotonic() - began:.1f} s after the burst; ", end="")
    calls = await slack.ask("calls")
    print(f"errors {calls['errors'] or 'none'}; calls over a rate limit {calls['over'] or 'none'}")


async def acknowledgements(mode: str, folder: Path) -> None:
    """The table of times to acknowledge in one mode."""
    print(f"\n{mode}: ms from a command to its acknowledgement")
    theirs = await times(bare, mode, folder / "bare", shown=False)
    mine = await times(ours, mode, folder / "ours", shown=True)
    print(f"{'':44}{'p50':>8}{'p99':>8}{'most':>8}  goal")
    row("one command, slack_bolt that only acks", theirs[0])
    row("one command, fairbrush, committed first", mine[0])
    row(f"{BURST} at once over {WORKSPACES}, slack_bolt", theirs[1])
    row(f"{BURST} at once over {WORKSPACES}, fairbrush", mine[1], "p99 < 500, most < 3000")
    ratios = [quantile(mine[1], at) / quantile(theirs[1], at) for at in (0.5, 0.99)]
    print(f"{'ratio, the burst':44}{ratios[0]:>8.2f}{ratios[1]:>8.2f}")


def row(name: str, values: Sequence[float], goal: str = "") -> None:
    """One row, in milliseconds."""
    shown = (quantile(values, 0.5), quantile(values, 0.99), max(values))
    print(f"{name:44}" + "".join(f"{value * 1e3:>8.1f}" for value in shown) + (f"  {goal}" if goal else ""))


# --- edits of messages --------------------------------------------------------------------------------------


class SlowBackend(FakeBackend):
    """Makes every picture in so many seconds and tells of each step; a preview now and then."""

    def __init__(self, seconds: float, slots: int) -> None:
        super().__init__("slow:", slots=slots, seconds_per_picture=seconds)
        self._seconds = seconds

    async def _picture(self, job: FakeJob, index: int) -> None:
        steps = round(self._seconds * STEPS_A_SECOND)
        seed = job.request.seed_of(index)
        for step in range(1, steps + 1):
            await asyncio.sleep(1 / STEPS_A_SECOND)
            if step % round(PREVIEW_SECONDS * STEPS_A_SECOND) == 0:
                job.say(Preview(flat_png(64, 64, seed), "image/png", index))
            job.say(Progress(step / steps, step=step, total=steps))
        job.say(ImageReady(index, flat_png(job.request.width, job.request.height, seed), "image/png", seed))


@dataclass(frozen=True, slots=True)
class Shown:
    """What became of the jobs of one workspace: the edits of each job's two messages; seconds from the
    command until the picture was there, of each."""

    jobs: int
    edits: Sequence[int]
    waits: Sequence[float]


async def edits(folder: Path, seconds: float) -> None:
    """The table of edits, workspaces with few and many jobs side by side."""
    backend = SlowBackend(seconds, slots=sum(AT_ONCE))
    async with RemoteSlack() as slack:
        places = await slack.ask("add_workspaces", count=len(AT_ONCE), people=max(AT_ONCE), installed=False)
        await slack.ask("enforce", limits=True)
        async with ours(slack, "HTTP", folder, backend):
            began = time.time()
            text = f"a red fox {{n}} --size {SIDE}x{SIDE}"
            asked = (
                slack.ask("burst", count=count, text=text, teams=[place["id"]])
                for count, place in zip(AT_ONCE, places, strict=True)
            )
            await asyncio.gather(*asked)
            await slack.ask("until_shown", threads=sum(AT_ONCE), seconds=seconds + 180)
            await until_quiet(slack)
            found = [
                await shown_in(slack, place["channel"], count, began)
                for count, place in zip(AT_ONCE, places, strict=True)
            ]
            calls = await slack.ask("calls")
    print_edits(found, seconds, calls)


async def until_quiet(slack: RemoteSlack) -> None:
    """Wait until nothing is asked of Slack for some seconds: receipts come after results."""
    before = -1
    while (now := sum((await slack.ask("calls"))["methods"].values())) != before:
        before = now
        await asyncio.sleep(5.0)


async def shown_in(slack: RemoteSlack, channel: str, count: int, began: float) -> Shown:
    """Look at a workspace's only channel."""
    roots = [root for root in await slack.ask("look", channel=channel) if root["replies"]]
    assert len(roots) == count, (len(roots), count)
    made, waits = [], []
    for root in roots:
        pictures = [reply for reply in root["replies"] if reply["images"]]
        assert [len(reply["images"]) for reply in pictures] == [1], root
        made.append(len(root["edits"]) + sum(len(reply["edits"]) for reply in root["replies"]))
        waits.append(pictures[0]["edits"][-1] - began)
    return Shown(count, made, waits)


def print_edits(found: Sequence[Shown], seconds: float, calls: Mapping[str, Mapping[str, int]]) -> None:
    """The table."""
    steps = round(seconds * STEPS_A_SECOND)
    print(f"\nJobs of {seconds:.0f} s and {steps} steps, limits enforced: edits of a job's two messages")
    print(f"{'jobs at once in a workspace':32}{'mean':>8}{'most':>8}{'a step':>8}{'last shown':>12}  goal")
    for each in found:
        mean = statistics.mean(each.edits)
        print(
            f"{each.jobs:<32}{mean:>8.1f}{max(each.edits):>8}{mean / steps:>8.2f}{max(each.waits):>10.1f} s"
            "  most <= 8"
        )
    limited = {name: count for name, count in calls["errors"].items() if name.endswith("ratelimited")}
    others = {name: count for name, count in calls["errors"].items() if name not in limited}
    print(
        f"rate-limit errors {sum(limited.values())} (goal 0) {limited or ''}; other errors {others or 'none'}"
    )
    methods = {name: count for name, count in calls["methods"].items() if "oauth" not in name}
    print(f"calls: {methods}")


async def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="HTTP alone, jobs of 20 s")
    quick = parser.parse_args().quick
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        for mode in ("HTTP",) if quick else ("HTTP", "Socket Mode"):
            await acknowledgements(mode, Path(name) / mode)
        await edits(Path(name) / "edits", 20.0 if quick else 60.0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
