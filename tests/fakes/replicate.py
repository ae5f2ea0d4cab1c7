"""A local Replicate, as its documentation shows it: models with their schemas, and predictions."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.fakes.hosted import STACK, HostedFake

SIZED: dict[str, Any] = {
    "prompt": {"type": "string", "x-order": 0},
    "negative_prompt": {"type": "string", "default": ""},
    "width": {"type": "integer", "default": 768, "minimum": 64, "maximum": 1440},
    "height": {"type": "integer", "default": 768, "minimum": 64, "maximum": 1440},
    "num_inference_steps": {"type": "integer", "default": 28, "minimum": 1, "maximum": 50},
    "guidance": {"type": "number", "default": 3.5, "minimum": 0, "maximum": 10},
    "seed": {"type": "integer"},
    "image": {"type": "string", "format": "uri"},
    "prompt_strength": {"type": "number", "default": 0.8},
    "num_outputs": {"type": "integer", "default": 1},
    "output_format": {"enum": ["webp", "jpg", "png"], "default": "webp"},
    "disable_safety_checker": {"type": "boolean", "default": False},
}
SHAPED: dict[str, Any] = {
    "prompt": {"type": "string"},
    "seed": {"type": "integer"},
    "aspect_ratio": {"allOf": [{"$ref": "#/components/schemas/aspect_ratio"}], "default": "1:1"},
}
RATIOS = ["1:1", "16:9", "9:16", "2:1"]


@dataclass
class Prediction:
    """A prediction; looked: how often it was asked for."""

    model: str
    inputs: dict[str, Any]
    looked: int = 0
    cancelled: bool = False


class ReplicateFake(HostedFake):
    """See the module. properties: the inputs of its one model; polls: looks until a prediction is done; lone:
    the output is one link, not a list; inline: it is a data URL; error: what it fails with."""

    def __init__(self, *, polls: int = 3) -> None:
        super().__init__()
        self.properties = SIZED
        self.polls = polls
        self.lone = False
        self.inline = False
        self.error = ""
        self.predictions: dict[str, Prediction] = {}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Models, versions, predictions."""
        return [
            web.get("/v1/models/{owner}/{name}", self._model),
            web.get("/v1/models/{owner}/{name}/versions/{version}", self._version),
            web.post("/v1/models/{owner}/{name}/predictions", self._predict),
            web.post("/v1/predictions", self._predict),
            web.get("/v1/predictions/{id}", self._get),
            web.post("/v1/predictions/{id}/cancel", self._cancel),
        ]

    def _known(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.secret}"

    def _document(self) -> dict[str, Any]:
        schemas = {"Input": {"properties": self.properties}, "aspect_ratio": {"enum": RATIOS}}
        return {"openapi": "3.0.2", "components": {"schemas": schemas}}

    async def _model(self, request: web.Request) -> web.StreamResponse:
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        version = {"id": "0" * 64, "openapi_schema": self._document()}
        return web.json_response({"url": f"https://replicate.com/{name}", "latest_version": version})

    async def _version(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"id": request.match_info["version"], "openapi_schema": self._document()})

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        spoilt = await self.spoil(request, "submit")
        if spoilt is not None:
            return spoilt
        if not self._known(request):
            return web.json_response({"title": "Unauthenticated", "detail": "No."}, status=401)
        body = await request.json()
        unknown = set(body["input"]) - set(self.properties)
        if unknown:
            return web.json_response({"title": "Input validation failed", "detail": f"{unknown}"}, status=422)
        where = request.match_info
        model = f"{where['owner']}/{where['name']}" if "owner" in where else f"version {body['version']}"
        prediction_id = secrets.token_hex(13)
        self.predictions[prediction_id] = Prediction(model, body["input"])
        self.taken += 1
        return web.json_response(self._view(prediction_id, "starting"), status=201)

    def _view(self, prediction_id: str, status: str, **more: Any) -> dict[str, Any]:
        prediction = self.predictions[prediction_id]
        url = f"{self.url}/v1/predictions/{prediction_id}"
        view = {"id": prediction_id, "model": prediction.model, "input": prediction.inputs, "status": status}
        return {**view, "error": None, "logs": "", "urls": {"get": url, "cancel": f"{url}/cancel"}, **more}

    async def _get(self, request: web.Request) -> web.StreamResponse:
        spoilt = await self.spoil(request, "poll")
        if spoilt is not None:
            return spoilt
        if not self._known(request):
            self.wrong.append(f"{request.path} without the key")
        if self.due("job:lost"):
            self.predictions.clear()
        prediction_id = request.match_info["id"]
        prediction = self.predictions.get(prediction_id)
        if prediction is None:
            return web.json_response({"detail": "Not found"}, status=404)
        if not self.held:
            prediction.looked += 1
        if prediction.cancelled:
            return web.json_response(self._view(prediction_id, "canceled"))
        if prediction.looked < self.polls:
            logs = f"Using seed: 1\n {40 * prediction.looked}%|####      | 4/10 [00:01<00:02]"
            status = "processing" if prediction.looked else "starting"
            return web.json_response(self._view(prediction_id, status, logs=logs))
        if self.error or self.due("job:failed"):
            return web.json_response(self._view(prediction_id, "failed", error=self.error or STACK))
        return web.json_response(
            self._view(prediction_id, "succeeded", **self._made(prediction_id, prediction))
        )

    def _made(self, prediction_id: str, prediction: Prediction) -> dict[str, Any]:
        inputs = prediction.inputs
        data = self.draw(inputs.get("width", 64), inputs.get("height", 64), inputs["seed"])
        link = self.link(f"{prediction_id}.png", data)
        if self.inline:
            link = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        return {"output": link if self.lone else [link], "metrics": {"predict_time": 2.5}}

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        prediction_id = request.match_info["id"]
        prediction = self.predictions[prediction_id]
        if self.due("cancel:late") or prediction.looked >= self.polls:
            return web.json_response(self._view(prediction_id, "succeeded"))
        prediction.cancelled = True
        return web.json_response(self._view(prediction_id, "canceled"))
