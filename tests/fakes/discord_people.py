"""What people at the local Discord do and see."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from discord import Permissions

from tests.fakes.discord_bodies import mime_of, safe_name, size_of, text_of
from tests.fakes.discord_components import BUTTON, GALLERY, SELECTS, walk
from tests.fakes.discord_json import (
    attachment_json,
    channel_json,
    guild_json,
    interaction_json,
    member_json,
    message_json,
    role_json,
    user_json,
)
from tests.fakes.discord_state import (
    DM,
    Attachment,
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

T = TypeVar("T")
SUB_COMMAND, SUB_GROUP, STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE, NUMBER, FILE = range(
    1, 12
)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a person attaches to a command or a form."""

    filename: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Button:
    """A button as people see it."""

    label: str
    custom_id: str
    disabled: bool
    style: int
    url: str = ""
    emoji: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An item of a gallery. data: the attachment's bytes."""

    filename: str
    description: str | None
    spoiler: bool
    data: bytes
    width: int | None
    height: int | None


# --- looking at a message ---------------------------------------------------------------------------------


def text(message: Message) -> str:
    """All its words, in order: content, text displays, embeds."""
    return text_of(message)


def buttons(message: Message) -> list[Button]:
    """Its buttons, in order."""
    return [
        Button(
            each.get("label", ""),
            each.get("custom_id", ""),
            bool(each.get("disabled")),
            each["style"],
            each.get("url") or "",
            (each.get("emoji") or {}).get("name", ""),
        )
        for each in walk(message.components)
        if each["type"] == BUTTON
    ]


def labels(message: Message, *, disabled: bool = False) -> list[str]:
    """What its usable buttons say; with `disabled`, the others too."""
    return [each.label or each.emoji for each in buttons(message) if disabled or not each.disabled]


def pictures(message: Message) -> list[Picture]:
    """What its galleries show, in order; without a gallery its attached pictures."""
    by_id = {str(each.id): each for each in message.attachments}
    items = [item for each in walk(message.components) if each["type"] == GALLERY for item in each["items"]]
    shown = [
        _picture(by_id[item["media"]["attachment_id"]], item["description"], item["spoiler"])
        for item in items
        if "attachment_id" in item["media"]
    ]
    if items:
        return shown
    plain = [each for each in message.attachments if each.mime.startswith("image/")]
    return [_picture(each, each.description, each.spoiler) for each in plain]


def _picture(file: Attachment, description: str | None, spoiler: bool) -> Picture:
    width, height = file.size or (None, None)
    return Picture(file.filename, description, spoiler or file.spoiler, file.data, width, height)


# --- doing ------------------------------------------------------------------------------------------------


class People:
    """What tests do and look at; the methods that wait do so for the bot's first response."""

    world: World
    patience = 10.0  # real seconds

    # --- waiting ------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], T], seconds: float | None = None, what: str = "") -> T:
        """Wait until something is so, looking again after each change here; its value."""
        end = time.monotonic() + (seconds or self.patience)
        while not (value := condition()):
            left = end - time.monotonic()
            try:
                await asyncio.wait_for(self.world.changes.wait(), max(left, 0.001))
            except TimeoutError:
                if value := condition():
                    return value
                raise AssertionError(f"it never came to that: {what or condition}\n{self.told()}") from None
        return value

    def told(self) -> str:
        """Everything that is visible, for a failing test."""
        lines = []
        for channel in self.world.channels.values():
            lines += [f"#{channel.name}: {_line(each)}" for each in channel.messages.values()]
        lines += [f"(to {each.private_to}): {_line(each)}" for each in self.world.hidden.values()]
        return "\n".join(lines[-40:])

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

    def channel(self, guild: Guild, name: str, kind: int = 0, *, nsfw: bool = False) -> Channel:
        """The channel of this name, made where there is none; kind: 0 text, 2 voice, 5 news, 15 forum."""
        for each in guild.channels.values():
            if each.name == name:
                return each
        made = self.world.add_channel(guild, name, kind, nsfw=nsfw)
        self.world.tell("CHANNEL_CREATE", lambda: channel_json(self.world, made), guild.id)
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

    def say(self, channel: Channel, user: User, words: str, *files: Upload) -> Message:
        """A person writes."""
        made = Message(self.world.new_id(), channel.id, user, self.world.now(), words)
        made.attachments = [self._upload(each, channel) for each in files]
        channel.messages[made.id] = made
        self.world.tell("MESSAGE_CREATE", lambda: message_json(self.world, made), _guild_id(channel))
        return made

    # --- commands -----------------------------------------------------------------------------------------

    async def imagine(self, channel: Channel, user: User, prompt: str, **options: Any) -> Interaction:
        """/imagine, until the bot has answered."""
        return await self.command(channel, user, "imagine", prompt=prompt, **options)

    async def command(self, channel: Channel, user: User, name: str, **options: Any) -> Interaction:
        """A slash command, until the bot has answered; name: "settings show" for a subcommand. Options are
        checked against the command as the bot registered it, as the client does."""
        return await self.answered(self.type(channel, user, name, **options))

    def type(self, channel: Channel, user: User, name: str, **options: Any) -> Interaction:
        """A slash command, sent and not waited for."""
        root, data = self._command_data(channel, user, name, options, checked=True)
        return self.send(self._new(2, channel, user, data, name=root))

    def forge(self, channel: Channel, user: User, name: str, **options: Any) -> Interaction:
        """A slash command that no honest client would send: nothing is checked."""
        root, data = self._command_data(channel, user, name, options, checked=False)
        return self.send(self._new(2, channel, user, data, name=root))

    async def suggest(
        self, channel: Channel, user: User, name: str, option: str, value: str, **options: Any
    ) -> list[Json]:
        """What the bot suggests while `option` is typed: [{"name", "value"}]."""
        _, data = self._command_data(channel, user, name, options | {option: value}, checked=False)
        _focus(data["options"], option, value)
        return (await self.answered(self.send(self._new(4, channel, user, data, name=name)))).choices

    async def menu(self, user: User, name: str, target: Message | User, channel: Channel) -> Interaction:
        """A context-menu command on a message or a user."""
        kind = 3 if isinstance(target, Message) else 2
        command = self._registered(name, kind)
        data: Json = {"id": command["id"], "name": name, "type": kind, "target_id": str(target.id)}
        if isinstance(target, Message):
            data["resolved"] = {"messages": {str(target.id): message_json(self.world, target)}}
        else:
            data["resolved"] = {"users": {str(target.id): user_json(target)}}
            if channel.guild is not None and target.id in channel.guild.members:
                member = member_json(self.world, channel.guild.members[target.id], with_user=False)
                data["resolved"]["members"] = {str(target.id): member | {"permissions": "0"}}
        return await self.answered(self.send(self._new(2, channel, user, data, name=name)))

    # --- components and forms -----------------------------------------------------------------------------

    async def press(self, message: Message, button: str, user: User) -> Interaction:
        """A button, by its label or custom_id, until the bot has answered."""
        return await self.answered(self.click(message, button, user))

    def click(self, message: Message, button: str, user: User) -> Interaction:
        """A button, not waited for."""
        self._check_sees(message, user)
        found = next(
            (
                each
                for each in buttons(message)
                if button in (each.label, each.custom_id, each.emoji)
                if button
            ),
            None,
        )
        assert found is not None, f"there is no {button!r} among {labels(message, disabled=True)}"
        assert not found.disabled, f"{button!r} is disabled"
        assert not found.url, f"{button!r} is a link"
        return self.forge_press(message, found.custom_id, user)

    def forge_press(
        self, message: Message, custom_id: str, user: User, *, kind: int = BUTTON, values: Sequence[str] = ()
    ) -> Interaction:
        """A press that no honest client would send: any custom_id."""
        data: Json = {"custom_id": custom_id, "component_type": kind, "id": 1}
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
        chosen = [_option(found[0], each) for each in values] if found[0]["type"] == 3 else list(values)
        kind, name = found[0]["type"], found[0]["custom_id"]
        return await self.answered(self.forge_press(message, name, user, kind=kind, values=chosen))

    async def submit(self, form: Interaction, values: Mapping[str, Any] | None = None) -> Interaction:
        """Send a form that an interaction opened; values by label or custom_id, the others as filled in."""
        assert form.modal is not None, "no form was opened"
        left = dict(values or {})
        resolved: Json = {}
        parts = [self._filled(each, left, resolved, form.channel) for each in form.modal["components"]]
        assert not left, f"the form has no {sorted(left)}"
        data: Json = {"custom_id": form.modal["custom_id"], "components": parts}
        if resolved:
            data["resolved"] = resolved
        made = self._new(5, form.channel, form.user, data)
        made.message, made.trigger = form.message, form
        return await self.answered(self.send(made))

    # --- looking ------------------------------------------------------------------------------------------

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
        return [
            each
            for channel in self.world.channels.values()
            for each in channel.messages.values()
            if str(user.id) in each.pings or "everyone" in each.pings
        ]

    async def answered(self, interaction: Interaction) -> Interaction:
        """Wait for the first response."""
        await self.until(lambda: interaction.answer is not None, what=f"an answer to {interaction.name}")
        return interaction

    # --- parts --------------------------------------------------------------------------------------------

    def send(self, interaction: Interaction) -> Interaction:
        """Send an interaction to the bot; again: the same event twice."""
        interaction.sent_at = interaction.sent_at or time.monotonic()
        payload = interaction.payload or interaction_json(self.world, interaction)
        interaction.payload = payload
        self.world.tell("INTERACTION_CREATE", payload, _guild_id(interaction.channel))
        return interaction

    def _new(self, kind: int, channel: Channel, user: User, data: Json, *, name: str = "") -> Interaction:
        world = self.world
        token = uuid.uuid4().hex * 4
        made = Interaction(world.new_id(), token, kind, user, channel, world.now(), data, channel.guild)
        made.name = name
        made.only_user_install = channel.guild is not None and not channel.guild.joined
        if channel.type == DM and len(channel.recipients) > 1:
            made.only_user_install = True
        world.interactions[made.id] = world.by_token[token] = made
        return made

    def _registered(self, name: str, kind: int = 1) -> Json:
        found = [each for each in self.world.commands if (each["name"], each["type"]) == (name, kind)]
        assert found, f"the bot registered no {name!r}, only {[each['name'] for each in self.world.commands]}"
        return found[0]

    def _command_data(
        self, channel: Channel, user: User, name: str, options: Mapping[str, Any], *, checked: bool
    ) -> tuple[str, Json]:
        root, *subs = name.split()
        command = self._registered(root)
        if checked:
            self._check_offered(command, channel, user)
        resolved: Json = {}
        level, path = command, []
        for sub in subs:
            level = next(each for each in level["options"] if each["name"] == sub)
            path.append(level)
        known = {each["name"]: each for each in level.get("options") or ()}
        given = [
            self._value(known.get(key), key, value, resolved, channel, checked)
            for key, value in options.items()
            if value is not None
        ]
        missing = [key for key, each in known.items() if each.get("required") and options.get(key) is None]
        assert not (checked and missing), f"/{name} needs {missing}"
        for sub in reversed(path):
            given = [{"name": sub["name"], "type": sub["type"], "options": given}]
        data: Json = {"id": command["id"], "name": root, "type": 1, "options": given}
        return root, data | ({"resolved": resolved} if resolved else {})

    def _check_offered(self, command: Json, channel: Channel, user: User) -> None:
        """The client offers a command only where and to whom the bot said."""
        contexts = command.get("contexts")
        here = 0 if channel.guild is not None else (1 if len(channel.recipients) < 2 else 2)
        assert contexts is None or here in contexts, f"/{command['name']} is not offered here"
        if command.get("nsfw"):
            assert self.world.parent(channel).nsfw, f"/{command['name']} is for age-restricted channels"
        needed = command["default_member_permissions"]
        if needed is not None and channel.guild is not None:
            own = self.world.permissions(user, channel)
            assert own.is_superset(Permissions(int(needed))), (
                f"/{command['name']} is not offered to {user.name}"
            )

    def _value(
        self, option: Json | None, name: str, value: Any, resolved: Json, channel: Channel, checked: bool
    ) -> Json:
        assert option is not None or not checked, f"there is no option {name!r}"
        kind = option["type"] if option is not None else STRING
        if checked and option is not None:
            _check_value(option, value)
        if isinstance(value, Upload):
            file = self._upload(value, channel)
            file.ephemeral = True
            resolved.setdefault("attachments", {})[str(file.id)] = attachment_json(self.world, file)
            value = str(file.id)
        elif isinstance(value, User | Channel | Role):
            value = self._resolve(value, resolved, channel)
        return {"name": name, "type": kind, "value": value}

    def _resolve(self, value: User | Channel | Role, resolved: Json, channel: Channel) -> str:
        key = str(value.id)
        if isinstance(value, Channel):
            resolved.setdefault("channels", {})[key] = channel_json(self.world, value, self.world.owner)
        elif isinstance(value, Role):
            resolved.setdefault("roles", {})[key] = role_json(value)
        else:
            resolved.setdefault("users", {})[key] = user_json(value)
            member = channel.guild.members.get(value.id) if channel.guild is not None else None
            if member is not None:
                told = member_json(self.world, member, with_user=False) | {"permissions": "0"}
                resolved.setdefault("members", {})[key] = told
        return key

    def _upload(self, file: Upload, channel: Channel) -> Attachment:
        name = safe_name(file.filename)
        made = Attachment(self.world.new_id(), name, file.data, mime_of(name), channel.id)
        made.size = size_of(file.data)
        self.world.attachments[made.id] = made
        return made

    def _check_sees(self, message: Message, user: User) -> None:
        assert not message.deleted, "the message was deleted"
        assert message.private_to in (None, user.id), f"{user.name} does not see this message"

    def _filled(self, part: Json, left: dict[str, Any], resolved: Json, channel: Channel) -> Json:
        """A part of a submitted form."""
        if part["type"] == 10:
            return {"type": 10, "id": 0}
        inner = part["component"] if part["type"] == 18 else part["components"][0]
        names = (part.get("label"), inner.get("label"), inner["custom_id"])
        key = next((each for each in names if each in left), None)
        answer = {"type": inner["type"], "custom_id": inner["custom_id"], "id": 0}
        answer |= self._answer(inner, None if key is None else left.pop(key), resolved, channel)
        return {"type": 18, "id": 0, "component": answer} if part["type"] == 18 else _row(answer)

    def _answer(self, inner: Json, given: Any, resolved: Json, channel: Channel) -> Json:
        kind = inner["type"]
        if kind == 4:
            value = str(inner.get("value") or "" if given is None else given)
            most, least = inner.get("max_length") or 4000, inner.get("min_length") or 0
            assert len(value) <= most, f"{inner['custom_id']} takes {most} characters"
            assert len(value) >= least, f"{inner['custom_id']} needs {least} characters"
            assert value or not inner.get("required", True), f"{inner['custom_id']} is required"
            return {"value": value}
        if kind == 3:
            chosen = [each["value"] for each in inner["options"] if each.get("default")]
            return {"values": chosen if given is None else [_option(inner, each) for each in _listed(given)]}
        if kind in (21, 23):
            return {"value": given}
        if kind == 19:
            files = [self._upload(each, channel) for each in _listed(given)]
            told = {str(each.id): attachment_json(self.world, each) for each in files}
            resolved.setdefault("attachments", {}).update(told)
            return {"values": list(told)}
        if given is None:
            return {"values": [str(each["id"]) for each in inner.get("default_values") or ()]}
        return {"values": [self._resolve(each, resolved, channel) for each in _listed(given)]}


# --- helpers ----------------------------------------------------------------------------------------------


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _row(answer: Json) -> Json:
    return {"type": 1, "id": 0, "components": [answer]}


def _option(menu: Json, chosen: str) -> str:
    for each in menu["options"]:
        if chosen in (each["label"], each["value"]):
            return str(each["value"])
    raise AssertionError(
        f"{menu['custom_id']} has no {chosen!r}, only {[e['label'] for e in menu['options']]}"
    )


def _focus(options: list[Json], name: str, value: str) -> None:
    for each in options:
        if each["name"] == name and "options" not in each:
            each |= {"focused": True, "value": value}
        _focus(each.get("options") or [], name, value)


def _check_value(option: Json, value: Any) -> None:
    name, kind = option["name"], option["type"]
    types = {
        STRING: str,
        INTEGER: int,
        BOOLEAN: bool,
        NUMBER: int | float,
        FILE: Upload,
        USER: User,
        ROLE: Role,
    }
    if kind in types:
        assert isinstance(value, types[kind]), f"{name} takes no {value!r}"
    choices = [each["value"] for each in option.get("choices") or ()]
    assert not choices or value in choices, f"{name} is one of {choices}"
    for key, wrong in (("min_value", lambda least: value < least), ("max_value", lambda most: value > most)):
        assert option.get(key) is None or not wrong(option[key]), f"{name}: {key} is {option[key]}"
    if kind == STRING:
        assert option.get("min_length", 0) <= len(value) <= option.get("max_length", 6000), f"{name}: length"


def _line(message: Message) -> str:
    shown = text(message).replace("\n", " / ")
    files = f"+{len(message.attachments)} files, flags {message.flags}"
    return f"{message.author.name}: {shown} {labels(message)} {files}"


def _guild_id(channel: Channel) -> int | None:
    return None if channel.guild is None else channel.guild.id
