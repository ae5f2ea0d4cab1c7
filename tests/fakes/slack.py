"""A local Slack that the real slack_sdk and slack_bolt talk to, for tests and benchmarks.

    async with Slack() as slack:        # one workspace with the program, #general, ann (admin), bob
        client = AsyncWebClient(slack.token, base_url=slack.api_url)
        slack.program("http://127.0.0.1:1234/slack/events")    # HTTP mode; without it: Socket Mode
        done = await slack.bob.command("a red fox")    # waits for the ack: done.seconds, .ack, .failure
        await slack.bob.mention("a red fox", thread=message)
        root = await slack.until_message(slack.general, "red fox")
        await slack.until(lambda: slack.images(slack.thread(root)))
        await slack.bob.press(slack.thread(root)[0], "Cancel")    # a label, an action_id or a block_id
        await slack.bob.command(""); await slack.bob.until_modal()
        await slack.bob.submit({"Prompt": "a red fox", "Shape": "Square"})    # named as for press

Look: slack.messages(channel), slack.thread(root), slack.read(message) (all words), slack.images(message or
list) -> Picture(file, data, alt), slack.labels(message), message.edits (at, text, blocks), person.ephemerals,
person.modal (.content, .values, .errors), person.home, slack.failures (what Slack told people),
slack.calls / slack.count(method, error=...), slack.deliveries, slack.limits.over (calls over a rate limit).
until(condition) looks after every change here; nothing polls or sleeps.

Trouble: slack.refuse("chat.update", "ratelimited", times=2, retry_after=1, where=lambda call: ...),
slack.refuse("chat.postMessage", "restricted_action"), slack.breaks(method) (500 and HTML),
slack.drop(method, applied=True) (connection closed), slack.mend(); slack.hold(stage or method, after=...),
await slack.reached(stage), slack.release(stage) with the STAGES of slack_trouble.py; what was held before it
was applied and whose caller died is never applied; slack.hold("ack") ... slack.release("ack", lose=True);
slack.troubles.processing_delay / share_delay (seconds; math.inf: until slack.finish_files()),
.lose_shares_with_alt, .lose_shares; await slack.resend(delivery); await slack.sockets.disconnect(reason);
slack.limits.enforced = True; channel.archived / .restricted / .members; slack.revoke(), slack.uninstall().
More: slack.add_workspace(name, enterprise), slack.add_enterprise(name), slack.add_person(name, workspace),
slack.add_channel(name, workspace, private=, bot=), slack.install(workspace or enterprise),
await person.install(url, into=workspace or enterprise, deny=).
`python -m tests.fakes.slack` runs one in its own process: see slack_control.py.
Where FAIRBRUSH_SPECS is set every answer and payload is held against the samples there; leaving checks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from bot.core.ports import Clock
from tests.fakes import slack_files, slack_look, slack_oauth, slack_payloads
from tests.fakes.slack_control import Control, serve
from tests.fakes.slack_events import Courier, Delivery
from tests.fakes.slack_look import Picture
from tests.fakes.slack_oauth import Consent
from tests.fakes.slack_people import Person
from tests.fakes.slack_sockets import Sockets
from tests.fakes.slack_spec import answer_faults, payload_faults
from tests.fakes.slack_state import (
    REAL_CLOCK,
    SCOPES,
    Channel,
    Enterprise,
    Installation,
    Message,
    Payload,
    View,
    Workspace,
    World,
)
from tests.fakes.slack_trouble import Call, RateLimits, Trouble, Troubles, Where, anything
from tests.fakes.slack_web import WebApi


class Slack:
    """The server with its world, and one workspace to begin with."""

    def __init__(self, clock: Clock = REAL_CLOCK, *, installed: bool = True, scopes: str = SCOPES) -> None:
        self.world = World(clock)
        self.troubles = Troubles()
        self.limits = RateLimits(clock)
        self.web = WebApi(self.world, self.troubles, self.limits)
        self.sockets = Sockets(self.world, self.troubles)
        self.courier = Courier(self.world, self.sockets)
        self.failures: list[tuple[str, str]] = []
        self.shape_faults: list[str] = []
        self.web.on_answer = lambda method, body: self.shape_faults.extend(answer_faults(method, body))
        self.courier.on_payload = lambda kind, body: self.shape_faults.extend(payload_faults(kind, body))
        self.url = ""
        self._scopes = scopes
        self._runner: web.AppRunner | None = None
        self.workspace = self.world.add_workspace("Acme")
        self.ann = self.add_person("ann", admin=True)
        self.bob = self.add_person("bob")
        self.consent = Consent(self.ann.id, self.workspace.id)
        if installed:
            self.install(self.workspace)
        self.general = self.add_channel("general")

    # --- running ---

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**28)
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.web.base = self.sockets.base = self.world.url = self.url
        self.web.open_socket = self.sockets.open
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.troubles.gates):
            self.release(name)
        await self.sockets.aclose()
        await self.courier.aclose()
        await self.world.aclose()
        if self._runner is not None:
            await self._runner.cleanup()
        if kind is None:
            assert not self.shape_faults, self.shape_faults

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/{method}", self.web.answer),
            web.get("/api/{method}", self.web.answer),
            web.post("/upload/v1/{file}", self._receive),
            web.get("/files/{file}/{name}", self._download),
            web.get("/files/{file}/download/{name}", self._download),
            web.post("/response/{url:.+}", self.web.respond),
            web.get("/link/", self.sockets.serve),
            web.get("/oauth/v2/authorize", self._authorize),
            web.post("/stage/{name}", self._stage),
            web.post("/control/{name}", Control(self).answer),
        ]

    async def _receive(self, request: web.Request) -> web.Response:
        return await slack_files.receive(self.world, self.troubles, request, self.calls)

    async def _stage(self, request: web.Request) -> web.Response:
        """The staged backend of a killed program is somewhere."""
        await self.troubles.pass_gate(request.match_info["name"], {}, after=False)
        return web.Response()

    async def _download(self, request: web.Request) -> web.Response:
        return await slack_files.download(self.world, request)

    async def _authorize(self, request: web.Request) -> web.Response:
        return await slack_oauth.authorize(self.world, self.consent, request)

    @property
    def api_url(self) -> str:
        """base_url of a client."""
        return f"{self.url}/api/"

    def program(self, events_url: str) -> None:
        """Where the program takes events by HTTP; empty: it uses Socket Mode."""
        self.courier.events_url = events_url

    async def connected(self, connections: int = 1, seconds: float = 20.0) -> None:
        """Until so many Socket Mode connections are open."""
        await self.until(lambda: len(self.sockets.able) >= connections, seconds)

    # --- the world ---

    def add_enterprise(self, name: str) -> Enterprise:
        """An Enterprise Grid organisation."""
        return self.world.add_enterprise(name)

    def add_workspace(self, name: str, enterprise: Enterprise | None = None) -> Workspace:
        """Another workspace, without the program."""
        return self.world.add_workspace(name, enterprise.id if enterprise else "")

    def add_person(self, name: str, workspace: Workspace | None = None, *, admin: bool = False) -> Person:
        """A member of a workspace and of its public channels."""
        team = (workspace or self.workspace).id
        account = self.world.add_account(name, team, admin=admin)
        for channel in self.world.channels.values():
            if channel.team == team and channel.kind == "public":
                channel.members.add(account.id)
        return Person(self, account)

    def add_channel(
        self, name: str, workspace: Workspace | None = None, *, private: bool = False, bot: bool = True
    ) -> Channel:
        """A channel with everybody of its workspace in it; bot: and the bot."""
        team = (workspace or self.workspace).id
        channel = self.world.add_channel(name, team, kind="private" if private else "public")
        channel.members = {a.id for a in self.world.accounts.values() if a.team == team and not a.bot}
        if bot:
            self.invite(channel)
        return channel

    def invite(self, channel: Channel) -> None:
        """/invite @fairbrush."""
        installation = self.world.installation_for(channel.team)
        if installation is not None:
            channel.members.add(installation.bot_user)
            self.world.touch()

    def install(self, into: Workspace | Enterprise, *, scopes: str | None = None) -> Installation:
        """The program in a workspace or organisation, without OAuth."""
        scopes = self._scopes if scopes is None else scopes
        if isinstance(into, Enterprise):
            return self.world.add_installation("", into.id, self.ann.id, scopes)
        return self.world.add_installation(into.id, into.enterprise, self.ann.id, scopes)

    def installation(self, workspace: Workspace | None = None) -> Installation:
        """The program in a workspace."""
        found = self.world.installation_for((workspace or self.workspace).id)
        assert found is not None, "not installed"
        return found

    @property
    def token(self) -> str:
        """The bot token of the first workspace."""
        return self.installation().token

    def first_channel(self, team: str) -> Channel:
        """Where people of a workspace talk unless another channel is named."""
        return next(c for c in self.world.channels.values() if c.team == team and c.kind == "public")

    def revoke(self, workspace: Workspace | None = None) -> None:
        """The token is good for nothing any more; the program is not told."""
        self.installation(workspace).revoked = True

    async def uninstall(self, workspace: Workspace | None = None) -> list[Delivery]:
        """The program is removed: tokens_revoked and app_uninstalled, the token dead."""
        workspace = workspace or self.workspace
        installation = self.installation(workspace)
        tokens = {"type": "tokens_revoked", "tokens": {"oauth": [], "bot": [installation.bot_user]}}
        inner: list[Payload] = [tokens, {"type": "app_uninstalled"}]
        made = [slack_payloads.event(self.world, workspace.id, each) for each in inner]
        installation.removed = True
        return list(await asyncio.gather(*(self.courier.hand_over(Delivery("event", each)) for each in made)))

    async def resend(self, delivery: Delivery) -> Delivery:
        """The very same once more."""
        return await self.courier.resend(delivery)

    # --- looking ---

    def messages(self, channel: Channel | None = None) -> list[Message]:
        """What a channel shows."""
        return self.world.roots((channel or self.general).id)

    def thread(self, root: Message) -> list[Message]:
        """The replies below a message."""
        return self.world.replies(root.channel, root.thread_ts or root.ts)

    def read(self, holder: Message | View) -> str:
        """All words of it."""
        return slack_look.words(holder)

    def labels(self, holder: Message | View) -> list[str]:
        """What its buttons and menus are called."""
        return slack_look.labels(holder)

    def images(self, holder: Message | View | Sequence[Message]) -> list[Picture]:
        """The visible pictures of a message, of a view, or of several messages."""
        if isinstance(holder, Message | View):
            return slack_look.pictures(self.world, holder)
        return [picture for each in holder for picture in slack_look.pictures(self.world, each)]

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Until something is so. TimeoutError tells what is to be seen instead."""
        try:
            await self.world.until(lambda: bool(condition()), seconds)
        except TimeoutError:
            raise TimeoutError(f"it never came to that\n{self.story()}") from None

    def story(self) -> str:
        """What has happened, for whoever reads a failed test."""
        return slack_look.story(self.world, self.calls, self.failures)

    async def until_message(self, channel: Channel, text: str = "", seconds: float = 10.0) -> Message:
        """The first message of the bot in a channel whose words or text hold `text`, once there is one."""

        def found() -> list[Message]:
            bots = [m for m in self.messages(channel) if m.bot_id]
            return [m for m in bots if text in m.text or text in self.read(m)]

        await self.until(found, seconds)
        return found()[0]

    @property
    def calls(self) -> list[Call]:
        """Every call of a method, in order."""
        return self.web.calls

    def count(self, method: str, *, error: str | None = None) -> int:
        """How often a method was called; error: and answered so ("": well)."""
        return sum(c.method == method and (error is None or c.error == error) for c in self.calls)

    @property
    def deliveries(self) -> list[Delivery]:
        """Everything handed to the program."""
        return self.courier.deliveries

    # --- trouble ---

    def refuse(
        self,
        method: str,
        error: str,
        *,
        times: int = 1,
        retry_after: int = 0,
        where: Where = anything,
        **extra: Any,
    ) -> None:
        """Answer the next calls with an error; times: -1 for all; ratelimited is a 429 with Retry-After."""
        status = 429 if error == "ratelimited" else 200
        self.troubles.troubles.append(Trouble(method, times, where, error, extra, status, retry_after or 1))

    def breaks(self, method: str, *, times: int = 1, where: Where = anything) -> None:
        """Answer the next calls with status 500 and a page of HTML."""
        self.troubles.troubles.append(Trouble(method, times, where, status=500))

    def drop(self, method: str, *, times: int = 1, applied: bool = True, where: Where = anything) -> None:
        """Close the connection of the next calls, after they were applied or before."""
        self.troubles.troubles.append(Trouble(method, times, where, drop=True, applied=applied))

    def mend(self) -> None:
        """No more trouble."""
        self.troubles.troubles.clear()

    def hold(self, name: str, where: Where | None = None, *, after: bool = False) -> None:
        """Let calls at a stage, or of a method, wait."""
        self.troubles.hold(name, where, after=after)

    async def reached(self, name: str, seconds: float = 60.0) -> None:
        """Until a call waits at a held stage."""
        async with asyncio.timeout(seconds):
            await self.troubles.gates[name].reached.wait()

    def release(self, name: str, *, lose: bool = False) -> None:
        """Let them go on."""
        self.troubles.release(name, lose=lose)

    def finish_files(self) -> None:
        """Process and share what was put off for ever."""
        slack_files.finish(self.world, self.troubles)


if __name__ == "__main__":
    asyncio.run(serve())
