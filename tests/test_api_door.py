"""Who is let into the served APIs, and what is refused before a request is read."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from adapters import _incoming
from adapters._incoming import Problem
from adapters.api import bodies
from adapters.api.aliases import model_of, slug
from adapters.api.door import ANSWER_SECONDS, Door, Pace
from adapters.api.fields import Fields
from adapters.api.ids import Ids
from bot import server
from bot.core.errors import InvalidRequest
from bot.core.settings import Secret
from tests.fakes.api import KEY, OTHER_KEY, Answer, House, house

STOCHASTIC = "/v1/modelApi/submit/x"
BETA = "/api/beta/organizations/acme/inference-endpoints/x"
JOBS = "/api/public/organizations/acme/inference-endpoints/x/jobs"
OPENAI = "/v1/images/generations"
HEADERS = {STOCHASTIC: "apiKey", BETA: "Salad-Api-Key", JOBS: "Salad-Api-Key", OPENAI: "Authorization"}
BODIES: dict[str, dict[str, Any]] = {
    STOCHASTIC: {"prompt": "a fox", "params": {}},
    BETA: {"modelInputs": {"prompt": "a fox"}},
    JOBS: {"input": {"modelInputs": {"prompt": "a fox"}}},
    OPENAI: {"prompt": "a fox"},
}
APIS = [STOCHASTIC, BETA, JOBS, OPENAI]
WRONG = "fb_" + "w" * 43


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


def keyed(path: str, key: str) -> dict[str, str]:
    """The header that carries a key to this API."""
    return {HEADERS[path]: f"Bearer {key}" if path == OPENAI else key}


async def post(home: House, path: str, key: str = KEY, **more: Any) -> Answer:
    """A request to an API; its usual body unless another is given."""
    if "data" not in more:
        more.setdefault("json", BODIES[path])
    headers = {**keyed(path, key), **more.pop("headers", {})}
    return await home.call("POST", path, key="", headers=headers, **more)


def in_form(path: str, answer: Answer) -> str:
    """The message of an error, which must have the API's own form."""
    if path == STOCHASTIC:
        assert answer.data["success"] is False
        return str(answer.data["message"])
    if path == OPENAI:
        assert set(answer.data["error"]) == {"message", "type", "param", "code"}
        return str(answer.data["error"]["message"])
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.data["type"] == "about:blank"
    assert answer.data["status"] == answer.status
    assert answer.data["title"]
    assert answer.data["instance"] == path
    return str(answer.data["detail"])


# --- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", APIS)
async def test_every_api_needs_a_key_also_on_loopback(home: House, path: str) -> None:
    answers = await asyncio.gather(*(post(home, path, key) for key in ("", WRONG, "short", "x" * 7000)))
    for answer in answers:
        assert answer.status == 401
        assert "fairbrush key create" in in_form(path, answer)
        assert answer.headers["Cache-Control"] == "no-store"
    assert not home.backend.submitted


@pytest.mark.parametrize("path", APIS)
async def test_a_key_in_another_apis_header_is_none(home: House, path: str) -> None:
    other = "X-Key" if path == STOCHASTIC else "apiKey"
    answer = await home.call("POST", path, key="", headers={other: KEY}, json=BODIES[path])
    assert answer.status == 401


async def test_all_wrong_keys_wait_equally_long(home: House) -> None:
    async def seconds(key: str) -> float:
        begun = time.monotonic()
        assert (await post(home, STOCHASTIC, key)).status in (401, 429)
        return time.monotonic() - begun

    waits = await asyncio.gather(*(seconds(key) for key in ("", "x", WRONG, "y" * 7000, KEY[:-1], KEY + "k")))
    assert min(waits) >= ANSWER_SECONDS - 0.01


async def test_many_wrong_keys_are_throttled_and_right_ones_still_let_in(home: House) -> None:
    wrong = await asyncio.gather(*(post(home, STOCHASTIC, f"{WRONG}{n}") for n in range(14)))
    assert sorted(answer.status for answer in wrong) == [401] * 10 + [429] * 4
    throttled = next(answer for answer in wrong if answer.status == 429)
    assert 1 <= int(throttled.headers["Retry-After"]) <= 60
    for key in (KEY, OTHER_KEY):
        assert (await post(home, STOCHASTIC, key)).status == 200


async def test_an_enormous_key_does_no_harm(home: House) -> None:
    address = urlsplit(home.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"GET /v1/modelApi/inference/x HTTP/1.1\r\nHost: x\r\napiKey: " + b"k" * 2**20 + b"\r\n\r\n")
    status = (await reader.readline()).split()[1]
    writer.close()
    assert status in (b"400", b"401")
    assert (await post(home, STOCHASTIC)).status == 200


async def test_a_revoked_key_is_out_within_a_second(home: House) -> None:
    await home.add_key("fb_" + "r" * 43, "aaaaaaaaaaaaaaaa")
    assert (await post(home, STOCHASTIC, "fb_" + "r" * 43)).status == 200
    home.store.data.keys.pop("aaaaaaaaaaaaaaaa")  # type: ignore[attr-defined]
    async with asyncio.timeout(3):
        while (await post(home, STOCHASTIC, "fb_" + "r" * 43)).status == 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", [BETA, JOBS])
async def test_a_key_of_an_organization_is_good_for_it_alone(home: House, path: str) -> None:
    mine, foreign = "fb_" + "m" * 43, "fb_" + "n" * 43
    await home.add_key(mine, "bbbbbbbbbbbbbbbb", organization="acme")
    await home.add_key(foreign, "cccccccccccccccc", organization="other-corp")
    assert (await post(home, path, mine)).status in (201, 202)
    refused = await post(home, path, foreign)
    assert refused.status == 403
    assert "other-corp" in in_form(path, refused)
    assert (await post(home, STOCHASTIC, foreign)).status == 200


async def test_no_key_is_in_the_log(home: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for key in (KEY, WRONG):
        await post(home, STOCHASTIC, key)
    assert "request" in caplog.text
    assert KEY not in caplog.text
    assert WRONG not in caplog.text
    assert "a fox" not in caplog.text


# --- how often --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", APIS)
async def test_a_key_that_asks_too_often_is_told_when_to_ask_again(tmp_path: Path, path: str) -> None:
    async with house(tmp_path, requests_per_second=3) as home:
        answers = [await post(home, path, json={}) for _ in range(5)]
        late = [answer for answer in answers if answer.status == 429]
        assert len(late) in (1, 2)  # one may be let in again meanwhile
        assert late[0].headers["Retry-After"] == "1"
        assert "3 requests a second" in in_form(path, late[0])
        assert (await post(home, path, OTHER_KEY, json={})).status == 400


def test_the_pace_refills_and_bursts_no_higher() -> None:
    now = [0.0]
    pace = Pace(2, lambda: now[0])
    assert [pace.wait("k") for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] = 0.5
    assert [pace.wait("k") for _ in range(2)] == [0.0, 0.5]
    now[0] = 1000.0
    assert [pace.wait("k") > 0 for _ in range(3)] == [False, False, True]


async def test_before_the_core_is_there_clients_are_told_to_come_again() -> None:
    with pytest.raises(Problem) as caught:
        await Door().visit(None, KEY)  # type: ignore[arg-type]  # it is not looked at
    assert (caught.value.status, caught.value.retry_after) == (503, 1)


# --- bodies -----------------------------------------------------------------------------------------------


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


# --- everything else --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", APIS)
async def test_other_methods_are_refused_in_the_apis_form(home: House, path: str) -> None:
    answer = await home.call("PATCH", path, key="")
    assert answer.status == 405
    assert "POST" in answer.headers["Allow"]
    assert "POST" in in_form(path, answer)


@pytest.mark.parametrize("path", [STOCHASTIC, BETA, JOBS])
async def test_options_tells_the_methods_and_lets_no_other_site_in(home: House, path: str) -> None:
    answer = await home.call(
        "OPTIONS",
        path,
        key="",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert answer.status == 204
    assert "POST" in answer.headers["Allow"]
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", [STOCHASTIC, JOBS])
async def test_a_cookie_is_no_key(home: House, path: str) -> None:
    answer = await home.call("POST", path, key="", headers={"Cookie": f"apiKey={KEY}"}, json=BODIES[path])
    assert answer.status == 401


@pytest.mark.parametrize(
    "path", ["/v1/modelApi", "/v1/modelApi/x/y", "/api/beta/x", "/api/public/", "/api/public/x"]
)
async def test_what_is_not_there_is_said_in_the_apis_form(home: House, path: str) -> None:
    answer = await home.call("GET", path)
    assert answer.status == 404
    in_form(STOCHASTIC if path.startswith("/v1") else path, answer)


async def test_a_host_that_is_none_is_refused(home: House) -> None:
    answer = await post(home, STOCHASTIC, headers={"Host": "evil.example/x?"})
    assert answer.status == 400
    assert "Host" in in_form(STOCHASTIC, answer)


async def test_a_bug_is_answered_in_the_apis_form_and_logged_by_its_reference(
    home: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(home.studio), "place", lambda self, group_id: 1 / 0)
    answer = await post(home, STOCHASTIC)
    assert answer.status == 500
    message = in_form(STOCHASTIC, answer)
    reference = message.partition("ref ")[2].rstrip(").")
    assert reference in caplog.text
    assert b"ZeroDivision" not in answer.body


# --- parts ------------------------------------------------------------------------------------------------


def test_ids_are_their_owners_alone() -> None:
    ids = Ids(Secret("s"))
    short, public = ids.short("7K2QABCD", "key:a"), ids.uuid("7K2QABCD", "key:a")
    assert ids.group_of_short(short, "key:a") == "7K2QABCD"
    assert ids.group_of_uuid(public.upper(), "key:a") == "7K2QABCD"
    assert ids.group_of_short(short, "key:b") is None
    assert ids.group_of_uuid(public, "key:b") is None
    assert Ids(Secret("t")).group_of_short(short, "key:a") is None
    for at in range(24):
        changed = short[:at] + ("0" if short[at] != "0" else "1") + short[at + 1 :]
        assert ids.group_of_short(changed, "key:a") is None
    for bad in ("", "x", short[:-1], short + "0", "٠" * 24, "../../etc/passwd", public[:-1], "0" * 36):
        assert ids.group_of_short(bad, "key:a") is None
        assert ids.group_of_uuid(bad, "key:a") is None


@pytest.mark.parametrize(
    "name",
    ["http://evil.example/m", "/models/x", "../x", "x.ckpt", "m.safetensors", "C:\\m", "", " ", "x" * 300],
)
async def test_a_models_address_or_file_is_no_name(home: House, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        model_of(name, home.studio)
    assert caught.value.field == "model"


async def test_model_names_are_aliases_ids_or_the_default(tmp_path: Path) -> None:
    async with house(tmp_path, aliases={"stable-diffusion-2": "fake", "old": "gone"}) as home:
        names = (
            "stable-diffusion-2",
            "Stable_Diffusion_2",
            "fake",
            "FAKE",
            "flat colours",
            "old",
            "whatever",
        )
        found = [model_of(name, home.studio) for name in names]
    assert found == ["fake", "fake", "fake", "fake", "fake", "gone", None]
    assert slug("stabilityai/sd-turbo") == "stabilityai-sd-turbo"
    assert slug("2x") == "m-2x"


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        ("whole", 512.0, 512),
        ("whole", None, None),
        ("real", 7, 7.0),
        ("flag", False, False),
        ("text", "", ""),
        ("texts", "a", ("a",)),
        ("texts", ["a", "b"], ("a", "b")),
    ],
)
def test_fields_are_read_by_type(read: str, value: Any, found: Any) -> None:
    assert getattr(Fields({"x": value}), read)("x") == found


@pytest.mark.parametrize(
    ("read", "value"),
    [
        ("whole", "512"),
        ("whole", True),
        ("whole", 1.5),
        ("whole", float("inf")),
        ("real", "7.5"),
        ("real", float("inf")),
        ("real", 10**400),
        ("real", False),
        ("flag", "true"),
        ("flag", 1),
        ("text", 5),
        ("texts", []),
        ("texts", ["a", 5]),
        ("texts", None),
        ("texts", {"a": 1}),
        ("picture", "%%%"),
        ("picture", ""),
        ("picture", "https://evil.example/x.png"),
        ("picture", "//169.254.169.254/"),
        ("object", []),
    ],
)
def test_what_is_of_another_type_is_refused_by_its_name(read: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        getattr(Fields({"x": value}, "params"), read)("x")
    assert caught.value.field is not None
    assert caught.value.field.startswith("params.x")
    assert caught.value.field in caught.value.message
