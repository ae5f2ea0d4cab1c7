"""A service of a few lines, to try jobs at services that are submitted to, polled and collected from."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import cast

from backends._http import Http
from backends._remote import Remote
from backends._wire import (
    Facts,
    Finished,
    Found,
    Handle,
    Look,
    Wire,
    one_by_one,
)
from bot.core.ports import (
    CancelOutcome,
    Capabilities,
    Event,
    Model,
    Price,
    RemoteRef,
    Taken,
)
from bot.core.request import ImageRequest
from tests.backend_contract import collect
from tests.fakes.backend import flat_png
from tests.fakes.clock import HurriedClock

REQUEST = ImageRequest("a fox", 16, 16, 4, 7.5, seed=5)
PICTURE = base64.b64encode(flat_png(16, 16, 5)).decode()


@dataclass
class Paintbox(Wire):
    """A service: looks are what it says, in turn, the last for ever; gate: POSTs wait for it."""

    findable: bool = False
    looks: dict[str, list[Look | Exception]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    polled: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    there: dict[str, Handle] = field(default_factory=dict)
    outcome: CancelOutcome = CancelOutcome.CANCELLED
    parts: bool = False
    price: Price | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    errors: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def offered(self, http: Http) -> Capabilities:
        model = Model("m", "M", 16, 16, 4, 7.5, price=self.price)
        return Capabilities((model,), progress=True, cancel=True, resumable=True)

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        return one_by_one(request) if self.parts else (request,)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        self.sent.append(ticket)
        self.reached.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.there[ticket] = {"n": str(len(self.sent) - 1)}
        return self.there[ticket]

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        number = str(job["n"])
        self.polled.append(number)
        looks = self.looks.get(number) or [finished(facts)]
        look = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(look, Exception):
            raise look
        return look

    async def find(self, http: Http, ticket: str, facts: Facts) -> Handle | None:
        return self.there.get(ticket)

    async def stop(self, http: Http, job: Handle) -> CancelOutcome:
        self.stopped.append(str(job["n"]))
        return self.outcome


def finished(facts: Facts | None = None, **more: object) -> Finished:
    """All pictures of a job."""
    count = facts.count if facts is not None else 1
    return replace(Finished(tuple(Found(index, base64=PICTURE) for index in range(count))), **more)  # type: ignore[arg-type]


def another(box: Paintbox, clock: HurriedClock) -> Remote:
    """A backend on the same service, as after a restart."""
    return Remote("box:", box, Http("http://127.0.0.1:9", service="Paintbox"), clock=clock.clock)


async def run(remote: Remote, request: ImageRequest = REQUEST) -> list[Event]:
    """A whole job."""
    return await collect(remote.events(await remote.submit(request, job_id="j")))


async def until(remote: Remote, ref: RemoteRef, number: int) -> list[Event]:
    """The first events of a job, whose watcher then leaves."""
    stream = cast("AsyncGenerator[Event, None]", remote.events(ref))
    async with aclosing(stream) as events:
        return [await anext(events) for _ in range(number)]


def stored(event: Event) -> RemoteRef:
    """A stored reference, as it is read again."""
    assert isinstance(event, Taken)
    return RemoteRef(event.ref.backend, json.loads(json.dumps(event.ref.data)))
