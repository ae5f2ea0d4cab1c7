"""Salad Inference Endpoints on 127.0.0.1, both APIs, with docker-diffusers-api behind them.

Pictures are flat colours drawn from the seed. The server is the judge: `asked` holds every picture that it
was asked to make, in order. A job moves on as it is looked at: `pending` looks find it waiting, `running`
more find it at work, then it is done. Each stage can be held, so that a test acts exactly there:

    arriving  a POST came, nothing is made of it yet       taken     its job is there, the answer is held back
    pending   the job stays so, looks are answered          running   the same
    fetching  a look finds it done, the answer is held back

`troubles` are answers given instead of the right ones, once each: see Trouble.
"""

from __future__ import annotations

import asyncio
import base64
import colorsys
import io
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from PIL import Image

STAGES = ("arriving", "taken", "pending", "running", "fetching")
HTML = "<html><body><h1>502 Bad Gateway</h1><pre>at Internal.Stack.Frame()</pre></body></html>"
SECONDS = 2.5
"""Device time that every picture takes, as the events tell it."""


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


@dataclass
class Trouble:
    """What goes wrong, once. on: "post", "look" or "list"; status, body, headers: answered instead; lose: the
    connection is cut instead; after: the request counts all the same."""

    on: str
    status: int = 500
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    lose: bool = False
    after: bool = False


class Salad:
    """The service. form: how pictures come: image_base64, images_base64, images, data or links; flagged:
    seeds that its safety checker keeps back; error: a `$error` in place of outputs; fail: jobs fail."""

    organization = "acme"

    def __init__(
        self, *, key: str = "salad-canary-5e0fc2", endpoints: tuple[str, ...] = ("pictures",)
    ) -> None:
        self.key = key
        self.endpoints = endpoints
        self.beta_endpoints: tuple[str, ...] = ("stable-diffusion-2-1",)
        self.url = ""
        self.jobs: dict[str, Job] = {}
        self.asked: list[dict[str, Any]] = []
        self.calls = Counter[str]()
        self.traffic: list[tuple[str, int, Any]] = []
        self.keys_seen = Counter[str]()
        self.form = "image_base64"
        self.pending, self.running = 1, 1
        self.flagged: set[int] = set()
        self.error: dict[str, Any] | None = None
        self.fail = False
        self.spoil: Callable[[bytes], bytes] = lambda data: data
        self.link_of: Callable[[str], str] = lambda link: link
        self.lost = False
        self.troubles: deque[Trouble] = deque()
        self._held: dict[str, asyncio.Event] = {}
        self._reached = {stage: asyncio.Event() for stage in STAGES}
        self._files: dict[str, bytes] = {}
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        """Listen on a free loopback port."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        beta = "/api/beta/organizations/{org}/inference-endpoints/{endpoint}"
        public = "/api/public/organizations/{org}/inference-endpoints"
        jobs = public + "/{endpoint}/jobs"
        app.add_routes(
            [
                web.post(beta, self._beta_post),
                web.get(beta + "/{id}", self._beta_look),
                web.get(public, self._endpoints),
                web.get(public + "/{endpoint}", self._endpoint),
                web.post(jobs, self._post),
                web.get(jobs, self._list),
                web.get(jobs + "/{id}", self._look),
                web.delete(jobs + "/{id}", self._delete),
                web.get("/files/{name}", self._file),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]

    async def aclose(self) -> None:
        """Stop listening."""
        for stage in list(self._held):
            self.release(stage)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --- for tests ---

    def hold(self, stage: str) -> None:
        """Let every call, or job, at this stage wait."""
        self._held.setdefault(stage, asyncio.Event())
        self._reached[stage].clear()

    def release(self, stage: str) -> None:
        """Let the stage go on."""
        if (gate := self._held.pop(stage, None)) is not None:
            gate.set()

    async def reached(self, stage: str, seconds: float = 60.0) -> None:
        """Until something waits at a held stage."""
        async with asyncio.timeout(seconds):
            await self._reached[stage].wait()

    @property
    def seeds(self) -> list[int]:
        """The seed of every picture that it was asked to make, in order."""
        return [int(inputs["seed"]) for inputs in self.asked]

    # --- the wire: the current API ---

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if (wrong := self._wrong(request, self.endpoints)) or (wrong := await self._trouble("post", request)):
            return wrong
        body = await request.json()
        if not isinstance(body, dict) or "input" not in body:
            return self._problem(request, 400, "input: the field is required")
        job = await self._take(request, body, body["input"])
        answer = self._answer(request, 201, self._job(job))
        answer.headers["Location"] = f"https://api.salad.com{request.path}/{job.id}"
        return await self._trouble("post", request, after=True) or answer

    async def _look(self, request: web.Request) -> web.StreamResponse:
        if (wrong := self._wrong(request, self.endpoints)) or (wrong := await self._trouble("look", request)):
            return wrong
        job = self.jobs.get(request.match_info["id"])
        if job is None or self.lost:
            return self._problem(request, 404, "The job could not be found.")
        await self._move(job)
        return self._answer(request, 200, self._job(job))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if (wrong := self._wrong(request, self.endpoints)) or (wrong := await self._trouble("list", request)):
            return wrong
        page, size = int(request.query.get("page", 1)), int(request.query.get("page_size", 10))
        if not (page >= 1 and 1 <= size <= 100):
            return self._problem(request, 400, "page_size: at most 100")
        found = [job for job in self.jobs.values() if job.endpoint == request.match_info["endpoint"]][::-1]
        items = [self._job(job) for job in found[(page - 1) * size : page * size]]
        body = {"items": items, "page": page, "page_size": size, "total_size": len(found)}
        return self._answer(request, 200, body)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if wrong := self._wrong(request, self.endpoints):
            return wrong
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return self._problem(request, 404, "The job could not be found.")
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
        if (wrong := self._wrong(request, known)) or (wrong := await self._trouble("post", request)):
            return wrong
        body = await request.json()
        job = await self._take(request, body, body)
        answer = {"requestId": job.id, "resultUrl": f"{self.url}{request.path}/{job.id}"}
        return await self._trouble("post", request, after=True) or self._answer(request, 202, answer)

    async def _beta_look(self, request: web.Request) -> web.StreamResponse:
        known = self.beta_endpoints
        if (wrong := self._wrong(request, known)) or (wrong := await self._trouble("look", request)):
            return wrong
        job = self.jobs.get(request.match_info["id"])
        if job is None or self.lost:
            return self._problem(request, 404, "The request could not be found.")
        await self._move(job)
        status = {"succeeded": "success", "failed": "failed"}.get(job.status, "pending")
        body = {"requestId": job.id, "status": status}
        return self._answer(request, 200, body | ({"modelOutputs": job.output} if job.output else {}))

    # --- what both do ---

    def _wrong(self, request: web.Request, endpoints: tuple[str, ...] | None) -> web.Response | None:
        self.calls[f"{request.method} {'beta' if '/beta/' in request.path else 'jobs'}"] += 1
        key = request.headers.get("Salad-Api-Key", "")
        self.keys_seen[key] += 1
        if key != self.key:
            return self._problem(request, 401, "The API key is not valid.")
        if request.match_info["org"] != self.organization:
            return self._problem(request, 403, "You are not a member of this organization.")
        if endpoints is not None and request.match_info["endpoint"] not in endpoints:
            return self._problem(request, 404, "The inference endpoint could not be found.")
        return None

    async def _trouble(self, on: str, request: web.Request, *, after: bool = False) -> web.Response | None:
        if not self.troubles or (self.troubles[0].on, self.troubles[0].after) != (on, after):
            return None
        trouble = self.troubles.popleft()
        if trouble.lose:
            await request.read()
            assert request.transport is not None
            request.transport.abort()
        kind = "text/html" if trouble.body.startswith("<") else "application/json"
        return web.Response(
            status=trouble.status, text=trouble.body, headers=trouble.headers, content_type=kind
        )

    async def _take(self, request: web.Request, body: Any, inputs: Any) -> Job:
        await self._gate("arriving")
        job = Job(str(uuid.uuid4()), request.match_info["endpoint"], body, inputs)
        job.note("created")
        self.jobs[job.id] = job
        wanted = inputs.get("modelInputs") if isinstance(inputs, dict) else None
        self.asked.append(wanted if isinstance(wanted, dict) else {})
        await self._gate("taken")
        return job

    async def _gate(self, stage: str) -> None:
        gate = self._held.get(stage)
        if gate is not None:
            self._reached[stage].set()
            await gate.wait()

    async def _move(self, job: Job) -> None:
        """One look further."""
        job.looks += 1
        if job.status == "pending" and job.looks > self.pending and not self._stays("pending"):
            job.status = "running"
            job.note("started", 30.0)
        elif job.status == "running" and not self._stays("running") and self._over(job):
            self._finish(job)
        if job.status == "succeeded":
            await self._gate("fetching")

    def _over(self, job: Job) -> bool:
        return job.looks > self.pending + self.running

    def _stays(self, stage: str) -> bool:
        if stage in self._held:
            self._reached[stage].set()
        return stage in self._held

    def _finish(self, job: Job) -> None:
        job.status = "failed" if self.fail else "succeeded"
        job.note(job.status, SECONDS)
        if not self.fail:
            job.output = {"$error": self.error} if self.error else self._output(job.input)

    def _output(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As docker-diffusers-api answers: image_base64 for one picture, images_base64 for several."""
        wanted = inputs["modelInputs"]
        count = int(wanted.get("num_images_per_prompt", 1))
        flagged = [int(wanted["seed"]) in self.flagged and index == 0 for index in range(count)]
        pictures = [self.spoil(picture(wanted, index, black=flagged[index])) for index in range(count)]
        texts = [base64.b64encode(data).decode() for data in pictures]
        meta: dict[str, Any] = {"$meta": {"MODEL_ID": "stabilityai/stable-diffusion-2-1"}, "$timings": {}}
        if any(flagged):
            meta["nsfw_content_detected"] = flagged
        if self.form == "data":
            return meta | {"images": [f"data:image/png;base64,{text}" for text in texts]}
        if self.form == "links":
            return meta | {"images": [self._link(data) for data in pictures]}
        if self.form == "image_base64" and count == 1:
            return meta | {"image_base64": texts[0]}
        return meta | {("images" if self.form == "images" else "images_base64"): texts}

    def _link(self, data: bytes) -> str:
        name = f"{len(self._files)}.png"
        self._files[name] = data
        return self.link_of(f"{self.url}/files/{name}")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self.calls["GET file"] += 1
        return web.Response(body=self._files[request.match_info["name"]], content_type="image/png")

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


def picture(wanted: dict[str, Any], index: int = 0, *, black: bool = False) -> bytes:
    """A PNG as large as asked, coloured by its seed."""
    if "width" in wanted:
        size = int(wanted["width"]), int(wanted["height"])
    else:  # image to image: as large as the picture that came along
        with Image.open(io.BytesIO(base64.b64decode(wanted["image"]))) as given:
            size = given.size
    hue = (int(wanted["seed"]) + index) * 0.618 % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.6, 0.9)
    colour = (0, 0, 0) if black else (round(red * 255), round(green * 255), round(blue * 255))
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()
