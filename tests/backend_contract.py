"""The behaviour that every backend owes, as one suite: inherit BackendContract and give a `backend` fixture.

    class TestMyBackend(BackendContract):
        @pytest.fixture
        async def backend(self) -> AsyncIterator[Backend]: ...

The fixture closes what it made. `make_request` may be overridden where a backend cannot do the default one.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import ClassVar, cast

import pytest
from PIL import Image

from bot.core.errors import Cancelled, InvalidRequest, Unavailable
from bot.core.ports import (
    Backend,
    CancelOutcome,
    Done,
    Event,
    ImageReady,
    ImageRejected,
    Preview,
    Progress,
    RemoteRef,
)
from bot.core.request import MAX_SEED, ImageRequest

PATIENCE = 60.0


async def collect(stream: AsyncIterator[Event]) -> list[Event]:
    """All events of a job, within PATIENCE seconds."""
    async with asyncio.timeout(PATIENCE):
        return [event async for event in stream]


class BackendContract:
    """Inherit this; see the module. lacks: of progress, cancel and resume, what this backend cannot do, and
    says so; tests that need it are left out."""

    lacks: ClassVar[frozenset[str]] = frozenset()

    def make_request(
        self, *, count: int = 1, seed: int = 7, width: int = 64, height: int = 64
    ) -> ImageRequest:
        """A small request that the backend can do."""
        return ImageRequest(
            prompt="a red circle on a blue background",
            width=width,
            height=height,
            steps=4,
            guidance_scale=7.5,
            seed=seed,
            count=count,
        )

    async def test_events_end_with_done_and_every_picture_came_with_its_seed_and_size(
        self, backend: Backend
    ) -> None:
        request = self.make_request(count=3, seed=MAX_SEED - 1, width=128, height=64)
        events = await collect(backend.events(await backend.submit(request, job_id="j1")))
        assert isinstance(events[-1], Done)
        assert sum(isinstance(event, Done) for event in events) == 1
        assert events[-1].device_seconds >= 0
        pictures = sorted((e for e in events if isinstance(e, ImageReady)), key=lambda e: e.index)
        assert [p.index for p in pictures] == [0, 1, 2]
        assert [p.seed for p in pictures] == [MAX_SEED - 1, MAX_SEED, 0]
        for picture in pictures:
            with Image.open(io.BytesIO(picture.data)) as image:
                assert image.size == (128, 64)
                assert Image.MIME[str(image.format)] == picture.mime

    @pytest.mark.needs("progress")
    async def test_progress_rises_from_0_to_1(self, backend: Backend) -> None:
        events = await collect(backend.events(await backend.submit(self.make_request(), job_id="j1")))
        fractions = [e.fraction for e in events if isinstance(e, Progress) and not e.phase]
        assert fractions
        assert fractions == sorted(fractions)
        assert all(0 <= fraction <= 1 for fraction in fractions)

    async def test_previews_come_only_where_promised(self, backend: Backend) -> None:
        capabilities = await backend.capabilities()
        events = await collect(backend.events(await backend.submit(self.make_request(), job_id="j1")))
        previews = [e for e in events if isinstance(e, Preview)]
        assert capabilities.previews or not previews
        assert not (capabilities.checks_content and previews)
        for preview in previews:
            assert len(preview.data) <= 20_000

    async def test_the_reference_is_plain_json_and_names_the_backend(self, backend: Backend) -> None:
        ref = await backend.submit(self.make_request(), job_id="j1")
        assert ref.backend == backend.name
        copy = RemoteRef(ref.backend, json.loads(json.dumps(ref.data)))
        assert isinstance((await collect(backend.events(copy)))[-1], Done)

    async def test_a_lost_reference_is_unavailable_and_not_accepted(self, backend: Backend) -> None:
        ref = await backend.submit(self.make_request(), job_id="j1")
        lost = RemoteRef(ref.backend, dict.fromkeys(ref.data, "nobody-knows-this"))
        with pytest.raises(Unavailable) as caught:
            await collect(backend.events(lost))
        assert caught.value.accepted is False

    async def test_closing_the_iterator_only_stops_watching(self, backend: Backend) -> None:
        ref = await backend.submit(self.make_request(count=2), job_id="j1")
        stream = backend.events(ref)
        await anext(stream)
        await cast("asyncio.Future[None]", stream.aclose())  # type: ignore[attr-defined]
        events = await collect(backend.events(ref))
        assert {e.index for e in events if isinstance(e, ImageReady)} == {0, 1}
        assert isinstance(events[-1], Done)

    @pytest.mark.needs("cancel")
    async def test_cancel_ends_the_events_with_cancelled_and_is_idempotent(self, backend: Backend) -> None:
        ref = await backend.submit(self.make_request(count=4), job_id="j1")
        first = await backend.cancel(ref)
        assert first in (CancelOutcome.CANCELLED, CancelOutcome.REQUESTED)
        assert await backend.cancel(ref) in (CancelOutcome.CANCELLED, CancelOutcome.REQUESTED)
        with pytest.raises(Cancelled):
            await collect(backend.events(ref))

    async def test_cancel_after_the_end_is_too_late(self, backend: Backend) -> None:
        ref = await backend.submit(self.make_request(), job_id="j1")
        await collect(backend.events(ref))
        assert await backend.cancel(ref) in (CancelOutcome.TOO_LATE, CancelOutcome.UNSUPPORTED)

    @pytest.mark.needs("cancel")
    async def test_a_cancelled_job_leaves_its_neighbours_alone(self, backend: Backend) -> None:
        kept = await backend.submit(self.make_request(seed=1), job_id="kept")
        dropped = await backend.submit(self.make_request(seed=2), job_id="dropped")
        await backend.cancel(dropped)
        events = await collect(backend.events(kept))
        assert [e.seed for e in events if isinstance(e, ImageReady)] == [1]

    async def test_capabilities_are_truthful_about_models(self, backend: Backend) -> None:
        capabilities = await backend.capabilities()
        assert capabilities.models
        assert capabilities.slots >= 1
        assert capabilities.max_batch >= 1
        fields = set(ImageRequest.__dataclass_fields__)
        assert capabilities.params <= fields
        for model in capabilities.models:
            assert model.scheduler is None or model.scheduler in model.schedulers
            assert not set(model.schedulers) & set(model.refused_schedulers)

    async def test_it_says_what_it_lacks_and_nothing_else(self, backend: Backend) -> None:
        can = await backend.capabilities()
        said = {"progress": can.progress, "cancel": can.cancel, "resume": can.resumable}
        assert {name for name, able in said.items() if not able} == self.lacks & said.keys()

    async def test_an_unknown_model_is_refused_by_name(self, backend: Backend) -> None:
        request = self.make_request()
        odd = ImageRequest(
            request.prompt, request.width, request.height, request.steps, 7.5, 1, model="no-such-model"
        )
        with pytest.raises(InvalidRequest) as caught:
            await collect(backend.events(await backend.submit(odd, job_id="j1")))
        assert caught.value.field == "model"

    async def test_health_answers_at_once(self, backend: Backend) -> None:
        async with asyncio.timeout(1):
            health = await backend.health()
        assert health.ok or health.loading or health.detail

    async def test_it_closes_twice_and_takes_nothing_afterwards(self, backend: Backend) -> None:
        await backend.aclose()
        await backend.aclose()
        with pytest.raises(Unavailable) as caught:
            await backend.submit(self.make_request(), job_id="late")
        assert caught.value.accepted is False

    async def test_closing_leaves_no_watcher_behind(self, backend: Backend) -> None:
        ref = await backend.submit(self.make_request(count=4), job_id="j1")
        watching = asyncio.ensure_future(collect(backend.events(ref)))
        await asyncio.sleep(0)
        await backend.aclose()
        (outcome,) = await asyncio.gather(watching, return_exceptions=True)
        assert isinstance(outcome, Unavailable | list), outcome


def rejected(events: list[Event]) -> list[int]:
    """Indices of the pictures that a content check kept back."""
    return [e.index for e in events if isinstance(e, ImageRejected)]
