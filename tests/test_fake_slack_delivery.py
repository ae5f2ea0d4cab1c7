"""What the local Slack hands to programs on slack_bolt, by Socket Mode and HTTP; forms and installing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import Slack
from tests.fakes.slack_control import Control, RemoteSlack
from tests.fakes.slack_program import (
    Program,
    by_http,
    by_socket,
    oauth_app,
    refused,
    running,
)
from tests.fakes.slack_state import Payload


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    """A local Slack."""
    async with Slack() as made:
        yield made


@pytest.fixture
def client(slack: Slack) -> AsyncWebClient:
    """The bot's client."""
    return AsyncWebClient(slack.token, base_url=slack.api_url)


# --- Socket Mode and HTTP ---


@pytest.mark.parametrize("mode", ["socket", "http"])
async def test_a_command_arrives_and_its_ack_is_measured(slack: Slack, mode: str) -> None:
    program = Program(slack)
    async with running(slack, program.app, mode):
        done = await slack.bob.command("a <red> fox & co")
    assert done.acknowledged
    assert done.seconds is not None
    assert 0 < done.seconds < 3
    (body,) = program.heard
    assert (body["text"], body["user_id"]) == ("a &lt;red&gt; fox &amp; co", slack.bob.id)


async def test_a_burst_by_http_is_measured_one_by_one(slack: Slack) -> None:
    program, control = Program(slack), Control(slack)
    async with by_http(slack, program.app):
        acks = await control.burst(count=3, text="fox {n}")
        slack.world.app.signing_secret = "another"
        (refusal,) = await control.burst(count=1)
    assert {body["text"] for body in program.heard} == {"fox 0", "fox 1", "fox 2"}
    assert [(ack["failure"], 0 < ack["seconds"] < 3) for ack in acks] == [("", True)] * 3
    assert (refusal["failure"], refusal["seconds"]) == ("dispatch_failed", None)


@pytest.mark.parametrize("mode", ["socket", "http"])
async def test_the_answer_in_an_ack_is_shown_to_one_person(slack: Slack, mode: str) -> None:
    program = Program(slack)

    @program.app.command("/hello")
    async def hello(ack: Any) -> None:
        await ack("for you")

    async with running(slack, program.app, mode):
        await slack.bob.command(name="/hello")
    assert [message.text for message in slack.bob.ephemerals] == ["for you"]
    assert slack.ann.ephemerals == []


@pytest.mark.parametrize("mode", ["socket", "http"])
async def test_a_command_that_is_not_acked_times_out(slack: Slack, mode: str) -> None:
    slack.courier.ack_seconds = 0.1
    program = Program(slack)
    late = asyncio.Event()

    @program.app.command("/slow")
    async def slow(ack: Any) -> None:
        await late.wait()
        await ack()

    async with running(slack, program.app, mode):
        done = await slack.bob.command(name="/slow")
        assert done.failure == "operation_timeout"
        late.set()
        await slack.until(lambda: done.seconds is not None)
    assert slack.failures == [(slack.bob.id, '/slow failed with the error "operation_timeout"')]
    assert done.seconds is not None
    assert done.seconds > 0.1


async def test_without_a_program_a_command_fails_at_once(slack: Slack) -> None:
    assert (await slack.bob.command("a fox")).failure == "dispatch_failed"
    slack.program("http://127.0.0.1:9/slack/events")
    assert (await slack.bob.command("a fox")).failure == "dispatch_failed"


async def test_sockets_reconnect_when_told_to_leave(slack: Slack) -> None:
    program = Program(slack)
    sockets = slack.sockets
    async with by_socket(slack, program.app):
        for number, leave in enumerate([sockets.disconnect, sockets.cut, sockets.disconnect], 2):
            await leave()
            await slack.until(lambda number=number: sockets.opened == number)  # type: ignore[misc]
            await slack.connected()
            assert (await slack.bob.command("a fox")).acknowledged
    assert len(program.heard) == 3


async def test_a_payload_goes_to_one_of_several_connections(slack: Slack) -> None:
    first, second = Program(slack), Program(slack)
    async with by_socket(slack, first.app), by_socket(slack, second.app):
        await slack.connected(2)
        for number in range(4):
            assert (await slack.bob.command(str(number))).acknowledged
    assert len(first.heard) + len(second.heard) == 4
    assert len(first.heard) == 2


@pytest.mark.parametrize("mode", ["socket", "http"])
async def test_an_event_that_was_not_acked_in_time_is_sent_again(slack: Slack, mode: str) -> None:
    slack.courier.ack_seconds = 0.4
    app = AsyncApp(
        client=AsyncWebClient(slack.token, base_url=slack.api_url),
        signing_secret=slack.world.app.signing_secret,
        process_before_response=True,
    )
    heard: list[str] = []
    late = asyncio.Event()

    @app.event("app_mention")
    async def mentioned(body: Payload) -> None:
        heard.append(body["event_id"])
        if len(heard) == 1:
            await late.wait()

    async with running(slack, app, mode):
        done = await slack.bob.mention("a fox")
        late.set()
    assert done is not None
    assert done.acknowledged
    assert len(heard) == 2
    assert heard[0] == heard[1]


@pytest.mark.parametrize("mode", ["socket", "http"])
async def test_the_very_same_can_be_sent_twice(slack: Slack, mode: str) -> None:
    program = Program(slack)
    async with running(slack, program.app, mode):
        done = await slack.bob.command("a fox")
        await slack.resend(done)
    first, second = program.heard
    assert first == second


@pytest.mark.parametrize("mode", ["socket", "http"])
async def test_an_ack_can_be_held_and_lost(slack: Slack, mode: str) -> None:
    slack.courier.ack_seconds = 0.2
    program = Program(slack)
    async with running(slack, program.app, mode):
        slack.hold("ack")
        sent = asyncio.ensure_future(slack.bob.command("a fox"))
        await slack.reached("ack")
        slack.release("ack", lose=True)
        assert (await sent).failure == "operation_timeout"
    assert len(program.heard) == 1


async def test_an_eleventh_connection_is_sent_away(slack: Slack) -> None:
    client = AsyncWebClient(slack.world.app.app_token, base_url=slack.api_url)
    async with ClientSession() as http, AsyncExitStack() as stack:
        first = []
        for _ in range(11):
            opened = await client.apps_connections_open(app_token=slack.world.app.app_token)
            socket = await stack.enter_async_context(http.ws_connect(opened["url"]))
            first.append(await socket.receive_json())
    assert [message["type"] for message in first] == ["hello"] * 10 + ["disconnect"]
    assert first[-1]["reason"] == "too_many_websockets"


async def test_a_socket_needs_a_fresh_ticket_and_the_app_token(slack: Slack) -> None:
    client = AsyncWebClient(base_url=slack.api_url)
    assert await refused(client.apps_connections_open(app_token=slack.token)) == "not_allowed_token_type"
    opened = await client.apps_connections_open(app_token=slack.world.app.app_token)
    async with ClientSession() as http:
        await (await http.ws_connect(opened["url"])).close()
        with pytest.raises(WSServerHandshakeError):
            await http.ws_connect(opened["url"])


async def test_a_backend_can_be_held_at_its_stages(slack: Slack) -> None:
    slack.hold("started")
    async with ClientSession() as http:
        telling = asyncio.ensure_future(http.post(f"{slack.url}/stage/started"))
        await slack.reached("started")
        assert not telling.done()
        slack.release("started")
        assert (await telling).status == 200
        assert (await http.post(f"{slack.url}/stage/running")).status == 200


async def test_http_requests_are_signed_and_forgeries_refused(slack: Slack) -> None:
    program = Program(slack)
    async with by_http(slack, program.app):
        slack.world.app.signing_secret = "another"
        assert (await slack.bob.command("a fox")).status == 401
    assert program.heard == []


async def test_a_mention_carries_its_thread_and_only_where_the_bot_is(slack: Slack) -> None:
    program = Program(slack)
    outside = slack.add_channel("outside", bot=False)
    root = slack.bob.write("first")
    async with by_http(slack, program.app):
        assert await slack.bob.mention("a fox", outside) is None
        await slack.bob.mention("a fox", thread=root)
        await slack.bob.write_dm("a cat")
        await slack.bob.open_home()
        await slack.until(lambda: len(program.heard) == 3)
    mention, dm, home = (body["event"] for body in program.heard)
    assert (mention["thread_ts"], mention["channel"]) == (root.ts, slack.general.id)
    assert (dm["channel_type"], dm["text"]) == ("im", "a cat")
    assert home["tab"] == "home"


# --- installing ---


async def test_a_workspace_installs_by_oauth_and_uninstalls(tmp_path: Path) -> None:
    async with Slack(installed=False) as slack:
        app = oauth_app(slack, tmp_path)
        async with by_http(slack, app) as url:
            slack.world.redirect_uri = f"{url}/slack/oauth_redirect"
            status, text = await slack.ann.install(f"{url}/slack/install", deny=True)
            assert "access_denied" in text
            assert slack.world.installations == {}
            status, text = await slack.ann.install(f"{url}/slack/install")
            assert status == 200, text
            assert slack.installation().scopes == "commands,chat:write"
            assert (await slack.bob.command("a fox")).acknowledged
            await slack.until(lambda: slack.messages(slack.bob.dm))
            token = slack.token
            assert all(each.acknowledged for each in await slack.uninstall())
        client = AsyncWebClient(token, base_url=slack.api_url)
        assert await refused(client.auth_test()) == "account_inactive"


async def test_an_organisation_installs_for_all_its_workspaces(tmp_path: Path) -> None:
    async with Slack(installed=False) as slack:
        grid = slack.add_enterprise("Grid")
        first, second = (slack.add_workspace(name, grid) for name in ("First", "Second"))
        slack.add_channel("one", first)
        slack.add_channel("two", second)
        app = oauth_app(slack, tmp_path)
        async with by_http(slack, app) as url:
            slack.world.redirect_uri = f"{url}/slack/oauth_redirect"
            admin, member = slack.add_person("amy", first, admin=True), slack.add_person("max", second)
            status, text = await admin.install(f"{url}/slack/install", into=grid)
            assert status == 200, text
            installation = slack.installation(second)
            assert (installation.team, installation.enterprise) == ("", grid.id)
            done = await member.command("a fox")
            assert done.acknowledged
            assert done.payload["is_enterprise_install"] == "true"
            await slack.until(lambda: slack.messages(member.dm))
        who = await AsyncWebClient(installation.token, base_url=slack.api_url).auth_test()
        assert who["is_enterprise_install"] is True


async def test_a_code_is_good_once_and_with_the_right_secret(slack: Slack) -> None:
    app = slack.world.app
    client = AsyncWebClient(base_url=slack.api_url)
    query = {"client_id": app.client_id, "scope": "commands", "redirect_uri": "http://127.0.0.1:9/back"}
    async with (
        ClientSession() as http,
        http.get(f"{slack.url}/oauth/v2/authorize", params=query, allow_redirects=False) as page,
    ):
        code = page.headers["Location"].partition("code=")[2].partition("&")[0]
    right: Payload = {"code": code, "client_id": app.client_id, "redirect_uri": "http://127.0.0.1:9/back"}
    assert await refused(client.oauth_v2_access(**right, client_secret="wrong")) == "bad_client_secret"
    assert (await client.oauth_v2_access(**right, client_secret=app.client_secret))["ok"]
    again = client.oauth_v2_access(**right, client_secret=app.client_secret)
    assert await refused(again) == "invalid_code"


# --- a process of its own ---


async def test_a_slack_in_its_own_process_serves_and_is_steered() -> None:
    async with RemoteSlack() as remote:
        first = (await remote.ask("describe"))["workspaces"][0]
        app_token = (await remote.ask("describe"))["app_token"]
        (second,) = await remote.ask("add_workspaces", count=1)
        tokens = {each["id"]: each["token"] for each in (first, second)}

        async def authorize(team_id: str, client: AsyncWebClient) -> AuthorizeResult:
            found = await client.auth_test(token=tokens[team_id])
            return AuthorizeResult.from_auth_test_response(
                auth_test_response=found, bot_token=tokens[team_id]
            )

        app = AsyncApp(
            client=AsyncWebClient(base_url=remote.api_url), signing_secret="unused", authorize=authorize
        )

        @app.command("/imagine")
        async def imagine(ack: Any, client: AsyncWebClient, body: Payload) -> None:
            await ack()
            await client.chat_postMessage(channel=body["channel_id"], text=body["text"])

        handler = AsyncSocketModeHandler(app, app_token)
        await handler.connect_async()  # type: ignore[no-untyped-call]
        await remote.ask("connected")
        await remote.ask("hold", stage="chat.postMessage", after=True)
        acks = await remote.ask("burst", count=4, text="fox {n}")
        assert [ack["failure"] for ack in acks] == [""] * 4
        assert {ack["team"] for ack in acks} == {first["id"], second["id"]}
        await remote.ask("reached", stage="chat.postMessage")
        await remote.ask("release", stage="chat.postMessage")
        shown = await remote.ask("look", channel=second["channel"])
        assert {root["text"] for root in shown} <= {f"fox {number}" for number in range(4)}
        assert (await remote.ask("calls"))["methods"]["chat.postMessage"] >= 1
        await handler.close_async()  # type: ignore[no-untyped-call]
