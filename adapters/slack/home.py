"""App Homes: published when one is opened, after its buttons, and when the requests of somebody who looks
at theirs change; never because time has passed.

Slack does not say when somebody looks away, so they are taken to look for an hour after they last did
something there. Changes that come close together are one publication.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from adapters.slack import home_view, people
from adapters.slack.files import files_in
from adapters.slack.home_view import Content, Result, Thumbnail
from adapters.slack.names import NOUNS
from adapters.slack.problems import Denied, Removed
from adapters.slack.render import is_hidden
from adapters.slack.visit import Visit
from adapters.slack.workspace import Workspace
from bot.core import messages
from bot.core.errors import Fault, NotFound
from bot.core.patience import Tasks
from bot.core.ports import Address, Conversation, JobStatus, StoredGroup
from bot.core.request import ImageResult

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

WATCHED: Final = 3600.0  # seconds after somebody did something in their Home
MOST_WATCHERS: Final = 5000
GAP: Final = 6.0  # seconds between publications of one Home that nobody asked for
LOOKED_BACK: Final = 20  # requests in which the last pictures are looked for
MOST_RESULTS: Final = 5
MOST_LINKS: Final = 2000

Key: TypeAlias = "tuple[str, str]"


@dataclass(slots=True, eq=False)
class Watcher:
    """Somebody who looks at their Home. until, at: monotonic times, at which they are taken to look away and
    of the last publication; shown: what that was; changed: it is not so any more."""

    visit: Visit
    manages: bool
    until: float
    at: float = float("-inf")
    shown: str = ""
    changed: bool = False
    task: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Homes:
    """The Homes of one adapter."""

    def __init__(
        self,
        slack: Slack,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._slack = slack
        self._monotonic = monotonic
        self._sleep = sleep
        self._watchers: OrderedDict[Key, Watcher] = OrderedDict()
        self._links: OrderedDict[Key, str] = OrderedDict()
        self._tasks = Tasks()

    # --- what happens -------------------------------------------------------------------------------------

    async def opened(self, visit: Visit) -> None:
        """Somebody opened theirs, or wants it anew."""
        visit = replace(visit, channel="", thread="", reply="")
        try:
            manages = (await people.rights(self._slack, visit)).manages
        except Fault as error:
            log.info("a Home without settings: %s %s", error.message, error.detail)
            manages = False
        key = _key(visit)
        watcher = self._watchers.setdefault(key, Watcher(visit, manages, 0.0))
        watcher.visit, watcher.manages = visit, manages
        self._looks(watcher)
        while len(self._watchers) > MOST_WATCHERS:
            self._watchers.popitem(last=False)
        await self._publish(watcher, asked=True)

    def used(self, visit: Visit) -> None:
        """Somebody pressed a button there: what comes of it is to be seen at once."""
        if (watcher := self._watchers.get(_key(visit))) is not None:
            watcher.at = float("-inf")
            self._looks(watcher)

    def changed(self, address: Address) -> None:
        """Requests of whoever asked from this address are not as they were."""
        team = address.get("team") or address.get("enterprise") or ""
        watcher = self._watchers.get((str(team), str(address.get("user") or "")))
        if watcher is None or watcher.until < self._monotonic():
            return
        watcher.changed = True
        if watcher.task is None or watcher.task.done():
            watcher.task = self._tasks.start(self._follow(watcher))

    def watched(self, conversation: Conversation, address: Address) -> Conversation:
        """The conversation, with Homes that follow it."""
        return Watched(conversation, lambda: self.changed(address))

    async def aclose(self) -> None:
        """Publish nothing more; idempotent."""
        await self._tasks.aclose()

    def _looks(self, watcher: Watcher) -> None:
        watcher.until = self._monotonic() + WATCHED
        self._watchers.move_to_end(_key(watcher.visit))

    # --- publishing ---------------------------------------------------------------------------------------

    async def _follow(self, watcher: Watcher) -> None:
        """Publish until nothing is new, at most every GAP seconds."""
        while watcher.changed:
            if (rest := watcher.at + GAP - self._monotonic()) > 0:
                await self._sleep(rest)
            watcher.changed = False
            try:
                await self._publish(watcher, asked=False)
            except Removed:
                self._watchers.pop(_key(watcher.visit), None)
                return
            except Fault as error:
                log.info("a Home was not published: %s %s", error.message, error.detail)
                if error.retry_after:
                    watcher.changed = True
                    watcher.at = self._monotonic() + error.retry_after

    async def _publish(self, watcher: Watcher, *, asked: bool) -> None:
        """asked: also where nothing is new."""
        async with watcher.lock:
            watcher.at = self._monotonic()
            visit = watcher.visit
            workspace = await self._slack.clients.workspace(visit.team, visit.enterprise)
            content = await self._content(workspace, visit, manages=watcher.manages)
            shown = json.dumps(home_view.blocks(content))
            if shown == watcher.shown and not asked:
                return
            await self._send(workspace, visit.user, content, rank=0 if asked else 1)
            watcher.shown = shown

    async def _send(self, workspace: Workspace, user: str, content: Content, *, rank: int) -> None:
        """Without the pictures where Slack does not take one of them: deleted, or not processed yet."""
        now = time.time()
        try:
            await workspace.publish_home(user, home_view.view(home_view.blocks(content), now), rank=rank)
        except Denied as error:
            if not any(result.pictures for result in content.results):
                raise
            log.info("a Home without pictures: %s", error.detail)
            bare = home_view.blocks(content, pictured=False)
            await workspace.publish_home(user, home_view.view(bare, now), rank=rank)

    # --- what is shown ------------------------------------------------------------------------------------

    async def _content(self, workspace: Workspace, visit: Visit, *, manages: bool) -> Content:
        studio, by = self._slack.studio, visit.requester
        why = await studio.why(by)
        groups = [each for each in await studio.history(by, limit=LOOKED_BACK) if _has_pictures(each)]
        results = [await self._result(workspace, group) for group in groups[:MOST_RESULTS]]
        return Content(
            waiting=studio.queue(by),
            why=why.text(member=NOUNS.member, guild=NOUNS.guild),
            results=[result for result in results if result is not None],
            manages=manages,
        )

    async def _result(self, workspace: Workspace, group: StoredGroup) -> Result | None:
        """None where it was deleted meanwhile."""
        try:
            result = await self._slack.studio.result(group.group_id)
        except NotFound:
            return None
        return Result(
            group.group_id,
            result.prompt,
            messages.finished_line(result),
            _thumbnails(group.address, result),
            await self._link(workspace, group.address),
        )

    async def _link(self, workspace: Workspace, address: Address) -> str:
        """To the message with the pictures; "" where Slack gives none."""
        channel, ts = str(address.get("channel") or ""), str(address.get("status") or "")
        if not ts:
            return ""
        if (known := self._links.get((channel, ts))) is not None:
            return known
        try:
            found = await workspace.permalink(channel, ts)
        except Fault as error:
            log.info("no link: %s %s", error.message, error.detail)
            return ""
        self._links[channel, ts] = found
        while len(self._links) > MOST_LINKS:
            self._links.popitem(last=False)
        return found


def _key(visit: Visit) -> Key:
    return visit.team or visit.enterprise, visit.user


def _has_pictures(group: StoredGroup) -> bool:
    ended = all(job.state.ended for job in group.jobs)
    return ended and any(not picture.withheld for job in group.jobs for picture in job.pictures)


def _thumbnails(address: Address, result: ImageResult) -> tuple[Thumbnail, ...]:
    """The pictures with their files, where both are known."""
    files = files_in(address)
    shown = [picture for picture in result.pictures if not picture.withheld]
    if len(files) != len(shown):
        return ()
    return tuple(
        Thumbnail(file, picture.alt_text, is_hidden(result, picture))
        for file, picture in zip(files, shown, strict=True)
    )


class Watched:
    """A conversation that tells when what it shows has changed."""

    def __init__(self, conversation: Conversation, changed: Callable[[], None]) -> None:
        self._conversation = conversation
        self._changed = changed

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        """See the port."""
        try:
            return await self._conversation.prepare(store)
        finally:
            self._changed()

    async def show(self, status: JobStatus) -> None:
        """See the port."""
        try:
            await self._conversation.show(status)
        finally:
            self._changed()

    async def deliver(self, result: ImageResult) -> None:
        """See the port."""
        try:
            await self._conversation.deliver(result)
        finally:
            self._changed()
