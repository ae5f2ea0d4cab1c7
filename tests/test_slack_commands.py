"""/imagine's other words, and text as Slack sends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.slack.commands import subcommand
from adapters.slack.pacing import Bucket
from adapters.slack.wording import typed
from bot.core.guilds import Rules
from bot.core.request import Requester
from tests.fakes.slack_house import SlackHouse, slack_house


@pytest.fixture(params=["socket", "http"])
async def house(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SlackHouse]:
    """The program, in each mode; posts are not held back."""
    monkeypatch.setattr("adapters.slack.workspace.POSTS", Bucket(0.01, burst=3))
    async with slack_house(tmp_path, http=request.param == "http") as house:
        yield house
        assert house.slack.failures == []


async def answer(house: SlackHouse, text: str) -> str:
    """What bob is told alone."""
    known = len(house.slack.bob.ephemerals)
    await house.slack.bob.command(text)
    await house.slack.until(lambda: len(house.slack.bob.ephemerals) > known)
    return house.slack.read(house.slack.bob.ephemerals[-1])


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("queue", ("queue", "")),
        ("Help", ("help", "")),
        ("cancel", ("cancel", "")),
        ("show 7k2qabcd", ("show", "7K2QABCD")),
        ("recipe 7K2QABCD", ("recipe", "7K2QABCD")),
        ("show me a cat", None),
        ("queue of penguins", None),
        ("help wanted sign", None),
        ("settings sun --steps 9", None),
        ("a red fox", None),
    ],
)
def test_a_word_is_a_prompt_wherever_it_can_be_one(text: str, asked: tuple[str, str] | None) -> None:
    assert subcommand(text) == asked


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("a &lt;b&gt; &amp; c", "a <b> & c"),
        ("&amp;lt;", "&lt;"),
        ("<@UBOT> a fox", "a fox"),
        ("<@UBOT|fairbrush> a fox", "a fox"),
        ("like <@U123> and <@U9|ann>", "like @U123 and @ann"),
        ("in <#C1|general>", "in #general"),
        ("<!here> and <!subteam^S1|@team>", "@here and @team"),
        ("<https://example.com|link> <https://example.com>", "link https://example.com"),
        ("<mailto:a@b.example|a@b.example>", "a@b.example"),
        ("&lt;@UBOT&gt;", "<@UBOT>"),
    ],
)
def test_slacks_markup_is_undone(sent: str, read: str) -> None:
    assert typed(sent, bot="UBOT") == read


async def test_queue_shows_what_waits_and_why(house: SlackHouse) -> None:
    slack = house.slack
    assert "nothing in the queue" in await answer(house, "queue")
    hold = house.backend.hold("start")
    await slack.bob.command("a red fox")
    await hold.reached.wait()
    await slack.bob.command("a misty castle")
    said = await answer(house, "queue")
    assert "1 a red fox" in said
    assert "2 a misty castle" in said
    assert "1 person uses 1 GPU" in said
    hold.release()
    await slack.until(lambda: len(house.done()) == 2)


async def test_cancel_takes_the_only_one_or_asks_which(house: SlackHouse) -> None:
    slack = house.slack
    hold = house.backend.hold("start")
    await slack.bob.command("a red fox")
    await hold.reached.wait()
    await slack.bob.command("a misty castle")
    assert "1 a red fox" in await answer(house, "cancel")
    group = house.studio.queue(Requester("slack", slack.bob.team, slack.bob.id))[1].group_id
    assert "Cancelled: a misty castle" in await answer(house, f"cancel {group}")
    assert "Cancelled: a red fox" in await answer(house, "cancel")
    hold.release()


async def test_show_recipe_and_history_speak_of_ones_own(house: SlackHouse) -> None:
    slack = house.slack
    assert "made nothing here yet" in await answer(house, "show")
    await slack.bob.command("a red fox --seed 7 --steps 9")
    await house.finished()
    assert "a red fox" in await answer(house, "history")
    said = await answer(house, "show")
    assert "seed 7" in said
    assert len(slack.images(slack.bob.ephemerals[-1])) == 1
    said = await answer(house, "recipe")
    line = said.splitlines()[-1]
    assert line.startswith("/imagine a red fox")
    await slack.ann.command(line.removeprefix("/imagine "))
    await slack.until(lambda: len(house.done()) == 2)
    (_, first), (_, second) = house.backend.submitted
    assert (first.prompt, first.seed, first.steps) == (second.prompt, second.seed, second.steps)
    await slack.ann.command("show AAAAAAAA")
    await house.told(slack.ann, "no job AAAAAAAA")


async def test_settings_and_help(house: SlackHouse) -> None:
    slack = house.slack
    assert "Nothing is set" in await answer(house, "settings")
    ann = Requester("slack", slack.ann.team, slack.ann.id)
    await house.studio.set_rules(ann, Rules(max_steps=20), admin=True)
    assert "20 of 150 steps" in await answer(house, "settings")
    assert "/imagine a red fox in snow" in await answer(house, "help")


async def test_the_same_words_work_in_mentions_and_direct_messages(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.mention("queue")
    await slack.until(lambda: slack.bob.ephemerals)
    assert "nothing in the queue" in slack.read(slack.bob.ephemerals[0])
    await slack.bob.mention("")
    await slack.until(lambda: len(slack.bob.ephemerals) == 2)
    await slack.bob.write_dm("help")
    await house.ended("makes a picture")
    assert house.backend.submitted == []
