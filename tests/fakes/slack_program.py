"""Small programs on slack_bolt and slack_sdk to drive the local Slack with, in both modes and by OAuth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from PIL import Image
from slack_bolt.adapter.aiohttp import to_aiohttp_response, to_bolt_request
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.oauth.async_oauth_flow import AsyncOAuthFlow
from slack_bolt.oauth.async_oauth_settings import AsyncOAuthSettings
from slack_sdk.errors import SlackApiError
from slack_sdk.oauth.installation_store import FileInstallationStore
from slack_sdk.oauth.state_store import FileOAuthStateStore
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import Slack
from tests.fakes.slack_state import Payload


def png(colour: str = "red") -> bytes:
    """A small picture."""
    file = BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def plain(text: str) -> Payload:
    """A plain text object."""
    return {"type": "plain_text", "text": text}


def section(text: str) -> Payload:
    """A section."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def button(label: str, name: str) -> Payload:
    """A row of one button."""
    return {"type": "actions", "elements": [{"type": "button", "text": plain(label), "action_id": name}]}


def image(file: str, alt: str = "a fox") -> Payload:
    """An image block of an uploaded file."""
    return {"type": "image", "slack_file": {"id": file}, "alt_text": alt}


MODAL: Payload = {
    "type": "modal",
    "callback_id": "imagine",
    "title": plain("Imagine"),
    "submit": plain("Go"),
    "notify_on_close": True,
    "blocks": [
        {
            "type": "input",
            "block_id": "prompt",
            "label": plain("Prompt"),
            "element": {"type": "plain_text_input", "action_id": "text", "max_length": 20},
        },
        {
            "type": "input",
            "block_id": "shape",
            "label": plain("Shape"),
            "element": {
                "type": "static_select",
                "action_id": "choice",
                "options": [{"text": plain(text), "value": text.lower()} for text in ("Square", "Story")],
                "initial_option": {"text": plain("Square"), "value": "square"},
            },
        },
    ],
}


async def refused(call: Any) -> str:
    """The error that a call is answered with."""
    with pytest.raises(SlackApiError) as caught:
        await call
    return str(caught.value.response["error"])


async def upload(client: AsyncWebClient, data: bytes, alt: str = "", **complete: Any) -> str:
    """An upload in three steps; the file's id."""
    extra = {"alt_txt": alt} if alt else {}
    made = await client.files_getUploadURLExternal(filename="fox.png", length=len(data), **extra)
    async with ClientSession() as http, http.post(made["upload_url"], data=data) as answer:
        assert answer.status == 200, await answer.text()
    done = await client.files_completeUploadExternal(
        files=[{"id": made["file_id"], "title": "fox"}], **complete
    )
    assert done["files"][0]["mimetype"] == ""
    return str(made["file_id"])


class Program:
    """A program that remembers what it heard: payloads, oldest first."""

    def __init__(self, slack: Slack) -> None:
        self.heard: list[Payload] = []
        self.app = _app(slack, self.heard)


def _app(slack: Slack, heard: list[Payload]) -> AsyncApp:

    async def authorize(
        enterprise_id: str | None, team_id: str | None, client: AsyncWebClient
    ) -> AuthorizeResult:
        found = await client.auth_test(token=slack.token)
        return AuthorizeResult.from_auth_test_response(auth_test_response=found, bot_token=slack.token)

    app = AsyncApp(
        client=AsyncWebClient(base_url=slack.api_url),
        signing_secret=slack.world.app.signing_secret,
        authorize=authorize,
    )

    async def hear(body: Payload, ack: Any) -> None:
        await ack()
        heard.append(body)

    for event in ("app_mention", "message", "app_home_opened", "app_uninstalled", "tokens_revoked"):
        app.event(event)(hear)
    app.command("/imagine")(hear)
    app.action("again")(hear)
    app.shortcut("remix")(hear)
    app.view_closed("imagine")(hear)
    return app


@asynccontextmanager
async def by_socket(slack: Slack, app: AsyncApp) -> AsyncIterator[None]:
    """The program on Socket Mode."""
    handler = AsyncSocketModeHandler(app, slack.world.app.app_token)
    await handler.connect_async()  # type: ignore[no-untyped-call]
    await slack.connected()
    try:
        yield
    finally:
        await handler.close_async()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def by_http(slack: Slack, app: AsyncApp) -> AsyncIterator[str]:
    """The program on a web server; its address."""

    async def events(request: web.Request) -> web.Response:
        return await to_aiohttp_response(await app.async_dispatch(await to_bolt_request(request)))

    server = web.Application()
    server.add_routes([web.post("/slack/events", events)])
    if (flow := app.oauth_flow) is not None:

        async def install(request: web.Request) -> web.Response:
            return await to_aiohttp_response(await flow.handle_installation(await to_bolt_request(request)))

        async def redirect(request: web.Request) -> web.Response:
            return await to_aiohttp_response(await flow.handle_callback(await to_bolt_request(request)))

        server.add_routes([web.get("/slack/install", install), web.get("/slack/oauth_redirect", redirect)])
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    slack.program(f"{url}/slack/events")
    try:
        yield url
    finally:
        await runner.cleanup()


def running(slack: Slack, app: AsyncApp, mode: str) -> Any:
    """The program in either mode."""
    return by_socket(slack, app) if mode == "socket" else by_http(slack, app)


def oauth_app(slack: Slack, folder: Path) -> AsyncApp:
    """A program that is installed by OAuth."""
    client = AsyncWebClient(base_url=slack.api_url)
    store = FileInstallationStore(base_dir=str(folder / "installations"))
    settings = AsyncOAuthSettings(
        client_id=slack.world.app.client_id,
        client_secret=slack.world.app.client_secret,
        scopes=["commands", "chat:write"],
        authorization_url=f"{slack.url}/oauth/v2/authorize",
        installation_store=store,
        state_store=FileOAuthStateStore(expiration_seconds=60, base_dir=str(folder / "states")),
    )
    app = AsyncApp(
        client=client,
        signing_secret=slack.world.app.signing_secret,
        oauth_flow=AsyncOAuthFlow(client=client, settings=settings),
    )

    app.enable_token_revocation_listeners()

    @app.command("/imagine")
    async def imagine(ack: Any, client: AsyncWebClient, body: Payload) -> None:
        await ack()
        await client.chat_postMessage(channel=body["user_id"], text="hello")

    return app
