"""What a client sends for a person: the data of commands, menus and submitted forms.

A client offers only what the bot registered, where and to whom it said, and checks what is typed;
`checked=False` sends it all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from discord import Permissions

from tests.fakes.discord_bodies import mime_of, safe_name, size_of
from tests.fakes.discord_json import channel_json, member_json, role_json, user_json
from tests.fakes.discord_message_json import attachment_json, message_json
from tests.fakes.discord_state import Attachment, Channel, Json, Message, Role, User, World

STRING, INTEGER, BOOLEAN, USER, ROLE, NUMBER, FILE = 3, 4, 5, 6, 8, 10, 11
CHAT, ON_USER, ON_MESSAGE = 1, 2, 3
TEXT_INPUT, STRING_SELECT, LABEL, TEXT, FILE_UPLOAD, RADIO, CHECKBOX = 4, 3, 18, 10, 19, 21, 23


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a person attaches to a command or a form."""

    filename: str
    data: bytes


def upload(world: World, file: Upload, channel: Channel) -> Attachment:
    """A file on its way into a message or an interaction."""
    name = safe_name(file.filename)
    made = Attachment(world.new_id(), name, file.data, mime_of(name), channel.id)
    made.size = size_of(file.data)
    world.attachments[made.id] = made
    return made


# --- commands ---------------------------------------------------------------------------------------------


def command_data(
    world: World, channel: Channel, user: User, name: str, options: Mapping[str, Any], *, checked: bool = True
) -> Json:
    """A slash command; name: "settings show" for a subcommand."""
    root, *subs = name.split()
    command = level = registered(world, root)
    if checked:
        _check_offered(world, command, channel, user)
    path: list[Json] = []
    for sub in subs:
        found = [each for each in level["options"] if each["name"] == sub]
        assert found, f"/{root} has no {sub!r}"
        path.append(level := found[0])
    filling = Filling(world, channel)
    given = filling.options(name, level.get("options") or (), options, checked=checked)
    for sub_command in reversed(path):
        given = [{"name": sub_command["name"], "type": sub_command["type"], "options": given}]
    return filling.done({"id": command["id"], "name": root, "type": CHAT, "options": given})


def focus(options: Sequence[Json], name: str, value: str) -> None:
    """Mark the option that is being typed."""
    for each in options:
        if each["name"] == name and "options" not in each:
            each |= {"focused": True, "value": value}
        focus(each.get("options") or (), name, value)


def menu_data(world: World, channel: Channel, user: User, name: str, target: Message | User) -> Json:
    """A context-menu command on a message or a user."""
    kind = ON_MESSAGE if isinstance(target, Message) else ON_USER
    command = registered(world, name, kind)
    _check_offered(world, command, channel, user)
    filling = Filling(world, channel)
    if isinstance(target, Message):
        filling.resolved["messages"] = {str(target.id): message_json(world, target)}
    else:
        filling.resolve(target)
    return filling.done({"id": command["id"], "name": name, "type": kind, "target_id": str(target.id)})


def registered(world: World, name: str, kind: int = CHAT) -> Json:
    """A command as the bot registered it."""
    found = [each for each in world.commands if (each["name"], each["type"]) == (name, kind)]
    assert found, f"the bot registered no {name!r}, only {[each['name'] for each in world.commands]}"
    return found[0]


def _check_offered(world: World, command: Json, channel: Channel, user: User) -> None:
    name, contexts, needed = command["name"], command.get("contexts"), command["default_member_permissions"]
    here = 0 if channel.guild is not None else (1 if len(channel.recipients) < 2 else 2)
    assert contexts is None or here in contexts, f"/{name} is not offered here"
    if command.get("nsfw"):
        assert world.parent(channel).nsfw, f"/{name} is for age-restricted channels"
    if needed is not None and channel.guild is not None:
        own = world.permissions(user, channel)
        assert own.is_superset(Permissions(int(needed))), f"/{name} is not offered to {user.name}"


# --- forms ------------------------------------------------------------------------------------------------


def form_data(world: World, channel: Channel, form: Json, values: Mapping[str, Any]) -> Json:
    """A submitted form; values by label or custom_id, the others as the bot had filled them in."""
    left, filling = dict(values), Filling(world, channel)
    parts = [filling.part(each, left) for each in form["components"]]
    assert not left, f"the form has no {sorted(left)}"
    return filling.done({"custom_id": form["custom_id"], "components": parts})


def option_value(menu: Json, chosen: str) -> str:
    """The value of a select menu's option, by its label or value."""
    for each in menu["options"]:
        if chosen in (each["label"], each["value"]):
            return str(each["value"])
    offered = [each["label"] for each in menu["options"]]
    raise AssertionError(f"{menu['custom_id']} has no {chosen!r}, only {offered}")


# --- filling in -------------------------------------------------------------------------------------------


@dataclass
class Filling:
    """Values that become data, and what they name: `resolved`."""

    world: World
    channel: Channel
    resolved: Json = field(default_factory=dict)

    def done(self, data: Json) -> Json:
        """The data with what it names."""
        return data | ({"resolved": self.resolved} if self.resolved else {})

    def options(
        self, name: str, known: Sequence[Json], given: Mapping[str, Any], *, checked: bool
    ) -> list[Json]:
        """Options of a command; None: not given."""
        by_name = {each["name"]: each for each in known}
        missing = [key for key, each in by_name.items() if each.get("required") and given.get(key) is None]
        assert not (checked and missing), f"/{name} needs {missing}"
        made = []
        for key, value in given.items():
            option = by_name.get(key)
            assert option is not None or not checked, f"/{name} has no option {key!r}, only {sorted(by_name)}"
            if checked and option is not None and value is not None:
                _check_value(option, value)
            if value is not None:
                kind = STRING if option is None else option["type"]
                made.append({"name": key, "type": kind, "value": self.value(value)})
        return made

    def value(self, value: Any) -> Any:
        """A value as it is sent: what is no plain value by its id."""
        if isinstance(value, Upload):
            file = upload(self.world, value, self.channel)
            file.ephemeral = True
            told = attachment_json(self.world, file)
            self.resolved.setdefault("attachments", {})[str(file.id)] = told
            return str(file.id)
        return self.resolve(value) if isinstance(value, User | Channel | Role) else value

    def resolve(self, value: User | Channel | Role) -> str:
        """Put somebody or something into `resolved`; its id."""
        key, guild = str(value.id), self.channel.guild
        if isinstance(value, Channel):
            told = channel_json(self.world, value, self.world.owner)
            self.resolved.setdefault("channels", {})[key] = told
        elif isinstance(value, Role):
            self.resolved.setdefault("roles", {})[key] = role_json(value)
        else:
            self.resolved.setdefault("users", {})[key] = user_json(value)
            member = guild.members.get(value.id) if guild is not None else None
            if member is not None:
                permissions = str(self.world.permissions(value, self.channel).value)
                seen = member_json(self.world, member, with_user=False) | {"permissions": permissions}
                self.resolved.setdefault("members", {})[key] = seen
        return key

    def part(self, part: Json, left: dict[str, Any]) -> Json:
        """A part of a form; what it takes leaves `left`."""
        if part["type"] == TEXT:
            return {"type": TEXT, "id": part.get("id", 0)}
        inner = part["component"] if part["type"] == LABEL else part["components"][0]
        names = (part.get("label"), inner.get("label"), inner["custom_id"])
        key = next((each for each in names if each in left), None)
        answer = {"type": inner["type"], "custom_id": inner["custom_id"], "id": inner.get("id", 0)}
        answer |= self._answer(inner, None if key is None else left.pop(key))
        made: Json = {"type": part["type"], "id": part.get("id", 0)}
        return made | ({"component": answer} if part["type"] == LABEL else {"components": [answer]})

    def _answer(self, inner: Json, given: Any) -> Json:
        kind = inner["type"]
        if kind == TEXT_INPUT:
            return {"value": _typed(inner, given)}
        if kind in (RADIO, CHECKBOX):
            return {"value": given}
        if kind == STRING_SELECT:
            chosen = [each["value"] for each in inner["options"] if each.get("default")]
            values = chosen if given is None else [option_value(inner, each) for each in _listed(given)]
        elif given is None:
            values = [str(each["id"]) for each in inner.get("default_values") or ()]
        else:
            values = [str(self.value(each)) for each in _listed(given)]
        least, most = inner.get("min_values", 1), inner.get("max_values", 1)
        optional = not inner.get("required", True) and not values
        assert optional or least <= len(values) <= most, (
            f"{inner['custom_id']} takes {least} to {most} values"
        )
        return {"values": values}


def _typed(field_: Json, given: Any) -> str:
    value = str(field_.get("value") or "" if given is None else given)
    name, most, least = field_["custom_id"], field_.get("max_length") or 4000, field_.get("min_length") or 0
    assert len(value) <= most, f"{name} takes {most} characters"
    assert value or not field_.get("required", True), f"{name} is required"
    assert not value or len(value) >= least, f"{name} needs {least} characters"
    return value


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_value(option: Json, value: Any) -> None:
    name, kind = option["name"], option["type"]
    types: dict[int, Any] = {STRING: str, INTEGER: int, BOOLEAN: bool, NUMBER: int | float}
    types |= {FILE: Upload, USER: User, ROLE: Role}
    assert isinstance(value, types.get(kind, object)), f"{name} takes no {value!r}"
    choices = [each["value"] for each in option.get("choices") or ()]
    assert not choices or value in choices, f"{name} is one of {choices}"
    least, most = option.get("min_value"), option.get("max_value")
    assert least is None or value >= least, f"{name} is at least {least}"
    assert most is None or value <= most, f"{name} is at most {most}"
    if kind == STRING:
        least, most = option.get("min_length", 0), option.get("max_length", 6000)
        assert least <= len(value) <= most, f"{name} has {least} to {most} characters"
