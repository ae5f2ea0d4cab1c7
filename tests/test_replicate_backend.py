"""The backend of Replicate's predictions, against a local server of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends._replicate_schema import nearest_ratio, read_schema
from backends.replicate import build
from bot.core.errors import ConfigurationError, ContentRejected, InvalidRequest, Unavailable
from bot.core.ports import Done, ImageReady, Progress
from bot.core.request import JSON, Image
from bot.core.settings import BackendEntry, Secret, Settings
from tests.backend_contract import collect
from tests.fakes.backend import flat_png
from tests.fakes.clock import HurriedClock
from tests.fakes.replicate import SHAPED, ReplicateFake
from tests.hosted_contract import HostedContract, World, hosted_world

MODEL = "black-forest-labs/flux-dev"
VERSION = f"acme/painter:{'a1' * 32}"


def settings_for(fake: ReplicateFake | None, target: str = MODEL, key: str = "", **options: str) -> Settings:
    """Settings with a backend on a local server."""
    return Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("replicate", target, options),),
        service_urls={"replicate": fake.url} if fake else {},
        secrets={"REPLICATE_API_TOKEN": Secret(fake.secret if fake else key)},
    )


class TestReplicateBackend(HostedContract):
    """All that is owed, and what is Replicate's own."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        """A local server and the backend on it."""
        fake, clock = ReplicateFake(), HurriedClock()
        async with hosted_world(
            fake, clock, lambda: build(MODEL, settings_for(fake), clock=clock.clock)
        ) as world:
            yield world

    @pytest.fixture
    def replicate(self, world: World) -> ReplicateFake:
        """The server."""
        assert isinstance(world.fake, ReplicateFake)
        return world.fake

    async def test_inputs_have_the_names_of_the_models_own_schema(
        self, world: World, replicate: ReplicateFake
    ) -> None:
        request = replace(self.make_request(seed=5, width=1024, height=512), guidance_scale=2.5)
        events = await collect(world.backend.events(await world.backend.submit(request, job_id="j")))
        ((model, inputs),) = [(one.model, one.inputs) for one in replicate.predictions.values()]
        assert model == MODEL
        assert inputs == {
            "prompt": request.prompt,
            "num_inference_steps": 4,
            "guidance": 2.5,
            "seed": 5,
            "width": 1024,
            "height": 512,
            "num_outputs": 1,
            "output_format": "png",
            "disable_safety_checker": False,
        }
        done = events[-1]
        assert isinstance(done, Done)
        assert done.device_seconds == 2.5
        assert done.money == pytest.approx(0.025)
        assert 0.4 in [event.fraction for event in events if isinstance(event, Progress)]

    async def test_a_picture_to_start_from_is_sent_inside(
        self, world: World, replicate: ReplicateFake
    ) -> None:
        start = Image(flat_png(64, 64, 3), "image/png", 64, 64)
        request = replace(self.make_request(), init_image=start, strength=0.4)
        await collect(world.backend.events(await world.backend.submit(request, job_id="j")))
        (prediction,) = replicate.predictions.values()
        assert prediction.inputs["image"].startswith("data:image/png;base64,")
        assert prediction.inputs["prompt_strength"] == 0.4

    async def test_what_is_out_of_the_models_range_is_refused_unsent(self, world: World) -> None:
        await world.backend.capabilities()
        usual = self.make_request()
        for request, field in ((replace(usual, steps=51), "steps"), (replace(usual, width=2048), "width")):
            with pytest.raises(InvalidRequest) as caught:
                await world.backend.submit(request, job_id="j")
            assert caught.value.field == field
        assert world.fake.attempts == 0

    async def test_a_refusal_by_content_is_told_as_such(self, world: World, replicate: ReplicateFake) -> None:
        replicate.error = "NSFW content detected. Try running it again, or try a different prompt."
        with pytest.raises(ContentRejected):
            await self.run_job(world)

    async def test_one_link_and_one_data_url_are_pictures_too(
        self, world: World, replicate: ReplicateFake
    ) -> None:
        replicate.lone = replicate.inline = True
        assert any(isinstance(event, ImageReady) for event in await self.run_job(world))

    async def test_what_fails_before_the_prediction_is_sent_leaves_no_doubt(
        self, world: World, replicate: ReplicateFake
    ) -> None:
        backend = build(MODEL, settings_for(replicate), clock=world.clock.clock)
        await replicate.stop()
        ref = await backend.submit(self.make_request(), job_id="j")
        with pytest.raises(Unavailable) as caught:
            await collect(backend.events(ref))
        await backend.aclose()
        assert caught.value.accepted is False

    async def test_a_version_of_a_community_model_is_run_by_its_id(
        self, world: World, replicate: ReplicateFake
    ) -> None:
        settings = settings_for(replicate, VERSION, price_per_second="0.001")
        backend = build(VERSION, settings, clock=world.clock.clock)
        try:
            events = await collect(backend.events(await backend.submit(self.make_request(), job_id="j")))
        finally:
            await backend.aclose()
        ((_, prediction),) = replicate.predictions.items()
        assert prediction.model == f"version {'a1' * 32}"
        assert isinstance(events[-1], Done)
        assert events[-1].money == pytest.approx(0.0025)

    async def test_a_model_that_knows_shapes_alone_gets_the_nearest(
        self, world: World, replicate: ReplicateFake
    ) -> None:
        replicate.properties = SHAPED
        backend = await world.restart()
        assert (await backend.capabilities()).params == {"seed"}
        request = self.make_request(width=128, height=64)
        events = await collect(backend.events(await backend.submit(request, job_id="j")))
        (prediction,) = replicate.predictions.values()
        assert prediction.inputs == {"prompt": request.prompt, "seed": 7, "aspect_ratio": "2:1"}
        assert any(isinstance(event, ImageReady) for event in events)


@pytest.mark.parametrize(
    "document", [None, [], {"components": 3}, {"components": {"schemas": {"Input": []}}}]
)
def test_a_schema_that_cannot_be_read_has_no_inputs(document: JSON) -> None:
    assert read_schema(document).names == frozenset()


@pytest.mark.parametrize(("wanted", "nearest"), [(1.0, "1:1"), (1.7, "16:9"), (0.2, "9:16"), (2.1, "2:1")])
def test_the_nearest_shape_is_chosen(wanted: float, nearest: str) -> None:
    assert nearest_ratio(["match_input_image", "1:1", "16:9", "9:16", "2:1"], wanted) == nearest


@pytest.mark.parametrize(
    ("target", "key", "options", "names"),
    [
        (MODEL, "", {}, "REPLICATE_API_TOKEN"),
        ("acme/painter", "k" * 9, {}, ";price="),
        ("painter", "k" * 9, {}, "OWNER/MODEL"),
        (f"acme/painter:{'x' * 64}", "k" * 9, {}, "VERSION"),
        (MODEL, "k" * 9, {"prise": "1"}, "prise"),
    ],
)
def test_a_wrong_entry_is_told_with_the_way_out(
    target: str, key: str, options: dict[str, str], names: str
) -> None:
    with pytest.raises(ConfigurationError, match=names):
        build(target, settings_for(None, target, key, **options))
