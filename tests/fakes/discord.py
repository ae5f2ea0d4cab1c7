"""A local Discord, REST and gateway on one port of 127.0.0.1, that the real discord.py connects to.

    async with Discord() as discord:                     # or Discord(now=clock.clock.now, shards=2)
        guild = discord.guild("Painters")                # with the channel #general; tier=2: files of 50 MiB
        general = discord.channel(guild, "general")      # made where there is none; 15 = forum, nsfw=True
        ann = discord.member(guild, "ann", manage_guild=True)
        ...start the bot on discord.api_url and discord.gateway_url with discord.token...
        await discord.ready()                            # connected, its commands registered
        call = await discord.imagine(general, ann, "a red fox", steps=30)
        message = discord.original(call)                 # or call.followups, .modal, .choices, .answer (4-9)
        await discord.press(message, "Cancel", ann)      # by label or custom_id; choose(...) for select menus
        form = await discord.press(message, "Remix", ann)
        await discord.submit(form, {"Prompt": "a blue fox"})
        await discord.suggest(general, ann, "imagine", "model", "sd")
        await discord.menu(ann, "Recipe", message, general)
        await discord.until(lambda: discord.thread(message))       # looks again after every change
        assert not discord.violations                    # of the OpenAPI file, both ways (FAIRBRUSH_SPECS)

    text(message) labels(message) buttons(message) pictures(message)   what is seen; pictures with their bytes
    message.edits (each with its time and body) .mentions .pings (notified) .flags .attachments .loading
    discord.messages(channel) .private(user) .thread(message) .pinged(user) .told() (everything, as text)
    discord.type / click / forge / forge_press: without waiting, or a client's checks; send(call): again

    discord.on("PATCH /webhooks/*/*/messages/@original").hold() .fail() .limit() .refuse() .lose() .cut()
    discord.gateway.drop() ask_to_reconnect() invalidate() forget() refuse(n) send_nonsense() .identifies
    discord.rules.old_edits .most_threads .closed; discord.allow(channel, send_messages=False); usual_paces()
    discord.say() delete(message) delete_channel() archive(thread) kick(guild) revoke() .requests(route)
    world.add_guild(joined=False), world.foreign_dm(a, b): where only people installed the bot

Tokens (15 min), the first response (3 s), old edits and links follow `now`; real waiting ends after
discord.patience. Mind that discord.py itself waits 1, 3, 5 s after each 5xx. `python -m tests.fakes.discord`
serves it as a process of its own: discord_control.py, discord_remote.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from aiohttp import web

from tests.fakes.discord_channels import Desk
from tests.fakes.discord_control import main
from tests.fakes.discord_gateway import Gateway
from tests.fakes.discord_hooks import routes as hook_routes
from tests.fakes.discord_json import channel_json
from tests.fakes.discord_looking import Button, Picture, buttons, labels, pictures, text
from tests.fakes.discord_message_json import CDN_LIFE, attachment_url
from tests.fakes.discord_people import People
from tests.fakes.discord_places import drop_channel, drop_guild, drop_message
from tests.fakes.discord_rest import API, Exchange, Rest
from tests.fakes.discord_spec import spec
from tests.fakes.discord_state import Attachment, Channel, Guild, Interaction, Message, Role, User, World
from tests.fakes.discord_trouble import On, Pace, Troubles, pattern_of
from tests.fakes.discord_typing import Upload

__all__ = [
    "Attachment",
    "Button",
    "Channel",
    "Discord",
    "Guild",
    "Interaction",
    "Message",
    "Picture",
    "Role",
    "Upload",
    "User",
    "buttons",
    "labels",
    "pictures",
    "text",
]

TOKEN = "MTEyMjMzNDQ1NTY2Nzc4ODk5.fake.token-of-the-local-discord"


class Discord(People):
    """See the module. port 0: a free one; check: against the OpenAPI file, where it is at hand."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        token: str = TOKEN,
        shards: int = 1,
        port: int = 0,
        check: bool = True,
    ) -> None:
        self.world = World(now)
        self.token = token
        self.rules = Desk()
        self.rules.shards = shards
        self.rules.started = lambda: len(self.gateway.identifies)
        self.gateway = Gateway(self.world, token)
        self.troubles = Troubles()
        self.rest = Rest(self.world, token, self.troubles, spec() if check else None)
        self.port = port
        self._runner: web.AppRunner | None = None

    # --- serving ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Discord:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def application(self) -> web.Application:
        """What is served."""
        app = web.Application(client_max_size=2**27)
        self.rest.add(app, self.rules.routes())
        self.rest.add(app, hook_routes())
        app.router.add_get("/gateway", self.gateway.serve)
        app.router.add_get("/gateway/", self.gateway.serve)
        app.router.add_get("/attachments/{channel}/{id}/{name}", self._download)
        app.router.add_route("*", API + "/{rest:.*}", self._unknown)
        return app

    async def start(self, app: web.Application | None = None) -> None:
        """Serve on 127.0.0.1."""
        self._runner = web.AppRunner(app or self.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.world.cdn = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Stop serving."""
        for socket in list(self.gateway.sockets):
            socket.abort()
        for each in self.troubles.every:
            if each.gate is not None:
                each.gate.release()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def api_url(self) -> str:
        """FAIRBRUSH_DISCORD_API_URL."""
        return f"http://127.0.0.1:{self.port}{API}"

    @property
    def gateway_url(self) -> str:
        """FAIRBRUSH_DISCORD_GATEWAY_URL."""
        return f"ws://127.0.0.1:{self.port}/gateway"

    async def ready(self, *, commands: bool = True) -> None:
        """Wait until a bot is connected and, with `commands`, has registered some."""
        await self.until(lambda: self.gateway.connected, what="a connection")
        if commands:
            await self.until(lambda: self.world.commands, what="commands")

    async def _download(self, request: web.Request) -> web.Response:
        """An attachment, while its link is good."""
        found = self.world.attachments.get(int(request.match_info["id"]))
        if found is None or found.filename != request.match_info["name"]:
            return web.Response(status=404, text="This content is no longer available.")
        try:
            expires = int(request.query["ex"], 16)
        except (KeyError, ValueError):
            expires = 0
        if not self.world.now() <= expires <= self.world.now() + CDN_LIFE:
            return web.Response(status=404, text="This content is no longer available.")
        return web.Response(body=found.data, content_type=found.mime)

    async def _unknown(self, request: web.Request) -> web.Response:
        self.rest.violations.append(f"{request.method} {request.path}: the local Discord does not serve this")
        body = b'{"message": "404: Not Found", "code": 0}'
        return web.Response(status=404, body=body, headers={"Content-Type": "application/json"})

    # --- trouble ------------------------------------------------------------------------------------------

    def on(self, route: str) -> On:
        """Set trouble for a route; see discord_trouble.py."""
        return On(self.troubles, route)

    def pace(self, route: str, limit: int, *, per: float, shared: bool = False) -> Pace:
        """Limit a route to so many requests a window, for each channel or webhook, or over all (`shared`)."""
        made = Pace(pattern_of(route), limit, per, shared)
        self.troubles.paces.append(made)
        return made

    def usual_paces(self) -> None:
        """Rate limits of the size that Discord has had: 5 messages and 5 edits in 5 s a channel, 5 in 2 s a
        webhook, 50 requests a second over all but interactions. A bot must not rely on these numbers."""
        self.pace("POST /channels/*/messages", 5, per=5.0)
        self.pace("PATCH /channels/*/messages/*", 5, per=5.0)
        self.pace("** /webhooks/**", 5, per=2.0)
        self.pace("** /(channels|guilds|users|applications|gateway|oauth2)/**", 50, per=1.0, shared=True)

    async def revoke(self) -> None:
        """The token is no longer good."""
        self.token = self.rest.token = self.gateway.token = "revoked"
        self.gateway.sessions.clear()
        await self.gateway.close(4004)

    # --- what others do -----------------------------------------------------------------------------------

    def delete(self, message: Message) -> None:
        """A moderator deletes a message."""
        drop_message(self.world, message)

    def delete_channel(self, channel: Channel) -> None:
        """A moderator deletes a channel or a thread."""
        drop_channel(self.world, channel)

    def archive(self, thread: Channel, *, locked: bool = False) -> None:
        """A thread is archived, as after a time without messages."""
        thread.archived, thread.archived_at, thread.locked = True, self.world.now(), locked
        assert thread.guild is not None
        self.world.tell("THREAD_UPDATE", lambda: channel_json(self.world, thread), thread.guild.id)

    def kick(self, guild: Guild) -> None:
        """The bot is removed from a server."""
        drop_guild(self.world, guild)

    # --- what went on -------------------------------------------------------------------------------------

    @property
    def traffic(self) -> list[Exchange]:
        """Every request and its answer, in order of the answers."""
        return self.rest.traffic

    @property
    def violations(self) -> list[str]:
        """What broke Discord's OpenAPI file."""
        return self.rest.violations

    def requests(self, route: str) -> list[Exchange]:
        """The recorded requests of a route, as "POST /channels/*/messages"."""
        pattern = pattern_of(route)
        return [each for each in self.traffic if pattern.fullmatch(f"{each.method} {each.path}")]

    def link(self, attachment: Attachment) -> str:
        """A link to an attachment, good for a day."""
        return attachment_url(self.world, attachment)


if __name__ == "__main__":
    main(Discord, sys.argv[1:])
