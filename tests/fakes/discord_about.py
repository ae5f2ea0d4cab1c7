"""What a bot may ask about itself, its commands, guilds and people."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.fakes.discord_errors import Refused, invalid
from tests.fakes.discord_json import (
    application_json,
    channel_json,
    guild_json,
    guild_summary,
    me_json,
    member_json,
    role_json,
    user_json,
)
from tests.fakes.discord_places import drop_guild, gateway_of
from tests.fakes.discord_rest import Answer, Call, Handler
from tests.fakes.discord_state import Guild, Json, World


class About:
    """shards: what the bot is told to use; started: how many sessions began; session_limit: before any did;
    commands_put: how often the commands were replaced."""

    def __init__(self) -> None:
        self.commands_put = 0
        self.shards = 1
        self.started: Callable[[], int] = int
        self.session_limit = {
            "total": 1000,
            "remaining": 1000,
            "reset_after": 86_400_000,
            "max_concurrency": 1,
        }

    def routes(self) -> Mapping[str, Handler]:
        """Handlers, by operation."""
        return {
            "GET /users/@me": lambda call: Answer(200, me_json(call.world)),
            "GET /oauth2/applications/@me": lambda call: Answer(200, application_json(call.world)),
            "GET /applications/@me": lambda call: Answer(200, application_json(call.world)),
            "GET /gateway": lambda call: Answer(200, {"url": gateway_of(call.world)}),
            "GET /gateway/bot": self.gateway,
            "GET /users/{user_id}": get_user,
            "POST /users/@me/channels": open_dm,
            "GET /guilds/{guild_id}": get_guild,
            "GET /guilds/{guild_id}/channels": get_channels,
            "GET /guilds/{guild_id}/roles": get_roles,
            "GET /guilds/{guild_id}/members/{user_id}": get_member,
            "GET /users/@me/guilds": get_guilds,
            "DELETE /users/@me/guilds/{guild_id}": leave,
            "GET /applications/{application_id}/commands": lambda call: Answer(200, call.world.commands),
            "PUT /applications/{application_id}/commands": self.put_commands,
        }

    def gateway(self, call: Call) -> Answer:
        """GET /gateway/bot."""
        told = {
            "url": gateway_of(call.world),
            "shards": self.shards,
            "session_start_limit": self.session_limit
            | {"remaining": max(0, self.session_limit["remaining"] - self.started())},
        }
        return Answer(200, told)

    def put_commands(self, call: Call) -> Answer:
        """Replaces all commands; those whose name and type stay keep their ids."""
        world = call.world
        self.commands_put += 1
        known = {(each["name"], each["type"]): each["id"] for each in world.commands}
        names = [(each["name"], each.get("type", 1)) for each in call.body.json]
        if len(set(names)) < len(names):
            code = "APPLICATION_COMMANDS_DUPLICATE_NAME"
            raise invalid("name", code, "Application command names must be unique")
        version = str(world.new_id())
        world.commands = [
            _command(world, each, known.get(name) or str(world.new_id()), version)
            for name, each in zip(names, call.body.json, strict=True)
        ]
        return Answer(200, world.commands)


def get_user(call: Call) -> Answer:
    """An account."""
    user = call.world.users.get(int(call.ids["user_id"]))
    if user is None:
        raise Refused(10013, status=404)
    return Answer(200, user_json(user))


def open_dm(call: Call) -> Answer:
    """The direct messages with a user."""
    user = call.world.users.get(int(call.body.json["recipient_id"]))
    if user is None or user.bot:
        raise Refused(50007)
    return Answer(200, channel_json(call.world, call.world.dm(user)))


def _guild_of(call: Call) -> Guild:
    guild = call.world.guilds.get(int(call.ids["guild_id"]))
    if guild is None or not guild.joined:
        raise Refused(10004)
    return guild


def get_guild(call: Call) -> Answer:
    """A guild, in short."""
    told = guild_json(call.world, _guild_of(call))
    gone = ("channels", "threads", "members", "voice_states", "presences", "stage_instances", "joined_at")
    return Answer(200, {key: value for key, value in told.items() if key not in gone})


def get_channels(call: Call) -> Answer:
    """A guild's channels, without those that the bot may not view."""
    world, guild = call.world, _guild_of(call)
    every = [each for each in guild.channels.values() if world.permissions(world.me, each).view_channel]
    return Answer(200, [channel_json(world, each) for each in every])


def get_roles(call: Call) -> Answer:
    """A guild's roles."""
    return Answer(200, [role_json(each) for each in _guild_of(call).roles.values()])


def get_guilds(call: Call) -> Answer:
    """Where the bot is, at most 200 of it."""
    after, limit = int(call.query.get("after", 0)), int(call.query.get("limit", 200))
    joined = sorted(each.id for each in call.world.guilds.values() if each.joined and each.id > after)
    return Answer(200, [guild_summary(call.world, call.world.guilds[each]) for each in joined[:limit]])


def leave(call: Call) -> Answer:
    """The bot goes."""
    drop_guild(call.world, _guild_of(call))
    return Answer(204)


def get_member(call: Call) -> Answer:
    """A member."""
    member = _guild_of(call).members.get(int(call.ids["user_id"]))
    if member is None:
        raise Refused(10007, status=404)
    return Answer(200, member_json(call.world, member))


def _command(world: World, sent: Json, command_id: str, version: str) -> Json:
    made = {key: value for key, value in sent.items() if value is not None} | {
        "id": command_id,
        "application_id": str(world.me.id),
        "version": version,
        "type": sent.get("type") or 1,
        "description": sent.get("description") or "",
        "nsfw": bool(sent.get("nsfw")),
    }
    permissions = sent.get("default_member_permissions")
    made["default_member_permissions"] = None if permissions is None else str(permissions)
    return made
