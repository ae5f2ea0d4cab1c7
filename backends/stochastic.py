"""Pictures by Stochastic's model API: `stochastic:stable-diffusion-2`, or any server that speaks its format.

STOCHASTIC_API_KEY: the key; FAIRBRUSH_STOCHASTIC_URL: another server's address (its key may be empty).
Options: `;price=0.01`: US dollars a picture, needed for the real service, whose prices are not published;
`;negative=1`: send negative prompts, which the original does not document and may refuse.

The format documents one picture a prompt and a seed a request, so each picture is a remote job of its own.
There is no cancel, no progress and no failed state: a job has failed once a poll is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from backends._endpoint import at_home
from backends._http import Answer, Http, Missing, poll_delays
from backends._licences import licence_of
from backends._pacing import OWN_SERVER
from backends._remote import Remote
from backends._wire import Ended, Facts, Finished, Found, Handle, Look, Waiting, Wire, Working, one_by_one
from bot.core.errors import (
    Cancelled,
    ConfigurationError,
    ContentRejected,
    FairbrushError,
    InvalidRequest,
    ProtocolError,
    Unavailable,
)
from bot.core.ports import Backend, Capabilities, Clock, Model, Price
from bot.core.request import JSON, ImageRequest
from bot.core.settings import Settings

URL: Final = "https://api.stochastic.ai"
OTHER_URL: Final = "https://api-dev.stochastic.ai"
"""The documented examples submit here and are answered with links to the other."""

_SETTING: Final = "FAIRBRUSH_STOCHASTIC_URL"
PER_MINUTE: Final = 240  # a guess: it publishes no limit
_SLOTS: Final = 4
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_FAILED: Final = frozenset({400, 410, 422})
_PARAMS: Final = frozenset({"steps", "guidance_scale", "seed"})


class StochasticWire(Wire):
    """The format. model: its name in the path; price: US dollars a picture; negative: send negative
    prompts."""

    def __init__(self, model: str, *, price: float, negative: bool) -> None:
        self._model = model
        self._price = price
        self._negative = negative

    async def offered(self, http: Http) -> Capabilities:
        """One model; there is nothing to ask."""
        licence, commercial = licence_of(self._model)
        model = Model(
            id=self._model,
            title=self._model.replace("-", " ").title(),
            width=512,
            height=512,
            steps=50,
            guidance_scale=7.5,
            licence=licence,
            commercial=commercial,
            price=Price(per_image=self._price) if self._price else None,
        )
        params = _PARAMS | {"negative_prompt"} if self._negative else _PARAMS
        return Capabilities(models=(model,), slots=_SLOTS, params=params, resumable=True)

    def check(self, request: ImageRequest) -> None:
        """Nothing goes in but words and numbers."""
        if request.init_image is not None:
            raise InvalidRequest(
                "Stochastic takes no picture to start from. Leave it out.", field="init_image"
            )
        if request.negative_prompt and not self._negative:
            raise InvalidRequest(
                "Stochastic takes no negative prompt. Leave it out.", field="negative_prompt"
            )

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        """One remote job a picture: an array of prompts would have one seed for all."""
        return one_by_one(request)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        """POST; what finds the job is its id, and its link where that is one of the allowed hosts."""
        try:
            answer = await http.post(
                f"/v1/modelApi/submit/{quote(self._model, safe='')}", self._body(request)
            )
        except Missing as error:
            raise InvalidRequest(
                f"Stochastic has no model {self._model!r}.",
                detail=error.detail,
                field="model",
                accepted=False,
            ) from None
        data = answer.fields().get("data")
        data = data if isinstance(data, Mapping) else {}
        job, link = data.get("id"), data.get("responseUrl")
        if not (isinstance(job, str) and _ID.fullmatch(job)):
            raise ProtocolError(
                "Stochastic took the job and did not say which it is.", detail=answer.text(), accepted=None
            )
        own = isinstance(link, str) and http.is_own(link)
        return {"id": job, "url": link if own else None, "ahead": _ahead(data.get("queuePosition"))}

    def _body(self, request: ImageRequest) -> Mapping[str, JSON]:
        params: dict[str, JSON] = {
            "img_height": request.height,
            "img_width": request.width,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "seed": request.seed,
            "num_images_per_prompt": 1,
        }
        if request.negative_prompt:
            params["negative_prompt"] = request.negative_prompt
        return {"prompt": request.prompt, "params": params}

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        """GET; there are pictures, or it is waiting, or the answer is a refusal: then it has failed."""
        url = str(job.get("url") or f"/v1/modelApi/inference/{job.get('id')}")
        answer = await http.poll(url, also=_FAILED)
        if answer.status in _FAILED:
            return Ended(_failure(answer))
        fields = answer.fields()
        data = fields.get("data")
        data = data if isinstance(data, Mapping) else {}
        links = _links(data.get("generatedImages"))
        if links:
            return Finished(tuple(Found(index, link) for index, link in enumerate(links[: facts.count])))
        if fields.get("success") is False:
            return Ended(_failure(answer))
        ahead = _ahead(data.get("queuePosition", job.get("ahead")))
        return Waiting(ahead) if ahead else Working(phase="Working at Stochastic")


def _failure(answer: Answer) -> FairbrushError:
    """Why there are no pictures. The original says nothing of that; other servers of the format say more."""
    says = answer.says()
    value = answer.json() if says else None  # it is JSON, then
    data = value.get("data") if isinstance(value, Mapping) else None
    status = data.get("status") if isinstance(data, Mapping) else ""
    detail = f"{answer.status}: {answer.text()}"
    if status == "withheld":
        return ContentRejected(says, detail=detail, accepted=True)
    if status == "cancelled":
        return Cancelled("The job was cancelled at the service.", detail=detail, accepted=True)
    why = f": {says}" if says else "."
    return Unavailable(f"Stochastic failed at this job{why}", detail=detail, accepted=True)


def _links(images: JSON) -> list[str]:
    """The links of generatedImages."""
    if not isinstance(images, Sequence) or isinstance(images, str):
        return []
    found = [image.get("presigned_url") if isinstance(image, Mapping) else image for image in images]
    return [link for link in found if isinstance(link, str) and link]


def _ahead(position: JSON) -> int:
    """queuePosition, a number in a string; 0 where it cannot be read."""
    try:
        return max(0, int(float(str(position)))) if position is not None else 0
    except (ValueError, OverflowError):
        return 0


def create(target: str, settings: Settings) -> Backend:
    """The backend of `stochastic:MODEL`. Raises ConfigurationError."""
    return build(target, settings)


def build(
    target: str,
    settings: Settings,
    *,
    clock: Clock | None = None,
    delays: Callable[[], Iterator[float]] = poll_delays,
) -> Remote:
    """As create(), with the clock and the pace of polls passed in."""
    entry = settings.entry("stochastic", target)
    entry.expect("price", "negative")
    model = target or "stable-diffusion-2"
    if not _ID.fullmatch(model.replace(".", "-")):
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: stochastic:{target}: a model is named as in stochastic:stable-diffusion-2"
        )
    base = settings.service_urls.get("stochastic", URL)
    real = at_home(base, URL, OTHER_URL, setting=_SETTING)
    key = settings.secret("STOCHASTIC_API_KEY")
    if real and not key:
        raise ConfigurationError(
            f"{entry.name} needs STOCHASTIC_API_KEY, the key of your Stochastic account."
        )
    if real and "price" not in entry.options:
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: {entry.name}: what a picture costs there is not published. Add what your "
            "account pays, as in ;price=0.01 (US dollars a picture; 0 where it costs nothing)."
        )
    http = Http(
        base,
        headers={"apiKey": key.reveal()} if key else {},
        origins=(URL, OTHER_URL) if real else (),
        clock=clock,
        service="Stochastic",
        setting=_SETTING,
        per_minute=PER_MINUTE if real else OWN_SERVER,
    )
    wire = StochasticWire(model, price=entry.number("price", 0.0), negative=entry.number("negative", 0) > 0)
    return Remote(entry.name, wire, http, clock=clock, delays=delays)
