"""The real program with a test backend, in a process that can be killed. In no shipped list of what there is.

`python -m tests.fakes.program --platform URL --data-dir D`: the test platform of postbox.py.
`python -m tests.fakes.program --stages URL --data-dir D`: the installed adapters, as the environment enables
them: DISCORD_TOKEN with FAIRBRUSH_DISCORD_API_URL and FAIRBRUSH_DISCORD_GATEWAY_URL, or others. Without
--stages nobody is told how far a job is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import aiohttp

from bot.app import build
from bot.config import SECRETS, load
from bot.core.errors import Unavailable
from bot.core.ports import Clock, Event, RemoteRef
from bot.core.request import ImageRequest
from bot.run import run
from tests.fakes.backend import FakeBackend
from tests.fakes.postbox import Postbox


class Program:
    """The program in a process of its own, started and killed at will.

    arguments: for the command line; environment: what it gets beside the tests' own, which is without
    settings of Fairbrush; module: what is run.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        module: str = "tests.fakes.program",
    ) -> None:
        self._module = module
        self._arguments = tuple(arguments)
        kept = {name: value for name, value in os.environ.items() if not _is_setting(name)}
        self._environment = {**kept, **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *more: str) -> None:
        """Start it; it is not waited for. more: arguments of this run alone."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module, *self._arguments, *more),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
        )

    async def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def ready(self) -> str:
        """Until it serves, asked once a start; its address."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        assert b"ready" in line
        return line.decode().split()[-1]

    async def stop(self) -> int:
        """SIGTERM once it is ready; the exit code."""
        await self.ready()
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), 60)


def _is_setting(name: str) -> bool:
    return name.startswith("FAIRBRUSH_") or name.removesuffix("_FILE") in SECRETS


# --- inside that process ----------------------------------------------------------------------------------


class StagedBackend(FakeBackend):
    """A FakeBackend that tells a server where it is, by POST /stage/NAME, and waits for each answer."""

    def __init__(self, url: str) -> None:
        super().__init__("staged:", slots=1)
        self._url = url
        self._http: aiohttp.ClientSession | None = None

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Stage `started` comes before the job is taken."""
        await self._tell("started")
        return await super().submit(request, job_id=job_id)

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """Stage `running` comes with every event."""
        async for event in super().events(ref):
            await self._tell("running")
            yield event

    async def aclose(self) -> None:
        """Hang up."""
        await super().aclose()
        if self._http is not None:
            await self._http.close()

    async def _tell(self, stage: str) -> None:
        if not self._url:
            return
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        try:
            async with self._http.post(f"{self._url}/stage/{stage}") as answer:
                answer.raise_for_status()
        except aiohttp.ClientError as error:
            raise Unavailable("The stages are out of reach.", detail=str(error), retry_after=0.1) from None


def clock(ahead: float) -> Clock:
    """The real one, with the time of day so many seconds ahead: as if the program had been away so long."""
    return Clock(now=lambda: time.time() + ahead, monotonic=time.monotonic, sleep=asyncio.sleep)


async def main() -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--platform", default="", help="address of a test platform")
    parser.add_argument("--stages", default="", help="address that is told the stages, if not the platform's")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--ahead", type=float, default=0.0)
    args = parser.parse_args()
    settings = load(data_dir=args.data_dir, port=0, env_file=None)
    adapters = [Postbox(args.platform)] if args.platform else None
    backend = StagedBackend(args.stages or args.platform)
    app = build(settings, adapters=adapters, backends=[backend], clock=clock(args.ahead))
    return await run(settings, app)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
