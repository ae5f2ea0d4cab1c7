"""A local server of OpenAI's images API as it is documented; HostedFake, with more ways to misbehave:

    fake.calls                              # Call(path, fields, headers, files), in order; models: MODELS
    fake.refuse(400, "moderation_blocked")  # the next call; more={...}: further members of the error
    fake.links = True                       # data[].url in place of base64
    fake.dropped                            # connections that were closed while they were held
    fake.broken_after = 1                   # events of a stream, after which the connection ends
    fake.stream_error = {"code": ...}       # sent in place of the completed event
    fake.abrupt = True                      # streams lack the blank line behind their last event
    fake.spoilt = {0}                       # pictures of each answer that are none

A prompt with "forbidden" is refused by its content check. lenient=True: another server, which takes any
model, size and field (`seed`, `steps` ...), as stable-diffusion.cpp and LocalAI do.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web

from tests.fakes.hosted import HostedFake

THREE = ("1024x1024", "1536x1024", "1024x1536", "auto")
MODELS: Mapping[str, Mapping[str, Any]] = {
    "gpt-image-2": {"gpt": True, "sizes": None, "n": 10},
    "gpt-image-1.5": {"gpt": True, "sizes": THREE, "n": 10},
    "gpt-image-1-mini": {"gpt": True, "sizes": THREE, "n": 10},
    "dall-e-3": {"gpt": False, "sizes": ("1024x1024", "1792x1024", "1024x1792"), "n": 1},
    "dall-e-2": {"gpt": False, "sizes": ("256x256", "512x512", "1024x1024"), "n": 10},
}
_FIELDS = {"model", "prompt", "n", "size", "quality", "user"}
_GPT_FIELDS = _FIELDS | {
    *("background", "moderation", "output_compression", "output_format", "partial_images", "stream"),
    *("input_fidelity", "safety_identifier"),
}
_DALL_E_FIELDS = _FIELDS | {"response_format", "style"}
TOKENS = {"input_tokens": 50, "output_tokens": 1000, "total_tokens": 1050}


class Refusal(Exception):
    """An error as OpenAI sends it."""

    def __init__(self, status: int, code: str | None, message: str, param: str | None = None) -> None:
        super().__init__(message)
        kind = "image_generation_user_error" if code == "moderation_blocked" else "invalid_request_error"
        self.status = status
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }


@dataclass(slots=True)
class Call:
    """One request. fields: of the JSON body or the form; files: of the form."""

    path: str
    fields: dict[str, Any]
    headers: Mapping[str, str]
    files: dict[str, bytes] = field(default_factory=dict)


NO_LINKS = frozenset({"link:http", "link:inward", "link:redirect"})


class FakeOpenAI(HostedFake):
    """See the module."""

    cannot = frozenset(
        {
            *(f"poll:{what}" for what in ("429", "500", "html", "truncated", "drop")),
            *("job:failed", "job:lost", "cancel:late", "link:expired"),
        }
    )

    def __init__(self, *, lenient: bool = False, links: bool = False) -> None:
        super().__init__()
        self.lenient = lenient
        self.links = links
        if not links:
            self.cannot = self.cannot | NO_LINKS
        self.calls: list[Call] = []
        self.asked = 0  # GET /v1/models
        self.dropped = 0
        self.usage: Mapping[str, Any] | None = TOKENS
        self.revised_prompt = ""
        self.fewer = 0  # pictures that are missing in each answer
        self.broken_after: int | None = None
        self.stream_error: Mapping[str, Any] | None = None
        self.abrupt = False
        self.extra_event: Mapping[str, Any] | None = None  # before the others of a stream
        self.uncounted = 0  # streams to end without usage
        self.spoilt: set[int] = set()
        self._refusals: deque[tuple[int, dict[str, Any]]] = deque()

    def refuse(
        self, status: int, code: str | None, message: str = "No.", *, param: str | None = None, **more: Any
    ) -> None:
        """Refuse the next call with an error of OpenAI's."""
        body = Refusal(status, code, message, param).body
        body["error"] = {**body["error"], **more}
        self._refusals.append((status, body))

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Generations, edits and the list of models."""
        return [
            web.get("/v1/models", self._models),
            web.post("/v1/images/generations", self._images),
            web.post("/v1/images/edits", self._images),
        ]

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        try:
            self._check_key(request)
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "openai"} for name in MODELS]
        return web.json_response({"object": "list", "data": data})

    async def _images(self, request: web.Request) -> web.StreamResponse:
        if (spoilt := await self.spoil(request, "submit")) is not None:
            return spoilt
        call = await _read(request)
        self.calls.append(call)
        if self._refusals:
            status, body = self._refusals.popleft()
            return web.json_response(body, status=status)
        try:
            self._check_key(request)
            self._check(call)
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        self.taken += 1
        await self._wait(request)
        return await self._stream(request, call) if call.fields.get("stream") else self._whole(call)

    async def _wait(self, request: web.Request) -> None:
        while self.held:
            if request.transport is None or request.transport.is_closing():
                self.dropped += 1
                raise ConnectionResetError
            await asyncio.sleep(0.005)

    def _whole(self, call: Call) -> web.StreamResponse:
        count = int(call.fields.get("n", 1)) - self.fewer
        body: dict[str, Any] = {"created": 1, "data": [self._item(call, index) for index in range(count)]}
        if self._is_gpt(call):
            body |= {"background": "opaque", "output_format": "png", "quality": "medium"}
            body["size"] = call.fields.get("size", "1024x1024")
            if self.usage is not None:
                body["usage"] = _usage(self.usage, count)
        return web.json_response(body)

    async def _stream(self, request: web.Request, call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        kind = "image_edit" if call.path.endswith("edits") else "image_generation"
        shared = {"created_at": 1, "background": "opaque", "output_format": "png", "quality": "medium"}
        shared["size"] = call.fields.get("size", "1024x1024")
        events: list[dict[str, Any]] = [
            {"type": f"{kind}.partial_image", "partial_image_index": index, **shared}
            | {"b64_json": self._base64(call, index)}
            for index in range(int(call.fields.get("partial_images", 0)))
        ]
        events.append(
            {"type": "error", "error": dict(self.stream_error)}
            if self.stream_error is not None
            else {"type": f"{kind}.completed", "b64_json": self._base64(call, 0), **shared}
            | {"usage": _usage(self.usage or TOKENS, 1)}
        )
        if self.extra_event is not None:
            events.insert(0, dict(self.extra_event))
        if self.uncounted:
            self.uncounted -= 1
            del events[-1]["usage"]
        for number, event in enumerate(events):
            if number == self.broken_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            end = "" if self.abrupt and event is events[-1] else "\n\n"
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}{end}".encode())
        return response

    # --- what is said ---

    def _item(self, call: Call, index: int) -> dict[str, Any]:
        wants = call.fields.get("response_format", "b64_json" if self._is_gpt(call) else "url")
        item: dict[str, Any] = {"revised_prompt": self.revised_prompt} if self.revised_prompt else {}
        if index in self.spoilt:
            return item | {"b64_json": "PHN2Zz48L3N2Zz4="}
        if self.links or (wants == "url" and not self.lenient):
            data = base64.b64decode(self._base64(call, index))
            return item | {"url": self.link(f"{len(self.calls)}-{index}.png", data)}
        return item | {"b64_json": self._base64(call, index)}

    def _base64(self, call: Call, index: int) -> str:
        size = call.fields.get("size", "1024x1024")
        width, height = (int(side) for side in ("1024x1024" if size == "auto" else size).split("x"))
        seed = int(call.fields.get("seed", 0)) + index
        return base64.b64encode(self.draw(width, height, seed)).decode()

    def _is_gpt(self, call: Call) -> bool:
        return bool(MODELS.get(str(call.fields.get("model")), {}).get("gpt"))

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if given != f"Bearer {self.secret}":
            raise Refusal(401, "invalid_api_key", f"Incorrect API key provided: {given[7:]}.")

    def _check(self, call: Call) -> None:
        if "forbidden" in str(call.fields.get("prompt")):
            raise Refusal(
                400,
                "moderation_blocked",
                "Your request was rejected by the safety system. safety_violations=[violence].",
            )
        if self.lenient:
            return
        model = MODELS.get(str(call.fields.get("model")))
        if model is None:
            name = call.fields.get("model")
            raise Refusal(404, "model_not_found", f"The model '{name}' does not exist.", "model")
        for name in call.fields:
            if name not in (_GPT_FIELDS if model["gpt"] else _DALL_E_FIELDS):
                raise Refusal(400, "unknown_parameter", f"Unknown parameter: '{name}'.", name)
        _check_size(str(call.fields.get("size", "1024x1024")), model["sizes"])
        if not 1 <= int(call.fields.get("n", 1)) <= model["n"]:
            raise Refusal(400, "invalid_value", "Invalid 'n'.", "n")
        if call.fields.get("stream") and int(call.fields.get("n", 1)) > 1:
            raise Refusal(400, "invalid_value", "Streaming takes n=1.", "n")


def _check_size(size: str, sizes: tuple[str, ...] | None) -> None:
    if sizes is not None:
        if size not in sizes:
            raise Refusal(400, "invalid_value", f"Invalid value: '{size}'.", "size")
        return
    width, height = (int(side) for side in size.split("x"))
    fits = width % 16 == height % 16 == 0 and max(width, height) <= min(3840, 3 * min(width, height))
    if not fits or not 655_360 <= width * height <= 8_294_400:
        raise Refusal(400, "invalid_value", f"Invalid size '{size}'.", "size")


def _usage(tokens: Mapping[str, Any], count: int) -> dict[str, Any]:
    return {
        **tokens,
        "output_tokens": tokens["output_tokens"] * count,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": tokens["input_tokens"]},
    }


async def _read(request: web.Request) -> Call:
    if not request.content_type.startswith("multipart/"):
        return Call(request.path, await request.json(), request.headers)
    call = Call(request.path, {}, request.headers)
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        name, data = str(part.name), bytes(await part.read())
        if part.filename:
            call.files[name] = data
        else:
            call.fields[name] = json.loads(data) if name in ("stream", "n") else data.decode()
    return call
