"""The real program with a test platform and a test backend, in a process that can be killed.

`python -m tests.fakes.program --platform URL --data-dir D`. Never in the shipped list of adapters.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bot.app import build
from bot.config import load
from bot.core.ports import Event, RemoteRef
from bot.core.request import ImageRequest
from bot.run import run
from tests.fakes.backend import FakeBackend
from tests.fakes.postbox import Postbox


class StagedBackend(FakeBackend):
    """A FakeBackend that tells the platform where it is, and waits there while that stage is held."""

    def __init__(self, postbox: Postbox) -> None:
        super().__init__("staged:", slots=1)
        self._postbox = postbox

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Stage `started` comes before the job is taken."""
        await self._postbox.call("post", "/stage/started", {"job": job_id})
        return await super().submit(request, job_id=job_id)

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """Stage `running` comes with every event."""
        async for event in super().events(ref):
            await self._postbox.call("post", "/stage/running", {"ref": dict(ref.data)})
            yield event


async def main() -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--platform", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    args = parser.parse_args()
    settings = load(data_dir=args.data_dir, port=0, env_file=None)
    postbox = Postbox(args.platform)
    app = build(settings, adapters=[postbox], backends=[StagedBackend(postbox)])
    return await run(settings, app)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
