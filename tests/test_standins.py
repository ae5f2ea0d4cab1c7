"""A model that stands in for another: where a line overflows to, what it is given, and that all is told."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.fal import build
from bot import doctor as doctors
from bot.config import parse_backends
from bot.core.errors import InvalidRequest, Unavailable
from bot.core.ports import Health, Model, RemoteRef
from bot.core.request import ImageRequest, ImageResult, Limits, Requester, State
from bot.core.settings import BackendEntry, Secret, Settings
from bot.core.standins import Swap, apart, swap
from bot.core.studio import Submission
from bot.store.sqlite import open_store
from tests.fakes.backend import FAKE_MODEL, PARAMS, FakeBackend, Hold
from tests.fakes.clock import HurriedClock
from tests.fakes.fal import FalFake
from tests.fakes.house import House, house
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.paid import OTHER_MODEL, PRICE, flux, hosted, lane_of, local, paid, spent
from tests.hosted_contract import as_stored

ANN = Requester("notebook", "g1", "ann")
FLUX = replace(
    OTHER_MODEL,
    title="Flux",
    steps=9,
    guidance_scale=3.5,
    scheduler=None,
    schedulers=(),
    licence="FLUX licence",
    commercial=False,
)
PLAIN = frozenset({"steps", "guidance_scale", "seed"})
LONG = "Made by Flux instead of Flat colours: the wait would have been long."
LONG_AT_FAL = "Made by flux/schnell instead of sd-turbo: the wait would have been long."
LICENCE = "FLUX licence: not for commercial use."
AS = {"as": "fake", "after": "30s", "cap": "9"}


def hired(**options: Any) -> FakeBackend:
    """A hosted one that has another model, with another best, and takes no more than fal does."""
    return flux(**{"models": (FLUX,), "params": PLAIN, "slots": 4, **options})


def together(folder: Path, *backends: FakeBackend, store: MemoryStore | None = None, **more: str) -> Any:
    """A house where the hosted one stands in; more: options of its entry."""
    return hosted(folder, *backends, store=store, options={"fal:flux": {**AS, **more}})


async def busy(home: House, free: FakeBackend) -> Hold:
    """Something is in the way where it is free of charge."""
    hold = free.hold("start")
    await home.ask("in the way", user="bob", key="bob")
    await home.until(hold.reached.is_set)
    return hold


async def shown(home: House, key: str) -> ImageResult:
    """What a page was shown in the end."""
    page = home.page(key)
    await home.until_passing(lambda: bool(page.delivered), step=0.5)
    home.check()
    return page.delivered[0]


def given(backend: FakeBackend) -> ImageRequest:
    """The only request that it was given."""
    ((_, request),) = backend.submitted
    return request


# --- where to ---------------------------------------------------------------------------------------------


async def test_a_long_line_overflows_to_another_model_after_a_while_and_not_before(tmp_path: Path) -> None:
    free, other = local(), hired()
    async with together(tmp_path, free, other) as home:
        hold = await busy(home, free)
        ticket = await home.ask("a flat colour", key="k")
        assert not any("$" in each for each in ticket.differences)
        await home.clock.advance(28.0)
        assert other.submitted == []
        await home.clock.advance(5.0)
        assert len(other.submitted) == 1
        result = await shown(home, "k")
        assert (result.state, result.backend, result.model) == (State.DONE, "fal:flux", "flux")
        assert (result.money, await spent(home)) == (PRICE, PRICE)
        hold.release()


async def test_without_the_option_it_never_does(tmp_path: Path) -> None:
    free, other = local(), hired()
    async with hosted(tmp_path, free, other, options={"fal:flux": {"after": "30s"}}) as home:
        hold = await busy(home, free)
        await home.ask("a flat colour", key="k")
        await home.clock.advance(90.0)
        assert other.submitted == []
        hold.release()


async def test_caps_hold_for_stand_ins(tmp_path: Path) -> None:
    free, other = local(), hired()
    async with together(tmp_path, free, other, cap="0.05", after="0s") as home:
        hold = await busy(home, free)
        for number in range(3):
            await home.ask("a flat colour", user=f"u{number}", key=f"k{number}")
        await home.until_passing(lambda: bool(other.submitted))
        await home.clock.advance(100.0)
        assert (len(other.submitted), await spent(home)) == (1, PRICE)
        hold.release()
        for number in range(3):
            assert (await shown(home, f"k{number}")).state is State.DONE


async def test_one_that_costs_nothing_shares_the_work_and_comes_second(tmp_path: Path) -> None:
    free = local()
    other = FakeBackend("a1111:x", models=(replace(FLUX, price=None),), slots=2)
    options = {"a1111:x": {"as": "fake"}}
    async with hosted(tmp_path, other, free, options=options) as home:
        await home.ask("a flat colour --model fake", key="first")
        assert (await shown(home, "first")).backend == "local:"
        hold = free.hold("start")
        await home.ask("in the way --model fake", user="bob", key="bob")
        await home.until(hold.reached.is_set)
        await home.ask("a flat colour --model fake", key="k")
        result = await shown(home, "k")
        assert (result.backend, result.money) == ("a1111:x", None)
        assert "Made by Flux instead of Flat colours: it was busy." in result.notes
        hold.release()


async def test_models_are_offered_as_they_are(tmp_path: Path) -> None:
    free, other = local(params=PARAMS - {"negative_prompt"}), hired(params=PARAMS)
    async with together(tmp_path, free, other) as home:
        assert [model.id for model in home.studio.models()] == ["fake", "flux"]
        assert home.studio.models()[0] == FAKE_MODEL
        assert home.studio.defaults("fake").steps == FAKE_MODEL.steps
        assert "negative_prompt" not in home.studio.params("fake")
        with pytest.raises(InvalidRequest, match="negative"):
            await home.ask("a flat colour --no red")


async def test_what_waits_for_a_model_that_is_gone_is_made_by_its_stand_in(tmp_path: Path) -> None:
    free, other = FakeBackend("local:", models=(FAKE_MODEL,)), hired()
    async with together(tmp_path, free, other, after="2h") as home:
        hold = await busy(home, free)
        await home.ask("a flat colour", key="k")
        free.models = ()
        await home.clock.advance(3.0)
        result = await shown(home, "k")
        assert result.notes[0] == "Made by Flux instead of Flat colours: it could not be had."
        assert given(other).steps == FLUX.steps
        assert [model.id for model in home.studio.models()] == ["flux"]
        hold.release()


async def test_after_a_restart_what_is_not_reached_yet_is_waited_for_too(tmp_path: Path) -> None:
    free, other, data = local(), hired(), Data()
    async with together(tmp_path, free, other, store=MemoryStore(data)) as home:
        await busy(home, free)
        await home.ask("a flat colour", key="k")
        await home.clock.advance(1.0)
        home.app._backends.clear()
    other.submitted.clear()
    async with together(tmp_path, local(models=()), other, store=MemoryStore(data)) as home:
        await home.clock.advance(20.0)
        assert other.submitted == []
        await home.clock.advance(15.0)
        assert len(other.submitted) > 0
        result = await shown(home, "k")
        assert result.notes[0] == "Made by Flux instead of fake: it could not be had."


async def test_a_backend_that_is_down_is_waited_for_as_long_as_a_busy_one(tmp_path: Path) -> None:
    free, other = local(), hired()
    free.ok = Health(False, detail="no connection")
    free.fail(Unavailable("no connection", accepted=False), at="submit", times=99)
    async with together(tmp_path, free, other, after="5m") as home:
        await home.ask("a flat colour", key="k")
        await home.clock.advance(5.0)
        assert other.submitted == []
        result = await shown(home, "k")
        assert (result.backend, result.notes[0]) == (
            "fal:flux",
            "Made by Flux instead of Flat colours: it could not be had.",
        )


# --- what is handed over ----------------------------------------------------------------------------------


async def test_defaults_become_those_of_the_stand_in_and_sizes_stay(tmp_path: Path) -> None:
    free, other = local(), hired()
    async with together(tmp_path, free, other, after="0s") as home:
        hold = await busy(home, free)
        await home.ask("a flat colour --width 96 --height 64 --seed 7", key="k")
        await shown(home, "k")
        request = given(other)
        assert (request.model, request.steps, request.guidance_scale) == ("flux", 9, 3.5)
        assert (request.scheduler, request.width, request.height, request.seed) == (None, 96, 64, 7)
        hold.release()


async def test_what_was_said_is_kept(tmp_path: Path) -> None:
    free, other = local(), hired()
    async with together(tmp_path, free, other, after="0s") as home:
        hold = await busy(home, free)
        await home.ask("a flat colour --steps 11", key="k")
        await shown(home, "k")
        assert (given(other).steps, given(other).guidance_scale) == (11, 3.5)
        hold.release()


@pytest.mark.parametrize(
    ("words", "honoured"),
    [
        ("--scheduler 'Euler a'", PLAIN),
        ("--no red", PLAIN),
        ("--steps 11", PLAIN - {"steps"}),
        ("--guidance 5", PLAIN - {"guidance_scale"}),
    ],
)
async def test_what_was_said_and_is_not_honoured_keeps_the_job_away(
    tmp_path: Path, words: str, honoured: frozenset[str]
) -> None:
    free, other = local(), hired(params=honoured)
    async with together(tmp_path, free, other, after="0s") as home:
        hold = await busy(home, free)
        await home.ask(f"a flat colour {words}", key="k")
        await home.ask("a flat colour", user="cy", key="plain")
        assert (await shown(home, "plain")).backend == "fal:flux"
        await home.clock.advance(30.0)
        assert len(other.submitted) == 1
        hold.release()
        assert (await shown(home, "k")).backend == "local:"


# --- what is told -----------------------------------------------------------------------------------------


async def test_result_and_recipe_say_what_made_it(tmp_path: Path) -> None:
    free, other = local(), hired()
    async with together(tmp_path, free, other, after="0s") as home:
        hold = await busy(home, free)
        ticket = await home.ask("a flat colour --seed 7", key="k")
        result = await shown(home, "k")
        assert result.notes == (LONG, LICENCE)
        recipe = result.pictures[0].recipe
        assert (recipe["model"], recipe["steps"], recipe["guidance_scale"]) == ("flux", 9, 3.5)
        assert (recipe["scheduler"], recipe["notes"]) == (None, [LONG, LICENCE])
        assert recipe["applied"] == {"model": "flux", "steps": 9, "guidance_scale": 3.5, "scheduler": None}
        options = await home.studio.options_of(ticket.group_id, ANN, index=0)
        assert (options.model, options.steps, options.scheduler, options.seed) == ("flux", 9, None, 7)
        stored = await home.store.group(ticket.group_id)
        assert stored is not None
        assert (stored.jobs[0].request["model"], stored.jobs[0].model) == ("fake", "flux")
        hold.release()


async def test_again_and_upscale_mean_the_model_that_was_asked_for(tmp_path: Path) -> None:
    free, other = local(), hired()
    async with together(tmp_path, free, other, after="0s") as home:
        hold = await busy(home, free)
        group = (await home.ask("a flat colour", key="k")).group_id
        result = await shown(home, "k")
        assert (result.vary, result.upscale) == (True, True)
        hold.release()
        await shown(home, "bob")
        again = await home.studio.redo(group, Submission(ANN, "again", {"page": "again"}))
        assert (again.requests[0].model, again.requests[0].steps) == ("fake", FAKE_MODEL.steps)
        assert (await shown(home, "again")).backend == "local:"
        larger = await home.studio.upscale(group, 0, Submission(ANN, "larger", {"page": "larger"}))
        assert larger.requests[0].model == "fake"
        assert (await shown(home, "larger")).backend == "local:"


async def test_the_example_in_the_guide_overflows_and_a_store_on_disk_keeps_it(tmp_path: Path) -> None:
    guide = (Path(__file__).parent.parent / "docs" / "backends.md").read_text(encoding="utf-8")
    (line,) = [line for line in guide.splitlines() if ";as=" in line and "FAIRBRUSH_BACKENDS=" in line]
    entries = parse_backends(line.strip().removeprefix("FAIRBRUSH_BACKENDS="))
    turbo = replace(FAKE_MODEL, id="stabilityai/sd-turbo", title="stabilityai/sd-turbo", steps=1)
    free, fake, quick = FakeBackend(entries[0].name, models=(turbo,)), FalFake(), HurriedClock()
    await fake.start()
    settings = Settings(
        tmp_path, backends=entries, service_urls={"fal": fake.url}, secrets={"FAL_KEY": Secret(fake.secret)}
    )
    other = build(entries[1].target, settings, clock=quick.clock)
    store = await open_store(tmp_path / "fairbrush.sqlite3")
    more = {"entries": entries, "store": store, "job_timeout": 3600.0}
    async with house(tmp_path, backends=(free, other), **more) as home:  # type: ignore[arg-type]
        hold = await busy(home, free)
        await home.ask("a flat colour", key="k")
        await home.clock.advance(290.0)
        assert fake.attempts == 0
        await home.until_passing(lambda: bool(home.page("k").delivered), step=1.0)
        result = home.page("k").delivered[0]
        assert (result.state, result.model) == (State.DONE, "fal-ai/flux/schnell")
        assert result.notes[0] == LONG_AT_FAL
        (job,) = fake.jobs.values()
        assert (job.body["num_inference_steps"], job.body["guidance_scale"]) == (4, 3.5)
        assert result.money == pytest.approx(0.003 * 64 * 64 / 2**20)
        hold.release()
    await fake.stop()


@pytest.mark.parametrize("asked", [None, FAKE_MODEL])
def test_what_takes_its_schedulers_gets_one_that_it_has(asked: Model | None) -> None:
    request = ImageRequest("x", 64, 64, 4, 7.5, 7, scheduler="Euler", model="fake")
    own = replace(FLUX, scheduler="DDIM", schedulers=("DDIM", "UniPC"))
    assert swap(request, own, asked, PARAMS, Limits()).scheduler == "DDIM"
    kept = swap(replace(request, scheduler="UniPC"), own, asked, PARAMS, Limits())
    assert kept.of(request).scheduler == "UniPC"
    assert swap(request, own, asked, PLAIN, Limits()).scheduler is None


def test_what_is_filled_in_stays_within_the_operator_s_limits() -> None:
    request = ImageRequest("x", 64, 64, 4, 3.0, 7, scheduler="Euler", model="fake")
    made = swap(request, FLUX, FAKE_MODEL, PLAIN, Limits(max_steps=5, max_guidance=3.0))
    assert (made.steps, made.guidance_scale) == (5, 3.0)


def test_a_stored_reference_gives_both_again() -> None:
    given_up = Swap("flux", 4, 3.5, None, 0.6, "A note.")
    kept = given_up.kept(RemoteRef("fal:flux", {"job": "a"}))
    assert apart(as_stored(kept)) == (RemoteRef("fal:flux", {"job": "a"}), given_up)
    plain = RemoteRef("fal:flux", {"job": "a"})
    assert apart(plain) == (plain, None)
    damaged = RemoteRef("fal:flux", {"job": "a", "instead": {"model": "flux"}})
    assert apart(damaged) == (plain, None)


# --- trouble ----------------------------------------------------------------------------------------------


async def test_a_restart_goes_on_with_a_stand_in_s_job_and_tells_the_same(tmp_path: Path) -> None:
    free, other, data = local(), hired(), Data()
    async with together(tmp_path, free, other, store=MemoryStore(data), after="0s") as home:
        await busy(home, free)
        running = other.hold("picture")
        await home.ask("a flat colour", key="k")
        await home.until_passing(running.reached.is_set)
        await home.clock.advance(1.0)
        home.app._backends.clear()
    running.release()
    changed = replace(FLUX, steps=20)  # what is best there is another by now, and so is what stands in
    other.models = (changed,)
    async with hosted(tmp_path, local(), other, store=MemoryStore(data)) as home:
        result = await shown(home, "k")
        assert (result.state, result.model, result.money) == (State.DONE, "flux", PRICE)
        assert result.notes == (LONG, LICENCE)
        assert result.pictures[0].recipe["steps"] == 9
        assert len(other.submitted) == 1
        assert await spent(home) == PRICE


async def test_a_stand_in_s_job_is_cancelled_where_it_runs(tmp_path: Path) -> None:
    free, other = local(), hired()
    async with together(tmp_path, free, other, after="0s") as home:
        hold, running = await busy(home, free), other.hold("picture")
        group = (await home.ask("a flat colour", key="k")).group_id
        await home.until_passing(running.reached.is_set)
        await home.studio.cancel(group, ANN)
        assert (await shown(home, "k")).state is State.CANCELLED
        assert (len(other.cancelled), await spent(home)) == (1, 0.0)
        hold.release()


async def test_what_a_stand_in_refuses_waits_for_the_model_itself(tmp_path: Path) -> None:
    free, other = local(), hired()
    other.fail(InvalidRequest("Not at this size here.", field="size"), at="submit", times=9)
    async with together(tmp_path, free, other, after="0s") as home:
        hold = await busy(home, free)
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(other.submitted))
        await home.clock.advance(2.0)
        hold.release()
        result = await shown(home, "k")
        assert (result.backend, result.notes, len(other.submitted)) == ("local:", (), 1)


async def test_after_a_fault_of_the_stand_in_the_model_itself_makes_it_as_it_was_asked(
    tmp_path: Path,
) -> None:
    free, other = local(), hired()
    other.fail(Unavailable("gone", accepted=False), at="start")
    async with together(tmp_path, free, other, after="0s") as home:
        hold = await busy(home, free)
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(other.submitted))
        await home.clock.advance(0.1)
        hold.release()
        result = await shown(home, "k")
        assert (result.backend, result.model) == ("local:", "fake")
        recipe = result.pictures[0].recipe
        assert (recipe["steps"], recipe["scheduler"], recipe["applied"]) == (4, "Euler", {})


# --- what an operator may say -----------------------------------------------------------------------------


async def test_a_model_that_nobody_offers_is_told_once_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        options = {"fal:flux": {"as": "fake+fakir"}}
        async with hosted(tmp_path, local(), hired(), options=options) as home:
            await home.clock.advance(70.0)
    said = [record.getMessage() for record in caplog.records if "as=" in record.getMessage()]
    assert said == ["FAIRBRUSH_BACKENDS: fal:flux;as=fakir: no backend offers that model"]


async def test_the_doctor_tells_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = (BackendEntry("local", ""), BackendEntry("fal", "flux", {"as": "fake+fakir"}))
    monkeypatch.setattr(doctors, "load_backends", lambda settings: [local(), hired()])
    assert await doctors.doctor(Settings(data_dir=tmp_path, backends=entries), as_json=False) == 0
    said = capsys.readouterr().out
    assert "as=fakir: no backend offers that model" in said
    assert "as=fake:" not in said


async def test_where_both_cost_money_the_model_itself_comes_first(tmp_path: Path) -> None:
    dear, other = paid("openai:x"), hired()
    async with together(tmp_path, other, dear) as home:
        routing = home.app._dispatcher.routing
        ticket = await home.ask("a flat colour --model fake", key="k")
        routing._estimator.observe(ticket.requests[0], "flux", "fal:flux", 0.01)
        lanes = [lane_of(home, "fal:flux"), lane_of(home, "openai:x")]
        assert routing.best(lanes, ticket.requests[0]).name == "openai:x"
        assert (await shown(home, "k")).backend == "openai:x"
