"""Being connected, whatever happens: supervised, with back-off, far below Discord's limit of sessions.

A token that Discord refuses ends it: as a mistake in the settings before it ever worked, for good after that.
Everything else is tried again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from typing import TYPE_CHECKING, Final

import aiohttp
import discord
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from adapters.discord.bot_token import REFUSED, checked_token
from adapters.discord.client import Client
from adapters.discord.starts import Starts
from bot.core.errors import AuthFailed, ConfigurationError, FairbrushError, Unavailable

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
STEADY: Final = 60.0  # seconds of being connected after which pauses are short again
CLOSE_MOST: Final = 2.0  # seconds for a polite goodbye

TOKEN_REFUSED, INTENTS_INVALID, INTENTS_REFUSED = 4004, 4013, 4014

WRONG_INTENTS: Final = (
    "Discord refuses the bot's intents. It needs none that must be allowed; look at the Bot page of your "
    "application at https://discord.com/developers/applications"
)
WRONG_SCOPE: Final = (
    "Discord does not let this application register its commands. Add it to your server with the address "
    "that `fairbrush invite` prints, which asks for the scopes bot and applications.commands."
)


class Connection:
    """See the module. client: the one that is logged in, None where there is none."""

    def __init__(self, adapter: Discord) -> None:
        redirect(adapter)  # before anything is asked: what was left unfinished goes on before run() begins
        self.client: Client | None = None
        self.starts = Starts(adapter.clock)
        self.pause = FIRST_PAUSE
        self._adapter = adapter
        self._clock = adapter.clock
        self._changed = asyncio.Event()
        self._worked = False
        self._over: FairbrushError | None = None
        self._closed = False

    async def online(self) -> Client:
        """The client that is logged in; waits for it. Raises Unavailable where there will be none."""
        while self.client is None:
            if self._over is not None:
                raise Unavailable("Discord refuses the bot.", detail=self._over.message, retry_after=300.0)
            self._changed.clear()
            await self._changed.wait()
        return self.client

    async def run(self) -> None:
        """Connect and stay connected until cancelled. Raises ConfigurationError, or AuthFailed later."""
        keep_tokens_out_of_the_log()
        token = checked_token(self._adapter.settings.secret("DISCORD_TOKEN").reveal())
        await self.starts.read(self._adapter.studio.shelf("discord"))
        while not self._closed:
            began = self._clock.monotonic()
            try:
                await self._session(token)
            except (ConfigurationError, AuthFailed) as error:
                self._over = error
                self._changed.set()
                raise
            except Exception as error:  # the network, Discord, or the library's troubles with either
                self._explain(error)
            if self._clock.monotonic() - began > STEADY:
                self.pause = FIRST_PAUSE
            await self._rest()

    async def _rest(self) -> None:
        """Longer each time, never at the same moment as others."""
        wait = self.pause * random.uniform(0.5, 1.0)
        self.pause = min(self.pause * 2, LONGEST_PAUSE)
        if not self._closed:
            log.info("connecting again in %.0f s", wait)
            await self._clock.sleep(wait)

    def _explain(self, error: Exception) -> None:
        known = (OSError, aiohttp.ClientError, discord.DiscordException, TimeoutError)
        unknown = None if isinstance(error, known) else error
        log.warning("the connection to Discord broke: %s: %s", type(error).__name__, error, exc_info=unknown)

    # --- one client ---

    async def _session(self, token: str) -> None:
        """From the login to the end of the connection."""
        client = Client(self._adapter, self.starts)
        try:
            await client.login(token)
            self.client = client
            self._changed.set()
            await self._connected(client)
        except discord.LoginFailure as error:
            raise self._refused(client) from error
        except discord.PrivilegedIntentsRequired as error:
            raise ConfigurationError(WRONG_INTENTS) from error
        except discord.ConnectionClosed as error:
            if error.code == TOKEN_REFUSED:
                raise self._refused(client) from error
            if error.code in (INTENTS_INVALID, INTENTS_REFUSED):
                raise ConfigurationError(WRONG_INTENTS) from error
            raise
        finally:
            self.client = None
            self._worked = self._worked or client.worked
            await leave(client)

    def _refused(self, client: Client) -> FairbrushError:
        """A token that never worked is a mistake; one that did was taken back."""
        return AuthFailed(REFUSED) if self._worked or client.worked else ConfigurationError(REFUSED)

    async def _connected(self, client: Client) -> None:
        """Events come in, and commands are told to Discord meanwhile."""
        limits = await client.fetch_session_start_limits()
        self.starts.total = limits.total
        wait = max(self.starts.wait(first=True), 0.0 if limits.remaining else limits.reset_after / 1000)
        if wait > 0:  # results are shown meanwhile: only events need a session
            log.error("too many sessions were begun today: the next one begins in %.0f s", wait)
            await self._clock.sleep(wait)
        connecting = asyncio.ensure_future(client.connect())
        telling = asyncio.ensure_future(self._tell_commands(client))
        try:
            await asyncio.wait({connecting, telling}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
            await connecting
        finally:
            for task in (connecting, telling):
                await stopped(task)

    async def _tell_commands(self, client: Client) -> None:
        """Until Discord knows them. Members can go on with those that it knows meanwhile."""
        pause = 5.0
        while True:
            try:
                await client.sync()
                return
            except discord.HTTPException as error:
                if error.status == 403 and error.code and not self._worked:
                    raise ConfigurationError(WRONG_SCOPE) from error
                if 400 <= error.status < 500 and error.status not in (401, 429):
                    log.error("Discord does not take the commands: %s", error)
                    return
                log.warning("the commands are not registered yet: %s", error)
            except (discord.DiscordException, aiohttp.ClientError, OSError, Unavailable) as error:
                log.warning("the commands are not registered yet: %s", error)
            await self._clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def aclose(self) -> None:
        """Leave; idempotent."""
        self._closed = True
        if self.client is not None:
            await leave(self.client)


async def leave(client: Client) -> None:
    """Close politely, or else at once."""
    try:
        async with asyncio.timeout(CLOSE_MOST):
            await client.close()
    except TimeoutError:
        log.info("Discord did not answer the goodbye")
    except Exception as error:  # the library's own, of a connection that was never whole
        log.debug("while leaving: %s: %s", type(error).__name__, error)
    await client.http.close()
    gc.unfreeze()  # what the client knew can go


async def stopped(task: asyncio.Future[None]) -> None:
    """Cancel until it ends: before Python 3.12 a wait with a time limit may swallow one cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


def redirect(adapter: Discord) -> None:
    """Other addresses than Discord's own. The library has one of each for the whole process."""
    urls = adapter.settings.platform_urls
    if "discord" in urls:
        Route.BASE = urls["discord"].rstrip("/")
    if "discord-gateway" in urls:
        DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(urls["discord-gateway"])


def keep_tokens_out_of_the_log() -> None:
    """For debugging the library logs whole addresses and payloads, and tokens of interactions with them."""
    for name in ("discord.http", "discord.webhook", "discord.gateway"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger(name).getEffectiveLevel()))
