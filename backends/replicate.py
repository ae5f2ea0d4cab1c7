"""Pictures by Replicate: `replicate:black-forest-labs/flux-schnell`, or OWNER/MODEL:VERSION for a model that
is not one of its official ones; the key in REPLICATE_API_TOKEN.

What the model takes is read from its own schema: sizes or ratios, steps, seeds, pictures to start from. Each
picture is a prediction of its own, with its own seed. Options:

    price             US dollars a picture, where the model is none of those known here
    price_per_second  US dollars a second of its hardware, for models that are billed so

FAIRBRUSH_REPLICATE_URL: another address than https://api.replicate.com.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from backends._answers import number
from backends._endpoint import at_home
from backends._http import PICTURES, Http, poll_delays
from backends._licences import licence_of
from backends._remote import Remote
from backends._replicate_schema import Schema, read_schema
from backends._wire import Ended, Facts, Finished, Found, Handle, Look, Waiting, Wire, Working, one_by_one
from bot.core.errors import (
    Cancelled,
    ConfigurationError,
    ContentRejected,
    FairbrushError,
    ProtocolError,
    Unavailable,
)
from bot.core.ports import Backend, CancelOutcome, Capabilities, Clock, Model, Price
from bot.core.request import JSON, Image, ImageRequest
from bot.core.settings import BackendEntry, Settings

ADDRESS: Final = "https://api.replicate.com"
_SETTING: Final = "FAIRBRUSH_REPLICATE_URL"
_SLOTS: Final = 4
_TARGET: Final = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([0-9a-f]{64}))?", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PERCENT: Final = re.compile(r"(\d{1,3})%\|")
_FLAGGED: Final = re.compile(r"nsfw|sensitive|safety|content polic|flagged|moderation", re.IGNORECASE)

PRICES: Final[Mapping[str, Price]] = {
    "black-forest-labs/flux-schnell": Price(per_image=0.003),
    "black-forest-labs/flux-dev": Price(per_image=0.025),
    "black-forest-labs/flux-1.1-pro": Price(per_image=0.04),
    "black-forest-labs/flux-1.1-pro-ultra": Price(per_image=0.06),
    "stability-ai/stable-diffusion-3.5-large": Price(per_image=0.065),
    "ideogram-ai/ideogram-v3-quality": Price(per_image=0.09),
    "recraft-ai/recraft-v3": Price(per_image=0.04),
}
"""Published prices (replicate.com/pricing and the models' pages, read in October 2026). Without one here it
must be told."""


class ReplicateWire(Wire):
    """Predictions of one model. version: of a community model, "" for an official one."""

    def __init__(self, name: str, version: str, price: Price | None, *, safety: bool) -> None:
        self._name = name
        self._version = version
        self._price = price
        self._safety = safety
        self._schema: Schema | None = None

    async def offered(self, http: Http) -> Capabilities:
        """The model with what its schema says; asked once, for a schema changes with a version alone."""
        if self._schema is None:
            self._schema = await self._ask(http)
        schema = self._schema
        licence, commercial = licence_of(self._name)
        model = Model(
            id=self._name,
            title=self._name.partition("/")[2],
            width=schema.side,
            height=schema.side,
            steps=schema.steps,
            guidance_scale=schema.guidance_scale,
            licence=licence,
            commercial=commercial,
            price=self._price,
        )
        return Capabilities(
            models=(model,),
            slots=_SLOTS,
            params=schema.params,
            progress=True,
            cancel=True,
            resumable=True,
            checks_content=self._safety,
        )

    async def _ask(self, http: Http) -> Schema:
        path = f"/v1/models/{self._name}"
        fields = (await http.get(f"{path}/versions/{self._version}" if self._version else path)).fields()
        version = fields if self._version else fields.get("latest_version")
        document = version.get("openapi_schema") if isinstance(version, Mapping) else None
        schema = read_schema(document)
        if "prompt" not in schema.names:
            raise ProtocolError(
                f"{self._name} at Replicate takes no prompt, so it makes no pictures of words."
            )
        return schema

    def check(self, request: ImageRequest) -> None:
        """What its schema has no name for is refused; nothing is checked before the schema is known."""
        if self._schema is not None:
            self._schema.check(request, self._name)

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        """One prediction a picture: of several in one, the later ones' seeds are not told."""
        return one_by_one(request)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        """POST; its answer names where the prediction is asked about, which must be Replicate's own."""
        if self._schema is None:
            self._schema = await self._first_schema(http)
        self._schema.check(request, self._name)
        inputs = self._schema.inputs(request, _data_url, safety=self._safety)
        if self._version:
            answer = await http.post("/v1/predictions", {"version": self._version, "input": inputs})
        else:
            answer = await http.post(f"/v1/models/{self._name}/predictions", {"input": inputs})
        job = answer.fields().get("id")
        if not (isinstance(job, str) and _ID.fullmatch(job)):
            raise ProtocolError(
                "Replicate took the job and did not say which it is.", detail=answer.text(), accepted=None
            )
        return {"id": job, "steps": request.steps}

    async def _first_schema(self, http: Http) -> Schema:
        try:
            return await self._ask(http)
        except FairbrushError as error:
            error.accepted = False  # nothing has been sent yet
            raise

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        """The prediction as it stands."""
        fields = (await http.poll(f"/v1/predictions/{job.get('id')}", most=PICTURES)).fields()
        match fields.get("status"):
            case "starting" | "queued":
                return Waiting()
            case "processing":
                return _working(fields.get("logs"))
            case "succeeded":
                return _finished(fields)
            case "failed":
                return Ended(_failed(http, fields))
            case "canceled" | "aborted":
                return Ended(Cancelled("The job was cancelled.", accepted=True))
        raise ProtocolError(
            "Replicate told a status that is not known.", detail=str(fields.get("status"))[:100]
        )

    async def stop(self, http: Http, job: Handle) -> CancelOutcome:
        """POST; one that has ended is answered as it stands."""
        path = f"/v1/predictions/{job.get('id')}/cancel"
        answer = await http.post(path, idempotent=True, also=(404, 409, 422))
        if answer.status >= 300 or answer.fields().get("status") in ("succeeded", "failed"):
            return CancelOutcome.TOO_LATE
        return CancelOutcome.REQUESTED


def _data_url(image: Image) -> str:
    return f"data:{image.mime};base64,{base64.b64encode(image.data).decode()}"


def _working(logs: JSON) -> Working:
    """The progress in the last bar that a model prints ("43%|####")."""
    found = _PERCENT.findall(logs[-4000:]) if isinstance(logs, str) else []
    return Working(min(int(found[-1]), 100) / 100) if found else Working(phase="Working at Replicate")


def _finished(fields: Mapping[str, JSON]) -> Look:
    output = fields.get("output")
    links = [output] if isinstance(output, str) else output if isinstance(output, Sequence) else []
    texts = [link for link in links if isinstance(link, str) and link]
    if not texts:
        return Ended(Unavailable("Replicate made no picture.", accepted=True))
    found = [
        Found(index, base64=text) if text.startswith("data:") else Found(index, text)
        for index, text in enumerate(texts)
    ]
    metrics = fields.get("metrics")
    seconds = metrics.get("predict_time") if isinstance(metrics, Mapping) else None
    return Finished(tuple(found), device_seconds=number(seconds, 0, 86_400))


def _failed(http: Http, fields: Mapping[str, JSON]) -> ContentRejected | Unavailable:
    text = str(fields.get("error") or "")
    if _FLAGGED.search(text):
        return ContentRejected("Replicate's content check kept it back.", detail=text[:300], accepted=True)
    return Unavailable("The model failed at Replicate.", detail=http.plain(text), accepted=True)


def create(target: str, settings: Settings) -> Backend:
    """The backend of `replicate:OWNER/MODEL[:VERSION]`. Raises ConfigurationError."""
    return build(target, settings)


def build(
    target: str,
    settings: Settings,
    *,
    clock: Clock | None = None,
    delays: Callable[[], Iterator[float]] = poll_delays,
) -> Remote:
    """As create(), with the clock and the pace of polls passed in."""
    entry = settings.entry("replicate", target)
    entry.expect("price", "price_per_second")
    named = _TARGET.fullmatch(target)
    if named is None:
        raise ConfigurationError(
            f'FAIRBRUSH_BACKENDS: "{entry.name}" is not replicate:OWNER/MODEL, as in '
            "replicate:black-forest-labs/flux-schnell (or OWNER/MODEL:VERSION)."
        )
    key = settings.secret("REPLICATE_API_TOKEN")
    if not key:
        raise ConfigurationError(
            f"REPLICATE_API_TOKEN is not set; {entry.name} needs it (replicate.com, Account, API tokens)."
        )
    address = settings.service_urls.get("replicate", ADDRESS)
    price = _price(entry, named[1], paid=at_home(address, ADDRESS, setting=_SETTING))
    http = Http(
        address,
        headers={"Authorization": f"Bearer {key.reveal()}"},
        clock=clock,
        service="Replicate",
        setting=_SETTING,
        per_minute=600,
    )
    wire = ReplicateWire(named[1], named[2] or "", price, safety=settings.safety_checker)
    return Remote(entry.name, wire, http, clock=clock, delays=delays)


def _price(entry: BackendEntry, model: str, *, paid: bool) -> Price | None:
    """What is known of its price. Raises ConfigurationError where that is nothing."""
    if "price" in entry.options or "price_per_second" in entry.options:
        price = Price(per_image=entry.number("price", 0.0), per_second=entry.number("price_per_second", 0.0))
        return price if price != Price() else None
    if paid and model not in PRICES:
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: {entry.name}: its price is not known here. Add ;price=0.04 (US dollars a "
            "picture) or ;price_per_second=0.001, as the model's page at replicate.com says."
        )
    return PRICES.get(model)
