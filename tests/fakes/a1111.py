"""A server of AUTOMATIC1111's API on 127.0.0.1: the lists, the two blocking calls, tasks and the interrupt.

It makes flat colours drawn from the seed (flat_png). Like the real one it works on one task at a time, counts
seeds up without a bound, and its own progress shows whatever anybody makes. It can be another program of this
API (`old`: before 1.9, without schedules; `nowebui`: without /internal/progress), be held, and misbehave:

    server.hold("start")                     # tasks stop before they begin; .reached, .release()
    server.trouble("/sdapi/v1/txt2img", reply(500, {...}))     # once; times=2 for twice
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.fakes.backend import Hold, flat_png

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MODELS = ("v1-5-pruned-emaonly", "sd_xl_base_1.0")
THEIRS = "task(theirs)"
PREVIEW = flat_png(64, 64, 0x00FF00)
FIELDS: dict[str, type | tuple[type, ...]] = {
    "prompt": str,
    "negative_prompt": str,
    "steps": int,
    "cfg_scale": (int, float),
    "width": int,
    "height": int,
    "seed": int,
    "batch_size": int,
    "n_iter": int,
    "denoising_strength": (int, float),
    "init_images": list,
    "mask": str,
    "override_settings": dict,
}
SAMPLERS = [
    {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "options": {"scheduler": "karras"}},
    {"name": "Euler a", "aliases": ["k_euler_a", "k_euler_ancestral"], "options": {"uses_ensd": "True"}},
    {"name": "Euler", "aliases": ["k_euler"], "options": {}},
    {"name": "DPM fast", "aliases": ["k_dpm_fast"], "options": {"uses_ensd": "True"}},
    {"name": "DDIM", "aliases": ["ddim"], "options": {}},
]
OLD_SAMPLERS = [
    {"name": "Euler a", "aliases": ["k_euler_a"], "options": {}},
    {"name": "Euler", "aliases": ["k_euler"], "options": {}},
    {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "options": {}},
    {"name": "DPM++ 2M Karras", "aliases": ["k_dpmpp_2m_ka"], "options": {"scheduler": "karras"}},
]
SCHEDULERS = [
    {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
    for name, label in (
        ("automatic", "Automatic"),
        ("uniform", "Uniform"),
        ("karras", "Karras"),
        ("exponential", "Exponential"),
        ("simple", "Simple"),
    )
]


def reply(status: int, body: Any, **headers: str) -> Handler:
    """A handler that answers this: JSON, or bytes and text as they are."""

    async def answer(_: web.Request) -> web.StreamResponse:
        if isinstance(body, str | bytes):
            data = body.encode() if isinstance(body, str) else body
            return web.Response(status=status, body=data, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    return answer


def error(status: int, kind: str, detail: str = "", errors: str = "") -> Handler:
    """An error in the form of the API's middleware."""
    return reply(status, {"error": kind, "detail": detail, "body": "", "errors": errors})


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Break the connection after the request was read."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class Trouble:
    """What a path answers instead, so many times."""

    handler: Handler
    times: int


@dataclass
class FakeA1111:
    """See the module. made: bodies of calls in the order in which they were begun; begun, ended, interrupted:
    ids of tasks; asked: ids that progress was asked for; seen: method and path of every request; auth: what
    the user and password must be, where set; made_size: the size of pictures whatever is asked; grid: a
    sheet of all is put before them."""

    old: bool = False
    nowebui: bool = False
    auth: tuple[str, str] | None = None
    current: str = MODELS[0]
    options: dict[str, Any] = field(default_factory=dict)
    titles: list[str] = field(default_factory=lambda: list(MODELS))
    made_size: tuple[int, int] | None = None
    grid: bool = False
    textinfo: bool = True
    made: list[dict[str, Any]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.queue: dict[str, None] = {}
        self.task: str | None = None
        self.progress = 0.0
        self.preview_id = 0
        self._stop = False
        self._lock = asyncio.Lock()
        self._holds: dict[str, Hold] = {}
        self._troubles: dict[str, Trouble] = {}
        self._server: TestServer | None = None

    # --- for tests ----------------------------------------------------------------------------------------

    def hold(self, stage: str) -> Hold:
        """Stop tasks at `start` (it is the current one, nothing made), `middle` (half made) or `answer`."""
        assert stage in ("start", "middle", "answer"), stage
        self._holds[stage] = Hold()
        return self._holds[stage]

    def trouble(self, path: str, handler: Handler, times: int = 1) -> None:
        """Answer `path` by `handler` instead, so many times."""
        self._troubles[path] = Trouble(handler, times)

    async def somebody_else(self) -> asyncio.Task[web.Response]:
        """A task of another user of the server, which stops at `start` alone."""
        body = {"prompt": "theirs", "steps": 1, "width": 64, "height": 64, "seed": 1}
        return asyncio.ensure_future(self._generate({**body, "force_task_id": THEIRS}))

    async def stop(self) -> None:
        """Break all connections and listen no more."""
        for hold in self._holds.values():
            hold.release()
        if self._server is not None:
            await self._server.close()

    # --- the server ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=64 * 2**20, middlewares=[self._middleware])
        app.router.add_get("/sdapi/v1/sd-models", self._models)
        app.router.add_get("/sdapi/v1/samplers", self._samplers)
        app.router.add_get("/sdapi/v1/options", self._options)
        app.router.add_get("/sdapi/v1/progress", self._everybodys_progress)
        app.router.add_post("/sdapi/v1/txt2img", self._txt2img)
        app.router.add_post("/sdapi/v1/img2img", self._txt2img)
        app.router.add_post("/sdapi/v1/interrupt", self._interrupt)
        if not self.old:
            app.router.add_get("/sdapi/v1/schedulers", self._schedulers)
        if not self.nowebui:
            app.router.add_post("/internal/progress", self._progress)
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server(shutdown_timeout=0.1)
        self.url = str(self._server.make_url("")).rstrip("/")

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        if self.auth is not None and request.headers.get("Authorization") != self._credentials():
            return web.json_response(
                {"detail": "Not authenticated"}, status=401, headers={"WWW-Authenticate": "Basic"}
            )
        trouble = self._troubles.get(request.path)
        if trouble is not None and trouble.times > 0:
            trouble.times -= 1
            return await trouble.handler(request)
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return web.json_response({"detail": "Not Found"}, status=404)

    def _credentials(self) -> str:
        assert self.auth is not None
        return "Basic " + base64.b64encode(":".join(self.auth).encode()).decode()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response(
            [
                {
                    "title": f"{name}.safetensors [6ce0161689]",
                    "model_name": name.rpartition("/")[2],
                    "hash": "6ce0161689",
                    "sha256": None,
                    "filename": f"/models/{name}.safetensors",
                    "config": None,
                }
                for name in self.titles
            ]
        )

    async def _samplers(self, _: web.Request) -> web.Response:
        return web.json_response(OLD_SAMPLERS if self.old else SAMPLERS)

    async def _schedulers(self, _: web.Request) -> web.Response:
        return web.json_response(SCHEDULERS)

    async def _options(self, _: web.Request) -> web.Response:
        options = {"sd_model_checkpoint": f"{self.current}.safetensors [6ce0161689]", "return_grid": True}
        return web.json_response(
            {**options, "samples_format": "png", "live_previews_enable": True} | self.options
        )

    async def _everybodys_progress(self, request: web.Request) -> web.Response:
        assert request.query.get("skip_current_image") == "true", "this picture may be anybody's"
        return web.json_response({"progress": self.progress, "eta_relative": 0, "state": {}})

    async def _progress(self, request: web.Request) -> web.Response:
        question = await request.json()
        task = question["id_task"]
        self.asked.append(task)
        if task != self.task:
            info = "Waiting..."
            if task in self.queue:
                info = f"In queue: {list(self.queue).index(task) + 1}/{len(self.queue)}"
            stand = {"active": False, "queued": task in self.queue, "completed": task in self.ended}
            return web.json_response(
                {**stand, "id_live_preview": -1, "textinfo": info if self.textinfo else None}
            )
        shown = question.get("live_preview", True) and question["id_live_preview"] != self.preview_id
        picture = "data:image/png;base64," + base64.b64encode(PREVIEW).decode() if shown else None
        stand = {"active": True, "queued": False, "completed": False}
        return web.json_response(
            {
                **stand,
                "progress": self.progress,
                "eta": 1.0,
                "live_preview": picture,
                "id_live_preview": self.preview_id,
                "textinfo": None,
            }
        )

    async def _interrupt(self, _: web.Request) -> web.Response:
        """Whatever is being made, whoever asked for it."""
        if self.task is not None:
            self.interrupted.append(self.task)
            self._stop = True
            for stage in ("start", "middle"):
                if stage in self._holds:
                    self._holds[stage].release()
        return web.json_response({})

    async def _txt2img(self, request: web.Request) -> web.Response:
        body = await request.json()
        wrong = [name for name, kind in FIELDS.items() if name in body and not isinstance(body[name], kind)]
        if wrong:
            detail = [{"loc": ["body", name], "msg": "wrong type", "type": "type_error"} for name in wrong]
            return web.json_response({"detail": detail}, status=422)
        names = {sampler["name"] for sampler in (OLD_SAMPLERS if self.old else SAMPLERS)}
        if body.get("sampler_name", "Euler") not in names:
            return web.json_response({"detail": "Sampler not found"}, status=400)
        if ("init_images" in body) != request.path.endswith("img2img"):
            return web.json_response({"detail": "Init image not found"}, status=404)
        # The real one works in a thread, which goes on where the client goes away.
        return await asyncio.shield(asyncio.ensure_future(self._generate(body)))

    async def _generate(self, body: dict[str, Any]) -> web.Response:
        task = body.get("force_task_id") or f"task({len(self.begun)})"
        self.queue[task] = None
        async with self._lock:
            self.queue.pop(task)
            self.task, self.progress, self._stop = task, 0.0, False
            self.begun.append(task)
            self.made.append(body)
            await self._stage("start")
            self.progress, self.preview_id = 0.5, self.preview_id + 1
            if task != THEIRS:
                await self._stage("middle")
            self.progress = 1.0
            self.task = None
            self.ended.append(task)
        await self._stage("answer")
        return self._answer(body)

    async def _stage(self, stage: str) -> None:
        if stage in self._holds and not self._stop:
            await self._holds[stage].wait()
        await asyncio.sleep(0)

    def _answer(self, body: dict[str, Any]) -> web.Response:
        width, height = self.made_size or (body["width"], body["height"])
        count = body.get("batch_size", 1) * body.get("n_iter", 1)
        seeds = [body["seed"] + number for number in range(count)]
        pictures = [flat_png(width, height, seed) for seed in seeds]
        grid = self.grid and count > 1 and body.get("override_settings", {}).get("return_grid") is not False
        if grid:
            pictures.insert(0, flat_png(8, 8, 0))
        info = {"all_seeds": seeds, "seed": seeds[0], "index_of_first_image": int(grid), "width": width}
        images = [base64.b64encode(picture).decode() for picture in pictures]
        return web.json_response({"images": images, "parameters": body, "info": json.dumps(info)})


@asynccontextmanager
async def fake_a1111(**options: Any) -> AsyncIterator[FakeA1111]:
    """A server that listens."""
    server = FakeA1111(**options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
