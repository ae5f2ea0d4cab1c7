"""The local Slack in a process of its own, steered over HTTP: for kill tests and benchmarks.

`python -m tests.fakes.slack` prints one line of JSON, {"url": ...}, and runs until its standard input closes.
POST {url}/control/NAME takes a JSON object and answers JSON; the names are the methods of Control.
RemoteSlack starts such a process and calls it:

    async with RemoteSlack() as slack:
        await slack.ask("burst", count=300)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

from tests.fakes.slack_rush import rush
from tests.fakes.slack_state import Message, Payload

if TYPE_CHECKING:
    from tests.fakes.slack import Slack
    from tests.fakes.slack_people import Person


class Control:
    """What may be asked of a local Slack from outside. Arguments and answers are JSON."""

    def __init__(self, slack: Slack) -> None:
        self._slack = slack
        self._people: dict[str, list[Person]] = {slack.workspace.id: [slack.ann, slack.bob]}

    async def answer(self, request: web.Request) -> web.Response:
        """One question."""
        ask = getattr(self, request.match_info["name"], None)
        if ask is None or request.match_info["name"].startswith("_"):
            raise web.HTTPNotFound
        return web.json_response(await ask(**await request.json()))

    async def describe(self) -> Payload:
        """Secrets and the workspaces with their tokens, channels and people."""
        app = self._slack.world.app
        return {
            "api_url": self._slack.api_url,
            "app_token": app.app_token,
            "signing_secret": app.signing_secret,
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "workspaces": [self._workspace(team) for team in self._slack.world.workspaces],
        }

    def _workspace(self, team: str) -> Payload:
        installation = self._slack.world.installation_for(team)
        return {
            "id": team,
            "token": installation.token if installation else "",
            "bot_user": installation.bot_user if installation else "",
            "bot_id": installation.bot_id if installation else "",
            "channel": self._slack.first_channel(team).id,
            "people": [person.id for person in self._people[team]],
        }

    async def add_workspaces(self, count: int, people: int = 2, installed: bool = True) -> list[Payload]:
        """More workspaces with the program (or without it), a channel and people in each."""
        made = []
        for _ in range(count):
            number = len(self._slack.world.workspaces)
            workspace = self._slack.add_workspace(f"Team {number}")
            if installed:
                self._slack.install(workspace)
            members = [self._slack.add_person(f"person{number}.{i}", workspace) for i in range(people)]
            self._people[workspace.id] = members
            self._slack.add_channel("general", workspace)
            made.append(self._workspace(workspace.id))
        return made

    async def install(self, url: str, redirect_uri: str = "") -> list[Payload]:
        """In every workspace without the program somebody installs it from its page, and invites it."""
        self._slack.world.redirect_uri = redirect_uri
        made = []
        for team, workspace in self._slack.world.workspaces.items():
            if self._slack.world.installation_for(team) is None:
                status, text = await self._people[team][0].install(url, into=workspace)
                if status != 200:
                    raise web.HTTPBadGateway(text=text)
                self._slack.invite(self._slack.first_channel(team))
                made.append(self._workspace(team))
        return made

    async def program(self, events_url: str) -> None:
        """Where the program takes events by HTTP; empty: Socket Mode."""
        self._slack.program(events_url)

    async def connected(self, connections: int = 1, seconds: float = 30.0) -> None:
        """Wait for Socket Mode connections."""
        await self._slack.connected(connections, seconds)

    async def burst(
        self, count: int, text: str = "a red fox", teams: list[str] | None = None, spread: float = 0.0
    ) -> list[Payload]:
        """Commands sent together, or over `spread` seconds, turn about by workspace and person; their acks.

        `{n}` in the text is the command's number. Answers in order: team, sent (monotonic seconds),
        seconds until the ack (null: none came), failure.
        """
        places = [(t, who) for t in (teams or list(self._people)) for who in self._people[t]]
        places.sort(key=lambda place: self._people[place[0]].index(place[1]))
        people = [places[number % len(places)][1] for number in range(count)]
        made = [person.typing(text.replace("{n}", str(number))) for number, person in enumerate(people)]
        courier = self._slack.courier

        async def one(number: int) -> None:
            await asyncio.sleep(spread * number / count)
            await courier.hand_over(made[number])

        if courier.events_url and not spread:
            await rush(courier, made)
        else:
            await asyncio.gather(*(one(number) for number in range(count)))
        return [
            {"team": person.team, "sent": done.sent[-1], "seconds": done.seconds, "failure": done.failure}
            for person, done in zip(people, made, strict=True)
        ]

    async def late_acks(self) -> list[float | None]:
        """How long every delivery took until its ack, asked again later: also those that came after 3 s."""
        return [delivery.seconds for delivery in self._slack.deliveries]

    async def look(self, channel: str = "") -> list[Payload]:
        """What the bot shows in a channel (or in all): its root messages with their replies."""
        channels = [channel] if channel else list(self._slack.world.channels)
        roots = [root for each in channels for root in self._slack.world.roots(each) if not root.thread_ts]
        return [
            self._message(root) | {"replies": [self._message(reply) for reply in self._slack.thread(root)]}
            for root in roots
        ]

    def _message(self, message: Message) -> Payload:
        return {
            "channel": message.channel,
            "ts": message.ts,
            "user": message.user,
            "text": message.text,
            "labels": self._slack.labels(message),
            "edits": [edit.at for edit in message.edits],
            "images": [picture.file or picture.url for picture in self._slack.images(message)],
        }

    async def until_shown(self, threads: int, images: int = 1, seconds: float = 600.0) -> None:
        """Wait until so many threads show so many pictures each; 504 after `seconds`."""

        def there() -> bool:
            messages = self._slack.world.messages.values()
            shown = Counter[tuple[str, str]]()
            for message in messages:
                if message.thread_ts and not message.deleted:
                    shown[message.channel, message.thread_ts] += len(self._slack.images(message))
            return sum(number >= images for number in shown.values()) >= threads

        try:
            async with asyncio.timeout(seconds):
                while not there():  # not at every change: there are thousands in a benchmark
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise web.HTTPGatewayTimeout(text=self._slack.story()) from None

    async def calls(self) -> Payload:
        """Calls by method, answers by error, and how many went over a rate limit."""
        methods = Counter(call.method for call in self._slack.calls)
        errors = Counter(f"{call.method} {call.error}" for call in self._slack.calls if call.error)
        return {"methods": methods, "errors": errors, "over": self._slack.limits.over}

    async def enforce(self, limits: bool) -> None:
        """Whether a call over a rate limit is refused."""
        self._slack.limits.enforced = limits

    async def files(self, processing_delay: float, share_delay: float = 0.02) -> None:
        """How slowly files go."""
        self._slack.troubles.processing_delay = processing_delay
        self._slack.troubles.share_delay = share_delay

    async def refuse(self, method: str, error: str, times: int = 1, retry_after: int = 0) -> None:
        """Refuse the next calls of a method."""
        self._slack.refuse(method, error, times=times, retry_after=retry_after)

    async def disconnect(self, reason: str = "refresh_requested") -> None:
        """Send every Socket Mode connection away."""
        await self._slack.sockets.disconnect(reason)

    async def hold(self, stage: str, after: bool = False) -> None:
        """Hold the calls at a stage (or of a method)."""
        self._slack.hold(stage, after=after)

    async def reached(self, stage: str, seconds: float = 60.0) -> None:
        """Wait until one is held there."""
        await self._slack.reached(stage, seconds)

    async def release(self, stage: str, lose: bool = False) -> None:
        """Let them go on."""
        self._slack.release(stage, lose=lose)


async def serve() -> None:
    """Run until standard input closes."""
    from tests.fakes.slack import Slack

    async with Slack() as slack:
        print(json.dumps({"url": slack.url}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class RemoteSlack:
    """A local Slack in its own process. api_url: base_url for clients."""

    def __init__(self) -> None:
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def api_url(self) -> str:
        """base_url of a client."""
        return f"{self.url}/api/"

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        arguments = (sys.executable, "-m", "tests.fakes.slack")
        self._process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        self.url = json.loads(line)["url"]
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return self

    async def ask(self, name: str, **arguments: Any) -> Any:
        """Call a method of Control there."""
        assert self._http is not None
        async with self._http.post(f"{self.url}/control/{name}", json=arguments) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{name}: {answer.status} {await answer.text()}")
            return await answer.json()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 10)
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
