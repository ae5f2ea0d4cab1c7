"""The local Discord's rules of messages, files and components: driven by bare requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.fakes.backend import flat_png
from tests.fakes.discord import Channel, Discord, Interaction, User, pictures, text
from tests.fakes.discord_bot import Wire, wired

PNG = flat_png(8, 6, 1)
BUTTON = {"type": 2, "style": 1, "label": "Go", "custom_id": "go"}
ROW = {"type": 1, "components": [BUTTON]}
V2 = 1 << 15


class Time:
    """A clock to be moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def discord(time: Time) -> AsyncIterator[Discord]:
    async with Discord(now=time) as server:
        server.guild()
        yield server
        assert not server.violations


@pytest.fixture
def general(discord: Discord) -> Channel:
    return discord.channel(next(iter(discord.world.guilds.values())), "general")


@pytest.fixture
def ann(general: Channel, discord: Discord) -> User:
    return discord.member(general.guild, "ann")


@pytest.fixture
async def wire(discord: Discord) -> AsyncIterator[Wire]:
    async with wired(discord) as made:
        await made.register()
        yield made


@pytest.fixture
def call(discord: Discord, wire: Wire, general: Channel, ann: User) -> Interaction:
    return discord.type(general, ann, "imagine", prompt="a fox")


def gallery(*names: str) -> dict[str, Any]:
    """A gallery of attached files."""
    return {"type": 12, "items": [{"media": {"url": f"attachment://{each}"}} for each in names]}


def listed(*names: str) -> list[dict[str, Any]]:
    """New files as a body lists them."""
    return [{"id": str(index), "filename": each} for index, each in enumerate(names)]


async def test_a_nonce_makes_one_message_within_minutes(
    wire: Wire, discord: Discord, general: Channel, time: Time
) -> None:
    body = {"content": "x", "nonce": "n", "enforce_nonce": True}
    path = f"/channels/{general.id}/messages"
    ids = [(await wire.ask("POST", path, body))[1]["id"] for _ in range(2)]
    assert ids[0] == ids[1]
    time.now += 301
    assert (await wire.ask("POST", path, body))[1]["id"] != ids[0]
    assert len(discord.messages(general)) == 2
    assert await wire.code("POST", path, {**body, "nonce": "n" * 26}) == 50035


async def test_an_edit_keeps_only_the_attachments_that_it_lists(
    wire: Wire, discord: Discord, general: Channel
) -> None:
    path = f"/channels/{general.id}/messages"
    files = [("a.png", PNG), ("b c.png", PNG)]
    body = {"content": "x", "attachments": listed("a.png", "b c.png")}
    _, made = await wire.ask("POST", path, body, files)
    assert [each["filename"] for each in made["attachments"]] == ["a.png", "b_c.png"]
    first = made["attachments"][0]["id"]
    path += f"/{made['id']}"
    await wire.ask("PATCH", path, {"content": "y"})
    assert len(discord.messages(general)[0].attachments) == 2
    await wire.ask("PATCH", path, {"attachments": [{"id": first}, *listed("c.png")]}, [("c.png", PNG)])
    assert [each.filename for each in discord.messages(general)[0].attachments] == ["a.png", "c.png"]
    assert await wire.code("PATCH", path, {"attachments": [{"id": "5"}]}) == 50035
    await wire.ask("PATCH", path, {"attachments": []})
    assert discord.messages(general)[0].attachments == []


async def test_an_attachment_is_downloaded_while_its_link_is_good(
    wire: Wire, discord: Discord, general: Channel, time: Time
) -> None:
    body = {"attachments": listed("a.png")}
    _, made = await wire.ask("POST", f"/channels/{general.id}/messages", body, [("a.png", PNG)])
    url = made["attachments"][0]["url"]
    async with ClientSession() as session:
        async with session.get(url) as answer:
            assert (answer.status, answer.content_type, await answer.read()) == (200, "image/png", PNG)
        async with session.get(re.sub("ex=[^&]+", "ex=0", url)) as answer:
            assert answer.status == 404
        time.now += 86_401
        async with session.get(url) as answer:
            assert answer.status == 404


async def test_files_are_limited_by_number_and_by_the_guilds_size(
    wire: Wire, discord: Discord, general: Channel
) -> None:
    path, mib = f"/channels/{general.id}/messages", 2**20
    assert await wire.code("POST", path, {}, [("a.bin", b"x")] * 11) == 30015
    assert await wire.ask("POST", path, {}, [("a.bin", bytes(10 * mib + 1))]) == (
        413,
        {"message": "Request entity too large", "code": 40005},
    )
    assert general.guild is not None
    general.guild.tier = 2
    assert await wire.code("POST", path, {}, [("a.bin", bytes(10 * mib + 1))]) == 0
    assert await wire.code("POST", path, {}, [("a.bin", bytes(13 * mib))] * 2) == 40005


async def test_components_v2_hold_everything_and_stay(wire: Wire, discord: Discord, general: Channel) -> None:
    path = f"/channels/{general.id}/messages"
    words: dict[str, Any] = {"type": 10, "content": "hello"}
    assert await wire.code("POST", path, {"components": [words]}) == 50035, "without the flag"
    assert await wire.code("POST", path, {"components": [words], "flags": V2, "content": "x"}) == 50035
    body = {"components": [words, gallery("a.png"), ROW], "flags": V2, "attachments": listed("a.png")}
    status, made = await wire.ask("POST", path, body, [("a.png", PNG)])
    assert status == 200
    assert made["attachments"] == [], "what components show is not listed again"
    assert [each["id"] for each in made["components"]] == [1, 2, 3]
    path += f"/{made['id']}"
    assert await wire.code("PATCH", path, {"content": "x", "components": []}) == 50035
    assert await wire.code("PATCH", path, {"components": [words], "flags": 0}) == 0
    assert discord.messages(general)[0].flags & V2, "the flag stays"
    assert pictures(discord.messages(general)[0])[0].data == PNG, "attached all the same"
    assert await wire.code("PATCH", path, {"components": [gallery("b.png")]}) == 50035, "no such file"


async def test_a_message_becomes_v2_when_its_words_are_taken_back(
    wire: Wire, discord: Discord, general: Channel
) -> None:
    _, made = await wire.ask("POST", f"/channels/{general.id}/messages", {"content": "x"})
    path, words = f"/channels/{general.id}/messages/{made['id']}", {"type": 10, "content": "hello"}
    body: dict[str, Any] = {"components": [words], "flags": V2}
    assert await wire.code("PATCH", path, body) == 50035
    assert await wire.code("PATCH", path, body | {"content": None}) == 0
    assert text(discord.messages(general)[0]) == "hello"


@pytest.mark.parametrize(
    "components",
    [
        [{"type": 10, "content": "x"}] * 41,
        [{"type": 10, "content": "x" * 2001}] * 2,
        [ROW, ROW],
        [{"type": 1, "components": [{**BUTTON, "custom_id": str(n)} for n in range(6)]}],
        [{"type": 1, "components": [{**BUTTON, "custom_id": "x" * 101}]}],
        [{"type": 1, "components": [{**BUTTON, "label": "x" * 81}]}],
        [{"type": 1, "components": [{"type": 2, "style": 5, "label": "x"}]}],
        [{"type": 12, "items": []}],
        [BUTTON],
        [{"type": 17, "components": [{"type": 17, "components": [{"type": 10, "content": "x"}]}]}],
    ],
)
async def test_components_beyond_their_limits_are_refused(
    wire: Wire, general: Channel, components: list[dict[str, Any]]
) -> None:
    body = {"components": components, "flags": V2}
    assert await wire.code("POST", f"/channels/{general.id}/messages", body) == 50035


@pytest.mark.parametrize("body", [{}, {"content": ""}, {"content": None, "embeds": []}])
async def test_an_empty_message_is_refused(wire: Wire, general: Channel, body: dict[str, Any]) -> None:
    assert await wire.code("POST", f"/channels/{general.id}/messages", body) == 50006


async def test_who_is_pinged_depends_on_what_each_request_allows(
    wire: Wire, discord: Discord, general: Channel, ann: User, call: Interaction
) -> None:
    path, words = f"/channels/{general.id}/messages", f"{ann.mention} @everyone"
    await wire.ask("POST", path, {"content": words, "allowed_mentions": {"parse": []}})
    await wire.ask(
        "POST", path, {"content": words, "allowed_mentions": {"users": [str(ann.id)], "parse": []}}
    )
    await wire.ask("POST", path, {"content": words})
    silent, named, open_ = discord.messages(general)
    assert (silent.pings, named.pings, open_.pings) == (set(), {str(ann.id)}, {str(ann.id)})
    discord.allow(general, mention_everyone=True)
    await wire.ask("POST", path, {"content": words})
    assert discord.messages(general)[-1].pings == {str(ann.id), "everyone"}
    await wire.ask("PATCH", f"{path}/{silent.id}", {"content": f"{words}!"})
    assert silent.mentions == {str(ann.id), "everyone"}, "an edit without a rule names everybody"
    assert silent.pings == set(), "and notifies nobody"
    await wire.answer(call, 5)
    await wire.ask("PATCH", wire.hook(call, "@original"), {"content": words})
    assert discord.original(call).pings == set()


async def test_old_messages_take_few_edits(
    wire: Wire, discord: Discord, general: Channel, time: Time
) -> None:
    discord.rules.old_edits = 2
    _, made = await wire.ask("POST", f"/channels/{general.id}/messages", {"content": "x"})
    path = f"/channels/{general.id}/messages/{made['id']}"
    assert [await wire.code("PATCH", path, {"content": "y"}) for _ in range(3)] == [0, 0, 0]
    time.now += 3601
    answers = [await wire.ask("PATCH", path, {"content": "z"}) for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert answers[2][1]["code"] == 30046
