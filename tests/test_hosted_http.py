"""The HTTP kit of hosted services: what is tried again and what never is, what an answer may be, and what is
said about it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from aiohttp import WSMsgType, web

from backends import _http
from backends._answers import Answer, for_people, plain, raise_for
from backends._endpoint import at_home
from backends._http import PICTURES, SMALL, Http, Missing
from backends._pacing import retry_after
from bot.core.errors import (
    AuthFailed,
    ConfigurationError,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    TimedOut,
    Unavailable,
)
from tests.fakes.clock import HurriedClock

KEY = "canary-key-31007"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """A local server that answers what it is told, in turn, the last for ever. seen: the requests."""

    url: str = ""
    answers: list[Handler] = field(default_factory=list)
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    def say(self, *answers: Handler) -> None:
        """Answer so from now on."""
        self.answers = list(answers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.seen.append(request)
        self.ports.append(request.transport.get_extra_info("peername")[1])
        self.bodies.append(await request.read())
        handler = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await handler(request)


def status(code: int, body: object = None, **headers: str) -> Handler:
    """A JSON answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({} if body is None else body, status=code, headers=headers)

    return answer


def raw(body: bytes, **headers: str) -> Handler:
    """An answer of these bytes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers=headers)

    return answer


async def drop(request: web.Request) -> web.StreamResponse:
    """The connection breaks once the request was read."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


OK = status(200, {"id": "7"})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on 127.0.0.1."""
    made = Server()
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def clock() -> HurriedClock:
    """Time that jumps over waits."""
    return HurriedClock()


@pytest.fixture
async def http(server: Server, clock: HurriedClock, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Http]:
    """The kit, with a key that must be in no log."""
    caplog.set_level(logging.DEBUG)
    made = Http(
        f"{server.url}/base/",
        headers={"Authorization": f"Bearer {KEY}"},
        clock=clock.clock,
        service="Paintbox",
    )
    yield made
    await made.aclose()
    assert KEY not in caplog.text
    assert KEY not in repr(made)


async def failing(
    call: Awaitable[object], kind: type[FairbrushError], accepted: bool | None
) -> FairbrushError:
    """A call that must fail in this way."""
    with pytest.raises(kind) as caught:
        await call
    assert caught.value.accepted is accepted, repr(caught.value)
    assert KEY not in f"{caught.value.message} {caught.value.detail}"
    return caught.value


# --- trying again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [status(500), status(502), status(503), status(429), drop])
async def test_a_get_is_tried_again(server: Server, http: Http, first: Handler) -> None:
    server.say(first, first, OK)
    assert (await http.get("/x")).json() == {"id": "7"}
    assert [request.path for request in server.seen] == ["/base/x"] * 3


async def test_a_get_is_given_up_at_its_deadline(server: Server, http: Http, clock: HurriedClock) -> None:
    server.say(status(500))
    await failing(http.get("/x", deadline=30), Unavailable, None)
    assert sum(clock.slept) <= 30
    assert len(server.seen) >= 4


async def test_a_wait_beyond_the_deadline_is_told_and_not_waited_for(
    server: Server, http: Http, clock: HurriedClock
) -> None:
    server.say(status(429, **{"Retry-After": "300"}))
    error = await failing(http.post("/x", {}), RateLimited, False)
    assert error.retry_after == 300
    assert clock.slept == []
    assert len(server.seen) == 1


@pytest.mark.parametrize("code", [429, 503])
async def test_a_post_that_was_not_taken_is_sent_again_when_the_service_said(
    server: Server, http: Http, clock: HurriedClock, code: int
) -> None:
    server.say(status(code, **{"Retry-After": "12"}), OK)
    assert (await http.post("/x", {"a": 1})).status == 200
    assert server.bodies == [b'{"a": 1}'] * 2
    assert 12 <= clock.slept[0] <= 13


async def test_a_retry_after_may_be_a_date(server: Server, http: Http, clock: HurriedClock) -> None:
    date = format_datetime(datetime.fromtimestamp(clock.clock.now() + 20, UTC), usegmt=True)
    server.say(status(503, **{"Retry-After": date}), OK)
    await http.post("/x", {})
    assert 18 <= clock.slept[0] <= 21


@pytest.mark.parametrize("value", ["soon", "", "-5", "nan", "Wed, 99 Foo 2020"])
def test_a_retry_after_that_makes_no_sense_asks_for_nothing(value: str) -> None:
    assert retry_after(value, 0.0) in (None, 0.0)


@pytest.mark.parametrize(
    "answer", [status(500), status(502), status(504), drop], ids=["500", "502", "504", "drop"]
)
async def test_a_post_that_may_have_been_taken_is_never_sent_again(
    server: Server, http: Http, answer: Handler
) -> None:
    server.say(answer, OK)
    await failing(http.post("/x", {}), FairbrushError, None)
    assert len(server.seen) == 1


async def test_an_idempotent_post_is_sent_again(server: Server, http: Http) -> None:
    server.say(status(500), drop, OK)
    assert (await http.post("/x", {}, idempotent=True)).status == 200
    assert len(server.seen) == 3


async def test_a_post_without_an_answer_is_in_doubt(server: Server, http: Http) -> None:
    released = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    server.say(silent)
    await failing(http.post("/x", {}, seconds=0.05), TimedOut, None)
    released.set()
    assert len(server.seen) == 1
    assert http.trouble


async def test_a_server_that_never_begins_to_listen_has_taken_nothing(
    clock: HurriedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "REACH_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connects, and says no word of TLS
        http = Http(f"https://127.0.0.1:{mute.getsockname()[1]}", clock=clock.clock)
        await failing(http.post("/x", {}, tries=1), Unavailable, False)
        await http.aclose()


async def test_a_post_to_nobody_was_not_taken(clock: HurriedClock) -> None:
    http = Http("http://127.0.0.1:1", clock=clock.clock)
    error = await failing(http.post("/x", {}), Unavailable, False)
    assert "127.0.0.1" not in error.message
    assert len(clock.slept) == 3  # four tries
    await http.aclose()


async def test_a_job_is_not_handed_in_over_a_connection_that_was_kept(server: Server, http: Http) -> None:
    server.say(OK)
    for _ in range(2):
        await http.get("/x")
        await http.post("/x", {})
    get, first, again, second = server.ports
    assert get == again
    assert len({get, first, second}) == 3


@pytest.mark.parametrize(
    ("code", "kind", "post", "get"),
    [
        (400, InvalidRequest, False, None),
        (422, InvalidRequest, False, None),
        (401, AuthFailed, False, None),
        (403, AuthFailed, False, None),
        (402, QuotaExceeded, False, None),
        (404, Missing, False, False),
        (410, Missing, False, False),
        (405, ProtocolError, False, None),
        (301, ProtocolError, False, None),
        (302, ProtocolError, None, None),
        (303, ProtocolError, None, None),
        (308, ProtocolError, False, None),
        (408, TimedOut, None, None),
        (429, RateLimited, False, None),
        (500, Unavailable, None, None),
        (503, Unavailable, False, None),
    ],
)
async def test_a_status_says_what_went_wrong(
    server: Server, http: Http, code: int, kind: type[FairbrushError], post: bool | None, get: bool | None
) -> None:
    server.say(
        status(code, {"error": {"message": "a red fox is too red"}}, Location=f"{server.url}/elsewhere")
    )
    await failing(http.post("/x", {}, tries=1), kind, post)
    await failing(http.poll("/x"), kind, get)
    assert (await http.poll("/x", also=(code,))).status == code
    assert len(server.seen) == 3  # no redirect was followed
    if code == 308:
        assert "/elsewhere" in (await failing(http.poll("/x"), kind, get)).detail
    if code == 422:
        assert "too red" in (await failing(http.poll("/x"), kind, get)).message


async def test_a_success_that_was_not_expected_leaves_doubt(server: Server, http: Http) -> None:
    server.say(status(206))
    await failing(http.post("/x", {}), ProtocolError, None)


# --- where calls go ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/x", "//evil.example/x", "x", "", "http://127.0.0.1:1/x", "http://[", "file:///x"],
)
async def test_a_call_goes_to_the_configured_origin_alone(server: Server, http: Http, url: str) -> None:
    await failing(http.get(url), ProtocolError, None)
    assert server.seen == []


async def test_an_absolute_address_of_the_configured_origin_is_called(server: Server, http: Http) -> None:
    server.say(OK)
    await http.get(f"{server.url}/other?a=b", params={"c": 1})
    assert [str(request.rel_url) for request in server.seen] == ["/other?a=b&c=1"]
    assert server.seen[0].headers["Authorization"] == f"Bearer {KEY}"
    assert not http.is_own(server.url.replace("//", "//user:word@"))
    assert not http.is_own(server.url.replace("//", "//:word@"))


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("https://api.example.com", True),
        ("https://API.Example.com:443/v1", True),
        ("https://api.example.com./", True),
        ("https://api.example.com.evil.example", False),
        ("http://127.0.0.1:9", False),
    ],
)
def test_a_services_own_address_is_known_however_it_is_written(address: str, own: bool) -> None:
    assert at_home(address, "https://api.example.com", setting="FAIRBRUSH_X_URL") is own


@pytest.mark.parametrize("address", ["http://api.example.com", "http://[", "https://xn--/", "http://h:99999"])
def test_a_services_own_address_that_cannot_be_asked_is_told(address: str) -> None:
    with pytest.raises(ConfigurationError, match="FAIRBRUSH_X_URL"):
        at_home(address, "https://api.example.com", setting="FAIRBRUSH_X_URL")


@pytest.mark.parametrize(
    "base",
    ["", "api.example.com", "ftp://x", "https://", "http://x y", "https://x/?key=1", "https://a:secret@x/"],
)
def test_an_address_that_is_none_is_refused_without_its_password(base: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Http(base, setting="FAIRBRUSH_X_URL")
    assert "FAIRBRUSH_X_URL" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("key", ["a\nb", "a\r\nX: y", "schlüssel", "\x00"])
def test_a_key_that_fits_no_header_is_refused_unshown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Http("https://x.example", headers={"apiKey": key})
    assert key not in caught.value.message


async def test_calls_after_closing_are_unavailable(server: Server, http: Http) -> None:
    await http.aclose()
    await failing(http.post("/x", {}), Unavailable, False)
    await failing(http.picture(f"{server.url}/x"), Unavailable, False)


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"<!doctype html><h1>Bad Gateway</h1>",
        b'{"id": "7',
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_what_is_no_json_is_a_breach_of_protocol(server: Server, http: Http, body: bytes) -> None:
    server.say(raw(body))
    answer = await http.post("/x", {})
    with pytest.raises(ProtocolError) as caught:
        answer.json()
    assert caught.value.accepted is None
    assert "<" not in caught.value.message
    assert len(caught.value.detail) < 500


async def test_a_number_that_json_does_not_know_is_none() -> None:
    assert Answer(200, {}, b'{"eta": NaN, "x": -Infinity, "y": 1e999, "z": 1.5}').json() == {
        "eta": None,
        "x": None,
        "y": None,
        "z": 1.5,
    }
    long = b'{"x": 1' + b"0" * 320 + b', "y": 18446744073709551615}'
    assert Answer(200, {}, long).json() == {"x": None, "y": 2**64 - 1}


def test_an_answer_that_is_no_object_is_a_breach_of_protocol() -> None:
    with pytest.raises(ProtocolError):
        Answer(200, {}, b"[1]").fields()


@pytest.mark.parametrize("said", [True, False])
async def test_an_answer_over_its_cap_is_not_read(server: Server, http: Http, said: bool) -> None:
    sent = 0

    async def large(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        if said:
            response.content_length = 32 * SMALL
        await response.prepare(request)
        try:
            while sent < 32 * SMALL:
                await response.write(bytes(SMALL // 8))
                sent += SMALL // 8
        except ConnectionError:
            pass
        return response

    server.say(large)
    await failing(http.post("/x", {}), ProtocolError, None)
    assert sent < 16 * SMALL


async def test_an_answer_with_pictures_may_be_larger(server: Server, http: Http) -> None:
    server.say(raw(bytes(2 * SMALL)))
    assert len((await http.poll("/x", most=PICTURES)).body) == 2 * SMALL


async def test_a_bomb_is_unpacked_no_further_than_its_cap(server: Server, http: Http) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(bytes(2**24)) + packer.flush()
    server.say(raw(bomb, **{"Content-Encoding": "gzip"}))
    await failing(http.poll("/x"), ProtocolError, None)


async def test_a_broken_packing_is_no_crash(server: Server, http: Http) -> None:
    server.say(raw(b"this is not gzip", **{"Content-Encoding": "gzip"}))
    await failing(http.post("/x", {}), Unavailable, None)


# --- what is said -----------------------------------------------------------------------------------------


def refusal(body: object) -> FairbrushError:
    """The error of an answer 400 with this body."""
    with pytest.raises(FairbrushError) as caught:
        raise_for(Answer(400, {}, json.dumps(body).encode(), "Paintbox", (KEY,)))
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        {"message": "too long"},
        {"error": "too long"},
        {"error": {"message": "too long", "code": 1}},
        {"detail": [{"loc": ["body"], "msg": "too long"}]},
        {"title": "too long", "status": 400},
        {"errors": ["too long"]},
    ],
)
def test_a_remotes_own_words_are_shown(body: object) -> None:
    assert refusal(body).message == "Paintbox refuses the request: too long"


@pytest.mark.parametrize(
    "text",
    [
        "<b>no</b>",
        "Traceback (most recent call last):\n x",
        'File "/srv/a.py", line 3',
        "Error\n   at Object (x.js:1:2)",
    ],
)
def test_markup_and_stacks_are_not_shown(text: str) -> None:
    assert refusal({"message": text}).message == "Paintbox refuses the request."


def test_keys_and_signatures_are_in_no_text() -> None:
    error = refusal({"message": f"bad key {KEY} for https://s3.example/a.png?X-Amz-Signature=5678&b=c"})
    assert error.message == "Paintbox refuses the request: bad key *** for https://s3.example/a.png?***"
    assert KEY not in error.detail
    assert "5678" not in error.detail


def test_a_text_that_turns_around_or_hides_is_cleaned() -> None:
    assert refusal({"message": "no \u202egnp.exe\u202c and a\u200bb"}).message.endswith(": no gnp.exe and ab")


def test_an_error_that_is_nested_without_end_is_no_crash() -> None:
    nested: object = "x"
    for _ in range(300):
        nested = {"error": [nested]}
    assert refusal(nested).message == "Paintbox refuses the request."


def test_a_long_text_with_control_characters_is_one_short_line() -> None:
    assert plain("a\n\x1b[31mb\r\n" + "c" * 900, most=20) == "a [31mb " + "c" * 11 + "…"
    assert for_people("5 < 6 and 7 > 2") == "5 < 6 and 7 > 2"


async def test_a_key_behind_bearer_is_known_alone_too(server: Server, http: Http) -> None:
    server.say(status(400, {"message": f"key {KEY} is wrong"}))
    assert (await failing(http.post("/x", {}), InvalidRequest, False)).message.endswith("key *** is wrong")


async def test_trouble_is_known_until_the_next_good_answer(server: Server, http: Http) -> None:
    server.say(status(401), OK)
    await failing(http.poll("/x"), AuthFailed, None)
    assert "401" in http.trouble
    await http.poll("/x")
    assert http.trouble == ""


# --- streams and sockets ----------------------------------------------------------------------------------


async def test_a_stream_is_read_as_it_comes(server: Server, http: Http) -> None:
    server.say(raw(b"data: 1\n\ndata: 2\n\n"))
    async with http.stream("/x", {"stream": True}) as response:
        lines = [line async for line in response.content]
    assert lines == [b"data: 1\n", b"\n", b"data: 2\n", b"\n"]


async def test_a_connection_notices_that_the_other_side_is_gone(server: Server, http: Http) -> None:
    """A call may wait for minutes without a byte, and a server without power says nothing."""
    held, free = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        held.set()
        await free.wait()
        return response

    server.say(slow)
    async with http.stream("/x", {}) as response:
        await held.wait()
        assert response.connection is not None
        assert response.connection.transport is not None
        made = response.connection.transport.get_extra_info("socket")
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 120
        free.set()


async def test_a_stream_that_is_refused_was_not_taken(server: Server, http: Http) -> None:
    server.say(status(429))
    with pytest.raises(RateLimited) as caught:
        await http.stream("/x", {}).__aenter__()
    assert caught.value.accepted is False


async def test_a_stream_that_breaks_is_in_doubt(server: Server, http: Http) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    server.say(broken)

    async def read() -> None:
        async with http.stream("/x", {}) as response:
            await response.read()

    with pytest.raises(Unavailable) as caught:
        await read()
    assert caught.value.accepted is None


async def test_a_websocket_is_opened_with_the_key(server: Server, http: Http) -> None:
    async def greet(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.close()
        return socket

    server.say(greet)
    async with http.websocket("/ws", params={"clientId": "7"}) as socket:
        messages = [message.data async for message in socket if message.type is WSMsgType.TEXT]
    assert messages == ["hello"]
    assert server.seen[0].headers["Authorization"] == f"Bearer {KEY}"
    assert str(server.seen[0].rel_url) == "/base/ws?clientId=7"


@pytest.mark.parametrize(
    ("code", "kind"), [(401, AuthFailed), (404, Missing), (200, ProtocolError), (503, Unavailable)]
)
async def test_a_websocket_that_is_refused_is_an_error_of_ours(
    server: Server, http: Http, code: int, kind: type[FairbrushError]
) -> None:
    server.say(status(code))
    with pytest.raises(kind):
        await http.websocket("/ws").__aenter__()
