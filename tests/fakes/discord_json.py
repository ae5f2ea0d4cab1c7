"""How the local Discord writes its world down: the JSON of REST answers and gateway events."""

from __future__ import annotations

import hashlib
from typing import Any

from discord import Permissions

from tests.fakes.discord_state import (
    DM,
    FORUM,
    MEDIA,
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

CDN_LIFE = 86_400  # seconds that a link to an attachment works


def user_json(user: User) -> Json:
    """An account as everybody sees it."""
    made: Json = {
        "id": str(user.id),
        "username": user.name,
        "avatar": None,
        "discriminator": "0000" if user.bot else "0",
        "public_flags": 0,
        "flags": 0,
        "global_name": None if user.bot else user.name.title(),
        "primary_guild": None,
        "banner": None,
        "accent_color": None,
        "avatar_decoration_data": None,
        "collectibles": None,
    }
    return made | {"bot": True} if user.bot else made


def me_json(world: World) -> Json:
    """GET /users/@me."""
    extra = {"mfa_enabled": True, "locale": "en-US", "verified": True, "email": None}
    return user_json(world.me) | extra


def application_json(world: World) -> Json:
    """GET /applications/@me."""
    return {
        "id": str(world.me.id),
        "name": "Fairbrush",
        "icon": None,
        "description": "",
        "type": None,
        "bot": user_json(world.me),
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": hashlib.sha256(b"verify").hexdigest(),
        "flags": 0,
        "flags_new": "0",
        "redirect_uris": [],
        "interactions_endpoint_url": None,
        "role_connections_verification_url": None,
        "owner": user_json(world.owner),
        "approximate_guild_count": sum(each.joined for each in world.guilds.values()),
        "approximate_user_install_count": sum(each.installed for each in world.users.values()),
        "approximate_user_authorization_count": 0,
        "explicit_content_filter": 0,
        "team": None,
        "eligible_oauth2_scopes": ["bot", "applications.commands"],
        "integration_types_config": {"0": {}, "1": {}},
    }


def role_json(role: Role) -> Json:
    """A role."""
    return {
        "id": str(role.id),
        "name": role.name,
        "permissions": str(role.permissions),
        "position": role.position,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "managed": False,
        "mentionable": role.mentionable,
        "icon": None,
        "unicode_emoji": None,
        "description": None,
        "flags": 0,
    }


def member_json(world: World, member: Member, *, with_user: bool = True) -> Json:
    """A user in a guild; without `user` as messages and resolved data carry it."""
    made: Json = {
        "avatar": None,
        "banner": None,
        "communication_disabled_until": None,
        "flags": 0,
        "joined_at": world.iso(world.now() - 86_400),
        "nick": None,
        "pending": False,
        "premium_since": None,
        "roles": [str(each) for each in member.roles],
        "mute": False,
        "deaf": False,
    }
    return made | {"user": user_json(member.user)} if with_user else made


def channel_json(world: World, channel: Channel, viewer: User | None = None) -> Json:
    """A channel, thread or DM; viewer: whose permissions it carries, as in an interaction."""
    made: Json = {
        "id": str(channel.id),
        "type": channel.type,
        "flags": 0,
        "last_message_id": None if channel.last_message_id is None else str(channel.last_message_id),
    }
    if channel.type == DM:
        return made | {"recipients": [user_json(each) for each in channel.recipients]}
    assert channel.guild is not None
    made |= {"guild_id": str(channel.guild.id), "name": channel.name, "rate_limit_per_user": 0}
    made["parent_id"] = None if channel.parent_id is None else str(channel.parent_id)
    if viewer is not None:
        made["permissions"] = str(world.permissions(viewer, channel).value)
    return made | (_thread_part(world, channel) if channel.is_thread else _channel_part(channel))


def _channel_part(channel: Channel) -> Json:
    made: Json = {
        "position": channel.position,
        "topic": None,
        "nsfw": channel.nsfw,
        "permission_overwrites": [
            {
                "id": str(each.id),
                "type": int(each.is_member),
                "allow": str(each.allow),
                "deny": str(each.deny),
            }
            for each in channel.overwrites
        ],
    }
    if channel.type in (FORUM, MEDIA):
        made |= {"available_tags": [], "default_reaction_emoji": None, "default_sort_order": None}
        made |= {"default_forum_layout": 0}
    if channel.type in (2, 13):
        made |= {"bitrate": 64_000, "user_limit": 0, "rtc_region": None}
    return made


def _thread_part(world: World, thread: Channel) -> Json:
    joined = {
        "id": str(thread.id),
        "user_id": str(world.me.id),
        "join_timestamp": world.iso(thread.created_at),
        "flags": 0,
    }
    return {
        "owner_id": str(thread.owner_id),
        "message_count": min(thread.sent, 50),
        "member_count": 1,
        "total_message_sent": thread.sent,
        "thread_metadata": {
            "archived": thread.archived,
            "archive_timestamp": world.iso(thread.archived_at),
            "auto_archive_duration": thread.auto_archive,
            "locked": thread.locked,
            "create_timestamp": world.iso(thread.created_at),
        },
        "member": joined,
    } | ({"applied_tags": [str(each) for each in thread.tags]} if thread.tags else {})


def guild_json(world: World, guild: Guild) -> Json:
    """GUILD_CREATE: with channels, active threads and the bot's own member."""
    mine = guild.members.get(world.me.id)
    return {
        "id": str(guild.id),
        "name": guild.name,
        "owner_id": str(guild.owner.id),
        "icon": None,
        "splash": None,
        "features": [],
        "premium_tier": guild.tier,
        "premium_subscription_count": 0,
        "preferred_locale": guild.locale,
        "verification_level": 1,
        "default_message_notifications": 1,
        "explicit_content_filter": 2,
        "mfa_level": 0,
        "nsfw_level": 0,
        "afk_channel_id": None,
        "afk_timeout": 300,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "rules_channel_id": None,
        "public_updates_channel_id": None,
        "max_members": 500_000,
        "vanity_url_code": None,
        "description": None,
        "banner": None,
        "application_id": None,
        "unavailable": False,
        "large": False,
        "joined_at": world.iso(world.now() - 86_400),
        "member_count": max(len(guild.members), 2),
        "roles": [role_json(each) for each in guild.roles.values()],
        "channels": [_unguilded(channel_json(world, each)) for each in guild.channels.values()],
        "threads": [channel_json(world, each) for each in guild.threads.values() if not each.archived],
        "members": [] if mine is None else [member_json(world, mine)],
        "emojis": [],
        "stickers": [],
        "voice_states": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def _unguilded(channel: Json) -> Json:
    return {key: value for key, value in channel.items() if key != "guild_id"}


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
        "mention_everyone": "everyone" in message.pings,
        "mentions": [user_json(world.users[int(each)]) for each in message.pings if each.isdigit()],
        "mention_roles": [each[1:] for each in message.pings if each.startswith("&")],
        "attachments": [attachment_json(world, each) for each in message.attachments],
        "embeds": message.embeds,
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
