"""`fairbrush run`: the program until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from typing import cast

from bot.app import App, build
from bot.core.settings import Settings
from bot.logs import set_up
from bot.secretkey import with_secret_key

log = logging.getLogger(__name__)

DRAIN = 30.0  # seconds that all of stopping may take; what is unfinished is kept for the next start


async def run(settings: Settings, app: App | None = None) -> int:
    """Start, say where the Playground is, serve until SIGTERM or SIGINT. A second signal does not wait.

    Raises ConfigurationError, also later where a platform refuses its token.
    """
    settings = with_secret_key(settings)  # before the log opens: it is kept out of that too
    set_up(settings.log_level, settings.secrets.values())
    app = app or build(settings)
    stop, now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (now if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    starting = asyncio.ensure_future(app.start())
    try:
        await _first(stop, starting)
        if not starting.done():
            return 0
        starting.result()
        spare_pauses()
        _announce(app)
        await _first(stop, app.failed)
        if app.failed.done():
            app.failed.result()
        log.info("stopping within %.0f s: what is unfinished by then is kept", DRAIN)
    finally:
        starting.cancel()
        await asyncio.wait({starting})
        closing = asyncio.ensure_future(app.aclose(drain=DRAIN if stop.is_set() else 0.0))
        await _first(now, closing)
        if not closing.done():
            log.warning("stopping at once")
            await app.aclose()
        await closing
    return 0


def spare_pauses() -> None:
    """Let the garbage collector leave alone what stays for good, and run less often: looking at everything
    would stop the event loop for a tenth of a second now and then."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _announce(app: App) -> None:
    sys.stdout.write(f"Fairbrush is ready: {app.url}\n")
    sys.stdout.flush()


async def _first(event: asyncio.Event, future: asyncio.Future[None]) -> None:
    waiter: asyncio.Future[object] = asyncio.ensure_future(event.wait())
    either: set[asyncio.Future[object]] = {waiter, cast("asyncio.Future[object]", future)}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
