"""The backend of Stochastic's model API, against a local server of it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from backends.stochastic import build, create
from bot.core.errors import (
    AuthFailed,
    Cancelled,
    ConfigurationError,
    ContentRejected,
    FairbrushError,
    InvalidRequest,
    Unavailable,
)
from bot.core.ports import (
    CancelOutcome,
    Done,
    Event,
    ImageReady,
    Price,
    Progress,
    Queued,
    RemoteRef,
    Taken,
)
from bot.core.settings import BackendEntry, Secret, Settings
from tests.backend_contract import collect
from tests.fakes import hosted
from tests.fakes.clock import HurriedClock
from tests.fakes.stochastic import StochasticFake
from tests.hosted_contract import HostedContract, World, as_stored, hosted_world


def settings_for(fake: StochasticFake, **options: str) -> Settings:
    """Settings with a backend on a local server."""
    return Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("stochastic", "stable-diffusion-2", options),),
        service_urls={"stochastic": fake.url},
        secrets={"STOCHASTIC_API_KEY": Secret(fake.secret)},
    )


class TestStochasticBackend(HostedContract):
    """All that is owed."""

    lacks = StochasticFake.cannot | {"progress", "cancel"}

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        """A local server and the backend on it."""
        fake, clock = StochasticFake(), HurriedClock()
        make = lambda: build("stable-diffusion-2", settings_for(fake), clock=clock.clock)  # noqa: E731
        async with hosted_world(fake, clock, make) as world:
            yield world

    async def begun_first_of(self, world: World, count: int) -> RemoteRef:
        """A request of several pictures whose first alone was handed in when the program was killed."""
        ref = await world.backend.submit(self.make_request(count=count), job_id="j1")
        stream = cast("AsyncGenerator[Event, None]", world.backend.events(ref))
        async with aclosing(stream) as events:
            first = await anext(events)
        assert isinstance(first, Taken)
        return as_stored(first.ref)

    async def test_the_body_is_the_documented_one_with_a_seed_for_each_picture(self, world: World) -> None:
        await self.run_job(world, count=2)
        fake = cast(StochasticFake, world.fake)
        params = {
            "img_height": 64,
            "img_width": 64,
            "num_inference_steps": 4,
            "guidance_scale": 7.5,
            "num_images_per_prompt": 1,
        }
        prompt = "a red circle on a blue background"
        assert fake.bodies == [{"prompt": prompt, "params": {**params, "seed": seed}} for seed in (7, 8)]

    @pytest.mark.parametrize(("position", "ahead"), [("3", 3), ("12.0", 12), (4, 4)])
    async def test_its_queue_is_shown(self, world: World, position: str, ahead: int) -> None:
        cast(StochasticFake, world.fake).position = position
        events = await self.run_job(world)
        assert Queued(ahead) in events

    @pytest.mark.parametrize("position", ["soon", "", "-1", None, "inf", "nan", [1]])
    async def test_a_queue_position_that_makes_no_sense_does_no_harm(
        self, world: World, position: str
    ) -> None:
        cast(StochasticFake, world.fake).position = position
        events = await self.run_job(world)
        assert isinstance(events[-1], Done)
        assert not any(isinstance(event, Queued) for event in events)

    async def test_a_response_url_of_another_host_never_gets_the_key(self, world: World) -> None:
        fake = cast(StochasticFake, world.fake)
        fake.other_host = fake.url.replace("127.0.0.1", "localhost")
        events = await self.run_job(world)
        assert isinstance(events[-1], Done)
        taken = next(event for event in events if isinstance(event, Taken))
        assert "localhost" not in json.dumps(taken.ref.data)

    async def test_pictures_that_were_paid_for_survive_a_restart_in_between(self, world: World) -> None:
        ref = await self.begun_first_of(world, 3)
        await world.restart()
        events = await self.watch(world, ref)
        assert [event.index for event in events if isinstance(event, ImageReady)] == [0]
        done = events[-1]
        assert isinstance(done, Done)
        assert "1 of 3 pictures were made." in done.notes[0]
        assert world.fake.taken == 1

    async def test_a_part_that_is_refused_costs_the_others_nothing(self, world: World) -> None:
        ref = await world.backend.submit(self.make_request(count=2), job_id="j1")
        stream = cast("AsyncGenerator[Event, None]", world.backend.events(ref))
        async with aclosing(stream) as running:
            events = [await anext(running)]
            world.trouble("submit:402")
            events += [event async for event in running]
        assert [event.index for event in events if isinstance(event, ImageReady)] == [0]
        done = events[-1]
        assert isinstance(done, Done)
        assert "1 of 2" in done.notes[0]
        assert "credit" in done.notes[0]

    async def test_one_lost_part_costs_the_others_nothing(self, world: World) -> None:
        world.trouble("job:lost")
        events = await self.run_job(world, count=2)
        assert [event.index for event in events if isinstance(event, ImageReady)] == [1]
        assert world.fake.taken == 2

    async def test_a_job_that_is_not_known_at_once_is_asked_for_again(self, world: World) -> None:
        world.trouble("poll:404")
        events = await self.run_job(world)
        assert sum(isinstance(event, ImageReady) for event in events) == 1
        assert world.fake.taken == 1

    async def test_a_link_that_stays_expired_leaves_no_doubt_that_it_was_made(self, world: World) -> None:
        world.trouble("link:expired", times=10)
        await self.fails(world, Unavailable, None)
        assert world.fake.taken == 1

    async def test_a_long_wait_that_the_service_asks_for_is_kept_with_signs_of_life(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted, "RETRY_AFTER", 200)
        world.trouble("poll:429", times=2)
        events = await self.run_job(world)
        assert isinstance(events[-1], Done)
        signs = [event for event in events if isinstance(event, Queued | Progress)]
        assert len(signs) >= 12
        assert max(world.clock.slept) <= 30

    async def test_a_cancel_between_two_pictures_sends_no_more(self, world: World) -> None:
        ref = await world.backend.submit(self.make_request(count=3), job_id="j1")
        stream = cast("AsyncGenerator[Event, None]", world.backend.events(ref))
        async with aclosing(stream) as running:
            await anext(running)
            assert await world.backend.cancel(ref) is CancelOutcome.UNSUPPORTED
            events = [event async for event in running]
        assert [event.index for event in events if isinstance(event, ImageReady)] == [0]
        assert world.fake.taken == 1

    async def test_trouble_makes_it_unwell_for_a_while(self, world: World) -> None:
        assert (await world.backend.capabilities()).models
        assert (await world.backend.health()).ok
        world.trouble("submit:401")
        await self.fails(world, AuthFailed, False)
        health = await world.backend.health()
        assert not health.ok
        assert world.fake.secret not in health.detail
        world.clock.ahead += 61
        assert (await world.backend.health()).ok

    async def test_a_negative_prompt_goes_out_only_where_the_operator_says_so(self, world: World) -> None:
        fake = cast(StochasticFake, world.fake)
        request = replace(self.make_request(), negative_prompt="rain")
        with pytest.raises(InvalidRequest) as caught:
            await world.backend.submit(request, job_id="j1")
        assert caught.value.field == "negative_prompt"
        assert "negative_prompt" not in (await world.backend.capabilities()).params
        willing = build("stable-diffusion-2", settings_for(fake, negative="1"), clock=world.clock.clock)
        await collect(willing.events(await willing.submit(request, job_id="j2")))
        assert "negative_prompt" in (await willing.capabilities()).params
        assert fake.bodies[-1]["params"]["negative_prompt"] == "rain"
        await willing.aclose()

    async def test_what_it_costs_is_what_the_operator_said(self, world: World) -> None:
        done = (await self.run_job(world))[-1]
        assert isinstance(done, Done)
        assert done.money is None
        fake = cast(StochasticFake, world.fake)
        paid = build("stable-diffusion-2", settings_for(fake, price="0.02"), clock=world.clock.clock)
        request = self.make_request(count=3)
        done = (await collect(paid.events(await paid.submit(request, job_id="j2"))))[-1]
        assert isinstance(done, Done)
        assert done.money == pytest.approx(0.06)
        assert (await paid.capabilities()).models[0].price == Price(per_image=0.02)
        await paid.aclose()

    @pytest.mark.parametrize(
        ("ending", "kind"), [("withheld", ContentRejected), ("failed", Unavailable), ("cancelled", Cancelled)]
    )
    async def test_an_end_that_the_service_explains_is_told(
        self, world: World, ending: str, kind: type[FairbrushError]
    ) -> None:
        cast(StochasticFake, world.fake).ending = ending
        error = await self.fails(world, kind, True)
        assert ("This is how it ended." in error.message) is (ending != "cancelled")

    async def test_a_model_that_the_service_does_not_have_is_told_as_such(self, world: World) -> None:
        cast(StochasticFake, world.fake).model = "another"
        error = await self.fails(world, InvalidRequest, False)
        assert error.field == "model"


@pytest.mark.parametrize(
    ("target", "options", "key", "says"),
    [
        ("stable-diffusion-2", {"price": "0.01"}, "", "STOCHASTIC_API_KEY"),
        ("stable-diffusion-2", {}, "k", ";price="),
        ("stable-diffusion-2", {"price": "cheap"}, "k", "price=cheap"),
        ("stable-diffusion-2", {"price": "0", "prize": "1"}, "k", 'no option "prize"'),
        ("../admin", {"price": "0"}, "k", "stochastic:stable-diffusion-2"),
    ],
)
def test_a_setting_that_is_missing_is_named(
    target: str, options: dict[str, str], key: str, says: str
) -> None:
    settings = Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("stochastic", target, options),),
        secrets={"STOCHASTIC_API_KEY": Secret(key)},
    )
    with pytest.raises(ConfigurationError) as caught:
        create(target, settings)
    assert says in caught.value.message


async def test_both_documented_hosts_get_the_key_and_no_other() -> None:
    settings = Settings(
        data_dir=Path("unused"),
        backends=(BackendEntry("stochastic", "stable-diffusion-2", {"price": "0"}),),
        secrets={"STOCHASTIC_API_KEY": Secret("canary")},
    )
    backend = build("stable-diffusion-2", settings)
    own = backend.http.is_own
    assert own("https://api.stochastic.ai/v1/modelApi/inference/7")
    assert own("https://api-dev.stochastic.ai/v1/modelApi/inference/7")
    for other in (
        "http://api.stochastic.ai/",
        "https://api.stochastic.ai.evil.example/",
        "https://s3.example/",
    ):
        assert not own(other)
    elsewhere = replace(settings, service_urls={"stochastic": "http://127.0.0.1:9"})
    there = build("stable-diffusion-2", elsewhere)
    assert not there.http.is_own("https://api.stochastic.ai/")
    await backend.aclose()
    await there.aclose()
