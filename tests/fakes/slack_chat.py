"""Messages: the chat.* methods, reactions and response URLs of the local Slack."""

from __future__ import annotations

from tests.fakes.slack_calls import Context, Method
from tests.fakes.slack_shapes import message_json
from tests.fakes.slack_state import Edit, Message, Payload, Refused, World

MOST_TEXT = 40_000
MOST_UPDATE_TEXT = 4_000
RESPONSE_USES = 5
RESPONSE_SECONDS = 30 * 60


def _text(context: Context, most: int) -> str:
    text = str(context.arguments.get("text") or "")
    if len(text) > most:
        raise Refused("msg_too_long")
    return text


def _new_message(context: Context, channel: str, team: str) -> Message:
    text, blocks = _text(context, MOST_TEXT), context.blocks()
    if not text and not blocks and not context.arguments.get("attachments"):
        raise Refused("no_text")
    installation = context.installation
    made = Message(channel, context.world.new_ts(), installation.bot_user, team, text, blocks)
    made.bot_id = installation.bot_id
    made.metadata = context.arguments.get("metadata")
    thread = str(context.arguments.get("thread_ts") or "")
    root = context.world.messages.get((channel, thread))
    if root is not None and (not root.deleted or context.world.replies(channel, thread)):
        made.thread_ts = (
            root.thread_ts or thread
        )  # a thread whose root is gone: posted to the channel instead
    return made


async def post_message(context: Context) -> Payload:
    """chat.postMessage. A user's id as channel means the bot's direct messages with them."""
    world = context.world
    if (account := world.accounts.get(str(context.arguments.get("channel", "")))) is not None:
        context.arguments["channel"] = world.im(context.installation, account.id).id
    channel = context.channel()
    message = _new_message(context, channel.id, channel.team)
    message.broadcast = bool(message.thread_ts) and context.flag("reply_broadcast")
    world.post(message)
    return {"channel": channel.id, "ts": message.ts, "message": message_json(world, message)}


async def update(context: Context) -> Payload:
    """chat.update: blocks stay only where neither text nor blocks are given; text alone removes them."""
    world, channel = context.world, context.channel()
    message = context.message(channel, "cant_update_message")
    text = _text(context, MOST_UPDATE_TEXT)
    if not text and context.arguments.get("blocks") is None and not context.arguments.get("file_ids"):
        raise Refused("no_text")
    blocks = context.blocks() if text or context.arguments.get("blocks") is not None else message.blocks
    message.text, message.blocks = text, blocks
    for name in context.arguments.get("file_ids") or []:
        if name not in world.files:
            raise Refused("file_not_found")
        message.files.append(name)
    message.edits.append(Edit(world.clock.now(), text, blocks))
    if "metadata" in context.arguments:
        message.metadata = context.arguments["metadata"]
    world.touch()
    answer = {k: v for k, v in message_json(world, message).items() if k not in _NOT_IN_UPDATE}
    return {"channel": channel.id, "ts": message.ts, "text": text, "message": answer}


_NOT_IN_UPDATE = ("ts", "thread_ts", "parent_user_id")


async def delete(context: Context) -> Payload:
    """chat.delete."""
    channel = context.channel(write=False)
    message = context.message(channel, "cant_delete_message")
    message.deleted = True
    context.world.touch()
    return {"channel": channel.id, "ts": message.ts}


async def post_ephemeral(context: Context) -> Payload:
    """chat.postEphemeral."""
    channel = context.channel()
    user = context.need("user")
    if user not in channel.members:
        raise Refused("user_not_in_channel")
    message = _new_message(context, channel.id, channel.team)
    message.only_for = user
    context.world.post(message)
    return {"message_ts": message.ts}


async def permalink(context: Context) -> Payload:
    """chat.getPermalink."""
    channel = context.channel(write=False)
    found = context.world.messages.get((channel.id, context.need("message_ts")))
    if found is None or found.deleted:
        raise Refused("message_not_found")
    domain, thread = context.world.workspaces[channel.team].domain, ""
    if found.thread_ts:
        thread = f"?thread_ts={found.thread_ts}&cid={channel.id}"
    place = f"archives/{channel.id}/p{found.ts.replace('.', '')}"
    return {"channel": channel.id, "permalink": f"https://{domain}.slack.example/{place}{thread}"}


async def add_reaction(context: Context) -> Payload:
    """reactions.add."""
    channel = context.channel()
    found = context.world.messages.get((channel.id, context.need("timestamp")))
    if found is None or found.deleted:
        raise Refused("message_not_found")
    mark = (context.need("name"), context.installation.bot_user)
    if mark in found.reactions:
        raise Refused("already_reacted")
    found.reactions.add(mark)
    context.world.touch()
    return {}


METHODS = {
    "chat.postMessage": Method(post_message, "chat:write"),
    "chat.update": Method(update, "chat:write"),
    "chat.delete": Method(delete, "chat:write"),
    "chat.getPermalink": Method(permalink),
    "chat.postEphemeral": Method(post_ephemeral, "chat:write"),
    "reactions.add": Method(add_reaction, "reactions:write"),
}


def respond(context: Context, url_id: str) -> None:
    """A post to a response_url; raises Refused with the HTTP status."""
    world = context.world
    url = world.response_urls.get(url_id)
    if url is None or world.clock.monotonic() - url.at > RESPONSE_SECONDS:
        raise Refused("expired_url", status=404)
    if url.uses >= RESPONSE_USES:
        raise Refused("used_url", status=404)
    url.uses += 1
    try:
        blocks = context.blocks()
        text = _text(context, MOST_TEXT)
    except Refused as error:
        raise Refused(error.error, status=404) from None
    original = _original(world, url.channel, url.ts)
    if context.flag("delete_original") and original is not None:
        original.deleted = True
        if original in world.ephemerals:
            world.ephemerals.remove(original)
        world.touch()
    elif context.flag("replace_original") and original is not None:
        original.text, original.blocks = text, blocks
        original.edits.append(Edit(world.clock.now(), text, blocks))
        world.touch()
    else:
        answer(context, url.channel, url.team, url.user, url.thread_ts, text, blocks)


def answer(
    context: Context, channel: str, team: str, user: str, thread: str, text: str, blocks: list[Payload]
) -> None:
    """Show the answer to a command or an action: to its user alone, or with response_type to everybody."""
    if not text and not blocks:
        raise Refused("no_text", status=404)
    installation = context.installation
    made = Message(channel, context.world.new_ts(), installation.bot_user, team, text, blocks, thread)
    made.bot_id = installation.bot_id
    if context.arguments.get("response_type", "ephemeral") != "in_channel":
        made.only_for = user
    context.world.post(made)


def _original(world: World, channel: str, ts: str) -> Message | None:
    for message in world.ephemerals:
        if (message.channel, message.ts) == (channel, ts):
            return message
    return world.messages.get((channel, ts))
