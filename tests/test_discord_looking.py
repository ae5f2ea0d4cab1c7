"""One's own requests at Discord: /queue, /cancel, /show, /history; and /help, and what is told in trouble."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.discord.controls import control_id
from bot.core.errors import Unavailable
from bot.core.guilds import NsfwPolicy, Rules
from bot.core.styles import STYLES
from bot.store.sqlite import open_store
from tests.fakes.backend import FakeBackend
from tests.fakes.discord import Interaction, labels, pictures, text
from tests.fakes.discord_house import DiscordHouse, discord_house
from tests.fakes.discord_reading import first, me, private, results, seen


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[DiscordHouse]:
    """A program whose traffic kept to Discord's own description."""
    async with discord_house(tmp_path, styles=STYLES) as house:
        yield house
        assert house.discord.violations == []


async def suggested(house: DiscordHouse, name: str, option: str, typed: str) -> list[str]:
    """The values offered."""
    found = await house.discord.suggest(house.general, house.ann, name, option, typed)
    return [each["value"] for each in found]


# --- one's own requests -----------------------------------------------------------------------------------


async def waiting(house: DiscordHouse, *prompts: str) -> list[Interaction]:
    """Requests of ann's, the first of which runs and stays so."""
    house.backend.hold("start")
    calls = [await house.imagine(prompt) for prompt in prompts]
    await house.until(lambda: house.backend.running == 1)
    await house.until(lambda: all(_group(house, at).position for at in range(1, len(prompts))), "positions")
    return calls


def _group(house: DiscordHouse, at: int) -> Any:
    return list(house.studio._desk.groups.values())[at]


async def test_the_queue_says_where_one_stands_and_why(house: DiscordHouse) -> None:
    await waiting(house, "a red fox", "a *bold* castle")
    other = house.discord.member(house.guild, "ben")
    await house.imagine("somebody else's", user=other)
    call = await house.discord.command(house.general, house.ann, "queue")
    assert private(call)
    said = seen(call)
    assert re.search(r"^1 \*\*a red fox\*\* · ", said, re.M)
    assert re.search(r"^2 \*\*a \*bold\* castle\*\* · .*next · under a minute$", said, re.M)
    assert "somebody else's" not in said
    assert "2 members share 1 GPU" in said


async def test_one_is_cancelled_from_the_queue(house: DiscordHouse) -> None:
    calls = await waiting(house, "a red fox", "a castle", "a lake")
    queue = await house.discord.command(house.general, house.ann, "queue")
    after = await house.discord.choose(first(queue), "Cancel…", house.ann, "a castle")
    assert first(after).id == first(queue).id
    assert "Cancelled **a castle**" in text(first(queue))
    assert "2 **a lake**" in text(first(queue))
    status = await house.status(calls[1])
    await house.until(lambda: "Cancelled" in text(status))


async def cancel(house: DiscordHouse, **options: Any) -> Interaction:
    """/cancel."""
    return await house.discord.command(house.general, house.ann, "cancel", **options)


async def test_cancel_takes_the_newest_or_the_one_named_or_all(house: DiscordHouse) -> None:
    await waiting(house, "a red fox", "a castle", "a lake", "a hill")
    assert "Cancelled **a hill**" in seen(await cancel(house))
    offered = await house.discord.suggest(house.general, house.ann, "cancel", "job", "")
    assert offered[0]["name"].startswith("a lake")
    named = next(each["value"] for each in offered if each["name"].startswith("a castle"))
    assert "Cancelled **a castle**" in seen(await cancel(house, job=named.lower()))
    assert "Cancelled all 2" in seen(await cancel(house, job="all"))
    await house.until(lambda: not house.studio.queue(me(house)))
    empty = await cancel(house)
    assert "Nothing of yours is waiting" in seen(empty)
    assert private(empty)


async def test_somebody_elses_request_cannot_be_cancelled(house: DiscordHouse) -> None:
    await waiting(house, "a red fox", "a castle")
    other = house.discord.member(house.guild, "ben")
    group = _group(house, 1).group_id
    call = await house.discord.command(house.general, other, "cancel", job=group)
    assert "Only its author" in seen(call)
    assert private(call)
    assert len(house.studio.queue(me(house))) == 2


async def test_a_request_is_shown_again_with_its_buttons(house: DiscordHouse) -> None:
    made = await results(house, await house.imagine("a red fox", count=2, seed=5))
    (group,) = await suggested(house, "show", "id", "fox")
    public = await house.discord.command(house.general, house.ann, "show", id=group)
    alone = await house.discord.command(
        house.general, house.ann, "show", id=f"{group.lower()} ", private=True
    )
    for call in (public, alone):
        shown, before = pictures(first(call)), pictures(made)
        assert [each.data for each in shown] == [each.data for each in before]
        assert labels(first(call)) == labels(made)
    assert (private(public), private(alone)) == (False, True)


async def test_what_discord_finds_too_large_is_shown_smaller(house: DiscordHouse) -> None:
    await house.imagine()
    await house.idle()
    (group,) = await house.studio.history(me(house))
    house.discord.on("POST /interactions/*/*/callback").refuse(40005)
    shown = await house.discord.command(house.general, house.ann, "show", id=group.group_id)
    assert len(pictures(house.discord.original(shown))) == 1


async def test_where_discord_takes_no_pictures_it_says_so(house: DiscordHouse) -> None:
    await house.imagine()
    await house.idle()
    (group,) = await house.studio.history(me(house))
    house.discord.on("POST /interactions/*/*/callback").refuse(50013)
    shown = await house.discord.command(house.general, house.ann, "show", id=group.group_id)
    assert seen(shown) == "Discord does not take this message."


async def test_only_ones_own_requests_are_shown(house: DiscordHouse) -> None:
    await house.imagine("a red fox")
    await house.idle()
    (group,) = await suggested(house, "show", "id", "")
    other = house.discord.member(house.guild, "ben")
    for user, asked in ((other, group), (house.ann, "NOSUCHID"), (house.ann, "../../x")):
        call = await house.discord.command(house.general, user, "show", id=asked)
        assert "There is no job" in seen(call)
        assert private(call)


async def test_an_unfinished_request_is_shown_as_it_stands(house: DiscordHouse) -> None:
    await waiting(house, "a red fox")
    call = await house.discord.command(house.general, house.ann, "show", id=_group(house, 0).group_id)
    assert private(call)
    assert "Cancel" in labels(first(call))


async def test_history_is_paged(house: DiscordHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.discord.looking.PAGE", 2)
    for number in range(5):
        await house.imagine(f"picture {number}")
        await house.idle()
    page = first(await house.discord.command(house.general, house.ann, "history"))
    assert page.private_to == house.ann.id
    assert labels(page) == ["Older"]
    assert "**picture 4**" in text(page)
    assert "**picture 2**" not in text(page)
    await house.discord.press(page, "Older", house.ann)
    await house.discord.press(page, "Older", house.ann)
    assert labels(page) == ["Newer"]
    assert "**picture 0**" in text(page)
    assert "**picture 1**" not in text(page)
    await house.discord.press(page, "Newer", house.ann)
    assert labels(page) == ["Newer", "Older"]
    assert "**picture 2**" in text(page)
    shown = await house.discord.choose(page, "Show…", house.ann, "picture 2")
    assert private(shown)
    assert len(pictures(first(shown))) == 1


async def test_a_page_that_never_was_is_the_first(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store.sqlite3")
    async with discord_house(tmp_path, store=store) as house:
        await house.imagine()
        await house.idle()
        page = first(await house.discord.command(house.general, house.ann, "history"))
        forged = control_id("older", "9" * 30)
        button = {"type": 2, "id": 9, "style": 2, "label": "Older", "custom_id": forged}
        page.components = [{"type": 1, "id": 8, "components": [button]}]
        call = await house.discord.answered(house.discord.forge_press(page, forged, house.ann))
        assert "a red fox" in text(house.discord.original(call))


async def test_nothing_asked_for_says_so(house: DiscordHouse) -> None:
    assert "asked for nothing" in seen(await house.discord.command(house.general, house.ann, "history"))
    assert "Nothing of yours" in seen(await house.discord.command(house.general, house.ann, "queue"))


# --- help and failures ------------------------------------------------------------------------------------


async def test_help_says_what_this_server_allows(house: DiscordHouse) -> None:
    call = await house.discord.command(house.general, house.ann, "help")
    assert private(call)
    for part in ("--ar 16:9", "At most 150 steps", "10 pictures", "watercolor", "64×64"):
        assert part in seen(call)


async def test_a_bug_is_told_with_a_reference(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a secret of the program")

    monkeypatch.setattr(house.studio, "why", broken)
    call = await house.discord.command(house.general, house.ann, "queue")
    found = re.search(r"ref ([0-9A-F]{4})", seen(call))
    assert found is not None
    assert private(call)
    assert "secret" not in seen(call)
    assert found[1] in caplog.text
    assert "a secret of the program" in caplog.text


async def test_trouble_of_the_store_is_told(house: DiscordHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: object, **__: object) -> None:
        raise Unavailable("The disk is too slow right now. Send it again in a minute.")

    monkeypatch.setattr(house.studio, "history", down)
    call = await house.discord.command(house.general, house.ann, "history")
    assert "disk is too slow" in seen(call)
    assert private(call)


async def test_a_command_of_an_older_form_says_what_to_do(house: DiscordHouse) -> None:
    sent = house.discord.forge(house.general, house.ann, "imagine", steps=5)  # without its prompt
    call = await house.discord.answered(sent)
    assert "has changed" in seen(call)
    assert private(call)


# --- flagged pictures, slow answers -----------------------------------------------------------------------


async def test_flagged_pictures_are_shown_again_only_where_they_may_be(tmp_path: Path) -> None:
    backend = FakeBackend(reject={1}, reveal=True)
    async with discord_house(tmp_path, backends=[backend]) as house:
        adults = house.discord.channel(house.guild, "adults", nsfw=True)
        await house.studio.set_rules(me(house), Rules(nsfw=NsfwPolicy.SPOILER), admin=True)
        await house.discord.imagine(adults, house.ann, "a fox --count 2")
        await house.idle()
        (group,) = await suggested(house, "show", "id", "")
        there = await house.discord.command(adults, house.ann, "show", id=group)
        here = await house.discord.command(house.general, house.ann, "show", id=group)
        assert [each.spoiler for each in pictures(first(there))] == [False, True]
        assert [each.spoiler for each in pictures(first(here))] == [False]
        assert "1 flagged by the content check" in seen(here)
        assert "V2" not in labels(first(here))  # the numbers of the buttons would not fit
        assert house.discord.violations == []


@pytest.mark.parametrize("name", ["queue", "history", "help"])
async def test_slow_answers_are_deferred_in_private(
    house: DiscordHouse, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("adapters.discord.answers.PATIENCE", 0.01)
    gate = house.discord.on("POST /interactions/*/*/callback").hold()
    whole = {each: getattr(house.studio, each) for each in ("why", "history", "rules")}

    def slow(each: str) -> Callable[..., Awaitable[object]]:
        async def wait(*given: object, **more: object) -> object:
            await gate.reached.wait()  # nothing comes before it is deferred
            gate.release()
            return await whole[each](*given, **more)

        return wait

    for each in whole:
        monkeypatch.setattr(house.studio, each, slow(each))
    call = await house.discord.command(house.general, house.ann, name)
    assert call.answer == 5
    await house.until(lambda: len(seen(call)) > 10)
    assert private(call)
