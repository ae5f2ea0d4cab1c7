"""How the local Discord writes its world down: people, channels and guilds in REST answers and events."""

from __future__ import annotations

import hashlib

from tests.fakes.discord_state import (
    DM,
    FORUM,
    MEDIA,
    Channel,
    Guild,
    Json,
    Member,
    Role,
    User,
    World,
)

OBFUSCATED = 1 << 17  # the flag of a channel that the bot may not view


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


def seen_json(world: World, channel: Channel) -> Json:
    """A channel as the gateway shows it: what the bot may not view is obfuscated. Interactions show all."""
    made = channel_json(world, channel)
    if channel.guild is None or world.permissions(world.me, channel).view_channel:
        return made
    hidden: Json = {"name": "___hidden___", "flags": OBFUSCATED, "last_message_id": None, "topic": None}
    denied = {"id": str(channel.guild.id), "type": 0, "allow": "0", "deny": "1024"}
    return made | hidden | {"nsfw": False, "permission_overwrites": [denied]}


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
        "channels": [_unguilded(seen_json(world, each)) for each in guild.channels.values()],
        "threads": [channel_json(world, each) for each in _active(world, guild)],
        "members": [] if mine is None else [member_json(world, mine)],
        "emojis": [],
        "stickers": [],
        "voice_states": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def guild_summary(world: World, guild: Guild) -> Json:
    """A guild as a list of guilds has it."""
    member = guild.members.get(world.me.id)
    own = [guild.roles[each].permissions for each in (guild.id, *(member.roles if member else ()))]
    permissions = 0
    for each in own:
        permissions |= each
    return {
        "id": str(guild.id),
        "name": guild.name,
        "icon": None,
        "banner": None,
        "owner": guild.owner is world.me,
        "permissions": str(permissions),
        "features": [],
    }


def _active(world: World, guild: Guild) -> list[Channel]:
    """Threads that the bot can see and that are not archived."""
    every = [each for each in guild.threads.values() if not each.archived]
    return [each for each in every if world.permissions(world.me, each).view_channel]


def _unguilded(channel: Json) -> Json:
    return {key: value for key, value in channel.items() if key != "guild_id"}
