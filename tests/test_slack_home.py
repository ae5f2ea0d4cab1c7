"""App Homes: what somebody waits for and why, their last pictures, settings; and when they are published."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.slack import home_view
from adapters.slack.home import Watcher
from adapters.slack.home_view import Content, Result, Thumbnail
from adapters.slack.visit import Visit
from bot.core.ports import JobStatus, Pace
from bot.core.request import State
from tests.fakes.clock import HandClock
from tests.fakes.slack import Slack
from tests.fakes.slack_blocks import check_view
from tests.fakes.slack_house import SlackHouse, program, slack_house, until
from tests.fakes.slack_people import Person
from tests.fakes.slack_state import View


@pytest.fixture(params=["socket", "http"])
async def each_way(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program, in each mode."""
    async with slack_house(tmp_path, http=request.param == "http") as house:
        yield house
        assert house.slack.failures == []
        assert not house.slack.limits.over


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program, in Socket Mode."""
    async with slack_house(tmp_path) as house:
        yield house
        assert house.slack.failures == []


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Homes and statuses that follow at once."""
    monkeypatch.setattr("adapters.slack.home.GAP", 0.0)
    monkeypatch.setattr("adapters.slack.adapter.Slack.pace", Pace(0.01, 10_000))


async def opened(house: SlackHouse, person: Person) -> View:
    """Somebody's Home, opened by them; it stays the same view."""
    await person.open_home()
    await house.slack.until(lambda: person.home)
    assert person.home is not None
    return person.home


async def read(house: SlackHouse, person: Person, *words: str, without: str = "") -> str:
    """What somebody's Home says, once it says these words."""

    def there() -> bool:
        said = house.slack.read(person.home) if person.home is not None else ""
        return all(each in said for each in words) and not (without and without in said)

    await house.slack.until(there)
    assert person.home is not None
    return house.slack.read(person.home)


async def quiet(house: SlackHouse) -> None:
    """Until all that was asked for is shown, in Homes too."""
    watchers = house.adapter.homes._watchers

    def done() -> bool:
        busy = [each for each in watchers.values() if each.changed or (each.task and not each.task.done())]
        return not house.studio._desk.groups and not busy

    await until(done)


def home(person: Person) -> View:
    """The Home as it is now."""
    assert person.home is not None
    return person.home


# --- what is shown ----------------------------------------------------------------------------------------


async def test_an_empty_home_says_what_to_do(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    view = await opened(house, slack.bob)
    said = slack.read(view)
    assert "/imagine a red fox in snow" in said
    assert "You have nothing in the queue." in said
    assert "They will be here once there are some." in said
    assert slack.labels(view) == ["Make a picture", "Refresh"]


async def test_it_shows_what_waits_with_place_and_progress_and_why(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    hold = house.backend.hold("done")
    await slack.bob.command("a grey owl --steps 4")
    await hold.reached.wait()
    await slack.bob.command("a misty castle", slack.add_channel("art"))
    await slack.bob.command("a blue whale", slack.add_channel("more"))
    await opened(house, slack.bob)
    said = await read(
        house, slack.bob, "1 a grey owl · ▰▰▰▰▰▰▰▰▰▰ 4/4", "2 a misty castle · ", "about 1 ahead"
    )
    assert "3 a blue whale · #2 of yours · about 1 ahead · under a minute" in said
    assert "1 person uses 1 GPU" in said
    await slack.bob.press(home(slack.bob), "cancel:2")
    await read(house, slack.bob, "a grey owl", "2 a blue whale", without="a misty castle")
    hold.release()
    await house.finished("a blue whale")


async def test_it_follows_ones_own_requests_to_their_pictures(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    await opened(house, slack.bob)
    hold = house.backend.hold("done")
    await slack.bob.command("a grey owl --seed 7 --count 3")
    await read(house, slack.bob, "1 a grey owl ·")
    hold.release()
    await read(house, slack.bob, "You have nothing in the queue.", "seed 7")
    await slack.until(lambda: len(slack.images(home(slack.bob))) == 3)
    assert slack.labels(home(slack.bob))[2:] == ["Open", "Again", "Remix", "Delete"]


async def test_nobody_elses_requests_are_in_it(house: SlackHouse) -> None:
    slack = house.slack
    await opened(house, slack.bob)
    await slack.ann.command("a grey owl")
    await house.finished("a grey owl")
    await slack.bob.press(home(slack.bob), "Refresh")
    await slack.until(lambda: slack.count("views.publish") == 2)
    assert "a grey owl" not in slack.read(home(slack.bob))


async def test_it_links_to_the_message_with_the_pictures(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a grey owl")
    status = await house.finished("a grey owl")
    await opened(house, slack.bob)
    buttons = [each for block in home(slack.bob).content["blocks"] for each in block.get("elements", [])]
    (link,) = [each["url"] for each in buttons if "url" in each]
    assert link.endswith(f"p{status.ts.replace('.', '')}?thread_ts={status.thread_ts}&cid={status.channel}")
    await slack.bob.press(home(slack.bob), "Open")  # Slack tells of it; it is only acknowledged
    await slack.bob.press(home(slack.bob), "Refresh")
    await slack.until(lambda: slack.count("views.publish") == 2)
    assert slack.count("chat.getPermalink") == 1


async def test_a_hidden_picture_stays_hidden_until_it_is_asked_for(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a grey owl --spoiler")
    await house.finished("a grey owl")
    await opened(house, slack.bob)
    assert slack.images(home(slack.bob)) == []
    await slack.bob.press(home(slack.bob), "Show picture")
    assert len(slack.images(await slack.bob.until_modal("Picture"))) == 1


async def test_a_picture_that_slack_does_not_show_leaves_the_rest(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a grey owl --seed 7")
    await house.finished("a grey owl")
    for file in slack.world.files.values():
        file.deleted = True
    view = await opened(house, slack.bob)
    assert "seed 7" in slack.read(view)
    assert slack.images(view) == []


async def test_a_hostile_prompt_stays_text(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("<!channel> *bold* <https://evil.example|click> @everyone")
    await house.finished()
    await opened(house, slack.bob)
    for block in home(slack.bob).content["blocks"]:
        for holder in (block, *block.get("elements", [])):
            text = holder.get("text") or {}
            if isinstance(text, dict) and "*bold*" in text.get("text", ""):
                assert text["type"] == "plain_text"


# --- its buttons ------------------------------------------------------------------------------------------


async def test_its_buttons_make_again_and_delete(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    await slack.bob.command("a grey owl --seed 7")
    await house.finished("a grey owl")
    await opened(house, slack.bob)
    await slack.bob.press(home(slack.bob), "Again")
    await slack.until(lambda: len(house.done()) == 2)
    assert house.done()[-1].channel == slack.bob.dm.id
    await slack.until(lambda: "delete:1" in str(home(slack.bob).content))
    await slack.bob.press(home(slack.bob), "delete:1")
    await slack.until(lambda: "delete:1" not in str(home(slack.bob).content))
    assert "seed 7 ·" not in slack.read(home(slack.bob))


async def test_a_remix_from_it_asks_where(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a grey owl --seed 7")
    await house.finished("a grey owl")
    await opened(house, slack.bob)
    await slack.bob.press(home(slack.bob), "Remix")
    await slack.bob.until_modal("Remix")
    await slack.bob.submit({"Prompt": "a blue fox", "Where": slack.general.id})
    status = await house.finished("a blue fox")
    assert status.channel == slack.general.id


async def test_it_opens_the_form(house: SlackHouse) -> None:
    slack = house.slack
    await opened(house, slack.bob)
    await slack.bob.press(home(slack.bob), "Make a picture")
    await slack.bob.until_modal("Imagine")
    await slack.bob.submit({"Prompt": "a grey owl"})
    await read(house, slack.bob, "a grey owl", "seed")


async def test_admins_open_the_settings_from_it_and_nobody_else(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    await opened(house, slack.ann)
    assert slack.labels(home(slack.ann))[:3] == ["Make a picture", "Refresh", "Settings"]
    await slack.ann.press(home(slack.ann), "Settings")
    await slack.ann.until_modal("Settings")
    await opened(house, slack.bob)
    assert "Settings" not in slack.labels(home(slack.bob))
    forged = await slack.bob.press(home(slack.ann), "Settings")
    assert forged.acknowledged
    refusal = await house.ended("Only admins and owners of this workspace")
    assert refusal.channel == slack.bob.dm.id
    assert slack.bob.modal is None


# --- when it is published ---------------------------------------------------------------------------------


async def test_only_somebody_who_looks_is_published_to(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("a grey owl")
    await house.finished("a grey owl")
    assert slack.count("views.publish") == 0


async def test_the_messages_tab_publishes_nothing(house: SlackHouse) -> None:
    slack = house.slack
    done = await slack.bob.open_home()
    await slack.until(lambda: slack.count("views.publish") == 1)
    done.payload["event"]["tab"] = "messages"
    await slack.resend(done)
    await slack.bob.open_home()
    await slack.until(lambda: slack.count("views.publish") == 2)


async def test_changes_that_come_close_together_are_one_publication(
    house: SlackHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.slack.home.GAP", 6.0)
    clock, slack = HandClock(0.0), house.slack
    house.adapter.homes._monotonic, house.adapter.homes._sleep = clock.clock.monotonic, clock.clock.sleep
    await opened(house, slack.bob)
    hold = house.backend.hold("done")
    for number in range(3):
        await slack.bob.command(f"fox number {number}", slack.add_channel(f"channel-{number}"))
    await hold.reached.wait()
    await slack.until(lambda: len(house.replies()) == 3)
    assert slack.count("views.publish") == 1
    await clock.advance(6.0)
    await read(house, slack.bob, "fox number 0", "fox number 1", "fox number 2")
    assert slack.count("views.publish") == 2
    hold.release()
    await until(lambda: not house.studio._desk.groups)
    await clock.advance(6.0)
    await read(house, slack.bob, "nothing in the queue")
    assert slack.count("views.publish") == 3


async def test_time_alone_publishes_nothing_and_who_looks_away_is_left_alone(house: SlackHouse) -> None:
    clock, slack = HandClock(0.0), house.slack
    homes = house.adapter.homes
    homes._monotonic, homes._sleep = clock.clock.monotonic, clock.clock.sleep
    await opened(house, slack.bob)
    await clock.advance(3599.0)
    await slack.bob.command("a grey owl")
    await house.finished("a grey owl")
    await read(house, slack.bob, "a grey owl", "seed")
    await quiet(house)
    known = slack.count("views.publish")
    await clock.advance(2.0)
    await slack.bob.command("a blue fox", slack.add_channel("art"))
    await house.finished("a blue fox")
    await quiet(house)
    assert slack.count("views.publish") == known
    assert not any(watcher.changed for watcher in homes._watchers.values())


async def test_what_is_not_new_is_not_published(house: SlackHouse) -> None:
    slack = house.slack
    await opened(house, slack.bob)
    address = {"team": slack.bob.team, "user": slack.bob.id}
    homes = house.adapter.homes
    for _ in range(5):
        homes.changed(address)
        (watcher,) = homes._watchers.values()
        assert watcher.task is not None
        await watcher.task
    assert slack.count("views.publish") == 1


async def test_a_rate_limit_is_waited_for(house: SlackHouse) -> None:
    slack = house.slack
    await opened(house, slack.bob)
    slack.refuse("views.publish", "ratelimited", retry_after=1)
    await slack.bob.command("a grey owl")
    await read(house, slack.bob, "a grey owl", "seed")
    assert slack.count("views.publish", error="ratelimited") == 1


async def test_a_home_that_slack_refuses_does_no_harm(house: SlackHouse) -> None:
    slack = house.slack
    await opened(house, slack.bob)
    slack.refuse("views.publish", "internal_error", times=-1)
    await slack.bob.command("a grey owl")
    await house.finished("a grey owl")
    slack.mend()
    await slack.bob.press(home(slack.bob), "Refresh")
    await read(house, slack.bob, "a grey owl", "seed")


async def test_a_workspace_without_the_program_is_published_to_no_more(house: SlackHouse) -> None:
    slack = house.slack
    homes = house.adapter.homes
    visit = Visit("T9", "", "U9")
    watcher = Watcher(visit, manages=False, until=homes._monotonic() + 60)
    homes._watchers["T9", "U9"] = watcher
    homes.changed({"team": "T9", "user": "U9"})
    assert watcher.task is not None
    await watcher.task
    assert ("T9", "U9") not in homes._watchers
    assert slack.count("views.publish") == 0


async def test_who_looks_is_forgotten_before_memory_is(
    house: SlackHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.slack.home.MOST_WATCHERS", 1)
    slack = house.slack
    await opened(house, slack.bob)
    await opened(house, slack.ann)
    assert [user for _, user in house.adapter.homes._watchers] == [slack.ann.id]


async def test_homes_of_two_workspaces_are_their_own(tmp_path: Path) -> None:
    async with Slack() as slack:
        other = slack.add_workspace("Other")
        async with program(slack, tmp_path, http=True, oauth=True) as house:
            for workspace in (slack.workspace, other):
                await slack.ann.install(f"{house.app.url}/slack/install", into=workspace)
            carl = slack.add_person("carl", other)
            slack.add_channel("art", other)
            await opened(house, slack.bob)
            await opened(house, carl)
            await carl.command("a grey owl")
            await read(house, carl, "a grey owl", "seed")
            assert "a grey owl" not in slack.read(home(slack.bob))


# --- its limits -------------------------------------------------------------------------------------------


def test_the_largest_home_is_within_slacks_limits() -> None:
    long = "<&> 🦊 " * 500
    waiting = [JobStatus("7K2QABCD", long, State.QUEUED) for _ in range(30)]
    pictures = tuple(Thumbnail(f"F{n}", long, hidden=n % 2 == 0) for n in range(20))
    results = [Result("7K2QABCD", long, long[:200], pictures, "https://a.example/" + "x" * 500)] * 5
    content = Content(waiting, ["why " * 100, "last hour"], results, manages=True)
    shown = home_view.view(home_view.blocks(content), 1_700_000_000.0)
    assert check_view(shown, lambda file: True) == []
    bare = home_view.view(home_view.blocks(content, pictured=False), 1_700_000_000.0)
    assert check_view(bare, lambda file: False) == []
