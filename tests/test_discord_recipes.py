"""Recipes at Discord: from a picture to what made it and back, on any message, and what hostile files get."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from bot.core.pictures import fit_to_bytes, make_recipe, stamp
from bot.core.request import ImageRequest, Limits
from tests.fakes.backend import flat_png
from tests.fakes.discord import Interaction, Message, Upload, User, labels, pictures, text
from tests.fakes.discord_house import DiscordHouse, discord_house
from tests.fakes.discord_reading import fields, first, private, results, seen


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """A program whose traffic kept to Discord's own description."""
    async with discord_house(tmp_path) as house:
        yield house
        assert house.discord.violations == []


def ben(house: DiscordHouse, **permissions: bool) -> User:
    """Somebody else."""
    return house.discord.member(house.guild, "ben", **permissions)


async def recipe(house: DiscordHouse, data: bytes, name: str = "picture.png") -> Interaction:
    """/recipe of a file."""
    return await house.discord.command(house.general, house.ann, "recipe", image=Upload(name, data))


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


def pixel(data: bytes) -> object:
    """A colour of a flat picture."""
    return Image.open(io.BytesIO(data)).getpixel((0, 0))


# --- /recipe ----------------------------------------------------------------------------------------------


async def test_a_picture_is_made_again_from_its_recipe(house: DiscordHouse) -> None:
    prompt = "a red fox, {bold}"
    made = await results(house, await house.imagine(prompt, seed=77, steps=6, guidance=3.5, negative="text"))
    (picture,) = pictures(made)
    told = await recipe(house, picture.data)
    assert private(told)
    assert "/imagine a red fox, {bold}" in seen(told)
    assert "--negative text" in seen(told)
    assert "--seed 77" in seen(told)
    form = await house.discord.press(first(told), "Remix", house.ann)
    call = await house.discord.submit(form)
    (again,) = pictures(await results(house, call))
    (_, before), (_, after) = house.backend.submitted
    assert before == after
    assert pixel(again.data) == pixel(picture.data)


async def test_a_recipe_survives_a_smaller_form(house: DiscordHouse) -> None:
    data, mime = fit_to_bytes(stamped("a red fox", seed=9, width=64), 4000, mime="image/jpeg")
    assert mime in ("image/jpeg", "image/png")
    assert "--seed 9" in seen(await recipe(house, data, "fox.jpg"))


async def test_another_tools_text_is_read(house: DiscordHouse) -> None:
    data = with_parameters(
        "a red fox --raw in snow\nNegative prompt: blurry, {text}\n"
        "Steps: 21, Sampler: Euler a, CFG scale: 6.5, Seed: 12, Size: 128x64, Model hash: abc"
    )
    told = await recipe(house, data)
    assert "from another tool" in seen(told)
    form = await house.discord.press(first(told), "Remix", house.ann)
    assert fields(form) == {
        "prompt": "a red fox \\--raw in snow",
        "negative": "blurry, {text}",
        "size": "128x64",
        "options": '--steps 21 --guidance 6.5 --seed 12 --count 1 --scheduler "Euler a"',
        "picture": "",
    }
    await house.discord.submit(form)
    await house.idle()
    ((_, request),) = house.backend.submitted
    assert request.prompt == "a red fox --raw in snow"
    assert (request.steps, request.guidance_scale, request.seed, request.width) == (21, 6.5, 12, 128)


async def test_a_recipe_from_elsewhere_keeps_to_the_limits_here(house: DiscordHouse) -> None:
    told = await recipe(house, with_parameters("a fox\nSteps: 9999, CFG scale: 99, Seed: 1, Size: 9000x9000"))
    form = await house.discord.press(first(told), "Remix", house.ann)
    refused = await house.discord.submit(form)
    for part in ("from 1 to 150, not 9999", "from 0 to 30, not 99", "from 64 to 2048"):
        assert part in seen(refused)
    assert house.backend.submitted == []


async def test_a_long_recipe_comes_as_a_file_and_can_be_remixed(house: DiscordHouse) -> None:
    prompt, negative = "fox " * 490, "text " * 390
    told = await recipe(house, stamped(prompt.strip(), negative_prompt=negative.strip()))
    (file,) = first(told).attachments
    assert file.filename == "recipe.txt"
    assert prompt.strip() in file.data.decode()
    form = await house.discord.press(first(told), "Remix", house.ann)
    assert fields(form)["prompt"] == prompt.strip()
    assert fields(form)["negative"] == negative.strip()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (flat_png(64, 64, 1), "There is no recipe in this picture"),
        (b"GIF89a" + b"\0" * 100, "PNG, JPEG or WebP"),
        (b"", "PNG, JPEG or WebP"),
        (stamped("a fox")[:40], "recipe"),
        (b"<svg/>" + stamped("a fox"), "PNG, JPEG or WebP"),
    ],
    ids=["no recipe", "another format", "empty", "cut off", "polyglot"],
)
async def test_what_holds_no_recipe_says_so(house: DiscordHouse, data: bytes, told: str) -> None:
    call = await recipe(house, data)
    assert told in seen(call)
    assert private(call)


async def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with discord_house(tmp_path, limits=Limits(max_image_bytes=2 * 1024**2)) as house:
        call = await recipe(house, b"\x89PNG" + b"\0" * (3 * 1024**2))
        assert "over 2 MB" in seen(call)
        assert not any("/attachments/" in each.path for each in house.discord.traffic)


async def test_markup_in_a_recipe_stays_words(house: DiscordHouse) -> None:
    call = await recipe(house, stamped("`a` **fox** <@123> @everyone [x](https://evil.example)"))
    assert text(first(call)).startswith("``/imagine `a` **fox** <@123> @everyone [x](https")
    assert not first(call).pings


# --- menus ------------------------------------------------------------------------------------------------


async def menu(house: DiscordHouse, name: str, target: Message, user: User | None = None) -> Interaction:
    """A menu on a message."""
    return await house.discord.menu(user or house.ann, name, target, house.general)


async def test_recipe_and_remix_of_anybodys_picture(house: DiscordHouse) -> None:
    shared = house.discord.say(
        house.general,
        ben(house),
        "look",
        Upload("notes.txt", b"x"),
        Upload("plain.png", flat_png(64, 64, 1)),
        Upload("fox.png", stamped("a red fox", seed=3)),
    )
    told = await menu(house, "Recipe", shared)
    assert private(told)
    assert "/imagine a red fox" in seen(told)
    form = await menu(house, "Remix", shared)
    assert fields(form)["prompt"] == "a red fox"
    await house.discord.submit(form, {"Prompt": "a blue fox"})
    await house.idle()
    ((_, request),) = house.backend.submitted
    assert (request.prompt, request.seed) == ("a blue fox", 3)


async def test_recipe_and_remix_of_a_result_need_no_file(house: DiscordHouse) -> None:
    made = await results(house, await house.imagine("a red fox", seed=3, count=2))
    told = await menu(house, "Recipe", made, ben(house))
    assert "--seed 3" in seen(told)
    assert "--count 2" in seen(told)
    assert fields(await menu(house, "Remix", made, ben(house)))["prompt"] == "a red fox"
    assert not any("/attachments/" in each.path for each in house.discord.traffic)


async def test_a_result_of_another_server_is_read_from_its_picture(house: DiscordHouse) -> None:
    made = await results(house, await house.imagine("a red fox", seed=3))
    elsewhere = house.discord.guild("Elsewhere")
    general = house.discord.channel(elsewhere, "general")
    carl = house.discord.member(elsewhere, "carl")
    told = await house.discord.menu(carl, "Recipe", made, general)
    assert "/imagine a red fox" in seen(told)
    form = await house.discord.press(first(told), "Remix", carl)
    assert fields(form)["prompt"] == "a red fox"


async def test_a_slow_picture_is_remixed_with_one_press_more(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.discord.recipes.AT_ONCE", 0.01)
    shared = house.discord.say(house.general, ben(house), "", Upload("fox.png", stamped("a red fox")))
    fetch, gate = house.adapter.downloads.fetch, house.discord.on("POST /interactions/*/*/callback").hold()

    async def slow(*attached: Any, **more: Any) -> bytes:
        await gate.reached.wait()
        gate.release()
        return await fetch(*attached, **more)

    monkeypatch.setattr(house.adapter.downloads, "fetch", slow)
    call = await menu(house, "Remix", shared)
    assert call.answer == 5
    told = await house.discord.until(lambda: call.followups or (call.original and text(call.original)))
    assert told
    message = call.followups[0] if call.followups else first(call)
    form = await house.discord.press(message, "Remix", house.ann)
    assert fields(form)["prompt"] == "a red fox"


@pytest.mark.parametrize("name", ["Recipe", "Remix", "Delete"])
async def test_a_receipt_points_to_its_pictures(house: DiscordHouse, name: str) -> None:
    call = await house.imagine("a red fox")
    await house.idle()
    told = await menu(house, name, house.receipt(call))
    assert "in its thread" in seen(told) or "with my buttons" in seen(told)
    assert private(told)


@pytest.mark.parametrize("name", ["Recipe", "Remix", "Delete"])
async def test_a_message_without_pictures_says_so(house: DiscordHouse, name: str) -> None:
    call = await menu(house, name, house.discord.say(house.general, ben(house), "hello"))
    assert "pictures of mine" in seen(call) or "no picture on this message" in seen(call)
    assert private(call)


async def test_the_delete_menu_is_for_authors_and_moderators(house: DiscordHouse) -> None:
    made = await results(house, await house.imagine("a red fox"))
    refused = await menu(house, "Delete", made, ben(house))
    assert "Only its author or a moderator" in seen(refused)
    assert len(pictures(made)) == 1
    told = await menu(house, "Delete", made)
    assert private(told)
    await house.until(lambda: not made.attachments)
    assert labels(made) == []


async def test_others_messages_are_not_deleted_by_what_they_pretend(house: DiscordHouse) -> None:
    made = await results(house, await house.imagine("a red fox"))
    forged = house.discord.say(house.general, house.ann, "mine")
    forged.components = made.components  # another application's message, with our ids
    call = await menu(house, "Delete", forged)
    assert "no pictures of mine" in seen(call)
    assert len(pictures(made)) == 1
