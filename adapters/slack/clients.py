"""A Web API client for each workspace, over one HTTP session, each with its own token."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient
from yarl import URL

from adapters.slack.installations import Installation, Installations
from adapters.slack.pacing import Gate
from adapters.slack.problems import Removed
from adapters.slack.workspace import Workspace
from bot.core.patience import Tasks
from bot.core.settings import Secret

API: Final = "https://slack.com/api/"
TIMEOUT: Final = 30  # seconds

# The SDK tells at debug level what it sends, and at info level what it gets: both may hold people's words.
SDK_LOG: Final = logging.getLogger("adapters.slack.sdk")
SDK_LOG.setLevel(logging.WARNING)


class Clients:
    """base_url: the Web API's address; on_own_removed: the operator's own token is no good any more."""

    def __init__(
        self, base_url: str, installations: Installations, on_own_removed: Callable[[], None]
    ) -> None:
        self.base_url = (base_url or API).rstrip("/") + "/"
        self._installations = installations
        self._on_own_removed = on_own_removed
        self._session: aiohttp.ClientSession | None = None
        self._gate = Gate(time.monotonic, asyncio.sleep)
        self._tasks = Tasks()

    async def workspace(self, team: str, enterprise: str = "") -> Workspace:
        """The bot in a workspace. Raises Removed where the program is not installed there."""
        token = await self._installations.token(team, enterprise)
        if not token:
            raise Removed("Fairbrush is not installed in this workspace.", detail=team)
        return self.with_token(token, team, enterprise)

    def with_token(self, token: Secret, team: str = "", enterprise: str = "") -> Workspace:
        """The bot with a token that is not looked up."""
        client = self.client(token, team)
        return Workspace(
            client, self._gate, team or enterprise, lambda: self._removed(token, team, enterprise)
        )

    def client(self, token: Secret | None = None, team: str = "") -> AsyncWebClient:
        """The SDK's client, without any retries of its own. team: an organisation's token needs it said."""
        return AsyncWebClient(
            token=token.reveal() if token else None,
            team_id=team or None,
            base_url=self.base_url,
            timeout=TIMEOUT,
            session=self.session,
            retry_handlers=[],
            logger=SDK_LOG,
        )

    def is_slacks(self, url: str) -> bool:
        """Whether an address is of the Web API's host, or of one below it: our token may go there."""
        home, asked = URL(self.base_url), URL(url)
        host, known = asked.host or "", home.host or ""
        same = host == known or host.endswith("." + known.removeprefix("www."))
        way = (asked.scheme, asked.port) == (home.scheme, home.port)
        return bool(known) and same and way and asked.user is None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session, made when it is first needed."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        return self._session

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        self._gate.close()
        await self._tasks.aclose(patience=1.0)
        if self._session is not None:
            await self._session.close()

    def _removed(self, token: Secret, team: str, enterprise: str) -> None:
        self._tasks.start(self._forget(token, team, enterprise))

    async def _forget(self, token: Secret, team: str, enterprise: str) -> None:
        """One workspace's token is no good: that workspace is out, unless it has another by now."""
        found: Installation | None = await self._installations.find(team, enterprise)
        if found is None or found.token != token:
            return
        if found is self._installations.own:
            self._on_own_removed()
        else:
            await self._installations.forget(found)
