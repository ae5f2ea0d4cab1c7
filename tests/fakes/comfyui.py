"""A local ComfyUI: it checks graphs against its nodes, makes prompts one by one, and tells of it over /ws.

A picture is one colour, drawn from the sampler's seed. `old`: a version that chooses the ids of prompts
itself, cannot cancel one by its id, interrupts whatever is being made, and does not say whose previews are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from tests.fakes.backend import flat_png
from tests.fakes.comfyui_nodes import Nodes, Prompt
from tests.fakes.hosted import STACK, HostedFake


@dataclass
class Client:
    """One websocket. metadata: it takes previews that say whose they are."""

    socket: web.WebSocketResponse
    metadata: bool = False


class ComfyFake(HostedFake):
    """See the module. nodes: those that it has;
    prompts: all that were handed in; uploads: pictures by file; deaf: it refuses websockets; seen: method and
    path of every request; interrupts: prompts that were interrupted; made: prompts that were carried out."""

    cannot = frozenset({"link:http", "link:inward"})

    def __init__(
        self, *, old: bool = False, combo: bool = False, lacks: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.old = old
        self.nodes = Nodes(combo=combo, lacks=lacks)
        self.deaf = False
        self.answers_lost = 0  # connections to break once a prompt is taken
        self.out_of_memory = False
        self.upload_page = False  # a page is answered to uploads
        self.prompts: list[Prompt] = []
        self.pending: list[Prompt] = []
        self.running: Prompt | None = None
        self.history: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, tuple[int, int, int]] = {}
        self.uploads: dict[str, bytes] = {}
        self.interrupts: list[str] = []
        self.made: list[str] = []
        self.seen: list[str] = []
        self.sampling = asyncio.Event()  # a held prompt is half made
        self.clients: dict[str, Client] = {}
        self._free = asyncio.Event()
        self._free.set()
        self._news = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    # --- for tests ----------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Prompts stay half made."""
        super().hold()
        self._free.clear()

    def release(self) -> None:
        """Prompts may end."""
        super().release()
        self._free.set()

    def restart(self) -> None:
        """Forget everything, as the real one does when it is started again."""
        self.pending.clear()
        self.history.clear()
        if self.running is not None:
            self.running.interrupted = True
            self.running = None
        self._free.set()

    def somebody_else(self, client: str = "browser") -> Prompt:
        """A prompt of another client, first in the queue."""
        graph = {"1": {"class_type": "EmptyLatentImage", "inputs": {"width": 8, "height": 8}}}
        return self._take(graph, str(uuid.uuid4()), client, {})

    async def hang_up(self) -> None:
        """Break all websockets."""
        for client in list(self.clients.values()):
            await client.socket.close()

    async def start(self) -> None:
        """Listen, and work."""
        await super().start()
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop working and listening."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None
        await self.hang_up()
        await super().stop()

    # --- routes -------------------------------------------------------------------------------------------

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Those that a client uses."""
        routes = [
            web.get("/object_info/{name}", self._node),
            web.post("/prompt", self._prompt),
            web.get("/queue", self._queue),
            web.post("/queue", self._delete),
            web.post("/interrupt", self._interrupt),
            web.get("/history/{id}", self._history),
            web.get("/view", self._view),
            web.post("/upload/image", self._upload),
            web.get("/ws", self._ws),
        ]
        return routes if self.old else [*routes, web.post("/api/jobs/{id}/cancel", self._cancel)]

    async def _node(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        inputs = self.nodes.known().get(name)
        entry = {"input": {"required": inputs, "optional": {}}, "name": name}
        return web.json_response({} if inputs is None else {name: entry})

    async def _prompt(self, request: web.Request) -> web.StreamResponse:
        self.seen.append("POST /prompt")
        spoilt = await self.spoil(request, "submit")
        if spoilt is not None:
            return spoilt
        body = await request.json()
        errors = self.nodes.wrong(body["prompt"], self.uploads)
        if errors:
            refusal = {
                "type": "prompt_outputs_failed_validation",
                "message": "Prompt outputs failed validation",
            }
            return web.json_response({"error": refusal, "node_errors": errors}, status=400)
        own = body.get("prompt_id")
        prompt_id = str(uuid.uuid4()) if self.old or own is None else own
        if str(uuid.UUID(prompt_id)) != prompt_id:
            return web.json_response({"error": {"type": "invalid_prompt_id"}, "node_errors": {}}, status=400)
        if any(prompt.id == prompt_id for prompt in self.prompts):
            self.wrong.append(f"{prompt_id} was handed in twice")
        prompt = self._take(body["prompt"], prompt_id, body.get("client_id", ""), body.get("extra_data", {}))
        self.taken += 1
        if self.due("job:lost"):
            self.pending.remove(prompt)
        if self.answers_lost > 0:
            self.answers_lost -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"prompt_id": prompt_id, "number": prompt.number, "node_errors": {}})

    def _take(self, graph: dict[str, Any], prompt_id: str, client: str, extra: dict[str, Any]) -> Prompt:
        extra = {**extra, "client_id": client}
        prompt = Prompt(len(self.prompts), prompt_id, graph, client, extra)
        self.prompts.append(prompt)
        self.pending.append(prompt)
        self._news.set()
        return prompt

    async def _queue(self, _: web.Request) -> web.Response:
        running = [] if self.running is None else [self.running.entry()]
        pending = [prompt.entry() for prompt in reversed(self.pending)]  # a heap: in no order
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def _delete(self, request: web.Request) -> web.Response:
        self.seen.append("POST /queue")
        gone = (await request.json()).get("delete", [])
        self.pending = [prompt for prompt in self.pending if prompt.id not in gone]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        self.seen.append("POST /interrupt")
        wanted = (await request.json()).get("prompt_id")
        if self.running is not None and (self.old or wanted in (None, self.running.id)):
            self._leave(self.running)
        return web.Response()

    async def _cancel(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        if self.due("cancel:late"):
            return web.json_response({"cancelled": False})
        waiting = [prompt for prompt in self.pending if prompt.id == prompt_id]
        self.pending = [prompt for prompt in self.pending if prompt.id != prompt_id]
        if self.running is not None and self.running.id == prompt_id:
            waiting.append(self.running)
            self._leave(self.running)
        return web.json_response({"cancelled": bool(waiting)})

    def _leave(self, prompt: Prompt) -> None:
        self.interrupts.append(prompt.id)
        prompt.interrupted = True
        self._free.set()

    async def _history(self, request: web.Request) -> web.StreamResponse:
        spoilt = await self.spoil(request, "poll")
        if spoilt is not None:
            return spoilt
        prompt_id = request.match_info["id"]
        return web.json_response({prompt_id: self.history[prompt_id]} if prompt_id in self.history else {})

    async def _view(self, request: web.Request) -> web.StreamResponse:
        if self.due("link:expired"):
            return web.Response(status=403)
        if self.due("link:redirect"):
            raise web.HTTPFound(f"{self.url.replace('127.0.0.1', 'localhost')}/inward")
        query = request.query
        assert (query["type"], query["subfolder"]) == ("temp", "")
        if query["filename"] not in self.pictures:
            return web.Response(status=404)
        return web.Response(body=self.draw(*self.pictures[query["filename"]]), content_type="image/png")

    async def _upload(self, request: web.Request) -> web.Response:
        if self.upload_page:
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        post = await request.post()
        image = post["image"]
        assert isinstance(image, web.FileField)
        assert (post["type"], post["overwrite"]) == ("temp", "true")
        folder = post["subfolder"]
        assert isinstance(folder, str)
        self.uploads[f"{folder}/{image.filename}"] = image.file.read()
        return web.json_response({"name": image.filename, "subfolder": folder, "type": "temp"})

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        if self.deaf:
            return web.Response(status=404)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query["clientId"]
        client = self.clients[client_id] = Client(socket)
        status = {"exec_info": {"queue_remaining": len(self.pending)}}
        await socket.send_json({"type": "status", "data": {"status": status, "sid": client_id}})
        if self.running is not None and self.running.client == client_id:  # a node, and not whose
            await socket.send_json({"type": "executing", "data": {"node": "5"}})
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                flags = json.loads(message.data)["data"]
                client.metadata = not self.old and flags.get("supports_preview_metadata") is True
        if self.clients.get(client_id) is client:
            del self.clients[client_id]
        return socket

    # --- the work -----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self.pending:
                self.pending.sort(key=lambda prompt: prompt.number)
                prompt = self.running = self.pending.pop(0)
                await self._make(prompt)

    async def _make(self, prompt: Prompt) -> None:
        own = {"prompt_id": prompt.id}
        messages: list[Any] = [["execution_start", {**own, "timestamp": 1_000}]]
        await self._tell(prompt, "execution_start", own)
        sampler = next((key for key, node in prompt.graph.items() if node["class_type"] == "KSampler"), "1")
        steps = int(prompt.inputs("KSampler").get("steps", 2))
        await self._tell(prompt, "executing", {**own, "node": sampler})
        await self._tell(prompt, "progress", {**own, "node": sampler, "value": steps // 2, "max": steps})
        await self.show(prompt)
        if self.held:
            self.sampling.set()
            await self._free.wait()
            if self.held:
                self._free.clear()
        await self._tell(prompt, "progress", {**own, "node": sampler, "value": steps, "max": steps})
        if self.running is not prompt:
            return  # it was restarted
        outputs: dict[str, Any] = {}
        if prompt.interrupted:
            messages.append(["execution_interrupted", {**own, "timestamp": 2_000}])
        elif self.out_of_memory or self.due("job:failed"):
            failure = {"exception_type": "RuntimeError", "exception_message": STACK, "node_type": "KSampler"}
            if self.out_of_memory:
                failure["exception_type"] = "torch.OutOfMemoryError"
            messages.append(["execution_error", {**own, **failure, "timestamp": 2_000}])
        else:
            outputs = self._outputs(prompt)
            self.made.append(prompt.id)
            messages.append(["execution_success", {**own, "timestamp": 3_500}])
        good = messages[-1][0] == "execution_success"
        status = {"status_str": "success" if good else "error", "completed": good, "messages": messages}
        self.running = None
        self.history[prompt.id] = {"prompt": prompt.entry(), "outputs": outputs, "status": status}
        await self._tell(prompt, messages[-1][0], own)
        await self._tell(prompt, "executing", {**own, "node": None})

    def _outputs(self, prompt: Prompt) -> dict[str, Any]:
        outputs = {}
        for node_id, node in prompt.graph.items():
            if node["class_type"] in ("PreviewImage", "SaveImage"):
                name = f"ComfyUI_temp_{prompt.number}_{node_id}.png"
                self.pictures[name] = (*prompt.size, int(prompt.inputs("KSampler")["seed"]))
                outputs[node_id] = {"images": [{"filename": name, "subfolder": "", "type": "temp"}]}
        return outputs

    async def _tell(self, prompt: Prompt, kind: str, data: dict[str, Any]) -> None:
        """To the client whose prompt it is, as the real one."""
        client = self.clients.get(prompt.client)
        if client is not None and not client.socket.closed:
            with contextlib.suppress(ConnectionError):
                await client.socket.send_json({"type": kind, "data": data})

    async def show(self, prompt: Prompt) -> None:
        """Send a preview to whoever handed a prompt in."""
        client = self.clients.get(prompt.client)
        if client is None or client.socket.closed or "preview_method" not in prompt.extra:
            return
        picture = flat_png(64, 64, 0x00FF00)
        frame = struct.pack(">II", 1, 2) + picture
        if client.metadata:
            meta = json.dumps({"prompt_id": prompt.id, "node_id": "5", "image_type": "image/png"}).encode()
            frame = struct.pack(">II", 4, len(meta)) + meta + picture
        await client.socket.send_bytes(frame)
