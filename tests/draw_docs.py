"""The pictures of docs/discord.md and docs/slack.md, drawn from what the program really sends.

`python -m tests.draw_docs` runs the program with the model that comes with it against the local Discord and
the local Slack, does what the pages tell of, and has Chromium draw the payloads. Written to docs/.
"""

from __future__ import annotations

import asyncio
import copy
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from adapters.discord import create as discord_adapter
from adapters.slack.adapter import Slack as SlackAdapter
from adapters.slack.names import SCOPES
from bot.app import build, load_backends
from bot.core.ports import Adapter
from bot.core.settings import BackendEntry, Secret, Settings
from tests.fakes import discord_page, slack_page
from tests.fakes.discord import Discord, Message, text
from tests.fakes.discord_message_json import message_json
from tests.fakes.slack import Slack

DOCS = Path(__file__).parent.parent / "docs"
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
ONE_AT_A_TIME = (BackendEntry("local", "", {"slots": "1"}),)
SLOW = "a house by the sea at sunset --steps 120 --count 4"
QUICK = "a blue triangle on a white background"
PROMPT = "a red circle on a blue background --steps 40 --count 4"


async def draw(pages: dict[str, str]) -> None:
    """Screenshots of the pages, named after their files."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGS)
        page = await browser.new_page(viewport={"width": 720, "height": 200}, device_scale_factor=1.5)
        for name, html in pages.items():
            await page.set_content(html)
            await page.screenshot(path=DOCS / f"{name}.png", full_page=True)
        await browser.close()


@asynccontextmanager
async def program(settings: Settings, adapter: Adapter | None) -> AsyncIterator[None]:
    """The program with one platform and the model that comes with it."""
    assert adapter is not None
    app = build(settings, adapters=[adapter], backends=load_backends(settings), serve=False)
    try:
        await app.start()
        yield
    finally:
        await app.aclose()


class Reel:
    """Discord's messages as they were at a moment, with their pictures."""

    def __init__(self, discord: Discord) -> None:
        self.discord = discord
        self._data: dict[str, bytes] = {}

    def keep(self, message: Message) -> dict[str, Any]:
        """The message now."""
        self._data |= {str(each.id): each.data for each in message.attachments}
        return copy.deepcopy(message_json(self.discord.world, message))

    def picture(self, url: str) -> bytes:
        """The bytes behind an attachment's address."""
        return self._data[url.partition("?")[0].split("/")[-2]]


async def draw_discord(folder: Path) -> dict[str, str]:
    """A request, private answers, settings."""
    async with Discord() as discord:
        settings = Settings(
            data_dir=folder,
            backends=ONE_AT_A_TIME,
            secrets={
                "DISCORD_TOKEN": Secret(discord.token),
                "FAIRBRUSH_SECRET_KEY": Secret("a key for pictures of the documentation"),
            },
            platform_urls={"discord": discord.api_url, "discord-gateway": discord.gateway_url},
        )
        guild = discord.guild("Painters")
        general = discord.channel(guild, "general")
        ann, bob = discord.member(guild, "ann", manage_guild=True), discord.member(guild, "bob")
        eve = discord.member(guild, "eve")
        names = {str(user.id): user.name for user in (ann, bob, eve)}
        reel = Reel(discord)
        pages = [discord_page.Page(names, reel.picture, time.time()) for _ in range(4)]
        front, page, private, admin = pages
        async with program(settings, discord_adapter(settings)):
            await discord.ready()
            first = await discord.imagine(general, bob, "a green star on a black background")
            await _done(discord, first)  # the model is loaded, and how long it takes is known
            await discord.imagine(general, bob, SLOW)
            await discord.imagine(general, eve, QUICK)
            call = await discord.imagine(general, ann, PROMPT)
            another = await discord.imagine(general, ann, "a yellow square on a green background")
            page.heading("in the channel")
            page.typed("ann", f"/imagine {PROMPT}")
            receipt = discord.original(call)
            page.message(reel.keep(receipt))
            thread = await discord.until(lambda: discord.thread(receipt))
            status = (await discord.until(lambda: discord.messages(thread)))[0]
            await discord.until(lambda: "ahead" in text(status) and "by " in text(status))
            page.heading("in its thread, waiting")
            page.message(reel.keep(status))
            front.typed("ann", f"/imagine {PROMPT}")
            front.message(reel.keep(status))
            queue = await discord.command(general, ann, "queue")
            private.heading("/queue")
            private.message(reel.keep(discord.original(queue)), private=True)
            await discord.until(lambda: "🎨" in text(status) and status.attachments, seconds=60)
            page.heading("in its thread, being made")
            page.message(reel.keep(status))
            await _done(discord, call)
            page.heading("in its thread, ready")
            page.message(reel.keep(status))
            front.message(reel.keep(status))
            page.heading("in the channel, at the end")
            await discord.until(lambda: "✅" in text(receipt))
            page.message(reel.keep(receipt))
            await _done(discord, another)
            refused = await discord.imagine(general, ann, "a red fox in snow", steps=40, size="4096x64")
            private.heading("a refusal")
            private.message(reel.keep(discord.original(refused)), private=True)
            recipe = await discord.menu(ann, "Recipe", status, thread)
            private.heading("recipe")
            private.message(reel.keep(discord.original(recipe)), private=True)
            form = await discord.press(status, "Remix", ann)
            private.heading("Remix")
            assert form.modal is not None
            private.modal(form.modal)
            panel = await discord.command(general, ann, "settings")
            admin.message(reel.keep(discord.original(panel)), private=True)
        return {
            "discord": front.html(),
            "discord-request": page.html(),
            "discord-private": private.html(),
            "discord-settings": admin.html(),
        }


async def _done(discord: Discord, call: Any) -> None:
    receipt = discord.original(call)
    await discord.until(lambda: "✅" in text(receipt), seconds=120)


async def draw_slack(folder: Path) -> dict[str, str]:
    """A request, the form and private answers, the home tab."""
    async with Slack(scopes=",".join(SCOPES)) as slack:
        app = slack.world.app
        secrets = {
            "FAIRBRUSH_SECRET_KEY": "a key for pictures of the documentation",
            "SLACK_BOT_TOKEN": slack.token,
            "SLACK_APP_TOKEN": app.app_token,
        }
        settings = Settings(
            data_dir=folder,
            backends=ONE_AT_A_TIME,
            secrets={name: Secret(value) for name, value in secrets.items()},
            platform_urls={"slack": slack.api_url},
        )

        def picture(name: str) -> bytes:
            return slack.world.files[name].data or b""

        names = {person.id: name for name, person in (("ann", slack.ann), ("bob", slack.bob))}
        page, private, home = (slack_page.Page(names, picture) for _ in range(3))
        async with program(settings, SlackAdapter(settings)):
            slack.program("")
            await slack.connected()
            await slack.bob.command("a green star on a black background")
            await slack.until(lambda: _ready(slack, "green star"), 60)
            await slack.bob.command(SLOW)
            await slack.add_person("eve", slack.workspace).command(QUICK)
            await slack.ann.command(PROMPT)
            await slack.ann.command("a yellow square on a green background")
            root = await slack.until_message(slack.general, "red circle")
            page.heading("in the channel")
            page.typed("ann", f"/imagine {PROMPT}")
            page.message(_now(root))
            await slack.until(
                lambda: slack.thread(root) and "ahead" in slack.read(slack.thread(root)[-1]), 60
            )
            status = slack.thread(root)[-1]
            page.heading("in its thread, waiting")
            page.message(_now(status), reply=True)
            await slack.ann.open_home()
            await slack.until(lambda: slack.ann.home is not None)
            assert slack.ann.home is not None
            home.view(copy.deepcopy(slack.ann.home.content))
            await slack.until(lambda: ":art:" in status.text, 60)
            page.heading("in its thread, being made")
            page.message(_now(status), reply=True)
            await slack.until(lambda: _ready(slack, "red circle"), 120)
            page.heading("in its thread, ready")
            page.message(_now(status), reply=True)
            await slack.until(lambda: "white_check_mark" in root.text, 60)
            page.heading("in the channel, at the end")
            page.message(_now(root))
            await slack.ann.command("a red fox in snow --size 4096x64")
            await slack.until(lambda: slack.ann.ephemerals)
            private.heading("a refusal")
            private.message(_now(slack.ann.ephemerals[-1]), private=True)
            await slack.ann.command("")
            private.heading("/imagine")
            private.view((await slack.ann.until_modal()).content)
        return {"slack-request": page.html(), "slack-private": private.html(), "slack-home": home.html()}


def _ready(slack: Slack, prompt: str) -> bool:
    return any(
        m.thread_ts and "white_check_mark" in m.text and prompt in m.text
        for m in slack.world.messages.values()
    )


def _now(message: Any) -> dict[str, Any]:
    return copy.deepcopy({"text": message.text, "blocks": message.blocks})


async def main() -> None:
    """Both platforms."""
    with tempfile.TemporaryDirectory() as name:
        for part in (draw_discord, draw_slack):
            (folder := Path(name) / part.__name__).mkdir()
            await draw(await part(folder))


if __name__ == "__main__":
    asyncio.run(main())
