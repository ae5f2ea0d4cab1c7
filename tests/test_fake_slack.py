"""The local Slack's Web API, driven by the bare slack_sdk: what it answers, refuses and shows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.clock import HandClock
from tests.fakes.slack import Slack
from tests.fakes.slack_program import (
    MODAL,
    Program,
    button,
    by_http,
    image,
    plain,
    png,
    refused,
    section,
    upload,
)
from tests.fakes.slack_spec import differences, folder
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


# --- messages ---


async def test_a_posted_message_is_seen_and_its_edits_are_kept(slack: Slack, client: AsyncWebClient) -> None:
    root = await client.chat_postMessage(channel=slack.general.id, text="hello", blocks=[section("*hello*")])
    await client.chat_postMessage(channel=slack.general.id, thread_ts=root["ts"], text="below")
    await client.chat_update(channel=slack.general.id, ts=root["ts"], text="bye", blocks=[section("*bye*")])
    (message,) = slack.messages()
    assert slack.read(message) == "*bye*"
    assert [edit.text for edit in message.edits] == ["bye"]
    assert [reply.text for reply in slack.thread(message)] == ["below"]
    assert root["message"]["bot_id"] == slack.installation().bot_id


async def test_an_update_with_text_alone_removes_the_blocks(slack: Slack, client: AsyncWebClient) -> None:
    root = await client.chat_postMessage(channel=slack.general.id, text="hello", blocks=[section("hello")])
    await client.chat_update(channel=slack.general.id, ts=root["ts"], text="bye")
    assert slack.messages()[0].blocks == []


async def test_forms_and_json_are_both_understood(slack: Slack, client: AsyncWebClient) -> None:
    body = {"channel": slack.general.id, "text": "x", "blocks": '[{"type": "divider"}]'}
    await client.api_call("chat.postMessage", data=body)
    await client.api_call("chat.postMessage", json={**body, "blocks": [{"type": "divider"}]})
    assert [message.blocks[0]["type"] for message in slack.messages()] == ["divider", "divider"]


async def test_a_reply_to_a_deleted_message_lands_in_the_channel(
    slack: Slack, client: AsyncWebClient
) -> None:
    root = await client.chat_postMessage(channel=slack.general.id, text="hello")
    await client.chat_delete(channel=slack.general.id, ts=root["ts"])
    answer = await client.chat_postMessage(channel=slack.general.id, thread_ts=root["ts"], text="below")
    assert "thread_ts" not in answer["message"]
    assert [message.text for message in slack.messages()] == ["below"]


async def test_a_reply_sent_to_the_channel_too_is_seen_in_both(slack: Slack, client: AsyncWebClient) -> None:
    root = await client.chat_postMessage(channel=slack.general.id, text="hello")
    await client.chat_postMessage(
        channel=slack.general.id, thread_ts=root["ts"], text="below", reply_broadcast=True
    )
    assert [message.text for message in slack.messages()] == ["hello", "below"]
    assert [message.text for message in slack.thread(slack.messages()[0])] == ["below"]


async def test_where_the_bot_may_not_post_it_is_told_why(slack: Slack, client: AsyncWebClient) -> None:
    outside = slack.add_channel("outside", bot=False)
    hidden = slack.add_channel("hidden", private=True, bot=False)
    archived, restricted = slack.add_channel("archived"), slack.add_channel("restricted")
    archived.archived = restricted.restricted = True
    other = slack.add_workspace("Other")
    foreign = slack.add_channel("foreign", other)
    wanted = [
        (outside.id, "not_in_channel"),
        (hidden.id, "channel_not_found"),
        (foreign.id, "channel_not_found"),
        ("C999", "channel_not_found"),
        (archived.id, "is_archived"),
        (restricted.id, "restricted_action"),
    ]
    for channel, error in wanted:
        assert await refused(client.chat_postMessage(channel=channel, text="x")) == error
    assert slack.count("chat.postMessage", error="not_in_channel") == 1
    assert (await client.conversations_info(channel=outside.id))["channel"]["is_member"] is False
    slack.invite(outside)
    assert (await client.chat_postMessage(channel=outside.id, text="x"))["ok"]


async def test_direct_messages_open_by_user(slack: Slack, client: AsyncWebClient) -> None:
    opened = await client.conversations_open(users=slack.bob.id)
    channel = opened["channel"]["id"]
    await client.chat_postMessage(channel=channel, text="for you")
    await client.chat_postMessage(channel=slack.bob.id, text="again")
    assert [message.text for message in slack.messages(slack.bob.dm)] == ["for you", "again"]


async def test_tokens_that_are_not_good_are_told_apart(slack: Slack, client: AsyncWebClient) -> None:
    bare = slack.add_workspace("Bare")
    without = slack.install(bare, scopes="commands").token
    app_token = slack.world.app.app_token
    for token, error in (("xoxb-unknown", "invalid_auth"), ("", "not_authed"), (app_token, "invalid_auth")):
        assert await refused(AsyncWebClient(token, base_url=slack.api_url).auth_test()) == error
    scopeless = AsyncWebClient(without, base_url=slack.api_url)
    with pytest.raises(SlackApiError) as caught:
        await scopeless.chat_postMessage(channel="C1", text="x")
    assert (caught.value.response["error"], caught.value.response["needed"]) == (
        "missing_scope",
        "chat:write",
    )
    slack.revoke()
    assert await refused(client.auth_test()) == "token_revoked"
    slack.installation().removed = True
    assert await refused(client.auth_test()) == "account_inactive"


async def test_other_refusals_of_messages(slack: Slack, client: AsyncWebClient) -> None:
    channel = slack.general.id
    bobs = slack.bob.write("mine")
    assert await refused(client.chat_update(channel=channel, ts="1.1", text="x")) == "message_not_found"
    assert await refused(client.chat_update(channel=channel, ts=bobs.ts, text="x")) == "cant_update_message"
    assert await refused(client.chat_delete(channel=channel, ts=bobs.ts)) == "cant_delete_message"
    assert await refused(client.api_call("chat.postMessage", json={"channel": channel})) == "no_text"
    assert await refused(client.chat_postMessage(channel=channel, text="x" * 40_001)) == "msg_too_long"
    stranger = slack.add_person("eve", slack.add_workspace("Other"))
    hidden = client.chat_postEphemeral(channel=channel, user=stranger.id, text="x")
    assert await refused(hidden) == "user_not_in_channel"
    assert await refused(client.api_call("chat.meMessage")) == "unknown_method"


LONG = "x" * 3001
BAD_BLOCKS = {
    "too many": [{"type": "divider"}] * 51,
    "long section": [section(LONG)],
    "empty text": [section("")],
    "long field": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2001}]}],
    "long header": [{"type": "header", "text": plain("x" * 151)}],
    "long label": [button("x" * 76, "a")],
    "marked label": [
        {"type": "actions", "elements": [{"type": "button", "text": {"type": "mrkdwn", "text": "x"}}]}
    ],
    "long action": [button("x", "a" * 256)],
    "26 buttons": [{"type": "actions", "elements": [{"type": "button", "text": plain("x")}] * 26}],
    "same action twice": [{"type": "actions", "elements": button("x", "a")["elements"] * 2}],
    "same block twice": [{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}],
    "unknown file": [image("F404")],
    "no alt text": [{"type": "image", "image_url": "https://example.com/a.png"}],
    "long alt text": [{"type": "image", "image_url": "https://example.com/a.png", "alt_text": "x" * 2001}],
    "context of 11": [{"type": "context", "elements": [plain("x")] * 11}],
    "unknown block": [{"type": "gallery"}],
    "no blocks": "hello",
    "file input in a message": [
        {"type": "input", "label": plain("x"), "element": {"type": "file_input", "action_id": "a"}}
    ],
}


@pytest.mark.parametrize("blocks", BAD_BLOCKS.values(), ids=BAD_BLOCKS)
async def test_blocks_over_a_limit_are_refused(slack: Slack, client: AsyncWebClient, blocks: Any) -> None:
    call = client.chat_postMessage(channel=slack.general.id, text="x", blocks=blocks)
    with pytest.raises(SlackApiError) as caught:
        await call
    assert caught.value.response["error"] == "invalid_blocks"
    assert "json-pointer:/blocks" in caught.value.response["response_metadata"]["messages"][0]
    assert slack.messages() == []


# --- trouble ---


async def test_limits_are_counted_and_refuse_where_enforced() -> None:
    clock = HandClock()
    async with Slack(clock.clock) as slack:
        client = AsyncWebClient(slack.token, base_url=slack.api_url)
        root = await client.chat_postMessage(channel=slack.general.id, text="x")
        edit = {"channel": slack.general.id, "ts": root["ts"], "text": "y"}
        for _ in range(51):
            await client.chat_update(**edit)
        assert slack.limits.over["chat.update"] == 1
        slack.limits.enforced = True
        with pytest.raises(SlackApiError) as caught:
            await client.chat_update(**edit)
        assert (caught.value.response.status_code, caught.value.response["error"]) == (429, "ratelimited")
        assert int(caught.value.response.headers["Retry-After"]) == 60
        await clock.advance(60)
        await client.chat_update(**edit)
        for _ in range(5):
            await client.chat_postMessage(channel=slack.general.id, text="x")
        assert await refused(client.chat_postMessage(channel=slack.general.id, text="x")) == "ratelimited"
        await client.chat_postMessage(channel=slack.bob.dm.id, text="x")
        await clock.advance(1)
        await client.chat_postMessage(channel=slack.general.id, text="x")


async def test_the_sdk_waits_where_it_is_told_to(slack: Slack, client: AsyncWebClient) -> None:
    client.retry_handlers.append(AsyncRateLimitErrorRetryHandler(max_retry_count=1))
    slack.refuse("chat.postMessage", "ratelimited", retry_after=1)
    await client.chat_postMessage(channel=slack.general.id, text="x")
    first, second = (call for call in slack.calls if call.method == "chat.postMessage")
    assert (first.error, second.error) == ("ratelimited", "")
    assert second.at - first.at >= 0.9


async def test_refusals_and_broken_answers_on_demand(slack: Slack, client: AsyncWebClient) -> None:
    def post(text: str) -> Any:
        return client.chat_postMessage(channel=slack.general.id, text=text)

    slack.refuse("chat.postMessage", "restricted_action", times=2, where=lambda call: call["text"] == "a")
    await post("b")
    assert [await refused(post("a")) for _ in range(2)] == ["restricted_action"] * 2
    slack.breaks("chat.postMessage", times=-1)
    with pytest.raises(SlackApiError):
        await post("a")
    slack.mend()
    await post("a")
    assert [message.text for message in slack.messages()] == ["b", "a"]


async def test_an_answer_that_is_lost_makes_the_sdk_post_twice(slack: Slack, client: AsyncWebClient) -> None:
    slack.drop("chat.postMessage", applied=True)
    await client.chat_postMessage(channel=slack.general.id, text="x")
    assert [message.text for message in slack.messages()] == ["x", "x"]


async def test_a_held_call_of_a_caller_that_died_is_never_applied(
    slack: Slack, client: AsyncWebClient
) -> None:
    slack.hold("root")
    slack.hold("root-posted")
    posting = asyncio.ensure_future(client.chat_postMessage(channel=slack.general.id, text="x"))
    await slack.reached("root")
    assert slack.messages() == []
    posting.cancel()
    await asyncio.gather(posting, return_exceptions=True)
    await slack.until(lambda: True)
    slack.release("root")
    await slack.until(lambda: slack.count("chat.postMessage", error="client_gone") == 1)
    again = asyncio.ensure_future(client.chat_postMessage(channel=slack.general.id, text="y"))
    await slack.reached("root-posted")
    assert [message.text for message in slack.messages()] == ["y"]
    slack.release("root-posted")
    assert (await again)["ok"]


async def test_the_story_is_told_where_something_never_comes(slack: Slack, client: AsyncWebClient) -> None:
    await client.chat_postMessage(channel=slack.general.id, text="hello", blocks=[button("Again", "again")])
    with pytest.raises(TimeoutError, match="general: 'hello' \\['Again'\\]"):
        await slack.until(lambda: False, seconds=0.01)


# --- shapes ---


def test_a_shape_that_differs_is_told() -> None:
    sample: Payload = {
        "ok": False,
        "channel": {"id": "", "n": 1, "blocks": []},
        "list": [{"a": ""}],
        "team": "",
    }
    fine = {"ok": True, "channel": {"id": "C1", "n": 2.5, "blocks": [1]}, "list": [{"a": "b"}], "team": None}
    assert differences(sample, fine) == []
    assert differences(sample, {"ok": "yes"}) == ["ok: str in place of bool"]
    assert differences(sample, {"more": 1}) == ["more: not in the sample"]
    assert differences(sample, {"list": [{"a": 1}]}) == ["list[0].a: number in place of str"]
    assert differences(sample, {"channel": None}) == ["channel: NoneType in place of dict"]


@pytest.mark.skipif("FAIRBRUSH_SPECS" not in os.environ, reason="FAIRBRUSH_SPECS is not set")
async def test_answers_and_payloads_are_of_the_samples_shapes(slack: Slack, client: AsyncWebClient) -> None:
    program = Program(slack)
    async with by_http(slack, program.app):
        root = await client.chat_postMessage(
            channel=slack.general.id, text="x", blocks=[button("Again", "again")]
        )
        await client.chat_postMessage(channel=slack.general.id, thread_ts=root["ts"], text="y")
        await client.chat_update(channel=slack.general.id, ts=root["ts"], text="x", blocks=[section("z")])
        await client.chat_postEphemeral(channel=slack.general.id, user=slack.bob.id, text="x")
        await client.reactions_add(channel=slack.general.id, timestamp=root["ts"], name="eyes")
        await client.conversations_info(channel=slack.general.id)
        await client.conversations_open(users=slack.bob.id)
        await client.users_info(user=slack.bob.id)
        await client.team_info()
        file = await upload(client, png(), channel_id=slack.general.id)
        await slack.until(lambda: slack.world.files[file].shares)
        await client.files_info(file=file)
        trigger = slack.world.add_trigger(slack.workspace.id, slack.bob.id)
        opened = await client.views_open(trigger_id=trigger, view=MODAL)
        await client.views_update(view_id=opened["view"]["id"], view=MODAL)
        await client.views_publish(user_id=slack.bob.id, view={"type": "home", "blocks": [section("x")]})
        await slack.bob.close_modal()
        await client.chat_postMessage(channel=slack.general.id, text="x", blocks=[button("Again", "again")])
        await slack.bob.press(slack.messages()[-1], "Again")
        await slack.bob.message_shortcut("remix", slack.messages()[-1])
        await slack.bob.command("a fox")
        await slack.bob.mention("a fox", thread=slack.messages()[0])
        await client.chat_delete(channel=slack.general.id, ts=root["ts"])
        await AsyncWebClient(slack.world.app.app_token, base_url=slack.api_url).apps_connections_open(
            app_token=slack.world.app.app_token
        )
        await slack.uninstall()
    where = folder()
    assert where is not None
    answered = {call.method for call in slack.calls if not call.error}
    sampled = {path.stem for path in where.glob("*.json") if "." in path.stem}
    assert sampled - answered == {"oauth.v2.access"}  # checked wherever a test installs
    assert slack.shape_faults == []
