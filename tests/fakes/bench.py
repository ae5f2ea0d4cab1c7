"""The batch engine on a bench: requests in, everything that it said kept for a look."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image as Pillow

from backends.local.engine import BatchEngine
from backends.local.loading import load
from backends.local.opening import Job, Opening
from backends.local.rendering import Renderer
from backends.local.wire import Frame, error_of, event_of
from bot.core.errors import FairbrushError
from bot.core.ports import Done, Event, ImageReady
from bot.core.request import ImageRequest
from tests.fakes.tiny_model import SIDE

Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def open_renderer(folder: Path, *, safety_checker: bool = True) -> Renderer:
    loaded = load(Opening("folder", str(folder), "tiny", str(folder), safety_checker=safety_checker))
    return Renderer(loaded, previews=not loaded.checks_content)


def make_request(seed: int = 1, **changes: Any) -> ImageRequest:
    request = ImageRequest("a red star", SIDE, SIDE, steps=3, guidance_scale=4.0, seed=seed)
    return replace(request, **changes)


class Bench:
    """An engine and what it said. after_call: run after every model call, with the engine."""

    def __init__(self, renderer: Renderer, after_call: Callable[[BatchEngine], None] | None = None) -> None:
        self.frames: list[Frame] = []
        self.calls = 0
        self._after_call = after_call
        self.engine = BatchEngine(renderer, self.frames.append, self.poll, model_id="tiny")

    def poll(self) -> None:
        """Counts model calls."""
        self.calls += 1
        if self._after_call is not None:
            self._after_call(self.engine)

    def run(self, *requests: ImageRequest) -> None:
        """Submit as jobs "0", "1" ... and work until nothing is left."""
        for number, request in enumerate(requests):
            self.engine.submit(Job(str(number), request))
        while self.engine.step():
            pass

    def events(self, ticket: str = "0") -> list[Event]:
        return [event for f in self.frames if f.job == ticket and (event := event_of(f)) is not None]

    def kinds(self, ticket: str = "0") -> list[str]:
        return [frame.kind for frame in self.frames if frame.job == ticket]

    def error(self, ticket: str = "0") -> FairbrushError:
        return error_of(next(f for f in self.frames if f.kind == "failed" and f.job == ticket))

    def done(self, ticket: str = "0") -> Done:
        return next(event for event in self.events(ticket) if isinstance(event, Done))

    def pixels(self, ticket: str = "0") -> list[Pixels]:
        ready = [event for event in self.events(ticket) if isinstance(event, ImageReady)]
        return [pixels_of(event.data) for event in ready]


def pixels_of(data: bytes) -> Pixels:
    with Pillow.open(io.BytesIO(data)) as picture:
        return np.asarray(picture).astype(np.int64)


def made(renderer: Renderer, *requests: ImageRequest) -> list[Pixels]:
    """The first picture of each request, made together."""
    bench = Bench(renderer)
    bench.run(*requests)
    return [bench.pixels(str(number))[0] for number in range(len(requests))]


def distance(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a - b).max())
