"""A server of AUTOMATIC1111's API: what it offers, and how a task of ours stands there.

The API's own progress and interrupt are global: they show and stop whatever anybody makes. So a task is asked
for by its own name alone, and interrupted only while it is the one being made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backends._a1111_calls import Call, Stand, read_stand, refuse
from backends._a1111_catalogue import Catalogue, read_catalogue
from backends._http import PICTURES, Answer, Http, Missing
from bot.core.errors import Unavailable
from bot.core.request import JSON

_HOURS = 6 * 3600.0  # seconds that a call may wait and work; silence ends it long before
_LISTS = 8 * 2**20  # bytes of a list or of the options
_REFUSED = frozenset({*range(400, 600)} - {429, 503})
_ABSENT = (401, 403, 404, 405)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server was last seen to offer. tells: it says how a task of ours stands; shows: with preview."""

    catalogue: Catalogue
    tells: bool
    shows: bool


class Server:
    """The calls. keyed: FAIRBRUSH_A1111_AUTH is sent."""

    def __init__(self, http: Http, *, keyed: bool) -> None:
        self.http = http
        self._keyed = keyed

    async def offer(self) -> Offer:
        """Read its lists. Raises a FairbrushError."""
        try:
            models = await self._list("sd-models")
        except Missing as error:
            raise Unavailable(
                "The image server offers no API: start it with --api.", detail=error.detail
            ) from None
        samplers, options = await self._list("samplers"), await self._list("options")
        answer = await self.http.get("/sdapi/v1/schedulers", deadline=0, also=_ABSENT)
        schedulers = answer.json() if answer.status == 200 else None
        catalogue = read_catalogue(models, samplers, schedulers, options)
        if not catalogue.titles:
            raise Unavailable("The image server has no model.")
        tells = await self.stand("nobody") is not None
        enabled = not (isinstance(options, Mapping) and options.get("live_previews_enable") is False)
        return Offer(catalogue, tells, shows=tells and enabled)

    async def make(self, call: Call) -> Answer:
        """Post a call and wait for its pictures. Raises what the answer means."""
        answer = await self.http.post(
            call.path,
            call.body,
            seconds=_HOURS,
            most=PICTURES,
            also=_REFUSED,
            accepted_statuses=range(200, 300),
        )
        refuse(answer, keyed=self._keyed)
        return answer

    async def stand(self, task: str, preview_id: int = -1, *, show: bool = False) -> Stand | None:
        """How a task stands; None where the server does not tell (it was started with --nowebui)."""
        question: dict[str, JSON] = {"id_task": task, "id_live_preview": preview_id, "live_preview": show}
        answer = await self.http.post(
            "/internal/progress", question, seconds=10, tries=1, most=_LISTS, also=_ABSENT
        )
        return None if answer.status in _ABSENT else read_stand(answer.fields())

    async def alive(self) -> None:
        """Raise a FairbrushError where it does not answer. No picture of anybody is asked for."""
        await self.http.poll("/sdapi/v1/progress", params={"skip_current_image": "true"}, seconds=10)

    async def interrupt(self, task: str) -> bool:
        """Stop a task if it is the one being made; whether it was."""
        stand = await self.stand(task) if task else None
        if stand is None or not stand.active:
            return False
        await self.http.post("/sdapi/v1/interrupt", {}, seconds=10, tries=1)
        return True

    async def _list(self, what: str) -> JSON:
        answer = await self.http.get(f"/sdapi/v1/{what}", deadline=0, most=_LISTS, also=(401,))
        refuse(answer, keyed=self._keyed)
        return answer.json()
