"""A workspace's settings: who may change them, the form and what it refuses, and that they hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.slack.people import administers
from adapters.slack.visit import of_interaction
from bot.core.guilds import NsfwPolicy, Rules, ThreadMode
from bot.core.request import Requester
from bot.core.styles import STYLES
from tests.fakes.slack import Slack
from tests.fakes.slack_house import SlackHouse, program, slack_house
from tests.fakes.slack_people import Person
from tests.fakes.slack_state import View


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program, in Socket Mode."""
    async with slack_house(tmp_path) as house:
        yield house
        assert house.slack.failures == []


@pytest.fixture(params=["socket", "http"])
async def each_way(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SlackHouse]:
    """The program, in each mode."""
    async with slack_house(tmp_path, http=request.param == "http", styles=STYLES) as house:
        yield house
        assert house.slack.failures == []


def tenant(person: Person) -> str:
    """Whose settings they see."""
    return Requester("slack", person.team, person.id).tenant


async def opened(person: Person, title: str = "Settings") -> View:
    """The form, by the command."""
    await person.command("settings")
    return await person.until_modal(title)


async def whispered(house: SlackHouse, person: Person, known: int = 0) -> str:
    """What somebody was told alone, after so many others."""
    await house.slack.until(lambda: len(person.ephemerals) > known)
    return house.slack.read(person.ephemerals[known])


def inputs(view: View) -> dict[str, str]:
    """Error by the field that it is shown at."""
    return {block.partition(".")[0]: message for block, message in view.errors.items()}


# --- changing ---------------------------------------------------------------------------------------------


async def test_an_admin_sets_defaults_and_limits_and_they_hold(each_way: SlackHouse) -> None:
    house, slack = each_way, each_way.slack
    view = await opened(slack.ann)
    assert "Nothing is set here yet" in slack.read(view)
    assert "64×64 · 4 steps · guidance 7.5 · 1 picture" in slack.read(view)
    await slack.ann.submit(
        {
            "Size": "128 x 64",
            "Steps": "9",
            "Guidance": "3,5",
            "Negative prompt": "blurry",
            "Style": "ink",
            "Most steps": "20",
            "Most pictures at once": "2",
        }
    )
    assert slack.ann.modal is None
    await slack.bob.command("a red fox")
    await house.finished("a red fox")
    (_, request) = house.backend.submitted[0]
    assert (request.width, request.height, request.steps, request.guidance_scale) == (128, 64, 9, 3.5)
    assert (request.negative_prompt, request.style) == ("blurry", "ink")
    known = len(slack.bob.ephemerals)
    await slack.bob.command("a red fox --steps 21")
    assert "from 1 to 20 (this workspace's limit)" in await whispered(house, slack.bob, known)
    assert len(house.backend.submitted) == 1
    view = await opened(slack.ann)
    assert "*128×64* · *9 steps*" in slack.read(view)
    assert "*20 of 150 steps*" in slack.read(view)


async def test_every_bad_field_is_told_at_that_field_with_its_range_and_nothing_is_changed(
    each_way: SlackHouse,
) -> None:
    slack = each_way.slack
    view = await opened(slack.ann)
    await slack.ann.submit(
        {
            "Size": "big",
            "Steps": "9999",
            "Guidance": "much",
            "Pictures at once": "0",
            "Most steps": "-3",
            "Longest side in pixels": "100",
            "Waiting requests of each person": "11",
            "Most pictures at once": "2",
        }
    )
    told = inputs(view)
    assert set(told) == {
        *("size", "steps", "guidance_scale", "count"),
        *("max_steps", "max_side", "waiting_per_user"),
    }
    assert "WIDTHxHEIGHT" in told["size"]
    assert "from 1 to 150, not 9999" in told["steps"]
    assert 'from 0 to 30, not "much"' in told["guidance_scale"]
    assert "from 1 to 2, not 0" in told["count"]
    assert 'from 1 to 150, not "-3"' in told["max_steps"]
    assert "a multiple of 8 from 64 to 2048" in told["max_side"]
    assert "from 1 to 10, not 11" in told["waiting_per_user"]
    assert all(message.endswith("Correct it, or leave it empty.") for message in told.values())
    assert await each_way.studio.own_rules(tenant(slack.ann)) == Rules()
    fixed = {"Size": "", "Steps": "9", "Guidance": "", "Pictures at once": ""}
    fixed |= {"Most steps": "", "Longest side in pixels": "", "Waiting requests of each person": ""}
    await slack.ann.submit(fixed)
    assert slack.ann.modal is None
    assert await each_way.studio.own_rules(tenant(slack.ann)) == Rules(steps=9, max_count=2)


async def test_defaults_that_are_too_much_work_together_are_refused(house: SlackHouse) -> None:
    view = await opened(house.slack.ann)
    await house.slack.ann.submit({"Size": "2048x2048", "Steps": "150", "Pictures at once": "10"})
    assert "over the limit of" in inputs(view)["size"]


async def test_a_model_that_is_gone_is_told_and_can_be_put_away(house: SlackHouse) -> None:
    slack = house.slack
    shelf = house.app.studio._store
    await shelf.shelf_put("guilds", tenant(slack.ann), {"guild": {"model": "gone"}, "channels": {}})
    view = await opened(slack.ann)
    await slack.ann.submit({"Steps": "9"})
    assert 'no model "gone"' in inputs(view)["model"]
    await slack.ann.submit({"Model": "usual"})
    assert await house.studio.own_rules(tenant(slack.ann)) == Rules(steps=9)


async def test_a_channel_says_over_the_workspace_what_it_says(house: SlackHouse) -> None:
    slack = house.slack
    art = slack.add_channel("art")
    view = await opened(slack.ann)
    slack.ann.fill({"Steps": "9"})
    await slack.ann.choose(view, "settings_channel", art.id)
    above = await slack.ann.until_modal("Settings of a channel")
    assert f"<#{art.id}>" in slack.read(above)
    assert "As the workspace says" in str(above.content["blocks"])
    assert "Channels that it is used in" not in slack.labels(above)
    await slack.ann.submit({"Steps": "7", "Pictures are shown": "both"})
    assert slack.ann.modal is view  # with what was entered there
    await slack.ann.submit({})
    rules = house.studio.rules
    assert (await rules(tenant(slack.ann))) == Rules(steps=9)
    assert (await rules(tenant(slack.ann), art.id)) == Rules(steps=7, thread_mode=ThreadMode.BOTH)
    await slack.bob.command("a red fox", art)
    await house.finished("a red fox")
    (root,) = slack.messages(art)
    await slack.until(lambda: slack.images(root))
    assert house.backend.submitted[0][1].steps == 7


async def test_pictures_also_go_to_the_channel_where_the_workspace_says_so(house: SlackHouse) -> None:
    slack = house.slack
    await opened(slack.ann)
    await slack.ann.submit({"Pictures are shown": "In the thread, and in the channel too"})
    await slack.bob.command("a red fox")
    status = await house.finished("a red fox")
    (root,) = slack.messages(slack.general)
    await slack.until(lambda: slack.images(root))
    assert len(slack.images(status)) == 1


async def test_it_is_used_in_the_allowed_channels_alone(house: SlackHouse) -> None:
    slack = house.slack
    art = slack.add_channel("art")
    await opened(slack.ann)
    await slack.ann.submit({"Channels that it is used in": [art.id]})
    await slack.bob.command("a red fox")
    said = await whispered(house, slack.bob)
    assert "not used in this channel" in said
    await slack.bob.command("settings")
    assert f"<#{art.id}>" in await whispered(house, slack.bob, 1)
    await slack.bob.mention("a red fox")
    assert "not used in this channel" in await whispered(house, slack.bob, 2)
    await slack.bob.write_dm("a red fox")
    await slack.bob.command("a red fox", art)
    await house.finished("a red fox")
    assert len(house.backend.submitted) == 1


async def test_reset_forgets_all_of_a_level_and_empties_the_form(house: SlackHouse) -> None:
    slack = house.slack
    ann = Requester("slack", slack.ann.team, slack.ann.id)
    art = slack.add_channel("art")
    await house.studio.set_rules(ann, Rules(steps=9, nsfw=NsfwPolicy.SPOILER), admin=True)
    await house.studio.set_rules(ann, Rules(steps=7), channel=art.id, admin=True)
    view = await opened(slack.ann)
    slack.ann.fill({"Guidance": "3"})
    await slack.ann.press(view, "Reset")
    await slack.until(lambda: "Nothing is set here yet" in slack.read(view))
    assert await house.studio.own_rules(ann.tenant) == Rules()
    assert await house.studio.own_rules(ann.tenant, art.id) == Rules(steps=7)
    await slack.ann.submit({})
    assert await house.studio.own_rules(ann.tenant) == Rules()


async def test_what_the_form_does_not_show_stays(house: SlackHouse) -> None:
    slack = house.slack
    ann = Requester("slack", slack.ann.team, slack.ann.id)
    hidden = Rules(allowed_roles=("S1",), role_weights={"S1": 2.0}, nsfw=NsfwPolicy.SPOILER)
    await house.studio.set_rules(ann, hidden, admin=True)
    await opened(slack.ann)
    await slack.ann.submit({"Steps": "9"})
    kept = await house.studio.own_rules(ann.tenant)
    assert (kept.steps, kept.allowed_roles, kept.role_weights) == (9, ("S1",), {"S1": 2.0})


# --- who may ----------------------------------------------------------------------------------------------


async def test_others_see_what_is_in_force_and_cannot_change_it(house: SlackHouse) -> None:
    slack = house.slack
    await slack.bob.command("settings")
    assert "Changed by: admins and owners" in await whispered(house, slack.bob)
    assert slack.labels(slack.bob.ephemerals[0]) == []
    assert slack.bob.modal is None


async def test_a_form_that_somebody_else_sends_changes_nothing(house: SlackHouse) -> None:
    slack = house.slack
    view = await opened(slack.ann)
    slack.world.modals[slack.bob.id] = [view]  # as if bob had come by it
    await slack.bob.submit({"Steps": "9"})
    assert "Only admins and owners of this workspace" in " ".join(view.errors.values())
    assert await house.studio.own_rules(tenant(slack.ann)) == Rules()


async def test_whom_admins_name_may_change_settings_but_not_who_does(house: SlackHouse) -> None:
    slack = house.slack
    await opened(slack.ann)
    await slack.ann.submit({"Who else may change settings": [slack.bob.id]})
    view = await opened(slack.bob)
    assert f"<@{slack.bob.id}>" in slack.read(view)
    assert "Who else may change settings" not in slack.labels(view)
    await slack.bob.submit({"Steps": "9"})
    assert (await house.studio.own_rules(tenant(slack.ann))).steps == 9
    await opened(slack.ann)
    await slack.ann.submit({"Who else may change settings": []})
    await slack.bob.command("settings")
    assert "Changed by" in await whispered(house, slack.bob)


async def test_whom_admins_name_is_remembered_over_a_restart(tmp_path: Path) -> None:
    async with Slack() as slack:
        async with program(slack, tmp_path, durable=True):
            await opened(slack.ann)
            await slack.ann.submit({"Who else may change settings": [slack.bob.id]})
        async with program(slack, tmp_path, durable=True):
            await opened(slack.bob)


async def test_one_workspaces_managers_manage_no_other(house: SlackHouse) -> None:
    slack = house.slack
    await opened(slack.ann)
    await slack.ann.submit({"Steps": "9", "Who else may change settings": [slack.bob.id]})
    other = Requester("slack", "T9", slack.bob.id)
    assert await house.studio.rules(other.tenant) == Rules()


@pytest.mark.parametrize(
    ("user", "may"),
    [
        ({"team_id": "T1", "is_admin": True}, True),
        ({"team_id": "T1", "is_owner": True}, True),
        ({"is_primary_owner": True}, True),
        ({"team_id": "T1"}, False),
        ({"team_id": "T2", "is_admin": True, "is_stranger": True}, False),
        ({"team_id": "T2", "is_admin": True, "enterprise_user": {"teams": ["T1", "T2"]}}, False),
        ({"team_id": "T2", "enterprise_user": {"teams": ["T1", "T2"], "is_owner": True}}, True),
        ({"team_id": "T2", "enterprise_user": {"teams": ["T2"], "is_admin": True}}, False),
        ({}, False),
    ],
)
def test_admins_of_other_workspaces_are_none_here(user: dict[str, object], may: bool) -> None:
    assert administers(user, "T1") is may


def test_settings_of_an_organisations_installation_are_the_workspaces() -> None:
    body = {"user": {"id": "U1", "team_id": "T1"}, "view": {"team_id": "T2", "type": "modal"}}
    visit = of_interaction(body, {"team_id": "E1", "enterprise_id": "E1"})
    assert (visit.team, visit.enterprise, visit.requester.tenant) == ("T2", "E1", "slack:T2")


async def test_an_organisations_workspaces_have_settings_of_their_own(tmp_path: Path) -> None:
    async with Slack() as slack:
        corp = slack.add_enterprise("Corp")
        east, west = slack.add_workspace("East", corp), slack.add_workspace("West", corp)
        async with program(slack, tmp_path, http=True, oauth=True) as house:
            await slack.ann.install(f"{house.app.url}/slack/install", into=corp)
            eve, wes = slack.add_person("eve", east, admin=True), slack.add_person("wes", west)
            for workspace in (east, west):
                slack.add_channel("art", workspace)
            await opened(eve)
            await eve.submit({"Steps": "9"})
            assert eve.modal is None
            assert (await house.studio.rules(tenant(eve))).steps == 9
            assert await house.studio.rules(tenant(wes)) == Rules()


async def test_the_weight_is_for_operators(tmp_path: Path) -> None:
    async with Slack() as slack:
        operators = frozenset({f"slack:{slack.bob.id}"})
        async with program(slack, tmp_path, operators=operators) as house:
            view = await opened(slack.ann)
            assert "Weight of this workspace" not in slack.labels(view)
            view = await opened(slack.bob)
            await slack.bob.submit({"Weight of this workspace": "1000"})
            assert "from 0.1 to 100" in inputs(view)["weight"]
            await slack.bob.submit({"Weight of this workspace": "2,5"})
            assert slack.bob.modal is None
            assert house.studio.weight(tenant(slack.ann)) == 2.5


async def test_where_slack_does_not_say_who_is_an_admin_nothing_can_be_changed(house: SlackHouse) -> None:
    slack = house.slack
    slack.breaks("users.info", times=-1)
    await slack.ann.command("settings")
    assert "Slack" in await whispered(house, slack.ann)
    assert slack.ann.modal is None


async def test_the_word_in_a_direct_message_offers_the_form(house: SlackHouse) -> None:
    slack = house.slack
    await slack.ann.write_dm("settings")
    answer = await house.ended("Settings of this workspace")
    await slack.ann.press(answer, "Change…")
    await slack.ann.until_modal("Settings")


async def test_an_altered_form_names_no_other_level(house: SlackHouse) -> None:
    slack = house.slack
    for metadata in ('{"channel": ["C1"]}', "not json", '{"channel": "../C1", "turn": "x"}', ""):
        view = await opened(slack.ann)
        view.content["private_metadata"] = metadata
        await slack.ann.submit({"Steps": "9"})
        assert slack.ann.modal is None
    assert await house.studio.own_rules(tenant(slack.ann)) == Rules(steps=9)
