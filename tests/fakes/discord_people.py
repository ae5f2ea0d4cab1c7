"""What people at the local Discord do and see."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from discord import Permissions

from tests.fakes.discord_components import BUTTON, SELECTS, walk
from tests.fakes.discord_json import guild_json, role_json, seen_json
from tests.fakes.discord_looking import buttons, labels, line_of
from tests.fakes.discord_message_json import interaction_json
from tests.fakes.discord_places import guild_id_of, tell_message
from tests.fakes.discord_state import (
    DM,
    Channel,
    Guild,
    Interaction,
    Json,
    Member,
    Message,
    Role,
    User,
    World,
)
from tests.fakes.discord_typing import (
    Upload,
    command_data,
    focus,
    form_data,
    menu_data,
    option_value,
    upload,
)

T = TypeVar("T")
LOOK_AGAIN = 0.05  # seconds, for conditions on what is not of this world


class People:
    """What tests do and look at; the methods that wait do so for the bot's first response."""

    world: World
    patience = 10.0  # real seconds

    # --- waiting ------------------------------------------------------------------------------------------

    async def until(
        self, condition: Callable[[], T | None], seconds: float | None = None, what: str = ""
    ) -> T:
        """Wait until something is so, looking again after each change here; its value."""
        end = time.monotonic() + (seconds or self.patience)
        while True:
            change = self.world.changes.next()
            if value := condition():
                change.cancel()
                return value
            if time.monotonic() > end:
                raise AssertionError(f"it never came to that: {what or condition}\n{self.told()}")
            await asyncio.wait((change,), timeout=LOOK_AGAIN)
            change.cancel()

    def told(self) -> str:
        """Everything that is visible, for a failing test."""
        lines = []
        for channel in self.world.channels.values():
            lines += [f"#{channel.name}: {line_of(each)}" for each in channel.messages.values()]
        lines += [f"(to {each.private_to}): {line_of(each)}" for each in self.world.hidden.values()]
        return "\n".join(lines[-40:])

    async def answered(self, interaction: Interaction) -> Interaction:
        """Wait for the first response."""
        await self.until(lambda: interaction.answer is not None, what=f"an answer to {interaction.name}")
        return interaction

    # --- the world ----------------------------------------------------------------------------------------

    def guild(
        self, name: str = "Painters", *, channels: Sequence[str] = ("general",), tier: int = 0
    ) -> Guild:
        """A new server; a connected bot is told. tier: 2 and 3 allow files of 50 and 100 MiB."""
        made = self.world.add_guild(name, tier=tier)
        for each in channels:
            self.world.add_channel(made, each)
        self.world.tell("GUILD_CREATE", lambda: guild_json(self.world, made), made.id)
        return made

    def populate(self, guilds: int, *, channels: int = 30, roles: int = 20, members: int = 4) -> None:
        """Many servers at once, before a bot connects: channels c0, c1 ..., all with members m0, m1 ..."""
        users = [self.world.add_user(f"m{number}") for number in range(members)]
        for number in range(guilds):
            made = self.world.add_guild(f"server {number}")
            for index in range(roles):
                role = Role(self.world.new_id(), f"role {index}", position=index + 1)
                made.roles[role.id] = role
            for index in range(channels):
                self.world.add_channel(made, f"c{index}")
            for user in users:
                made.members[user.id] = Member(user, list(made.roles)[1:3])

    def channel(self, guild: Guild, name: str, kind: int = 0, *, nsfw: bool = False) -> Channel:
        """The channel of this name, made where there is none; kind: 0 text, 2 voice, 5 news, 15 forum."""
        for each in guild.channels.values():
            if each.name == name:
                return each
        made = self.world.add_channel(guild, name, kind, nsfw=nsfw)
        self.world.tell("CHANNEL_CREATE", lambda: seen_json(self.world, made), guild.id)
        return made

    def role(self, guild: Guild, name: str, **permissions: bool) -> Role:
        """A new role."""
        made = Role(self.world.new_id(), name, Permissions(**permissions).value)
        guild.roles[made.id] = made
        told = {"guild_id": str(guild.id), "role": role_json(made)}
        self.world.tell("GUILD_ROLE_CREATE", told, guild.id)
        return made

    def member(self, guild: Guild | None, name: str, *roles: Role, **permissions: bool) -> User:
        """The member of this name, joining where there is none; permissions: of a role of their own."""
        for each in guild.members.values() if guild is not None else ():
            if each.user.name == name:
                return each.user
        user = self.world.add_user(name)
        if guild is not None:
            guild.members[user.id] = Member(user, [each.id for each in roles])
            if permissions:
                guild.members[user.id].roles.append(self.role(guild, f"{name}'s", **permissions).id)
        return user

    def allow(self, channel: Channel, user: User | None = None, **permissions: bool) -> None:
        """What a member (None: the bot) may do here; `send_messages=False` denies. The bot is told."""
        self.world.allow(channel, user or self.world.me, **permissions)
        self.world.tell("CHANNEL_UPDATE", lambda: seen_json(self.world, channel), guild_id_of(channel))

    def say(self, channel: Channel, user: User, words: str, *files: Upload) -> Message:
        """A person writes."""
        made = Message(self.world.new_id(), channel.id, user, self.world.now(), words)
        made.attachments = [upload(self.world, each, channel) for each in files]
        channel.messages[made.id] = made
        channel.last_message_id = made.id
        tell_message(self.world, "MESSAGE_CREATE", made)
        return made

    # --- commands -----------------------------------------------------------------------------------------

    async def imagine(self, channel: Channel, user: User, prompt: str, **options: Any) -> Interaction:
        """/imagine, until the bot has answered."""
        return await self.command(channel, user, "imagine", prompt=prompt, **options)

    async def command(self, channel: Channel, user: User, name: str, /, **options: Any) -> Interaction:
        """A slash command, until the bot has answered; name: "settings show" for a subcommand. Options are
        checked against the command as the bot registered it, as the client does; None: not given."""
        return await self.answered(self.type(channel, user, name, **options))

    def type(self, channel: Channel, user: User, name: str, /, **options: Any) -> Interaction:
        """A slash command, sent and not waited for."""
        return self.send(
            self._new(2, channel, user, command_data(self.world, channel, user, name, options), name)
        )

    def forge(self, channel: Channel, user: User, name: str, /, **options: Any) -> Interaction:
        """A slash command that no honest client would send: nothing is checked."""
        data = command_data(self.world, channel, user, name, options, checked=False)
        return self.send(self._new(2, channel, user, data, name))

    async def suggest(
        self, channel: Channel, user: User, name: str, option: str, value: str, **options: Any
    ) -> list[Json]:
        """What the bot suggests while `option` is typed: [{"name", "value"}]."""
        data = command_data(self.world, channel, user, name, options | {option: value}, checked=False)
        focus(data["options"], option, value)
        return (await self.answered(self.send(self._new(4, channel, user, data, name)))).choices

    async def menu(self, user: User, name: str, target: Message | User, channel: Channel) -> Interaction:
        """A context-menu command on a message or a user."""
        data = menu_data(self.world, channel, user, name, target)
        return await self.answered(self.send(self._new(2, channel, user, data, name)))

    # --- components and forms -----------------------------------------------------------------------------

    async def press(self, message: Message, button: str, user: User) -> Interaction:
        """A button, by its label or custom_id, until the bot has answered."""
        return await self.answered(self.click(message, button, user))

    def click(self, message: Message, button: str, user: User) -> Interaction:
        """A button, not waited for."""
        self._check_sees(message, user)
        named = [each for each in buttons(message) if button in (each.label, each.custom_id, each.emoji)]
        assert named, f"there is no {button!r} among {labels(message, disabled=True)}"
        assert not named[0].disabled, f"{button!r} is disabled"
        assert not named[0].url, f"{button!r} is a link"
        return self.forge_press(message, named[0].custom_id, user)

    def forge_press(
        self, message: Message, custom_id: str, user: User, *, kind: int = BUTTON, values: Sequence[str] = ()
    ) -> Interaction:
        """A press that no honest client would send: any custom_id."""
        every = [each for each in walk(message.components) if each.get("custom_id") == custom_id]
        data: Json = {"custom_id": custom_id, "component_type": kind, "id": every[0]["id"] if every else 1}
        if kind != BUTTON:
            data["values"] = list(values)
        made = self._new(3, self.world.channels[message.channel_id], user, data)
        made.message = message
        return self.send(made)

    async def choose(self, message: Message, menu: str, user: User, *values: str) -> Interaction:
        """Values of a select menu, by the labels or values; menu: its custom_id or placeholder."""
        self._check_sees(message, user)
        every = [each for each in walk(message.components) if each["type"] in SELECTS]
        found = [each for each in every if menu in (each["custom_id"], each.get("placeholder"))]
        assert found, f"there is no menu {menu!r}"
        assert not found[0].get("disabled"), f"the menu {menu!r} is disabled"
        kind, name = found[0]["type"], found[0]["custom_id"]
        chosen = [option_value(found[0], each) for each in values] if kind == 3 else list(values)
        return await self.answered(self.forge_press(message, name, user, kind=kind, values=chosen))

    async def submit(self, form: Interaction, values: Mapping[str, Any] | None = None) -> Interaction:
        """Send a form that an interaction opened; values by label or custom_id, the others as filled in."""
        assert form.modal is not None, "no form was opened"
        data = form_data(self.world, form.channel, form.modal, values or {})
        made = self._new(5, form.channel, form.user, data)
        made.message, made.trigger = form.message, form
        return await self.answered(self.send(made))

    def send(self, interaction: Interaction) -> Interaction:
        """Send an interaction to the bot; a second time: the same event again."""
        interaction.sent_at = interaction.sent_at or time.monotonic()
        interaction.payload = interaction.payload or interaction_json(self.world, interaction)
        self.world.tell("INTERACTION_CREATE", interaction.payload, guild_id_of(interaction.channel))
        return interaction

    # --- looking ------------------------------------------------------------------------------------------

    def original(self, interaction: Interaction) -> Message:
        """The message that answers an interaction, or that it changed."""
        assert interaction.original is not None, f"{interaction.answer} is no message\n{self.told()}"
        return interaction.original

    def messages(self, channel: Channel) -> list[Message]:
        """What a channel or thread shows, oldest first, without ephemeral ones."""
        return list(channel.messages.values())

    def private(self, user: User) -> list[Message]:
        """The ephemeral messages that one person sees, oldest first."""
        return [each for each in self.world.hidden.values() if each.private_to == user.id]

    def thread(self, message: Message) -> Channel | None:
        """The thread that was made from a message."""
        return self.world.channels.get(message.thread_id) if message.thread_id else None

    def pinged(self, user: User) -> list[Message]:
        """Messages that notified somebody."""
        whom = {str(user.id), "everyone"}
        for guild in self.world.guilds.values():
            member = guild.members.get(user.id)
            whom |= {f"&{each}" for each in member.roles} if member is not None else set()
        every = (each for channel in self.world.channels.values() for each in channel.messages.values())
        return [each for each in every if whom & each.pings]

    # --- parts --------------------------------------------------------------------------------------------

    def _new(self, kind: int, channel: Channel, user: User, data: Json, name: str = "") -> Interaction:
        world = self.world
        token = uuid.uuid4().hex * 4
        made = Interaction(world.new_id(), token, kind, user, channel, world.now(), data, channel.guild)
        made.name = name
        foreign = channel.type == DM and len(channel.recipients) > 1
        made.only_user_install = foreign or (channel.guild is not None and not channel.guild.joined)
        world.interactions[made.id] = world.by_token[token] = made
        return made

    def _check_sees(self, message: Message, user: User) -> None:
        assert not message.deleted, "the message was deleted"
        assert message.private_to in (None, user.id), f"{user.name} does not see this message"
