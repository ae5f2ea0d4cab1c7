"""What the core offers to adapters that serve programs: groups without a conversation, arrays of prompts,
places, lists, watching, keys."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from backends._joblog import JobLog
from bot.core.codec import request_from_json, request_to_json
from bot.core.errors import ContentRejected, InvalidRequest, NotFound, QueueFull, Unavailable
from bot.core.keyring import Keyring
from bot.core.options import Options
from bot.core.ports import ApiKey, ImageReady, Preview, Progress
from bot.core.request import ImageRequest, Limits, Nouns, Requester, State
from bot.core.studio import Submission, Ticket
from bot.core.watching import PREVIEWS_KEPT, PROGRESS_KEPT, News, Watch
from tests.fakes.backend import PARAMS, FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.house import House, house
from tests.fakes.memory_store import MemoryStore

NOUNS = Nouns("key", "key")


def holder(key: str = "shop") -> Requester:
    """Whoever asks with a key: a tenant and its only user."""
    return Requester("notebook", f"key:{key}", key, nouns=NOUNS)


async def send(
    home: House, *prompts: str, key: str = "shop", event: str = "", previews: int = 0, seed: int | None = None
) -> Ticket:
    """A request of a program's."""
    event = event or f"{key}:api:{next(home._numbers):04}"
    return await home.studio.submit(
        Submission(
            holder(key),
            event,
            {"page": event},
            prompts=prompts or ("a flat colour",),
            literal=True,
            options=Options(seed=seed),
            prepared=True,
            previews=previews,
        )
    )


async def ended(home: House, ticket: Ticket) -> None:
    await asyncio.wait_for(home.studio.ended(ticket.group_id), 20)


# --- groups that need no conversation ---------------------------------------------------------------------


async def test_a_prepared_group_is_in_the_queue_when_it_is_accepted_and_only_its_result_is_told(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        first = await send(home, event="a")
        await home.until(hold.reached.is_set)
        assert [home.studio.place((await send(home)).group_id) for _ in range(2)] == [0, 1]
        second = await send(home, event="b")
        assert [home.studio.place(each.group_id) for each in (first, second)] == [0, 2]
        stored = await home.store.group(second.group_id)
        assert stored is not None
        assert stored.prepared
        assert [job.state for job in stored.jobs] == [State.QUEUED]
        await home.clock.advance(3.0)  # ticks, in which others are told their places
        hold.release()
        result = await home.notebook.delivered("b")
        assert result.state is State.DONE
        await home.until(home.idle)
        assert home.studio.place(second.group_id) is None
        for name in ("a", "b"):
            page = home.page(name)
            assert (page.prepared, page.shown, len(page.delivered)) == (0, [], 1)
        home.check()


async def test_a_prepared_group_keeps_its_place_over_a_restart_and_is_told_once(tmp_path: Path) -> None:
    store = MemoryStore()
    backend = FakeBackend()
    backend.hold("start")
    async with house(tmp_path, backends=[backend], store=store) as home:
        tickets = [await send(home, event=name) for name in "abc"]
    async with house(tmp_path, store=MemoryStore(store.data)) as home:
        for name in "abc":
            assert (await home.notebook.delivered(name)).state is State.DONE
        await home.until(home.idle)
        assert [len(home.page(name).delivered) for name in "abc"] == [1, 1, 1]
        assert all(home.studio.place(ticket.group_id) is None for ticket in tickets)


async def test_whoever_is_told_of_the_acceptance_can_watch_from_the_very_beginning(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        seen: list[News] = []

        async def follow(group_id: str, begun: asyncio.Event) -> None:
            async with home.studio.watch(group_id) as news:
                begun.set()
                async for _, event in news:
                    seen.append(event)

        tasks: list[asyncio.Task[None]] = []

        async def acknowledge(ticket: Ticket) -> None:
            assert home.studio.place(ticket.group_id) == 0
            begun = asyncio.Event()
            tasks.append(asyncio.create_task(follow(ticket.group_id, begun)))
            await begun.wait()

        submission = Submission(holder(), "e", {"page": "e"}, prompts=("a",), literal=True, prepared=True)
        await home.studio.submit(replace(submission, previews=3), acknowledge=acknowledge)
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert sum(isinstance(event, Preview) for event in seen) == 3
        assert sum(isinstance(event, ImageReady) for event in seen) == 1


async def test_a_waiting_request_of_a_program_is_cancelled_by_it_alone(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        await send(home)
        ticket = await send(home, event="mine")
        with pytest.raises(NotFound):
            await home.studio.cancel(ticket.group_id, holder("other"))
        status = await home.studio.cancel(ticket.group_id, holder())
        assert status.state is State.CANCELLED
        assert (await home.notebook.delivered("mine")).state is State.CANCELLED
        home.check()


# --- prompts ----------------------------------------------------------------------------------------------


async def test_each_of_several_prompts_is_one_job_taken_as_it_is_with_one_seed(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        prompts = ("a {red, blue} fox --steps 3", "a cat", "a cat")
        ticket = await send(home, *prompts, event="e")
        result = await home.notebook.delivered("e")
        assert [request.prompt for request in ticket.requests] == list(prompts)
        assert len({request.seed for request in ticket.requests}) == 1
        assert len(result.pictures) == 3
        assert [job.job_id for job in (await home.studio.show(ticket.group_id, holder())).jobs] == [
            f"{ticket.group_id}-{index}" for index in range(3)
        ]


@pytest.mark.parametrize(
    ("prompts", "error", "told"),
    [
        (["a cat"] * 17, InvalidRequest, "17 prompts; at most 16"),
        (["a cat", " "], InvalidRequest, "The prompt is empty"),
        (["a cat", "x" * 2001], InvalidRequest, "2,001 characters"),
        (["a cat", "a nazgul"], ContentRejected, "blocked|not allowed"),
    ],
)
async def test_an_array_of_prompts_is_refused_whole(
    tmp_path: Path, prompts: list[str], error: type[Exception], told: str
) -> None:
    async with house(tmp_path, blocked_words=("nazgul",)) as home:
        with pytest.raises(error, match=told):
            await send(home, *prompts)
        assert not home.desk.groups
        home.check()


# --- room -------------------------------------------------------------------------------------------------


async def test_a_key_has_a_limit_of_its_own_and_none_of_a_members(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold("start")
    limits = Limits(waiting_per_key=12, waiting_per_guild=3, waiting_per_user=2)
    async with house(tmp_path, backends=[backend], limits=limits) as home:
        await send(home)
        await home.until(lambda: backend.running == 1)
        for _ in range(12):
            await send(home)
        with pytest.raises(QueueFull) as refused:
            await send(home)
        assert "12 of this key's 12 places are taken" in refused.value.message
        await home.clock.advance(2.0)
        with pytest.raises(QueueFull) as refused:
            await send(home, "a", "b")
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1.0
        await send(home, key="other")
        home.check()


async def test_people_who_share_a_key_have_the_limit_of_a_member_each(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold("start")
    limits = Limits(waiting_per_user=1)
    async with house(tmp_path, backends=[backend], limits=limits) as home:
        await send(home)
        await home.until(lambda: backend.running == 1)
        ann = Requester("notebook", "key:shop", "ann", nouns=NOUNS)
        for event in ("x", "y"):
            submission = Submission(ann, event, {"page": event}, text="a", literal=True, prepared=True)
            if event == "x":
                await home.studio.submit(submission)
                continue
            with pytest.raises(QueueFull, match="1 of your 1 places is taken"):
                await home.studio.submit(submission)


async def test_places_count_the_requests_of_all_keys_that_go_before(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        running = await send(home)
        await home.until(lambda: backend.running == 1)
        mine = [await send(home) for _ in range(3)]
        theirs = [await send(home, key="other") for _ in range(2)]
        places = home.queue.places()
        for ticket in (*mine, *theirs):
            assert home.studio.place(ticket.group_id) == places[f"{ticket.group_id}-0"].ahead
        assert sorted(home.studio.place(each.group_id) or 0 for each in (*mine, *theirs)) == [0, 1, 2, 3, 4]
        assert home.studio.place(running.group_id) == 0
        assert home.studio.place("UNKNOWN1") is None


# --- lists ------------------------------------------------------------------------------------------------


async def test_a_key_lists_what_it_asked_for_by_the_beginning_of_the_event(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        tickets = [await send(home, event=f"shop:jobs:{name}") for name in "abc"]
        await send(home, event="shop:other:a")
        await send(home, event="evil:jobs:a", key="evil")
        found, total = await home.studio.listed(holder(), "shop:jobs:", limit=2)
        assert ([group.group_id for group in found], total) == (
            [tickets[2].group_id, tickets[1].group_id],
            3,
        )
        found, total = await home.studio.listed(holder(), "shop:jobs:", limit=2, offset=2)
        assert ([group.group_id for group in found], total) == ([tickets[0].group_id], 3)
        with pytest.raises(NotFound):
            await home.studio.listed(holder("evil"), "shop:jobs:", limit=2)


# --- watching ---------------------------------------------------------------------------------------------


async def test_a_watch_of_several_jobs_says_whose_each_event_is_and_ends_with_the_group(
    tmp_path: Path,
) -> None:
    backend = FakeBackend(slots=2)
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await send(home, "a", "b", previews=2)
        async with home.studio.watch(ticket.group_id) as news:
            hold.release()
            async with asyncio.timeout(20):
                seen = [(index, type(event)) async for index, event in news]
        assert seen.count((0, Preview)) == seen.count((1, Preview)) == 2
        assert seen.count((0, ImageReady)) == seen.count((1, ImageReady)) == 1
        assert (await home.studio.result(ticket.group_id)).state is State.DONE


async def test_a_watch_that_begins_late_begins_with_what_is_made_already(tmp_path: Path) -> None:
    backend = FakeBackend()
    hold = backend.hold("done")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await send(home)
        await home.until(hold.reached.is_set)
        await home.until(lambda: bool(home.desk.groups[ticket.group_id].jobs[0].images))
        async with home.studio.watch(ticket.group_id) as news:
            hold.release()
            async with asyncio.timeout(20):
                seen = [type(event) async for _, event in news]
        assert seen == [ImageReady, Progress, Preview]
        assert not home.desk.groups.get(ticket.group_id) or not home.desk.groups[ticket.group_id].watchers
        async with home.studio.watch("UNKNOWN1") as news:
            assert [event async for event in news] == []


async def test_no_preview_is_told_where_the_picture_may_still_be_withheld(tmp_path: Path) -> None:
    class Careless(FakeBackend):
        """Shows what is forming though it may reject it."""

        async def _picture(self, job, index):  # type: ignore[no-untyped-def]  # as the fake's
            job.say(Preview(b"not to be seen", "image/png", index))
            await super()._picture(job, index)

    backend = Careless(reject=[1])
    hold = backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await send(home, previews=2)
        async with home.studio.watch(ticket.group_id) as news:
            hold.release()
            async with asyncio.timeout(20):
                seen = [type(event) async for _, event in news]
        assert Preview not in seen
        assert ImageReady in seen


async def test_whoever_waits_for_the_end_is_told_when_the_program_stops_first(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.hold("start")
    async with house(tmp_path, backends=[backend]) as home:
        ticket = await send(home)
        waiting = asyncio.create_task(home.studio.ended(ticket.group_id))
        await home.until(lambda: bool(home.desk.groups[ticket.group_id].watchers))
        await home.studio.aclose()
        for late in (waiting, home.studio.ended(ticket.group_id)):
            with pytest.raises(Unavailable):
                await late


async def test_what_came_of_a_group_is_had_by_waiting_for_its_end(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        ticket = await send(home, "a", "b")
        result = await asyncio.wait_for(home.studio.ended(ticket.group_id), 20)
        assert (result.state, len(result.pictures)) == (State.DONE, 2)
        await home.until(home.idle)
        assert await home.studio.ended(ticket.group_id) == result
        with pytest.raises(NotFound):
            await home.studio.ended("UNKNOWN1")


async def unread(watch: Watch) -> list[tuple[int, News]]:
    """All that is left in a watch, ended now."""
    watch.end()
    return [each async for each in watch.news()]


async def test_a_slow_reader_loses_the_oldest_progress_and_no_preview() -> None:
    watch = Watch()
    picture = ImageReady(0, b"png", "image/png", 7)
    told: list[tuple[int, News]] = []
    for step in range(1, PROGRESS_KEPT + 21):
        told.append((step % 2, Progress(0.5, step, 100)))
        if step % 10 == 0:
            told.append((0, Preview(bytes([step]), "image/png")))
    told.append((0, picture))
    for index, event in told:
        watch.tell(index, event)
    assert await unread(watch) == [
        each for each in told if not isinstance(each[1], Progress) or (each[1].step or 0) > 20
    ]
    watch.tell(0, picture)
    assert await unread(watch) == []


async def test_a_reader_that_keeps_up_is_told_everything() -> None:
    watch = Watch()
    told = [(0, Progress(step / 200, step, 200)) for step in range(200)]
    news = watch.news()
    for each in told:
        watch.tell(*each)
        assert await anext(news) == each
    watch.end()
    assert [each async for each in news] == []


async def test_what_a_reader_leaves_unread_is_bounded() -> None:
    many, large = Watch(), Watch()
    for number in range(PREVIEWS_KEPT + 10):
        many.tell(0, Preview(str(number).encode(), "image/png"))
        for index in range(3):
            many.tell(index, Progress(0.5))
    for _ in range(10):
        large.tell(0, Preview(bytes(2**22), "image/png"))
    left = await unread(many)
    previews = [event for _, event in left if isinstance(event, Preview)]
    assert (len(previews), many.lost) == (PREVIEWS_KEPT, 10)
    assert previews[-1].data == str(PREVIEWS_KEPT + 9).encode()
    assert len(left) - len(previews) == PROGRESS_KEPT
    assert len(await unread(large)) == 4


# --- previews ---------------------------------------------------------------------------------------------


async def test_previews_are_asked_for_within_a_range_and_only_of_those_who_give_them(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert (await send(home, previews=10)).requests[0].previews == 10
        for wrong in (-1, 11):
            with pytest.raises(InvalidRequest, match="from 0 to 10") as refused:
                await send(home, previews=wrong)
            assert refused.value.field == "previews"
    async with house(tmp_path, backends=[FakeBackend(params=PARAMS - {"previews"})]) as home:
        assert (await send(home, previews=2)).requests[0].previews == 0


def test_previews_are_kept_with_the_request() -> None:
    request = ImageRequest("a", 64, 64, 4, 7.5, 1, previews=3)
    data = request_to_json(request)
    assert request_from_json(data, load=lambda name: pytest.fail("no picture")) == request
    assert "previews" not in request_to_json(replace(request, previews=0))


async def test_whoever_watches_a_job_late_sees_all_previews_that_were_asked_for() -> None:
    for asked, seen in ((0, [b"2"]), (3, [b"0", b"1", b"2"])):
        log = JobLog("j", ImageRequest("a", 64, 64, 4, 7.5, 1, previews=asked))
        for number in range(3):
            log.say(Progress(number / 3))
            log.say(Preview(str(number).encode(), "image/png"))
        log.end()
        events = [event async for event in log.watch()]
        assert [event.data for event in events if isinstance(event, Preview)] == seen
        assert sum(isinstance(event, Progress) for event in events) == 1


# --- keys -------------------------------------------------------------------------------------------------


class CountingStore(MemoryStore):
    """Counts how often it is asked for a key."""

    asked = 0

    async def key(self, digest: str) -> ApiKey | None:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().key(digest)


def key_of(text: str) -> ApiKey:
    return ApiKey("k", "shop", hashlib.sha256(text.encode()).hexdigest(), 1.0)


async def test_a_key_is_asked_for_seldom_and_its_end_counts_within_a_second() -> None:
    store, clock = CountingStore(), HandClock(1000.0)
    keyring = Keyring(store, clock.clock)
    key = key_of("secret")
    await store.add_key(key)
    found = await asyncio.gather(*(keyring.find("secret") for _ in range(50)))
    assert found == [key] * 50
    assert store.asked == 1
    await store.add_key(replace(key, revoked_at=2.0))
    await clock.advance(0.99)
    assert await keyring.find("secret") is None
    await keyring.aclose()


async def test_what_is_no_key_is_not_remembered() -> None:
    store, clock = CountingStore(), HandClock(1000.0)
    keyring = Keyring(store, clock.clock)
    for _ in range(3):
        assert await keyring.find("secret") is None
    assert await keyring.find("\ud800") is None
    assert (store.asked, keyring._known) == (4, {})
    await store.add_key(key_of("secret"))
    assert await keyring.find("secret") is not None
    await keyring.aclose()
