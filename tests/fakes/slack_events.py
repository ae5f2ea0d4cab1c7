"""How the local Slack hands things over: by Socket Mode or as signed POSTs, acks, time-outs, retries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tests.fakes.slack_sockets import Sockets, Unsent
from tests.fakes.slack_state import Payload, World

ACK_SECONDS = 3.0
SOCKET_KINDS = {"command": "slash_commands", "interaction": "interactive", "event": "events_api"}


@dataclass
class Delivery:
    """One thing handed over. kind: command, interaction or event; sent: when, each time (monotonic seconds).

    seconds: from the (last) sending to its ack, also where that came too late; ack: its body; status: of the
    HTTP answer; failure: what the user is shown, operation_timeout or dispatch_failed, or empty.
    """

    kind: str
    payload: Payload
    user: str = ""
    channel: str = ""
    sent: list[float] = field(default_factory=list)
    seconds: float | None = None
    ack: Any = None
    status: int = 0
    failure: str = ""
    ended: bool = False

    @property
    def acknowledged(self) -> bool:
        """Acked in time."""
        return self.ended and not self.failure


def signature(secret: str, timestamp: str, body: str) -> str:
    """Slack's signature of a request, version 0."""
    signed = hmac.new(secret.encode(), f"v0:{timestamp}:{body}".encode(), hashlib.sha256)
    return f"v0={signed.hexdigest()}"


class Courier:
    """Hands things over. events_url: where to in HTTP mode; empty: Socket Mode.

    retry_delays: before each time an event is sent again (Slack's are 0, 60 and 300 s; here the first alone,
    so that nobody waits for minutes); deliveries: all of them.
    """

    def __init__(self, world: World, sockets: Sockets) -> None:
        self.world = world
        self.sockets = sockets
        self.events_url = ""
        self.ack_seconds = ACK_SECONDS
        self.retry_delays: tuple[float, ...] = (0.0,)
        self.deliveries: list[Delivery] = []
        self.on_payload: Callable[[str, Payload], None] = lambda kind, payload: None
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[str]] = set()

    async def hand_over(self, delivery: Delivery) -> Delivery:
        """Send something and wait for its end: acked, or given up. Only events are tried again."""
        self.on_payload(delivery.kind, delivery.payload)
        self.deliveries.append(delivery)
        await self._try(delivery, 0, "")
        if delivery.kind == "event":
            for attempt, delay in enumerate(self.retry_delays, 1):
                if not delivery.failure:
                    break
                await self.world.clock.sleep(delay)
                reason = "timeout" if delivery.failure == "operation_timeout" else "http_error"
                await self._try(delivery, attempt, reason)
        delivery.ended = True
        self.world.touch()
        return delivery

    async def resend(self, delivery: Delivery, *, attempt: int = 1) -> Delivery:
        """Send the very same once more, as Slack does when it did not see the ack; what comes back."""
        again = Delivery(delivery.kind, delivery.payload, delivery.user, delivery.channel)
        self.deliveries.append(again)
        await self._try(again, attempt, "timeout")
        again.ended = True
        self.world.touch()
        return again

    async def _try(self, delivery: Delivery, attempt: int, reason: str) -> None:
        """Send once; what came of it in time is in the delivery."""
        delivery.sent.append(self.world.clock.monotonic())
        send = self._post if self.events_url else self._send
        task = asyncio.ensure_future(send(delivery, attempt, reason))
        timer = asyncio.ensure_future(self.world.clock.sleep(self.ack_seconds))
        self._keep(task)
        try:
            await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        delivery.failure = task.result() if task.done() else "operation_timeout"

    def _keep(self, task: asyncio.Task[str]) -> None:
        """Let a late ack still be heard, to be measured."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, delivery: Delivery, attempt: int, reason: str) -> str:
        try:
            ack = await self.sockets.send(
                SOCKET_KINDS[delivery.kind], delivery.payload, attempt=attempt, reason=reason
            )
        except Unsent:
            return "dispatch_failed"
        self._answered(delivery, ack.get("payload") or {})
        return ""

    async def _post(self, delivery: Delivery, attempt: int, reason: str) -> str:
        body, kind = encode(delivery)
        headers = self.sign(body) | {"Content-Type": kind}
        if attempt:
            headers |= {"X-Slack-Retry-Num": str(attempt), "X-Slack-Retry-Reason": reason}
        try:
            async with self.http.post(self.events_url, data=body.encode(), headers=headers) as answer:
                text = await answer.text()
                delivery.status = answer.status
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return "dispatch_failed"
        if delivery.status != 200:
            return "dispatch_failed"
        gate = await self.sockets.troubles.pass_gate("ack", delivery.payload, after=False)
        if gate is not None and gate.lose:
            return "operation_timeout"
        self._answered(delivery, _ack_body(text))
        return ""

    def _answered(self, delivery: Delivery, body: Any) -> None:
        delivery.seconds = self.world.clock.monotonic() - delivery.sent[-1]
        delivery.ack = body
        self.world.touch()

    def sign(self, body: str) -> dict[str, str]:
        """The headers of a request that Slack sends now."""
        timestamp = str(int(self.world.clock.now()))
        return {
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": signature(self.world.app.signing_secret, timestamp, body),
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
        }

    @property
    def http(self) -> aiohttp.ClientSession:
        """The client, made when first used."""
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=30)
            self._http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        return self._http

    async def aclose(self) -> None:
        """Hang up."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()


def encode(delivery: Delivery) -> tuple[str, str]:
    """The body of the POST and its content type."""
    if delivery.kind == "event":
        return json.dumps(delivery.payload), "application/json"
    fields = delivery.payload if delivery.kind == "command" else {"payload": json.dumps(delivery.payload)}
    return urlencode(fields), "application/x-www-form-urlencoded"


def _ack_body(text: str) -> Any:
    if not text.startswith("{"):
        return {"text": text} if text else {}
    return json.loads(text)
