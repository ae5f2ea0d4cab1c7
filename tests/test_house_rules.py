"""A guild's own rules in the running program: who may ask where, what requests get, and whose turn it is."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bot.core.errors import Forbidden, InvalidRequest, QueueFull, Unavailable
from bot.core.guilds import NsfwPolicy, Rules, ThreadMode
from bot.core.options import Options
from bot.core.request import Limits, Requester, State
from bot.core.studio import Submission, Ticket
from tests.fakes.backend import FAKE_MODEL, FakeBackend
from tests.fakes.house import House, house
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.trouble import TroubledStore

ADMIN = Requester("notebook", "g1", "admin")
ANN = Requester("notebook", "g1", "ann")
BOB = Requester("notebook", "g1", "bob")
OWNER = Requester("notebook", "g1", "owner")
_KEYS = itertools.count()


async def ask(
    home: House, text: str = "a flat colour", by: Requester = ANN, channel: str = "", **more: object
) -> Ticket:
    """Submit a request from a channel."""
    key = f"r{next(_KEYS)}"
    return await home.studio.submit(
        Submission(by, key, {"page": key}, text=text, channel=channel, **more)  # type: ignore[arg-type]
    )


async def say(home: House, rules: Rules, channel: str = "", by: Requester = ADMIN) -> Rules:
    """Set rules as an admin."""
    return await home.studio.set_rules(by, rules, channel=channel, admin=True)


# --- who may ask where ------------------------------------------------------------------------------------


async def test_a_member_without_an_allowed_role_is_refused_and_nothing_is_queued(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await say(home, Rules(allowed_roles=("artist",)))
        with pytest.raises(Forbidden) as caught:
            await ask(home, by=replace(ANN, roles=("guest",)))
        assert caught.value.field == "role"
        assert not home.desk.groups
        assert not await home.studio.history(ANN)
        await ask(home, by=replace(ANN, roles=("guest", "artist")))
        await ask(home, by=replace(ANN, guild="g2"))
        await home.until(home.idle)
        home.check()


async def test_only_allowed_channels_take_requests(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await say(home, Rules(allowed_channels=("pictures",)))
        for channel in ("general", ""):
            with pytest.raises(Forbidden) as caught:
                await ask(home, channel=channel)
            assert caught.value.field == "channel"
        await ask(home, channel="pictures")


# --- defaults and limits ----------------------------------------------------------------------------------


async def test_a_receipt_tells_what_differs_from_the_channels_defaults(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await say(home, Rules(steps=8, count=2))
        await say(home, Rules(steps=9, size=(128, 64)), "wide")
        here, there = await ask(home), await ask(home, channel="wide")
        assert [ticket.requests[0].steps for ticket in (here, there)] == [8, 9]
        assert (there.requests[0].width, there.requests[0].count) == (128, 2)
        assert here.differences == there.differences == ()
        other = await ask(home, "a flat colour --steps 8 --count 1 --size 64x64", channel="wide")
        assert other.differences == ("64×64", "8 steps", "1 picture")
        assert (await ask(home, "a flat colour --steps 8")).differences == ()


async def test_a_receipt_names_a_model_that_is_not_the_usual_one(tmp_path: Path) -> None:
    models = (FAKE_MODEL, replace(FAKE_MODEL, id="second", steps=6))
    async with house(tmp_path, backends=[FakeBackend(models=models)]) as home:
        assert (await ask(home, "a colour --model second")).differences == ("second",)
        await say(home, Rules(model="second"), "there")
        usual = await ask(home, channel="there")
        assert (usual.requests[0].model, usual.requests[0].steps, usual.differences) == ("second", 6, ())
        assert (await ask(home, "a colour --model fake", channel="there")).differences == ("fake",)


async def test_rules_hold_from_the_next_request_on_and_go_when_nothing_is_said(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await say(home, Rules(steps=8))
        await say(home, Rules())
        assert (await ask(home)).requests[0].steps == FAKE_MODEL.steps
        assert await home.store.shelf_get("guilds", ANN.tenant) is None


async def test_a_tighter_limit_is_named_as_this_servers(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await say(home, Rules(max_steps=10, max_count=2, max_side=512))
        with pytest.raises(InvalidRequest, match=r"from 1 to 10 \(this server's limit\), not 11"):
            await ask(home, "a colour --steps 11")
        with pytest.raises(InvalidRequest, match=r"from 64 to 512 \(this server's limit\), not 1024"):
            await ask(home, "", options=Options(prompt="a colour", width=1024, height=512))
        await ask(home, "a colour --steps 11", by=replace(ANN, guild="g2"))


async def test_a_tighter_limit_of_waiting_requests_counts_this_server_alone(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], limits=Limits(waiting_per_user=4)) as home:
        await say(home, Rules(waiting_per_user=1))
        elsewhere = replace(ANN, guild="g2")
        await ask(home, by=BOB)
        await home.until(hold.reached.is_set)
        for by in (elsewhere, elsewhere, ANN):
            await ask(home, by=by)
        with pytest.raises(QueueFull, match=r"1 of your 1 places is taken \(this server's limit\)\. Wait"):
            await ask(home)
        await ask(home, by=elsewhere)
        with pytest.raises(QueueFull, match=r"4 of your 4 places are taken\. Wait"):
            await ask(home, by=elsewhere)
        home.check()
        hold.release()


# --- who may set them -------------------------------------------------------------------------------------


async def test_rules_are_set_by_admins_and_operators_alone(tmp_path: Path) -> None:
    async with house(tmp_path, operators=frozenset({OWNER.member})) as home:
        studio = home.studio
        with pytest.raises(Forbidden):
            await studio.set_rules(ANN, Rules(steps=9), admin=False)
        assert await studio.own_rules(ANN.tenant) == Rules()
        assert await studio.set_rules(OWNER, Rules(steps=9), admin=False) == Rules(steps=9)
        assert await studio.set_rules(ADMIN, Rules(steps=8), channel="c", admin=True) == Rules(steps=8)
        assert (studio.is_operator(OWNER), studio.is_operator(ADMIN)) == (True, False)
        assert await studio.own_rules(ANN.tenant) == Rules(steps=9)
        assert await studio.own_rules(ANN.tenant, "c") == Rules(steps=8)
        assert await studio.own_rules(ANN.tenant, "d") == Rules()


async def test_nobody_manages_the_direct_messages_of_all(tmp_path: Path) -> None:
    async with house(tmp_path, operators=frozenset({OWNER.member})) as home:
        with pytest.raises(Forbidden):
            await say(home, Rules(steps=9), by=replace(ADMIN, guild="dm"))
        await say(home, Rules(steps=9), by=replace(OWNER, guild="dm"))


async def test_a_wrong_rule_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await say(home, Rules(steps=9))
        with pytest.raises(InvalidRequest) as caught:
            await say(home, Rules(steps=151))
        assert caught.value.field == "steps"
        assert await home.studio.rules(ANN.tenant) == Rules(steps=9)


# --- durable ----------------------------------------------------------------------------------------------


async def test_rules_outlive_a_restart(tmp_path: Path) -> None:
    data = Data()
    guild = Rules(steps=9, thread_mode=ThreadMode.BOTH, role_weights={"r": 2.0})
    async with house(tmp_path, store=MemoryStore(data)) as home:
        await say(home, guild)
        await say(home, Rules(nsfw=NsfwPolicy.SPOILER, steps=7), "c")
    async with house(tmp_path, store=MemoryStore(data)) as home:
        assert await home.studio.rules(ANN.tenant) == guild
        assert await home.studio.rules(ANN.tenant, "c") == replace(guild, steps=7, nsfw=NsfwPolicy.SPOILER)
        assert (await ask(home)).requests[0].steps == 9


async def test_rules_that_are_not_stored_are_not_in_force(tmp_path: Path) -> None:
    store = TroubledStore()
    async with house(tmp_path, store=store) as home:
        store.full["shelf_put"] = 1
        with pytest.raises(Unavailable):
            await say(home, Rules(steps=9))
        assert await home.studio.rules(ANN.tenant) == Rules()


async def test_admins_of_two_channels_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    store = TroubledStore()
    async with house(tmp_path, store=store) as home:
        held = store.hold("shelf_put")
        both = asyncio.gather(say(home, Rules(steps=8), "a"), say(home, Rules(steps=9), "b"))
        await held.reached.wait()
        held.release()
        await both
        assert (await home.studio.rules(ANN.tenant, "a")).steps == 8
        assert (await home.studio.rules(ANN.tenant, "b")).steps == 9


async def test_rules_that_cannot_be_read_refuse_requests_until_they_are_set_again(tmp_path: Path) -> None:
    store = MemoryStore()
    await store.shelf_put("guilds", ANN.tenant, {"guild": {"allowed_roles": "artist"}, "channels": {}})
    async with house(tmp_path, store=store) as home:
        with pytest.raises(Unavailable, match="set them again"):
            await ask(home)
        assert await home.studio.own_rules(ANN.tenant) == await home.studio.rules(ANN.tenant) == Rules()
        await say(home, Rules(allowed_roles=("artist",)))
        await ask(home, by=replace(ANN, roles=("artist",)))


# --- whose turn it is -------------------------------------------------------------------------------------


def shares(backend: FakeBackend, first: int) -> Counter[str]:
    """Whose requests were made first, by the letter that their prompts end in."""
    return Counter(request.prompt[-1] for _, request in backend.submitted[:first])


async def test_a_role_gives_its_members_a_larger_share_of_the_guild(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], limits=Limits(waiting_per_user=20)) as home:
        await say(home, Rules(role_weights={"patron": 3.0}))
        await ask(home, "in the way x", by=replace(ANN, user="zoe"))
        await home.until(hold.reached.is_set)
        for _ in range(12):
            await ask(home, "a colour a")
            await ask(home, "a colour b", by=replace(BOB, roles=("patron", "guest")))
        hold.release()
        await home.until(home.idle)
        assert shares(backend, 13) == {"x": 1, "a": 3, "b": 9}


async def test_a_weight_that_is_taken_back_counts_no_more_also_for_what_waits(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend], limits=Limits(waiting_per_user=20)) as home:
        await say(home, Rules(role_weights={"patron": 3.0}))
        await ask(home, "in the way x", by=replace(ANN, user="zoe"))
        await home.until(hold.reached.is_set)
        for _ in range(6):
            await ask(home, "a colour a")
            await ask(home, "a colour b", by=replace(BOB, roles=("patron",)))
        await say(home, Rules())
        hold.release()
        await home.until(home.idle)
        assert shares(backend, 9) == {"x": 1, "a": 4, "b": 4}


async def test_a_roles_weight_counts_again_after_a_restart(tmp_path: Path) -> None:
    data, backend = Data(), FakeBackend()
    hold = backend.hold("start")
    limits = Limits(waiting_per_user=20)
    async with house(tmp_path, store=MemoryStore(data), backends=[backend], limits=limits) as home:
        await say(home, Rules(role_weights={"patron": 3.0}))
        await ask(home, "in the way x", by=replace(ANN, user="zoe"))
        await home.until(hold.reached.is_set)
        for _ in range(8):
            await ask(home, "a colour a")
            await ask(home, "a colour b", by=replace(BOB, roles=("patron",)))
        await home.until(lambda: len(home.queue) == 16)
    after = FakeBackend()
    async with house(tmp_path, store=MemoryStore(data), backends=[after], limits=limits) as home:
        await home.until(home.idle)
        assert shares(after, 9) == {"x": 1, "a": 2, "b": 6}


async def test_a_role_counts_as_the_member_has_it_at_each_request(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        await say(home, Rules(role_weights={"patron": 3.0}))
        for roles, weight in (((), 1.0), (("patron",), 3.0), ((), 1.0), (("patron", "guest"), 3.0)):
            await ask(home, by=replace(BOB, roles=roles))
            assert home.queue._root.user(BOB.tenant, BOB.member).weight == weight


# --- why somebody waits -----------------------------------------------------------------------------------


async def test_why_tells_who_shares_the_machines_and_the_last_hour(tmp_path: Path) -> None:
    backend = FakeBackend(seconds_per_picture=50.0)
    async with house(tmp_path, backends=[backend]) as home:
        await ask(home, "a flat colour --count 2")
        await ask(home, by=BOB)
        await ask(home, by=replace(BOB, user="cleo"))
        await ask(home, "a flat colour --count 10", by=replace(ANN, guild="g2"))
        await home.until(home.idle)
        why = await home.studio.why(ANN)
        assert (why.own_seconds, why.guild_seconds, why.typical_seconds) == (100.0, 200.0, 50.0)
        assert why.text()[1] == "last hour: you 1:40 · typical 0:50"
        hold = backend.hold("start")
        await ask(home)
        await ask(home, by=BOB)
        await home.until(hold.reached.is_set)
        why = await home.studio.why(ANN)
        assert (why.members, why.guilds, why.places) == (2, 1, 1)
        assert why.text(member="person")[0].startswith("2 people share 1 GPU. Whoever")
        await ask(home, by=replace(ANN, guild="g2", user="dan"))
        why = await home.studio.why(ANN)
        assert (why.members, why.guilds) == (3, 2)
        assert why.text(guild="workspace")[0].startswith("3 members of 2 workspaces share 1 GPU.")
        hold.release()
        await home.until(home.idle)
        home.clock.time += 3601.0
        late = await home.studio.why(ANN)
        assert (late.own_seconds, late.guild_seconds, late.typical_seconds) == (0.0, 0.0, 0.0)
        assert len(late.text()) == 1


# --- flagged pictures -------------------------------------------------------------------------------------

SPOILER = Rules(nsfw=NsfwPolicy.SPOILER)


async def test_a_flagged_picture_is_a_spoiler_where_guild_and_channel_allow_it(tmp_path: Path) -> None:
    backend = FakeBackend(reject=[1], reveal=True)
    async with house(tmp_path, backends=[backend]) as home:
        await say(home, SPOILER)
        key = (await ask(home, "a colour --count 3 --seed 7", age_restricted=True)).group_id
        await home.until(home.idle)
        result = await home.studio.result(key)
        assert [picture.spoiler for picture in result.pictures] == [False, True, False]
        assert (result.state, result.message) == (State.DONE, "")
        flagged = result.pictures[1]
        assert (flagged.seed, flagged.recipe["seed"]) == (8, 8)
        assert (await home.studio.read_recipe(flagged.path.read_bytes())).options.seed == 8
        assert all(status.preview is None for page in home.notebook.pages.values() for status in page.shown)


@pytest.mark.parametrize(
    ("rules", "age_restricted", "reveal"),
    [(SPOILER, False, True), (Rules(), True, True), (SPOILER, True, False)],
)
async def test_else_it_is_withheld_and_its_bytes_are_not_kept(
    tmp_path: Path, rules: Rules, age_restricted: bool, reveal: bool
) -> None:
    async with house(tmp_path, backends=[FakeBackend(reject=[1], reveal=reveal)]) as home:
        await say(home, rules)
        ticket = await ask(home, "a colour --count 2", age_restricted=age_restricted)
        await home.until(home.idle)
        result = await home.studio.result(ticket.group_id)
        assert [(picture.index, picture.spoiler) for picture in result.pictures] == [(0, False)]
        assert result.message.startswith("1 of 2 withheld")
        assert len(list((tmp_path / "pictures").iterdir())) == 1


async def test_what_was_decided_when_it_was_asked_holds_after_a_restart(tmp_path: Path) -> None:
    data, backend = Data(), FakeBackend(reject=[0], reveal=True)
    hold = backend.hold("start")
    async with house(tmp_path, store=MemoryStore(data), backends=[backend]) as home:
        await say(home, SPOILER)
        shown = await ask(home, age_restricted=True)
        hidden = await ask(home)
        await home.until(hold.reached.is_set)
        await say(home, Rules())
        await home.until(lambda: len(home.queue) == 1)
    again = FakeBackend(reject=[0], reveal=True)
    async with house(tmp_path, store=MemoryStore(data), backends=[again]) as home:
        await home.until(home.idle)
        results = [await home.studio.result(ticket.group_id) for ticket in (shown, hidden)]
        assert [result.state for result in results] == [State.DONE, State.WITHHELD]
        assert [picture.spoiler for picture in results[0].pictures] == [True]
        assert not results[1].pictures
