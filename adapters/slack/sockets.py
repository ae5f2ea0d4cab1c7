"""Socket Mode: one connection, and another one as soon as Slack announces its end. Reconnects for ever.

What arrives goes to Bolt; its answer goes back over the connection that it came by. What could not be
acknowledged any more is sent again by Slack, and known by its key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import Any, Final

import aiohttp
from slack_bolt.adapter.socket_mode.async_internals import run_async_bolt_app
from slack_bolt.async_app import AsyncApp
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from adapters.slack.clients import Clients
from adapters.slack.hurry import Hurry
from adapters.slack.problems import TOKEN_CODES, TROUBLE, Denied, Removed, fault_of
from bot.core.errors import AuthFailed, ConfigurationError, Fault
from bot.core.patience import Tasks
from bot.core.settings import Secret

log = logging.getLogger(__name__)

AGAIN_FIRST, AGAIN_MOST = 0.5, 60.0  # seconds between tries
HEARTBEAT: Final = 15.0  # seconds between pings; without an answer the connection is given up
HELLO_MOST: Final = 15.0
WRONG_TOKEN: Final = TOKEN_CODES | {"not_allowed_token_type", "missing_scope"}
MAX_MESSAGE: Final = 4 * 1024 * 1024


class Sockets:
    """Serves until cancelled."""

    def __init__(self, app: AsyncApp, clients: Clients, app_token: Secret, hurry: Hurry) -> None:
        self._app = app
        self._clients = clients
        self._token = app_token
        self._hurry = hurry
        self._greeted = False
        self._tasks = Tasks()

    async def run(self) -> None:
        """Raises ConfigurationError where Slack refuses the token at first, AuthFailed where later."""
        delay = 0.0
        try:
            while True:
                try:
                    steady = await self._connection(await self._address())
                    delay = 0.0 if steady else _longer(delay)
                except Fault as error:
                    if isinstance(error, AuthFailed):
                        raise
                    delay = max(_longer(delay), error.retry_after or 0.0)
                    log.warning("Slack's socket, again in %.0f s: %s %s", delay, error.message, error.detail)
                await asyncio.sleep(delay * random.uniform(0.75, 1.0))
        finally:
            await self._tasks.aclose()

    async def _address(self) -> str:
        """Where to connect, once."""
        try:
            client = self._clients.client()
            answer = await client.apps_connections_open(app_token=self._token.reveal())
        except TROUBLE as error:
            fault = fault_of(error, "apps.connections.open")
            code = fault.code if isinstance(fault, Denied) else ""
            if isinstance(fault, Removed) or code in WRONG_TOKEN:
                raise self._refusal(fault) from None
            raise fault from None
        return str(answer["url"])

    def _refusal(self, fault: Fault) -> Exception:
        if self._greeted:
            return AuthFailed("Slack does not take SLACK_APP_TOKEN any more.", detail=fault.detail)
        return ConfigurationError(
            "Slack refused SLACK_APP_TOKEN. Make an app-level token (xapp-...) with connections:write on the "
            "app's page, Basic Information.",
            detail=fault.detail,
        )

    async def _connection(self, url: str) -> bool:
        """Serve one connection until another one is wanted. True: it went well, connect again at once."""
        try:
            socket = await self._clients.session.ws_connect(
                url,
                heartbeat=HEARTBEAT,
                max_msg_size=MAX_MESSAGE,
                timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
            )
        except TROUBLE as error:
            raise fault_of(error, "socket") from None
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        reader = self._tasks.start(self._read(socket, turn))
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            reader.cancel()
            raise

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, turn: asyncio.Future[bool]) -> None:
        """Everything that one connection brings. turn: set once another connection is wanted; this one is
        read until Slack closes it."""
        greeted = False
        try:
            while True:
                message = await socket.receive(timeout=None if greeted else HELLO_MOST)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                content = json.loads(message.data)
                kind = content.get("type")
                if kind == "hello":
                    greeted = self._greeted = True
                    log.info("connected to Slack")
                elif kind == "disconnect":
                    _settle(turn, greeted)
                else:
                    self._tasks.start(self._serve(socket, content))
        except TimeoutError:
            log.warning("Slack's socket said nothing")
        except TROUBLE as error:
            log.info("Slack's socket broke: %s", type(error).__name__)
        finally:
            _settle(turn, False)
            await socket.close()

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse, content: dict[str, Any]) -> None:
        """One payload, and its acknowledgement."""
        request = SocketModeRequest.from_dict(content)
        if request is not None:
            with self._hurry.acknowledging():
                await self._answer(socket, request)

    async def _answer(self, socket: aiohttp.ClientWebSocketResponse, request: SocketModeRequest) -> None:
        async with self._hurry.turn():
            answer = await run_async_bolt_app(self._app, request)
        if answer.status != 200:
            log.warning(
                "not acknowledged, so Slack sends it again: %s, status %d", request.type, answer.status
            )
            return
        payload: Any = answer.body or None
        if payload and answer.headers.get("content-type", [""])[0].startswith("application/json"):
            payload = json.loads(payload)
        elif payload:
            payload = {"text": payload}
        response = SocketModeResponse(envelope_id=request.envelope_id, payload=payload)
        try:
            await socket.send_str(json.dumps(response.to_dict()))
        except (ConnectionError, aiohttp.ClientError):
            log.info("the connection closed before an acknowledgement; Slack sends it again")


def _longer(delay: float) -> float:
    return min(AGAIN_MOST, max(AGAIN_FIRST, delay * 2))


def _settle(turn: asyncio.Future[bool], steady: bool) -> None:
    if not turn.done():
        turn.set_result(steady)
