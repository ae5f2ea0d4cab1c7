"""Many workspaces: installing by OAuth, tokens of their own, removal of one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from adapters.slack.installations import Installation, Installations, key_of
from bot.core.request import Requester
from bot.core.settings import Secret
from tests.fakes.slack import Slack
from tests.fakes.slack_house import SlackHouse, program
from tests.fakes.slack_people import Person
from tests.fakes.studio import FakeShelf


@pytest.fixture(params=["socket", "http"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program without a token of its own, in each mode."""
    http = request.param == "http"
    async with Slack(installed=False) as slack, program(slack, tmp_path, oauth=True, http=http) as house:
        yield house


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the local Slack does not see."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_workspace_installs_it_and_uses_it(house: SlackHouse) -> None:
    slack = house.slack
    status, page = await slack.ann.install(f"{house.app.url}/slack/install")
    assert (status, "Installed" in page, "Acme" in page) == (200, True, True)
    slack.invite(slack.general)
    await slack.bob.command("a red fox")
    await house.finished("a red fox")


async def test_two_workspaces_are_two_tenants_with_two_tokens(house: SlackHouse) -> None:
    slack = house.slack
    other = slack.add_workspace("Umbrella")
    eve = slack.add_person("eve", other, admin=True)
    channel = slack.add_channel("general", other)
    url = f"{house.app.url}/slack/install"
    await slack.ann.install(url)
    await eve.install(url, into=other)
    slack.invite(slack.general)
    slack.invite(channel)
    await slack.bob.command("a red fox")
    await eve.command("a grey owl", channel)
    await slack.until(lambda: len(house.done()) == 2)
    groups = await asyncio.gather(*(house.studio.history(each) for each in (_who(slack.bob), _who(eve))))
    assert [group[0].requester.tenant for group in groups] == [f"slack:{slack.bob.team}", f"slack:{other.id}"]
    assert {call.team for call in slack.calls if call.method == "chat.update"} == {slack.bob.team, other.id}


def _who(person: Person) -> Requester:
    return Requester("slack", person.team, person.id)


async def test_an_organisation_installs_it_for_all_its_workspaces(house: SlackHouse) -> None:
    slack = house.slack
    corp = slack.add_enterprise("Corp")
    east, west = (slack.add_workspace(name, corp) for name in ("East", "West"))
    people = [slack.add_person(name, team) for name, team in (("eve", east), ("wes", west))]
    status, _ = await slack.ann.install(f"{house.app.url}/slack/install", into=corp)
    assert status == 200
    for person, team in zip(people, (east, west), strict=True):
        channel = slack.add_channel("general", team)
        slack.invite(channel)
        await person.command(f"a fox for {person.name}", channel)
        await house.finished(f"a fox for {person.name}")


async def test_tokens_are_kept_encrypted(house: SlackHouse) -> None:
    slack = house.slack
    await slack.ann.install(f"{house.app.url}/slack/install")
    kept = await house.studio.shelf("slack").get(key_of("", slack.workspace.id))
    assert isinstance(kept, dict)
    assert slack.token not in str(kept)
    found = await house.adapter.installations.find(slack.workspace.id)
    assert found is not None
    assert found.token.reveal() == slack.token


async def test_whoever_says_no_changes_nothing(house: SlackHouse) -> None:
    slack = house.slack
    status, page = await slack.ann.install(f"{house.app.url}/slack/install", deny=True)
    assert (status, "Nothing was changed" in page) == (200, True)
    assert await house.adapter.installations.find(slack.workspace.id) is None


async def test_a_way_back_that_did_not_begin_here_is_refused(house: SlackHouse) -> None:
    back = f"{house.app.url}/slack/oauth_redirect"
    async with aiohttp.ClientSession() as client:
        for query in ("", "?code=c", "?code=c&state=x", "?code=c&state=1.x", "?code=c&state=%C3%A9.%C3%A9"):
            async with client.get(back + query, cookies={"fairbrush-slack-state": "nonce"}) as answer:
                assert answer.status == 400


async def test_a_way_back_works_once_and_in_one_browser(house: SlackHouse) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as client:
        url = f"{house.app.url}/slack/install"
        async with client.get(url, allow_redirects=False) as answer:
            to_slack = answer.headers["Location"]
            cookie = answer.cookies["fairbrush-slack-state"]
            assert cookie["httponly"]
        async with client.get(to_slack, allow_redirects=False) as answer:
            back = answer.headers["Location"]
        async with aiohttp.ClientSession() as stranger, stranger.get(back) as answer:
            assert answer.status == 400
        async with client.get(back) as answer:
            assert answer.status == 200
        async with client.get(back, cookies={"fairbrush-slack-state": cookie.value}) as answer:
            assert answer.status == 400


async def test_a_workspace_that_removes_it_is_forgotten_and_the_others_stay(house: SlackHouse) -> None:
    slack = house.slack
    other = slack.add_workspace("Umbrella")
    eve = slack.add_person("eve", other, admin=True)
    channel = slack.add_channel("general", other)
    url = f"{house.app.url}/slack/install"
    await slack.ann.install(url)
    await eve.install(url, into=other)
    slack.invite(channel)
    known = house.adapter.installations
    await slack.uninstall()
    await until(lambda: known._known.get(key_of("", slack.workspace.id), 1) is None)
    assert await house.studio.shelf("slack").get(key_of("", slack.workspace.id)) is None
    await eve.command("a grey owl", channel)
    await house.finished("a grey owl")


async def test_a_revoked_token_is_found_out_by_itself_and_stops_that_workspace_alone(
    house: SlackHouse,
) -> None:
    slack = house.slack
    await slack.ann.install(f"{house.app.url}/slack/install")
    slack.invite(slack.general)
    slack.revoke()
    await slack.bob.command("a red fox")
    known = house.adapter.installations
    await until(lambda: known._known.get(key_of("", slack.workspace.id), 1) is None)
    assert not house.app.failed.done()


async def test_a_workspace_without_it_is_told_so(house: SlackHouse) -> None:
    slack = house.slack
    await slack.ann.install(f"{house.app.url}/slack/install")
    found = await house.adapter.installations.find(slack.workspace.id)
    assert found is not None
    await house.adapter.installations.forget(found)
    await slack.bob.command("a red fox")
    await slack.until(lambda: slack.bob.ephemerals)
    assert "not installed in this workspace" in slack.bob.ephemerals[0].text
    assert house.backend.submitted == []


async def test_a_workspace_of_an_organisation_is_found_without_its_organisations_name() -> None:
    known = Installations(Secret(""))
    known.open(FakeShelf(), Secret("a" * 32))
    await known.save(Installation("T1", "E1", Secret("xoxb-1"), "U1", "B1"))
    for enterprise in ("E1", ""):
        found = await known.find("T1", enterprise)
        assert found is not None
        assert found.token.reveal() == "xoxb-1"
    assert await known.find("T2", "E1") is None


async def test_another_secret_key_reads_no_token() -> None:
    shelf = FakeShelf()
    first, second = Installations(Secret("")), Installations(Secret(""))
    first.open(shelf, Secret("a" * 32))
    second.open(shelf, Secret("b" * 32))
    await first.save(Installation("T1", "", Secret("xoxb-1"), "U1", "B1"))
    assert await second.find("T1") is None
    third = Installations(Secret(""))
    third.open(shelf, Secret("a" * 32))
    found = await third.find("T1")
    assert found is not None
    assert found.token.reveal() == "xoxb-1"
