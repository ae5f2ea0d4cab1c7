"""One job at a server that speaks OpenAI's images API: its calls, its pictures, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from aiohttp import ClientResponse

from backends._http import PICTURES, Backoff, Http, Missing, decoded_picture
from backends._openai_models import Size
from backends._openai_offer import Offer
from backends._openai_wire import (
    REFUSALS,
    Events,
    Found,
    body_of,
    form_of,
    found_in,
    raise_known,
    read_event,
    refuse,
)
from backends._runs import Run
from bot.core.errors import ContentRejected, FairbrushError, Fault, RateLimited, TimedOut, Unavailable
from bot.core.pictures import exact_size, fit_to_bytes, mime_of, size_of, thumbnail
from bot.core.ports import Clock, Done, ImageReady, ImageRejected, Preview, Progress
from bot.core.request import JSON, ImageRequest

CALL_SECONDS: Final = 600.0
SIGN_SECONDS: Final = 20.0
TRIES: Final = 4
RETRY_SECONDS: Final = 60.0
AT_ONCE: Final = 4  # calls of one job at OpenAI itself
_PREVIEW_SIDE, _PREVIEW_BYTES = 256, 20_000


@dataclass(slots=True)
class _Tally:
    """What came of the calls of one job. usage: US dollars by the answers' own counts, and counted: the
    pictures that they are for; prompt: as the service rewrote it; trouble: the first error."""

    made: int = 0
    counted: int = 0
    usage: float = 0.0
    prompt: str = ""
    size: Size = (0, 0)
    trouble: FairbrushError | None = None
    rejected: dict[int, str] = field(default_factory=dict)


class Calls:
    """What a backend does for each of its jobs. offer: as it is known by now; at_once: calls of one job that
    go out together."""

    def __init__(self, offer: Offer, http: Http, clock: Clock, *, at_once: int) -> None:
        self.offer = offer
        self._http = http
        self._clock = clock
        self._at_once = at_once
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(self, run: Run) -> None:
        """All calls of a job, then its Done."""
        run.current = "sent"
        task = self._tasks[run.ticket] = asyncio.create_task(self._make(run))
        try:
            await task
        except asyncio.CancelledError:
            if not run.cancelled:
                raise
        finally:
            task.cancel()
            del self._tasks[run.ticket]

    def drop(self, run: Run) -> None:
        """Close the connections of a job."""
        if (task := self._tasks.get(run.ticket)) is not None:
            task.cancel()

    async def _make(self, run: Run) -> None:
        begun = self._clock.monotonic()
        previews = self._previews_of(run.request)
        calls = self.offer.calls(run.request, streamed=previews is not None)
        tally = _Tally(size=self.offer.size_for(run.request))
        turns = asyncio.Semaphore(self._at_once)
        sign = asyncio.create_task(self._give_signs(run))
        try:
            async with asyncio.TaskGroup() as group:
                for indices in calls:
                    group.create_task(self._one_call(run, indices, previews, tally, turns))
        finally:
            sign.cancel()
        if not tally.made and tally.trouble is not None:
            raise tally.trouble
        for index, reason in sorted(tally.rejected.items()):
            run.say(ImageRejected(index, reason))
        run.say(self._done(run.request, tally, self._clock.monotonic() - begun))

    def _previews_of(self, request: ImageRequest) -> int | None:
        """Previews of each picture, for a streamed answer; None for one in one piece."""
        return min(3, request.previews or self.offer.previews) if self.offer.previews else None

    async def _give_signs(self, run: Run) -> None:
        while True:
            run.say(Progress(0.0, phase=f"Waiting for {self._http.service.removeprefix('The ')}"))
            await self._clock.sleep(SIGN_SECONDS)

    async def _one_call(
        self,
        run: Run,
        indices: Sequence[int],
        previews: int | None,
        tally: _Tally,
        turns: asyncio.Semaphore,
    ) -> None:
        async with turns:
            if tally.trouble is not None and not isinstance(tally.trouble, ContentRejected):
                return  # what refused one call refuses the next
            try:
                await self._call(run, indices, previews, tally)
            except FairbrushError as error:
                if isinstance(error, Fault) and error.accepted is None:
                    error = type(error)(self._doubtful(error.message), detail=error.detail, accepted=None)
                if tally.trouble is None or error.accepted is None:
                    tally.trouble = error
                if isinstance(error, ContentRejected):
                    tally.rejected |= dict.fromkeys(indices, error.message)

    async def _call(self, run: Run, indices: Sequence[int], previews: int | None, tally: _Tally) -> None:
        """One POST and its pictures. Raises FairbrushError."""
        fields_sent = body_of(self.offer, run.request, indices, tally.size, previews)
        body: Mapping[str, JSON] | bytes = fields_sent
        path, headers = "/v1/images/generations", dict[str, str]()
        if run.request.init_image is not None:
            form, kind = await asyncio.to_thread(form_of, fields_sent, run.request)
            path, body, headers = "/v1/images/edits", form, {"Content-Type": kind}
        if previews is None:
            fields = await self._insist(lambda: self._whole(path, body, headers))
        else:
            fields = await self._insist(lambda: self._streamed(run, indices[0], path, body, headers))
        given = list(zip(indices, found_in(fields), strict=False))
        self._count(fields.get("usage"), len(given), tally)
        failed: FairbrushError | None = None
        for index, found in given:
            try:
                await self._take(run, index, found, tally)
            except FairbrushError as error:  # the others were made too
                failed = failed or error
        if failed is not None:
            raise failed

    async def _insist(self, call: Callable[[], Awaitable[Mapping[str, JSON]]]) -> Mapping[str, JSON]:
        """Again where the service surely has not taken it and may do so shortly: no connection, 429, 503."""
        until, backoff = self._clock.monotonic() + RETRY_SECONDS, Backoff()
        for left in range(TRIES - 1, -1, -1):
            try:
                return await call()
            except (RateLimited, Unavailable) as error:
                wait = backoff.wait(error.retry_after)
                lasting = error.accepted is not False or isinstance(error, Missing)
                if lasting or not left or self._clock.monotonic() + wait > until:
                    raise
            await self._clock.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _whole(
        self, path: str, body: Mapping[str, JSON] | bytes, headers: Mapping[str, str]
    ) -> Mapping[str, JSON]:
        answer = await self._http.post(
            path, body, seconds=CALL_SECONDS, most=PICTURES, also=REFUSALS, headers=headers, tries=1
        )
        if answer.status >= 300:
            refuse(answer, self.offer, self._http.service)
        return await asyncio.to_thread(answer.fields)

    async def _streamed(
        self, run: Run, index: int, path: str, body: Mapping[str, JSON] | bytes, headers: Mapping[str, str]
    ) -> Mapping[str, JSON]:
        """The event that holds the picture; previews are said as they come."""
        headers = {**headers, "Accept": "text/event-stream, application/json"}
        try:
            async with (
                asyncio.timeout(CALL_SECONDS),
                self._http.stream(
                    path, body, seconds=CALL_SECONDS, also=REFUSALS, headers=headers
                ) as response,
            ):
                return await self._read(run, index, response)
        except TimeoutError:
            raise TimedOut(f"{self._http.service} did not answer in time.", accepted=None) from None

    async def _read(self, run: Run, index: int, response: ClientResponse) -> Mapping[str, JSON]:
        if response.status >= 300:
            refuse(await self._http.whole(response), self.offer, self._http.service)
        if response.content_type == "application/json":  # it does not stream after all
            answer = await self._http.whole(response, most=PICTURES)
            return await asyncio.to_thread(answer.fields)
        events, ended = Events(), False
        while not ended:
            chunk = await response.content.readany()
            ended = not chunk
            for text in events.feed(chunk or b"\n\n"):  # some do not end their last event
                event = await asyncio.to_thread(read_event, text)
                kind = str(event.get("type"))
                if kind.endswith(".completed"):
                    return event
                if kind.endswith(".partial_image"):
                    await self._show(run, index, event)
                elif kind == "error" or event.get("error"):
                    self._refuse_event(event)
        raise Unavailable(f"The connection to {self._http.service} broke.", accepted=None)

    def _refuse_event(self, event: Mapping[str, JSON]) -> None:
        """Raise what an error in the middle of a stream means."""
        inner = event.get("error")
        error = inner if isinstance(inner, Mapping) else event
        detail = self._http.plain(str(error))
        raise_known(error, self.offer, self._http.service, detail)
        raise Unavailable(f"{self._http.service} failed inside.", detail=detail, accepted=None)

    async def _show(self, run: Run, index: int, event: Mapping[str, JSON]) -> None:
        """A preview; one that is not fit to be shown is left out."""
        with suppress(FairbrushError):
            small = await asyncio.to_thread(_small, str(event.get("b64_json", "")))
            run.say(Preview(small, "image/jpeg", index))

    async def _take(self, run: Run, index: int, found: Found, tally: _Tally) -> None:
        if found.link:
            data, _ = await self._http.picture(found.link)
        else:
            data, _ = await asyncio.to_thread(decoded_picture, found.data)
        tally.size = size_of(data)
        request = run.request
        exact = await asyncio.to_thread(exact_size, data, request.width, request.height)
        run.say(ImageReady(index, exact, mime_of(exact), request.seed_of(index)))
        tally.made += 1
        tally.prompt = tally.prompt or found.prompt

    def _doubtful(self, message: str) -> str:
        return f"{message} {doubt(self.offer)}"

    # --- what it cost, and what is said about it ------------------------------------------------------------

    def _count(self, usage: JSON, pictures: int, tally: _Tally) -> None:
        rates = self.offer.known.rates if self.offer.known else None
        money = rates.of(usage) if rates is not None and isinstance(usage, Mapping) else None
        if money is not None:
            tally.usage += money
            tally.counted += pictures

    def _done(self, request: ImageRequest, tally: _Tally, seconds: float) -> Done:
        applied: dict[str, JSON] = {}
        if tally.size != (request.width, request.height):
            applied |= {"width": tally.size[0], "height": tally.size[1]}
        if tally.prompt and request.count == 1:
            applied["prompt"] = tally.prompt
        return Done(
            device_seconds=seconds,
            money=self.offer.money(tally.made, tally.size, tally.usage, tally.counted),
            model=self.offer.model.id,
            notes=self._notes(request, tally),
            applied=applied,
        )

    def _notes(self, request: ImageRequest, tally: _Tally) -> tuple[str, ...]:
        fields, notes = self.offer.fields, []
        if "seed" not in fields:
            notes.append("This service takes no seed: the same seed does not give the same picture.")
        best = self.offer.model
        if request.steps != best.steps and "steps" not in fields:
            notes.append("This service takes no steps: it chooses them itself.")
        if request.guidance_scale != best.guidance_scale and "guidance_scale" not in fields:
            notes.append("This service takes no guidance.")
        if request.strength is not None and "strength" not in self.offer.params:
            notes.append("This service takes no strength: it decides how much of the picture changes.")
        if tally.made + len(tally.rejected) < request.count:
            why = f" {tally.trouble.message}" if tally.trouble is not None else ""
            notes.append(f"{tally.made} of {request.count} pictures were made.{why}")
        return tuple(notes)


def doubt(offer: Offer) -> str:
    """Why a job that was sent and never answered is left alone."""
    what = "made and charged" if offer.model.price is not None else "made"
    return f"It may have been {what}, so it is not sent again by itself."


def _small(text: str) -> bytes:
    data, _ = decoded_picture(text)
    return fit_to_bytes(thumbnail(data, _PREVIEW_SIDE), _PREVIEW_BYTES, mime="image/jpeg")[0]
