"""`openai:MODEL`: OpenAI's images API, and every server that speaks it (FAIRBRUSH_OPENAI_URL).

The API blocks, has no job ids and cannot be asked again: what was sent and never answered may have been made
and charged, and is never sent twice. The options of an entry are in _openai_offer.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from backends._endpoint import at_home
from backends._http import PICTURES, REAL_CLOCK, Http
from backends._openai_calls import AT_ONCE, Calls, doubt
from backends._openai_offer import Offer, learnt, read_offer
from backends._runs import Run, Runs
from bot.core.errors import (
    Cancelled,
    ConfigurationError,
    FairbrushError,
    InvalidRequest,
    TimedOut,
    Unavailable,
)
from bot.core.lanes import needs
from bot.core.ports import (
    Backend,
    CancelOutcome,
    Capabilities,
    Clock,
    Event,
    Health,
    RemoteRef,
    Taken,
)
from bot.core.request import ImageRequest
from bot.core.settings import BackendEntry, Settings

log = logging.getLogger(__name__)

OFFICIAL: Final = "https://api.openai.com"
_SETTING: Final = "FAIRBRUSH_OPENAI_URL"
ASK_SECONDS: Final = 60.0
FIRST_SECONDS: Final = 2.0
_SLOTS: Final = 4


def create(target: str, settings: Settings) -> Backend:
    """The backend of `openai:MODEL`. Raises ConfigurationError naming the variable and the way out."""
    return build(target, settings)


def build(target: str, settings: Settings, *, clock: Clock | None = None) -> OpenAIBackend:
    """As create(), with the clock passed in."""
    address = settings.service_urls.get("openai", "") or OFFICIAL
    official = at_home(address, OFFICIAL, setting=_SETTING)
    key = settings.secret("OPENAI_API_KEY")
    if official and not key:
        raise ConfigurationError(
            f"openai:{target} needs OPENAI_API_KEY, a key of your OpenAI account; or set "
            "FAIRBRUSH_OPENAI_URL to another server that speaks this API."
        )
    entry = settings.entry("openai", target)
    offer = read_offer(entry, official=official)
    http = Http(
        address.rstrip("/").removesuffix("/v1"),  # OpenAI's own libraries want it in the address
        headers={"Authorization": f"Bearer {key.reveal()}"} if key else {},
        service="OpenAI" if official else "The image server",
        setting=_SETTING,
        clock=clock,
    )
    return OpenAIBackend(entry, offer, http, official=official, clock=clock)


class OpenAIBackend:
    """See the module. official: it is OpenAI itself, several calls go out at once."""

    def __init__(
        self, entry: BackendEntry, offer: Offer, http: Http, *, official: bool, clock: Clock | None = None
    ) -> None:
        self.name = entry.name
        self._entry = entry
        self._http = http
        self._official = official
        self._clock = clock or REAL_CLOCK
        self._calls = Calls(offer, http, self._clock, at_once=AT_ONCE if official else 1)
        self._runs = Runs(entry.name, self._calls.follow)
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._reached = False

    # --- the port -----------------------------------------------------------------------------------------

    async def capabilities(self) -> Capabilities:
        """From the entry; no model before the server was reached for the first time."""
        self._ask_now_and_then()
        if not self._reached and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=FIRST_SECONDS)
        offer = self._calls.offer
        return Capabilities(
            models=(offer.model,) if self._reached else (),
            slots=_SLOTS if self._official else 1,
            params=offer.params,
            previews=offer.previews > 0,
            cancel=True,
            # A preview is shown where the operator asks for previews: OpenAI moderates what it sends.
            checks_content=self._official and not offer.previews,
        )

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Check the request and remember it; nothing is sent before events()."""
        self._runs.check_open()
        if request.model not in (None, self._calls.offer.model.id):
            raise InvalidRequest(
                f"There is no model {request.model!r} here; there is {self._calls.offer.model.id!r}.",
                field="model",
                accepted=False,
            )
        for name in sorted(needs(request) - self._calls.offer.params):
            raise InvalidRequest(
                f"{self._calls.offer.model.title} does not take {name.replace('_', ' ')} here. Leave it out.",
                field=name,
                accepted=False,
            )
        run = self._runs.add(job_id, request, self._calls.offer.model.id)
        return RemoteRef(self.name, {"job": run.ticket, "sent": False})

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """Mark the job as sent, send it, and say what comes of it."""
        run = self._runs.find(ref)
        if run is None:
            raise self._lost(ref)
        if not run.going and not run.ended:
            yield Taken(RemoteRef(self.name, {"job": run.ticket, "sent": True}))
        async for event in self._runs.watch(run):
            yield event

    async def cancel(self, ref: RemoteRef) -> CancelOutcome:
        """Drop the connection; whether the service then stops, and charges nothing, is not known."""
        run = self._runs.find(ref)
        if run is None:
            return CancelOutcome.TOO_LATE
        if run.cancelled:
            return CancelOutcome.REQUESTED
        if (outcome := self._runs.drop(run)) is not None:
            return outcome
        run.end(Cancelled("The job was cancelled. It may still be charged.", accepted=None))
        self._runs.give_up(run)
        self._calls.drop(run)
        return CancelOutcome.REQUESTED

    async def health(self) -> Health:
        """Whether the last call reached it."""
        if self._runs.closed:
            return Health(False, detail="closed")
        self._ask_now_and_then()
        if self._http.trouble:
            return Health(False, detail=self._http.trouble)
        if not self._reached:
            return Health(True, loading=True, detail=f"{self._http.service} is being asked.")
        return Health(True, detail=self._calls.offer.model.title)

    async def aclose(self) -> None:
        """Drop all connections."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._runs.aclose(self._leave)
        await self._http.aclose()

    def _lost(self, ref: RemoteRef) -> FairbrushError:
        """A job that this process does not know: whether it was sent is in its reference."""
        if ref.data.get("sent") is True:
            text = f"The contact to {self._http.service} was lost. {doubt(self._calls.offer)}"
            return Unavailable(text, accepted=None)
        return Unavailable("The image backend no longer knows this job.", accepted=False)

    async def _leave(self, run: Run) -> None:
        run.end(Unavailable(f"The image backend was closed. {doubt(self._calls.offer)}", accepted=None))

    # --- whether it is there --------------------------------------------------------------------------------

    def _ask_now_and_then(self) -> None:
        now = self._clock.monotonic()
        idle = self._asking is None or self._asking.done()
        if idle and now - self._asked_at >= ASK_SECONDS and not self._runs.closed:
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            answer = await self._http.poll("/v1/models", seconds=10.0, most=PICTURES, also=(404, 405, 501))
            if answer.status < 300 and not self._official:
                self._calls.offer = learnt(self._calls.offer, self._entry, answer.json())
        except (Unavailable, TimedOut) as error:
            log.info("%s: not reached: %s", self.name, error.detail)
            return
        except FairbrushError as error:
            log.info("%s: its list of models says nothing: %s", self.name, error.detail)
        self._reached = True
