"""The world of the local Discord: guilds, channels, threads, people, messages, interactions.

Plain values and the rules that need no request: ids, permissions, who may see what. Nothing here knows HTTP
or the gateway; `World.tell` is where events go out, and `World.changed` wakes whoever waits for a change.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from discord import Permissions

from tests.fakes.discord_changes import Changes

Json: TypeAlias = dict[str, Any]

EPOCH_MS = 1_420_070_400_000
TOKEN_LIFE, FIRST_RESPONSE = 900.0, 3.0  # seconds
EPHEMERAL, LOADING, V2 = 64, 128, 1 << 15
TEXT, DM, VOICE, CATEGORY, NEWS, FORUM, MEDIA = 0, 1, 2, 4, 5, 15, 16
NEWS_THREAD, PUBLIC_THREAD, PRIVATE_THREAD = 10, 11, 12
THREADS = frozenset({NEWS_THREAD, PUBLIC_THREAD, PRIVATE_THREAD})
MIB = 2**20
TIER_LIMITS = (10 * MIB, 10 * MIB, 50 * MIB, 100 * MIB)

EVERYBODY = Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    create_public_threads=True,
    embed_links=True,
    attach_files=True,
    read_message_history=True,
    use_application_commands=True,
    add_reactions=True,
).value


@dataclass(slots=True, eq=False)
class User:
    """An account. installed: the application is installed to it, for use anywhere."""

    id: int
    name: str
    bot: bool = False
    locale: str = "en-US"
    installed: bool = False

    @property
    def mention(self) -> str:
        """How a message names them."""
        return f"<@{self.id}>"


@dataclass(slots=True, eq=False)
class Role:
    """A role; its permissions add to those of @everyone, the role with the guild's id."""

    id: int
    name: str
    permissions: int = 0
    position: int = 1
    mentionable: bool = False


@dataclass(slots=True, eq=False)
class Member:
    """A user in a guild."""

    user: User
    roles: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Overwrite:
    """What a channel allows or denies a role or a member."""

    id: int
    is_member: bool
    allow: int = 0
    deny: int = 0


@dataclass(slots=True, eq=False)
class Attachment:
    """A file at a message."""

    id: int
    filename: str
    data: bytes
    mime: str
    channel_id: int
    description: str | None = None
    size: tuple[int, int] | None = None
    ephemeral: bool = False
    spoiler: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a message. at: by the world's clock; body: what the bot sent; by: "token" or "bot"."""

    at: float
    body: Json
    files: tuple[str, ...]
    by: str


@dataclass(slots=True, eq=False)
class Message:
    """A message. components: as Discord answers them, ids and media resolved; loading: "thinking...";
    private_to: the one person that sees it, for an ephemeral one. mentions: whom it names with effect, as of
    its last edit; pings: whom it notified, once, when it was made. Both hold user ids, "&" and role ids, and
    "everyone"."""

    id: int
    channel_id: int
    author: User
    at: float
    content: str = ""
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    flags: int = 0
    type: int = 0
    edited_at: float | None = None
    nonce: str | int | None = None
    reference: Json | None = None
    interaction: Interaction | None = None
    allowed_mentions: Json | None = None
    mentions: set[str] = field(default_factory=set)
    pings: set[str] = field(default_factory=set)
    edits: list[Edit] = field(default_factory=list)
    private_to: int | None = None
    thread_id: int | None = None
    deleted: bool = False

    @property
    def loading(self) -> bool:
        """Whether people see "thinking...", as after a deferral."""
        return bool(self.flags & LOADING)

    @property
    def ephemeral(self) -> bool:
        """Whether one person alone sees it."""
        return bool(self.flags & EPHEMERAL)


@dataclass(slots=True, eq=False)
class Channel:
    """A channel, a thread (parent_id: its channel) or a DM (recipients)."""

    id: int
    type: int
    name: str
    guild: Guild | None = None
    parent_id: int | None = None
    nsfw: bool = False
    position: int = 0
    overwrites: list[Overwrite] = field(default_factory=list)
    messages: dict[int, Message] = field(default_factory=dict)
    recipients: list[User] = field(default_factory=list)
    owner_id: int = 0
    archived: bool = False
    locked: bool = False
    auto_archive: int = 4320
    created_at: float = 0.0
    archived_at: float = 0.0
    sent: int = 0
    tags: list[int] = field(default_factory=list)
    last_message_id: int | None = None
    deleted: bool = False

    @property
    def is_thread(self) -> bool:
        """Whether it hangs at another channel."""
        return self.type in THREADS

    @property
    def mention(self) -> str:
        """How a message names it."""
        return f"<#{self.id}>"


@dataclass(slots=True, eq=False)
class Guild:
    """A server. joined: the bot is in it; tier: its boosts, which set the file limit."""

    id: int
    name: str
    owner: User
    tier: int = 0
    locale: str = "en-US"
    joined: bool = True
    roles: dict[int, Role] = field(default_factory=dict)
    members: dict[int, Member] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    threads: dict[int, Channel] = field(default_factory=dict)

    @property
    def file_limit(self) -> int:
        """Bytes that one file may have."""
        return TIER_LIMITS[self.tier]


@dataclass(slots=True, eq=False)
class Interaction:
    """Something that a person did with the bot. kind: 2 command, 3 component, 4 autocomplete, 5 modal submit.

    answer: the type of the first response (4 to 9), None before it; original: the message that @original
    names; modal: what a response of type 9 shows; choices: what one of type 8 offers; sent_at, answered_at:
    by the machine's monotonic clock, for measurements.
    """

    id: int
    token: str
    kind: int
    user: User
    channel: Channel
    at: float
    data: Json
    guild: Guild | None = None
    only_user_install: bool = False
    name: str = ""
    message: Message | None = None
    answer: int | None = None
    original: Message | None = None
    modal: Json | None = None
    choices: list[Json] = field(default_factory=list)
    followups: list[Message] = field(default_factory=list)
    trigger: Interaction | None = None
    sent_at: float = 0.0
    answered_at: float | None = None
    payload: Json = field(default_factory=dict)


class World:
    """Everything that exists. now: Unix seconds, may be a test's own clock."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self.changes = Changes()
        self.users: dict[int, User] = {}
        self.guilds: dict[int, Guild] = {}
        self.channels: dict[int, Channel] = {}
        self.hidden: dict[int, Message] = {}  # ephemeral messages, which no channel lists
        self.interactions: dict[int, Interaction] = {}
        self.by_token: dict[str, Interaction] = {}
        self.attachments: dict[int, Attachment] = {}
        self.commands: list[Json] = []
        self.listeners: list[Callable[[str, Json | Callable[[], Json], int | None], None]] = []
        self.cdn = ""  # the address that attachments are served at
        self._dms: dict[int, Channel] = {}
        self._last_id = 0
        self._guilds = itertools.count(1)
        self._first_guild = int(now() * 1000) - EPOCH_MS - 86_400_000
        self.me = self.add_user("fairbrush", bot=True)
        self.owner = self.add_user("operator")

    # --- ids ----------------------------------------------------------------------------------------------

    def new_id(self) -> int:
        """A snowflake of now; they ascend even while the clock stands still."""
        floor = (int(self.now() * 1000) - EPOCH_MS) << 22
        self._last_id = max(floor, self._last_id + 1)
        return self._last_id

    def iso(self, at: float | None = None) -> str:
        """A time as Discord writes it."""
        return datetime.fromtimestamp(self.now() if at is None else at, UTC).isoformat()

    # --- who and where ------------------------------------------------------------------------------------

    def add_user(self, name: str, *, bot: bool = False) -> User:
        """A new account."""
        user = User(self.new_id(), name, bot)
        self.users[user.id] = user
        return user

    def add_guild(self, name: str, *, owner: User | None = None, tier: int = 0, joined: bool = True) -> Guild:
        """A new server, without channels; where `joined`, the bot is a member from the start."""
        made = Guild((self._first_guild + next(self._guilds)) << 22, name, owner or self.owner, tier)
        made.roles[made.id] = Role(made.id, "@everyone", EVERYBODY, 0)
        made.members[made.owner.id] = Member(made.owner)
        made.joined = joined
        if joined:
            made.members[self.me.id] = Member(self.me)
        self.guilds[made.id] = made
        return made

    def add_channel(
        self, guild: Guild, name: str, kind: int = TEXT, *, nsfw: bool = False, parent_id: int | None = None
    ) -> Channel:
        """A new channel; nobody is told."""
        made = Channel(self.new_id(), kind, name, guild, parent_id, nsfw, len(guild.channels))
        guild.channels[made.id] = self.channels[made.id] = made
        return made

    def dm(self, user: User) -> Channel:
        """The direct messages between the bot and a user."""
        made = self._dms.get(user.id)
        if made is None:
            made = self._dms[user.id] = Channel(self.new_id(), DM, "", recipients=[user])
            self.channels[made.id] = made
        return made

    def foreign_dm(self, *users: User) -> Channel:
        """A conversation between people, which the bot is no part of."""
        made = Channel(self.new_id(), DM, "", recipients=list(users))
        self.channels[made.id] = made
        return made

    def parent(self, channel: Channel) -> Channel:
        """The channel whose permissions count: a thread's own is its parent."""
        return self.channels[channel.parent_id] if channel.is_thread and channel.parent_id else channel

    # --- permissions --------------------------------------------------------------------------------------

    def permissions(self, user: User, channel: Channel) -> Permissions:
        """What a user may do in a channel."""
        guild = channel.guild
        if guild is None:
            mine = user is self.me and len(channel.recipients) == 1
            return Permissions.all() if mine or user in channel.recipients else Permissions.none()
        member = guild.members.get(user.id)
        if member is None:
            return Permissions.none()
        return Permissions(_channel_permissions(guild, self.parent(channel), member))

    def allow(self, channel: Channel, user: User, **permissions: bool) -> None:
        """Set a member's own overwrite of a channel: `send_messages=False` denies."""
        allow = Permissions(**{name: True for name, value in permissions.items() if value}).value
        deny = Permissions(**{name: True for name, value in permissions.items() if not value}).value
        mine = next((each for each in channel.overwrites if each.id == user.id), None)
        if mine is None:
            channel.overwrites.append(mine := Overwrite(user.id, True))
        mine.allow, mine.deny = (mine.allow | allow) & ~deny, (mine.deny | deny) & ~allow

    # --- what happens -------------------------------------------------------------------------------------

    def tell(self, event: str, data: Json | Callable[[], Json], guild_id: int | None) -> None:
        """Send an event to every gateway session that it concerns."""
        for listener in self.listeners:
            listener(event, data, guild_id)
        self.changes.tell()

    def message(self, message_id: int, channel_id: int | None = None) -> Message | None:
        """A message that is there, ephemeral ones too where no channel is named."""
        if channel_id is not None:
            channel = self.channels.get(channel_id)
            found = channel.messages.get(message_id) if channel is not None else None
        else:
            found = self.hidden.get(message_id) or next(iter(self._everywhere(message_id)), None)
        return found if found is not None and not found.deleted else None

    def _everywhere(self, message_id: int) -> Iterable[Message]:
        return (each.messages[message_id] for each in self.channels.values() if message_id in each.messages)


def _channel_permissions(guild: Guild, channel: Channel, member: Member) -> int:
    roles = [guild.roles[guild.id], *(guild.roles[each] for each in member.roles if each in guild.roles)]
    base = 0
    for role in roles:
        base |= role.permissions
    if guild.owner is member.user or base & Permissions(administrator=True).value:
        return Permissions.all().value
    own = {role.id for role in roles}
    for group in (
        [each for each in channel.overwrites if each.id == guild.id],
        [each for each in channel.overwrites if not each.is_member and each.id in own - {guild.id}],
        [each for each in channel.overwrites if each.is_member and each.id == member.user.id],
    ):
        denied = allowed = 0
        for overwrite in group:
            denied, allowed = denied | overwrite.deny, allowed | overwrite.allow
        base = base & ~denied | allowed
    return base if base & Permissions(view_channel=True).value else 0
