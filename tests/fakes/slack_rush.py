"""Many things handed over by HTTP at the very same moment, each on a connection that is already open.

All is made ready before, and little is done between the first request and the last ack: what is measured is
the program, not this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from yarl import URL

from tests.fakes.slack_events import Courier, Delivery, encode

GIVEN_UP = 30.0  # seconds after which a late ack is no longer waited for


class Wire(asyncio.Protocol):
    """One connection for one request. whole: set once the answer is there, or the connection gone."""

    def __init__(self, courier: Courier, delivery: Delivery) -> None:
        self._world = courier.world
        self._delivery = delivery
        self._heard = bytearray()
        self.whole = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, request: bytes) -> None:
        """Off it goes."""
        self._delivery.sent.append(self._world.clock.monotonic())
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Some of the answer."""
        self._heard += data
        head, found, body = bytes(self._heard).partition(b"\r\n\r\n")
        if not found or self.whole.is_set():
            return
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) < int(headers["content-length"]):
            return
        self._delivery.status = int(status.split()[1])
        if self._delivery.status == 200:
            self._delivery.seconds = self._world.clock.monotonic() - self._delivery.sent[-1]
            self._delivery.ack = body.decode()
        self.whole.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self.whole.set()


async def rush(courier: Courier, deliveries: Sequence[Delivery]) -> None:
    """Send all at once, each a single time, and wait for their ends."""
    url = URL(courier.events_url)
    assert url.host is not None
    assert url.port is not None
    loop = asyncio.get_running_loop()
    wires = []
    for delivery in deliveries:
        courier.on_payload(delivery.kind, delivery.payload)
        courier.deliveries.append(delivery)
        _, wire = await loop.create_connection(partial(Wire, courier, delivery), url.host, url.port)
        wires.append(wire)
    requests = [_request(courier, url, delivery) for delivery in deliveries]
    for wire, request in zip(wires, requests, strict=True):
        wire.send(request)
    await asyncio.wait([asyncio.ensure_future(wire.whole.wait()) for wire in wires], timeout=GIVEN_UP)
    for wire, delivery in zip(wires, deliveries, strict=True):
        wire.transport.abort()
        delivery.failure = _failure(delivery, courier.ack_seconds)
        delivery.ended = True
    courier.world.touch()


def _request(courier: Courier, url: URL, delivery: Delivery) -> bytes:
    body, kind = encode(delivery)
    data = body.encode()
    headers = courier.sign(body) | {
        "Host": url.authority,
        "Content-Type": kind,
        "Content-Length": str(len(data)),
    }
    lines = [f"POST {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def _failure(delivery: Delivery, most: float) -> str:
    if delivery.status not in (0, 200):
        return "dispatch_failed"
    if delivery.seconds is None or delivery.seconds > most:
        return "operation_timeout"
    return ""
