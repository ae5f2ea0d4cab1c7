"""Bodies and connections that somebody means ill with, or has damaged, at every served API."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from adapters import _incoming
from adapters.api import bodies
from bot import server
from tests.fakes.api import KEY, OTHER_KEY, House, house
from tests.fakes.api_paths import APIS, BODIES, JOBS, STOCHASTIC, in_form, post


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'"\xff"', b"[" * 10_000, b'{"prompt": "a", "prompt": "b"}', b'{"prompt": NaN}', b"[]", b"7"],
)
async def test_a_malformed_body_is_refused(home: House, path: str, body: bytes) -> None:
    answer = await post(home, path, data=body)
    assert answer.status == 400
    assert in_form(path, answer)


@pytest.mark.parametrize("path", APIS)
async def test_a_megabyte_of_prompt_is_refused_as_too_large(home: House, path: str) -> None:
    body = json.dumps(BODIES[path]).replace("a fox", "x" * 2**20)
    answer = await post(home, path, data=io.BytesIO(body.encode()))
    assert answer.status == 413
    assert in_form(path, answer)


@pytest.mark.parametrize("path", [STOCHASTIC, JOBS])
async def test_a_body_that_unpacks_without_end_is_cut(home: House, path: str) -> None:
    bomb = gzip.compress(b" " * (65 * 2**20), 9)
    answer = await post(home, path, data=bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status == 413


async def test_headers_that_do_not_come_end_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.1)
    async with house(tmp_path) as home:
        address = urlsplit(home.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
        assert await asyncio.wait_for(reader.read(), 5) == b""  # to the end: it is closed
        writer.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system cannot tell")
async def test_a_client_that_takes_nothing_of_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its answers stay in memory for as long as it likes."""
    monkeypatch.setattr(server, "UNREAD", 0.5)
    given_up = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 2**20)
        except ConnectionError:
            given_up.set()
            raise

    served = server.Server("127.0.0.1", 0, [web.get("/", endless)], lambda: (True, {}))
    await served.start()
    try:
        address = urlsplit(served.url)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect((address.hostname, address.port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(given_up.wait(), 10)
    finally:
        await served.aclose()


async def test_a_body_that_does_not_come_ends_the_connection(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_incoming, "_PATIENCE_SECONDS", 0.1)
    address = urlsplit(home.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {STOCHASTIC} HTTP/1.1\r\nHost: x\r\napiKey: {KEY}\r\nContent-Length: 99\r\n\r\n"
    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.read(), 5)  # to the end: it is closed
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408")


async def test_few_large_bodies_of_one_key_are_read_at_once_and_other_keys_do_not_wait(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LARGE_AT_ONCE", 2)
    address, size = urlsplit(home.url), 2**20
    head = f"POST {JOBS} HTTP/1.1\r\nHost: x\r\nSalad-Api-Key: {KEY}\r\nContent-Length: {size}\r\n\r\n"
    writers = [(await asyncio.open_connection(address.hostname, address.port))[1] for _ in range(3)]
    try:
        for writer in writers:  # the first two are being read from here on, and the third waits
            writer.write(head.encode() + b" " * (size - 1))
        large = json.dumps(BODIES[JOBS]).encode() + b" " * 70_000
        assert (await post(home, JOBS)).status == 201
        assert (await post(home, JOBS, OTHER_KEY, data=large)).status == 201
        monkeypatch.setattr(bodies, "WAIT_SECONDS", 0.01)
        refused = await post(home, JOBS, data=large)
        assert refused.status == 429
        assert "large bodies" in in_form(JOBS, refused)
    finally:
        for writer in writers:
            writer.close()
    monkeypatch.setattr(bodies, "WAIT_SECONDS", 10.0)
    assert (await post(home, JOBS, data=large)).status == 201


async def test_a_client_that_leaves_in_the_middle_is_no_error_in_the_log(
    home: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    address = urlsplit(home.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {STOCHASTIC} HTTP/1.1\r\nHost: x\r\napiKey: {KEY}\r\nContent-Length: 99\r\n\r\n"
    writer.write(head.encode())
    await post(home, STOCHASTIC)  # by now the other is being read
    writer.close()
    async with asyncio.timeout(5):
        while "ended before its request" not in caplog.text:
            await asyncio.sleep(0.005)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("head", ["Authorization : Bearer {}", "apiKey: {}\x01", "apiKey: {}" + "x" * 9000])
async def test_a_damaged_request_is_refused_and_leaves_neither_its_key_nor_a_stack_in_the_log(
    home: House, caplog: pytest.LogCaptureFixture, head: str
) -> None:
    caplog.set_level(logging.DEBUG)
    address = urlsplit(home.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{head.format(KEY)}\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert "damaged request" in caplog.text
    assert KEY not in caplog.text
    assert "Traceback" not in caplog.text
