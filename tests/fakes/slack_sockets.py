"""Socket Mode of the local Slack: tickets, connections, envelopes and their acks."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from tests.fakes.slack_state import Payload, World
from tests.fakes.slack_trouble import Troubles

MOST_CONNECTIONS = 10


class Unsent(Exception):
    """No connection took the envelope, or the one that did is gone without an ack."""


@dataclass
class Connection:
    """One websocket. waiting: envelopes without an ack."""

    number: int
    socket: web.WebSocketResponse
    waiting: dict[str, asyncio.Future[Payload]] = field(default_factory=dict)
    leaving: bool = False


class Sockets:
    """All connections. lost_acks: acks that were held and then thrown away."""

    def __init__(self, world: World, troubles: Troubles) -> None:
        self.world = world
        self.troubles = troubles
        self.connections: list[Connection] = []
        self.opened = 0
        self.lost_acks = 0
        self.unknown_acks: list[Payload] = []
        self.base = ""
        self._tickets: set[str] = set()
        self._turn = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> Payload:
        """apps.connections.open: an address that is good for one connection."""
        ticket = str(uuid.uuid4())
        self._tickets.add(ticket)
        return {
            "url": f"{self.base.replace('http', 'ws', 1)}/link/?ticket={ticket}&app_id={self.world.app.id}"
        }

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A connection, for as long as it lasts."""
        if request.query.get("ticket") not in self._tickets:
            return web.Response(status=403, text="invalid ticket")
        self._tickets.discard(request.query["ticket"])
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        self.opened += 1
        connection = Connection(self.opened, socket)
        if len(self.connections) >= MOST_CONNECTIONS:
            await self._tell_leave(connection, "too_many_websockets")
            await socket.close()
            return socket
        self.connections.append(connection)
        await socket.send_json(self._hello())
        self.world.touch()
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    self._hear(connection, message.data)
        finally:
            self._gone(connection)
        return socket

    def _hello(self) -> Payload:
        return {
            "type": "hello",
            "num_connections": len(self.connections),
            "connection_info": {"app_id": self.world.app.id},
            "debug_info": {"host": "applink-local", "build_number": 1, "approximate_connection_time": 18060},
        }

    def _hear(self, connection: Connection, text: str) -> None:
        ack = json.loads(text)
        task = asyncio.ensure_future(self._take(connection, ack))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, connection: Connection, ack: Payload) -> None:
        gate = await self.troubles.pass_gate("ack", ack, after=False)
        waiting = connection.waiting.get(str(ack.get("envelope_id")))
        if waiting is None:
            self.unknown_acks.append(ack)
        elif gate is not None and (gate.lose or waiting.done()):
            self.lost_acks += 1
        elif not waiting.done():
            waiting.set_result(ack)
        self.world.touch()

    def _gone(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
        for waiting in connection.waiting.values():
            if not waiting.done():
                waiting.set_exception(Unsent("the connection closed"))
                waiting.exception()  # whoever waits still gets it; nobody may wait any more
        self.world.touch()

    async def send(self, kind: str, payload: Payload, *, attempt: int = 0, reason: str = "") -> Payload:
        """Send an envelope over one connection and wait for its ack; raises Unsent."""
        able = self.able
        if not able:
            raise Unsent("no connection")
        connection = able[next(self._turn) % len(able)]
        name = str(uuid.uuid4())
        envelope: Payload = {
            "envelope_id": name,
            "type": kind,
            "payload": payload,
            "accepts_response_payload": kind != "events_api",
        }
        if kind == "events_api":
            envelope |= {"retry_attempt": attempt, "retry_reason": reason}
        waiting: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        connection.waiting[name] = waiting
        try:
            await connection.socket.send_json(envelope)
            return await waiting
        except ConnectionError as error:
            raise Unsent(str(error)) from None
        finally:
            connection.waiting.pop(name, None)

    @property
    def able(self) -> list[Connection]:
        """The connections that envelopes may go to."""
        return [each for each in self.connections if not each.leaving and not each.socket.closed]

    async def disconnect(self, reason: str = "refresh_requested", *, close: bool = False) -> None:
        """Tell every connection to leave: warning, refresh_requested or link_disabled; close: and hang up."""
        for connection in list(self.connections):
            await self._tell_leave(connection, reason)
            connection.leaving = reason != "warning"
        if close:
            await self.cut()

    async def _tell_leave(self, connection: Connection, reason: str) -> None:
        message = {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-local"}}
        try:
            await connection.socket.send_json(message)
        except ConnectionError:
            pass

    async def cut(self) -> None:
        """Close every connection without a word."""
        for connection in list(self.connections):
            await connection.socket.close(code=1000)

    async def aclose(self) -> None:
        """Close, and forget acks that are held."""
        await self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
