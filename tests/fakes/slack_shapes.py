"""Slack's JSON for what the world holds: what the Web API answers and what payloads carry."""

from __future__ import annotations

from tests.fakes.slack_state import (
    Account,
    Channel,
    File,
    Installation,
    Message,
    Payload,
    View,
    Workspace,
    World,
)

ICONS = {f"image_{size}": "https://a.slack-edge.example/bot.png" for size in (36, 48, 72)}
KINDS = {"image/png": ("png", "PNG"), "image/jpeg": ("jpg", "JPEG"), "image/gif": ("gif", "GIF")}


def bot_profile(world: World, installation: Installation) -> Payload:
    """The bot as messages name it."""
    return {
        "id": installation.bot_id,
        "app_id": world.app.id,
        "name": world.app.name,
        "icons": ICONS,
        "deleted": False,
        "updated": 1_700_000_000,
        "team_id": installation.team or next(iter(world.workspaces)),
    }


def _installation_of(world: World, bot_id: str) -> Installation | None:
    return next((each for each in world.installations.values() if each.bot_id == bot_id), None)


def message_json(world: World, message: Message) -> Payload:
    """A message."""
    made: Payload = {
        "type": "message",
        "user": message.user,
        "ts": message.ts,
        "text": message.text,
        "team": message.team,
    }
    if (installation := _installation_of(world, message.bot_id)) is not None:
        made |= {"bot_id": message.bot_id, "app_id": world.app.id}
        made["bot_profile"] = bot_profile(world, installation)
    if message.blocks:
        made["blocks"] = message.blocks
    if message.thread_ts:
        made["thread_ts"] = message.thread_ts
        root = world.messages.get((message.channel, message.thread_ts))
        made["parent_user_id"] = root.user if root else ""
    if message.files:
        made["files"] = [file_json(world, world.files[each]) for each in message.files]
    if message.edits:
        made["edited"] = {"user": message.user, "ts": f"{message.edits[-1].at:.6f}"}
    if message.metadata:
        made["metadata"] = message.metadata
    return made


def channel_json(channel: Channel, installation: Installation) -> Payload:
    """A conversation, as the bot sees it."""
    made: Payload = {
        "id": channel.id,
        "created": 1_700_000_000,
        "is_archived": channel.archived,
        "is_im": channel.kind == "im",
        "is_org_shared": False,
        "context_team_id": channel.team,
        "updated": 1_700_000_000_000,
    }
    if channel.kind == "im":
        return made | {"user": channel.user}
    return made | {
        "name": channel.name,
        "name_normalized": channel.name,
        "is_channel": channel.kind == "public",
        "is_group": channel.kind == "private",
        "is_private": channel.kind == "private",
        "is_mpim": False,
        "is_general": channel.name == "general",
        "is_member": installation.bot_user in channel.members,
        "is_shared": False,
        "is_ext_shared": False,
        "is_read_only": channel.restricted,
        "creator": "U0000000000",
        "unlinked": 0,
        "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": {"value": "", "creator": "", "last_set": 0},
        "previous_names": [],
    }


def user_json(world: World, account: Account) -> Payload:
    """A user."""
    return {
        "id": account.id,
        "team_id": account.team,
        "name": account.name,
        "deleted": account.deleted,
        "real_name": account.name.capitalize(),
        "tz": "Europe/London",
        "tz_label": "Greenwich Mean Time",
        "tz_offset": 0,
        "profile": {
            "real_name": account.name.capitalize(),
            "display_name": account.name,
            "display_name_normalized": account.name,
            "team": account.team,
        },
        "is_admin": account.admin,
        "is_owner": False,
        "is_primary_owner": False,
        "is_restricted": False,
        "is_ultra_restricted": False,
        "is_bot": account.bot,
        "is_app_user": False,
        "updated": 1_700_000_000,
    }


def team_json(world: World, workspace: Workspace) -> Payload:
    """A workspace, as team.info tells it."""
    made: Payload = {
        "id": workspace.id,
        "name": workspace.name,
        "domain": workspace.domain,
        "url": f"https://{workspace.domain}.slack.example/",
        "email_domain": "",
        "icon": {"image_34": "https://a.slack-edge.example/team.png", "image_default": True},
        "is_verified": False,
    }
    if workspace.enterprise:
        organisation = world.enterprises[workspace.enterprise]
        made |= {"enterprise_id": organisation.id, "enterprise_name": organisation.name}
    return made


def file_json(world: World, file: File, base: str = "") -> Payload:
    """A file; its type is empty until it has been processed, and shares come when they come."""
    base = base or world.url
    filetype, pretty = KINDS.get(file.mimetype, ("binary", "Binary") if file.mimetype else ("", ""))
    shares: dict[str, dict[str, list[Payload]]] = {}
    places: dict[str, list[str]] = {"channels": [], "groups": [], "ims": []}
    for share in file.shares:
        channel = world.channels[share.channel]
        where = {"public": "channels", "private": "groups", "im": "ims"}[channel.kind]
        places[where].append(channel.id)
        made: Payload = {
            "reply_users": [],
            "reply_users_count": 0,
            "reply_count": 0,
            "ts": share.ts,
            "channel_name": channel.name,
            "team_id": channel.team,
            "share_user_id": file.owner,
        }
        if share.thread_ts:
            made["thread_ts"] = share.thread_ts
        side = shares.setdefault("public" if channel.kind == "public" else "private", {})
        side.setdefault(channel.id, []).append(made)
    return {
        "id": file.id,
        "created": int(file.created),
        "timestamp": int(file.created),
        "name": file.name,
        "title": file.title or file.name,
        "mimetype": file.mimetype,
        "filetype": filetype,
        "pretty_type": pretty,
        "user": file.owner,
        "user_team": file.team,
        "editable": False,
        "size": file.length,
        "mode": "hosted",
        "is_external": False,
        "external_type": "",
        "is_public": bool(places["channels"]),
        "public_url_shared": False,
        "display_as_bot": False,
        "username": "",
        "url_private": f"{base}/files/{file.id}/{file.name}",
        "url_private_download": f"{base}/files/{file.id}/download/{file.name}",
        "permalink": f"{base}/files/{file.owner}/{file.id}/{file.name}",
        "has_rich_preview": False,
        "file_access": "visible",
        "alt_txt": file.alt,
        **places,
        "shares": shares,
    }


def view_json(world: World, view: View) -> Payload:
    """A modal or an App Home with what has been entered."""
    content = view.content
    installation = world.installation_for(view.team)
    made: Payload = {
        "id": view.id,
        "team_id": view.team,
        "type": content["type"],
        "blocks": content["blocks"],
        "private_metadata": content.get("private_metadata", ""),
        "callback_id": content.get("callback_id", ""),
        "external_id": content.get("external_id", ""),
        "state": {"values": view.values},
        "hash": view.hash,
        "clear_on_close": bool(content.get("clear_on_close", False)),
        "notify_on_close": bool(content.get("notify_on_close", False)),
        "submit_disabled": False,
        "root_view_id": view.root,
        "previous_view_id": view.previous or None,
        "app_id": world.app.id,
        "app_installed_team_id": view.team,
        "bot_id": installation.bot_id if installation else "",
        "title": content.get("title", {"type": "plain_text", "text": "View Title", "emoji": True}),
    }
    for key in ("submit", "close"):
        made[key] = content.get(key)
    return made
