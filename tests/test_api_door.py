"""Who is let into the served APIs, and what is refused before a request is read."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from adapters._incoming import Problem
from adapters.api.aliases import model_of, slug
from adapters.api.door import ANSWER_SECONDS, Door, Pace
from adapters.api.fields import Fields
from adapters.api.ids import Ids
from bot.core.errors import InvalidRequest
from bot.core.settings import Secret
from tests.fakes.api import KEY, OTHER_KEY, House, house
from tests.fakes.api_paths import APIS, BETA, BODIES, JOBS, STOCHASTIC, in_form, post

WRONG = "fb_" + "w" * 43


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


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
