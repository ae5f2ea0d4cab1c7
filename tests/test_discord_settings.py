"""Discord's /settings: who may change what, what it takes, and that it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.discord.controls import control_id
from bot.core.guilds import NsfwPolicy, Rules, ThreadMode
from bot.core.request import Limits
from bot.core.styles import STYLES
from tests.fakes.discord import Discord, Interaction, Message, User, labels, pictures
from tests.fakes.discord_house import DiscordHouse, discord_house
from tests.fakes.discord_reading import fields, first, me, private, read, seen


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """A program whose traffic kept to Discord's own description."""
    async with discord_house(tmp_path, styles=STYLES, limits=Limits(max_count=8)) as house:
        yield house
        assert house.discord.violations == []


def boss(house: DiscordHouse) -> User:
    """Somebody who may manage the server."""
    return house.discord.member(house.guild, "boss", manage_guild=True)


async def panel(house: DiscordHouse, **options: object) -> Message:
    """/settings."""
    return first(await house.discord.command(house.general, boss(house), "settings", **options))


async def rules(house: DiscordHouse, channel: str = "") -> Rules:
    """What is said at a level."""
    return await house.studio.own_rules(me(house).tenant, channel)


async def fill(house: DiscordHouse, message: Message, button: str, **values: object) -> Interaction:
    """A form of the panel, sent."""
    form = await house.discord.press(message, button, boss(house))
    return await house.discord.submit(form, values)


# --- who --------------------------------------------------------------------------------------------------


async def test_the_panel_is_private_and_says_what_is_in_force(house: DiscordHouse) -> None:
    call = await house.discord.command(house.general, boss(house), "settings")
    assert private(call)
    for part in ("64×64", "4 steps", "8 pictures", "10 waiting", "in a thread", "everybody", "everywhere"):
        assert part in seen(call)
    assert labels(first(call)) == ["Defaults…", "Limits…", "Weight of roles…"]


async def test_members_cannot_open_it_whatever_they_send(house: DiscordHouse) -> None:
    call = await house.discord.answered(house.discord.forge(house.general, house.ann, "settings"))
    assert "Only those who manage this server" in seen(call)
    assert private(call)


@pytest.mark.parametrize(
    "name", ["mode", "nsfw", "roles", "channels", "reset", "ask_reset", "defaults", "weight"]
)
async def test_a_members_press_of_a_control_is_refused(
    house: DiscordHouse, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await house.studio.set_rules(me(house), Rules(steps=9), admin=True)
    message = await panel(house)
    control = control_id(name, "server")
    message.components = [
        {
            "type": 1,
            "id": 1,
            "components": [{"type": 2, "id": 2, "style": 2, "label": "x", "custom_id": control}],
        }
    ]
    call = house.discord.forge_press(message, control, house.ann, values=["channel"])
    await house.discord.answered(call)
    assert "Only those who manage this server" in seen(call)
    assert await rules(house) == Rules(steps=9)
    assert "was refused the settings" in caplog.text


async def test_a_members_form_is_refused(house: DiscordHouse) -> None:
    form = await house.discord.press(await panel(house), "Limits…", boss(house))
    form.user = house.ann
    call = await house.discord.submit(form, {"max_steps": "5"})
    assert "Only those who manage this server" in seen(call)
    assert await rules(house) == Rules()


async def test_direct_messages_have_no_settings(house: DiscordHouse) -> None:
    channel = house.discord.world.dm(house.ann)
    call = await house.discord.answered(house.discord.forge(channel, house.ann, "settings"))
    assert "Settings belong to a server" in seen(call)


# --- lists ------------------------------------------------------------------------------------------------


async def test_thread_mode_and_flagged_pictures_are_chosen(house: DiscordHouse) -> None:
    message = await panel(house)
    await house.discord.choose(message, control_id("mode", "server"), boss(house), "channel")
    await house.discord.choose(message, control_id("nsfw", "server"), boss(house), "spoiler")
    assert await rules(house) == Rules(thread_mode=ThreadMode.CHANNEL, nsfw=NsfwPolicy.SPOILER)
    assert "Saved." in read(message)
    assert "**all in the channel**" in read(message)
    call = await house.imagine("a red fox")
    await house.idle()
    assert len(pictures(first(call))) == 1  # no thread
    await house.discord.choose(message, control_id("mode", "server"), boss(house), "-")
    assert await rules(house) == Rules(nsfw=NsfwPolicy.SPOILER)


async def test_a_choice_that_was_not_offered_is_refused(house: DiscordHouse) -> None:
    message = await panel(house)
    call = house.discord.forge_press(
        message, control_id("mode", "server"), boss(house), kind=3, values=["everywhere"]
    )
    assert "not offered" in seen(await house.discord.answered(call))
    assert await rules(house) == Rules()


async def test_roles_decide_who_may_ask(house: DiscordHouse) -> None:
    artist = house.discord.role(house.guild, "artist")
    message = await panel(house)
    await house.discord.choose(message, control_id("roles", "server"), boss(house), str(artist.id))
    assert (await rules(house)).allowed_roles == (str(artist.id),)
    assert f"<@&{artist.id}>" in read(message)
    refused = await house.imagine("a red fox")
    assert "roles here do not allow this" in seen(refused)
    assert f"For <@&{artist.id}>." in seen(refused)
    assert private(refused)
    painter = house.discord.member(house.guild, "painter", artist)
    assert not private(await house.imagine("a red fox", user=painter))
    await house.discord.choose(message, control_id("roles", "server"), boss(house))
    assert not private(await house.imagine("a red fox"))
    await house.idle()


async def test_everyone_is_a_role_of_everyone(house: DiscordHouse) -> None:
    message = await panel(house)
    await house.discord.choose(message, control_id("roles", "server"), boss(house), str(house.guild.id))
    assert not private(await house.imagine("a red fox"))
    await house.idle()


async def test_channels_decide_where(house: DiscordHouse) -> None:
    studio = house.discord.channel(house.guild, "studio")
    message = await panel(house)
    await house.discord.choose(message, control_id("channels", "server"), boss(house), str(studio.id))
    refused = await house.imagine("a red fox")
    assert "not made in this channel" in seen(refused)
    assert f"Ask in <#{studio.id}>." in seen(refused)
    assert private(refused)
    call = await house.discord.imagine(studio, house.ann, "a red fox")
    assert not private(call)
    await house.idle()
    again = await panel(house)  # what was chosen is chosen already
    assert f"<#{studio.id}>" in read(again)


# --- forms ------------------------------------------------------------------------------------------------


async def test_defaults_hold_for_requests_that_do_not_say(house: DiscordHouse) -> None:
    message = await panel(house)
    numbers = "--steps 9 --guidance 3.5 --count 2"
    await fill(
        house,
        message,
        "Defaults…",
        style="INK",
        size="128x64",
        numbers=numbers,
        negative="blurry",
        model="fake",
    )
    assert await rules(house) == Rules(
        model="fake",
        style="ink",
        size=(128, 64),
        steps=9,
        guidance_scale=3.5,
        count=2,
        negative_prompt="blurry",
    )
    assert "**9 steps**" in read(message)
    await house.imagine("a red fox")
    await house.idle()
    ((_, request),) = house.backend.submitted
    assert (request.width, request.steps, request.guidance_scale, request.count) == (128, 9, 3.5, 2)
    assert (request.style, request.negative_prompt) == ("ink", "blurry")
    form = await house.discord.press(message, "Defaults…", boss(house))
    assert fields(form) == {
        "model": "fake",
        "style": "ink",
        "size": "128x64",
        "numbers": "--steps 9 --guidance 3.5 --count 2",
        "negative": "blurry",
    }


async def test_limits_are_tightened_and_told(house: DiscordHouse) -> None:
    message = await panel(house)
    await fill(house, message, "Limits…", max_steps="20", max_count="2", max_side="128", waiting_per_user="1")
    assert "**20 of 150 steps**" in read(message)
    assert "**1 of 10 waiting**" in read(message)
    refused = await house.imagine("a red fox --steps 30")
    assert "from 1 to 20" in seen(refused)
    help_page = await house.discord.command(house.general, house.ann, "help")
    assert "At most 20 steps · 2 pictures · 128 pixels a side · 1 waiting" in seen(help_page)


@pytest.mark.parametrize(
    ("button", "values", "told"),
    [
        (
            "Limits…",
            {"max_steps": "many", "max_side": "-3"},
            ["Most steps must be", "Longest side in pixels"],
        ),
        ("Limits…", {"max_count": "99"}, ["from 1 to 8, not 99"]),
        ("Limits…", {"max_side": "100001", "max_steps": "0"}, ["from 64 to 2048", "from 1 to 150"]),
        ("Defaults…", {"size": "big", "numbers": "--steps lots"}, ["WIDTHxHEIGHT", "Steps must be"]),
        ("Defaults…", {"numbers": "--steps 9 --seed 3"}, ['"seed" does not belong there']),
        ("Defaults…", {"numbers": "nine"}, ['"nine" does not belong there']),
        ("Defaults…", {"numbers": "--steps 900"}, ["from 1 to 150"]),
        ("Defaults…", {"model": "../etc", "size": "9x9"}, ["Offered: fake", "from 64 to 2048"]),
        ("Defaults…", {"style": "nope"}, ["Offered:"]),
    ],
)
async def test_bad_fields_are_each_told(
    house: DiscordHouse, button: str, values: dict[str, object], told: list[str]
) -> None:
    call = await fill(house, await panel(house), button, **values)
    for part in told:
        assert part in seen(call)
    assert private(call)
    assert await rules(house) == Rules()


async def test_weights_of_roles_count_in_the_queue(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    patron = house.discord.role(house.guild, "patron")
    friend = house.discord.member(house.guild, "friend", patron)
    message = await panel(house)
    await fill(house, message, "Weight of roles…", roles=[patron], weight="2,5")
    assert (await rules(house)).role_weights == {str(patron.id): 2.5}
    assert f"<@&{patron.id}> 2.5×" in read(message)
    weighed: list[tuple[float, str]] = []
    monkeypatch.setattr(
        house.app._dispatcher._queue, "set_weight", lambda _, weight, user: weighed.append((weight, user))
    )
    await house.imagine("a red fox", user=friend)
    await house.idle()
    assert weighed == [(2.5, f"discord:{friend.id}")]
    bad = await fill(house, message, "Weight of roles…", roles=[patron], weight="0")
    assert "from 0.1 to 10" in seen(bad)
    await fill(house, message, "Weight of roles…", roles=[patron], weight="")
    assert (await rules(house)).role_weights == {}


# --- one channel ------------------------------------------------------------------------------------------


async def test_a_channel_has_settings_of_its_own(house: DiscordHouse) -> None:
    studio = house.discord.channel(house.guild, "studio")
    message = await panel(house, channel=studio)
    assert f"Settings of <#{studio.id}>" in read(message)
    assert "Weight of roles…" not in labels(message)
    await fill(house, message, "Limits…", max_steps="20")
    await house.discord.choose(message, control_id("mode", str(studio.id)), boss(house), "channel")
    assert await rules(house) == Rules()
    assert await rules(house, str(studio.id)) == Rules(max_steps=20, thread_mode=ThreadMode.CHANNEL)
    refused = await house.discord.imagine(studio, house.ann, "a fox --steps 30")
    assert "from 1 to 20" in seen(refused)
    assert not private(await house.imagine("a fox --steps 30"))
    await house.idle()


async def test_reset_asks_once_and_forgets_this_level_alone(house: DiscordHouse) -> None:
    studio = house.discord.channel(house.guild, "studio")
    await house.studio.set_rules(me(house), Rules(steps=9), admin=True)
    await house.studio.set_rules(me(house), Rules(steps=7), channel=str(studio.id), admin=True)
    message = await panel(house)
    await house.discord.press(message, "Reset", boss(house))
    assert await rules(house) == Rules(steps=9)
    await house.discord.press(message, "Really forget all of these?", boss(house))
    assert await rules(house) == Rules()
    assert await rules(house, str(studio.id)) == Rules(steps=7)
    assert "Reset" not in labels(message)


# --- operators --------------------------------------------------------------------------------------------


async def test_only_operators_weigh_a_server(tmp_path: Path) -> None:
    async with Discord() as discord:
        async with discord_house(tmp_path, discord=discord) as house:
            operator = boss(house)
            assert "Weight of this server…" not in labels(await panel(house))
        operators = frozenset({f"discord:{operator.id}"})
        async with discord_house(tmp_path, discord=discord, operators=operators) as house:
            message = await panel(house)
            refused = await fill(house, message, "Weight of this server…", weight="1000")
            assert "from 0.1 to 100" in seen(refused)
            await fill(house, message, "Weight of this server…", weight="4")
            assert house.studio.weight(me(house).tenant) == 4.0
            assert "The weight is 4." in read(message)
        assert discord.violations == []
