"""Server-sent events of the Playground, and the contract that every adapter keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.web import stream as stream_module
from adapters.web.hub import MAX_STREAMS_PER_MEMBER, MAX_WAITING, Hub, Stream
from bot.core.ports import Adapter, Address, JobStatus, Preview, Progress
from bot.core.request import ImageResult, Requester, State
from tests.adapter_contract import AdapterContract, Seen
from tests.fakes.web import API, House, Page, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


@pytest.fixture
async def page(home: House) -> AsyncIterator[Page]:
    opened = await Page().open(home.client)
    yield opened
    await opened.close()


# --- the contract -----------------------------------------------------------------------------------------


class WebStage:
    """The Playground with one page open."""

    def __init__(self, home: House, page: Page) -> None:
        self.adapter: Adapter = home.adapter
        self._home = home
        self._page = page
        self._results: dict[str, ImageResult] = {}

    async def accept(self, prompt: str) -> tuple[str, Address]:
        """Queue it from the page."""
        group_id = await self._home.submit(prompt)
        return group_id, self._home.studio.submissions[-1].address

    def result(self, group_id: str, *, pictures: int, state: State, message: str) -> ImageResult:
        """The studio's own result, with as many pictures."""
        ticket = self._home.studio._tickets[group_id]
        request = replace(ticket.requests[0], count=max(1, pictures))
        made = self._home.studio._pictures(group_id, replace(ticket, requests=(request,)))
        requester = self._home.studio._groups[group_id].requester
        return ImageResult(
            group_id, requester, request.prompt, state, made if pictures else (), message=message
        )

    async def seen(self, group_id: str) -> Seen:
        """What the page knows, once a word said last has arrived there."""
        address = self._home.studio._groups[group_id].address
        marker = f"marker-{self._page.events}"
        await self.adapter.conversation(address).show(JobStatus(marker, "marker", State.QUEUED))
        await self._page.until(lambda: marker in self._page.jobs)
        cards = [job for job in self._page.jobs.values() if job["id"] == group_id]
        pictures = [picture for card in cards for picture in card.get("pictures", [])]
        return Seen(len(cards), str(cards), len(pictures))


class TestWeb(AdapterContract):
    @pytest.fixture
    def stage(self, home: House, page: Page) -> WebStage:
        return WebStage(home, page)


# --- the stream -------------------------------------------------------------------------------------------


async def test_a_page_is_told_place_progress_preview_and_pictures(home: House, page: Page) -> None:
    job = await home.submit()
    await home.studio.tell(job, state=State.QUEUED)
    await page.until(lambda: page.jobs.get(job, {}).get("state") == "queued")
    preview = Preview(b"jpeg", "image/jpeg")
    await home.studio.tell(job, state=State.RUNNING, progress=Progress(0.5, 2, 4), preview=preview)
    await page.until(lambda: "preview" in page.jobs[job])
    assert page.jobs[job]["line"] == "Step 2 of 4"
    await home.studio.finish(job)
    await page.until(lambda: page.jobs[job]["state"] == "done")
    assert len(page.jobs[job]["pictures"]) == 1


async def test_every_page_of_a_browser_is_told_and_no_other(home: House, page: Page) -> None:
    second = await Page().open(home.client)
    stranger = await Page().open(await home.browser())
    job = await home.submit()
    await home.studio.finish(job)
    await page.until(lambda: job in page.jobs)
    await second.until(lambda: job in second.jobs)
    theirs = await home.submit(client=home.browsers[-1])
    await home.studio.finish(theirs)
    await stranger.until(lambda: theirs in stranger.jobs)
    assert job not in stranger.jobs
    assert theirs not in page.jobs
    await second.close()
    await stranger.close()


async def test_the_same_preview_is_sent_once(home: House, page: Page) -> None:
    job = await home.submit()
    preview = Preview(b"jpeg", "image/jpeg")
    await home.studio.tell(job, state=State.RUNNING, progress=Progress(0.25, 1, 4), preview=preview)
    await page.until(lambda: "preview" in page.jobs.get(job, {}))
    page.jobs[job].pop("preview")
    await home.studio.tell(job, progress=Progress(0.5, 2, 4))
    await page.until(lambda: page.jobs[job]["line"] == "Step 2 of 4")
    assert "preview" not in page.jobs[job]


async def test_a_quiet_stream_is_kept_alive(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.01)
    async with home.client.get(f"{API}/events") as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        async with asyncio.timeout(5):
            while await answer.content.readline() != b": \n":
                pass


async def test_streams_end_when_the_adapter_stops(home: House, page: Page) -> None:
    assert home.running is not None
    home.running.cancel()
    await page.until(lambda: page.ended)
    async with home.client.get(f"{API}/setup") as answer:
        assert answer.status == 503


async def test_a_browser_has_only_so_many_streams(home: House) -> None:
    pages = [await Page().open(home.client) for _ in range(MAX_STREAMS_PER_MEMBER)]
    async with home.client.get(f"{API}/events") as answer:
        assert answer.status == 429
    for page in pages:
        await page.close()


async def test_a_closed_page_is_forgotten(home: House, page: Page) -> None:
    job = await home.submit()
    await page.close()
    async with asyncio.timeout(5):
        while home.adapter._hub._streams:  # the server notices when the connection is gone
            await home.studio.tell(job, state=State.QUEUED)
            await asyncio.sleep(0.01)


# --- what a slow reader gets ------------------------------------------------------------------------------


def _status(group: str, state: State = State.RUNNING, **more: Any) -> JobStatus:
    return JobStatus(group, "a fox", state, **more)


def _result(group: str) -> ImageResult:
    return ImageResult(group, Requester("web", "web", "u"), "a fox", State.DONE)


async def test_a_slow_reader_gets_the_newest_progress_of_each_request() -> None:
    stream = Stream()
    for made in range(1000):
        stream.put(_status("a", made=made))
        stream.put(_status("b", made=made))
    first, second = await stream.take(patience=0), await stream.take(patience=0)
    assert isinstance(first, JobStatus)
    assert isinstance(second, JobStatus)
    assert [(first.group_id, first.made), (second.group_id, second.made)] == [("a", 999), ("b", 999)]
    assert await stream.take(patience=0) is None


async def test_an_end_is_not_replaced_by_a_late_progress_nor_a_result_by_an_end() -> None:
    stream = Stream()
    stream.put(_status("a", State.FAILED, message="out of memory"))
    stream.put(_status("a", made=3))
    ended = await stream.take(patience=0)
    assert isinstance(ended, JobStatus)
    assert ended.message == "out of memory"
    stream.put(_result("b"))
    stream.put(_status("b", State.DONE))
    stream.put(_status("b"))
    assert isinstance(await stream.take(patience=0), ImageResult)


async def test_a_reader_too_far_behind_is_sent_away_to_read_the_present_state() -> None:
    stream = Stream()
    closed = []
    for number in range(MAX_WAITING + 1):
        stream.put(_result(f"g{number}"))
        closed.append(stream.closed)
    assert closed == [False] * MAX_WAITING + [True]
    assert await stream.take(patience=1) is None


async def test_a_waiting_reader_is_woken() -> None:
    stream = Stream()
    waiting = asyncio.ensure_future(stream.take(patience=5))
    await asyncio.sleep(0)
    stream.put(_status("a"))
    assert (await waiting) is not None
    waiting = asyncio.ensure_future(stream.take(patience=5))
    await asyncio.sleep(0)
    stream.close()
    assert (await waiting) is None


def test_telling_nobody_is_fine() -> None:
    hub = Hub()
    hub.publish(("web", "nobody"), _status("a"))
    hub.close()
