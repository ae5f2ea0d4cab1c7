"""Salad Inference Endpoints on 127.0.0.1, both APIs, with docker-diffusers-api behind them.

The server is the judge: `asked` holds every picture that it was asked to make, in order. A job moves on as it
is looked at: `pending` looks find it waiting, `running` more find it at work, then it is done. Each stage can
be held by its `gates`, so that a test acts exactly there:

    arriving  a POST came, nothing is made of it yet       taken     its job is there, the answer is held back
    pending   the job stays so, looks are answered          running   the same
    fetching  a look finds it done, the answer is held back   loading  a link's picture is held back
    listing   the list of jobs is made up, the answer is held back
"""

from __future__ import annotations

import base64
import io
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from PIL import Image

from tests.fakes.gates import Gates
from tests.fakes.hosted import STACK, HostedFake

STAGES = ("arriving", "taken", "pending", "running", "fetching", "loading", "listing")
SECONDS = 2.5
"""Device time that every picture takes, as the events tell it."""
PUBLIC = "/api/public/organizations/{org}/inference-endpoints"
BETA = "/api/beta/organizations/{org}/inference-endpoints/{endpoint}"
LINKS = frozenset(f"link:{what}" for what in ("expired", "http", "inward", "redirect"))


@dataclass
class Job:
    """One job of either API. looks: how often it was asked for; at: when each event was."""

    id: str
    endpoint: str
    body: dict[str, Any]
    input: dict[str, Any]
    status: str = "pending"
    looks: int = 0
    output: Any = None
    events: list[dict[str, str]] = field(default_factory=list)

    def note(self, action: str, seconds: float = 0.0) -> None:
        """Another event, so many seconds after the last one."""
        last = datetime.fromisoformat(self.events[-1]["time"]) if self.events else datetime.now(UTC)
        self.events.append({"action": action, "time": (last + timedelta(seconds=seconds)).isoformat()})


class SaladFake(HostedFake):
    """The service. form: how pictures come: image_base64, images_base64, images, data or links; flagged:
    seeds that its safety checker blackens, which it says where it tells_flags; error: a `$error` in place of
    outputs; lose_answers: so many POSTs are answered by nothing once their jobs are there; calls, traffic:
    what went over the wire."""

    organization = "acme"

    def __init__(self, *, form: str = "image_base64") -> None:
        super().__init__()
        self.cannot = LINKS if form != "links" else frozenset()
        self.endpoints: tuple[str, ...] = ("pictures",)
        self.beta_endpoints: tuple[str, ...] = ("stable-diffusion-2-1",)
        self.jobs: dict[str, Job] = {}
        self.asked: list[dict[str, Any]] = []
        self.calls = Counter[str]()
        self.traffic: list[tuple[str, int, Any]] = []
        self.form = form
        self.pending, self.running = 1, 1
        self.flagged: set[int] = set()
        self.tells_flags = True
        self.error: dict[str, Any] | None = None
        self.lose_answers = 0
        self.gates = Gates(STAGES)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Both APIs."""
        jobs = PUBLIC + "/{endpoint}/jobs"
        return [
            web.post(BETA, self._beta_post),
            web.get(BETA + "/{id}", self._beta_look),
            web.get(PUBLIC, self._endpoints),
            web.get(PUBLIC + "/{endpoint}", self._endpoint),
            web.post(jobs, self._post),
            web.get(jobs, self._list),
            web.get(jobs + "/{id}", self._look),
            web.delete(jobs + "/{id}", self._delete),
        ]

    # --- for tests ---

    async def stop(self) -> None:
        """Stop listening, and let nothing hang."""
        self.gates.release_all()
        await super().stop()

    @property
    def seeds(self) -> list[int]:
        """The seed of every picture that it was asked to make, in order."""
        return [int(inputs["seed"]) for inputs in self.asked]

    # --- the wire: the current API ---

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if (wrong := self._wrong(request, self.endpoints)) or (wrong := await self.spoil(request, "submit")):
            return wrong
        body = await request.json()
        if not isinstance(body, dict) or "input" not in body:
            return self._problem(request, 400, "input: the field is required")
        job = await self._take(request, body, body["input"])
        answer = self._answer(request, 201, self._job(job))
        answer.headers["Location"] = f"https://api.salad.com{request.path}/{job.id}"
        return self._lost(request) or answer

    async def _look(self, request: web.Request) -> web.StreamResponse:
        if (wrong := self._wrong(request, self.endpoints)) or (wrong := await self.spoil(request, "poll")):
            return wrong
        job = self.jobs.get(request.match_info["id"])
        if job is None or self.due("job:lost"):
            self.jobs.pop(request.match_info["id"], None)
            return self._problem(request, 404, "The job could not be found.")
        await self._move(job)
        return self._answer(request, 200, self._job(job))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if wrong := self._wrong(request, self.endpoints):
            return wrong
        page, size = int(request.query.get("page", 1)), int(request.query.get("page_size", 10))
        if not (page >= 1 and 1 <= size <= 100):
            return self._problem(request, 400, "page_size: at most 100")
        found = [job for job in self.jobs.values() if job.endpoint == request.match_info["endpoint"]][::-1]
        items = [self._job(job) for job in found[(page - 1) * size : page * size]]
        body = {"items": items, "page": page, "page_size": size, "total_size": len(found)}
        answer = self._answer(request, 200, body)
        await self.gates.through("listing")
        return answer

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if wrong := self._wrong(request, self.endpoints):
            return wrong
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return self._problem(request, 404, "The job could not be found.")
        if self.due("cancel:late"):
            self._finish(job)
        if job.status in ("pending", "running"):
            job.status = "cancelled"
            job.note("cancelled")
        return web.Response(status=202)

    async def _endpoints(self, request: web.Request) -> web.StreamResponse:
        if wrong := self._wrong(request, None):
            return wrong
        items = [self._described(name) for name in self.endpoints]
        body = {"items": items, "page": 1, "page_size": 100, "total_size": len(items)}
        return self._answer(request, 200, body)

    async def _endpoint(self, request: web.Request) -> web.StreamResponse:
        if wrong := self._wrong(request, self.endpoints):
            return wrong
        return self._answer(request, 200, self._described(request.match_info["endpoint"]))

    # --- the wire: the beta ---

    async def _beta_post(self, request: web.Request) -> web.StreamResponse:
        known = self.beta_endpoints
        if (wrong := self._wrong(request, known)) or (wrong := await self.spoil(request, "submit")):
            return wrong
        body = await request.json()
        job = await self._take(request, body, body)
        answer = {"requestId": job.id, "resultUrl": f"{self.url}{request.path}/{job.id}"}
        return self._lost(request) or self._answer(request, 202, answer)

    async def _beta_look(self, request: web.Request) -> web.StreamResponse:
        known = self.beta_endpoints
        if (wrong := self._wrong(request, known)) or (wrong := await self.spoil(request, "poll")):
            return wrong
        job = self.jobs.get(request.match_info["id"])
        if job is None or self.due("job:lost"):
            self.jobs.pop(request.match_info["id"], None)
            return self._problem(request, 404, "The request could not be found.")
        await self._move(job)
        status = {"succeeded": "success", "failed": "failed"}.get(job.status, "pending")
        body = {"requestId": job.id, "status": status}
        return self._answer(request, 200, body | ({"modelOutputs": job.output} if job.output else {}))

    # --- what both do ---

    def _wrong(self, request: web.Request, endpoints: tuple[str, ...] | None) -> web.StreamResponse | None:
        self.calls[f"{request.method} {'beta' if '/beta/' in request.path else 'jobs'}"] += 1
        if request.headers.get("Salad-Api-Key", "") != self.secret:
            self.wrong.append(f"{request.method} {request.path} without the key")
            return self._problem(request, 401, "The API key is not valid.")
        if request.match_info["org"] != self.organization:
            return self._problem(request, 403, "You are not a member of this organization.")
        if endpoints is not None and request.match_info["endpoint"] not in endpoints:
            return self._problem(request, 404, "The inference endpoint could not be found.")
        return None

    def _lost(self, request: web.Request) -> web.Response | None:
        if self.lose_answers <= 0:
            return None
        self.lose_answers -= 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _take(self, request: web.Request, body: Any, inputs: Any) -> Job:
        await self.gates.through("arriving")
        job = Job(str(uuid.uuid4()), request.match_info["endpoint"], body, inputs)
        job.note("created")
        self.jobs[job.id] = job
        self.taken += 1
        wanted = inputs.get("modelInputs") if isinstance(inputs, dict) else None
        self.asked.append(wanted if isinstance(wanted, dict) else {})
        await self.gates.through("taken")
        return job

    async def _move(self, job: Job) -> None:
        """One look further."""
        job.looks += 1
        if job.status == "pending" and job.looks > self.pending and not self._stays("pending"):
            job.status = "running"
            job.note("started", 30.0)
        elif job.status == "running" and not self._stays("running") and self._over(job):
            self._finish(job)
        if job.status == "succeeded":
            await self.gates.through("fetching")

    def _over(self, job: Job) -> bool:
        return job.looks > self.pending + self.running

    def _stays(self, stage: str) -> bool:
        return self.gates.closed(stage) or (stage == "running" and self.held)

    def _finish(self, job: Job) -> None:
        failed = self.due("job:failed")
        job.status = "failed" if failed else "succeeded"
        job.note(job.status, SECONDS)
        error = {"code": "APP_INFERENCE_ERROR", "message": STACK, "stack": STACK} if failed else self.error
        job.output = {"$error": error} if error else self._output(job.input)

    def _output(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As docker-diffusers-api answers: image_base64 for one picture, images_base64 for several."""
        wanted = inputs["modelInputs"]
        count = int(wanted.get("num_images_per_prompt", 1))
        flagged = [int(wanted["seed"]) in self.flagged and index == 0 for index in range(count)]
        pictures = [self._picture(wanted, index, black=flagged[index]) for index in range(count)]
        texts = [base64.b64encode(data).decode() for data in pictures]
        meta: dict[str, Any] = {"$meta": {"MODEL_ID": "stabilityai/stable-diffusion-2-1"}, "$timings": {}}
        if any(flagged) and self.tells_flags:
            meta["nsfw_content_detected"] = flagged
        if self.form == "data":
            return meta | {"images": [f"data:image/png;base64,{text}" for text in texts]}
        if self.form == "links":
            return meta | {"images": [self.link(f"{uuid.uuid4()}.png", data) for data in pictures]}
        if self.form == "image_base64" and count == 1:
            return meta | {"image_base64": texts[0]}
        return meta | {("images" if self.form == "images" else "images_base64"): texts}

    def _picture(self, wanted: dict[str, Any], index: int, *, black: bool) -> bytes:
        """As large as asked; image to image: as large as the picture that came along."""
        given = wanted.get("image") or wanted.get("init_image")
        if "width" in wanted:
            size = int(wanted["width"]), int(wanted["height"])
        else:
            with Image.open(io.BytesIO(base64.b64decode(str(given)))) as image:
                size = image.size
        if not black:
            return self.draw(*size, int(wanted["seed"]) + index)
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "PNG")
        return buffer.getvalue()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        await self.gates.through("loading")
        return await super()._file(request)

    def _job(self, job: Job) -> dict[str, Any]:
        made: dict[str, Any] = {
            "id": job.id,
            "input": job.input,
            "inference_endpoint_name": job.endpoint,
            "organization_name": self.organization,
            "status": job.status,
            "events": list(job.events),
            "create_time": job.events[0]["time"],
            "update_time": job.events[-1]["time"],
        }
        if "metadata" in job.body:
            made["metadata"] = job.body["metadata"]
        return made | ({"output": job.output} if job.output is not None else {})

    def _described(self, name: str) -> dict[str, Any]:
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
            "name": name,
            "organization_name": self.organization,
            "display_name": "Pictures",
            "description": "",
            "icon_url": "https://example.com/icon.png",
            "input_schema": "{}",
            "output_schema": "{}",
            "price_description": "$0.01 per picture",
            "readme": "Pictures from words.",
        }

    def _problem(self, request: web.Request, status: int, detail: str) -> web.Response:
        body = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail}
        return self._answer(request, status, body)

    def _answer(self, request: web.Request, status: int, body: Any) -> web.Response:
        resource = request.match_info.route.resource
        assert resource is not None
        self.traffic.append((f"{request.method} {resource.canonical}", status, body))
        return web.json_response(body, status=status)
