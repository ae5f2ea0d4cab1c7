"""The local Discord's rules of interactions, permissions and threads: driven by bare requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.backend import flat_png
from tests.fakes.discord import Channel, Discord, Interaction, User, text
from tests.fakes.discord_bot import Wire, wired

PNG = flat_png(8, 6, 1)
BUTTON = {"type": 2, "style": 1, "label": "Go", "custom_id": "go"}
ROW = {"type": 1, "components": [BUTTON]}
V2 = 1 << 15


class Time:
    """A clock to be moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def discord(time: Time) -> AsyncIterator[Discord]:
    async with Discord(now=time) as server:
        server.guild()
        yield server
        assert not server.violations


@pytest.fixture
def general(discord: Discord) -> Channel:
    return discord.channel(next(iter(discord.world.guilds.values())), "general")


@pytest.fixture
def ann(general: Channel, discord: Discord) -> User:
    return discord.member(general.guild, "ann")


@pytest.fixture
async def wire(discord: Discord) -> AsyncIterator[Wire]:
    async with wired(discord) as made:
        await made.register()
        yield made


@pytest.fixture
def call(discord: Discord, wire: Wire, general: Channel, ann: User) -> Interaction:
    return discord.type(general, ann, "imagine", prompt="a fox")


def gallery(*names: str) -> dict[str, Any]:
    """A gallery of attached files."""
    return {"type": 12, "items": [{"media": {"url": f"attachment://{each}"}} for each in names]}


def listed(*names: str) -> list[dict[str, Any]]:
    """New files as a body lists them."""
    return [{"id": str(index), "filename": each} for index, each in enumerate(names)]


# --- interactions -----------------------------------------------------------------------------------------


async def test_the_first_response_comes_once_and_within_three_seconds(
    wire: Wire, call: Interaction, discord: Discord, general: Channel, ann: User, time: Time
) -> None:
    status, answer = await wire.answer(call, 5)
    assert status == 200
    assert answer["interaction"]["response_message_loading"]
    assert answer["interaction"]["response_message_id"] == str(discord.original(call).id)
    assert (await wire.answer(call, 4, content="x"))[1]["code"] == 40060
    late = discord.type(general, ann, "imagine", prompt="x")
    time.now += 3.1
    assert (await wire.answer(late, 4, content="x"))[1]["code"] == 10062


@pytest.mark.parametrize("kind", [6, 7, 8])
async def test_a_command_takes_no_answer_meant_for_others(wire: Wire, call: Interaction, kind: int) -> None:
    assert (await wire.answer(call, kind))[1]["code"] == 50035


async def test_a_webhook_lives_from_the_first_response_for_fifteen_minutes(
    wire: Wire, call: Interaction, time: Time
) -> None:
    assert await wire.code("POST", wire.hook(call), {"content": "x"}) == 10015
    await wire.answer(call, 4, content="x")
    time.now += 899
    assert await wire.code("PATCH", wire.hook(call, "@original"), {"content": "y"}) == 0
    time.now += 2
    assert await wire.ask("PATCH", wire.hook(call, "@original"), {"content": "z"}) == (
        401,
        {"message": "Invalid Webhook Token", "code": 50027},
    )


async def test_a_follow_up_directly_after_a_deferral_edits_it(
    wire: Wire, call: Interaction, discord: Discord
) -> None:
    await wire.answer(call, 5)
    await wire.ask("POST", wire.hook(call), {"content": "done", "flags": 64})
    assert text(discord.original(call)) == "done"
    assert not discord.original(call).ephemeral
    assert call.followups == []


async def test_a_deferral_takes_no_flag_but_ephemeral(wire: Wire, call: Interaction) -> None:
    assert (await wire.answer(call, 5, flags=V2))[1]["code"] == 50035
    assert (await wire.answer(call, 5, flags=64))[0] == 200


async def test_an_ephemeral_message_is_out_of_the_bots_own_reach(
    wire: Wire, call: Interaction, discord: Discord, general: Channel
) -> None:
    await wire.answer(call, 4, content="x", flags=64)
    path = f"/channels/{general.id}/messages/{discord.original(call).id}"
    assert await wire.code("PATCH", path, {"content": "y"}) == 10008
    assert await wire.code("PATCH", wire.hook(call, "@original"), {"content": "y"}) == 0
    assert await wire.code("DELETE", wire.hook(call, "@original")) == 0
    assert await wire.code("PATCH", wire.hook(call, "@original"), {"content": "z"}) == 10008


async def test_a_webhook_reaches_the_messages_of_its_own_interaction_alone(
    wire: Wire, call: Interaction, discord: Discord, general: Channel, ann: User
) -> None:
    other = discord.type(general, ann, "imagine", prompt="x")
    for each in (call, other):
        await wire.answer(each, 4, content="x")
    foreign = str(discord.original(other).id)
    assert await wire.code("PATCH", wire.hook(call, foreign), {"content": "y"}) == 10008
    assert await wire.code("GET", wire.hook(other, foreign)) == 0


async def test_where_only_the_user_installed_it_five_follow_ups_are_allowed(
    wire: Wire, discord: Discord
) -> None:
    guild = discord.world.add_guild("elsewhere", joined=False)
    channel = discord.world.add_channel(guild, "general")
    call = discord.type(channel, discord.member(guild, "bob"), "imagine", prompt="x")
    assert set(call.payload["authorizing_integration_owners"]) == {"1"}
    await wire.answer(call, 4, content="x")
    assert discord.original(call).ephemeral, "people there may not use apps of their own publicly"
    codes = [await wire.code("POST", wire.hook(call), {"content": "x"}) for _ in range(6)]
    assert codes == [0, 0, 0, 0, 0, 40094]
    assert await wire.code("POST", f"/channels/{channel.id}/messages", {"content": "x"}) == 50001


async def test_a_client_offers_only_what_was_registered(wire: Wire, discord: Discord, ann: User) -> None:
    await wire.register(contexts=[0], default_member_permissions=32)
    general = discord.channel(next(iter(discord.world.guilds.values())), "general")
    with pytest.raises(AssertionError, match="not offered to ann"):
        discord.type(general, ann, "imagine", prompt="x")
    admin = discord.member(general.guild, "eve", manage_guild=True)
    with pytest.raises(AssertionError, match="needs"):
        discord.type(general, admin, "imagine")
    with pytest.raises(AssertionError, match="no option 'stpes'"):
        discord.type(general, admin, "imagine", prompt="x", stpes=3)
    with pytest.raises(AssertionError, match="not offered here"):
        discord.type(discord.world.dm(admin), admin, "imagine", prompt="x")
    discord.forge(general, ann, "imagine", prompt="x", stpes=3)


# --- permissions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("denied", "code"),
    [("view_channel", 50001), ("send_messages", 50013), ("attach_files", 50013), ("embed_links", 0)],
)
async def test_what_is_not_permitted_is_refused(
    wire: Wire, discord: Discord, general: Channel, denied: str, code: int
) -> None:
    discord.allow(general, None, **{denied: False})
    assert await wire.code("POST", f"/channels/{general.id}/messages", {}, [("a.png", PNG)]) == code


async def test_an_interaction_is_answered_without_any_permission(
    wire: Wire, discord: Discord, general: Channel, call: Interaction
) -> None:
    discord.allow(general, view_channel=False)
    assert (await wire.answer(call, 4, [("a.png", PNG)], content="x"))[0] == 200
    path = f"/channels/{general.id}/messages/{discord.original(call).id}"
    assert await wire.code("PATCH", path, {"content": "y"}) == 50001


async def test_what_is_gone_is_unknown(wire: Wire, discord: Discord, general: Channel) -> None:
    _, made = await wire.ask("POST", f"/channels/{general.id}/messages", {"content": "x"})
    path = f"/channels/{general.id}/messages/{made['id']}"
    discord.delete(discord.messages(general)[0])
    assert await wire.code("PATCH", path, {"content": "y"}) == 10008
    assert await wire.code("DELETE", path) == 10008
    discord.delete_channel(general)
    assert await wire.code("PATCH", path, {"content": "y"}) == 10003


async def test_other_peoples_messages_are_theirs(
    wire: Wire, discord: Discord, general: Channel, ann: User
) -> None:
    said = discord.say(general, ann, "mine")
    path = f"/channels/{general.id}/messages/{said.id}"
    assert await wire.code("PATCH", path, {"content": "y"}) == 50005
    assert await wire.code("DELETE", path) == 50013
    discord.allow(general, manage_messages=True)
    assert await wire.code("DELETE", path) == 0


async def test_direct_messages_may_be_closed(wire: Wire, discord: Discord, ann: User) -> None:
    _, dm = await wire.ask("POST", "/users/@me/channels", {"recipient_id": str(ann.id)})
    path = f"/channels/{dm['id']}/messages"
    assert await wire.code("POST", path, {"content": "x"}) == 0
    discord.rules.closed.add(ann.id)
    assert await wire.code("POST", path, {"content": "x"}) == 50007


# --- threads ----------------------------------------------------------------------------------------------


async def test_a_message_has_one_thread_and_a_thread_has_none(
    wire: Wire, discord: Discord, general: Channel
) -> None:
    path = f"/channels/{general.id}/messages"
    _, made = await wire.ask("POST", path, {"content": "x"})
    status, thread = await wire.ask("POST", f"{path}/{made['id']}/threads", {"name": "t"})
    assert (status, thread["id"], thread["parent_id"]) == (201, made["id"], str(general.id))
    assert await wire.code("POST", f"{path}/{made['id']}/threads", {"name": "t"}) == 160004
    _, inner = await wire.ask("POST", f"/channels/{thread['id']}/messages", {"content": "y"})
    inside = f"/channels/{thread['id']}/messages/{inner['id']}/threads"
    assert await wire.code("POST", inside, {"name": "t"}) == 50024
    for name in ("", "x" * 101):
        assert await wire.code("POST", f"{path}/{made['id']}/threads", {"name": name}) in (50035, 160004)
    _, got = await wire.ask("GET", f"{path}/{made['id']}")
    assert got["thread"]["id"] == made["id"]
    assert got["flags"] & 32


async def test_threads_need_permission_and_room(wire: Wire, discord: Discord, general: Channel) -> None:
    path = f"/channels/{general.id}/messages"
    _, made = await wire.ask("POST", path, {"content": "x"})
    discord.allow(general, create_public_threads=False)
    assert await wire.code("POST", f"{path}/{made['id']}/threads", {"name": "t"}) == 50013
    discord.allow(general, create_public_threads=True)
    discord.rules.most_threads = 0
    assert await wire.code("POST", f"{path}/{made['id']}/threads", {"name": "t"}) == 160006
    discord.rules.most_threads = 1
    assert await wire.code("POST", f"{path}/{made['id']}/threads", {"name": "t"}) == 0
    discord.allow(general, send_messages_in_threads=False)
    assert await wire.code("POST", f"/channels/{made['id']}/messages", {"content": "x"}) == 50013


async def test_an_archived_thread_takes_messages_but_no_edits(
    wire: Wire, discord: Discord, general: Channel
) -> None:
    _, made = await wire.ask("POST", f"/channels/{general.id}/threads", {"name": "t", "type": 11})
    thread = discord.world.channels[int(made["id"])]
    _, sent = await wire.ask("POST", f"/channels/{thread.id}/messages", {"content": "x"})
    edit = f"/channels/{thread.id}/messages/{sent['id']}"
    discord.archive(thread)
    assert await wire.code("PATCH", edit, {"content": "y"}) == 50083
    assert await wire.code("PATCH", f"/channels/{thread.id}", {"archived": False}) == 0
    assert await wire.code("PATCH", edit, {"content": "y"}) == 0
    discord.archive(thread)
    assert await wire.code("POST", f"/channels/{thread.id}/messages", {"content": "z"}) == 0
    assert not thread.archived
    discord.archive(thread, locked=True)
    assert await wire.code("POST", f"/channels/{thread.id}/messages", {"content": "z"}) == 160005


async def test_a_forum_takes_posts_and_no_messages(wire: Wire, discord: Discord, general: Channel) -> None:
    assert general.guild is not None
    forum = discord.channel(general.guild, "help", 15)
    assert await wire.code("POST", f"/channels/{forum.id}/messages", {"content": "x"}) == 40058
    body = {"name": "t", "message": {"content": "x", "attachments": listed("a.png")}}
    status, post = await wire.ask("POST", f"/channels/{forum.id}/threads", body, [("a.png", PNG)])
    assert (status, post["message"]["id"]) == (201, post["id"])
    assert (
        await wire.code("POST", f"/channels/{post['id']}/messages/{post['id']}/threads", {"name": "t"})
        == 50024
    )


# --- the checks themselves --------------------------------------------------------------------------------


async def test_the_local_discord_refuses_a_wrong_token(wire: Wire) -> None:
    assert (await wire.ask("GET", "/users/@me", token="another"))[0] == 401


async def test_what_breaks_the_openapi_file_is_noted(wire: Wire, discord: Discord, general: Channel) -> None:
    if discord.rest.spec is None:
        pytest.skip("FAIRBRUSH_SPECS is not set")
    await wire.ask("POST", f"/channels/{general.id}/messages", {"content": "x", "embeds": "none"})
    assert any("sent POST" in each or "embeds" in each for each in discord.violations)
    discord.violations.clear()
    assert discord.rest.spec.component("MessageResponse", {"id": 5}) is not None
    assert discord.rest.spec.answer("GET /users/@me", 200, {"id": "1"}) is not None
    assert discord.rest.spec.request("POST /channels/{channel_id}/messages", {"content": 5}) is not None


async def test_a_route_that_is_not_served_is_noted(wire: Wire, discord: Discord) -> None:
    assert (await wire.ask("GET", "/voice/regions"))[0] == 404
    assert discord.violations == ["GET /api/v10/voice/regions: the local Discord does not serve this"]
    discord.violations.clear()


@pytest.mark.parametrize(("trouble", "status"), [("fail", 500), ("lose", 502)])
async def test_server_errors_come_before_or_after_applying(
    wire: Wire, discord: Discord, general: Channel, trouble: str, status: int
) -> None:
    getattr(discord.on("POST /channels/*/messages"), trouble)()
    assert (await wire.ask("POST", f"/channels/{general.id}/messages", {"content": "x"}))[0] == status
    assert len(discord.messages(general)) == (trouble == "lose")
    assert await wire.code("POST", f"/channels/{general.id}/messages", {"content": "x"}) == 0


async def test_a_pace_is_kept_by_channel(wire: Wire, discord: Discord, general: Channel) -> None:
    assert general.guild is not None
    pace = discord.pace("POST /channels/*/messages", 2, per=60.0)
    path = f"/channels/{general.id}/messages"
    answers = [await wire.ask("POST", path, {"content": "x"}) for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert 59 < answers[2][1]["retry_after"] <= 60
    other = discord.channel(general.guild, "other")
    assert await wire.code("POST", f"/channels/{other.id}/messages", {"content": "x"}) == 0
    assert pace.refused == 1


async def test_channels_that_the_bot_may_not_view_are_obfuscated_but_not_in_interactions(
    wire: Wire, discord: Discord, general: Channel, ann: User
) -> None:
    from tests.fakes.discord_json import guild_json

    assert general.guild is not None
    secret = discord.channel(general.guild, "secret", nsfw=True)
    discord.allow(secret, view_channel=False)
    told = {each["id"]: each for each in guild_json(discord.world, general.guild)["channels"]}
    assert told[str(secret.id)]["name"] == "___hidden___"
    assert not told[str(secret.id)]["nsfw"]
    call = discord.type(secret, ann, "imagine", prompt="x")
    assert call.payload["channel"]["name"] == "secret"
    assert call.payload["channel"]["nsfw"]


async def test_usual_paces_are_told_in_headers_and_the_global_one_spares_interactions(
    wire: Wire, discord: Discord, general: Channel, call: Interaction
) -> None:
    discord.usual_paces()
    path = f"{discord.api_url}/channels/{general.id}/messages"
    headers = {"Authorization": f"Bot {discord.token}"}
    async with wire.session.post(path, json={"content": "x"}, headers=headers) as answer:
        assert answer.headers["X-RateLimit-Limit"] == "5"
        assert answer.headers["X-RateLimit-Remaining"] == "4"
        assert 0 < float(answer.headers["X-RateLimit-Reset-After"]) <= 5
    codes = [(await wire.ask("GET", "/users/@me"))[0] for _ in range(60)]
    assert 429 in codes
    assert (await wire.answer(call, 5))[0] == 200


async def test_a_conversation_between_others_is_out_of_the_bots_reach(wire: Wire, discord: Discord) -> None:
    ann, bob = discord.member(None, "ann"), discord.member(None, "bob")
    between = discord.world.foreign_dm(ann, bob)
    call = discord.type(between, ann, "imagine", prompt="x")
    assert call.payload["context"] == 2
    assert call.payload["authorizing_integration_owners"] == {"1": str(ann.id)}
    assert (await wire.answer(call, 4, content="x"))[0] == 200
    assert await wire.code("GET", f"/channels/{between.id}") == 50001


async def test_the_bot_lists_its_guilds_and_leaves_one(
    wire: Wire, discord: Discord, general: Channel
) -> None:
    assert general.guild is not None
    hidden = discord.channel(general.guild, "hidden")
    discord.allow(hidden, view_channel=False)
    _, channels = await wire.ask("GET", f"/guilds/{general.guild.id}/channels")
    assert [each["name"] for each in channels] == ["general"]
    _, guilds = await wire.ask("GET", "/users/@me/guilds")
    assert [each["id"] for each in guilds] == [str(general.guild.id)]
    assert (await wire.ask("DELETE", f"/users/@me/guilds/{general.guild.id}"))[0] == 204
    assert (await wire.ask("GET", "/users/@me/guilds"))[1] == []
    assert await wire.code("POST", f"/channels/{general.id}/messages", {"content": "x"}) == 50001
