"""What a bot may ask about channels, threads and messages, with its own token."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fakes.discord_about import About
from tests.fakes.discord_bodies import Body, create, edit
from tests.fakes.discord_errors import Refused, invalid
from tests.fakes.discord_json import (
    channel_json,
)
from tests.fakes.discord_message_json import message_json
from tests.fakes.discord_places import (
    channel_of,
    check_may_send,
    drop_channel,
    drop_message,
    file_limit,
    guild_id_of,
    make_thread,
    message_of,
    need,
    revive,
    tell_message,
)
from tests.fakes.discord_rest import Answer, Call, Handler
from tests.fakes.discord_state import (
    CATEGORY,
    DM,
    FORUM,
    MEDIA,
    NEWS,
    NEWS_THREAD,
    PRIVATE_THREAD,
    PUBLIC_THREAD,
    TEXT,
    Channel,
    Json,
    Message,
    World,
)

NONCE_LIFE, OLD, MOST_NONCE = 300.0, 3600.0, 25
TEXTLESS = frozenset({CATEGORY, FORUM, MEDIA})


class Desk(About):
    """The rules that tests may switch. old_edits: edits that a channel's messages over an hour old still take
    before 30046 (None: any number), which asks to wait old_wait seconds;
    most_threads: active threads of a guild; closed: users that take no DMs."""

    def __init__(self) -> None:
        super().__init__()
        self.old_edits: int | None = None
        self.old_wait = 0.01
        self.most_threads = 1000
        self.closed: set[int] = set()
        self._old: dict[int, int] = {}

    def routes(self) -> Mapping[str, Handler]:
        """Handlers, by operation."""
        message = "/channels/{channel_id}/messages/{message_id}"
        return {
            **super().routes(),
            "GET /channels/{channel_id}": get_channel,
            "PATCH /channels/{channel_id}": patch_channel,
            "DELETE /channels/{channel_id}": delete_channel,
            "POST /channels/{channel_id}/typing": type_in_channel,
            "GET /channels/{channel_id}/messages": list_messages,
            "POST /channels/{channel_id}/messages": self.post_message,
            f"GET {message}": get_message,
            f"PATCH {message}": self.patch_message,
            f"DELETE {message}": delete_message,
            f"POST {message}/threads": self.thread_from_message,
            "POST /channels/{channel_id}/threads": self.thread,
            "PUT /channels/{channel_id}/thread-members/@me": join_thread,
            "PUT /channels/{channel_id}/thread-members/{user_id}": join_thread,
        }

    # --- messages -----------------------------------------------------------------------------------------

    def post_message(self, call: Call) -> Answer:
        """A message; the same nonce within minutes answers the first one."""
        world, channel, sent = call.world, channel_of(call), call.body.json
        if channel.type in TEXTLESS:
            raise Refused(50008 if channel.type == CATEGORY else 40058)
        if channel.type == DM and channel.recipients[0].id in self.closed:
            raise Refused(50007)
        check_may_send(world, channel, call.body)
        nonce = sent.get("nonce")
        if nonce is not None and len(str(nonce)) > MOST_NONCE:
            raise invalid("nonce", "NONCE_TYPE_TOO_LONG", f"Must be {MOST_NONCE} or fewer in length.")
        if sent.get("enforce_nonce") and (first := _same_nonce(world, channel, nonce)) is not None:
            return Answer(200, message_json(world, first))
        reference = _reference(world, channel, sent)
        if channel.is_thread and channel.archived:
            revive(world, channel)
        message = create(world, channel, call.body, limit=file_limit(channel))
        if reference is not None:
            message.reference, message.type = reference, 19
        tell_message(world, "MESSAGE_CREATE", message)
        return Answer(200, message_json(world, message))

    def patch_message(self, call: Call) -> Answer:
        """An edit of the bot's own message."""
        world, channel, message = call.world, channel_of(call), message_of(call)
        if message.author is not world.me:
            raise Refused(50005)
        if channel.archived:
            raise Refused(50083)
        if world.now() - message.at > OLD and self.old_edits is not None:
            self._old[channel.id] = self._old.get(channel.id, 0) + 1
            if self._old[channel.id] > self.old_edits:
                raise Refused(30046, retry_after=self.old_wait)
        edit(world, message, call.body, by="bot", limit=file_limit(channel))
        tell_message(world, "MESSAGE_UPDATE", message)
        return Answer(200, message_json(world, message))

    # --- threads ------------------------------------------------------------------------------------------

    def thread_from_message(self, call: Call) -> Answer:
        """A thread with the message's own id."""
        world, channel, message = call.world, channel_of(call), message_of(call)
        if channel.type not in (TEXT, NEWS):
            raise Refused(50024)
        self._check_threads(world, channel, "create_public_threads")
        if message.id in world.channels:
            raise Refused(160004)
        kind = NEWS_THREAD if channel.type == NEWS else PUBLIC_THREAD
        thread = make_thread(world, channel, message.id, call.body.json, kind)
        message.thread_id = thread.id
        world.tell(
            "THREAD_CREATE",
            lambda: channel_json(world, thread) | {"newly_created": True},
            guild_id_of(thread),
        )
        tell_message(world, "MESSAGE_UPDATE", message)
        return Answer(201, channel_json(world, thread))

    def thread(self, call: Call) -> Answer:
        """A thread without a message, or a post in a forum."""
        world, channel, sent = call.world, channel_of(call), call.body.json
        if channel.type in (FORUM, MEDIA):
            return self._post(call, channel)
        if channel.type not in (TEXT, NEWS):
            raise Refused(50024)
        kind = sent.get("type") or PRIVATE_THREAD
        private = kind == PRIVATE_THREAD
        self._check_threads(world, channel, "create_private_threads" if private else "create_public_threads")
        thread = make_thread(world, channel, world.new_id(), sent, kind)
        world.tell(
            "THREAD_CREATE",
            lambda: channel_json(world, thread) | {"newly_created": True},
            guild_id_of(thread),
        )
        return Answer(201, channel_json(world, thread))

    def _post(self, call: Call, forum: Channel) -> Answer:
        world, sent = call.world, call.body.json
        self._check_threads(world, forum, "send_messages")
        thread = make_thread(world, forum, world.new_id(), sent, PUBLIC_THREAD)
        try:
            first = create(world, thread, Body(sent["message"], call.body.files), limit=file_limit(forum))
        except Refused:
            del world.channels[thread.id], thread.guild.threads[thread.id]  # type: ignore[union-attr]
            raise
        del thread.messages[first.id]
        first.id = thread.id
        thread.messages[first.id] = first
        world.tell(
            "THREAD_CREATE",
            lambda: channel_json(world, thread) | {"newly_created": True},
            guild_id_of(thread),
        )
        tell_message(world, "MESSAGE_CREATE", first)
        return Answer(201, channel_json(world, thread) | {"message": message_json(world, first)})

    def _check_threads(self, world: World, channel: Channel, permission: str) -> None:
        need(world, channel, permission)
        assert channel.guild is not None
        if sum(not each.archived for each in channel.guild.threads.values()) >= self.most_threads:
            raise Refused(160006)


# --- handlers ---------------------------------------------------------------------------------------------


def get_channel(call: Call) -> Answer:
    """A channel."""
    return Answer(200, channel_json(call.world, channel_of(call)))


def patch_channel(call: Call) -> Answer:
    """A thread archived, locked or renamed; a channel renamed."""
    world, channel, sent = call.world, channel_of(call), call.body.json
    mine = channel.is_thread and channel.owner_id == world.me.id
    opens = channel.is_thread and set(sent) == {"archived"} and not sent["archived"] and not channel.locked
    if not channel.is_thread:
        need(world, channel, "manage_channels")
    elif opens:
        need(world, channel, "send_messages_in_threads")
    elif not mine or "locked" in sent:
        need(world, channel, "manage_threads")
    if channel.archived and sent.get("archived") is not False:
        raise Refused(50083)
    channel.name = sent.get("name") or channel.name
    channel.locked = sent.get("locked", channel.locked)
    channel.auto_archive = sent.get("auto_archive_duration") or channel.auto_archive
    if "archived" in sent and channel.archived != sent["archived"]:
        channel.archived, channel.archived_at = sent["archived"], world.now()
    event = "THREAD_UPDATE" if channel.is_thread else "CHANNEL_UPDATE"
    world.tell(event, lambda: channel_json(world, channel), guild_id_of(channel))
    return Answer(200, channel_json(world, channel))


def delete_channel(call: Call) -> Answer:
    """A channel or thread, for good."""
    world, channel = call.world, channel_of(call)
    if channel.guild is None:
        raise Refused(50003)
    need(world, channel, "manage_threads" if channel.is_thread else "manage_channels")
    told = channel_json(world, channel)
    drop_channel(world, channel)
    return Answer(200, told)


def type_in_channel(call: Call) -> Answer:
    """ "... is typing"."""
    need(call.world, channel_of(call), "send_messages")
    return Answer(204)


def list_messages(call: Call) -> Answer:
    """Messages, newest first; limit 1 to 100."""
    world, channel, query = call.world, channel_of(call), call.query
    if channel.type in TEXTLESS:
        raise Refused(50008)
    if not world.permissions(world.me, channel).read_message_history:
        return Answer(200, [])
    ids = sorted(channel.messages, reverse=True)
    if "before" in query:
        ids = [each for each in ids if each < int(query["before"])]
    if "after" in query:
        ids = [each for each in ids if each > int(query["after"])][::-1][: int(query.get("limit", 50))][::-1]
    found = [channel.messages[each] for each in ids[: int(query.get("limit", 50))]]
    return Answer(200, [message_json(world, each) for each in found])


def get_message(call: Call) -> Answer:
    """One message."""
    need(call.world, channel_of(call), "read_message_history")
    return Answer(200, message_json(call.world, message_of(call)))


def delete_message(call: Call) -> Answer:
    """The bot's own, or anybody's where it may."""
    world, channel, message = call.world, channel_of(call), message_of(call)
    if message.author is not world.me:
        need(world, channel, "manage_messages")
    if channel.archived:
        raise Refused(50083)
    drop_message(world, message)
    return Answer(204)


def join_thread(call: Call) -> Answer:
    """Somebody joins a thread."""
    if not channel_of(call).is_thread:
        raise Refused(50024)
    return Answer(204)


# --- parts ------------------------------------------------------------------------------------------------


def _same_nonce(world: World, channel: Channel, nonce: str | int | None) -> Message | None:
    if nonce is None:
        return None
    recent = world.now() - NONCE_LIFE
    found = (each for each in channel.messages.values() if each.nonce == nonce and each.at >= recent)
    return next(found, None)


def _reference(world: World, channel: Channel, sent: Json) -> Json | None:
    reference = sent.get("message_reference")
    if not reference:
        return None
    if not world.permissions(world.me, channel).read_message_history:
        raise Refused(160002)
    told = {"type": 0, "channel_id": str(channel.id), "message_id": str(reference["message_id"])}
    if int(reference["message_id"]) in channel.messages:
        return told
    if reference.get("fail_if_not_exists", True):
        raise invalid("message_reference", "MESSAGE_REFERENCE_UNKNOWN_MESSAGE", "Unknown message")
    return None
