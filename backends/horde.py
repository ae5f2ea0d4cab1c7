"""`horde:` or `horde:MODEL`: the AI Horde, where volunteers make pictures for nothing and may read prompts.

HORDE_API_KEY: an account's key; without one it is asked anonymously, last in the queue and with small
pictures alone. FAIRBRUSH_HORDE_URL: another Horde. Options: `;size=512x512`, `;steps=25`, `;guidance=7`: each
model's best, which the Horde does not say and which is guessed by the name otherwise.

Each picture is a remote job of its own: the seeds of a job's later pictures are of the Horde's own choice.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from backends._answers import number
from backends._horde_format import (
    ANONYMOUS,
    FREE_PIXELS,
    NOTE,
    SAMPLERS,
    body_of,
    fitted,
    free_steps,
    models_in,
    refuse,
)
from backends._http import Http, Missing, poll_delays
from backends._remote import Remote
from backends._wire import Ended, Facts, Finished, Found, Handle, Look, Waiting, Wire, Working, one_by_one
from bot import program_version
from bot.core.errors import InvalidRequest, ProtocolError, Unavailable
from bot.core.ports import Backend, CancelOutcome, Capabilities, Clock, Model
from bot.core.request import JSON, MAX_SEED, ImageRequest
from bot.core.settings import BackendEntry, Settings

URL: Final = "https://aihorde.net"
_PARAMS: Final = frozenset(
    {
        *("steps", "guidance_scale", "seed", "negative_prompt", "scheduler"),
        *("init_image", "strength", "mask_image"),
    }
)
_SLOTS, _ANONYMOUS_SLOTS = 4, 2
_IMPOSSIBLE_SECONDS: Final = 60.0
_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_WITHHELD: Final = "The volunteer's content check kept the picture back."


class HordeWire(Wire):
    """The format. target: the one model, or "" for those with most workers; censor: workers keep back what is
    not fit for work; best: what the entry says of each model; now: Unix seconds."""

    def __init__(
        self,
        target: str,
        *,
        anonymous: bool,
        censor: bool,
        best: Callable[[Model], Model],
        now: Callable[[], float],
    ) -> None:
        self._target = target
        self._anonymous = anonymous
        self._censor = censor
        self._best = best
        self._now = now

    async def offered(self, http: Http) -> Capabilities:
        """The models that volunteers have loaded now."""
        answer = await http.get("/api/v2/status/models", params={"type": "image"})
        models = models_in(answer.json(), self._target, anonymous=self._anonymous)
        return Capabilities(
            models=tuple(map(self._best, models)),
            slots=_ANONYMOUS_SLOTS if self._anonymous else _SLOTS,
            params=_PARAMS,
            cancel=True,
            resumable=True,
            checks_content=True,
        )

    def check(self, request: ImageRequest) -> None:
        """Samplers it has, and what it does for nobody anonymous."""
        if request.scheduler is not None and request.scheduler not in SAMPLERS:
            raise InvalidRequest(
                f"The AI Horde has no scheduler {request.scheduler!r}. It has: {', '.join(SAMPLERS)}.",
                field="scheduler",
            )
        if not self._anonymous:
            return
        if request.steps > (most := free_steps(request)):
            raise InvalidRequest(
                f"Without an account the AI Horde takes at most {most} steps of this scheduler. "
                f"Try --steps {most}.",
                field="steps",
            )
        width, height = fitted(request.width, request.height)
        if width * height > FREE_PIXELS:
            raise InvalidRequest(
                "Without an account the AI Horde takes at most 1024×1024 pixels. Ask for a smaller size.",
                field="size",
            )

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        """One remote job a picture: see the module."""
        return one_by_one(request)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        """POST; the job's id."""
        body = await asyncio.to_thread(body_of, request, censor=self._censor)
        answer = await http.post("/api/v2/generate/async", body, also=(400, 403))
        if answer.status >= 300:
            refuse(answer, anonymous=self._anonymous)
        job = answer.fields().get("id")
        if not (isinstance(job, str) and _ID.fullmatch(job)):
            raise ProtocolError(
                "The AI Horde took the job and did not say which it is.", detail=answer.text(), accepted=None
            )
        return {"id": job}

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        """GET the short state, and the pictures only once they are there: those may seldom be asked for."""
        state = (await http.poll(f"/api/v2/generate/check/{job.get('id')}")).fields()
        if state.get("faulted") is True:
            return Ended(Unavailable("The AI Horde failed at this job.", detail=str(state), accepted=True))
        if state.get("done") is True:
            answer = await http.get(f"/api/v2/generate/status/{job.get('id')}", most=_STATUS_BYTES)
            return _finished(answer.fields(), facts)
        if _count(state, "processing") > 0:
            return Working(phase="A volunteer is at work")
        if state.get("is_possible") is False and self._now() - facts.at > _IMPOSSIBLE_SECONDS:
            await self.stop(http, job)
            return Ended(_impossible(facts))
        return Waiting(_count(state, "queue_position"), float(_count(state, "wait_time")) or None)

    async def stop(self, http: Http, job: Handle) -> CancelOutcome:
        """DELETE, unless the picture is there already."""
        try:
            state = (await http.get(f"/api/v2/generate/check/{job.get('id')}", deadline=5.0)).fields()
            if state.get("done") is True:
                return CancelOutcome.TOO_LATE
            await http.delete(f"/api/v2/generate/status/{job.get('id')}", most=_STATUS_BYTES)
        except Missing:
            return CancelOutcome.TOO_LATE
        return CancelOutcome.CANCELLED


_STATUS_BYTES: Final = 32 * 2**20  # a picture in base64, from hordes without a store of their own


def _impossible(facts: Facts) -> Unavailable:
    return Unavailable(
        f"Nobody at the AI Horde can make this now: {facts.model} at {facts.width}×{facts.height}. Try "
        "another model or a smaller size, or later.",
        accepted=False,
    )


def _finished(status: Mapping[str, JSON], facts: Facts) -> Look:
    listed = status.get("generations")
    items = listed if isinstance(listed, Sequence) and not isinstance(listed, str) else []
    made = [item for item in items if isinstance(item, Mapping)][: facts.count]
    if not made:
        error = Unavailable("The AI Horde ended this job without a picture.", accepted=True)
        return Ended(error)
    names = [name for item in made if isinstance(name := item.get("model"), str) and name]
    model = next((name for name in names if name.isprintable() and len(name) <= 200), None)
    size = fitted(facts.width, facts.height)
    applied: dict[str, JSON] = {}
    if size != (facts.width, facts.height):
        applied = {"width": size[0], "height": size[1]}
    pictures = tuple(_found(index, item) for index, item in enumerate(made))
    return Finished(pictures, model=model, notes=(NOTE,), applied=applied)


def _found(index: int, item: Mapping[str, JSON]) -> Found:
    seed = str(item.get("seed"))
    own = int(seed) if seed.isdecimal() and len(seed) <= 10 and int(seed) <= MAX_SEED else None
    if item.get("censored") is True or item.get("state") == "censored" or _censorship(item):
        return Found(index, seed=own, rejected=_WITHHELD)
    image = item.get("img")
    text = image if isinstance(image, str) else ""
    if text.startswith(("http://", "https://")):
        return Found(index, url=text, seed=own)
    return Found(index, base64=text, seed=own)


def _censorship(item: Mapping[str, JSON]) -> bool:
    metadata = item.get("gen_metadata")
    entries = metadata if isinstance(metadata, Sequence) and not isinstance(metadata, str) else []
    return any(isinstance(entry, Mapping) and entry.get("type") == "censorship" for entry in entries)


def _count(state: Mapping[str, JSON], name: str) -> int:
    return int(number(state.get(name), 0) or 0)


def create(target: str, settings: Settings) -> Backend:
    """The backend of `horde:MODEL`. Raises ConfigurationError."""
    return build(target, settings)


def build(
    target: str,
    settings: Settings,
    *,
    clock: Clock | None = None,
    delays: Callable[[], Iterator[float]] = poll_delays,
) -> Remote:
    """As create(), with the clock and the pace of polls passed in."""
    entry = settings.entry("horde", target)
    entry.expect("size", "steps", "guidance")
    key = settings.secret("HORDE_API_KEY")
    http = Http(
        settings.service_urls.get("horde", "") or URL,
        headers={
            "apikey": key.reveal() if key else ANONYMOUS,
            "Client-Agent": f"fairbrush:{program_version()}:self-hosted",
        },
        clock=clock,
        service="The AI Horde",
        setting="FAIRBRUSH_HORDE_URL",
    )
    wire = HordeWire(
        target,
        anonymous=not key or key.reveal() == ANONYMOUS,
        censor=settings.safety_checker,
        best=_best(entry),
        now=clock.now if clock is not None else time.time,
    )
    return Remote(entry.name, wire, http, clock=clock, delays=delays)


def _best(entry: BackendEntry) -> Callable[[Model], Model]:
    """What an entry says that its models do best; each keeps its own where nothing is said."""
    entry.size((512, 512))  # what is wrong is told at the start, before the models are known
    entry.number("steps", 25)
    entry.number("guidance", 7.0)

    def best(model: Model) -> Model:
        width, height = entry.size((model.width, model.height))
        return replace(
            model,
            width=width,
            height=height,
            steps=max(1, round(entry.number("steps", model.steps))),
            guidance_scale=entry.number("guidance", model.guidance_scale),
        )

    return best
