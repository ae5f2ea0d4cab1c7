"""Files of the local Slack: external uploads, processing and sharing that take their time, downloads."""

from __future__ import annotations

import math
from collections.abc import Callable

from aiohttp import web

from tests.fakes.slack_calls import Context, Method
from tests.fakes.slack_shapes import file_json
from tests.fakes.slack_state import Channel, File, Message, Payload, Refused, Share, World
from tests.fakes.slack_trouble import Call, Troubles

MAGIC = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
MOST_ALT = 1000


def sniff(data: bytes) -> str:
    """The type that processing finds."""
    return next((kind for magic, kind in MAGIC if data.startswith(magic)), "application/octet-stream")


async def get_upload_url(context: Context) -> Payload:
    """files.getUploadURLExternal."""
    name = context.need("filename")
    try:
        length = int(context.need("length"))
    except ValueError:
        raise Refused("invalid_arguments") from None
    if length <= 0:
        raise Refused("invalid_arguments")
    alt = str(context.arguments.get("alt_txt") or context.arguments.get("alt_text") or "")
    if len(alt) > MOST_ALT:
        raise Refused("invalid_arguments")
    world, installation = context.world, context.installation
    team = installation.team or next(
        t.id for t in world.workspaces.values() if world.reaches(installation, t.id)
    )
    made = File(world.new_id("F"), team, installation.bot_user, name, length, world.clock.now(), alt)
    world.files[made.id] = made
    return {"upload_url": f"{context.base}/upload/v1/{made.id}", "file_id": made.id}


async def receive(world: World, troubles: Troubles, request: web.Request, calls: list[Call]) -> web.Response:
    """The raw POST (or a form with one file). Anything but the announced length is refused."""
    call = Call("upload", {"file": request.match_info["file"]}, "", world.clock.now())
    calls.append(call)
    await troubles.pass_gate("upload", call.arguments, after=False)
    trouble = troubles.take("upload", call.arguments)
    if trouble is not None and not trouble.applied:
        call.status = 500
        if trouble.drop and request.transport is not None:
            request.transport.abort()
        return web.Response(status=500, text="upload failed")
    answer = await _receive(world, request)
    call.status = answer.status
    if trouble is not None and trouble.drop and request.transport is not None:
        request.transport.abort()
    await troubles.pass_gate("upload", call.arguments, after=True)
    return answer


async def _receive(world: World, request: web.Request) -> web.Response:
    file = world.files.get(request.match_info["file"])
    if file is None or file.completed:
        return web.Response(status=404, text="not found")
    if request.content_type.startswith("multipart/"):
        fields = [field for field in (await request.post()).values() if isinstance(field, web.FileField)]
        data = fields[0].file.read() if fields else b""
    else:
        data = await request.read()
    if len(data) != file.length:
        return web.Response(status=400, text=f"expected {file.length} bytes, got {len(data)}")
    file.data = data
    world.touch()
    return web.Response(text=f"OK - {len(data)}")


async def complete_upload(context: Context) -> Payload:
    """files.completeUploadExternal, once a file. Processing and the share into channel_id come afterwards."""
    wanted = context.arguments.get("files")
    if not isinstance(wanted, list) or not wanted:
        raise Refused("invalid_arguments")
    found = []
    for each in wanted:
        file = context.world.files.get(str(each.get("id")))
        if file is None or file.completed or file.data is None or file.owner != context.installation.bot_user:
            raise Refused("file_not_found")
        found.append((file, str(each.get("title") or "")))
    channel = _target(context)
    for file, title in found:
        file.title = title or file.title
        file.completed = True
        _process(context, file)
    if channel is not None:
        _share(context, [file for file, _ in found], channel)
    context.world.touch()
    return {"files": [file_json(context.world, file, context.base) for file, _ in found]}


def _target(context: Context) -> Channel | None:
    if not context.arguments.get("channel_id"):
        return None
    if str(context.arguments["channel_id"])[:1] not in "CDG":
        raise Refused("invalid_channel")
    return context.channel("channel_id")


def _process(context: Context, file: File) -> None:
    def done() -> None:
        assert file.data is not None
        file.mimetype = sniff(file.data)

    _later(context, context.troubles.processing_delay, done)


def _later(context: Context, seconds: float, act: Callable[[], None]) -> None:
    if math.isinf(seconds):
        context.troubles.unfinished.append(act)
    else:
        context.world.later(seconds, act)


def _share(context: Context, files: list[File], channel: Channel) -> None:
    """Post the files as one message, later; the share of a file that was deleted meanwhile does not come."""
    troubles, world = context.troubles, context.world
    thread, comment = (
        str(context.arguments.get("thread_ts") or ""),
        str(context.arguments.get("initial_comment") or ""),
    )

    def done() -> None:
        if troubles.lose_shares > 0:
            troubles.lose_shares -= 1
            return
        shown = [f for f in files if not f.deleted and not (troubles.lose_shares_with_alt and f.alt)]
        if not shown:
            return
        message = Message(
            channel.id, world.new_ts(), context.installation.bot_user, channel.team, comment, thread_ts=thread
        )
        message.bot_id = context.installation.bot_id
        message.files = [file.id for file in shown]
        for file in shown:
            file.shares.append(Share(channel.id, message.ts, thread))
        world.post(message)

    _later(context, troubles.share_delay, done)


def finish(world: World, troubles: Troubles) -> None:
    """Do what was put off for ever."""
    unfinished, troubles.unfinished = troubles.unfinished, []
    for act in unfinished:
        act()
    world.touch()


def _file(context: Context) -> File:
    file = context.world.files.get(context.need("file"))
    if file is None or not file.completed or not context.world.reaches(context.installation, file.team):
        raise Refused("file_not_found")
    if file.deleted:
        raise Refused("file_deleted")
    return file


async def file_info(context: Context) -> Payload:
    """files.info."""
    found = file_json(context.world, _file(context), context.base)
    paging = {"count": 100, "total": 0, "page": 1, "pages": 0}
    return {"file": found, "comments": [], "paging": paging}


async def delete_file(context: Context) -> Payload:
    """files.delete: gone from every message; one that held nothing else goes too."""
    file = _file(context)
    if file.owner != context.installation.bot_user:
        raise Refused("cant_delete_file")
    file.deleted = True
    for message in context.world.messages.values():
        if file.id in message.files:
            message.files.remove(file.id)
            message.deleted = message.deleted or not (message.files or message.text or message.blocks)
    context.world.touch()
    return {}


async def download(world: World, request: web.Request) -> web.Response:
    """url_private: the bytes for a token that may see the file; a login page for everybody else."""
    file = world.files.get(request.match_info["file"])
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    installation = world.installations.get(token)
    known = installation is not None and not installation.revoked and not installation.removed
    if not known or file is None or file.deleted or file.data is None:
        return web.Response(text="<!DOCTYPE html><title>Sign in | Slack</title>", content_type="text/html")
    assert installation is not None
    if "files:read" not in installation.scopes.split(",") or not world.reaches(installation, file.team):
        return web.Response(text="<!DOCTYPE html><title>Sign in | Slack</title>", content_type="text/html")
    return web.Response(body=file.data, content_type=file.mimetype or "application/octet-stream")


METHODS = {
    "files.getUploadURLExternal": Method(get_upload_url, "files:write"),
    "files.completeUploadExternal": Method(complete_upload, "files:write"),
    "files.info": Method(file_info, "files:read"),
    "files.delete": Method(delete_file, "files:write"),
}
