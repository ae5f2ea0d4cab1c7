"""Pictures attached at Discord: fetched from its own addresses alone, within a length and a time."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from adapters.discord.uploads import Attached, Downloads
from bot.core.errors import InvalidRequest, Unavailable

MOST = 100_000


class Server:
    """A server that answers badly; url: where."""

    def __init__(self) -> None:
        self.sent = 0
        self.url = ""
        self.done = asyncio.Event()

    async def endless(self, request: web.Request) -> web.StreamResponse:
        """Bytes for ever, whatever it said of their number."""
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"x" * 4096)
                self.sent += 4096
        except ConnectionError:
            self.done.set()
        return answer

    async def silent(self, request: web.Request) -> web.StreamResponse:
        """A beginning, and then nothing."""
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"x")
        await asyncio.Event().wait()
        return answer

    async def redirect(self, request: web.Request) -> web.StreamResponse:
        """To somewhere inside."""
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    async def bomb(self, request: web.Request) -> web.StreamResponse:
        """A small body that unpacks to a large one."""
        body = gzip.compress(b"\0" * (50 * MOST))
        assert len(body) < MOST
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def gone(self, request: web.Request) -> web.StreamResponse:
        """The link has expired."""
        return web.Response(status=404)

    async def down(self, request: web.Request) -> web.StreamResponse:
        """Trouble on the other side."""
        return web.Response(status=503)

    async def whole(self, request: web.Request) -> web.StreamResponse:
        """A file; the query is part of its address."""
        return web.Response(body=request.raw_path.partition("?")[2].encode())


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """See Server."""
    made = Server()
    app = web.Application()
    for name in ("endless", "silent", "redirect", "bomb", "gone", "down", "whole"):
        app.router.add_get(f"/{name}", getattr(made, name))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


async def fetch(server: Server, name: str, *, seconds: float = 5.0, size: int = 0) -> bytes:
    """A file of the server, which stands for Discord's own."""
    downloads = Downloads(f"{server.url}/api/v10", seconds=seconds)
    return await downloads.fetch(Attached(f"{server.url}/{name}", "a.png", size), most=MOST)


async def test_a_file_comes_whole_and_its_address_unchanged(server: Server) -> None:
    assert await fetch(server, "whole?ex=1%2F&hm=a+b%20") == b"ex=1%2F&hm=a+b%20"


async def test_an_endless_file_is_cut_off(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="over 0 MB"):
        await fetch(server, "endless")
    await asyncio.wait_for(server.done.wait(), 5)  # the connection is closed, not only left alone


async def test_a_file_that_never_comes_is_given_up(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="did not arrive within"):
        await fetch(server, "silent", seconds=0.05)


async def test_a_packed_file_counts_unpacked(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="over 0 MB"):
        await fetch(server, "bomb")


async def test_no_redirect_is_followed(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="link has expired"):
        await fetch(server, "redirect")


async def test_what_is_gone_is_attached_again_and_trouble_waited_out(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="Attach it again"):
        await fetch(server, "gone")
    with pytest.raises(Unavailable, match="in a minute"):
        await fetch(server, "down")
    downloads = Downloads("http://127.0.0.1:9/api/v10")
    with pytest.raises(Unavailable):
        await downloads.fetch(Attached("http://127.0.0.1:9/a.png", "a.png"), most=MOST)


async def test_what_says_that_it_is_too_large_is_not_asked_for(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="over 0 MB"):
        await fetch(server, "endless", size=MOST + 1)
    assert server.sent == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.discordapp.com/a.png",
        "https://cdn.discordapp.com:8443/a.png",
        "https://user@cdn.discordapp.com/a.png",
        "https://cdn.discordapp.com.evil.example/a.png",
        "https://evil.example/cdn.discordapp.com/a.png",
        "http://169.254.169.254/latest",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://0x7f.1/a.png",
        "file:///etc/passwd",
        "//cdn.discordapp.com/a.png",
        "gopher://cdn.discordapp.com/a",
        "",
    ],
)
async def test_other_addresses_are_never_asked(url: str) -> None:
    with pytest.raises(InvalidRequest, match="not one of Discord"):
        await Downloads().fetch(Attached(url, "a.png"), most=MOST)
