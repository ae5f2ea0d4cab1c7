"""Steers a local Discord that runs as a process of its own, over HTTP: for benchmarks and kill tests.

    python -m tests.fakes.discord --guilds 2500 --channels 30 --roles 20 --shards 1 --with-parent

prints one line of JSON (api_url, gateway_url, token, control) once it serves. All below `control`:

    POST /burst {count, rate, command, options, guilds}   interactions, `rate` a second (null: at once); "{n}"
                                                          in a text option becomes its number
    GET  /interactions?after=0      each with sent_at and answered_at (seconds, a monotonic clock)
    GET  /messages[?channel=ID]     what is visible: text, labels, files, when it was edited
    GET  /state                     identifies, resumes, connected, commands, answers by status, in flight
    GET  /wait?connected=1&commands=1&answered=N&edited=N&seconds=30       until all of it is so
    POST /on {route, do, ...}       trouble, as discord_trouble.py: do = hold, fail, limit, refuse, lose, cut
    GET  /on/N?reached=seconds      its hits; for a gate who waits, once somebody does
    POST /on/N {do: release | stop}
    POST /pace {route, limit, per, shared}
    POST /gateway {do: drop | ask_to_reconnect | invalidate | refuse | forget | hold | release, ...}
    POST /press {message, button, user}
    GET  /traffic?after=0[&bodies=1]      requests: at, took, operation, path, status
    GET  /violations                the recorded traffic checked against Discord's OpenAPI file, now
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.discord_looking import labels, text
from tests.fakes.discord_rest import Answer, Exchange
from tests.fakes.discord_spec import spec
from tests.fakes.discord_state import Interaction, Json, Message
from tests.fakes.discord_trouble import Gate, Trouble

if TYPE_CHECKING:
    from tests.fakes.discord import Discord

PREFIX = "/control"
WAIT_STEP = 0.02  # seconds between looks, for counting takes its time


class Control:
    """The routes; see the module."""

    def __init__(self, discord: Discord) -> None:
        self.discord = discord
        self.set: list[Trouble | Gate] = []
        self._bursts: set[asyncio.Task[None]] = set()

    def add(self, app: web.Application) -> None:
        """Serve them."""
        for method, path, handler in (
            ("POST", "/burst", self.burst),
            ("GET", "/interactions", self.interactions),
            ("GET", "/messages", self.messages),
            ("GET", "/state", self.state),
            ("GET", "/wait", self.wait),
            ("POST", "/on", self.trouble),
            ("GET", "/on/{number}", self.look),
            ("POST", "/on/{number}", self.end),
            ("POST", "/pace", self.pace),
            ("POST", "/gateway", self.gateway),
            ("POST", "/press", self.press),
            ("GET", "/traffic", self.traffic),
            ("GET", "/violations", self.violations),
        ):
            app.router.add_route(method, PREFIX + path, handler)

    # --- interactions -------------------------------------------------------------------------------------

    async def burst(self, request: web.Request) -> web.Response:
        """Send many commands, spread over guilds, channels and members."""
        asked = await request.json()
        task = asyncio.ensure_future(self._burst(**asked))
        self._bursts.add(task)
        task.add_done_callback(self._bursts.discard)
        return web.json_response({"first": len(self.discord.world.interactions)})

    async def _burst(
        self,
        count: int,
        rate: float | None = None,
        command: str = "imagine",
        options: Json | None = None,
        guilds: int | None = None,
    ) -> None:
        world, began = self.discord.world, time.monotonic()
        places = [each for each in world.guilds.values() if each.joined][:guilds]
        for number in range(count):
            if rate is not None:
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            guild = places[number % len(places)]
            turn = number // len(places)
            people = [each.user for each in guild.members.values() if not each.user.bot]
            channel = list(guild.channels.values())[turn % len(guild.channels)]
            said = options or {"prompt": "picture {n}"}
            given = {key: _numbered(value, number) for key, value in said.items()}
            self.discord.type(channel, people[turn % len(people)], command, **given)
            await asyncio.sleep(0)  # it goes out before the next is made: sent_at is when it did

    async def interactions(self, request: web.Request) -> web.Response:
        """All since a number."""
        every = list(self.discord.world.interactions.values())[int(request.query.get("after", 0)) :]
        return web.json_response([_interaction(each) for each in every])

    async def messages(self, request: web.Request) -> web.Response:
        """What is visible."""
        wanted, world = request.query.get("channel"), self.discord.world
        found = world.channels.values() if wanted is None else [world.channels[int(wanted)]]
        return web.json_response([_message(each) for channel in found for each in channel.messages.values()])

    async def press(self, request: web.Request) -> web.Response:
        """A button."""
        asked, world = await request.json(), self.discord.world
        message = world.message(int(asked["message"]))
        assert message is not None, "there is no such message"
        call = self.discord.click(message, asked["button"], world.users[int(asked["user"])])
        return web.json_response(_interaction(call))

    # --- the whole ----------------------------------------------------------------------------------------

    def _told(self) -> Json:
        discord, world = self.discord, self.discord.world
        return {
            "identifies": len(discord.gateway.identifies),
            "resumes": len(discord.gateway.resumes),
            "connects": discord.gateway.connects,
            "connected": discord.gateway.connected,
            "commands": len(world.commands),
            "commands_put": discord.rules.commands_put,
            "interactions": len(world.interactions),
            "answered": sum(each.answer is not None for each in world.interactions.values()),
            "edited": sum(
                each.original is not None and bool(each.original.edits)
                for each in world.interactions.values()
            ),
            "answers": Counter(str(each.status) for each in discord.traffic),
            "requests": len(discord.traffic),
            "in_flight": discord.rest.in_flight,
            "sending": len(self._bursts),
            "now": time.monotonic(),
        }

    async def state(self, request: web.Request) -> web.Response:
        """Counts."""
        return web.json_response(self._told())

    async def wait(self, request: web.Request) -> web.Response:
        """Wait until counts of the state are reached."""
        wanted = {key: int(value) for key, value in request.query.items() if key != "seconds"}
        end = time.monotonic() + float(request.query.get("seconds", 30))
        while True:
            change = self.discord.world.changes.next()
            told = self._told()
            left = end - time.monotonic()
            met = all(told[key] >= least for key, least in wanted.items())
            if met or left <= 0:
                change.cancel()
                return web.json_response(told, status=200 if met else 408)
            await asyncio.wait((change,), timeout=left)
            change.cancel()
            await asyncio.sleep(WAIT_STEP)

    # --- trouble ------------------------------------------------------------------------------------------

    async def trouble(self, request: web.Request) -> web.Response:
        """Set trouble; its number."""
        asked = await request.json()
        route, do = asked.pop("route"), asked.pop("do")
        self.set.append(getattr(self.discord.on(route), do)(**asked))
        return web.json_response({"number": len(self.set) - 1})

    async def look(self, request: web.Request) -> web.Response:
        """How trouble stands."""
        found = self.set[int(request.match_info["number"])]
        if isinstance(found, Trouble):
            return web.json_response({"hits": found.hits})
        if "reached" in request.query:
            await asyncio.wait_for(found.reached.wait(), float(request.query["reached"]))
        return web.json_response({"waiting": found.waiting, "reached": found.reached.is_set()})

    async def end(self, request: web.Request) -> web.Response:
        """Open a gate, or stop trouble."""
        found = self.set[int(request.match_info["number"])]
        if isinstance(found, Gate):
            found.release()
        else:
            found.stop()
        return web.json_response({})

    async def pace(self, request: web.Request) -> web.Response:
        """Set a rate limit."""
        asked = await request.json()
        self.discord.pace(
            asked["route"], asked["limit"], per=asked["per"], shared=bool(asked.get("shared", False))
        )
        return web.json_response({})

    async def gateway(self, request: web.Request) -> web.Response:
        """Do something to the gateway."""
        asked = await request.json()
        done = getattr(self.discord.gateway, asked.pop("do"))(**asked)
        if inspect.isawaitable(done):
            await done
        return web.json_response({})

    # --- traffic ------------------------------------------------------------------------------------------

    async def traffic(self, request: web.Request) -> web.Response:
        """What went over the wire."""
        every = self.discord.traffic[int(request.query.get("after", 0)) :]
        bodies = "bodies" in request.query
        return web.json_response([_exchange(each, bodies=bodies) for each in every])

    async def violations(self, request: web.Request) -> web.Response:
        """Check what was recorded."""
        rest, checker = self.discord.rest, rest_spec(self.discord)
        found = list(rest.violations)
        checked = [each for each in self.discord.traffic if not each.spoiled]
        if checker is not None and rest.spec is None:
            for each in checked:
                answer = Answer(each.status, each.answer)
                found += rest.wrongs(checker, each.operation, each.sent, answer)
        told = {"checked": len(checked) if checker is not None else 0, "violations": found}
        return web.json_response(told)


def rest_spec(discord: Discord) -> Any:
    """What traffic is checked against."""
    return discord.rest.spec or spec()


def _numbered(value: Any, number: int) -> Any:
    return value.replace("{n}", str(number)) if isinstance(value, str) else value


def _interaction(call: Interaction) -> Json:
    original = call.original
    return {
        "id": str(call.id),
        "kind": call.kind,
        "name": call.name,
        "user": str(call.user.id),
        "guild": None if call.guild is None else str(call.guild.id),
        "channel": str(call.channel.id),
        "sent_at": call.sent_at,
        "answered_at": call.answered_at,
        "answer": call.answer,
        "original": None if original is None else str(original.id),
        "edits": 0 if original is None else len(original.edits),
        "thread": None if original is None or original.thread_id is None else str(original.thread_id),
    }


def _message(message: Message) -> Json:
    return {
        "id": str(message.id),
        "channel": str(message.channel_id),
        "author": message.author.name,
        "at": message.at,
        "text": text(message),
        "labels": labels(message),
        "files": [each.filename for each in message.attachments],
        "loading": message.loading,
        "edits": [{"at": each.at, "by": each.by, "files": len(each.files)} for each in message.edits],
        "pings": sorted(message.pings),
    }


def _exchange(exchange: Exchange, *, bodies: bool) -> Json:
    told: Json = {
        "at": exchange.at,
        "took": exchange.took,
        "operation": exchange.operation,
        "path": exchange.path,
        "status": exchange.status,
        "files": len(exchange.files),
        "spoiled": exchange.spoiled,
    }
    return told | {"sent": exchange.sent, "answer": exchange.answer} if bodies else told


# --- as a process -----------------------------------------------------------------------------------------


def main(made: type[Discord], arguments: list[str]) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.discord", description="A local Discord.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--guilds", type=int, default=1)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--roles", type=int, default=2)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    given = parser.parse_args(arguments)
    discord = made(shards=given.shards, port=given.port, check=False)
    discord.populate(given.guilds, channels=given.channels, roles=given.roles, members=given.members)
    try:
        asyncio.run(_serve(discord, with_parent=given.with_parent))
    except KeyboardInterrupt:
        pass


async def _serve(discord: Discord, *, with_parent: bool) -> None:
    app = discord.application()
    Control(discord).add(app)
    await discord.start(app)
    told = {
        "api_url": discord.api_url,
        "gateway_url": discord.gateway_url,
        "token": discord.token,
        "control": f"http://127.0.0.1:{discord.port}{PREFIX}",
    }
    print(json.dumps(told), flush=True)
    try:
        if with_parent:
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
        else:
            await asyncio.Event().wait()
    finally:
        await discord.stop()
