"""Where a request of the bot goes and whether it may: channels, messages, permissions, and what ends them."""

from __future__ import annotations

from discord import Permissions

from tests.fakes.discord_bodies import Body
from tests.fakes.discord_errors import Refused, invalid
from tests.fakes.discord_json import channel_json
from tests.fakes.discord_message_json import message_json
from tests.fakes.discord_rest import Call
from tests.fakes.discord_state import THREADS, TIER_LIMITS, Channel, Guild, Interaction, Json, Message, World


def gateway_of(world: World) -> str:
    """Where the gateway is."""
    return world.cdn.replace("http://", "ws://") + "/gateway"


def channel_of(call: Call) -> Channel:
    """The channel that a request names, if the bot may see it."""
    channel = call.world.channels.get(int(call.ids["channel_id"]))
    if channel is None:
        raise Refused(10003)
    if not call.world.permissions(call.world.me, channel).view_channel:
        raise Refused(50001)
    return channel


def message_of(call: Call) -> Message:
    """The message that a request names; ephemeral ones are not to be found so."""
    message = call.world.message(int(call.ids["message_id"]), int(call.ids["channel_id"]))
    if message is None:
        raise Refused(10008)
    return message


def need(world: World, channel: Channel, *permissions: str) -> None:
    """50013 where the bot lacks one of these."""
    own = world.permissions(world.me, channel)
    if not own.is_superset(Permissions(**dict.fromkeys(permissions, True))):
        raise Refused(50013)


def check_may_send(world: World, channel: Channel, body: Body) -> None:
    """Raise where the bot may not send this here."""
    if channel.guild is None:
        return
    need(world, channel, "send_messages_in_threads" if channel.is_thread else "send_messages")
    if body.files:
        need(world, channel, "attach_files")
    if channel.locked and not world.permissions(world.me, channel).manage_threads:
        raise Refused(160005)


def file_limit(channel: Channel) -> int:
    """Bytes that a file may have here."""
    return TIER_LIMITS[0] if channel.guild is None else channel.guild.file_limit


def guild_id_of(channel: Channel) -> int | None:
    """The id of its guild, None in direct messages."""
    return None if channel.guild is None else channel.guild.id


def tell_message(world: World, event: str, message: Message) -> None:
    """An event about a message; ephemeral ones are told to nobody."""
    guild_id = guild_id_of(world.channels[message.channel_id])

    def data() -> Json:
        told = message_json(world, message)
        return told if guild_id is None else told | {"guild_id": str(guild_id)}

    if message.private_to is None:
        world.tell(event, data, guild_id)


def drop_message(world: World, message: Message) -> None:
    """A message goes; its thread stays."""
    message.deleted = True
    world.hidden.pop(message.id, None)
    channel = world.channels.get(message.channel_id)
    if channel is None:
        return
    channel.messages.pop(message.id, None)
    gone: Json = {"id": str(message.id), "channel_id": str(channel.id)}
    if channel.guild is not None:
        gone["guild_id"] = str(channel.guild.id)
    if message.private_to is None:
        world.tell("MESSAGE_DELETE", gone, guild_id_of(channel))


def drop_guild(world: World, guild: Guild) -> None:
    """The bot is no longer in a guild."""
    del guild.members[world.me.id]
    world.tell("GUILD_DELETE", {"id": str(guild.id)}, guild.id)
    guild.joined = False


def drop_channel(world: World, channel: Channel) -> None:
    """A channel goes with its threads, or a thread alone."""
    assert channel.guild is not None
    guild = channel.guild
    if channel.is_thread:
        told = {"id": channel.id, "guild_id": guild.id, "parent_id": channel.parent_id}
        gone: Json = {key: str(value) for key, value in told.items()} | {"type": channel.type}
        guild.threads.pop(channel.id, None)
        event = "THREAD_DELETE"
    else:
        for each in [each for each in guild.threads.values() if each.parent_id == channel.id]:
            _forget(world, each)
            guild.threads.pop(each.id, None)
        gone, event = channel_json(world, channel), "CHANNEL_DELETE"
        guild.channels.pop(channel.id, None)
    _forget(world, channel)
    world.tell(event, gone, guild.id)


def _forget(world: World, channel: Channel) -> None:
    channel.deleted = True
    for message in channel.messages.values():
        message.deleted = True
    channel.messages.clear()
    world.channels.pop(channel.id, None)


def revive(world: World, thread: Channel) -> None:
    """A message in an archived thread opens it again."""
    thread.archived, thread.archived_at = False, world.now()
    world.tell("THREAD_UPDATE", lambda: channel_json(world, thread), guild_id_of(thread))


def make_thread(world: World, parent: Channel, thread_id: int, sent: Json, kind: int) -> Channel:
    """A thread at a channel; nobody is told."""
    name = sent.get("name") or ""
    if not 1 <= len(name) <= 100:
        raise invalid("name", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
    assert parent.guild is not None
    assert kind in THREADS
    made = Channel(thread_id, kind, name, parent.guild, parent.id, parent.nsfw, owner_id=world.me.id)
    made.created_at = made.archived_at = world.now()
    made.auto_archive = sent.get("auto_archive_duration") or 4320
    made.tags = [int(each) for each in sent.get("applied_tags") or ()]
    world.channels[made.id] = parent.guild.threads[made.id] = made
    return made


def must_hide(world: World, interaction: Interaction) -> bool:
    """Whether people here may use an application of their own only unseen by others."""
    if not interaction.only_user_install or interaction.guild is None:
        return False
    return not world.permissions(interaction.user, interaction.channel).use_external_apps
