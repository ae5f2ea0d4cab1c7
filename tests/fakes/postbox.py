"""A small chat platform for tests: a server that holds conversations, and the adapter that talks to it.

The server (in the test) is the judge: it hands out events until they are acknowledged, keeps messages, and
counts how often a message was made or a different result was shown. Every call of the program can be held
at a named stage, so that a test can kill the program exactly there:

    accepted   committed, not yet acknowledged          preparing  the message is being made
    queued     waiting for a slot                       started    handed to the backend
    running    the backend is at work                   delivering the result is on its way
    shown      the result was taken, its answer is held back
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from bot.core.errors import Gone, Refusal, Unavailable
from bot.core.ports import Address, Conversation, JobStatus, Pace
from bot.core.request import JSON, ImageResult, Requester
from bot.core.studio import Studio, Submission, Ticket

STAGES = ("accepted", "preparing", "queued", "started", "running", "delivering", "shown")


@dataclass
class Message:
    """One message: the event that it answers, and what it shows."""

    event: str
    text: str = ""
    pictures: list[str] = field(default_factory=list)
    results: list[list[str]] = field(default_factory=list)


class Platform:
    """The server. acknowledged: events that were; refused: event -> text; reached[stage]: calls there."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.acknowledged: set[str] = set()
        self.refused: dict[str, str] = {}
        self.made = Counter[str]()
        self.url = ""
        self._events: dict[str, dict[str, str]] = {}
        self._changed = asyncio.Condition()
        self._held: dict[str, asyncio.Event] = {}
        self._reached: dict[str, asyncio.Event] = {stage: asyncio.Event() for stage in STAGES}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free loopback port."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                web.get("/events", self._get_events),
                web.post("/ack", self._post_ack),
                web.post("/messages", self._post_message),
                web.patch("/messages/{id}", self._patch_message),
                web.post("/stage/{stage}", self._post_stage),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{port}"

    async def aclose(self) -> None:
        """Stop listening."""
        for stage in list(self._held):
            self.release(stage)
        if self._runner is not None:
            await self._runner.cleanup()

    # --- for tests ---

    async def post(self, event: str, text: str, *, user: str = "ann", guild: str = "g1") -> None:
        """Somebody types something."""
        self._events[event] = {"id": event, "text": text, "user": user, "guild": guild}
        await self._notify()

    def hold(self, stage: str) -> None:
        """Let every call at this stage wait."""
        self._held.setdefault(stage, asyncio.Event())
        self._reached[stage].clear()

    def release(self, stage: str) -> None:
        """Let the stage's calls go on."""
        if (gate := self._held.pop(stage, None)) is not None:
            gate.set()

    async def reached(self, stage: str, seconds: float = 60.0) -> None:
        """Until a call waits at a held stage."""
        async with asyncio.timeout(seconds):
            await self._reached[stage].wait()

    async def until(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        """Until something is so; looked at after every change here."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    def answers(self, event: str) -> list[Message]:
        """The messages that answer an event."""
        return [message for message in self.messages.values() if message.event == event]

    # --- the wire ---

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _gate(self, stage: str) -> None:
        gate = self._held.get(stage)
        if gate is not None:
            self._reached[stage].set()
            await gate.wait()

    async def _get_events(self, request: web.Request) -> web.Response:
        def waiting() -> list[dict[str, str]]:
            done = self.acknowledged | self.refused.keys()
            return [event for name, event in self._events.items() if name not in done]

        known = {name for name in request.query.get("known", "").split(",") if name}
        async with self._changed:
            await self._changed.wait_for(lambda: any(event["id"] not in known for event in waiting()))
        return web.json_response([event for event in waiting() if event["id"] not in known])

    async def _post_ack(self, request: web.Request) -> web.Response:
        body = await request.json()
        await self._gate("accepted")
        if "refused" in body:
            self.refused[body["id"]] = body["refused"]
        else:
            self.acknowledged.add(body["id"])
        await self._notify()
        return web.json_response({})

    async def _post_message(self, request: web.Request) -> web.Response:
        body = await request.json()
        await self._gate("preparing")
        if body["nonce"] not in self.messages:  # as platforms do: a repeated nonce gives the first message
            self.messages[body["nonce"]] = Message(body["event"])
            self.made[body["event"]] += 1
        await self._notify()
        return web.json_response({"id": body["nonce"]})

    async def _patch_message(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = json.loads(await request.text())
        if "pictures" in body:
            await self._gate("delivering")
        message = self.messages.get(request.match_info["id"])
        if message is None:
            raise web.HTTPNotFound
        message.text = body["text"]
        if "pictures" in body:
            message.pictures = body["pictures"]
            message.results.append(body["pictures"])
        await self._notify()
        if "pictures" in body:
            await self._gate("shown")
        return web.json_response({})

    async def _post_stage(self, request: web.Request) -> web.Response:
        await self._gate(request.match_info["stage"])
        return web.json_response({})


class Postbox:
    """The adapter, in the program under test."""

    name = "postbox"
    pace = Pace(0.05, 100_000)

    def __init__(self, url: str) -> None:
        self._url = url
        self._http: aiohttp.ClientSession | None = None

    def routes(self) -> Sequence[object]:
        """None."""
        return ()

    async def run(self, studio: Studio) -> None:
        """Take events, commit, acknowledge."""
        known: set[str] = set()
        tasks = set()
        while True:
            async with self.http.get(f"{self._url}/events", params={"known": ",".join(known)}) as answer:
                events = await answer.json()
            for event in events:
                known.add(event["id"])
                task = asyncio.ensure_future(self._take(studio, event))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def _take(self, studio: Studio, event: dict[str, str]) -> None:
        async def acknowledge(ticket: Ticket) -> None:
            await self.call("post", "/ack", {"id": event["id"]})

        requester = Requester(self.name, event["guild"], event["user"])
        submission = Submission(requester, event["id"], {"event": event["id"]}, text=event["text"])
        try:
            ticket = await studio.submit(submission, acknowledge=acknowledge)
            if ticket.repeated:
                await acknowledge(ticket)
        except Refusal as error:
            await self.call("post", "/ack", {"id": event["id"], "refused": error.message})

    def conversation(self, address: Address) -> Conversation:
        """One message."""
        return _Conversation(self, address)

    async def aclose(self) -> None:
        """Hang up."""
        if self._http is not None:
            await self._http.close()

    @property
    def http(self) -> aiohttp.ClientSession:
        """The client, made when first used."""
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return self._http

    async def call(self, method: str, path: str, body: JSON) -> dict[str, str]:
        """A call; Gone for 404, Unavailable where nobody answers."""
        try:
            async with self.http.request(method, self._url + path, json=body) as answer:
                if answer.status == 404:
                    raise Gone("The message is gone.")
                found: dict[str, str] = await answer.json()
                return found
        except aiohttp.ClientError as error:
            raise Unavailable("The platform is out of reach.", detail=str(error), retry_after=0.1) from None


class _Conversation:
    def __init__(self, postbox: Postbox, address: Address) -> None:
        self._postbox = postbox
        self._address = address

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        if "message" not in self._address:
            event = str(self._address["event"])
            made = await self._postbox.call("post", "/messages", {"nonce": f"m-{event}", "event": event})
            self._address = {**self._address, "message": made["id"]}
            await store(self._address)
        return self._address

    async def show(self, status: JobStatus) -> None:
        await self._edit({"text": str(status.state)})

    async def deliver(self, result: ImageResult) -> None:
        pictures: list[JSON] = [
            f"{p.seed}:{p.width}x{p.height}:{p.path.stat().st_size > 0}" for p in result.pictures
        ]
        await self._edit({"text": f"{result.state} {result.message}".strip(), "pictures": pictures})

    async def _edit(self, body: JSON) -> None:
        await self._postbox.call("patch", f"/messages/{self._address['message']}", body)
