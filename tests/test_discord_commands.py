"""Discord's commands: what Discord is told of them, what they take in, and what they suggest."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.discord.autocomplete import Recent
from adapters.discord.client import digest
from bot.core.errors import Unavailable
from bot.core.ports import Model
from bot.core.request import Limits
from bot.core.styles import STYLES
from tests.fakes.backend import FAKE_MODEL, FakeBackend, flat_png
from tests.fakes.discord import Interaction, Upload, labels, pictures, text
from tests.fakes.discord_house import DiscordHouse, discord_house
from tests.fakes.discord_reading import fields, first, me, private, results, seen
from tests.fakes.memory_store import MemoryStore

LARGE = Model(
    id="large/model",
    title="A large one",
    width=1024,
    height=1024,
    steps=20,
    guidance_scale=5.0,
    scheduler="Euler a",
    schedulers=("Euler", "Euler a", "DDIM"),
    refused_schedulers={"DDIM": "it only makes noise"},
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """A program with two models, whose traffic kept to Discord's own description."""
    backend = FakeBackend(models=(FAKE_MODEL, LARGE))
    async with discord_house(tmp_path, backends=[backend], styles=STYLES) as house:
        house.backend = backend
        yield house
        assert house.discord.violations == []


# --- what Discord is told ---------------------------------------------------------------------------------


async def test_commands_are_within_what_discord_takes(house: DiscordHouse) -> None:
    commands = house.discord.world.commands
    assert [each["name"] for each in commands if each["type"] == 1] == [
        "imagine",
        "queue",
        "cancel",
        "show",
        "recipe",
        "history",
        "help",
        "settings",
    ]
    assert [each["name"] for each in commands if each["type"] == 3] == ["Remix", "Recipe", "Delete"]
    for each in commands:
        options = each.get("options") or []
        assert len(options) <= 25
        assert all(1 <= len(one["description"]) <= 100 for one in [each, *options] if each["type"] == 1)
        assert all(re.fullmatch(r"[a-z_]{1,32}", one["name"]) for one in options)
        assert all(len(one.get("choices") or ()) <= 25 for one in options)
        assert not any(one.get("choices") and one.get("autocomplete") for one in options)
        said = [each["name"], each.get("description", "")]
        said += [one[key] for one in options for key in ("name", "description")]
        said += [choice[key] for one in options for choice in one.get("choices") or () for key in choice]
        assert sum(map(len, said)) <= 8000


async def test_members_may_use_them_everywhere_and_managers_the_settings(house: DiscordHouse) -> None:
    commands = {each["name"]: each for each in house.discord.world.commands}
    settings = commands.pop("settings")
    assert (settings["contexts"], settings["integration_types"]) == ([0], [0])
    assert int(settings["default_member_permissions"]) == 1 << 5  # MANAGE_GUILD
    for each in commands.values():
        assert (each["contexts"], each["integration_types"]) == ([0, 1, 2], [0, 1])
        assert each["default_member_permissions"] is None


async def test_options_have_the_operators_ranges(tmp_path: Path) -> None:
    limits = Limits(max_steps=40, max_count=3, max_guidance=12.5, max_prompt=300, max_ratio=2.0)
    async with discord_house(tmp_path, limits=limits) as house:
        (imagine,) = [each for each in house.discord.world.commands if each["name"] == "imagine"]
    options = {each["name"]: each for each in imagine["options"]}
    assert (options["steps"]["min_value"], options["steps"]["max_value"]) == (1, 40)
    assert options["count"]["max_value"] == 3
    assert options["guidance"]["max_value"] == 12.5
    assert options["seed"]["max_value"] == 2**32 - 1
    assert options["negative"]["max_length"] == 300
    assert "21:9" not in [each["value"] for each in options["aspect"]["choices"]]
    assert "40" in options["steps"]["description"]


def _payload(house: DiscordHouse) -> list[Any]:
    client = house.adapter.client
    assert client is not None
    return [each.to_dict(client.tree) for each in client.tree.get_commands()]


async def test_payload_changes_only_where_the_limits_do(tmp_path: Path) -> None:
    digests = []
    for name, limits in (("a", Limits()), ("b", Limits()), ("c", Limits(max_steps=40))):
        async with discord_house(tmp_path / name, limits=limits) as house:
            digests.append(digest(_payload(house)))
    assert digests[0] == digests[1] != digests[2]


# --- what /imagine takes ----------------------------------------------------------------------------------


async def test_every_option_reaches_the_backend(house: DiscordHouse) -> None:
    options: dict[str, Any] = {"steps": 7, "guidance": 3.5, "seed": 11, "count": 2, "spoiler": True}
    options |= {"negative": "blurry", "size": "768 x 512", "style": "ink"}
    call = await house.imagine("a red fox", scheduler="Euler a", model="large/model", **options)
    await house.idle()
    ((_, request),) = house.backend.submitted
    assert (request.width, request.height, request.steps) == (768, 512, 7)
    assert (request.guidance_scale, request.seed, request.count) == (3.5, 11, 2)
    assert (request.negative_prompt, request.scheduler, request.model) == ("blurry", "Euler a", "large/model")
    assert (request.style, request.spoiler) == ("ink", True)
    assert [each.spoiler for each in pictures(await house.status(call))] == [True, True]


async def test_an_aspect_keeps_the_usual_area(house: DiscordHouse) -> None:
    await house.imagine("a red fox", aspect="16:9", model="large/model")
    await house.idle()
    ((_, request),) = house.backend.submitted
    assert (request.width, request.height) == (1376, 768) or request.width / request.height > 1.7


async def test_flags_in_the_prompt_win_over_options(house: DiscordHouse) -> None:
    call = await house.imagine("a red fox —steps 9 --count 2", steps=5, seed=3)
    made = await results(house, call)
    ((_, request),) = house.backend.submitted
    assert (request.prompt, request.steps, request.seed, request.count) == ("a red fox", 9, 3, 2)
    assert len(pictures(made)) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps": 10**9}, "from 1 to 150"),
        ({"steps": -1}, "from 1 to 150"),
        ({"guidance": 1e308}, "from 0 to 30"),
        ({"seed": 2**64}, "from 0 to 4294967295"),
        ({"count": 9999}, "from 1 to 10"),
        ({"size": "100000x100000"}, "from 64 to 2048"),
        ({"size": "huge"}, "WIDTHxHEIGHT"),
        ({"size": "64x64 --steps 3"}, "WIDTHxHEIGHT"),
        ({"size": "512x512", "aspect": "1:1"}, "Keep --ar"),
        ({"aspect": "0:1"}, "from 1:4 to 4:1"),
        ({"aspect": "1:1000000"}, "from 1:4 to 4:1"),
        ({"model": "../../etc/passwd"}, "Offered: fake"),
        ({"model": "https://evil.example/model.ckpt"}, "Offered: fake"),
        ({"scheduler": "DDIM", "model": "large/model"}, "it only makes noise"),
        ({"style": "nope"}, "Offered:"),
        ({"strength": 0.5}, "needs a picture"),
        ({"prompt": "   "}, "prompt is empty"),
        ({"prompt": "a fox --stpes 20"}, "Did you mean --steps?"),
        ({"prompt": "a" * 3000}, "at most 2,000"),
    ],
)
async def test_what_no_client_would_send_is_refused_in_private(
    house: DiscordHouse, options: dict[str, Any], told: str
) -> None:
    sent = house.discord.forge(house.general, house.ann, "imagine", **{"prompt": "a red fox"} | options)
    call = await house.discord.answered(sent)
    assert told in seen(call)
    assert private(call)
    assert house.backend.submitted == []
    assert house.discord.messages(house.general) == []


async def test_a_refused_request_is_opened_again_as_it_was_typed(house: DiscordHouse) -> None:
    sent = house.discord.forge(
        house.general,
        house.ann,
        "imagine",
        prompt="a red fox --steps 900",
        size="64x",
        negative="text",
        seed=5,
    )
    refused = await house.discord.answered(sent)
    assert "a red fox --steps 900" in text(first(refused))
    form = await house.discord.press(first(refused), "Edit", house.ann)
    assert fields(form) == {
        "prompt": "a red fox --steps 900",
        "negative": "text",
        "size": "64x",
        "options": "--seed 5",
        "picture": "",
    }
    call = await house.discord.submit(form, {"Prompt": "a red fox --steps 9", "size": "64x128"})
    await house.idle()
    assert first(call).private_to is None
    ((_, request),) = house.backend.submitted
    assert (request.prompt, request.steps, request.height, request.seed) == ("a red fox", 9, 128, 5)
    assert request.negative_prompt == "text"


async def test_it_works_in_direct_messages(house: DiscordHouse) -> None:
    channel = house.discord.world.dm(house.ann)
    call = await house.discord.imagine(channel, house.ann, "a red fox")
    await house.idle()
    assert len(pictures(first(call))) == 1


# --- pictures to start from -------------------------------------------------------------------------------


async def test_an_attached_picture_is_what_it_starts_from(house: DiscordHouse) -> None:
    image = Upload("fox.png", flat_png(128, 64, 7))
    call = await house.imagine("a red fox", image=image, strength=0.5)
    await house.idle()
    ((_, request),) = house.backend.submitted
    assert request.init_image is not None
    assert (request.init_image.width, request.init_image.height, request.strength) == (128, 64, 0.5)
    assert (request.width, request.height) == (128, 64)
    assert len(pictures(await house.status(call))) == 1


def resized_png(width: int, height: int) -> bytes:
    """A small PNG whose header says that it is another size."""
    data = flat_png(64, 64, 1)
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "PNG, JPEG or WebP"),
        (flat_png(64, 64, 1)[:60], "damaged"),
        (resized_png(5000, 5000), "5,000 × 5,000 pixels"),
    ],
    ids=["svg", "cut off", "a huge header"],
)
async def test_hostile_pictures_are_refused_in_private(house: DiscordHouse, data: bytes, told: str) -> None:
    call = await house.imagine("a red fox", image=Upload("x.png", data))
    assert told in seen(call)
    assert private(call)
    assert house.backend.submitted == []


async def test_a_picture_over_the_limit_is_not_even_fetched(tmp_path: Path) -> None:
    async with discord_house(tmp_path, limits=Limits(max_image_bytes=100)) as house:
        call = await house.imagine("a red fox", image=Upload("fox.png", flat_png(64, 64, 1)))
        assert "over 0 MB" in seen(call)
        assert private(call)


async def test_a_picture_from_elsewhere_is_not_fetched(house: DiscordHouse) -> None:
    for url in (
        "http://169.254.169.254/a.png",
        "https://cdn.discordapp.com.evil.example/a.png",
        "file:///etc",
    ):
        call = _forged(house, url)
        assert "not one of Discord" in seen(await house.discord.answered(call))


def _forged(house: DiscordHouse, url: str) -> Interaction:
    """/imagine with an attachment whose address is another one."""
    discord = house.discord
    sent = discord.forge  # the payload is changed before it goes out
    held = discord.world.tell
    calls: list[tuple[Any, ...]] = []
    discord.world.tell = lambda *each: calls.append(each)  # type: ignore[method-assign]
    try:
        call = sent(house.general, house.ann, "imagine", prompt="a fox", image=Upload("a.png", b"x"))
    finally:
        discord.world.tell = held  # type: ignore[method-assign]
    for attachment in call.payload["data"]["resolved"]["attachments"].values():
        attachment["url"] = attachment["proxy_url"] = url
    return discord.send(call)


async def test_a_slow_download_is_answered_in_time(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.discord.flow.PATIENCE", 0.01)
    fetch = house.adapter.downloads.fetch
    gate = house.discord.on("POST /interactions/*/*/callback").hold()

    async def slow(*attached: Any, **more: Any) -> bytes:
        await gate.reached.wait()
        gate.release()
        return await fetch(*attached, **more)

    monkeypatch.setattr(house.adapter.downloads, "fetch", slow)
    call = await house.imagine("a red fox", image=Upload("fox.png", flat_png(64, 64, 1)))
    assert call.answer == 5
    status = await house.status(call)
    await house.until(lambda: len(pictures(status)) == 1)


# --- suggestions ------------------------------------------------------------------------------------------


async def suggested(house: DiscordHouse, name: str, option: str, typed: str, **more: Any) -> list[str]:
    """The values offered."""
    found = await house.discord.suggest(house.general, house.ann, name, option, typed, **more)
    assert len(found) <= 25
    return [each["value"] for each in found]


async def test_sizes_suit_the_chosen_model(house: DiscordHouse) -> None:
    offered = await suggested(house, "imagine", "size", "", prompt="a fox --model large/model")
    assert offered[0] == "1024x1024"
    assert "1024x1024" not in await suggested(house, "imagine", "size", "", prompt="a fox")
    assert await suggested(house, "imagine", "size", "768x512", prompt="a fox") == ["768x512"]
    assert await suggested(house, "imagine", "size", "9999x9999", prompt="a fox") == []
    named = await house.discord.suggest(
        house.general, house.ann, "imagine", "size", "16:9", model="large/model"
    )
    assert [each["name"].partition(" · ")[2] for each in named] == ["16:9"]


async def test_names_are_offered_as_they_are_typed(house: DiscordHouse) -> None:
    assert await suggested(house, "imagine", "model", "LARGE") == ["large/model"]
    schedulers = await suggested(house, "imagine", "scheduler", "", model="large/model")
    assert schedulers == ["Euler a", "Euler"]  # the model's own first, without the one that it refuses
    assert await suggested(house, "imagine", "style", "water") == ["watercolor"]
    assert await suggested(house, "imagine", "style", "no such style") == []


async def test_suggestions_need_no_store(house: DiscordHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.imagine("a red fox")
    await house.idle()

    def closed(*_: Any, **__: Any) -> None:
        raise AssertionError("the store was asked")

    for name in ("group", "history", "shelf_get", "unfinished", "usage"):
        monkeypatch.setattr(house.store, name, closed)
    for option in ("size", "model", "scheduler", "style"):
        assert await suggested(house, "imagine", option, "")
    assert len(await suggested(house, "show", "id", "")) == 1
    assert await suggested(house, "cancel", "job", "") == []


async def test_own_requests_are_offered_again_after_a_restart(tmp_path: Path) -> None:
    store = MemoryStore()
    async with discord_house(tmp_path, store=store) as house:
        await house.imagine("a red fox")
        await house.idle()
        house.adapter.recent = Recent()  # as after a restart
        await suggested(house, "show", "id", "")
        await house.until(lambda: house.adapter.recent.knows(me(house)))
        assert len(await suggested(house, "show", "id", "fox")) == 1


async def test_a_refusal_of_any_length_is_told_whole(house: DiscordHouse) -> None:
    sent = house.discord.forge(house.general, house.ann, "imagine", prompt="`*" * 1980 + " --steps 900")
    refused = await house.discord.answered(sent)
    assert "at most 2,000 are allowed" in seen(refused)
    (file,) = first(refused).attachments
    assert file.data.decode().startswith("`*`*")
    form = await house.discord.press(first(refused), "Edit", house.ann)
    assert len(fields(form)["prompt"]) == 3972


async def test_without_room_for_drafts_a_refusal_still_comes(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise Unavailable("There is no room.")

    monkeypatch.setattr(house.store, "shelf_put", full)
    refused = await house.imagine("a fox --steps 900")
    assert "from 1 to 150" in seen(refused)
    assert private(refused)
    assert labels(first(refused)) == []
