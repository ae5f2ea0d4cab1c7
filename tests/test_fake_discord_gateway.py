"""The local Discord's gateway, and the local Discord as a process: driven by a bare discord.py client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import discord as dpy
import pytest

from tests.fakes.discord import (
    Channel,
    Discord,
    Upload,
    User,
)
from tests.fakes.discord_bot import Bot, redirect, running
from tests.fakes.discord_json import channel_json, guild_json
from tests.fakes.discord_remote import remote_discord

NOBODY = dpy.AllowedMentions.none()


@pytest.fixture
async def discord(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Discord]:
    async with Discord() as server:
        redirect(monkeypatch, server)
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
async def bot(discord: Discord, general: Channel) -> AsyncIterator[Bot]:
    async with running(Bot(), discord) as made:
        yield made


class Once(dpy.ui.View):
    """A button that changes its message."""

    @dpy.ui.button(label="Stop", custom_id="stop")
    async def stop_it(self, interaction: dpy.Interaction[Any], button: dpy.ui.Button[Any]) -> None:
        await interaction.response.edit_message(content="stopped")


async def test_a_client_connects_and_knows_the_guild_and_its_channels(
    bot: Bot, discord: Discord, general: Channel
) -> None:
    await discord.until(lambda: bot.get_channel(general.id))
    assert bot.user is not None
    assert bot.user.id == discord.world.me.id
    guild = bot.get_guild(general.guild.id if general.guild else 0)
    assert guild is not None
    assert guild.me.guild_permissions.send_messages
    assert len(discord.gateway.identifies) == 1


async def test_commands_are_synced_and_keep_their_ids(bot: Bot, discord: Discord) -> None:
    first = discord.world.commands
    await bot.tree.sync()
    assert [each["id"] for each in discord.world.commands] == [each["id"] for each in first]
    assert discord.rules.commands_put == 2
    assert discord.world.commands[0]["options"][0]["name"] == "prompt"


async def test_every_shard_gets_its_guilds_and_its_interactions(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Discord(shards=2) as server:
        redirect(monkeypatch, server)
        guilds = [server.guild(f"g{number}") for number in range(4)]
        async with running(Bot(), server) as bot:
            await server.until(lambda: len(server.gateway.identifies) == 2)
            await server.until(lambda: len(bot.guilds) == 4)
            assert sorted(shard for _, shard in server.gateway.identifies) == [0, 1]
            for guild in guilds:
                server.type(
                    server.channel(guild, "general"), server.member(guild, "ann"), "imagine", prompt="x"
                )
            await server.until(lambda: len(bot.calls) == 4)
        assert not server.violations


async def test_a_dropped_socket_resumes_and_misses_nothing(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    discord.gateway.refuse(0)
    await discord.gateway.drop()
    discord.type(general, ann, "imagine", prompt="while away")
    await discord.until(lambda: bot.calls)
    await discord.until(lambda: "resumed" in bot.heard)
    assert len(discord.gateway.identifies) == 1


async def test_asked_to_reconnect_it_resumes(bot: Bot, discord: Discord) -> None:
    discord.gateway.ask_to_reconnect()
    await discord.until(lambda: "resumed" in bot.heard)
    assert len(discord.gateway.identifies) == 1


async def test_an_invalid_session_is_identified_anew(bot: Bot, discord: Discord) -> None:
    discord.gateway.invalidate()
    await discord.until(lambda: len(discord.gateway.identifies) == 2)


async def test_a_session_that_was_forgotten_cannot_be_resumed(bot: Bot, discord: Discord) -> None:
    await discord.gateway.drop()
    await discord.until(lambda: not discord.gateway.connected)
    discord.gateway.forget()
    await discord.until(lambda: len(discord.gateway.identifies) == 2)


async def test_a_refused_resume_is_tried_again(bot: Bot, discord: Discord) -> None:
    discord.gateway.refuse(1)
    await discord.gateway.drop()
    await discord.until(lambda: discord.gateway.connects == 3)


async def test_a_payload_that_cannot_be_parsed_ends_the_client(discord: Discord, general: Channel) -> None:
    bot = Bot()
    bot.sync = False
    task = asyncio.ensure_future(bot.start(discord.token))
    await discord.ready(commands=False)
    discord.gateway.send_nonsense()
    with pytest.raises(KeyError):
        await task


async def test_a_bad_token_is_refused_over_http(discord: Discord) -> None:
    bot = Bot()
    with pytest.raises(dpy.LoginFailure):
        await bot.start("not-the-token")
    await bot.close()


async def test_a_token_that_is_revoked_closes_the_gateway(discord: Discord, general: Channel) -> None:
    bot = Bot()
    task = asyncio.ensure_future(bot.start(discord.token))
    await discord.ready()
    await discord.revoke()
    with pytest.raises(dpy.ConnectionClosed) as closed:
        await task
    assert closed.value.code == 4004


async def test_intents_that_were_not_granted_are_refused(discord: Discord) -> None:
    bot = Bot()
    bot.sync = False
    bot._connection._intents = dpy.Intents(guilds=True, members=True)
    with pytest.raises(dpy.PrivilegedIntentsRequired):
        await bot.start(discord.token)


async def test_a_first_connection_that_is_refused_ends_a_plain_client(
    monkeypatch: pytest.MonkeyPatch, discord: Discord
) -> None:
    discord.gateway.refuse(1)
    client = dpy.Client(intents=dpy.Intents(guilds=True))
    with pytest.raises(AttributeError):
        await client.start(discord.token)
    await client.close()


async def test_heartbeats_are_acknowledged(discord: Discord, general: Channel) -> None:
    discord.gateway.beat_every = 0.05
    async with running(Bot(), discord) as bot:
        await discord.until(lambda: discord.gateway.beats >= 3)
        await discord.until(lambda: 0 < bot.latency < 1)


async def test_events_may_be_kept_back(bot: Bot, discord: Discord, general: Channel, ann: User) -> None:
    discord.gateway.hold()
    discord.type(general, ann, "imagine", prompt="x")
    await bot.tree.sync()
    assert not bot.calls
    discord.gateway.release()
    await discord.until(lambda: bot.calls)


async def test_channels_threads_and_guilds_come_and_go(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    guild = discord.guild("second")
    await discord.until(lambda: bot.get_guild(guild.id))
    made = discord.channel(guild, "art", nsfw=True)
    await discord.until(lambda: bot.get_channel(made.id))
    discord.allow(made, view_channel=False)
    hidden = await discord.until(lambda: str(bot.get_channel(made.id)) == "___hidden___")
    assert hidden
    discord.delete_channel(made)
    await discord.until(lambda: bot.get_channel(made.id) is None)
    discord.kick(guild)
    await discord.until(lambda: bot.get_guild(guild.id) is None)
    assert "guild_remove" in bot.heard


async def test_messages_are_told_of_only_with_the_intent(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    discord.delete(discord.say(general, ann, "hello"))
    discord.type(general, ann, "imagine", prompt="x")
    await discord.until(lambda: bot.calls)
    assert not {"message", "raw_message_delete"} & set(bot.heard)


async def test_what_events_carry_fits_the_openapi_file(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    spec, guild = discord.rest.spec, general.guild
    if spec is None:
        pytest.skip("FAIRBRUSH_SPECS is not set")
    assert guild is not None
    bot.handle = lambda interaction, prompt: interaction.response.send_message(prompt, view=Once())
    picture = Upload("a.png", b"no picture")
    call = await discord.imagine(general, ann, "x", picture=picture)
    pressed = discord.click(discord.original(call), "Stop", ann).payload
    attached = next(iter(call.payload["data"]["resolved"]["attachments"].values()))
    forum = discord.channel(guild, "help", 15)
    for schema, value in (
        ("MessageResponse", pressed["message"]),
        ("GuildChannelResponse", pressed["channel"]),
        ("GuildChannelResponse", channel_json(discord.world, forum)),
        ("UserResponse", pressed["member"]["user"]),
        ("MessageAttachmentResponse", attached),
        *(("GuildRoleResponse", each) for each in guild_json(discord.world, guild)["roles"]),
    ):
        assert spec.component(schema, value) is None


# --- as a process -----------------------------------------------------------------------------------------


async def test_a_local_discord_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote_discord(guilds=3, channels=2, shards=1) as remote:
        redirect(monkeypatch, remote)
        bot = Bot()
        bot.handle = lambda interaction, prompt: interaction.response.send_message(prompt, view=Once())
        task = asyncio.ensure_future(bot.start(remote.token))
        await remote.get("wait", connected=1, commands=1)
        gate = (await remote.post("on", route="POST /interactions/*/*/callback", do="hold"))["number"]
        await remote.post("burst", count=6, options={"prompt": "fox {n}"})
        assert (await remote.get(f"on/{gate}", reached=5))["reached"]
        assert (await remote.get("state"))["answered"] == 0
        await remote.post(f"on/{gate}", do="release")
        state = await remote.get("wait", answered=6)
        assert state["identifies"] == 1
        calls = await remote.get("interactions")
        assert all(each["answered_at"] >= each["sent_at"] for each in calls)
        assert len({each["guild"] for each in calls}) == 3
        shown = await remote.get("messages")
        assert {each["text"] for each in shown} == {f"fox {number}" for number in range(6)}
        pressed = {"message": shown[0]["id"], "button": "Stop", "user": calls[0]["user"]}
        await remote.post("press", **pressed)
        await remote.get("wait", answered=7)
        assert "stopped" in {each["text"] for each in await remote.get("messages")}
        await remote.post("gateway", do="drop")
        await remote.get("wait", resumes=1)
        checked = await remote.get("violations")
        assert checked["violations"] == []
        operations = [each["operation"] for each in await remote.get("traffic", after=0)]
        assert operations.count("POST /interactions/{interaction_id}/{interaction_token}/callback") == 7
        await bot.close()
        await asyncio.gather(task, return_exceptions=True)


def test_it_is_large_enough() -> None:
    discord = Discord(check=False)
    discord.populate(2500, channels=30, roles=20)
    assert len(discord.world.channels) == 75_000
    assert len({guild.id for guild in discord.world.guilds.values()}) == 2500
