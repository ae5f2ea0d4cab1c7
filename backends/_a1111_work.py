"""One request made by a server of AUTOMATIC1111's API, call after call, and what is told of it meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from backends._a1111_calls import Call, Stand, calls_for, read_made, strength_of
from backends._a1111_server import Offer, Server
from backends._fitting import fitted, small
from backends._http import Answer, decoded_picture
from backends._runs import Run
from bot.core.errors import FairbrushError, ProtocolError, TimedOut, Unavailable
from bot.core.ports import Clock, Done, ImageReady, Preview, Progress, Queued
from bot.core.request import JSON

log = logging.getLogger(__name__)

_LEFT_AFTER: Final = 20  # questions without an answer after which a cancelled call is left alone
_GONE_AFTER: Final = 120.0  # seconds for an answer to arrive once the server no longer has the call


class Work:
    """See the module. poll: seconds between questions; batch: as in calls_for()."""

    def __init__(
        self, run: Run, server: Server, offer: Offer, clock: Clock, *, batch: int, poll: float, show: bool
    ) -> None:
        self._run = run
        self._request = run.request
        self._server = server
        self._offer = offer
        self._clock = clock
        self._batch = batch
        self._poll = poll
        self._show = show and offer.shows
        self._fraction = 0.0
        self._began = clock.monotonic()
        self._active = False
        self._known = False  # the server has said that it has the call; some never do
        self._gone_at: float | None = None  # when it first said, after that, that it has it no more
        self._made = 0
        self._sizes: set[tuple[int, int]] = set()

    async def follow(self) -> None:
        """Make all pictures; returns early once the job is cancelled. Raises a FairbrushError."""
        run, request = self._run, self._request
        run.say(Progress(0.0))
        for call in calls_for(request, self._offer.catalogue, run.model, run.ticket, self._batch):
            if run.cancelled or not await self._carry_out(call):
                return
        self._say_progress(1.0)
        run.say(self._done())

    # --- inside -------------------------------------------------------------------------------------------

    async def _carry_out(self, call: Call) -> bool:
        """Make the pictures of a call; False where the job was cancelled meanwhile."""
        self._run.current, self._known, self._gone_at = call.task, False, None
        answer = await self._answer(call)
        if self._run.cancelled:
            return False
        await self._take(call, answer)
        return True

    async def _answer(self, call: Call) -> Answer:
        post = asyncio.create_task(self._server.make(call))
        try:
            await self._attend(call, post)
            return await post
        except (Unavailable, TimedOut) as error:
            if error.accepted is None:  # nothing is paid: it is stopped, and may be made again
                with contextlib.suppress(FairbrushError):
                    await self._server.interrupt(call.task)
                error.accepted = False
            raise
        finally:
            post.cancel()

    async def _attend(self, call: Call, post: asyncio.Task[Answer]) -> None:
        """Tell how a call stands until it is answered."""
        preview_id, unanswered = -1, 0
        while not (await asyncio.wait({post}, timeout=self._poll))[0]:
            try:
                preview_id = await self._look(call, preview_id)
                unanswered = 0
            except FairbrushError as error:  # no event: the core counts the silence
                log.info("job %s: no progress: %s %s", self._run.job_id, error.message, error.detail)
                unanswered += 1
            if self._run.cancelled and unanswered >= _LEFT_AFTER:
                post.cancel()
            elif self._gone_at is not None and self._clock.monotonic() - self._gone_at > _GONE_AFTER:
                raise Unavailable("The image server's answer was lost.", accepted=False)

    async def _look(self, call: Call, preview_id: int) -> int:
        """One question, and what follows from it; the number of the newest preview."""
        if not self._offer.tells:
            await self._server.alive()
            self._say_progress(self._fraction)
            return preview_id
        stand = await self._server.stand(call.task, preview_id, show=self._show)
        if stand is None:
            return preview_id
        if stand.known:
            self._known, self._gone_at = True, None
        elif self._known and self._gone_at is None:
            self._gone_at = self._clock.monotonic()
        if self._run.cancelled and stand.active:
            await self._server.interrupt(call.task)
        if stand.ahead is not None:
            self._run.say(Queued(stand.ahead))
            return preview_id
        await self._tell(call, stand)
        return stand.preview_id if stand.preview else preview_id

    async def _tell(self, call: Call, stand: Stand) -> None:
        if stand.active and not self._active:
            self._active, self._began = True, self._clock.monotonic()
        made = call.first + stand.fraction * call.count
        self._say_progress(made / self._request.count)
        if not (stand.preview and self._show):
            return
        with contextlib.suppress(ProtocolError):
            data, _ = decoded_picture(stand.preview)
            if (picture := await small(data)) is not None:
                self._run.say(Preview(picture, "image/jpeg", min(int(made), call.first + call.count - 1)))

    def _say_progress(self, fraction: float) -> None:
        self._fraction = max(self._fraction, fraction)
        self._run.say(Progress(self._fraction))

    async def _take(self, call: Call, answer: Answer) -> None:
        request = self._request
        seeds = [request.seed_of(call.first + number) for number in range(call.count)]
        for made in await asyncio.to_thread(read_made, answer, call, seeds):
            data, mime, size = await fitted(made.data, request.width, request.height)
            self._sizes.add(size)
            self._made += 1
            self._run.say(ImageReady(made.index, data, mime, made.seed))

    def _done(self) -> Done:
        """Device time counts from when the first call was seen to be made."""
        request = self._request
        applied: dict[str, JSON] = {}
        notes = []
        if scheduler := request.scheduler or self._offer.catalogue.default_scheduler:
            applied["scheduler"] = scheduler
        if (strength := strength_of(request)) is not None and request.strength is None:
            applied["strength"] = strength
        for width, height in self._sizes - {(request.width, request.height)}:
            applied |= {"width": width, "height": height}
            notes = [f"made at {width}×{height} and fitted to {request.width}×{request.height}"]
        if self._made < request.count:  # somebody stopped it at the server
            notes.append(f"{self._made} of {request.count} pictures were made.")
        seconds = self._clock.monotonic() - self._began
        return Done(seconds, model=self._run.model, notes=tuple(notes), applied=applied)
