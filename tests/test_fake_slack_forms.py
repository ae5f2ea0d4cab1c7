"""What people press and fill in in the local Slack, and what programs on slack_bolt hear of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from tests.fakes.clock import HandClock
from tests.fakes.slack import Slack
from tests.fakes.slack_program import (
    MODAL,
    Program,
    button,
    by_http,
    plain,
    png,
    refused,
    running,
    section,
)
from tests.fakes.slack_state import Message, Payload


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    """A local Slack."""
    async with Slack() as made:
        yield made


@pytest.fixture
def client(slack: Slack) -> AsyncWebClient:
    """The bot's client."""
    return AsyncWebClient(slack.token, base_url=slack.api_url)


async def test_a_button_is_pressed_and_the_response_url_answers(slack: Slack, client: AsyncWebClient) -> None:
    program = Program(slack)
    root = await client.chat_postMessage(
        channel=slack.general.id, text="x", blocks=[button("Again", "again")]
    )
    async with by_http(slack, program.app):
        await slack.bob.press(slack.messages()[0], "Again")
        with pytest.raises(LookupError, match="Again = again"):
            await slack.bob.press(slack.messages()[0], "Never")
    (body,) = program.heard
    assert body["container"]["message_ts"] == root["ts"]
    hook = AsyncWebhookClient(body["response_url"])
    answers = [await hook.send(text=f"answer {number}") for number in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [404]
    assert [message.text for message in slack.bob.ephemerals] == [f"answer {number}" for number in range(5)]


async def test_a_private_answer_can_be_pressed_and_replaced(slack: Slack, client: AsyncWebClient) -> None:
    program = Program(slack)
    buttons = [button("Again", "again")]
    await client.chat_postEphemeral(channel=slack.general.id, user=slack.bob.id, text="x", blocks=buttons)
    async with by_http(slack, program.app):
        await slack.bob.press(slack.bob.ephemerals[0], "Again")
    (body,) = program.heard
    assert body["container"]["is_ephemeral"]
    await AsyncWebhookClient(body["response_url"]).send(text="gone", replace_original=True)
    assert [message.text for message in slack.bob.ephemerals] == ["gone"]
    await AsyncWebhookClient(body["response_url"]).send(delete_original=True)
    assert slack.bob.ephemerals == []


@pytest.mark.parametrize("mode", ["socket", "http"])
async def test_a_modal_opens_refuses_and_is_submitted(slack: Slack, mode: str) -> None:
    program = Program(slack)
    submitted: list[Payload] = []

    @program.app.command("/form")
    async def form(ack: Any, client: AsyncWebClient, body: Payload) -> None:
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=MODAL)

    @program.app.view("imagine")
    async def submit(ack: Any, view: Payload) -> None:
        if view["state"]["values"]["prompt"]["text"]["value"] == "bad":
            await ack(response_action="errors", errors={"prompt": "Not this."})
            return
        submitted.append(view)
        await ack()

    async with running(slack, program.app, mode):
        await slack.bob.command(name="/form")
        view = await slack.bob.until_modal("Imagine")
        with pytest.raises(ValueError, match="required"):
            await slack.bob.submit()
        with pytest.raises(ValueError, match="at most 20"):
            slack.bob.fill({"Prompt": "x" * 21})
        await slack.bob.submit({"Prompt": "bad"})
        assert view.errors == {"prompt": "Not this."}
        await slack.bob.submit({"Prompt": "a fox", "Shape": "Story"})
        assert slack.bob.modal is None
    values = submitted[0]["state"]["values"]
    assert values["prompt"]["text"]["value"] == "a fox"
    assert values["shape"]["choice"]["selected_option"]["value"] == "story"


async def test_modals_stack_change_and_close(slack: Slack, client: AsyncWebClient) -> None:
    program = Program(slack)
    team, bob = slack.workspace.id, slack.bob.id
    other = {**MODAL, "title": plain("Other")}

    def trigger() -> str:
        return slack.world.add_trigger(team, bob)

    async with by_http(slack, program.app):
        opened = await client.views_open(trigger_id=trigger(), view=MODAL)
        slack.bob.fill({"Prompt": "a fox"})
        await client.views_update(view_id=opened["view"]["id"], view={**MODAL, "title": plain("More")})
        await client.views_push(trigger_id=trigger(), view=other)
        await client.views_push(trigger_id=trigger(), view=other)
        assert await refused(client.views_push(trigger_id=trigger(), view=other)) == "push_limit_reached"
        stale = client.views_update(view_id=opened["view"]["id"], hash=opened["view"]["hash"], view=other)
        assert await refused(stale) == "hash_conflict"
        await slack.bob.close_modal()
        await slack.bob.close_modal()
        assert slack.bob.modal is not None
        assert slack.bob.modal.content["title"]["text"] == "More"
        assert slack.bob.modal.values["prompt"]["text"]["value"] == "a fox"
        await slack.bob.close_modal(cleared=True)
        assert slack.world.modals[bob] == []
    assert [body["is_cleared"] for body in program.heard] == [False, False, True]


async def test_a_trigger_is_good_once_and_for_three_seconds() -> None:
    clock = HandClock()
    async with Slack(clock.clock) as slack:
        client = AsyncWebClient(slack.token, base_url=slack.api_url)
        used, late = (slack.world.add_trigger(slack.workspace.id, slack.bob.id) for _ in range(2))
        await client.views_open(trigger_id=used, view=MODAL)
        assert await refused(client.views_open(trigger_id=used, view=MODAL)) == "exchanged_trigger_id"
        await clock.advance(3.1)
        assert await refused(client.views_open(trigger_id=late, view=MODAL)) == "expired_trigger_id"
        assert await refused(client.views_open(trigger_id="made.up", view=MODAL)) == "invalid_trigger_id"


@pytest.mark.parametrize(
    "change",
    [
        {"title": plain("x" * 25)},
        {"private_metadata": "x" * 3001},
        {"callback_id": "x" * 256},
        {"blocks": [{"type": "divider"}] * 101},
        {"submit": plain("x" * 25)},
        {"type": "page"},
    ],
)
async def test_views_over_a_limit_are_refused(slack: Slack, client: AsyncWebClient, change: Payload) -> None:
    trigger = slack.world.add_trigger(slack.workspace.id, slack.bob.id)
    assert await refused(client.views_open(trigger_id=trigger, view=MODAL | change)) == "invalid_arguments"
    without = {key: value for key, value in MODAL.items() if key != "submit"}
    assert await refused(client.views_open(trigger_id=trigger, view=without)) == "invalid_arguments"
    await client.views_open(trigger_id=trigger, view=MODAL)  # a refusal does not use the trigger up


async def test_a_home_is_published_and_its_buttons_work(slack: Slack, client: AsyncWebClient) -> None:
    program = Program(slack)
    home = {"type": "home", "blocks": [section("my jobs"), button("Again", "again")]}
    await client.views_publish(user_id=slack.bob.id, view=home)
    assert slack.bob.home is not None
    assert slack.read(slack.bob.home).startswith("my jobs")
    async with by_http(slack, program.app):
        await slack.bob.press(slack.bob.home, "Again")
    assert program.heard[0]["view"]["type"] == "home"


async def test_shortcuts_on_messages_and_everywhere(slack: Slack) -> None:
    program = Program(slack)
    message: Message = slack.ann.write("look", files=[slack.ann.upload(png())])
    async with by_http(slack, program.app):
        await slack.bob.shortcut("remix")
        await slack.bob.message_shortcut("remix", message)
    everywhere, on_message = program.heard
    assert everywhere["type"] == "shortcut"
    assert on_message["message"]["files"][0]["mimetype"] == "image/png"
    assert on_message["channel"]["id"] == slack.general.id
