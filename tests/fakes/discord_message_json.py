"""How the local Discord writes down messages, attachments and interactions."""

from __future__ import annotations

import hashlib
from typing import Any

from discord import Permissions

from tests.fakes.discord_json import channel_json, member_json, user_json
from tests.fakes.discord_state import DM, Attachment, Channel, Interaction, Json, Member, Message, World

CDN_LIFE = 86_400  # seconds that a link to an attachment works


def attachment_url(world: World, attachment: Attachment) -> str:
    """The signed, expiring link to an attachment."""
    issued = int(world.now())
    signature = hashlib.sha256(f"{attachment.id}{issued + CDN_LIFE}".encode()).hexdigest()
    place = f"{world.cdn}/attachments/{attachment.channel_id}/{attachment.id}/{attachment.filename}"
    return f"{place}?ex={issued + CDN_LIFE:x}&is={issued:x}&hm={signature}&"


def attachment_json(world: World, attachment: Attachment) -> Json:
    """A file at a message."""
    url = attachment_url(world, attachment)
    made: Json = {
        "id": str(attachment.id),
        "filename": attachment.filename,
        "size": len(attachment.data),
        "url": url,
        "proxy_url": url,
        "content_type": attachment.mime,
    }
    if attachment.description is not None:
        made["description"] = attachment.description
    if attachment.size is not None:
        made["width"], made["height"] = attachment.size
    if attachment.spoiler:
        made["flags"] = 1 << 3
    return made | {"ephemeral": True} if attachment.ephemeral else made


def media_json(world: World, attachment: Attachment) -> Json:
    """A file as components show it."""
    url = attachment_url(world, attachment)
    width, height = attachment.size or (None, None)
    return {
        "id": str(attachment.id),
        "url": url,
        "proxy_url": url,
        "width": width,
        "height": height,
        "content_type": attachment.mime,
        "attachment_id": str(attachment.id),
    }


def message_json(world: World, message: Message) -> Json:
    """A message."""
    channel = world.channels.get(message.channel_id)
    made: Json = {
        "id": str(message.id),
        "type": message.type,
        "channel_id": str(message.channel_id),
        "author": user_json(message.author),
        "content": message.content,
        "timestamp": world.iso(message.at),
        "edited_timestamp": None if message.edited_at is None else world.iso(message.edited_at),
        "tts": False,
        "mention_everyone": "everyone" in message.mentions,
        "mentions": [
            user_json(world.users[int(each)]) for each in sorted(message.mentions) if each.isdigit()
        ],
        "mention_roles": [each[1:] for each in sorted(message.mentions) if each.startswith("&")],
        "attachments": [attachment_json(world, each) for each in _plain(message)],
        "embeds": fresh(world, message.embeds),
        "components": fresh(world, message.components),
        "pinned": False,
        "flags": message.flags | (1 << 5 if message.thread_id else 0),
    }
    if message.nonce is not None:
        made["nonce"] = message.nonce
    if message.reference is not None:
        made |= {"message_reference": message.reference}
    if message.thread_id is not None and message.thread_id in world.channels:
        made["thread"] = channel_json(world, world.channels[message.thread_id])
    if message.author is world.me:
        made["application_id"] = str(world.me.id)
    if message.interaction is not None:
        made |= _from_interaction(world, message.interaction)
    if channel is not None and channel.is_thread:
        made["position"] = channel.sent
    return made


def shown_ids(components: Any) -> set[str]:
    """The ids of attachments that components or embeds show."""
    if isinstance(components, list):
        return set().union(*(shown_ids(each) for each in components))
    if not isinstance(components, dict):
        return set()
    if "attachment_id" in components:
        return {components["attachment_id"]}
    return shown_ids(list(components.values()))


def _plain(message: Message) -> list[Attachment]:
    """Attachments as such: those that components or embeds show are not listed again."""
    shown = shown_ids([*message.components, *message.embeds])
    return [each for each in message.attachments if str(each.id) not in shown]


def fresh(world: World, components: Any) -> Any:
    """Components with links to their files that are good from now."""
    if isinstance(components, list):
        return [fresh(world, each) for each in components]
    if not isinstance(components, dict):
        return components
    if "attachment_id" in components:
        return media_json(world, world.attachments[int(components["attachment_id"])])
    return {key: fresh(world, value) for key, value in components.items()}


def _from_interaction(world: World, interaction: Interaction) -> Json:
    made: Json = {"webhook_id": str(world.me.id), "interaction_metadata": metadata_json(interaction)}
    if interaction.kind == 2:
        made["interaction"] = {
            "id": str(interaction.id),
            "type": 2,
            "name": interaction.name,
            "user": user_json(interaction.user),
        }
    return made


def metadata_json(interaction: Interaction) -> Json:
    """How a message says which interaction it answers."""
    made: Json = {
        "id": str(interaction.id),
        "type": interaction.kind,
        "user": user_json(interaction.user),
        "authorizing_integration_owners": owners(interaction),
    }
    if interaction.kind == 3 and interaction.message is not None:
        made["interacted_message_id"] = str(interaction.message.id)
    if interaction.kind == 5 and interaction.trigger is not None:
        made["triggering_interaction_metadata"] = metadata_json(interaction.trigger)
    return made


def owners(interaction: Interaction) -> dict[str, str]:
    """Who installed the application, by way: "0" the guild, "1" the user."""
    made = {}
    if not interaction.only_user_install:
        made["0"] = "0" if interaction.guild is None else str(interaction.guild.id)
    if interaction.user.installed or interaction.only_user_install:
        made["1"] = str(interaction.user.id)
    return made


def interaction_json(world: World, interaction: Interaction) -> Json:
    """INTERACTION_CREATE."""
    channel, guild, user = interaction.channel, interaction.guild, interaction.user
    made: Json = {
        "id": str(interaction.id),
        "application_id": str(world.me.id),
        "type": interaction.kind,
        "token": interaction.token,
        "version": 1,
        "data": interaction.data,
        "channel_id": str(channel.id),
        "channel": channel_json(world, channel, user),
        "locale": user.locale,
        "app_permissions": str(app_permissions(world, interaction)),
        "attachment_size_limit": 10 * 2**20 if guild is None else guild.file_limit,
        "entitlements": [],
        "entitlement_sku_ids": [],
        "authorizing_integration_owners": owners(interaction),
        "context": 0
        if guild is not None
        else (1 if world.me in channel.recipients or is_mine(channel) else 2),
    }
    if interaction.message is not None:
        made["message"] = message_json(world, interaction.message)
    if guild is None:
        return made | {"user": user_json(user)}
    member = guild.members.get(user.id) or Member(user)
    own = member_json(world, member) | {"permissions": str(world.permissions(user, channel).value)}
    partial = {"id": str(guild.id), "locale": guild.locale, "features": []}
    return made | {
        "guild_id": str(guild.id),
        "guild": partial,
        "guild_locale": guild.locale,
        "member": own,
    }


def is_mine(channel: Channel) -> bool:
    """Whether it is a DM between the bot and one person (not one between two people)."""
    return channel.type == DM and len(channel.recipients) == 1


def app_permissions(world: World, interaction: Interaction) -> int:
    """What the application may do where it was called; without membership, little."""
    if interaction.guild is None or world.me.id not in interaction.guild.members:
        return Permissions(
            attach_files=True, embed_links=True, mention_everyone=True, external_emojis=True
        ).value
    return world.permissions(world.me, interaction.channel).value
