"""The gateway of the local Discord: sessions, shards, resuming, and every way to lose a connection.

await discord.gateway.drop()                 # sockets gone without a word; the client resumes
discord.gateway.ask_to_reconnect()           # op 7
discord.gateway.invalidate(resumable=False)  # op 9
discord.gateway.refuse(1)                    # the next connection attempts get a 503
discord.gateway.forget()                     # a resume will be refused (op 9)
discord.gateway.send_nonsense()              # a payload that no client can parse
discord.gateway.hold()                       # events are kept back until release()
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from tests.fakes.discord_json import guild_json, user_json
from tests.fakes.discord_state import Guild, Json, World

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID, HELLO, ACK = 0, 1, 2, 6, 7, 9, 10, 11
REMEMBERED = 20_000  # events that a session can replay
GUILDS, MEMBERS, PRESENCES, GUILD_MESSAGES, DIRECT_MESSAGES, CONTENT = (1 << n for n in (0, 1, 8, 9, 12, 15))
PRIVILEGED = MEMBERS | PRESENCES | CONTENT


@dataclass(eq=False)
class Session:
    """What one IDENTIFY began. socket None: not connected now; resumable by its id."""

    shard: tuple[int, int]
    intents: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    sequence: int = 0
    events: deque[tuple[int, str, Json | Callable[[], Json]]] = field(
        default_factory=lambda: deque(maxlen=REMEMBERED)
    )
    socket: Socket | None = None

    def wants(self, event: str, guild_id: int | None) -> bool:
        """Whether the event is for this shard and asked for."""
        index, count = self.shard
        if ((guild_id or 0) >> 22) % count != index:
            return False
        return event == "INTERACTION_CREATE" or bool(self.intents & _intent(event, guild_id))


def _intent(event: str, guild_id: int | None) -> int:
    if event.startswith("MESSAGE_"):
        return DIRECT_MESSAGES if guild_id is None else GUILD_MESSAGES
    return GUILDS


class Socket:
    """One connection; what is sent goes through a queue, so that sending never waits."""

    def __init__(self, ws: web.WebSocketResponse, request: web.Request) -> None:
        self.ws = ws
        self.request = request
        self._queue: asyncio.Queue[Callable[[], str] | None] = asyncio.Queue()
        self.writer = asyncio.ensure_future(self._write())

    def send(self, op: int, data: Any, *, event: str | None = None, sequence: int | None = None) -> None:
        """Queue a payload; data may be a callable, called when its turn comes."""

        def text() -> str:
            made = data() if callable(data) else data
            return json.dumps({"op": op, "d": made, "s": sequence, "t": event})

        self._queue.put_nowait(text)

    def send_text(self, text: str) -> None:
        """Queue anything."""
        self._queue.put_nowait(lambda: text)

    async def _write(self) -> None:
        while (text := await self._queue.get()) is not None:
            if self.ws.closed:
                return
            try:
                await self.ws.send_str(text())
            except ConnectionError:
                return

    async def flush(self) -> None:
        """Wait until everything queued is sent."""
        self._queue.put_nowait(None)
        await self.writer

    def abort(self) -> None:
        """Cut the connection."""
        self.writer.cancel()
        if self.request.transport is not None:
            self.request.transport.abort()


class Gateway:
    """Serves sessions. identifies, resumes: what clients sent, (time, shard); beats: heartbeats received;
    allowed: privileged intents that the application may use; gap: seconds between IDENTIFYs (0: any)."""

    def __init__(self, world: World, token: str) -> None:
        self.world = world
        self.token = token
        self.sessions: dict[str, Session] = {}
        self.sockets: set[Socket] = set()
        self.identifies: list[tuple[float, int]] = []
        self.resumes: list[tuple[float, int]] = []
        self.connects = 0
        self.beats = 0
        self.allowed = 0
        self.gap = 0.0
        self.beat_every = 41.25
        self.acknowledge_beats = True
        self.dispatched = 0
        self._refused = 0
        self._held: list[Callable[[], None]] | None = None
        world.listeners.append(self.dispatch)

    # --- for tests ----------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a client is identified and connected."""
        return any(each.socket is not None for each in self.sessions.values())

    async def drop(self) -> None:
        """Cut all connections, after what was queued has been sent."""
        for socket in list(self.sockets):
            await socket.flush()
            socket.abort()

    async def close(self, code: int) -> None:
        """Close all connections with a code: 4004 the token is bad, 4014 intents are not allowed."""
        for socket in list(self.sockets):
            await socket.ws.close(code=code)

    def ask_to_reconnect(self) -> None:
        """Op 7 to everybody."""
        for socket in self.sockets:
            socket.send(RECONNECT, None)

    def invalidate(self, *, resumable: bool = False) -> None:
        """Op 9 to everybody; not resumable: the sessions are gone."""
        if not resumable:
            self.sessions.clear()
        for socket in self.sockets:
            socket.send(INVALID, resumable)

    def forget(self) -> None:
        """Sessions cannot be resumed any more; open connections stay."""
        self.sessions = {key: each for key, each in self.sessions.items() if each.socket is not None}

    def refuse(self, times: int) -> None:
        """Answer the next attempts to connect with 503."""
        self._refused = times

    def send_nonsense(self, data: Json | None = None) -> None:
        """An INTERACTION_CREATE without what it must have, or with `data`."""
        for session in self.sessions.values():
            if session.socket is not None:
                session.sequence += 1
                nonsense = {"id": "1"} if data is None else data
                session.socket.send(DISPATCH, nonsense, event="INTERACTION_CREATE", sequence=session.sequence)

    def hold(self) -> None:
        """Keep events back from now on."""
        self._held = [] if self._held is None else self._held

    def release(self) -> None:
        """Send what was kept back."""
        held, self._held = self._held or [], None
        for each in held:
            each()

    # --- events -------------------------------------------------------------------------------------------

    def dispatch(self, event: str, data: Json | Callable[[], Json], guild_id: int | None) -> None:
        """Send an event to the sessions that it concerns; kept for those that may resume."""
        if self._held is not None:
            self._held.append(lambda: self.dispatch(event, data, guild_id))
            return
        guild = None if guild_id is None else self.world.guilds.get(guild_id)
        if guild is not None and not guild.joined and event not in ("GUILD_DELETE", "INTERACTION_CREATE"):
            return
        made: Json | None = None
        for session in self.sessions.values():
            if session.wants(event, guild_id):
                if made is None:
                    made = data() if callable(data) else data
                self._send(session, event, made)

    def _send(self, session: Session, event: str, data: Json | Callable[[], Json]) -> None:
        session.sequence += 1
        self.dispatched += 1
        session.events.append((session.sequence, event, data))
        if session.socket is not None:
            session.socket.send(DISPATCH, data, event=event, sequence=session.sequence)

    # --- connections --------------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """GET /gateway."""
        self.connects += 1
        if self._refused > 0:
            self._refused -= 1
            self.world.changes.tell()
            return web.Response(status=503, text="Service unavailable")
        ws = web.WebSocketResponse(max_msg_size=2**22, compress=False)
        await ws.prepare(request)
        socket = Socket(ws, request)
        self.sockets.add(socket)
        session: Session | None = None
        socket.send(HELLO, {"heartbeat_interval": round(self.beat_every * 1000), "_trace": ["local"]})
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    session = await self._received(socket, session, json.loads(message.data))
        finally:
            self.sockets.discard(socket)
            if session is not None and session.socket is socket:
                session.socket = None
                if ws.close_code in (1000, 1001):
                    self.sessions.pop(session.id, None)
            socket.writer.cancel()
            self.world.changes.tell()
        return ws

    async def _received(self, socket: Socket, session: Session | None, payload: Json) -> Session | None:
        op, data = payload["op"], payload["d"]
        if op == HEARTBEAT:
            self.beats += 1
            if self.acknowledge_beats:
                socket.send(ACK, None)
        elif op == IDENTIFY:
            session = await self._identify(socket, data)
        elif op == RESUME:
            session = await self._resume(socket, data)
        self.world.changes.tell()
        return session

    async def _identify(self, socket: Socket, data: Json) -> Session | None:
        index, count = data.get("shard") or (0, 1)
        last = self.identifies[-1][0] if self.identifies else float("-inf")
        self.identifies.append((time.monotonic(), index))
        if data["token"] != self.token:
            await socket.ws.close(code=4004, message=b"Authentication failed.")
            return None
        if data["intents"] & PRIVILEGED & ~self.allowed:
            await socket.ws.close(code=4014, message=b"Disallowed intent(s).")
            return None
        if time.monotonic() - last < self.gap:
            socket.send(INVALID, False)
            return None
        for old in [
            each for each in self.sessions.values() if each.shard[0] == index and each.socket is None
        ]:
            del self.sessions[old.id]
        session = Session((index, count), data["intents"])
        session.socket = socket
        self.sessions[session.id] = session
        self._greet(session)
        return session

    def _greet(self, session: Session) -> None:
        index, count = session.shard
        guilds = [
            each for each in self.world.guilds.values() if each.joined and (each.id >> 22) % count == index
        ]
        self._send(
            session,
            "READY",
            {
                "v": 10,
                "user": user_json(self.world.me) | {"verified": True, "mfa_enabled": True, "email": None},
                "guilds": [{"id": str(each.id), "unavailable": True} for each in guilds],
                "session_id": session.id,
                "session_type": "normal",
                "resume_gateway_url": self.world.cdn.replace("http://", "ws://") + "/gateway",
                "shard": [index, count],
                "application": {"id": str(self.world.me.id), "flags": 0},
                "private_channels": [],
                "presences": [],
                "relationships": [],
                "user_settings": {},
            },
        )
        for guild in guilds if session.intents & GUILDS else ():
            self._send(session, "GUILD_CREATE", self._guild(guild))

    def _guild(self, guild: Guild) -> Callable[[], Json]:
        return lambda: guild_json(self.world, guild)

    async def _resume(self, socket: Socket, data: Json) -> Session | None:
        session = self.sessions.get(data["session_id"])
        self.resumes.append((time.monotonic(), -1 if session is None else session.shard[0]))
        if data["token"] != self.token:
            await socket.ws.close(code=4004, message=b"Authentication failed.")
            return None
        missed = data["seq"] or 0
        if session is None or (session.events and missed < session.events[0][0] - 1):
            socket.send(INVALID, False)
            return None
        session.socket = socket
        for sequence, event, kept in list(session.events):
            if sequence > missed:
                socket.send(DISPATCH, kept, event=event, sequence=sequence)
        self._send(session, "RESUMED", {"_trace": ["local"]})
        return session
