"""Creating and editing messages from what a bot sends, with Discord's rules on the way.

The one place where a request body becomes a message: limits, the attachment retention of edits, Components V2
and who is pinged.
"""

from __future__ import annotations

import io
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from discord import Permissions
from PIL import Image, UnidentifiedImageError

from tests.fakes.discord_components import TEXT, check, find, resolve, walk
from tests.fakes.discord_errors import Refused, invalid
from tests.fakes.discord_message_json import media_json, shown_ids
from tests.fakes.discord_state import (
    EPHEMERAL,
    LOADING,
    MIB,
    V2,
    Attachment,
    Channel,
    Edit,
    Interaction,
    Json,
    Message,
    World,
)

MOST_FILES, MOST_BYTES, MOST_CONTENT, MOST_ALT = 10, 25 * MIB, 2000, 1024
SUPPRESS = 1 << 2  # SUPPRESS_EMBEDS
SETTABLE = EPHEMERAL | V2 | SUPPRESS | 1 << 12  # flags that a new message may have
LEGACY = ("content", "embeds", "poll", "sticker_ids")
SPOILER = "SPOILER_"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a multipart request; index: the n of files[n]."""

    index: int
    filename: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """What a bot sent."""

    json: Any
    files: Sequence[Upload] = ()


# --- creating and editing ---------------------------------------------------------------------------------


def create(
    world: World, channel: Channel, body: Body, *, interaction: Interaction | None = None, limit: int
) -> Message:
    """A new message of the bot in a channel; ephemeral ones are visible to the interaction's user alone.

    limit: bytes that a file may have.
    """
    sent = body.json
    flags = (sent.get("flags") or 0) & SETTABLE
    message = Message(world.new_id(), channel.id, world.me, world.now(), flags=flags)
    message.interaction, message.nonce = interaction, sent.get("nonce")
    if interaction is None:
        message.flags &= ~EPHEMERAL
    else:
        _mark(message, interaction)
    if message.flags & EPHEMERAL and interaction is not None:
        message.private_to = interaction.user.id
    _fill(world, channel, message, body, limit=limit, editing=False)
    if _is_empty(message):
        raise Refused(50006)
    message.pings = message.mentions
    put(world, channel, message)
    return message


def loading(world: World, interaction: Interaction, *, ephemeral: bool) -> Message:
    """The "thinking..." message of a deferred response."""
    flags = LOADING | (EPHEMERAL if ephemeral else 0)
    message = Message(world.new_id(), interaction.channel.id, world.me, world.now(), flags=flags)
    message.interaction = interaction
    _mark(message, interaction)
    message.private_to = interaction.user.id if ephemeral else None
    put(world, interaction.channel, message)
    return message


def _mark(message: Message, interaction: Interaction) -> None:
    """What kind of answer it is: to a command (20), a menu (23), or (19) a reply to a button's message."""
    if interaction.original is not None:
        return
    if interaction.kind == 2:
        message.type = 20 if interaction.data["type"] == 1 else 23
    elif interaction.message is not None:
        shown = interaction.message
        message.type = 19
        message.reference = {"type": 0, "channel_id": str(shown.channel_id), "message_id": str(shown.id)}
        if interaction.guild is not None:
            message.reference["guild_id"] = str(interaction.guild.id)


def put(world: World, channel: Channel, message: Message) -> None:
    """Add a message to its channel, or to the ephemeral ones."""
    if message.private_to is not None:
        world.hidden[message.id] = message
        return
    channel.messages[message.id] = message
    channel.last_message_id = message.id
    channel.sent += 1


def edit(world: World, message: Message, body: Body, *, by: str, limit: int) -> None:
    """Change a message as a bot asks; by: "token" (an interaction's webhook) or "bot"."""
    channel = world.channels[message.channel_id]
    waited = message.loading
    _fill(world, channel, message, body, limit=limit, editing=True)
    if _is_empty(message):
        raise Refused(50006)
    message.flags &= ~LOADING
    message.edits.append(Edit(world.now(), body.json, tuple(each.filename for each in body.files), by))
    message.edited_at = None if waited else world.now()


def _fill(world: World, channel: Channel, message: Message, body: Body, *, limit: int, editing: bool) -> None:
    """Check everything, then change the message: a refused request leaves nothing behind."""
    sent = body.json
    flags = _flags(message, sent, editing=editing)
    v2 = bool(flags & V2)
    _check_legacy(sent, message, v2=v2)
    if len(sent.get("content") or "") > MOST_CONTENT:
        raise invalid("content", "BASE_TYPE_MAX_LENGTH", f"Must be {MOST_CONTENT} or fewer in length.")
    if len(sent.get("embeds") or ()) > 10:
        raise invalid("embeds", "BASE_TYPE_MAX_LENGTH", "Must be 10 or fewer in length.")
    attachments = _attachments(world, channel, message, body, limit=limit)
    components = message.components
    if sent.get("components") is not None:
        check(sent["components"], v2=v2)
        components = resolve(world, sent["components"], attachments)
    else:
        _check_still_there(components, attachments)
    message.flags, message.attachments, message.components = flags, attachments, components
    if "content" in sent:
        message.content = sent["content"] or ""
    if "embeds" in sent:
        message.embeds = [_embed(world, each, attachments) for each in sent["embeds"] or ()]
    message.allowed_mentions = sent.get("allowed_mentions")
    message.mentions = _mentions(world, channel, message)
    world.attachments |= {each.id: each for each in attachments}


def _flags(message: Message, sent: Json, *, editing: bool) -> int:
    """An edit may set and unset SUPPRESS_EMBEDS and set IS_COMPONENTS_V2; the rest it asks for is ignored."""
    if not editing or sent.get("flags") is None:
        return message.flags
    return message.flags & ~SUPPRESS | int(sent["flags"]) & (SUPPRESS | V2)


def _embed(world: World, embed: Json, attachments: Sequence[Attachment]) -> Json:
    """An embed with the files that it shows."""
    made = {"type": "rich", **embed}
    for key in ("image", "thumbnail"):
        url = (embed.get(key) or {}).get("url", "")
        if url.startswith(("attachment://", world.cdn)):
            made[key] = media_json(world, find(url, attachments))
    return made


def _check_legacy(sent: Json, message: Message, *, v2: bool) -> None:
    if not v2:
        return
    left = {"content": message.content, "embeds": message.embeds}
    for name in LEGACY:
        if sent.get(name) or (name not in sent and left.get(name)):
            code = "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2"
            text = f"The '{name}' field cannot be used when using MessageFlags.IS_COMPONENTS_V2"
            raise invalid(name, code, text)


def _check_still_there(components: list[Json], attachments: Sequence[Attachment]) -> None:
    """An edit that keeps its components may not take the files from under them."""
    if shown_ids(components) - {str(each.id) for each in attachments}:
        code = "UNFURLED_MEDIA_ITEM_REFERENCED_ATTACHMENT_NOT_FOUND"
        raise invalid("components", code, "A component shows a file that is no longer attached.")


def _is_empty(message: Message) -> bool:
    return not (message.content or message.embeds or message.components or message.attachments)


# --- attachments ------------------------------------------------------------------------------------------


def _attachments(
    world: World, channel: Channel, message: Message, body: Body, *, limit: int
) -> list[Attachment]:
    """What is attached afterwards: of what was there only what the body lists, where it lists any."""
    listed = body.json.get("attachments")
    said = {str(each["id"]): each for each in listed or ()}
    kept = list(message.attachments)
    if "attachments" in body.json:
        kept = [each for each in kept if str(each.id) in said]
    for each in kept:
        each.description = said.get(str(each.id), {}).get("description", each.description)
    _check_sizes(kept, body.files, limit)
    new = [_attachment(world, channel, message, each, said.get(str(each.index), {})) for each in body.files]
    unknown = (
        set(said) - {str(each.id) for each in message.attachments} - {str(each.index) for each in body.files}
    )
    if unknown:
        raise invalid("attachments.0.id", "ATTACHMENT_NOT_FOUND", f"There is no attachment {min(unknown)}.")
    return kept + new


def _check_sizes(kept: Sequence[Attachment], files: Sequence[Upload], limit: int) -> None:
    if len(kept) + len(files) > MOST_FILES:
        raise Refused(30015)
    if any(len(each.data) > limit for each in files) or sum(len(each.data) for each in files) > MOST_BYTES:
        raise Refused(40005)


def _attachment(world: World, channel: Channel, message: Message, file: Upload, said: Json) -> Attachment:
    description = said.get("description")
    if description is not None and len(description) > MOST_ALT:
        raise invalid("attachments.0.description", "BASE_TYPE_MAX_LENGTH", f"Must be {MOST_ALT} or fewer.")
    name = safe_name(said.get("filename") or file.filename)
    made = Attachment(world.new_id(), name, file.data, mime_of(name), channel.id, description)
    made.size = size_of(file.data)
    made.ephemeral = bool(message.flags & EPHEMERAL)
    made.spoiler = name.startswith(SPOILER) or bool(said.get("is_spoiler"))
    return made


def safe_name(name: str) -> str:
    """A file's name as Discord keeps it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "", re.sub(r"\s", "_", PurePosixPath(name).name)) or "unknown"


def mime_of(name: str) -> str:
    """A file's type, by its name."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def size_of(data: bytes) -> tuple[int, int] | None:
    """A picture's width and height."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except UnidentifiedImageError:
        return None


# --- who is pinged ----------------------------------------------------------------------------------------


def text_of(message: Message) -> str:
    """All words that people read in a message, in order."""
    parts = [message.content, *(each["content"] for each in walk(message.components) if each["type"] == TEXT)]
    for embed in message.embeds:
        parts += [embed.get("title", ""), embed.get("description", "")]
        parts += [f"{each['name']} {each['value']}" for each in embed.get("fields", ())]
        parts.append(embed.get("footer", {}).get("text", ""))
    return "\n".join(each for each in parts if each)


def _mentions(world: World, channel: Channel, message: Message) -> set[str]:
    """Whom the message names with effect: user ids, "&" and role ids, "everyone". Without a rule in this very
    request, everybody that is named."""
    text, rule = text_of(message), message.allowed_mentions
    users, roles = set(re.findall(r"<@!?(\d+)>", text)), set(re.findall(r"<@&(\d+)>", text))
    may_all = world.permissions(world.me, channel) & Permissions(mention_everyone=True)
    everyone = bool(re.search(r"@(everyone|here)\b", text)) and bool(may_all.value)
    if rule is not None:
        parse = rule.get("parse") or ()
        users = users if "users" in parse else users & {str(each) for each in rule.get("users") or ()}
        roles = roles if "roles" in parse else roles & {str(each) for each in rule.get("roles") or ()}
        everyone = everyone and "everyone" in parse
    named = {each for each in users if int(each) in world.users}
    named |= {f"&{each}" for each in roles if channel.guild and int(each) in channel.guild.roles}
    return named | ({"everyone"} if everyone else set())
