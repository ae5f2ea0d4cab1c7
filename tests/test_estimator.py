"""What the estimator promises about costs, waits and shown places."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.estimator import CLIP, PRIOR_BAND, RECENT, Estimator, shown_ahead, work
from bot.core.lanes import Lane
from bot.core.ports import Capabilities
from bot.core.request import Image, ImageRequest
from tests.fakes.backend import FAKE_MODEL, FakeBackend

REQUEST = ImageRequest("a red fox", 512, 512, 30, 7.5, 1)
PICTURE = Image(b"", "image/png", 512, 512)


def test_an_unknown_model_costs_something_sensible() -> None:
    assert 0.1 < Estimator().cost(REQUEST, "m", "w") < 60.0


@pytest.mark.parametrize(
    ("change", "factor"),
    [({"steps": 60}, 2.0), ({"width": 1024, "height": 1024}, 4.0), ({"count": 3}, 3.0)],
)
def test_cost_grows_with_steps_pixels_and_pictures(change: dict[str, int], factor: float) -> None:
    estimator = Estimator()
    bigger = replace(REQUEST, **change)  # type: ignore[arg-type]
    assert estimator.cost(bigger, "m", "w") == pytest.approx(factor * estimator.cost(REQUEST, "m", "w"))


def test_a_picture_as_input_costs_its_strength_of_the_steps() -> None:
    half = replace(REQUEST, init_image=PICTURE, strength=0.5)
    assert work(half) == pytest.approx(work(REQUEST) / 2)


def test_an_upscale_costs_its_share_of_the_steps_at_its_full_size() -> None:
    doubled = replace(REQUEST, width=1024, height=1024, init_image=PICTURE, strength=0.35, upscale=True)
    assert work(doubled) == pytest.approx(work(REQUEST) * 4 * 0.35)
    native = Lane(FakeBackend(), Capabilities((replace(FAKE_MODEL, native_pixels=64 * 64),)))
    assert native.made_as(replace(REQUEST, width=1024)).width < 100
    assert native.made_as(doubled) == doubled


def test_strength_without_a_picture_costs_all_steps() -> None:
    assert work(replace(REQUEST, strength=0.5)) == work(REQUEST)


def test_a_picture_barely_repainted_still_costs_a_step() -> None:
    assert work(replace(REQUEST, init_image=PICTURE, strength=0.0)) == work(replace(REQUEST, steps=1))


def test_the_first_job_sets_the_rate_however_far_off_the_prior_was() -> None:
    estimator = Estimator()
    estimator.observe(REQUEST, "m", "cpu", 900.0)
    assert estimator.cost(REQUEST, "m", "cpu") == pytest.approx(900.0)
    assert estimator.cost(replace(REQUEST, steps=10), "m", "cpu") == pytest.approx(300.0)


def test_one_freak_job_moves_a_learned_rate_by_little() -> None:
    estimator = Estimator()
    for _ in range(20):
        estimator.observe(REQUEST, "m", "w", 10.0)
    estimator.observe(REQUEST, "m", "w", 100_000.0)
    assert 10.0 < estimator.cost(REQUEST, "m", "w") <= 10.0 + 10.0 * (CLIP - 1) * 0.1 + 1e-9


def test_a_lasting_change_of_speed_is_followed() -> None:
    estimator = Estimator()
    for seconds in [10.0] * 50 + [2.0] * 50:
        estimator.observe(REQUEST, "m", "w", seconds)
    assert estimator.cost(REQUEST, "m", "w") == pytest.approx(2.0, rel=0.2)


def test_models_and_workers_are_learned_apart_and_stand_in_for_unknown_ones() -> None:
    estimator = Estimator()
    estimator.observe(REQUEST, "big", "gpu", 20.0)
    estimator.observe(REQUEST, "small", "gpu", 2.0)
    assert estimator.cost(REQUEST, "big", "gpu") == pytest.approx(20.0)
    assert estimator.cost(REQUEST, "small", "gpu") == pytest.approx(2.0)
    assert estimator.cost(REQUEST, "big", "other gpu") == pytest.approx(20.0)
    assert estimator.cost(REQUEST, "new", "gpu") in (pytest.approx(2.0), pytest.approx(20.0))


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_impossible_device_seconds_teach_nothing(seconds: float) -> None:
    estimator = Estimator()
    estimator.observe(REQUEST, "m", "w", seconds)
    assert estimator.to_json() == Estimator().to_json()


def test_the_wait_is_the_work_ahead_over_the_speed_in_the_prior_band_at_first() -> None:
    low, high = Estimator().wait(90.0, 10.0, 2.0)
    assert low == pytest.approx(50.0 * PRIOR_BAND[0])
    assert high == pytest.approx(50.0 * PRIOR_BAND[1])


def test_the_wait_is_unbounded_while_nothing_works() -> None:
    assert Estimator().wait(90.0, 10.0, 0.0) == (math.inf, math.inf)


def test_the_wait_range_covers_eight_in_ten_of_what_happens() -> None:
    """Actual waits are log-normal about 1.8 times the prediction; the next 2,000 are scored."""
    rng = random.Random(7)
    estimator = Estimator()
    hits = 0
    for number in range(2_400):
        predicted = rng.uniform(1.0, 900.0)
        actual = predicted * 1.8 * math.exp(rng.gauss(0.0, 0.4))
        low, high = estimator.wait(predicted - 0.5, 0.5, 1.0)
        hits += number >= 400 and low <= actual <= high
        estimator.observe_wait(predicted, actual)
    assert 0.75 < hits / 2_000 < 0.85


def test_short_and_long_waits_are_learned_apart() -> None:
    estimator = Estimator()
    for _ in range(RECENT):
        estimator.observe_wait(5.0, 5.0)
        estimator.observe_wait(1000.0, 3000.0)
    assert list(estimator.wait(5.0, 0.0, 1.0)) == pytest.approx([5.0, 5.0])
    assert list(estimator.wait(1000.0, 0.0, 1.0)) == pytest.approx([3000.0, 3000.0])


def test_old_waits_are_forgotten() -> None:
    estimator = Estimator()
    for ratio in [9.0] * RECENT + [1.0] * RECENT:
        estimator.observe_wait(20.0, 20.0 * ratio)
    assert list(estimator.wait(20.0, 0.0, 1.0)) == pytest.approx([20.0, 20.0])


def test_one_strange_wait_does_not_decide_the_range() -> None:
    estimator = Estimator()
    estimator.observe_wait(20.0, 2000.0)
    assert estimator.wait(20.0, 0.0, 1.0)[1] < 100.0


def test_what_was_learned_survives_being_stored() -> None:
    estimator = Estimator()
    for number in range(50):
        estimator.observe(REQUEST, "m", "w", 5.0 + number % 3)
        estimator.observe_wait(10.0 + number, 15.0 + number)
    again = Estimator.from_json(json.loads(json.dumps(estimator.to_json())))
    assert again.cost(REQUEST, "m", "w") == estimator.cost(REQUEST, "m", "w")
    assert again.wait(30.0, 1.0, 1.0) == estimator.wait(30.0, 1.0, 1.0)


def test_nothing_stored_is_a_new_estimator() -> None:
    assert Estimator.from_json(None).to_json() == Estimator().to_json()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("text", "JSON object"),
        ({"ratios": []}, "rates"),
        ({"rates": [["m", "w", -1.0, 1]], "ratios": []}, "rates"),
        ({"rates": [], "ratios": [["x"]]}, "ratios"),
    ],
)
def test_damaged_json_is_refused_by_name(data: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Estimator.from_json(data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "ahead", "shown"),
    [(None, 9, 9), (9, 4, 4), (9, 10, 9), (9, 16, 9), (9, 17, 17), (0, 3, 0), (0, 4, 4)],
)
def test_a_rise_is_shown_only_past_one_and_a_half_times_plus_three(
    before: int | None, ahead: int, shown: int
) -> None:
    assert shown_ahead(before, ahead) == shown


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1))
def test_what_is_shown_is_never_more_than_the_truth_nor_far_below_it(truths: list[int]) -> None:
    shown: int | None = None
    for truth in truths:
        shown = shown_ahead(shown, truth)
        assert shown <= truth <= 1.5 * shown + 3
