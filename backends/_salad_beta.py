"""Salad's beta API, which its first endpoints speak (stable-diffusion-2-1): a request is handed in and asked
about. It lists nothing and cancels nothing."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from backends._http import PICTURES, Http
from backends._salad_jobs import Seen, Stage, id_in
from bot.core.errors import ProtocolError
from bot.core.ports import CancelOutcome
from bot.core.request import JSON

_STAGES: Final = {
    "pending": Stage.WAITING,
    "running": Stage.WORKING,
    "success": Stage.DONE,
    "succeeded": Stage.DONE,
    "failed": Stage.FAILED,
}


class BetaApi:
    """One endpoint, by the beta API."""

    cancels = False
    lists = False

    def __init__(self, http: Http, organization: str, endpoint: str) -> None:
        self._http = http
        self._path = (
            f"/api/beta/organizations/{quote(organization, safe='')}"
            f"/inference-endpoints/{quote(endpoint, safe='')}"
        )

    async def post(self, inputs: JSON, ticket: str) -> str:
        """Hand in a request for one picture; its id. Raises what Http.post() raises."""
        answer = await self._http.post(self._path, inputs, most=PICTURES)
        return id_in(answer.fields(), "requestId")

    async def look(self, job: str) -> Seen:
        """How a request stands. Raises Missing where it is gone."""
        found = (await self._http.poll(f"{self._path}/{quote(job, safe='')}", most=PICTURES)).fields()
        stage = _STAGES.get(str(found.get("status")))
        if stage is None:
            raise ProtocolError(
                "Salad answered something unexpected.", detail=f"{found.get('status')!r}"[:99]
            )
        return Seen(stage, found.get("modelOutputs"))

    async def stop(self, job: str) -> CancelOutcome:
        """There is no such thing."""
        return CancelOutcome.UNSUPPORTED
