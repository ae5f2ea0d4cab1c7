"""The Wire of a Salad endpoint: which of the two APIs speaks for it, what a picture's job is asked, and what
its answer means."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Sequence
from typing import Final

from PIL import Image as Raster

from backends._http import Http, Missing, decoded_picture
from backends._salad_beta import BetaApi
from backends._salad_inputs import REFUSED_SCHEDULERS, Wording, inputs_of, read_output, with_seed
from backends._salad_jobs import JobsApi, Seen, Stage
from backends._wire import Ended, Facts, Finished, Found, Handle, Look, Waiting, Wire, Working, one_by_one
from bot.core.errors import (
    AuthFailed,
    Cancelled,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.pictures import size_of
from bot.core.ports import CancelOutcome, Capabilities, Clock, Model
from bot.core.request import JSON, ImageRequest

log = logging.getLogger(__name__)

BETA_ENDPOINTS: Final = frozenset({"stable-diffusion-2-1"})
"""Endpoints that began in the beta API and may be known to it alone."""
SLOTS: Final = 4
PARAMS: Final = frozenset(
    {
        "steps",
        "guidance_scale",
        "seed",
        "negative_prompt",
        "scheduler",
        "init_image",
        "mask_image",
        "strength",
    }
)
REJECTED: Final = "The service's safety checker kept this picture back."
BLACK: Final = (
    "A picture came back all black, which is what the service's safety checker leaves of one that it "
    "keeps back."
)
_SEARCHES: Final = (0.5, 2.0, 5.0)  # seconds before each look for a job whose answer was lost
_SEARCH_FOR: Final = 15.0  # seconds after a restart in which a job may still turn up in the list
_INSIST_FOR: Final = 60.0  # seconds that the list may be out of reach meanwhile
_SEARCH_EVERY: Final = 2.0
_PLAIN_MOST: Final = 32  # pixels a byte of a picture that may be of one colour
_UNCLEAR: Final = (
    "The program stopped while the job was being sent to Salad. It may have been made and charged, so it is "
    "not sent again by itself."
)


class SaladWire(Wire):
    """One endpoint. api: "jobs" or "beta" where the operator says so, None to find out."""

    def __init__(
        self,
        http: Http,
        organization: str,
        endpoint: str,
        *,
        model: Model,
        wording: Wording,
        api: str | None,
        clock: Clock,
    ) -> None:
        self._http = http
        self._jobs = JobsApi(http, organization, endpoint)
        self._beta = BetaApi(http, organization, endpoint)
        self._api: JobsApi | BetaApi = self._jobs
        if api == "beta" or (api is None and endpoint in BETA_ENDPOINTS):
            self._api = self._beta
        self._settled = api is not None
        self._name = f"{organization}/{endpoint}"
        self._model = model
        self._wording = wording
        self._clock = clock

    @property
    def findable(self) -> bool:  # type: ignore[override]
        """Whether jobs are listed; find() has to say where that is not known yet."""
        return self._api.lists or not self._settled

    async def offered(self, http: Http) -> Capabilities:
        """The endpoint's one model, once Salad answers and takes the key."""
        await self._settle()
        return Capabilities(
            models=(self._model,),
            slots=SLOTS,
            params=PARAMS,
            cancel=self._api.cancels,
            resumable=True,
            checks_content=self._wording.safety_checker,
        )

    def check(self, request: ImageRequest) -> None:
        """Refuse a scheduler that a name alone does not tell, and an upscale."""
        if (why := REFUSED_SCHEDULERS.get(request.scheduler or "")) is not None:
            raise InvalidRequest(f'"{request.scheduler}" is not offered here. {why}', field="scheduler")
        if request.upscale:
            raise InvalidRequest("Salad's endpoints make no upscales.", field="upscale")

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        """A job a picture."""
        return one_by_one(request)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        """Hand in one picture's job, by the API that knows the endpoint."""
        inputs = await asyncio.to_thread(inputs_of, request, request.seed, self._wording)
        try:
            return await self._post(self._api, inputs, ticket)
        except Missing as error:
            if self._settled:
                raise self._unknown(error) from None
        other = self._beta if self._api is self._jobs else self._jobs
        try:
            handle = await self._post(other, inputs, ticket)
        except Missing as error:
            raise self._unknown(error) from None
        self._api, self._settled = other, True
        return handle

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        """How a picture's job stands."""
        seen = await self._of(job).look(str(job.get("id")))
        match seen.stage:
            case Stage.WAITING:
                return Waiting()
            case Stage.WORKING:
                return Working()
            case Stage.CANCELLED:
                return Ended(Cancelled("The job was cancelled.", accepted=True))
            case Stage.FAILED:
                return Ended(_failure(seen))
        try:
            return await self._finished(seen, facts)
        except FairbrushError as error:
            return Ended(error)

    async def find(self, http: Http, ticket: str, facts: Facts) -> Handle | None:
        """The job with our mark, which may turn up a little after the program came back."""
        began = self._clock.monotonic()
        while True:
            doubt: FairbrushError | None = None
            try:
                if (found := await self._listed(ticket, facts)) is not None:
                    return {"api": "jobs", "id": found}
            except (AuthFailed, ProtocolError, RateLimited, TimedOut, Unavailable) as error:
                doubt = error
            over = self._clock.monotonic() - began >= (_SEARCH_FOR if doubt is None else _INSIST_FOR)
            if over and doubt is None:
                return None
            if doubt is not None and (over or isinstance(doubt, Missing)):
                raise Unavailable(_UNCLEAR, detail=f"{doubt.message} {doubt.detail}", accepted=None)
            await self._clock.sleep(_SEARCH_EVERY)

    async def again(self, http: Http, sibling: Handle, facts: Facts, ticket: str) -> Handle | None:
        """Hand in a picture that the program stopped before: Salad still knows what another one was asked."""
        if self._of(sibling) is not self._jobs:
            return None
        inputs = with_seed(await self._jobs.inputs(str(sibling.get("id"))), facts.seed)
        return await self._post(self._jobs, inputs, ticket)

    async def stop(self, http: Http, job: Handle) -> CancelOutcome:
        """Cancel, where the API can."""
        return await self._of(job).stop(str(job.get("id")))

    # --- inside ---

    async def _listed(self, ticket: str, facts: Facts) -> str | None:
        """The job with this mark in the list; Missing where the endpoint's API has none."""
        await self._settle()
        if not self._api.lists:
            raise Missing("The beta API lists nothing.", accepted=None)
        return await self._jobs.find(ticket, facts.at)

    async def _settle(self) -> None:
        """Ask the current API for the endpoint: what it knows is spoken to by it."""
        answer = await self._http.get(self._jobs.endpoint_path, also=(400, 404, 405, 410, 501))
        if answer.status == 200 and not self._settled:
            self._api, self._settled = self._jobs, True

    def _of(self, job: Handle) -> JobsApi | BetaApi:
        return self._beta if job.get("api") == "beta" else self._jobs

    async def _post(self, api: JobsApi | BetaApi, inputs: JSON, ticket: str) -> Handle:
        """Hand in; where the answer is lost, look whether the job is there."""
        name = "jobs" if api is self._jobs else "beta"
        try:
            return {"api": name, "id": await api.post(inputs, ticket)}
        except FairbrushError as error:
            if error.accepted is not None or api is not self._jobs:
                raise
            found = await self._searched(ticket)
            if found is None:
                raise
            return {"api": name, "id": found}

    async def _searched(self, ticket: str) -> str | None:
        """The job whose POST was not answered, by its mark; None where nothing can be said."""
        since = self._clock.now() - _SEARCH_FOR
        for delay in _SEARCHES:
            await self._clock.sleep(delay)
            try:
                if (found := await self._jobs.find(ticket, since)) is not None:
                    return found
            except FairbrushError as error:
                log.info("%s: the list of jobs is out of reach: %s", self._name, error.message)
        return None

    async def _finished(self, seen: Seen, facts: Facts) -> Finished:
        output = read_output(seen.output)
        text, flagged = output.pictures[0], output.flagged[0]
        if flagged:  # what is left of it is black
            return Finished((Found(0, rejected=REJECTED),), device_seconds=seen.seconds)
        if text.startswith(("http://", "https://")):
            return Finished((Found(0, url=text),), device_seconds=seen.seconds)
        black = self._wording.safety_checker and await asyncio.to_thread(_is_black, text, facts)
        notes = (BLACK,) if black else ()
        return Finished((Found(0, base64=text),), device_seconds=seen.seconds, notes=notes)

    def _unknown(self, error: Missing) -> Unavailable:
        return Unavailable(f"Salad knows no endpoint {self._name}.", detail=error.detail, accepted=False)


def _failure(seen: Seen) -> FairbrushError:
    """Why a job failed, where Salad says so."""
    try:
        read_output(seen.output)
    except ProtocolError:
        pass
    except FairbrushError as error:
        return error
    return Unavailable("Salad could not make the picture.", detail="status failed", accepted=True)


def _is_black(text: str, facts: Facts) -> bool:
    """Whether a picture is all black, as diffusers' safety checker leaves what it keeps back."""
    if len(text) > facts.width * facts.height // _PLAIN_MOST + 4096:
        return False  # too many bytes for one colour
    try:
        data, _ = decoded_picture(text)
        if size_of(data) != (facts.width, facts.height):
            return False
        with Raster.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as raster:
            return raster.convert("RGB").getextrema() == ((0, 0), (0, 0), (0, 0))
    except (FairbrushError, OSError, ValueError, SyntaxError):
        return False  # whoever collects it says what is wrong
