"""A local server of Stochastic's model API, as its documentation shows it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.hosted import STACK, HostedFake

PATH = "/v1/modelApi"


@dataclass
class StochasticJob:
    """A job: what was asked, and how often it was looked at; polls: polls until it is done."""

    prompt: str
    params: dict[str, Any]
    polls: int
    looked: int = 0
    names: list[str] = field(default_factory=list)


class StochasticFake(HostedFake):
    """See the module. model: the one it has; polls: polls until a job is done; position: queuePosition as it
    is given; other_host: what responseUrl names instead of this server; ending: jobs end so, without
    pictures, as servers of ours say it."""

    cannot = frozenset({"cancel:late"})

    def __init__(self, *, model: str = "stable-diffusion-2", polls: int = 2, position: object = "0") -> None:
        super().__init__()
        self.model = model
        self.polls = polls
        self.position = position
        self.other_host = ""
        self.ending = ""
        self.jobs: dict[str, StochasticJob] = {}
        self.bodies: list[dict[str, Any]] = []

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Submit and inference."""
        return [
            web.post(PATH + "/submit/{model}", self._submit),
            web.get(PATH + "/inference/{id}", self._inference),
        ]

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        spoilt = await self.spoil(request, "submit")
        if spoilt is not None:
            return spoilt
        if request.headers.get("apiKey") != self.secret:
            return _error(401, "Invalid API key")
        if request.match_info["model"] != self.model:
            return _error(404, "No such model")
        body = await request.json()
        self.bodies.append(body)
        if not isinstance(body.get("prompt"), str) or not isinstance(body.get("params"), dict):
            return _error(400, "prompt and params are required")
        job_id = secrets.token_hex(12)
        self.jobs[job_id] = StochasticJob(body["prompt"], body["params"], self.polls)
        self.taken += 1
        url = f"{self.other_host or self.url}{PATH}/inference/{job_id}"
        data = {"id": job_id, "responseUrl": url, "queuePosition": self.position}
        return web.json_response({"success": True, "data": data})

    async def _inference(self, request: web.Request) -> web.StreamResponse:
        spoilt = await self.spoil(request, "poll")
        if spoilt is not None:
            return spoilt
        if request.headers.get("apiKey") != self.secret:
            self.wrong.append("polled without the key")
            return _error(401, "Invalid API key")
        job = self.jobs.get(request.match_info["id"])
        if job is None or self.due("job:lost"):
            self.jobs.pop(request.match_info["id"], None)
            return _error(404, "No such request")
        if self.due("job:failed"):
            return _error(422, STACK)
        if self.ending:
            told = {"id": request.match_info["id"], "status": self.ending}
            body = {"success": False, "message": "This is how it ended.", "data": told}
            return web.json_response(body, status=410 if self.ending == "cancelled" else 422)
        if not self.held:
            job.looked += 1
        if job.looked < job.polls:
            return web.json_response({"success": True, "data": {"id": request.match_info["id"]}})
        data = self.draw(job.params["img_width"], job.params["img_height"], job.params["seed"])
        link = self.link(f"{request.match_info['id']}.png", data)
        images = [{"presigned_url": f"{link}?X-Amz-Signature=0f0f&Expires=1700000000"}]
        return web.json_response({"success": True, "data": {"generatedImages": images}})


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"success": False, "message": message}, status=status)
