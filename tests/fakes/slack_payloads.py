"""What the local Slack tells the program: payloads of commands, interactions and events."""

from __future__ import annotations

from typing import Any

from tests.fakes.slack_shapes import message_json, view_json
from tests.fakes.slack_state import Account, Channel, Message, Payload, View, World
from tests.fakes.slack_views import initial_values


def _organisation(world: World, team: str) -> Payload | None:
    workspace = world.workspaces[team]
    if not workspace.enterprise:
        return None
    return {"id": workspace.enterprise, "name": world.enterprises[workspace.enterprise].name}


def _team(world: World, team: str) -> Payload:
    made: Payload = {"id": team, "domain": world.workspaces[team].domain}
    if (organisation := _organisation(world, team)) is not None:
        made |= {"enterprise_id": organisation["id"], "enterprise_name": organisation["name"]}
    return made


def _org_install(world: World, team: str) -> bool:
    installation = world.installation_for(team)
    return installation is not None and not installation.team


def _common(world: World, user: Account) -> Payload:
    """What every interaction has. In an organisation's installation the team is null."""
    org = _org_install(world, user.team)
    return {
        "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": user.team},
        "api_app_id": world.app.id,
        "token": world.app.verification,
        "team": None if org else _team(world, user.team),
        "enterprise": _organisation(world, user.team),
        "is_enterprise_install": org,
        "trigger_id": world.add_trigger(user.team, user.id),
    }


def command(world: World, base: str, name: str, text: str, user: Account, channel: Channel) -> Payload:
    """A slash command: all strings, as it comes by form. There is no thread in it."""
    url = world.add_response_url(user.team, channel.id, user.id)
    made = {
        "token": world.app.verification,
        "team_id": user.team,
        "team_domain": world.workspaces[user.team].domain,
        "channel_id": channel.id,
        "channel_name": channel.name if channel.kind == "public" else _private_name(channel),
        "user_id": user.id,
        "user_name": user.name,
        "command": name,
        "text": text,
        "api_app_id": world.app.id,
        "is_enterprise_install": "true" if _org_install(world, user.team) else "false",
        "response_url": f"{base}/response/{url}",
        "trigger_id": world.add_trigger(user.team, user.id),
    }
    if (organisation := _organisation(world, user.team)) is not None:
        made |= {"enterprise_id": organisation["id"], "enterprise_name": organisation["name"]}
    return made


def _private_name(channel: Channel) -> str:
    return "directmessage" if channel.kind == "im" else "privategroup"


def _channel(channel: Channel) -> Payload:
    return {"id": channel.id, "name": channel.name if channel.kind == "public" else _private_name(channel)}


def message_action(world: World, base: str, message: Message, user: Account, action: Payload) -> Payload:
    """A button or menu in a message."""
    channel = world.channels[message.channel]
    url = world.add_response_url(user.team, channel.id, user.id, ts=message.ts, thread_ts=message.thread_ts)
    container: Payload = {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": channel.id,
        "is_ephemeral": bool(message.only_for),
    }
    if message.thread_ts:
        container["thread_ts"] = message.thread_ts
    made = _common(world, user) | {
        "type": "block_actions",
        "container": container,
        "channel": _channel(channel),
        "state": {"values": initial_values({"blocks": message.blocks})},
        "response_url": f"{base}/response/{url}",
        "actions": [action],
    }
    if not message.only_for:
        made["message"] = message_json(world, message)
    return made


def view_action(world: World, view: View, user: Account, action: Payload) -> Payload:
    """A button or menu in a modal or an App Home."""
    return _common(world, user) | {
        "type": "block_actions",
        "container": {"type": "view", "view_id": view.id},
        "view": view_json(world, view),
        "actions": [action],
    }


def submission(world: World, view: View, user: Account) -> Payload:
    """A modal that was submitted."""
    return _common(world, user) | {"type": "view_submission", "view": view_json(world, view)}


def closed(world: World, view: View, user: Account, *, cleared: bool) -> Payload:
    """A modal that was closed."""
    made = _common(world, user) | {
        "type": "view_closed",
        "view": view_json(world, view),
        "is_cleared": cleared,
    }
    del made["trigger_id"]
    return made


def shortcut(world: World, callback_id: str, user: Account) -> Payload:
    """A global shortcut."""
    made = _common(world, user)
    del made["api_app_id"]
    return made | {"type": "shortcut", "callback_id": callback_id, "action_ts": world.new_ts()}


def message_shortcut(world: World, base: str, callback_id: str, message: Message, user: Account) -> Payload:
    """A shortcut on a message."""
    channel = world.channels[message.channel]
    url = world.add_response_url(user.team, channel.id, user.id, ts=message.ts, thread_ts=message.thread_ts)
    made = _common(world, user)
    del made["api_app_id"]
    made["user"] = {key: made["user"][key] for key in ("id", "name", "team_id")}
    return made | {
        "type": "message_action",
        "callback_id": callback_id,
        "action_ts": world.new_ts(),
        "message_ts": message.ts,
        "channel": _channel(channel),
        "response_url": f"{base}/response/{url}",
        "message": message_json(world, message),
    }


def event(world: World, team: str, inner: Payload) -> Payload:
    """An event in its envelope."""
    installation = world.installation_for(team)
    org = _org_install(world, team)
    organisation = world.workspaces[team].enterprise
    number = world.new_id("Ev")
    made: Payload = {
        "token": world.app.verification,
        "team_id": team,
        "api_app_id": world.app.id,
        "event": inner,
        "type": "event_callback",
        "event_id": number,
        "event_time": int(world.clock.now()),
        "is_ext_shared_channel": False,
        "event_context": f"4-{number}",
        "authorizations": [
            {
                "enterprise_id": organisation or None,
                "team_id": None if org else team,
                "user_id": installation.bot_user if installation else "",
                "is_bot": True,
                "is_enterprise_install": org,
            }
        ],
    }
    if organisation:
        made["enterprise_id"] = organisation
    return made


def said(world: World, message: Message, kind: str, **more: Any) -> Payload:
    """The event of a message that a person wrote: app_mention, or message in direct messages."""
    made: Payload = {
        "type": kind,
        "user": message.user,
        "text": message.text,
        "ts": message.ts,
        "client_msg_id": world.new_id("c"),
        "team": message.team,
        "blocks": message.blocks,
        "channel": message.channel,
        "event_ts": message.ts,
        **more,
    }
    if message.thread_ts:
        made["thread_ts"] = message.thread_ts
    if message.files:
        made["files"] = message_json(world, message)["files"]
    return made
