"""What a local Slack holds: workspaces, people, conversations, messages, files, views, installations.

Plain data with the rules that belong to it (who may see what). Knows no HTTP. Whoever changes something calls
World.touch(), so that until() looks again.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bot.core.ports import Clock

Payload = dict[str, Any]
REAL_CLOCK = Clock(now=time.time, monotonic=time.monotonic, sleep=asyncio.sleep)
SCOPES = (
    "app_mentions:read,channels:read,chat:write,commands,files:read,files:write,groups:read,"
    "im:history,im:read,im:write,reactions:write,team:read,users:read"
)


class Refused(Exception):
    """An answer with ok false. extra: further fields of it; status and headers: of the HTTP answer."""

    def __init__(
        self, error: str, *, status: int = 200, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.headers = headers or {}
        self.extra = extra


@dataclass
class Enterprise:
    """An Enterprise Grid organisation."""

    id: str
    name: str


@dataclass
class Workspace:
    """A team. enterprise: the organisation's id, or empty."""

    id: str
    name: str
    domain: str
    enterprise: str = ""


@dataclass
class Account:
    """A user or a bot user. team: the home workspace."""

    id: str
    name: str
    team: str
    admin: bool = False
    bot: bool = False
    deleted: bool = False


@dataclass
class Channel:
    """A conversation. kind: public, private or im; restricted: only admins may post; user: an im's person."""

    id: str
    team: str
    name: str
    kind: str = "public"
    members: set[str] = field(default_factory=set)
    archived: bool = False
    restricted: bool = False
    user: str = ""


@dataclass(frozen=True)
class Edit:
    """One chat.update that was applied."""

    at: float
    text: str
    blocks: list[Payload]


@dataclass
class Message:
    """A message. only_for: the user who alone sees it (ephemeral); files: ids attached to it."""

    channel: str
    ts: str
    user: str
    team: str
    text: str = ""
    blocks: list[Payload] = field(default_factory=list)
    thread_ts: str = ""
    bot_id: str = ""
    files: list[str] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    broadcast: bool = False
    deleted: bool = False
    only_for: str = ""
    metadata: Payload | None = None
    reactions: set[tuple[str, str]] = field(default_factory=set)
    first_text: str = ""


@dataclass(frozen=True)
class Share:
    """That a file is shown in a conversation."""

    channel: str
    ts: str
    thread_ts: str


@dataclass
class File:
    """A file. mimetype is empty until it has been processed; completed: completeUploadExternal was called."""

    id: str
    team: str
    owner: str
    name: str
    length: int
    created: float
    alt: str = ""
    title: str = ""
    data: bytes | None = None
    completed: bool = False
    mimetype: str = ""
    shares: list[Share] = field(default_factory=list)
    deleted: bool = False


@dataclass
class View:
    """A modal or an App Home. content: the view as the program gave it; values: what has been entered."""

    id: str
    team: str
    user: str
    content: Payload
    hash: str
    root: str
    previous: str = ""
    values: dict[str, dict[str, Payload]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class Installation:
    """The program in a workspace or, with an empty team, in a whole organisation."""

    token: str
    team: str
    enterprise: str
    bot_user: str
    bot_id: str
    scopes: str
    installer: str
    revoked: bool = False
    removed: bool = False


@dataclass(frozen=True)
class Grant:
    """What somebody agreed to on the authorize page; a code stands for it once."""

    team: str
    enterprise: str
    user: str
    scopes: str
    redirect_uri: str


@dataclass
class Trigger:
    """A trigger_id. Good for one view within 3 seconds."""

    id: str
    at: float
    team: str
    user: str
    used: bool = False


@dataclass
class ResponseUrl:
    """A response_url: five uses in 30 minutes. ts: the message that was acted upon, or empty."""

    id: str
    at: float
    team: str
    channel: str
    user: str
    ts: str = ""
    thread_ts: str = ""
    uses: int = 0


@dataclass
class AppConfig:
    """The program as Slack knows it."""

    id: str = "A0000000001"
    name: str = "fairbrush"
    client_id: str = "1111111111.2222222222"
    client_secret: str = "client-secret-of-the-local-slack"
    signing_secret: str = "signing-secret-of-the-local-slack"
    app_token: str = "xapp-1-A0000000001-1-local"
    verification: str = "verification-token"
    events: frozenset[str] = frozenset(
        {"app_mention", "message.im", "app_home_opened", "app_uninstalled", "tokens_revoked"}
    )


class World:
    """Everything there is."""

    def __init__(self, clock: Clock = REAL_CLOCK) -> None:
        self.clock = clock
        self.app = AppConfig()
        self.url = "https://files.slack.example"
        self.enterprises: dict[str, Enterprise] = {}
        self.workspaces: dict[str, Workspace] = {}
        self.accounts: dict[str, Account] = {}
        self.channels: dict[str, Channel] = {}
        self.messages: dict[tuple[str, str], Message] = {}
        self.ephemerals: list[Message] = []
        self.files: dict[str, File] = {}
        self.modals: dict[str, list[View]] = {}
        self.homes: dict[str, View] = {}
        self.installations: dict[str, Installation] = {}
        self.codes: dict[str, Grant] = {}
        self.redirect_uri = ""
        self.triggers: dict[str, Trigger] = {}
        self.response_urls: dict[str, ResponseUrl] = {}
        self._numbers = itertools.count(1)
        self._last_ts = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- changes ---

    def touch(self) -> None:
        """Something has changed."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Until something is so; looked at after every change here. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():
                waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.add(waiting)
                try:
                    await waiting
                finally:
                    self._waiting.discard(waiting)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after a while; at once where `seconds` is 0."""
        if seconds <= 0:
            act()
            self.touch()
            return

        async def wait() -> None:
            await self.clock.sleep(seconds)
            act()
            self.touch()

        task = asyncio.ensure_future(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Forget what was to happen later."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- making ---

    def new_id(self, letter: str) -> str:
        """An id as Slack's: a letter that tells the kind, ten characters."""
        return f"{letter}{next(self._numbers):010d}"

    def new_ts(self) -> str:
        """The next message's time stamp: Unix seconds with microseconds, never twice."""
        self._last_ts = max(self._last_ts + 1, int(self.clock.now() * 1_000_000))
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def add_enterprise(self, name: str) -> Enterprise:
        """An organisation."""
        made = Enterprise(self.new_id("E"), name)
        self.enterprises[made.id] = made
        return made

    def add_workspace(self, name: str, enterprise: str = "") -> Workspace:
        """A workspace, of an organisation where one is named."""
        made = Workspace(self.new_id("T"), name, name.lower().replace(" ", "-"), enterprise)
        self.workspaces[made.id] = made
        return made

    def add_account(self, name: str, team: str, *, admin: bool = False, bot: bool = False) -> Account:
        """A user of a workspace."""
        made = Account(self.new_id("U"), name, team, admin, bot)
        self.accounts[made.id] = made
        return made

    def add_channel(self, name: str, team: str, *, kind: str = "public", user: str = "") -> Channel:
        """A conversation without members."""
        made = Channel(self.new_id("D" if kind == "im" else "C"), team, name, kind, user=user)
        self.channels[made.id] = made
        return made

    def add_installation(self, team: str, enterprise: str, installer: str, scopes: str) -> Installation:
        """The program's place in a workspace (or organisation), with a bot user and a token of its own."""
        for known in self.installations.values():
            if (known.team, known.enterprise) == (team, enterprise) and not known.removed:
                return known
        bot = self.add_account(self.app.name, team, bot=True)
        number = next(self._numbers)
        made = Installation(
            f"xoxb-{number:012d}-local", team, enterprise, bot.id, self.new_id("B"), scopes, installer
        )
        self.installations[made.token] = made
        return made

    def add_trigger(self, team: str, user: str) -> str:
        """A fresh trigger_id."""
        made = f"{next(self._numbers)}.{int(self.clock.now())}.{self.new_id('x').lower()}"
        self.triggers[made] = Trigger(made, self.clock.monotonic(), team, user)
        return made

    def add_response_url(
        self, team: str, channel: str, user: str, *, ts: str = "", thread_ts: str = ""
    ) -> str:
        """The id of a fresh response_url."""
        made = f"{team}/{next(self._numbers)}/response"
        at = self.clock.monotonic()
        self.response_urls[made] = ResponseUrl(made, at, team, channel, user, ts, thread_ts)
        return made

    def post(self, message: Message) -> Message:
        """Put a message where it belongs."""
        message.first_text = message.text
        if message.only_for:
            self.ephemerals.append(message)
        else:
            self.messages[message.channel, message.ts] = message
        self.touch()
        return message

    # --- asking ---

    def installation_for(self, team: str) -> Installation | None:
        """The installation that serves a workspace: its own, or its organisation's."""
        enterprise = self.workspaces[team].enterprise
        valid = [each for each in self.installations.values() if not each.removed]
        own = [each for each in valid if each.team == team]
        org = [each for each in valid if enterprise and not each.team and each.enterprise == enterprise]
        return next(iter(own or org), None)

    def reaches(self, installation: Installation, team: str) -> bool:
        """Whether an installation's token is good for a workspace."""
        if installation.team:
            return installation.team == team
        return self.workspaces[team].enterprise == installation.enterprise

    def im(self, installation: Installation, user: str) -> Channel:
        """The direct messages of the bot and a person, opened where they are not yet."""
        for channel in self.channels.values():
            if channel.kind == "im" and channel.members == {installation.bot_user, user}:
                return channel
        made = self.add_channel("directmessage", self.accounts[user].team, kind="im", user=user)
        made.members = {installation.bot_user, user}
        return made

    def roots(self, channel: str) -> list[Message]:
        """What a channel shows: messages outside threads and replies sent to the channel too."""
        found = [m for m in self.messages.values() if m.channel == channel and not m.deleted]
        return sorted((m for m in found if not m.thread_ts or m.broadcast), key=lambda m: m.ts)

    def replies(self, channel: str, thread_ts: str) -> list[Message]:
        """What a thread shows below its first message."""
        found = [m for m in self.messages.values() if m.channel == channel and not m.deleted]
        return sorted((m for m in found if m.thread_ts == thread_ts), key=lambda m: m.ts)
