"""Who may reach the Playground: hosts, origins, and API keys where it is not this machine's alone."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, DummyCookieJar

from adapters._incoming import Throttle
from adapters.web import doorway, stream
from adapters.web.sessions import SESSIONS_PER_KEY
from bot.core.ports import ApiKey
from tests.fakes.web import API, EVENT, House, Page, house

KEY = "fb_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


@pytest.fixture
async def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """The Playground on a public address, with one key; the wait for wrong keys is short."""
    monkeypatch.setattr(doorway, "_ANSWER_SECONDS", 0.02)
    async with house(tmp_path, host="0.0.0.0") as made:  # noqa: S104 - told, not bound
        made.studio.keys[KEY] = ApiKey("k1", "design team", "digest", 0.0)
        yield made


async def _status(client: ClientSession, method: str, path: str, **more: Any) -> int:
    async with client.request(method, path, **more) as answer:
        return answer.status


async def _status_with(url: str, cookies: dict[str, str], path: str = f"{API}/setup") -> int:
    """What a client without a jar, sending just these cookies, is answered."""
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    async with ClientSession(url, cookie_jar=DummyCookieJar()) as client:
        return await _status(client, "GET", path, headers=headers)


def _cookies(client: ClientSession) -> dict[str, str]:
    return {cookie.key: cookie.value for cookie in client.cookie_jar}


async def _sign_in(client: ClientSession, key: object = KEY) -> int:
    return await _status(client, "POST", f"{API}/session", json={"key": key})


# --- hosts and origins ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "127.8.8.8", "[::1]", "[::1]:8765"]
)
async def test_every_name_of_this_machine_is_answered(home: House, host: str) -> None:
    assert await _status(home.client, "GET", "/", headers={"Host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8765",
        "evil@localhost",
        "localhost:x",
        "0.0.0.0",  # noqa: S104 - a header
        "192.168.1.7",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/", f"{API}/setup", "/playground/static/app.js"])
async def test_a_foreign_host_is_refused(home: House, host: str, path: str) -> None:
    assert await _status(home.client, "GET", path, headers={"Host": host}) == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://127.0.0.1:1", "file://"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "jobs"),
        ("POST", "jobs/G1/cancel"),
        ("POST", "jobs/G1/again"),
        ("DELETE", "jobs/G1"),
        ("POST", "recipe"),
        ("POST", "session"),
        ("DELETE", "session"),
    ],
)
async def test_a_change_from_a_foreign_origin_is_refused(
    home: House, method: str, path: str, origin: str
) -> None:
    body = {"event": EVENT, "text": "a fox"}
    status = await _status(home.client, method, f"{API}/{path}", headers={"Origin": origin}, json=body)
    assert status == 403
    assert home.studio.submissions == []


async def test_a_change_without_an_origin_is_refused(home: House) -> None:
    async with ClientSession(home.url) as bare:
        assert await _status(bare, "POST", f"{API}/jobs", json={"event": EVENT, "text": "a fox"}) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_sites_page_reads_nothing(home: House, site: str) -> None:
    headers = {"Sec-Fetch-Site": site}
    assert await _status(home.client, "GET", f"{API}/events", headers=headers) == 403
    assert (
        await _status(home.client, "GET", "/", headers=headers) == 200
    )  # a link to the page may be followed


async def test_without_its_cookie_a_browser_is_told_to_open_the_page(home: House) -> None:
    async with ClientSession(home.url) as bare:
        assert await _status(bare, "GET", f"{API}/setup") == 401
        cookies = {"Cookie": "fairbrush_browser=guessed"}
        assert await _status(bare, "GET", f"{API}/setup", headers=cookies) == 401


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Real-IP"])
async def test_behind_a_proxy_a_key_is_needed(home: House, name: str) -> None:
    assert await _status(home.client, "GET", f"{API}/setup") == 200
    assert await _status(home.client, "GET", f"{API}/setup", headers={name: "127.0.0.1"}) == 401


async def test_with_a_public_address_a_key_is_needed_even_on_loopback(tmp_path: Path) -> None:
    async with house(tmp_path, public_url="https://draw.example") as made:
        assert await _status(made.client, "GET", f"{API}/setup") == 401


async def test_a_public_server_answers_its_own_name_alone(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"host": "0.0.0.0", "public_url": "https://draw.example"}  # noqa: S104
    async with house(tmp_path, **settings) as made:
        assert await _status(made.client, "GET", "/", headers={"Host": "draw.example"}) == 200
        assert await _status(made.client, "GET", "/", headers={"Host": "other.example"}) == 403
        ours = {"Host": "draw.example", "Origin": "https://draw.example"}
        theirs = {"Host": "draw.example", "Origin": "https://evil.example"}
        assert await _status(made.client, "POST", f"{API}/jobs", headers=ours, json={}) == 401
        assert await _status(made.client, "POST", f"{API}/jobs", headers=theirs, json={}) == 403


async def test_over_https_cookies_are_sent_over_https_alone(tmp_path: Path) -> None:
    async with house(tmp_path, public_url="https://draw.example") as made, made.client.get("/") as page:
        assert page.cookies["fairbrush_browser"]["secure"]


async def test_two_hosts_in_one_request_are_refused(home: House) -> None:
    port = int(home.url.rpartition(":")[2])

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            return connection.recv(64)

    assert b" 400 " in await asyncio.to_thread(talk)


# --- keys -------------------------------------------------------------------------------------------------


async def test_elsewhere_than_on_loopback_a_key_is_needed(office: House) -> None:
    async with office.client.get(f"{API}/setup") as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["field"] == "key"
    for path in (f"{API}/jobs", f"{API}/events", "/playground/pictures/x.png"):
        assert await _status(office.client, "GET", path) == 401


async def test_a_key_opens_the_playground_as_its_own_tenant(office: House) -> None:
    assert await _sign_in(office.client) == 200
    async with office.client.get(f"{API}/setup") as answer:
        assert (await answer.json())["key_name"] == "design team"
    await office.submit()
    assert office.studio.submissions[0].requester.guild == "key:k1"


async def test_neither_cookie_nor_store_holds_the_key(office: House) -> None:
    await _sign_in(office.client)
    cookies = _cookies(office.client)
    assert KEY not in str(cookies)
    assert KEY.encode().hex() not in str(cookies)
    assert cookies["fairbrush_session"].startswith("k1.")
    assert KEY not in repr(office.studio.shelves)
    assert KEY.encode().hex() not in repr(office.studio.shelves)


async def test_a_revoked_key_ends_its_sessions_at_once(office: House) -> None:
    await _sign_in(office.client)
    assert await _status(office.client, "GET", f"{API}/setup") == 200
    del office.studio.keys[KEY]
    assert await _status(office.client, "GET", f"{API}/setup") == 401


async def test_a_revoked_key_ends_its_open_streams(office: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.01)
    await _sign_in(office.client)
    page = await Page().open(office.client)
    del office.studio.keys[KEY]
    await page.until(lambda: page.ended)
    await page.close()


async def test_signing_out_ends_the_session_and_not_only_the_cookie(office: House) -> None:
    await _sign_in(office.client)
    cookies = _cookies(office.client)
    assert await _status_with(office.url, cookies) == 200
    assert await _status(office.client, "DELETE", f"{API}/session") == 204
    assert await _status_with(office.url, cookies) == 401


async def test_a_session_outlives_a_restart(office: House, tmp_path: Path) -> None:
    await _sign_in(office.client)
    async with house(tmp_path, host="0.0.0.0") as later:  # noqa: S104
        later.studio.keys.update(office.studio.keys)
        later.studio.shelf("web").values.update(office.studio.shelf("web").values)
        assert await _status_with(later.url, _cookies(office.client)) == 200


@pytest.mark.parametrize("change", ["id", "pad", "half"])
async def test_an_altered_session_is_no_session(office: House, change: str) -> None:
    await _sign_in(office.client)
    cookies = _cookies(office.client)
    key_id, session, pad = cookies["fairbrush_session"].split(".")
    altered = {
        "id": f"{key_id}.{session[::-1]}.{pad}",
        "pad": f"{key_id}.{session}.{'00' * (len(pad) // 2)}",
        "half": f"{key_id}.{session}.{pad[:-2]}",
    }[change]
    assert await _status_with(office.url, cookies) == 200
    assert await _status_with(office.url, {**cookies, "fairbrush_session": altered}) == 401


async def test_two_browsers_of_one_key_do_not_see_each_other(office: House) -> None:
    other = await office.browser()
    await _sign_in(office.client)
    await _sign_in(other)
    job = await office.submit()
    assert await _status(other, "GET", f"{API}/jobs/{job}") == 404


WRONG = [
    "",
    " ",
    "wrong",
    KEY[:-1],
    KEY + "x",
    "é" * 40,
    "\ud800",
    None,
    7,
    ["x"],
    "x" * 4000,
    "x" * 1_000_000,
]


async def test_every_wrong_key_is_answered_alike(office: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office.adapter._doorway, "_throttle", Throttle(time.monotonic, allowed=100))
    answers = set()
    for wrong in WRONG:
        begun = time.monotonic()
        async with office.client.post(f"{API}/session", json={"key": wrong}) as answer:
            answers.add((answer.status, await answer.text()))
        assert time.monotonic() - begun >= 0.02
    assert answers == {(401, '{"error":{"message":"That is not a valid API key.","field":"key"}}')}


async def test_wrong_keys_are_throttled_and_a_wrong_one_more_is_not_looked_at(office: House) -> None:
    for _ in range(10):
        assert await _sign_in(office.client, "wrong") == 401
    async with office.client.post(f"{API}/session", json={"key": KEY}) as answer:
        assert answer.status == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 60


async def test_sessions_of_a_key_are_bounded(office: House) -> None:
    for _ in range(SESSIONS_PER_KEY + 3):
        assert await _sign_in(office.client) == 200
    stored = office.studio.shelves["web"].values["sessions:k1"]
    assert isinstance(stored, dict)
    assert len(stored) == SESSIONS_PER_KEY
    assert await _status(office.client, "GET", f"{API}/setup") == 200


def test_a_throttle_forgets_after_its_window_and_keeps_few_addresses() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0], allowed=2, window=60.0, remembered=2)
    for address in ("a", "a", "b"):
        throttle.failed(address)
    now[0] = 10.0
    assert throttle.wait("a") == 50.0
    assert throttle.wait("b") == 0.0
    throttle.failed("c")
    assert throttle.wait("a") == 0.0  # the quietest was forgotten
    throttle.failed("c")
    now[0] = 70.0
    assert throttle.wait("c") == 0.0
