"""Slack as a platform: what serves it, and a conversation for each request."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Sequence
from typing import Any, Final
from weakref import WeakSet

from aiohttp import web

from adapters.slack import names, people
from adapters.slack.app import build_app
from adapters.slack.clients import Clients
from adapters.slack.conversation import Receipt, SlackConversation
from adapters.slack.forms import Forms
from adapters.slack.home import Homes
from adapters.slack.http import Doors
from adapters.slack.hurry import Hurry
from adapters.slack.installations import Installation, Installations
from adapters.slack.pictures import Pictures
from adapters.slack.problems import Removed
from adapters.slack.recent import Recent
from adapters.slack.sockets import Sockets
from adapters.slack.workspace import Workspace
from bot.core.errors import AuthFailed, ConfigurationError, FairbrushError, Fault, Unavailable
from bot.core.patience import Tasks
from bot.core.ports import Address, Conversation, Pace
from bot.core.request import Picture
from bot.core.settings import Settings
from bot.core.studio import Studio

log = logging.getLogger(__name__)

# Edits a minute and workspace: Slack takes 50, of which receipts and what is not counted here get some.
PACE: Final = Pace(seconds_per_message=3.0, edits_per_minute=40)
AGAIN_FIRST, AGAIN_MOST = 1.0, 60.0  # seconds between tries to reach Slack at start
REMEMBERED: Final = 2000  # receipts of requests whose root message is not posted yet
RESENT: Final = 600.0  # seconds within which Slack sends an event again
ADMINS_KNOWN: Final = 1000
PATIENCE: Final = 1.5  # seconds for what is still being said when the program stops


class Slack:
    """The adapter. Socket Mode where SLACK_APP_TOKEN is set, else HTTP; one set of listeners."""

    name = "slack"
    pace = PACE

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.installations = Installations(settings.secret("SLACK_BOT_TOKEN"))
        self.clients = Clients(settings.platform_urls.get("slack", ""), self.installations, self._own_removed)
        self.forms = Forms(self)
        self.pictures = Pictures(self)
        self.homes = Homes(self)
        self.hurry = Hurry()
        self.app = build_app(self)
        self.doors = Doors(self)
        self._studio: Studio | None = None
        self._met = False
        self._receipts: OrderedDict[str, Receipt] = OrderedDict()
        self.admins = Recent(ADMINS_KNOWN, people.REMEMBERED)
        self._seen = Recent(REMEMBERED, RESENT)
        self._tasks = Tasks()
        self._lost = asyncio.Event()
        self._open: defaultdict[str, WeakSet[SlackConversation]] = defaultdict(WeakSet)

    @property
    def studio(self) -> Studio:
        """The core. Raises Unavailable until run() begins."""
        if self._studio is None:
            raise Unavailable("Fairbrush is starting. Send it again in a minute.", retry_after=5.0)
        return self._studio

    @property
    def ready(self) -> bool:
        """Whether requests can be taken in: the core is there, and whose the own token is, is known."""
        return self._studio is not None and self._met

    # --- the port ---

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Events where there is no Socket Mode, and the pages of installing by OAuth where it is set up."""
        return self.doors.routes()

    async def run(self, studio: Studio) -> None:
        """Serve until cancelled. Raises ConfigurationError where Slack refuses a token at start, AuthFailed
        where it does so later."""
        self.installations.open(studio.shelf(self.name), self.settings.secret("FAIRBRUSH_SECRET_KEY"))
        self._studio = studio
        self._lost.clear()
        if self.settings.secret("SLACK_BOT_TOKEN"):
            await self._meet()
        self._met = True
        app_token = self.settings.secret("SLACK_APP_TOKEN")
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._lost.wait())]
        if app_token:
            tasks.append(asyncio.ensure_future(Sockets(self.app, self.clients, app_token, self.hurry).run()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise AuthFailed("Slack revoked SLACK_BOT_TOKEN, or the app was removed.")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def conversation(self, address: Address) -> Conversation:
        """The conversation at a stored address."""
        return self.homes.watched(SlackConversation(self, address), address)

    async def aclose(self) -> None:
        """Hang up; idempotent."""
        await self._tasks.aclose(patience=PATIENCE)
        await self.pictures.aclose()
        await self.homes.aclose()
        await self.clients.aclose()

    # --- the operator's own token ---

    async def _meet(self) -> None:
        """Whose workspace SLACK_BOT_TOKEN is of. Waits for ever while Slack is out of reach."""
        delay = AGAIN_FIRST
        while True:
            try:
                self.installations.own_is(await self.own_identity())
                return
            except Removed as error:
                raise ConfigurationError(
                    "Slack refused SLACK_BOT_TOKEN. Copy the Bot User OAuth Token (xoxb-...) from the app's "
                    "page, OAuth & Permissions.",
                    detail=error.detail,
                ) from None
            except Fault as error:
                log.warning(
                    "Slack is out of reach; again in %.0f s: %s", delay, error.detail or error.message
                )
            await asyncio.sleep(delay)
            delay = min(delay * 2, AGAIN_MOST)

    async def own_identity(self) -> Installation:
        """What Slack says of SLACK_BOT_TOKEN."""
        token = self.settings.secret("SLACK_BOT_TOKEN")
        said = await self.clients.with_token(token).identity()
        org = bool(said.get("is_enterprise_install"))
        return Installation(
            "" if org else str(said.get("team_id") or ""),
            str(said.get("enterprise_id") or ""),
            token,
            str(said.get("user_id") or ""),
            str(said.get("bot_id") or ""),
            str(said.get("app_id") or ""),
            str(said.get("team") or ""),
        )

    def _own_removed(self) -> None:
        """The token was good, and is not any more: this adapter stops, or goes on for workspaces by OAuth."""
        if self.installations.own is None:
            return
        log.error("Slack does not take SLACK_BOT_TOKEN any more")
        self.installations.disown()
        if not self.settings.secret("SLACK_CLIENT_ID"):
            self._lost.set()

    async def left(self, team: str, enterprise: str) -> None:
        """Slack said that the program was removed, or its token revoked. The token itself is asked, since the
        program may have been installed again meanwhile; where it is no good, it is forgotten."""
        workspace = await self.clients.workspace(team, enterprise)
        await workspace.identity()

    # --- what conversations and listeners use ---

    async def calm(self) -> None:
        """Until what has arrived is acknowledged."""
        await self.hurry.over()

    async def workspace(self, address: Address) -> Workspace:
        """The bot where a conversation is. Raises Removed where it is not installed any more."""
        return await self.clients.workspace(
            str(address.get("team") or ""), str(address.get("enterprise") or "")
        )

    def remember(self, key: str, receipt: Receipt) -> None:
        """What was accepted, for the message that says so."""
        self._receipts[key] = receipt
        while len(self._receipts) > REMEMBERED:
            self._receipts.popitem(last=False)

    def receipt(self, key: str) -> Receipt | None:
        """What was remembered; once."""
        return self._receipts.pop(key, None)

    def is_first(self, key: str) -> bool:
        """Whether an event that makes nothing comes for the first time: Slack sends some again."""
        if self._seen.get(key) is not None:
            return False
        self._seen.put(key, True)
        return True

    def link(self, picture: Picture) -> str | None:
        """A picture's address for a while, None where others cannot reach it."""
        return self._studio.link(picture) if self._studio is not None else None

    def bot_name(self) -> str:
        """What people invite."""
        return names.BOT_NAME

    def opened(self, conversation: SlackConversation, team: str) -> None:
        """A conversation whose result is still to come; forgotten with it."""
        self._open[team].add(conversation)

    def closed(self, conversation: SlackConversation, team: str) -> None:
        """Its result is shown."""
        self._open[team].discard(conversation)

    def open_in(self, team: str) -> int:
        """How many of them there are in a workspace."""
        return len(self._open[team])

    def later(self, work: Awaitable[Any]) -> None:
        """Do something that nobody waits for; it may be lost in a crash."""

        async def do() -> None:
            try:
                await work
            except FairbrushError as error:
                log.info("not done: %s %s", error.message, error.detail)

        self._tasks.start(do())
