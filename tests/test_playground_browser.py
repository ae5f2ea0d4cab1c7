"""The Playground as people meet it: the real program and a real browser, with a backend that tests can hold.

Whatever a page writes to its console as an error, a breach of its content policy included, fails the test.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from adapters.web import create
from bot.app import App, build
from bot.core.pictures import read_recipe, stamp
from bot.core.ports import Model, Price
from bot.core.settings import Settings
from bot.keys import create_key
from tests.fakes.backend import FAKE_MODEL, FakeBackend, flat_png

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MODEL = replace(
    FAKE_MODEL,
    title="Flat colours <1>",
    examples=tuple(f"example {number}" for number in range(7)),
    advice="For real pictures: `fairbrush run`",
)
PHONE = {"width": 375, "height": 720}

expect.set_options(timeout=8_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests of this module."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield launched
        await launched.close()


@dataclass
class Visit:
    """A running program and a page on it. errors: what went wrong there; forgive: statuses to be expected."""

    app: App
    backend: FakeBackend
    settings: Settings
    context: BrowserContext
    page: Page
    errors: list[str] = field(default_factory=list)
    forgive: set[int] = field(default_factory=set)

    async def ask(self, prompt: str) -> None:
        """Type a prompt and generate it."""
        await self.page.fill("#prompt", prompt)
        await self.page.click("#generate")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so behind the page."""
        async with asyncio.timeout(8):
            while not condition():
                await asyncio.sleep(0.01)

    def unforgiven(self) -> list[str]:
        """Errors that the test did not provoke."""
        known = [f"status of {status}" for status in self.forgive]
        return [error for error in self.errors if not any(text in error for text in known)]


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Callable[..., Any]:
    """Opens a visit: `async with visit(viewport=..., public_url=...) as v`."""

    @asynccontextmanager
    async def opened(
        viewport: Any = None, models: tuple[Model, ...] = (MODEL,), **changes: Any
    ) -> AsyncIterator[Visit]:
        settings = Settings(tmp_path, port=0, **changes)
        backend = FakeBackend(models=models)
        app = build(settings, adapters=[create(settings)], backends=[backend])  # type: ignore[list-item]
        await app.start()
        context = await browser.new_context(viewport=viewport, reduced_motion="reduce")
        page = await context.new_page()
        made = Visit(app, backend, settings, context, page)
        _listen(page, made.errors)
        try:
            await page.goto(app.url)
            yield made
            assert made.unforgiven() == []
        finally:
            await context.close()
            await made.app.aclose()

    return opened


def _listen(page: Page, errors: list[str]) -> None:
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"a dialog opened: {dialog.message}"))


async def _no_sideways_scroll(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


async def test_a_prompt_becomes_a_picture_by_way_of_place_progress_and_preview(
    visit: Callable[..., Any], tmp_path: Path
) -> None:
    async with visit() as v:
        page, stage = v.page, v.page.locator("#stage")
        await expect(page.locator("#model-title")).to_have_text("Flat colours <1>")
        await expect(page.locator("#demo")).to_contain_text("small demonstration model")
        await expect(page.locator("#demo code")).to_have_text("fairbrush run")
        await expect(page.locator(".example")).to_have_count(6)
        await expect(page.locator("#prompt")).to_be_focused()

        start = v.backend.hold("start")
        await v.ask("a first colour")
        await start.reached.wait()
        await expect(page.locator("#generate")).to_be_enabled()  # the page has heard that it was accepted
        await page.locator(".example").nth(2).click()
        await expect(page.locator("#prompt")).to_have_value("example 2")
        await page.keyboard.press("Control+Enter")
        await expect(stage.locator(".prompt-line")).to_have_text("example 2")
        await expect(stage.locator(".line")).to_have_text(
            re.compile(r"^(Next|About \d+ requests? ahead) · .*min")
        )

        end = v.backend.hold("done")
        start.release()
        await page.locator(".reel li").nth(1).locator("button").click()
        await end.reached.wait()
        await expect(stage.locator(".line")).to_have_text("Step 4 of 4")
        await expect(stage.locator(".preview")).to_have_attribute(
            "src", re.compile("^data:image/png;base64,")
        )
        await expect(stage.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
        await expect(page.locator("#announce")).to_have_text("Making it: 100 percent")

        end.release()
        await expect(stage.locator("a.frame img")).to_have_attribute("alt", re.compile("a first colour"))
        await expect(stage.locator(".line.made")).to_contain_text("seed")
        async with page.expect_download() as download:
            await stage.get_by_role("link", name="Download").click()
        saved = await download.value
        assert re.fullmatch(r"a-first-colour-\d+\.png", saved.suggested_filename)
        await saved.save_as(tmp_path / "saved.png")
        found = read_recipe((tmp_path / "saved.png").read_bytes())
        assert found is not None
        assert found.options.prompt == "a first colour"


async def test_flags_in_the_prompt_win_and_are_marked_in_the_panel(visit: Callable[..., Any]) -> None:
    async with visit() as v:
        page = v.page
        await page.fill(".field-steps .exact", "9")
        await page.fill("#prompt", "a 'red' fox --seed 7 --ar 2:1")
        await expect(page.locator("#typed")).to_have_text("2 flags in the prompt")
        await expect(page.locator(".field-seed .from-prompt")).to_be_visible()
        await expect(page.locator(".field-size .from-prompt")).to_be_visible()
        await expect(page.locator(".field-steps .from-prompt")).to_be_hidden()
        await page.locator("#tab-playground").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#command")).to_have_text(
            """fairbrush imagine 'a '"'"'red'"'"' fox --ar 2:1 --steps 9 --seed 7' -o picture.png"""
        )
        await page.keyboard.press("ArrowLeft")
        await page.click("#generate")
        await expect(page.locator("#stage a.frame")).to_be_visible()
        (_, request) = v.backend.submitted[0]
        assert (request.seed, request.steps, request.width / request.height) == (7, 9, 2.0)


async def test_a_wrong_value_is_named_beside_its_field_and_nothing_is_queued(
    visit: Callable[..., Any],
) -> None:
    async with visit() as v:
        v.forgive = {400}
        page = v.page
        await page.fill(".field-steps .exact", "500")
        await v.ask("a red fox")
        await expect(page.locator("#steps-error")).to_contain_text("from 1 to 150")
        await expect(page.locator(".field-steps .exact")).to_be_focused()
        await expect(page.locator(".field-steps .exact")).to_have_attribute("aria-invalid", "true")
        await page.fill(".field-steps .exact", "5")
        await expect(page.locator("#steps-error")).to_be_empty()
        await v.ask("a red fox --steps 500")
        await expect(page.locator("#prompt-error")).to_contain_text("from 1 to 150")
        await v.ask("a red fox --stpes 5")
        await expect(page.locator("#prompt-error")).to_contain_text("Did you mean --steps?")
        await v.ask("   ")
        await expect(page.locator("#prompt-error")).to_have_text("Write what the picture should show.")
        assert v.backend.submitted == []


async def test_a_running_request_is_cancelled_and_a_finished_one_deleted(visit: Callable[..., Any]) -> None:
    async with visit() as v:
        stage = v.page.locator("#stage")
        hold = v.backend.hold("start")
        await v.ask("a red fox")
        await hold.reached.wait()
        await stage.get_by_role("button", name="Cancel").click()
        await expect(stage.locator(".line")).to_contain_text("Cancelled")
        await expect(v.page.locator(".reel .word")).to_have_text("Cancelled")
        hold.release()
        await stage.get_by_role("button", name="Again").click()
        await expect(stage.locator("a.frame")).to_be_visible()
        await stage.get_by_role("button", name="Delete").click()
        await stage.get_by_role("button", name="Really delete?").click()
        await expect(v.page.locator(".reel li")).to_have_count(1)
        assert len(list(v.settings.pictures_dir.glob("*.png"))) == 0


async def test_history_and_remix_outlive_a_reload(visit: Callable[..., Any]) -> None:
    async with visit() as v:
        page = v.page
        await v.ask("a {red, blue} fox --no blurry --seed 7 --steps 9 --count 2")
        await expect(page.locator(".thumb")).to_have_count(4)
        await page.reload()
        await expect(page.locator(".thumb")).to_have_count(4)
        await page.locator(".thumb").nth(3).click()
        await page.locator("#stage").get_by_role("button", name="Remix").click()
        await expect(page.locator("#prompt")).to_have_value("a blue fox")
        await expect(page.locator("#seed")).to_have_value("8")
        await expect(page.locator(".field-steps .exact")).to_have_value("9")
        await expect(page.locator("#negative_prompt")).to_have_value("blurry")
        await page.get_by_role("button", name="Reset settings").click()
        await expect(page.locator("#seed")).to_have_value("")


async def test_a_restart_is_waited_out_and_what_was_queued_is_made(visit: Callable[..., Any]) -> None:
    async with visit() as v:
        hold = v.backend.hold("start")
        await v.ask("a patient fox")
        await hold.reached.wait()
        port = int(v.app.url.rpartition(":")[2])
        await v.app.aclose()
        await expect(v.page.locator("#link-state")).to_have_text("Reconnecting…")
        settings = replace(v.settings, port=port)
        v.app = build(settings, adapters=[create(settings)], backends=[FakeBackend(models=(MODEL,))])  # type: ignore[list-item]
        await v.app.start()
        await expect(v.page.locator("#link-state")).to_be_empty()
        await expect(v.page.locator("#stage a.frame img")).to_have_attribute(
            "alt", re.compile("a patient fox")
        )
        v.errors.clear()  # the browser reports that nobody answered for a while


async def test_a_hostile_prompt_is_only_text(visit: Callable[..., Any]) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'`${alert(3)}\u202e</title>"
    async with visit() as v:
        await v.ask(hostile)
        stage = v.page.locator("#stage")
        await expect(stage.locator("a.frame")).to_be_visible()
        await expect(stage.locator(".prompt-line")).to_contain_text("<img src=x onerror=alert(1)><script>")
        await stage.locator("summary").click()
        await v.page.locator("#tab-api").click()
        await expect(v.page.locator("#command")).to_contain_text("<script>alert(2)</script>")
        assert await v.page.locator("main script, main img[src=x]").count() == 0
        assert "\u202e" not in await v.page.locator("#work").inner_text()


async def test_a_picture_is_dropped_in_to_start_from_or_to_read(
    visit: Callable[..., Any], tmp_path: Path
) -> None:
    async with visit() as v:
        page = v.page
        await v.ask("a green fox --seed 7")
        await expect(page.locator("#stage a.frame")).to_be_visible()
        recipe = await v.app.studio.result((await _ids(v))[0])
        file = tmp_path / "dropped.png"
        file.write_bytes(stamp(flat_png(64, 64, 7), recipe.pictures[0].recipe))
        await page.set_input_files("#file", file)
        await expect(page.locator("#start img")).to_be_visible()
        await page.locator("#strength").fill("0.3")
        await v.ask("a night fox")
        await v.until(lambda: len(v.backend.submitted) == 2)
        request = v.backend.submitted[1][1]
        assert request.init_image is not None
        assert request.strength == 0.3
        await page.get_by_role("button", name="Use its recipe instead").click()
        await expect(page.locator("#prompt")).to_have_value("a green fox")
        await expect(page.locator("#start")).to_be_hidden()


async def _ids(v: Visit) -> list[str]:
    return [str(await card.get_attribute("data-id")) for card in await v.page.locator(".reel li").all()]


async def test_on_a_phone_nothing_scrolls_sideways_and_the_settings_fold(visit: Callable[..., Any]) -> None:
    async with visit(viewport=PHONE) as v:
        page = v.page
        await expect(page.locator("#fields")).to_be_hidden()
        await expect(page.locator("#summary-now")).to_have_text("64×64 · 4 steps")
        assert await _no_sideways_scroll(page)
        await page.locator("#panel summary").click()
        await expect(page.locator("#fields")).to_be_visible()
        assert await _no_sideways_scroll(page)
        hold = v.backend.hold("done")
        await v.ask("w" * 300 + " --count 4")
        await hold.reached.wait()
        await expect(page.locator("#stage .preview")).to_be_visible()
        assert await _no_sideways_scroll(page)
        hold.release()
        await expect(page.locator(".thumb")).to_have_count(4)
        await page.locator("#stage summary").click()
        assert await _no_sideways_scroll(page)
        await page.locator("#tab-api").click()
        assert await _no_sideways_scroll(page)


async def test_beyond_this_machine_a_key_opens_it(visit: Callable[..., Any]) -> None:
    async with visit(public_url="http://draw.example") as v:
        v.forgive = {401}
        page = v.page
        await expect(page.locator("#key")).to_be_focused()
        await expect(page.locator("#work")).to_be_hidden()
        await page.fill("#key", "fb_wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-error")).to_have_text("That is not a valid API key.")
        await page.fill("#key", await create_key(v.settings, "design team"))
        await page.keyboard.press("Enter")
        await v.ask("a red fox")
        await expect(page.locator("#stage a.frame")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.locator("#key")).to_be_visible()
        await expect(page.locator(".reel li")).to_have_count(0)


async def test_models_are_cards_and_the_chosen_one_makes_the_picture(visit: Callable[..., Any]) -> None:
    dear = replace(
        MODEL,
        id="studio/large",
        title="Large",
        demo=False,
        advice="Made elsewhere: your prompt leaves this machine.",
        licence="a research licence",
        commercial=False,
        price=Price(per_image=0.04),
        examples=(),
    )
    async with visit(models=(MODEL, dear)) as v:
        page = v.page
        await expect(page.locator("#models summary")).to_have_text("2 models")
        await page.locator("#models summary").click()
        card = page.locator(".model-card", has_text="Large")
        await expect(card).to_contain_text("not for commercial use · about $0.04 a picture")
        await card.click()
        await expect(page.locator("#model-title")).to_have_text("Large")
        await expect(page.locator("#demo")).to_have_text("Made elsewhere: your prompt leaves this machine.")
        await expect(page.locator("#model-cards")).to_be_hidden()
        await v.ask("a fox")
        await v.until(lambda: bool(v.backend.submitted))
        assert v.backend.submitted[0][1].model == "studio/large"


async def test_the_programs_of_the_api_tab_follow_the_settings(visit: Callable[..., Any]) -> None:
    async with visit() as v:
        page, program = v.page, v.page.locator("#program")
        await page.locator("#tab-api").click()
        await expect(program).to_contain_text("a red fox in snow")  # also where nothing is written yet
        await expect(page.locator("#program-note")).to_have_text(
            "An example: what you write takes its place."
        )
        await page.locator("#tab-playground").click()
        await page.fill("#prompt", "a 'red' fox --seed 7")
        await page.fill(".field-steps .exact", "9")
        await page.locator("#tab-api").click()
        await page.get_by_role("button", name="Stochastic").click()
        await page.get_by_role("button", name="Python").click()
        await expect(program).to_contain_text('"num_inference_steps": 9')
        await expect(program).to_contain_text('"seed": 7')
        await expect(program).to_contain_text(v.app.url)
        await page.reload()
        await page.fill("#prompt", "an owl")
        await page.locator("#tab-api").click()
        await expect(program).to_contain_text("import requests")  # what was chosen last
        await expect(program).to_contain_text("an owl")
