"""A local fal queue, as its documentation shows it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.fakes.hosted import STACK, HostedFake


@dataclass
class FalJob:
    """A request in the queue; looked: how often its status was asked for."""

    path: str
    body: dict[str, Any]
    looked: int = 0
    cancelled: bool = False


class FalFake(HostedFake):
    """See the module. polls: looks until a job is done; flagged: the content check keeps pictures back;
    inline: pictures come as data URLs; refusal: what the model says instead of a picture; broken: status and
    type of an error of fal's own."""

    def __init__(self, *, polls: int = 3) -> None:
        super().__init__()
        self.polls = polls
        self.flagged = False
        self.inline = False
        self.refusal: Any = None
        self.broken: tuple[int, str] | None = None
        self.jobs: dict[str, FalJob] = {}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Submit, status, response, cancel."""
        one = "/{owner}/{app}/requests/{id}"
        return [
            web.get(one + "/status", self._status),
            web.put(one + "/cancel", self._cancel),
            web.get(one, self._response),
            web.post("/{path:.+}", self._submit),
        ]

    def _known(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Key {self.secret}"

    def _job(self, request: web.Request) -> FalJob:
        if not self._known(request):
            self.wrong.append(f"{request.path} without the key")
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            raise web.HTTPNotFound(text='{"detail": "Request not found"}', content_type="application/json")
        here = "/".join(job.path.split("/")[:2])
        if here != f"{request.match_info['owner']}/{request.match_info['app']}":
            self.wrong.append(f"{request.path}: another application's")
        return job

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        spoilt = await self.spoil(request, "submit")
        if spoilt is not None:
            return spoilt
        if not self._known(request):
            return web.json_response({"detail": "Unauthorized"}, status=401)
        body = await request.json()
        path, job_id = request.match_info["path"], str(uuid.uuid4())
        self.jobs[job_id] = FalJob(path, body)
        self.taken += 1
        url = f"{self.url}/{'/'.join(path.split('/')[:2])}/requests/{job_id}"
        return web.json_response(
            {
                "status": "IN_QUEUE",
                "request_id": job_id,
                "response_url": url,
                "status_url": f"{url}/status",
                "cancel_url": f"{url}/cancel",
                "logs": None,
                "metrics": {},
                "queue_position": 2,
            }
        )

    async def _status(self, request: web.Request) -> web.StreamResponse:
        spoilt = await self.spoil(request, "poll")
        if spoilt is not None:
            return spoilt
        if self.due("job:lost"):
            self.jobs.clear()
        job = self._job(request)
        if not self.held:
            job.looked += 1
        about = {"request_id": request.match_info["id"], "response_url": str(request.url)[: -len("/status")]}
        if job.cancelled:
            return web.json_response({"status": "CANCELLED", **about})
        if job.looked >= self.polls:
            return web.json_response({"status": "COMPLETED", "metrics": {"inference_time": 1.5}, **about})
        if job.looked < self.polls - 1:
            return web.json_response(
                {"status": "IN_QUEUE", "queue_position": 2 - job.looked, **about}, status=202
            )
        return web.json_response({"status": "IN_PROGRESS", "logs": [], **about}, status=202)

    async def _response(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        if self.due("job:failed"):
            return web.json_response({"detail": STACK}, status=500)
        if self.broken is not None:
            status, kind = self.broken
            told = {"detail": "Something broke"} | ({"error_type": kind} if kind else {})
            return web.json_response(told, status=status)
        if self.refusal is not None:
            return web.json_response({"detail": self.refusal}, status=422)
        size = job.body["image_size"]
        data = self.draw(size["width"], size["height"], job.body["seed"])
        url = self.link(f"{request.match_info['id']}.png", data)
        if self.inline:
            url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        return web.json_response(
            {
                "images": [{"url": url, "content_type": "image/png", **size}],
                "timings": {"inference": 1.25},
                "seed": job.body["seed"],
                "has_nsfw_concepts": [self.flagged],
                "prompt": job.body["prompt"],
            }
        )

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        if self.due("cancel:late") or job.looked >= self.polls:
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        job.cancelled = True
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)
