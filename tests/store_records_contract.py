"""The part of a store's contract that concerns what is looked up: history, pictures, the fair queue's tags,
keys and shelves. Inherited through `StoreContract`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bot.core.ports import (
    ApiKey,
    Outcome,
    ShareTag,
    Store,
)
from bot.core.request import JSON, State
from tests.fakes.groups import (
    ADA,
    CANCELLED,
    a_group,
    a_picture,
    done,
    end,
    queue,
    the,
)


class RecordsContract:
    """Inherited by a class that provides the fixture `store`."""

    # --- looking back -------------------------------------------------------------------------------------

    async def test_history_is_a_members_own_within_the_guild_newest_first(self, store: Store) -> None:
        for number in range(3):
            await store.accept(a_group(f"g{number}"))
            await store.accept(a_group(f"guild{number}", who=replace(ADA, guild="guild-2")))
            await store.accept(a_group(f"user{number}", who=replace(ADA, user="bob")))
            await store.accept(a_group(f"platform{number}", who=replace(ADA, platform="slack")))
        renamed = replace(ADA, roles=(), name="Somebody renamed")
        assert [group.group_id for group in await store.history(renamed)] == ["g2", "g1", "g0"]
        assert [len(group.jobs) for group in await store.history(ADA)] == [1, 1, 1]

    async def test_history_pages_backwards(self, store: Store) -> None:
        for number in range(5):
            await store.accept(a_group(f"g{number}"))
        first = await store.history(ADA, limit=2)
        second = await store.history(ADA, limit=2, before=first[-1].sequence)
        third = await store.history(ADA, limit=2, before=second[-1].sequence)
        pages = [[group.group_id for group in page] for page in (first, second, third)]
        assert pages == [["g4", "g3"], ["g2", "g1"], ["g0"]]
        assert await store.history(ADA, limit=2, before=third[-1].sequence) == []
        assert await store.history(ADA, limit=0) == []

    async def test_a_picture_is_found_by_its_file_name(self, store: Store) -> None:
        await queue(store, a_group("g", jobs=2))
        await queue(store, a_group("h"))
        await end(store, "g-1", done("a.png", "b.png"))
        await end(store, "h-0", done("c.png"))
        assert await store.picture("b.png") == (await the(store, "g"), a_picture("b.png", 1))
        assert await store.picture("B.png") is None
        assert await store.picture("") is None

    async def test_all_files_that_rows_name_are_known(self, store: Store) -> None:
        group = a_group("g", jobs=2)
        request = {**group.jobs[0].request, "init_image": "from.png", "mask_image": "mask.png"}
        jobs = tuple(replace(job, request=request) for job in group.jobs)
        await queue(store, replace(group, jobs=jobs))
        await queue(store, a_group("h"))
        await end(store, "g-0", done("a.png"))
        await end(store, "h-0", done("b.png"))
        assert await store.file_names() == {"from.png", "mask.png", "a.png", "b.png"}
        await end(store, "g-1", done())
        await store.forget("g")
        assert await store.file_names() == {"b.png"}

    async def test_a_picture_keeps_whether_it_is_a_spoiler(self, store: Store) -> None:
        await queue(store, a_group("g"))
        plain, hidden = a_picture("a.png"), replace(a_picture("b.png", 1), spoiler=True)
        await end(store, "g-0", Outcome(State.DONE, (plain, hidden)))
        assert (await the(store, "g")).jobs[0].pictures == (plain, hidden)

    async def test_usage_sums_what_ended_since_by_member_and_guild(self, store: Store) -> None:
        used = (("a", ADA, 1.5, 120.0), ("b", ADA, 2.5, 130.0), ("early", ADA, 64.0, 119.9))
        other = (("c", replace(ADA, guild="2"), 8.0, 120.0), ("d", replace(ADA, user="bob"), 16.0, 500.0))
        for name, who, seconds, at in (*used, *other):
            await queue(store, a_group(name, who=who))
            await end(store, f"{name}-0", Outcome(State.DONE, device_seconds=seconds), at=at)
        await queue(store, a_group("waiting"))
        found = {(who.guild, who.user): seconds for who, seconds in await store.usage(120.0)}
        assert found == {("guild-1", "ada"): 4.0, ("2", "ada"): 8.0, ("guild-1", "bob"): 16.0}
        assert {who.tenant for who, _ in await store.usage(120.0)} == {"discord:guild-1", "discord:2"}
        assert list(await store.usage(500.1)) == []

    async def test_forgetting_deletes_an_ended_group_and_names_its_files(self, store: Store) -> None:
        await queue(store, a_group("g", jobs=2))
        await queue(store, a_group("h"))
        await end(store, "g-0", done("a.png", "b.png"))
        await end(store, "g-1", done("c.png"))
        await end(store, "h-0", done("d.png"))
        assert await store.forget("g") == ("a.png", "b.png", "c.png")
        assert await store.group("g") is None
        assert await store.picture("a.png") is None
        assert [row.group_id for row in await store.outbox()] == ["h"]
        assert [group.group_id for group in await store.history(ADA)] == ["h"]
        assert await store.forget("g") == ()
        assert await store.check() == "ok"

    async def test_a_group_that_has_not_ended_is_not_forgotten(self, store: Store) -> None:
        await queue(store, a_group("g", jobs=2))
        await end(store, "g-0", done("a.png"))
        before = await the(store)
        assert await store.forget("g") == ()
        assert await the(store) == before

    async def test_a_sequence_is_never_used_twice(self, store: Store) -> None:
        await store.accept(a_group("g"))
        used = (await the(store)).sequence
        await end(store, "g-0", CANCELLED)
        await store.forget("g")
        await store.accept(a_group("h"))
        assert (await the(store, "h")).sequence > used

    async def test_groups_are_listed_by_the_beginning_of_their_event_newest_first(self, store: Store) -> None:
        for event in ("p:a:1", "p:b:1", "p:a:2", "p:a", "p:a%", "P:a:9", "p:a:\U0010fffe"):
            await store.accept(a_group(f"g {event}", event=event))
        found, total = await store.with_events("p:a:", limit=2)
        assert ([group.event_key for group in found], total) == (["p:a:\U0010fffe", "p:a:2"], 3)
        found, total = await store.with_events("p:a:", limit=2, offset=2)
        assert ([group.event_key for group in found], total) == (["p:a:1"], 3)
        assert found == [await store.group("g p:a:1")]
        assert await store.with_events("p:a:", limit=5, offset=3) == ([], 3)
        assert await store.with_events("nothing", limit=5) == ([], 0)
        assert (await store.with_events("p:a%", limit=5))[1] == 1

    # --- the fair queue, keys, shelves --------------------------------------------------------------------

    async def test_tags_are_replaced_by_guild_and_user(self, store: Store) -> None:
        await queue(store, a_group(jobs=2))
        root, guild, user = (
            ShareTag(None, None, 0.0, 1.0),
            ShareTag("g", None, 1.0, 2.0),
            ShareTag("g", "u", 3.0, 0.0),
        )
        tags = (root, guild, user)
        await store.start("g-0", attempt=0, backend="", at=1.0, lease_until=2.0, tags=tags)
        assert set(await store.tags()) == set(tags)
        newer = replace(guild, vt=9.5, credit=0.25)
        await store.finish("g-0", attempt=0, outcome=CANCELLED, at=2.0, tags=[newer])
        assert set(await store.tags()) == {root, newer, user}

    async def test_a_tag_of_weight_zero_is_forgotten(self, store: Store) -> None:
        await queue(store, a_group(jobs=2))
        root, user = ShareTag(None, None, 0.0, 1.0), ShareTag("g", "u", 3.0, 0.0)
        await store.start("g-0", attempt=0, backend="", at=1.0, lease_until=2.0, tags=(root, user))
        gone = [replace(user, weight=0.0), ShareTag("never", None, 0.0, 0.0, weight=0.0)]
        await store.finish("g-0", attempt=0, outcome=CANCELLED, at=2.0, tags=gone)
        assert await store.tags() == [root]

    async def test_a_key_is_found_by_its_digest_until_it_is_revoked(self, store: Store) -> None:
        old = ApiKey("k1", "ci", "d1", 100.0)
        new = ApiKey("k2", "shop", "d2", 90.0, "acme", 10.0)
        await store.add_key(old)
        await store.add_key(new)
        assert await store.key("d1") == old
        assert await store.key("d2") == new
        assert await store.key("nothing") is None
        revoked = replace(old, revoked_at=200.0)
        await store.add_key(revoked)
        assert await store.key("d1") is None
        assert await store.keys() == [new, revoked]

    async def test_two_keys_cannot_share_a_digest(self, store: Store) -> None:
        await store.add_key(ApiKey("k1", "ci", "d1", 100.0))
        with pytest.raises(ValueError, match=r".+"):
            await store.add_key(ApiKey("k2", "shop", "d1", 100.0))
        assert len(await store.keys()) == 1

    @pytest.mark.parametrize("value", [0, "", [], {}, False, 1.5, {"a": [None, "ü", {"b": 2**53}]}])
    async def test_a_shelf_holds_any_json(self, store: Store, value: JSON) -> None:
        await store.shelf_put("slack", "k", value)
        assert await store.shelf_get("slack", "k") == value
        assert await store.shelf_get("discord", "k") is None
        assert not await store.shelf_put_once("slack", "k", "other")

    async def test_a_shelf_value_is_replaced_and_deleted(self, store: Store) -> None:
        await store.shelf_put("slack", "k", 1)
        await store.shelf_put("slack", "k", 2)
        assert await store.shelf_get("slack", "k") == 2
        await store.shelf_put("slack", "k", None)
        await store.shelf_put("slack", "never", None)
        assert await store.shelf_get("slack", "k") is None

    async def test_a_shelf_gives_all_its_items(self, store: Store) -> None:
        await store.shelf_put("slack", "a", 1)
        await store.shelf_put("slack", "b", {"c": [None]})
        await store.shelf_put("slackware", "a", 2)
        await store.shelf_put("slack", "gone", 3)
        await store.shelf_put("slack", "gone", None)
        assert await store.shelf_items("slack") == {"a": 1, "b": {"c": [None]}}
        assert await store.shelf_items("never") == {}

    async def test_put_once_sets_once(self, store: Store) -> None:
        answers = await asyncio.gather(*(store.shelf_put_once("slack", "k", n) for n in range(1, 6)))
        assert answers == [True, False, False, False, False]
        assert await store.shelf_get("slack", "k") == 1
        await store.shelf_put("slack", "k", None)
        assert await store.shelf_put_once("slack", "k", None)
        assert await store.shelf_put_once("slack", "k", 7)
        assert await store.shelf_get("slack", "k") == 7
