"""A local AI Horde, as its Swagger document (API 2) and its server's source show it; see HostedFake.

fake.bodies                             # what was posted, in order; fake.jobs: id -> HordeJob
fake.refuse(403, "KudosUpfront")        # the next POST
fake.models["Deliberate"] = 3           # workers by model
fake.possible = False                   # no worker can do what waits
fake.censor = 1                         # pictures that workers keep back from now on
fake.r2 = False                         # pictures in base64 in place of links
"""

from __future__ import annotations

import base64
import io
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from PIL import Image

from tests.fakes.hosted import STACK, HostedFake

PATH: Final = "/api/v2"
SAMPLERS: Final = frozenset(
    {
        *("k_lms", "k_heun", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a", "k_dpm_fast", "k_dpm_adaptive"),
        *("k_dpmpp_2s_a", "k_dpmpp_2m", "dpmsolver", "k_dpmpp_sde", "lcm", "DDIM"),
    }
)


@dataclass
class HordeJob:
    """A request. polls: looks until a worker has made it; seen: statuses with pictures that were given."""

    body: dict[str, Any]
    polls: int
    looked: int = 0
    seen: int = 0
    cancelled: bool = False


class HordeFake(HostedFake):
    """See the module. polls: looks until a job is done."""

    def __init__(self, *, polls: int = 3) -> None:
        super().__init__()
        self.polls = polls
        self.models = {"Deliberate": 3, "AlbedoBase XL (SDXL)": 7, "Flux.1-Schnell fp8 (Compact)": 2}
        self.jobs: dict[str, HordeJob] = {}
        self.bodies: list[dict[str, Any]] = []
        self.agents: set[str] = set()
        self.possible = True
        self.censor = 0
        self.r2 = True
        self.listed = 0
        self._refusals: deque[tuple[int, str, str]] = deque()

    def refuse(self, status: int, code: str, message: str = "No.") -> None:
        """Refuse the next POST with an error of the Horde's."""
        self._refusals.append((status, code, message))

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Models, submit, the two states and cancel."""
        return [
            web.get(PATH + "/status/models", self._models),
            web.post(PATH + "/generate/async", self._submit),
            web.get(PATH + "/generate/check/{id}", self._check),
            web.get(PATH + "/generate/status/{id}", self._status),
            web.delete(PATH + "/generate/status/{id}", self._cancel),
        ]

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self.listed += 1
        listing = [
            {"name": name, "count": count, "performance": 1e6, "queued": 0.0, "jobs": 0.0, "eta": 9}
            | {"type": request.query.get("type", "image")}
            for name, count in self.models.items()
        ]
        return web.json_response(listing)

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        if (spoilt := await self.spoil(request, "submit")) is not None:
            return spoilt
        if request.headers.get("apikey") not in (self.secret, "0000000000"):
            return _error(401, "InvalidAPIKey", "No user matching sent API Key.")
        self.agents.add(request.headers.get("Client-Agent", ""))
        body = await request.json()
        self.bodies.append(body)
        if self._refusals:
            return _error(*self._refusals.popleft())
        if fault := _fault(body):
            return _error(400, *fault)
        job_id = str(uuid.uuid4())
        self.jobs[job_id] = HordeJob(body, self.polls)
        self.taken += 1
        return web.json_response({"id": job_id, "kudos": 9.5}, status=202)

    async def _check(self, request: web.Request) -> web.StreamResponse:
        if (spoilt := await self.spoil(request, "poll")) is not None:
            return spoilt
        job_id = request.match_info["id"]
        job = self.jobs.get(job_id)
        if job is None or self.due("job:lost"):
            self.jobs.pop(job_id, None)
            return _error(404, "RequestNotFound", f"Request with ID {job_id} not found.")
        if not self.held and self.possible:
            job.looked += 1
        return web.json_response(self._state(job))

    async def _status(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return _error(404, "RequestNotFound", "Request not found.")
        job.seen += 1
        if job.seen > 10:
            return _error(429, "", "10 per 1 minute")
        return web.json_response({**self._state(job), "generations": self._made(request, job)})

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return _error(404, "RequestNotFound", "Request not found.")
        if self.due("cancel:late"):
            job.looked = job.polls
            return _error(404, "RequestNotFound", "Request not found.")
        job.cancelled = True
        return web.json_response({**self._state(job), "generations": []})

    def _state(self, job: HordeJob) -> dict[str, Any]:
        done = job.looked >= job.polls or job.cancelled
        working = not done and job.looked >= 2
        return {
            "finished": int(done),
            "processing": int(working),
            "restarted": 0,
            "waiting": int(not done and not working),
            "done": done,
            "faulted": self.due("job:failed"),
            "wait_time": 0 if done else 12,
            "queue_position": 0 if done or working else 4,
            "kudos": 9.5,
            "is_possible": self.possible,
        }

    def _made(self, request: web.Request, job: HordeJob) -> list[dict[str, Any]]:
        if job.looked < job.polls or job.cancelled:
            return []
        params = job.body["params"]
        metadata, kept = [], self.censor > 0
        if kept:
            self.censor -= 1
            metadata = [{"type": "censorship", "value": "nsfw"}]
        data = _webp(self.draw(params["width"], params["height"], int(params["seed"])))
        image = (
            self.link(f"{request.match_info['id']}-{job.seen}.webp", data)
            if self.r2
            else base64.b64encode(data).decode()
        )
        return [
            {
                "img": image,
                "seed": params["seed"],
                "id": str(uuid.uuid4()),
                "censored": kept,
                "gen_metadata": metadata,
                "worker_id": str(uuid.uuid4()),
                "worker_name": "A worker",
                "model": job.body["models"][0],
                "state": "censored" if kept else "ok",
            }
        ]


def _fault(body: dict[str, Any]) -> tuple[str, str] | None:
    """What is wrong with a request, as the Horde says it: code and message."""
    params = body.get("params", {})
    if not body.get("prompt"):
        return "MissingPrompt", "You cannot specify an empty prompt."
    if "corrupt" in body["prompt"]:
        return "CorruptPrompt", "This prompt appears to violate our terms of service and will be reported."
    if any(params[side] % 64 or not 64 <= params[side] <= 3072 for side in ("width", "height")):
        return "InvalidSize", "Invalid size. The image dimensions have to be multiples of 64."
    if not isinstance(params.get("seed"), str) or params.get("sampler_name") not in SAMPLERS:
        return "BadRequest", STACK
    if body.get("source_mask") and not body.get("source_image"):
        return "SourceMaskUnnecessary", "Please do not pass a source_mask alone."
    return None


def _webp(data: bytes) -> bytes:
    """A picture as workers send it; what a trouble made of it stays as it is."""
    if not data.endswith(b"IEND\xaeB`\x82") or data[16:20] == b"\0\0\xc3P":  # cut, or 50,000 pixels wide
        return data
    with Image.open(io.BytesIO(data)) as image:
        out = io.BytesIO()
        image.save(out, "WEBP", lossless=True)
    return out.getvalue()


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"message": message, "rc": code}, status=status)
