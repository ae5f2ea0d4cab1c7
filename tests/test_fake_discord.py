"""The local Discord answers as the real one: driven by a bare discord.py client."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import discord as dpy
import pytest
from aiohttp import ClientError

from tests.fakes.backend import flat_png
from tests.fakes.discord import (
    Channel,
    Discord,
    Interaction,
    Message,
    Upload,
    User,
    buttons,
    labels,
    pictures,
    text,
)
from tests.fakes.discord_bot import Bot, redirect, running

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


def png(seed: int = 1, name: str = "a.png", **more: Any) -> dpy.File:
    return dpy.File(io.BytesIO(flat_png(8, 6, seed)), name, **more)


class Shown(dpy.ui.LayoutView):
    """Words, a gallery and a button."""

    def __init__(self, words: str, *names: str, button: str = "") -> None:
        super().__init__(timeout=None)
        self.add_item(dpy.ui.TextDisplay(words))
        if names:
            gallery: dpy.ui.MediaGallery[Any] = dpy.ui.MediaGallery()
            for each in names:
                gallery.add_item(media=f"attachment://{each}", description=f"alt of {each}", spoiler=True)
            self.add_item(gallery)
        if button:
            row: dpy.ui.ActionRow[Any] = dpy.ui.ActionRow()
            row.add_item(dpy.ui.Button(label=button, custom_id=f"do:{button}"))
            self.add_item(row)


async def edited(discord: Discord, call: Interaction) -> Message:
    """The answer to a command, once it was edited."""
    return await discord.until(lambda: call.original if call.original and call.original.edits else None)


# --- answering --------------------------------------------------------------------------------------------


async def test_a_deferred_answer_is_edited_with_pictures(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    async def handle(interaction: dpy.Interaction[Any], prompt: str) -> None:
        deferred = await interaction.response.defer()
        assert deferred is not None
        assert deferred.message_id == discord.original(call).id
        await interaction.edit_original_response(
            view=Shown(f"**{prompt}** · {interaction.user.mention}", "a.png", button="Again"),
            attachments=[png(description="alt of a.png")],
            allowed_mentions=NOBODY,
        )

    bot.handle = handle
    call = discord.type(general, ann, "imagine", prompt="a red fox")
    await discord.answered(call)
    assert call.answer == 5
    message = await edited(discord, call)
    assert discord.messages(general) == [message]
    assert text(message) == f"**a red fox** · <@{ann.id}>"
    assert labels(message) == ["Again"]
    picture = pictures(message)[0]
    assert (picture.description, picture.spoiler) == ("alt of a.png", True)
    assert (picture.width, picture.height, picture.data) == (8, 6, flat_png(8, 6, 1))
    assert not message.pings
    assert not message.mentions
    assert message.edits[0].by == "token"


async def test_what_an_interaction_says_of_where_it_came_from(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    discord.allow(general, send_messages=False)
    assert general.guild is not None
    general.guild.tier = 3
    discord.type(general, ann, "imagine", prompt="x", picture=Upload("my cat.png", flat_png(4, 4, 2)))
    await discord.until(lambda: bot.calls)
    call = bot.calls[0]
    assert call.user.id == ann.id
    assert call.guild_id == general.guild.id
    assert call.context.guild
    assert call.filesize_limit == 100 * 2**20
    assert not call.app_permissions.send_messages
    assert call.app_permissions.view_channel
    assert call.permissions.send_messages
    assert isinstance(call.user, dpy.Member)
    assert call.is_guild_integration()
    options: Any = call.data
    attached = next(iter(options["resolved"]["attachments"].values()))
    assert attached["filename"] == "my_cat.png"
    file = dpy.Attachment(data=attached, state=bot._connection)
    assert await file.read() == flat_png(4, 4, 2)


async def test_a_follow_up_with_a_file_may_be_seen_by_one_alone(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    async def handle(interaction: dpy.Interaction[Any], prompt: str) -> None:
        await interaction.response.send_message("working", ephemeral=True)
        await interaction.followup.send("done", file=png(name="b.png"), ephemeral=True)
        await interaction.followup.send(f"{interaction.user.mention} ready")

    bot.handle = handle
    call = await discord.imagine(general, ann, "a fox")
    await discord.until(lambda: len(call.followups) == 2)
    assert [text(each) for each in discord.private(ann)] == ["working", "done"]
    assert pictures(call.followups[0])[0].filename == "b.png"
    assert [text(each) for each in discord.messages(general)] == [f"<@{ann.id}> ready"]
    assert discord.pinged(ann) == discord.messages(general)
    assert discord.private(discord.member(general.guild, "bob")) == []


async def test_the_bot_edits_its_message_with_its_own_token(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    async def handle(interaction: dpy.Interaction[Any], prompt: str) -> None:
        await interaction.response.send_message("first")
        channel = bot.get_partial_messageable(general.id)
        await channel.get_partial_message((await interaction.original_response()).id).edit(
            content="second", attachments=[png()]
        )

    bot.handle = handle
    call = await discord.imagine(general, ann, "a fox")
    message = await edited(discord, call)
    assert text(message) == "second"
    assert message.edits[0].by == "bot"
    assert message.edited_at is not None


async def test_a_thread_is_made_from_a_message(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    async def handle(interaction: dpy.Interaction[Any], prompt: str) -> None:
        await interaction.response.send_message("root")
        root = await interaction.original_response()
        channel = bot.get_channel(general.id)
        assert isinstance(channel, dpy.TextChannel)
        thread = await channel.get_partial_message(root.id).create_thread(name=prompt)
        await thread.send("inside", nonce="n-1")
        await thread.send("inside", nonce="n-1")

    bot.handle = handle
    call = await discord.imagine(general, ann, "a red fox")
    thread = await discord.until(lambda: discord.thread(discord.original(call)))
    assert thread.name == "a red fox"
    assert thread.id == discord.original(call).id
    await discord.until(lambda: len(discord.requests("POST /channels/*/messages")) == 2)
    assert [text(each) for each in discord.messages(thread)] == ["inside"]
    assert bot.get_channel(thread.id) is not None


async def test_a_pressed_button_opens_a_form_and_the_form_comes_back(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    class Form(dpy.ui.Modal, title="Remix"):
        prompt: dpy.ui.TextInput[Any] = dpy.ui.TextInput(label="Prompt", default="a red fox")
        size: dpy.ui.Label[Any] = dpy.ui.Label(
            text="Size",
            component=dpy.ui.Select(
                options=[dpy.SelectOption(label="Wide", value="16:9"), dpy.SelectOption(label="Square")]
            ),
        )

        async def on_submit(self, interaction: dpy.Interaction[Any]) -> None:
            assert isinstance(self.size.component, dpy.ui.Select)
            said = f"{self.prompt.value} {self.size.component.values}"
            await interaction.response.send_message(said, ephemeral=True)

    class Asking(Shown):
        async def interaction_check(self, interaction: dpy.Interaction[Any]) -> bool:
            await interaction.response.send_modal(Form())
            return False

    async def handle(interaction: dpy.Interaction[Any], prompt: str) -> None:
        await interaction.response.send_message(view=Asking("hello", button="Remix"))

    bot.handle = handle
    call = await discord.imagine(general, ann, "x")
    form = await discord.press(discord.original(call), "Remix", ann)
    assert form.modal is not None
    assert form.modal["title"] == "Remix"
    done = await discord.submit(form, {"Size": "Wide"})
    assert text(discord.original(done)) == "a red fox ['16:9']"
    assert discord.original(done).ephemeral
    with pytest.raises(AssertionError, match="no 'Vary' among"):
        await discord.press(discord.original(call), "Vary", ann)


async def test_an_update_changes_the_message_of_the_button(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    class Once(dpy.ui.View):
        @dpy.ui.button(label="Stop", custom_id="stop")
        async def stop_it(self, interaction: dpy.Interaction[Any], button: dpy.ui.Button[Any]) -> None:
            button.disabled = True
            await interaction.response.edit_message(content="stopped", view=self)

    async def handle(interaction: dpy.Interaction[Any], prompt: str) -> None:
        await interaction.response.send_message("running", view=Once())

    bot.handle = handle
    call = await discord.imagine(general, ann, "x")
    await discord.press(discord.original(call), "Stop", ann)
    assert text(discord.original(call)) == "stopped"
    assert buttons(discord.original(call))[0].disabled
    with pytest.raises(AssertionError, match="disabled"):
        discord.click(discord.original(call), "Stop", ann)


async def test_suggestions_and_context_menus(discord: Discord, general: Channel, ann: User) -> None:
    bot = Bot()

    @bot.tree.context_menu(name="Recipe")
    async def recipe(interaction: dpy.Interaction[Any], message: dpy.Message) -> None:
        await interaction.response.send_message(f"of {message.content}", ephemeral=True)

    @bot.tree.command(name="paint", description="Paint")
    async def paint(interaction: dpy.Interaction[Any], model: str) -> None:
        await interaction.response.send_message(model)

    @paint.autocomplete("model")
    async def models(interaction: dpy.Interaction[Any], current: str) -> list[dpy.app_commands.Choice[str]]:
        return [dpy.app_commands.Choice(name=f"{current}-turbo", value=f"{current}-turbo")]

    async with running(bot, discord):
        assert await discord.suggest(general, ann, "paint", "model", "sd") == [
            {"name": "sd-turbo", "value": "sd-turbo"}
        ]
        said = discord.say(general, ann, "hello")
        call = await discord.menu(ann, "Recipe", said, general)
        assert text(discord.original(call)) == "of hello"


async def test_the_same_event_twice_is_answered_once(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    refused: list[int] = []

    async def handle(interaction: dpy.Interaction[Any], prompt: str) -> None:
        try:
            await interaction.response.defer()
        except dpy.HTTPException as error:
            refused.append(error.code)

    bot.handle = handle
    call = await discord.imagine(general, ann, "x")
    discord.send(call)
    await discord.until(lambda: refused == [40060])
    assert len(discord.messages(general)) == 1


async def test_a_reply_pings_whom_it_allows_here_and_in_direct_messages(
    bot: Bot, discord: Discord, general: Channel, ann: User
) -> None:
    said = discord.say(general, ann, "hello")
    channel = bot.get_channel(general.id)
    assert isinstance(channel, dpy.TextChannel)
    allowed = dpy.AllowedMentions(users=[dpy.Object(ann.id)], everyone=False, roles=False, replied_user=False)
    await channel.send(
        f"{ann.mention} @everyone", reference=channel.get_partial_message(said.id), allowed_mentions=allowed
    )
    dm = await bot.create_dm(dpy.Object(ann.id))
    await dm.send("in private")
    reply = discord.messages(general)[-1]
    assert reply.pings == {str(ann.id)}
    assert reply.reference is not None
    assert [text(each) for each in discord.messages(discord.world.dm(ann))] == ["in private"]


# --- trouble ----------------------------------------------------------------------------------------------


async def test_a_rate_limit_is_waited_out_by_the_client(bot: Bot, discord: Discord, general: Channel) -> None:
    trouble = discord.on("POST /channels/*/messages").limit(0.01)
    await bot.get_partial_messageable(general.id).send("hello")
    assert trouble.hits == 1
    assert [each.status for each in discord.requests("POST /channels/*/messages")] == [429, 200]


async def test_a_rate_limit_of_a_proxy_raises_at_once(bot: Bot, discord: Discord, general: Channel) -> None:
    discord.on("POST /channels/*/messages").limit(0.01, via=False)
    with pytest.raises(dpy.HTTPException) as error:
        await bot.get_partial_messageable(general.id).send("hello")
    assert error.value.status == 429
    assert discord.messages(general) == []


async def test_a_request_is_held_until_it_is_let_go(bot: Bot, discord: Discord, general: Channel) -> None:
    gate = discord.on("POST /channels/*/messages").hold()
    sending = asyncio.ensure_future(bot.get_partial_messageable(general.id).send("hello"))
    await gate.reached.wait()
    assert gate.waiting == 1
    assert discord.messages(general) == []
    gate.release()
    await sending
    assert len(discord.messages(general)) == 1


async def test_a_dropped_connection_leaves_what_was_applied(
    bot: Bot, discord: Discord, general: Channel
) -> None:
    discord.on("POST /channels/*/messages").cut()
    with pytest.raises(ClientError):
        await bot.get_partial_messageable(general.id).send("hello")
    assert len(discord.messages(general)) == 1


async def test_an_expired_token_edits_nothing_but_the_bot_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = [1_800_000_000.0]
    async with Discord(now=lambda: time[0]) as server:
        redirect(monkeypatch, server)
        general = server.channel(server.guild(), "general")
        async with running(Bot(), server) as bot:
            bot.handle = lambda interaction, prompt: interaction.response.defer()
            call = await server.imagine(general, server.member(general.guild, "ann"), "x")
            time[0] += 901
            with pytest.raises(dpy.HTTPException) as error:
                await bot.calls[0].edit_original_response(content="late")
            assert error.value.code == 50027
            message = server.original(call)
            await bot.get_partial_messageable(general.id).get_partial_message(message.id).edit(content="late")
            assert text(message) == "late"
        assert not server.violations
