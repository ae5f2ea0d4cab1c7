"""Shortcuts at Slack: Remix and Recipe on any picture, ours and others', a form from anywhere; what hostile
files get; recipes that come from Discord and go there."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image, PngImagePlugin
from yarl import URL

from bot.core.guilds import Rules, ThreadMode
from bot.core.pictures import make_recipe, stamp
from bot.core.request import ImageRequest, Limits, Requester
from tests.fakes import slack_shapes
from tests.fakes.backend import flat_png
from tests.fakes.discord import Upload, pictures
from tests.fakes.discord_house import discord_house
from tests.fakes.discord_reading import results, seen
from tests.fakes.slack_house import SlackHouse, slack_house, until
from tests.fakes.slack_people import Person
from tests.fakes.slack_state import File, Message, View, World


@pytest.fixture(params=["socket", "http"])
async def each_way(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program, in each mode."""
    async with slack_house(tmp_path, http=request.param == "http") as house:
        yield house
        assert house.slack.failures == []


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program, in Socket Mode."""
    async with slack_house(tmp_path) as house:
        yield house
        assert house.slack.failures == []


def stamped(prompt: str, **options: Any) -> bytes:
    """A picture with its recipe, as any platform of ours sends it."""
    said = {"width": 64, "height": 64, "steps": 4, "guidance_scale": 7.5, "seed": 5} | options
    request = ImageRequest(prompt, **said)
    made = make_recipe(
        request,
        index=0,
        seed=request.seed,
        backend="local:",
        model="fake",
        applied={},
        notes=(),
        software="Fairbrush 0.1.0",
        created="2026-01-02T03:04:05+00:00",
    )
    return stamp(flat_png(64, 64, request.seed), made)


def with_parameters(text: str) -> bytes:
    """A picture with another tool's text."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def shared(person: Person, data: bytes, name: str = "picture.png") -> Message:
    """A message with a file."""
    return person.write("look", files=[person.upload(data, name)])


async def chosen(house: SlackHouse, name: str, message: Message, text: str = "") -> View:
    """A shortcut on a message, by ann: the modal, once the picture is read (and `text` is there)."""
    callback = {"Remix": "remix_message", "Recipe": "recipe_message"}[name]
    await house.slack.ann.message_shortcut(callback, message)
    await house.slack.ann.until_modal()
    return await settled(house, text)


async def settled(house: SlackHouse, text: str = "") -> View:
    """Ann's modal, once it is not "Reading the picture" any more."""

    def there() -> bool:
        view = house.slack.ann.modal
        return view is not None and "Reading" not in (read := house.slack.read(view)) and text in read

    await house.slack.until(there)
    view = house.slack.ann.modal
    assert view is not None
    return view


def said(view: View) -> dict[str, str]:
    """What a form's inputs are filled with."""
    states = {name: next(iter(state.values())) for name, state in view.values.items()}
    found = {
        name: state.get("value") or (state.get("selected_option") or {}).get("value")
        for name, state in states.items()
    }
    return {name: value for name, value in found.items() if value and value != "usual"}


async def made(house: SlackHouse, text: str = "a red fox --seed 7") -> Message:
    """A result of bob's."""
    await house.slack.bob.command(text)
    return await house.finished()


async def another(house: SlackHouse, known: int = 1) -> Message:
    """The next result."""
    await house.slack.until(lambda: len(house.done()) > known)
    return house.done()[-1]


# --- ours -------------------------------------------------------------------------------------------------


async def test_a_result_is_remixed_in_its_thread(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    status = await made(house, "a red fox --seed 7 --steps 9")
    view = await chosen(house, "Remix", status)
    assert said(view) | {"count": "1"} == said(view)
    assert (said(view)["prompt"], said(view)["seed"], said(view)["steps"]) == ("a red fox", "7", "9")
    await slack.ann.submit({"Prompt": "a blue fox"})
    second = await another(house)
    assert second.thread_ts == status.thread_ts
    assert f"<@{slack.ann.id}>" in second.text
    assert house.backend.submitted[1][1].seed == 7


async def test_a_recipe_of_ours_makes_it_again(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    status = await made(house, "a red fox {bold} --seed 7 --negative text, \\--raw")
    view = await chosen(house, "Recipe", status)
    line = next(each for each in slack.read(view).splitlines() if each.startswith("/imagine"))
    await slack.ann.command(line.removeprefix("/imagine "))
    await another(house)
    (_, first), (_, second) = house.backend.submitted
    assert first == second


async def test_every_picture_of_a_result_has_its_recipe(house: SlackHouse) -> None:
    status = await made(house, "a {red, blue} fox --seed 7 --count 2")
    view = await chosen(house, "Recipe", status)
    lines = [each for each in house.slack.read(view).splitlines() if each.startswith("/imagine")]
    assert ["--seed 7" in each for each in lines] == [True, False, True, False]
    assert ["--seed 8" in each for each in lines] == [False, True, False, True]
    assert ["red" in each for each in lines] == [True, True, False, False]


async def test_a_recipe_opens_as_a_form_on_top(house: SlackHouse) -> None:
    slack = house.slack
    status = await made(house)
    recipe = await chosen(house, "Recipe", status)
    await slack.ann.press(recipe, "Remix")
    await slack.ann.until_modal("Remix")
    await slack.ann.submit({"Prompt": "a blue fox"})
    assert slack.ann.modal is None  # all of them closed
    second = await another(house)
    assert second.thread_ts == status.thread_ts


async def test_a_result_of_another_workspace_is_known_by_its_file_alone(house: SlackHouse) -> None:
    status = await made(house)
    for block in status.blocks:
        for element in block.get("elements", []):
            if "value" in element:
                element["value"] = element["value"].replace(element["value"][:8], "AAAAAAAA")
    view = await chosen(house, "Recipe", status, "/imagine a red fox")
    assert "--seed 7" in house.slack.read(view)
    assert "Fairbrush" in house.slack.read(view)


async def test_a_picture_in_the_channel_without_buttons_is_known_by_its_file(house: SlackHouse) -> None:
    slack = house.slack
    ann = Requester("slack", slack.ann.team, slack.ann.id)
    await house.studio.set_rules(ann, Rules(thread_mode=ThreadMode.BOTH), admin=True)
    await made(house)
    (root,) = slack.messages(slack.general)
    await slack.until(lambda: slack.images(root))
    view = await chosen(house, "Recipe", root, "/imagine a red fox")
    assert "--seed 7" in slack.read(view)


# --- others' ----------------------------------------------------------------------------------------------


async def test_another_tools_text_is_read(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    message = shared(
        slack.bob,
        with_parameters(
            "a red fox --raw in snow\nNegative prompt: blurry, {text}\n"
            "Steps: 21, Sampler: Euler a, CFG scale: 6.5, Seed: 12, Size: 128x64, Model hash: abc"
        ),
    )
    view = await chosen(house, "Recipe", message, "/imagine")
    assert "from another tool" in slack.read(view)
    await slack.ann.press(view, "Remix")
    await slack.until(lambda: slack.ann.modal is not view)
    form = await settled(house)
    assert said(form) == {
        "prompt": "a red fox \\--raw in snow",
        "count": "1",
        "negative": "blurry, {text}",
        "size": "128x64",
        "steps": "21",
        "guidance": "6.5",
        "seed": "12",
        "scheduler": "Euler a",
        "where": "here",
    }
    await slack.ann.submit({})
    await house.finished("a red fox")
    ((_, request),) = house.backend.submitted
    assert request.prompt == "a red fox --raw in snow"
    assert (request.steps, request.guidance_scale, request.seed, request.width) == (21, 6.5, 12, 128)


async def test_a_recipe_from_elsewhere_keeps_to_the_limits_here(house: SlackHouse) -> None:
    slack = house.slack
    message = shared(
        slack.bob, with_parameters("a fox\nSteps: 9999, CFG scale: 99, Seed: 1, Size: 9000x9000")
    )
    view = await chosen(house, "Remix", message)
    await slack.ann.submit({})
    assert set(view.errors) == {"steps", "guidance", "size"}
    assert house.backend.submitted == []


async def test_a_picture_without_a_recipe_is_what_a_remix_starts_from(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    message = shared(slack.bob, flat_png(64, 64, 3), "holiday.png")
    view = await chosen(house, "Remix", message)
    assert "Starts from holiday.png" in slack.read(view)
    await slack.ann.submit({"Prompt": "the same in winter", "Strength": "0.4"})
    await house.finished("the same in winter")
    ((_, request),) = house.backend.submitted
    assert request.init_image is not None
    assert request.strength == 0.4


async def test_its_answer_comes_privately_where_that_is_asked(house: SlackHouse) -> None:
    slack = house.slack
    await chosen(house, "Remix", shared(slack.bob, flat_png(64, 64, 3)))
    await slack.ann.submit({"Prompt": "the same in winter", "Where": "private"})
    status = await house.finished("the same in winter")
    assert status.channel == slack.ann.dm.id


async def test_a_message_without_a_picture_says_so(house: SlackHouse) -> None:
    slack = house.slack
    await slack.ann.message_shortcut("recipe_message", slack.bob.write("no picture"))
    await slack.until(lambda: slack.ann.ephemerals)
    assert "no picture on this message" in slack.read(slack.ann.ephemerals[0])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x89PNG\r\n\x1a\n not really", "picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture on this message"),
        (b"GIF89a" + b"\0" * 50, "PNG, JPEG or WebP"),
    ],
)
async def test_what_is_no_whole_picture_is_refused(house: SlackHouse, data: bytes, told: str) -> None:
    slack = house.slack
    message = shared(slack.bob, data)
    await slack.ann.message_shortcut("recipe_message", message)

    def answers() -> list[str]:
        modal = [slack.read(slack.ann.modal)] if slack.ann.modal is not None else []
        return modal + [slack.read(each) for each in slack.ann.ephemerals]

    await slack.until(lambda: any(told in each and "Reading" not in each for each in answers()))
    assert house.backend.submitted == []


async def test_a_picture_over_the_limit_is_cut_off(tmp_path: Path) -> None:
    async with slack_house(tmp_path, limits=Limits(max_image_bytes=100)) as house:
        view = await chosen(house, "Recipe", shared(house.slack.bob, flat_png(640, 640, 3)))
        assert "MB" in house.slack.read(view)


async def test_the_first_picture_with_a_recipe_counts(house: SlackHouse) -> None:
    slack = house.slack
    files = [slack.bob.upload(flat_png(64, 64, 1)), slack.bob.upload(stamped("a grey owl"))]
    view = await chosen(house, "Recipe", slack.bob.write("two", files=files))
    assert "/imagine a grey owl" in slack.read(view)


# --- where files come from --------------------------------------------------------------------------------


async def test_our_token_goes_to_slack_alone(house: SlackHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    slack, asked = house.slack, list[str]()

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization", ""))
        return web.Response(body=flat_png(64, 64, 1))

    app = web.Application()
    app.router.add_get("/{rest:.*}", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        addresses = (
            f"http://localhost:{port}/a.png",
            f"http://127.0.0.1:{port}/a.png",  # another port of the configured host
            f"https://files.{URL(slack.api_url).host}.evil.example/a",
            "file:///etc/passwd",
        )
        for number, url in enumerate(addresses):
            message = shared(slack.bob, flat_png(64, 64, number))
            rename(monkeypatch, message, url)
            view = await chosen(house, "Recipe", message)
            assert "not kept by Slack" in slack.read(view)
    finally:
        await runner.cleanup()
    assert asked == []


def rename(monkeypatch: pytest.MonkeyPatch, message: Message, url: str) -> None:
    """Let payloads name another address of a message's file."""
    original = slack_shapes.file_json

    def named(world: World, file: File, base: str = "") -> Any:
        other = {"url_private": url, "url_private_download": url}
        return original(world, file, base) | (other if file.id in message.files else {})

    monkeypatch.setattr(slack_shapes, "file_json", named)


async def test_a_file_that_we_may_not_see_says_what_to_do(house: SlackHouse) -> None:
    slack = house.slack
    message = shared(slack.bob, flat_png(64, 64, 1))
    slack.world.files[message.files[0]].data = None  # Slack shows its sign-in page
    view = await chosen(house, "Recipe", message)
    assert "/invite @fairbrush" in slack.read(view)


async def test_a_deleted_file_says_what_to_do(house: SlackHouse) -> None:
    slack = house.slack
    status = await made(house)
    await slack.bob.press(status, "Delete")
    await slack.until(lambda: status.deleted)
    view = await chosen(house, "Recipe", status)
    assert "/invite @fairbrush" in slack.read(view)


async def test_a_slow_file_does_not_hold_up_the_form(
    house: SlackHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.slack.forms.AT_ONCE", 0.02)
    slack = house.slack
    message = shared(slack.bob, flat_png(64, 64, 3))
    view = await chosen(house, "Remix", message)
    house.adapter.pictures._kept.clear()  # as after a restart
    slack.hold("files.info")
    done = await slack.ann.submit({"Prompt": "the same in winter"})
    assert done.seconds is not None
    assert "Slack is slow with the picture" in view.errors["prompt"]
    slack.release("files.info")
    await until(lambda: house.adapter.pictures._kept)
    await slack.ann.submit({})
    await house.finished("the same in winter")


async def test_a_modal_that_was_closed_meanwhile_is_let_be(house: SlackHouse) -> None:
    slack = house.slack
    message = shared(slack.bob, flat_png(64, 64, 3))
    slack.hold("views.open", after=True)
    shortcut = asyncio.ensure_future(slack.ann.message_shortcut("remix_message", message))
    await slack.ann.until_modal()
    await slack.ann.close_modal()
    slack.release("views.open")
    await shortcut
    await slack.until(lambda: slack.count("views.update", error="not_found"))
    assert slack.ann.ephemerals == []


# --- from anywhere ----------------------------------------------------------------------------------------


async def test_a_form_from_anywhere_asks_where(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    await slack.bob.shortcut("imagine_anywhere")
    view = await slack.bob.until_modal("Imagine")
    await slack.bob.press(view, "More options")
    await slack.until(lambda: "Steps" in slack.labels(view))
    await slack.bob.submit({"Prompt": "a red fox", "Where": slack.general.id, "Steps": "9"})
    status = await house.finished("a red fox")
    assert status.channel == slack.general.id
    assert house.backend.submitted[0][1].steps == 9


async def test_a_form_from_anywhere_is_answered_privately_where_no_channel_is_chosen(
    house: SlackHouse,
) -> None:
    slack = house.slack
    await slack.bob.shortcut("imagine_anywhere")
    await slack.bob.until_modal("Imagine")
    await slack.bob.submit({"Prompt": "a red fox"})
    status = await house.finished("a red fox")
    assert status.channel == slack.bob.dm.id


async def test_the_chosen_channels_settings_hold_and_are_told_at_the_field(house: SlackHouse) -> None:
    slack = house.slack
    ann = Requester("slack", slack.ann.team, slack.ann.id)
    art = slack.add_channel("art")
    await house.studio.set_rules(ann, Rules(allowed_channels=(art.id,)), admin=True)
    await house.studio.set_rules(ann, Rules(steps=7), channel=art.id, admin=True)
    await slack.bob.shortcut("imagine_anywhere")
    view = await slack.bob.until_modal("Imagine")
    await slack.bob.submit({"Prompt": "a red fox", "Where": slack.general.id})
    assert "not used in this channel" in view.errors["channel"]
    await slack.bob.submit({"Where": art.id})
    await house.finished("a red fox")
    assert house.backend.submitted[0][1].steps == 7


async def test_a_chosen_channel_without_the_bot_is_answered_privately_with_what_to_do(
    house: SlackHouse,
) -> None:
    slack = house.slack
    closed = slack.add_channel("closed", bot=False)
    await slack.bob.shortcut("imagine_anywhere")
    await slack.bob.until_modal("Imagine")
    await slack.bob.submit({"Prompt": "a red fox", "Where": closed.id})
    answer = await house.ended("/invite @fairbrush")
    assert answer.channel == slack.bob.dm.id


# --- over platforms ---------------------------------------------------------------------------------------


async def test_a_picture_made_on_discord_is_made_again_on_slack_and_back(tmp_path: Path) -> None:
    async with discord_house(tmp_path / "discord") as there, slack_house(tmp_path / "slack") as here:
        call = await there.imagine("a red fox, {bold}", seed=77, steps=6, guidance=3.5, negative="text")
        (picture,) = pictures(await results(there, call))
        view = await chosen(here, "Remix", shared(here.slack.bob, picture.data))
        assert said(view)["seed"] == "77"
        await here.slack.ann.submit({})
        status = await here.finished("a red fox")
        (_, on_discord), (_, on_slack) = there.backend.submitted[0], here.backend.submitted[0]
        assert on_discord == on_slack
        (again,) = here.slack.images(status)
        told = await there.discord.command(
            there.general, there.ann, "recipe", image=Upload("fox.png", again.data)
        )
        assert "/imagine a red fox, {bold}" in seen(told)
        assert "--seed 77" in seen(told)


async def test_a_recipe_line_of_discord_is_a_command_here(house: SlackHouse, tmp_path: Path) -> None:
    slack = house.slack
    message = shared(slack.bob, stamped('a "red" fox --raw', seed=9, negative_prompt="it's text"))
    view = await chosen(house, "Recipe", message)
    line = next(each for each in slack.read(view).splitlines() if each.startswith("/imagine"))
    typed = line.removeprefix("/imagine ").replace('"', "”").replace("--seed", "—seed")  # as phones do
    await slack.bob.command(typed)
    await house.finished("fox")
    ((_, request),) = house.backend.submitted
    assert (request.prompt, request.seed, request.negative_prompt) == ('a "red" fox --raw', 9, "it's text")
