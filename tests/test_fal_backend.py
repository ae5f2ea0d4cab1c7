"""The backend of fal's queue, against a local server of it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends.fal import build
from bot.core.errors import ConfigurationError, ContentRejected, InvalidRequest, Unavailable
from bot.core.ports import Done, ImageReady, ImageRejected, Queued
from bot.core.request import Image
from bot.core.settings import BackendEntry, Secret, Settings
from tests.backend_contract import collect
from tests.fakes.backend import flat_png
from tests.fakes.clock import HurriedClock
from tests.fakes.fal import FalFake
from tests.hosted_contract import HostedContract, World, hosted_world

MODEL = "fal-ai/flux/dev"


def settings_for(fake: FalFake | None, model: str = MODEL, key: str = "", **options: str) -> Settings:
    """Settings with a backend on a local server."""
    return Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("fal", model, options),),
        service_urls={"fal": fake.url} if fake else {},
        secrets={"FAL_KEY": Secret(fake.secret if fake else key)},
    )


class TestFalBackend(HostedContract):
    """All that is owed, and what is fal's own."""

    lacks = frozenset({"progress"})

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        """A local server and the backend on it."""
        fake, clock = FalFake(), HurriedClock()
        async with hosted_world(
            fake, clock, lambda: build(MODEL, settings_for(fake), clock=clock.clock)
        ) as world:
            yield world

    @pytest.fixture
    def fal(self, world: World) -> FalFake:
        """The server."""
        assert isinstance(world.fake, FalFake)
        return world.fake

    async def test_the_request_is_sent_whole_and_its_price_is_told(self, world: World, fal: FalFake) -> None:
        request = replace(self.make_request(seed=5, width=1024, height=512), steps=9, guidance_scale=2.5)
        events = await collect(world.backend.events(await world.backend.submit(request, job_id="j")))
        ((path, body),) = [(job.path, job.body) for job in fal.jobs.values()]
        assert path == MODEL
        assert body == {
            "prompt": request.prompt,
            "image_size": {"width": 1024, "height": 512},
            "seed": 5,
            "num_images": 1,
            "num_inference_steps": 9,
            "guidance_scale": 2.5,
            "enable_safety_checker": True,
            "output_format": "png",
        }
        done = events[-1]
        assert isinstance(done, Done)
        assert done.device_seconds == 1.5
        assert done.money == pytest.approx(0.0125)

    async def test_the_place_in_the_queue_is_passed_on(self, world: World) -> None:
        events = await self.run_job(world)
        assert [event.ahead for event in events if isinstance(event, Queued)] == [1]

    async def test_a_picture_to_start_from_goes_to_the_form_that_takes_one(
        self, world: World, fal: FalFake
    ) -> None:
        start = Image(flat_png(64, 64, 3), "image/png", 64, 64)
        request = replace(self.make_request(), init_image=start, strength=0.4)
        await collect(world.backend.events(await world.backend.submit(request, job_id="j")))
        (job,) = fal.jobs.values()
        assert job.path == "fal-ai/flux/dev/image-to-image"
        assert job.body["image_url"] == f"data:image/png;base64,{base64.b64encode(start.data).decode()}"
        assert job.body["strength"] == 0.4

    async def test_what_the_model_has_no_word_for_is_refused_unsent(self, world: World) -> None:
        for changes in ({"negative_prompt": "blurry"}, {"mask_image": Image(b"", "image/png", 64, 64)}):
            with pytest.raises(InvalidRequest) as caught:
                await world.backend.submit(replace(self.make_request(), **changes), job_id="j")
            assert caught.value.field == next(iter(changes))
        assert world.fake.attempts == 0

    async def test_a_flagged_picture_is_kept_back(self, world: World, fal: FalFake) -> None:
        fal.flagged = True
        events = await self.run_job(world)
        assert [type(event) for event in events if isinstance(event, ImageReady | ImageRejected)] == [
            ImageRejected
        ]

    async def test_a_picture_inside_the_answer_is_taken_too(self, world: World, fal: FalFake) -> None:
        fal.inline = True
        assert any(isinstance(event, ImageReady) for event in await self.run_job(world))

    async def test_a_refusal_by_content_is_told_as_such(self, world: World, fal: FalFake) -> None:
        fal.refusal = [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}]
        with pytest.raises(ContentRejected):
            await self.run_job(world)

    async def test_a_refused_field_is_told_in_its_own_words(self, world: World, fal: FalFake) -> None:
        fal.refusal = [{"loc": ["body", "prompt"], "msg": "prompt is too long", "type": "value_error"}]
        with pytest.raises(InvalidRequest, match="prompt is too long"):
            await self.run_job(world)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(503, "runner_disconnected"), (504, "request_timeout"), (499, "client_cancelled")],
    )
    async def test_a_machine_that_broke_is_told_at_once(
        self, world: World, fal: FalFake, status: int, kind: str
    ) -> None:
        fal.broken = (status, kind)
        assert "refuses" not in (await self.fails(world, Unavailable, True)).message
        assert not [seconds for seconds in world.clock.slept if seconds > 10]

    async def test_a_gateway_in_trouble_says_nothing_of_the_job(self, world: World, fal: FalFake) -> None:
        fal.broken = (503, "")
        await self.fails(world, Unavailable, None)


@pytest.mark.parametrize(
    ("model", "key", "options", "names"),
    [
        ("fal-ai/flux/dev", "", {}, "FAL_KEY"),
        ("fal-ai/unheard-of", "k" * 9, {}, ";price="),
        ("not a model", "k" * 9, {}, "fal:fal-ai/flux/schnell"),
        ("fal-ai/flux/dev", "k" * 9, {"size": "big"}, "size=1024x1024"),
        ("fal-ai/flux/dev", "k" * 9, {"size": "00x00"}, "size=1024x1024"),
        ("fal-ai/flux/dev", "k" * 9, {"prise": "1"}, "prise"),
    ],
)
def test_a_wrong_entry_is_told_with_the_way_out(
    model: str, key: str, options: dict[str, str], names: str
) -> None:
    with pytest.raises(ConfigurationError, match=names):
        build(model, settings_for(None, model, key, **options))
