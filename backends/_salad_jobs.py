"""Salad's current API: jobs of an inference endpoint, listed with our own mark on them, so that one which was
handed in and never answered for is found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final
from urllib.parse import quote

from backends._http import PICTURES, Http
from bot.core.errors import ProtocolError, Unavailable
from bot.core.ports import CancelOutcome
from bot.core.request import JSON

MARK: Final = "fairbrush"
"""The name in a job's metadata under which its ticket stands."""
_PAGE: Final = 20  # jobs may be listed with their pictures, so a page is kept small
_PAGES: Final = 250  # a list that is longer is not read to its end
_DAY: Final = 86_400.0
_SKEW: Final = 600.0  # seconds that Salad's clock and this machine's may differ


class Stage(Enum):
    """Where one of Salad's jobs is."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Seen:
    """A look. output: of a job that is DONE; seconds: of device time, None where that is not told."""

    stage: Stage
    output: JSON = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of the list of jobs, and how many pages there are."""

    items: tuple[Mapping[str, JSON], ...]
    pages: int

    @property
    def rising(self) -> bool:
        """Whether the oldest comes first."""
        times = self._times()
        return len(times) > 1 and times[0] < times[-1]

    @property
    def newest(self) -> float | None:
        """When its newest job was made (Unix seconds); None where a time is missing or the page is empty."""
        times = self._times()
        return max(times) if times and len(times) == len(self.items) else None

    def _times(self) -> list[float]:
        times = (_time(item.get("create_time")) for item in self.items)
        return [time for time in times if time is not None]


_STAGES: Final = {
    "pending": Stage.WAITING,
    "running": Stage.WORKING,
    "succeeded": Stage.DONE,
    "cancelled": Stage.CANCELLED,
    "failed": Stage.FAILED,
}


class JobsApi:
    """One endpoint, by the current API."""

    cancels = True
    lists = True

    def __init__(self, http: Http, organization: str, endpoint: str) -> None:
        self._http = http
        self.endpoint_path = (
            f"/api/public/organizations/{quote(organization, safe='')}"
            f"/inference-endpoints/{quote(endpoint, safe='')}"
        )
        self._path = f"{self.endpoint_path}/jobs"

    async def post(self, inputs: JSON, ticket: str) -> str:
        """Hand in a job for one picture; its id. Raises what Http.post() raises."""
        body: JSON = {"input": inputs, "metadata": {MARK: ticket}}
        answer = await self._http.post(self._path, body, most=PICTURES)
        return id_in(answer.fields(), "id")

    async def look(self, job: str) -> Seen:
        """How a job stands. Raises Missing where it is gone."""
        found = (await self._http.poll(f"{self._path}/{quote(job, safe='')}", most=PICTURES)).fields()
        stage = _STAGES.get(str(found.get("status")))
        if stage is None:
            raise ProtocolError(
                "Salad answered something unexpected.", detail=f"{found.get('status')!r}"[:99]
            )
        return Seen(stage, found.get("output"), _seconds(found.get("events")))

    async def stop(self, job: str) -> CancelOutcome:
        """Cancel a job; whether it came in time shows at the next look."""
        ended = (400, 404, 409, 410)
        answer = await self._http.delete(f"{self._path}/{quote(job, safe='')}", also=ended)
        return CancelOutcome.TOO_LATE if answer.status in ended else CancelOutcome.REQUESTED

    async def inputs(self, job: str) -> JSON:
        """What a job was asked."""
        answer = await self._http.get(f"{self._path}/{quote(job, safe='')}", most=PICTURES)
        return answer.fields().get("input")

    async def find(self, ticket: str, since: float) -> str | None:
        """The job that carries a ticket; None: there is none. since: Unix time before which it was not there.

        The list is read from its newest end, wherever that is. Raises Unavailable where it is too long.
        """
        first = await self._page(1)
        pages = range(1, first.pages + 1)
        for number in reversed(pages) if first.rising else pages:
            page = first if number == 1 else await self._page(number)
            for item in page.items:
                mark = item.get("metadata")
                if isinstance(mark, Mapping) and mark.get(MARK) == ticket:
                    return id_in(item, "id")
            if page.newest is not None and page.newest < since - _SKEW:
                return None
            if abs(number - pages[-1 if first.rising else 0]) >= _PAGES:
                raise Unavailable("Salad lists too many jobs to find this one among them.", accepted=None)
        return None

    async def _page(self, number: int) -> _Page:
        params = {"page": number, "page_size": _PAGE}
        listed = (await self._http.get(self._path, params=params, most=PICTURES)).fields()
        found, total = listed.get("items"), listed.get("total_size")
        items = found if isinstance(found, Sequence) and not isinstance(found, str) else ()
        pages = -(-total // _PAGE) if isinstance(total, int) else number + (len(items) == _PAGE)
        return _Page(tuple(item for item in items if isinstance(item, Mapping)), pages)


def id_in(answer: Mapping[str, JSON], key: str) -> str:
    """The id in an answer. Raises ProtocolError (accepted None) where there is none that fits in a path."""
    found = answer.get(key)
    if isinstance(found, str) and 0 < len(found) <= 128 and found.isascii() and found.isprintable():
        return found
    raise ProtocolError("Salad answered something unexpected.", detail=f"no {key}", accepted=None)


def _seconds(events: JSON) -> float | None:
    """Device time: from the last start to the end."""
    if not isinstance(events, Sequence) or isinstance(events, str):
        return None
    times: dict[str, float] = {}
    for event in events:
        if isinstance(event, Mapping) and (at := _time(event.get("time"))) is not None:
            times[str(event.get("action"))] = at
    ended = next((times[end] for end in ("succeeded", "failed", "cancelled") if end in times), None)
    if ended is None or "started" not in times:
        return None
    seconds = max(0.0, ended - times["started"])
    return seconds if seconds < _DAY else None  # nothing is billed by a clock that is wrong


def _time(text: JSON) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None
