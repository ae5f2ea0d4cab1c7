"""The real program with hosted backends, in a process that can be killed; see program.py.

`python -m tests.fakes.hosted_program --platform URL --data-dir D`: the backends that FAIRBRUSH_BACKENDS
names, pointed at local services by FAIRBRUSH_SALAD_URL and its like, polling faster than they would.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from backends import salad, stochastic
from bot.app import build
from bot.config import load
from bot.core.ports import Backend
from bot.core.settings import BackendEntry, Settings
from bot.run import run
from tests.fakes.postbox import Postbox

POLL = 0.1


def delays() -> Iterator[float]:
    """Seconds between polls."""
    return itertools.repeat(POLL)


def opened(entry: BackendEntry, settings: Settings) -> Backend:
    """The backend of an entry."""
    kinds = {"salad": salad.build, "stochastic": stochastic.build}
    return kinds[entry.kind](entry.target, settings, delays=delays)


async def main() -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--platform", required=True, help="address of a test platform")
    parser.add_argument("--data-dir", type=Path, required=True)
    args = parser.parse_args()
    settings = load(data_dir=args.data_dir, port=0, env_file=None)
    hosted = [opened(entry, settings) for entry in settings.backends]
    return await run(settings, build(settings, adapters=[Postbox(args.platform)], backends=hosted))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
