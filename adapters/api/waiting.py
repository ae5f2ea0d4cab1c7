"""Clients that keep their connection open until their pictures are made: seeing that one has gone away.

A web server tells nobody that a connection was closed while its request is being answered; so the transport
is looked at now and then, and its keep-alive probes find clients that vanished without a word.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from aiohttp import web

LOOK_SECONDS: Final = 0.5
PROBE_AFTER, PROBE_EVERY, PROBES = 30, 10, 6  # seconds, seconds, unanswered ones that end a connection

T = TypeVar("T")


class ClientGone(ConnectionError):
    """Whoever asked has closed the connection."""


def keep_alive(request: web.Request) -> None:
    """Have the connection probed while nothing is sent over it, where the system can."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is None or not hasattr(socket, "TCP_KEEPIDLE"):
        return
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
    )
    try:
        for level, option, value in options:
            connection.setsockopt(level, option, value)
    except OSError:  # closed already, or no TCP: then it is seen, or needs no probes
        return


def is_gone(request: web.Request) -> bool:
    """Whether the connection is closed."""
    return request.transport is None or request.transport.is_closing()


async def while_here(
    request: web.Request,
    work: Coroutine[Any, Any, T],
    *,
    idle: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """What comes of `work`. Raises ClientGone where the client leaves first; the work is given up then.

    idle: called every LOOK_SECONDS while there is nothing yet.
    """
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=LOOK_SECONDS)
            if done:
                return task.result()
            if is_gone(request):
                raise ClientGone
            if idle is not None:
                await idle()
    finally:
        task.cancel()


async def write_all(response: web.StreamResponse, data: bytes, *, piece: int = 256 * 1024) -> None:
    """Write large data so that the loop serves others in between."""
    for begin in range(0, len(data), piece):
        await response.write(data[begin : begin + piece])
