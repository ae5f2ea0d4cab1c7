"""The whole program with the Slack adapter, a fake backend and a local Slack.

async with slack_house(tmp_path) as house:                 # Socket Mode; http=True: HTTP mode
    done = await house.slack.bob.command("a red fox")
    status = await house.finished("red fox")               # the message with the pictures
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.slack.adapter import Slack as SlackAdapter
from adapters.slack.names import SCOPES
from bot.app import App, build
from bot.core.ports import Backend
from bot.core.settings import BackendEntry, Secret, Settings
from bot.core.studio import Studio
from tests.fakes.backend import FakeBackend
from tests.fakes.memory_store import MemoryStore
from tests.fakes.slack import Slack
from tests.fakes.slack_people import Person
from tests.fakes.slack_state import Message


@dataclass
class SlackHouse:
    """A running program and its Slack."""

    slack: Slack
    app: App
    adapter: SlackAdapter
    backend: FakeBackend

    @property
    def studio(self) -> Studio:
        """What adapters call."""
        return self.app.studio

    def replies(self) -> list[Message]:
        """Every message of the bot inside a thread."""
        return [m for m in self.slack.world.messages.values() if m.bot_id and m.thread_ts and not m.deleted]

    def done(self, text: str = "") -> list[Message]:
        """Status messages that show a result."""
        return [m for m in self.replies() if "white_check_mark" in m.text and text in m.text]

    async def finished(self, text: str = "", seconds: float = 20.0) -> Message:
        """The first status message that shows a result, once there is one."""
        await self.slack.until(lambda: self.done(text), seconds)
        return self.done(text)[0]

    async def ended(self, text: str, seconds: float = 20.0) -> Message:
        """The first message of the bot with this text in it, anywhere."""

        def found() -> list[Message]:
            every = [m for m in self.slack.world.messages.values() if m.bot_id and not m.deleted]
            return [m for m in every if text in self.slack.read(m) or text in m.text]

        await self.slack.until(found, seconds)
        return found()[0]

    async def told(self, person: Person, text: str = "", seconds: float = 20.0) -> Message:
        """The last thing said to one person alone with this text in it, once there is one."""

        def found() -> list[Message]:
            said = [*self.slack.messages(person.dm), *person.ephemerals]
            return [m for m in said if m.bot_id and text in self.slack.read(m)]

        await self.slack.until(found, seconds)
        return found()[-1]


def slack_settings(
    slack: Slack,
    folder: Path,
    *,
    http: bool = False,
    oauth: bool = False,
    token: str | None = None,
    **settings: object,
) -> Settings:
    """Settings for a local Slack. http: no Socket Mode; oauth: without a token of the operator's own."""
    app = slack.world.app
    secrets = {"FAIRBRUSH_SECRET_KEY": "a key for tests, of 32 characters at least"}
    if not oauth:
        secrets["SLACK_BOT_TOKEN"] = slack.token if token is None else token
    else:
        secrets |= {"SLACK_CLIENT_ID": app.client_id, "SLACK_CLIENT_SECRET": app.client_secret}
    secrets["SLACK_SIGNING_SECRET" if http else "SLACK_APP_TOKEN"] = (
        app.signing_secret if http else app.app_token
    )
    return Settings(
        data_dir=folder,
        port=0,
        backends=(BackendEntry("fake", ""),),
        platform_urls={"slack": slack.api_url},
        secrets={name: Secret(value) for name, value in secrets.items()},
        **settings,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def program(
    slack: Slack,
    folder: Path,
    *,
    http: bool = False,
    oauth: bool = False,
    backends: Sequence[Backend] | None = None,
    durable: bool = False,
    **settings: object,
) -> AsyncIterator[SlackHouse]:
    """The program against a Slack that is there already, ready for requests. durable: with a database in the
    folder, for another start."""
    made = slack_settings(slack, folder, http=http, oauth=oauth, **settings)  # type: ignore[arg-type]
    adapter = SlackAdapter(made)
    backend = FakeBackend()
    app = build(
        made,
        adapters=[adapter],
        backends=backends or [backend],
        store=None if durable else MemoryStore(),
    )
    try:
        await app.start()
        if http:
            slack.program(f"{app.url}/slack/events")
            await until(lambda: adapter.ready and (oauth or adapter.installations.own is not None))
        else:
            slack.program("")
            await slack.connected()
        yield SlackHouse(slack, app, adapter, backend)
    finally:
        await app.aclose()


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what the local Slack does not see."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def slack_house(folder: Path, **options: object) -> AsyncIterator[SlackHouse]:
    """A local Slack and the program, which has the scopes of its manifest and no others."""
    async with Slack(scopes=",".join(SCOPES)) as slack, program(slack, folder, **options) as house:  # type: ignore[arg-type]
        yield house
