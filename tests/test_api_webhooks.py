"""Webhooks of Salad's current API: signed, sent once a job has ended, and never to where they must not go."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from adapters.api import salad_jobs, webhooks
from adapters.api.adapter import Api
from adapters.api.webhooks import Reach, Webhooks, check_url, webhook_secret
from bot.core import delivery
from bot.core.addresses import is_public
from bot.core.errors import Gone, InvalidRequest, Refused, Unavailable
from bot.core.settings import Secret, Settings
from tests.fakes import api_spec
from tests.fakes.api import OTHER_KEY, House, house
from tests.fakes.memory_store import MemoryStore
from tests.fakes.receiver import HOST, Receiver, receiver
from tests.fakes.tls import Names

AT = "/api/public/organizations/acme-corp"
JOBS = f"{AT}/inference-endpoints/stable-diffusion-2-1/jobs"
INPUT = {"modelInputs": {"prompt": "a fox", "seed": 7}}


@pytest.fixture
async def hooks() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


def api(hooks: Receiver) -> Any:
    """The adapter, whose webhooks reach the local receiver."""

    def make(settings: Settings) -> Api:
        return Api(settings, hooks.reach())

    return make


@pytest.fixture
async def home(tmp_path: Path, hooks: Receiver, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(delivery, "RETRY_FIRST", 0.01)
    async with house(tmp_path, adapter=api(hooks), header="Salad-Api-Key") as made:
        yield made


async def job(home: House, **more: Any) -> dict[str, Any]:
    """A created job."""
    answer = await home.call("POST", JOBS, json={"input": INPUT, **more})
    assert answer.status == 201, answer.body
    found: dict[str, Any] = answer.data
    return found


async def test_the_end_of_a_job_is_told_signed_with_the_keys_secret(home: House, hooks: Receiver) -> None:
    secret = (await home.call("GET", f"{AT}/webhook-secret-key")).data["secret_key"]
    assert secret.startswith("whsec_")
    created = await job(home, webhook_url=hooks.url, metadata={"order": 7})
    assert created["webhook_url"] == hooks.url
    call = await hooks.next()
    assert call.path == "/done?x=1"
    assert call.headers["webhook-id"] == created["id"]
    assert abs(int(call.headers["webhook-timestamp"]) - time.time()) < 60
    told = Webhook(secret).verify(call.body, {name.lower(): value for name, value in call.headers.items()})
    assert told == json.loads(call.body)
    assert not api_spec.problems("GET", api_spec.JOB, 200, told)
    assert (told["id"], told["status"], told["metadata"]) == (created["id"], "succeeded", {"order": 7})
    assert told["output"]["seeds"] == [7]
    assert told == (await home.call("GET", f"{JOBS}/{created['id']}")).data
    await home.until("/readyz", lambda _: not home.studio._desk.groups)
    assert len(hooks.calls) == 1


async def test_another_key_has_another_secret(home: House, hooks: Receiver) -> None:
    other = (await home.call("GET", f"{AT}/webhook-secret-key", key=OTHER_KEY)).data["secret_key"]
    await job(home, webhook_url=hooks.url)
    call = await hooks.next()
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(call.body, {name.lower(): value for name, value in call.headers.items()})
    assert (await home.call("GET", f"{AT}/webhook-secret-key", key="")).status == 401


async def test_failed_and_cancelled_jobs_are_told_too(home: House, hooks: Receiver) -> None:
    hold = home.backend.hold("start")
    created = await job(home, webhook_url=hooks.url)
    await hold.reached.wait()
    assert (await home.call("DELETE", f"{JOBS}/{created['id']}")).status == 202
    assert json.loads((await hooks.next()).body)["status"] == "cancelled"
    hold.release()
    home.backend.fail(Unavailable("The card is on fire.", accepted=None), at="start")
    await job(home, webhook=hooks.url)
    told = json.loads((await hooks.next()).body)
    assert (told["status"], told["webhook"]) == ("failed", hooks.url)
    assert "The card is on fire." in told["output"]["$error"]["message"]


async def test_a_receiver_that_fails_is_called_again_with_the_same_id(home: House, hooks: Receiver) -> None:
    hooks.answers = [(500, {}), (302, {"Location": "https://evil.example/"}), (429, {})]
    created = await job(home, webhook_url=hooks.url)
    calls = [await hooks.next() for _ in range(4)]
    assert {call.headers["webhook-id"] for call in calls} == {created["id"]}
    assert {call.path for call in calls} == {"/done?x=1"}
    assert len({call.body for call in calls}) == 1
    await home.until("/readyz", lambda _: not home.studio._desk.groups)
    assert not home.store.data.outbox  # type: ignore[attr-defined]


async def test_a_receiver_that_is_gone_is_left_alone(home: House, hooks: Receiver) -> None:
    hooks.answers = [(410, {})]
    await job(home, webhook_url=hooks.url)
    await hooks.next()
    await home.until("/readyz", lambda _: not home.studio._desk.groups)
    assert len(hooks.calls) == 1


async def test_a_webhook_survives_a_restart(tmp_path: Path, hooks: Receiver) -> None:
    hooks.answers = [(500, {})]
    async with house(tmp_path, adapter=api(hooks), header="Salad-Api-Key") as home:
        created = await job(home, webhook_url=hooks.url)
        await hooks.next()
        store = home.store
    assert isinstance(store, MemoryStore)
    assert store.data.outbox
    async with house(
        tmp_path, adapter=api(hooks), header="Salad-Api-Key", store=MemoryStore(store.data)
    ) as home:
        call = await hooks.next()
        assert call.headers["webhook-id"] == created["id"]
        assert json.loads(call.body)["status"] == "succeeded"


async def test_after_a_day_it_is_given_up(
    home: House, hooks: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(salad_jobs, "WEBHOOK_SECONDS", -1.0)
    await job(home, webhook_url=hooks.url)
    await home.until("/readyz", lambda _: not home.studio._desk.groups)
    assert not hooks.calls
    assert "took nothing for a day" in caplog.text


async def test_jobs_without_a_webhook_call_nobody(home: House, hooks: Receiver) -> None:
    await job(home)
    await home.until("/readyz", lambda _: not home.studio._desk.groups)
    assert not hooks.calls


# --- where it goes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/x",
        "ftp://hooks.example/x",
        "https://",
        "https:///x",
        "//hooks.example/x",
        "hooks.example",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://localhost/x",
        "https://a.localhost./x",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://user:pass@hooks.example/",
        "https://hooks.example:99999/",
        "https://hooks.example:x/",
        "https://hooks.example/a b",
        "https://hooks.example/\r\nX: y",
        "https://hooks.example\\@evil.example/",
        "https://hooks.example/" + "x" * 2048,
        "https://hööks.example/",
        "",
    ],
)
def test_an_address_that_must_not_be_reached_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_url(url, "webhook_url")
    assert caught.value.field == "webhook_url"


@pytest.mark.parametrize(
    "url", ["https://hooks.example/x?y=1#z", "https://1.1.1.1:8443/", "https://[2606:4700::1111]/"]
)
def test_a_public_one_is_taken(url: str) -> None:
    check_url(url, "webhook_url")


async def test_a_name_that_leads_inward_is_refused_when_it_is_sent(hooks: Receiver) -> None:
    sender = Webhooks(hooks.reach(public=is_public))
    try:
        with pytest.raises(Refused, match="not a public"):
            await sender.send(hooks.url, webhook_secret(Secret("s"), "k"), "id", b"{}")
    finally:
        await sender.aclose()
    assert hooks.resolver.asked == [HOST]
    assert not hooks.calls


async def test_the_connection_goes_to_the_address_that_was_checked(hooks: Receiver) -> None:
    seen: list[str] = []
    hooks.resolver = Names({HOST: [["127.0.0.1"], ["127.0.0.2"]]})  # a second look-up would lead elsewhere

    def public(address: object) -> bool:
        seen.append(str(address))
        return True

    sender = Webhooks(hooks.reach(public=public))
    try:
        await sender.send(hooks.url, webhook_secret(Secret("s"), "k"), "id", b"{}")
    finally:
        await sender.aclose()
    assert seen == ["127.0.0.1"]
    assert hooks.calls[0].headers["Host"] == f"{HOST}:{hooks.port}"


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(hooks: Receiver) -> None:
    sender = Webhooks(Reach(resolver=lambda: hooks.resolver, public=lambda address: True))
    try:
        with pytest.raises(Unavailable):
            await sender.send(hooks.url, webhook_secret(Secret("s"), "k"), "id", b"{}")
    finally:
        await sender.aclose()
    assert not hooks.calls


@pytest.mark.parametrize(
    ("answer", "wait"), [({}, None), ({"Retry-After": "7"}, 7.0), ({"Retry-After": "9" * 9}, None)]
)
async def test_a_receiver_says_when_to_come_again(
    hooks: Receiver, answer: dict[str, str], wait: float | None
) -> None:
    hooks.answers = [(503, answer), (410, {})]
    sender = Webhooks(hooks.reach())
    secret = webhook_secret(Secret("s"), "k")
    try:
        with pytest.raises(Unavailable) as caught:
            await sender.send(hooks.url, secret, "id", b"{}")
        assert caught.value.retry_after == wait
        with pytest.raises(Gone):
            await sender.send(hooks.url, secret, "id", b"{}")
    finally:
        await sender.aclose()


async def test_a_receiver_that_does_not_answer_is_left_in_time(
    hooks: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "SECONDS", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    sender = Webhooks(hooks.reach())
    try:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match="in time"):
            await sender.send(f"https://{HOST}:{port}/", webhook_secret(Secret("s"), "k"), "id", b"{}")
    finally:
        await sender.aclose()
        server.close()
        await server.wait_closed()
