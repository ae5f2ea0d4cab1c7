"""Pictures made by AUTOMATIC1111's web UI, Forge or SD.Next, over the API that all three serve.

    a1111:http://gpu1:7860;batch=4

The target is the server's address; FAIRBRUSH_A1111_AUTH ("user:password") is sent as Basic authentication.
batch: pictures of 512 x 512 pixels that are made at a time (1 to 16, default 4). Nothing is paid, and a call
blocks until its pictures are made: a job that is lost is made again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from backends._a1111_calls import task_name
from backends._a1111_server import Offer, Server
from backends._a1111_work import Work
from backends._checking import check_pictures, checked_model, checked_scheduler
from backends._fresh import Fresh
from backends._http import REAL_CLOCK, Http
from backends._runs import Run, Runs
from bot.core.errors import ConfigurationError, FairbrushError, Unavailable
from bot.core.ports import Backend, CancelOutcome, Capabilities, Clock, Event, Health, RemoteRef
from bot.core.request import ImageRequest
from bot.core.settings import Settings

_PARAMS: Final = frozenset(
    {
        "steps",
        "guidance_scale",
        "seed",
        "negative_prompt",
        "scheduler",
        "init_image",
        "strength",
        "mask_image",
        "upscale",
    }
)


def create(target: str, settings: Settings) -> Backend:
    """The backend of `a1111:ADDRESS`. Raises ConfigurationError."""
    entry = settings.entry("a1111", target)
    entry.expect("batch")
    if not target:
        raise ConfigurationError("FAIRBRUSH_BACKENDS: a1111 needs an address: a1111:http://127.0.0.1:7860")
    batch = entry.number("batch", 4)
    if batch not in range(1, 17):
        raise ConfigurationError(f"FAIRBRUSH_BACKENDS: {entry.name}: batch is a whole number from 1 to 16.")
    auth = settings.secret("FAIRBRUSH_A1111_AUTH").reveal()
    return A1111(entry.name, target, auth=auth, batch=int(batch), previews=settings.previews)


class A1111:
    """See the module. poll: seconds between questions for progress."""

    def __init__(
        self,
        name: str,
        address: str,
        *,
        auth: str = "",
        batch: int = 4,
        previews: bool = True,
        clock: Clock = REAL_CLOCK,
        poll: float = 0.5,
    ) -> None:
        self.name = name
        self._http = Http(
            address, auth=auth or None, clock=clock, service="The image server", per_minute=6000
        )
        self._server = Server(self._http, keyed=bool(auth))
        self._offer: Fresh[Offer] = Fresh(name, self._server.offer, clock)
        self._runs = Runs(name, self._follow)
        self._batch = batch
        self._previews = previews
        self._clock = clock
        self._poll = poll

    async def capabilities(self) -> Capabilities:
        """What the server's own lists say; no models until it was reached once."""
        offer = await self._offer.get()
        if offer is None:
            return Capabilities(models=())
        return Capabilities(
            models=offer.catalogue.models(),
            max_batch=self._batch,
            params=_PARAMS,
            progress=offer.tells,
            previews=offer.shows and self._previews,
            cancel=offer.tells,
        )

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Check a request and put it down; it is sent when its events are asked for."""
        self._runs.check_open()
        offer = await self._offer.get()
        if offer is None:
            raise Unavailable(
                "The image server cannot be reached.", detail=self._offer.trouble, accepted=False
            )
        model = checked_model(request, offer.catalogue.titles)
        scheduler = checked_scheduler(request, offer.catalogue.samplers)
        check_pictures(request)
        run = self._runs.add(job_id, replace(request, scheduler=scheduler), model)
        return RemoteRef(self.name, {"job": run.ticket, "count": request.count})

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """What happens to a job. One that this process does not know is lost: its pictures are answered to
        nobody, so it is stopped if it is the one being made."""
        run = self._runs.find(ref)
        if run is None:
            await self._stop_stray(ref)
            raise Unavailable("The image server's answer was lost.", accepted=False)
        async for event in self._runs.watch(run):
            yield event

    async def cancel(self, ref: RemoteRef) -> CancelOutcome:
        """Interrupt our own task if it is being made; one that waits there is stopped once it starts."""
        run = self._runs.find(ref)
        if run is None:
            return CancelOutcome.TOO_LATE
        outcome = self._runs.drop(run)
        if outcome is not None:
            return outcome
        if self._offer.value is not None and not self._offer.value.tells:
            return CancelOutcome.UNSUPPORTED
        self._runs.give_up(run)
        await self._leave(run)
        return CancelOutcome.CANCELLED

    async def health(self) -> Health:
        """From what is known; looks anew in the background."""
        return self._offer.health(self._http.trouble)

    async def aclose(self) -> None:
        """Stop what is being made for us there, and leave."""
        await self._runs.aclose(self._leave)
        await self._offer.aclose()
        await self._http.aclose()

    async def _follow(self, run: Run) -> None:
        offer = self._offer.value
        if offer is None:
            raise Unavailable("The image server cannot be reached.", accepted=False)
        try:
            await Work(
                run,
                self._server,
                offer,
                self._clock,
                batch=self._batch,
                poll=self._poll,
                show=self._previews,
            ).follow()
        except FairbrushError:
            self._offer.doubt()
            raise

    async def _leave(self, run: Run) -> None:
        with contextlib.suppress(FairbrushError):  # a cancelled job's own task goes on trying
            await self._server.interrupt(run.current)

    async def _stop_stray(self, ref: RemoteRef) -> None:
        ticket, count = ref.data.get("job"), ref.data.get("count")
        if not isinstance(ticket, str) or not isinstance(count, int) or self._runs.closed:
            return
        with contextlib.suppress(FairbrushError):
            for first in range(min(count, 16)):
                await self._server.interrupt(task_name(ticket, first))
