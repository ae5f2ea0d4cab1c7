"""Options become requests that keep every limit, or one clear refusal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.errors import InvalidRequest
from bot.core.estimator import work
from bot.core.grammar import format_options, parse
from bot.core.options import Options
from bot.core.ports import Model
from bot.core.request import MAX_SEED, Defaults, Image, ImageRequest, Limits
from bot.core.resolve import as_options, differences, resolve
from bot.core.sizes import nearest_size, ratio_name

T = TypeVar("T")

LIMITS = Limits()
STYLES = {"Oil": "{prompt}, oil painting", "night": "at night"}
DEFAULTS = Defaults(512, 512, 20, 7.5, scheduler="DDIM", model="small", styles=STYLES)
SMALL = Model(
    "small",
    "Small",
    512,
    512,
    20,
    7.5,
    scheduler="DDIM",
    schedulers=("DDIM", "Euler", "Euler a", "DPM++ 2M Karras", "LMS"),
    refused_schedulers={"LMS": "it falls apart at few steps"},
)
LARGE = Model("acme/large-xl", "Large XL", 1024, 1024, 30, 5.0, scheduler="Euler", schedulers=("Euler",))


def image(width: int = 512, height: int = 512) -> Image:
    return Image(b"png", "image/png", width, height)


def made(text: str | Options, **changes: object) -> tuple[ImageRequest, ...]:
    options = parse(text) if isinstance(text, str) else text
    settings: dict[str, object] = {
        "defaults": DEFAULTS,
        "limits": LIMITS,
        "models": (SMALL, LARGE),
        "seed": lambda: 99,
        **changes,
    }
    return resolve(options, **settings)  # type: ignore[arg-type]


def refused(text: str | Options, **changes: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        made(text, **changes)
    return caught.value


# --- defaults and names -----------------------------------------------------------------------------------


def test_what_was_not_said_is_the_default() -> None:
    assert made("a fox") == (ImageRequest("a fox", 512, 512, 20, 7.5, 99, scheduler="DDIM", model="small"),)


def test_what_was_said_is_kept() -> None:
    (request,) = made(
        "a fox --size 768x512 --steps 9 --cfg 0 --seed 0 -n 2 --no blur --sampler euler --spoiler"
    )
    assert request == ImageRequest(
        "a fox", 768, 512, 9, 0.0, 0, 2, "blur", scheduler="Euler", model="small", spoiler=True
    )


def test_another_model_brings_its_own_best() -> None:
    (request,) = made("a fox --model LARGE-XL", models=(SMALL, replace(LARGE, title="large-xl")))
    assert request == ImageRequest("a fox", 1024, 1024, 30, 5.0, 99, scheduler="Euler", model="acme/large-xl")


def test_the_defaults_model_is_not_needed_to_be_offered_just_now() -> None:
    assert made("a fox", models=())[0].model == "small"


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("ddim", "DDIM"),
        ("euler_a", "Euler a"),
        ("EulerAncestralDiscreteScheduler", "Euler a"),
        ("dpmpp_2m_karras", "DPM++ 2M Karras"),
    ],
)
def test_a_scheduler_is_found_by_any_of_its_names(typed: str, found: str) -> None:
    assert made(f"x --scheduler {typed}")[0].scheduler == found


def test_permutations_share_seed_and_size() -> None:
    requests = made("a {red, blue} fox", seed=lambda: 2**32 + 5)
    assert [(r.prompt, r.seed) for r in requests] == [("a red fox", 5), ("a blue fox", 5)]


def test_a_literal_prompt_is_not_unfolded_but_cleaned() -> None:
    (request,) = made(Options(prompt="a {red,\u202e blue} “fox” --steps\x00 3"), literal=True)
    assert request.prompt == "a {red, blue} “fox” --steps 3"
    assert request.steps == 20


def test_a_style_puts_its_words_around_the_prompt() -> None:
    (request,) = made("a fox --style oil")
    assert (request.prompt, request.style) == ("a fox, oil painting", "Oil")
    assert made("a fox --style night")[0].prompt == "a fox, at night"


# --- sizes ------------------------------------------------------------------------------------------------


def test_one_side_alone_leaves_the_other_at_its_default() -> None:
    (request,) = made("x --width 768")
    assert (request.width, request.height) == (768, 512)


@pytest.mark.parametrize("ratio", ["1:1", "16:9", "9:16", "3:2", "2:3", "4:3", "21:9", "4:1", "1:4", "5:7"])
@pytest.mark.parametrize("side", [64, 128, 512, 1024])
def test_a_ratio_keeps_the_default_area_as_nearly_as_eights_allow(ratio: str, side: int) -> None:
    defaults = replace(DEFAULTS, width=side, height=side)
    (request,) = made(f"x --ar {ratio}", defaults=defaults)
    across, down = map(int, ratio.split(":"))
    wanted = across / down
    assert request.width / request.height == pytest.approx(wanted, rel=0.01 if side >= 512 else 0.05)
    if side >= 512:
        assert request.width * request.height == pytest.approx(side * side, rel=0.06)


def test_usual_ratios_at_usual_areas() -> None:
    assert nearest_size(16 / 9, 128 * 128, LIMITS) == (168, 96)
    assert nearest_size(16 / 9, 512 * 512, LIMITS) == (696, 392)
    assert nearest_size(2, 512 * 512, LIMITS) == (720, 360)
    assert ratio_name(168, 96, 128 * 128, LIMITS) == "16:9"
    assert ratio_name(768, 512, 512 * 512, LIMITS) == "768×512"


@pytest.mark.parametrize(
    ("picture", "size"),
    [((640, 384), (640, 384)), ((4000, 3000), (1920, 1440)), ((30, 30), (64, 64)), ((500, 333), (504, 336))],
)
def test_a_picture_gives_its_own_size_fitted_to_the_limits(
    picture: tuple[int, int], size: tuple[int, int]
) -> None:
    limits = replace(LIMITS, max_side=1920)
    (request,) = made("x", init_image=image(*picture), limits=limits)
    assert (request.width, request.height) == size
    assert request.strength == 0.6


def test_a_large_picture_is_fitted_to_the_budget() -> None:
    (request,) = made("x --steps 150 --count 10", init_image=image(4000, 4000))
    assert request.width * request.height * 1500 <= LIMITS.max_work
    assert (request.width, request.height) == (368, 368)


def test_a_said_size_counts_more_than_the_pictures() -> None:
    (request,) = made("x --size 512x256", init_image=image(64, 64))
    assert (request.width, request.height) == (512, 256)


# --- refusals ---------------------------------------------------------------------------------------------

BAD = [
    ("", "prompt", "The prompt is empty. Say what to draw"),
    (" \u200b\u2800 --steps 3", "prompt", "The prompt is empty."),
    ("{a,}", "prompt", "The prompt is empty."),
    ("x" * 2001, "prompt", "The prompt has 2,001 characters; at most 2,000 are allowed. Shorten it."),
    (f"x --no {'y' * 2001}", "negative_prompt", "The negative prompt has 2,001 characters; at most 2,000"),
    (f"{'x' * 1995} --style oil", "style", "has 2,009 characters; at most 2,000 are allowed. Shorten it, or"),
    ("x --steps 0", "steps", "Steps must be a whole number from 1 to 150, not 0. Try --steps 1."),
    ("x --steps -1", "steps", "from 1 to 150, not -1. Try --steps 1."),
    ("x --steps 1000000000", "steps", "from 1 to 150, not 1000000000. Try --steps 150."),
    ("x --guidance 31", "guidance_scale", "Guidance must be a number from 0 to 30, not 31. Try"),
    ("x --cfg -0.5", "guidance_scale", "from 0 to 30, not -0.5. Try --guidance 0."),
    ("x --seed -1", "seed", "from 0 to 4294967295, not -1. Try --seed 0."),
    ("x --seed 4294967296", "seed", "from 0 to 4294967295, not 4294967296. Try --seed 4294967295."),
    ("x --count 9999", "count", "from 1 to 10, not 9999. Try --count 10."),
    ("x --width 100000", "width", "a multiple of 8 from 64 to 2048, not 100000. Try --width 2048."),
    ("x --height 500", "height", "a multiple of 8 from 64 to 2048, not 500. Try --height 496."),
    ("x --size 8x8", "width", "from 64 to 2048, not 8. Try --width 64."),
    ("x --size 2048x64", "height", "from 1:4 to 4:1, which 2048×64 is not. Try --size 2048x512."),
    ("x --height 2048 --width 256", "height", "which 256×2048 is not. Try --size 512x2048."),
    ("x --ar 0:1", "aspect", "from 1:4 to 4:1, which 0:1 is not. Try --ar 1:4."),
    ("x --ar 1:0", "aspect", "from 1:4 to 4:1, which 1:0 is not. Try --ar 4:1."),
    ("x --ar 1:1000000", "aspect", "from 1:4 to 4:1, which 1:1000000 is not. Try --ar 1:4."),
    ("x --ar 1:1 --size 512x512", "aspect", "Keep --ar (the usual area in that ratio), or the size alone."),
    ("x --ar 1:1 --width 512", "aspect", "--ar and a size are both given."),
    ("x --strength 0.5", "strength", "A strength needs a picture to start from. Attach one, or leave"),
    ("x --model smal", "model", 'no model "smal" here. Did you mean small? Offered: small, acme/large-xl.'),
    ("x --model ../../etc/passwd", "model", "Offered: small, acme/large-xl."),
    ("x --style oyl", "style", 'no style "oyl" here. Did you mean Oil? Offered: Oil, night.'),
    ("x --sampler Euler b", "scheduler", 'no scheduler "Euler b" here. Did you mean Euler'),
    ("x --sampler UniPC", "scheduler", "Offered: DDIM, Euler, Euler a, DPM++ 2M Karras, LMS."),
    ("x --sampler k_lms", "scheduler", "apart at few steps. Leave --scheduler out, or take one of: DDIM,"),
    ("{a,b,c,d,e} {1,2,3,4}", "prompt", "make 20 prompts; at most 16 are allowed."),
    (
        "x --size 2048x2048 --steps 150 --count 10",
        "steps",
        "2048×2048 pixels × 150 steps × 10 pictures = 6,291,456,000, over the limit of 209,715,200 for one "
        "request. Try --steps 5 or a smaller size.",
    ),
    (
        "{a,b} --size 1024x1024 --steps 150",
        "steps",
        "× 1 picture × 2 prompts = 314,572,800, over the limit of 209,715,200 for one request. "
        "Try --steps 100 or fewer prompts or a smaller size.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "says"), BAD)
def test_a_bad_request_gets_one_message_with_field_limit_and_way_out(
    text: str, field: str, says: str
) -> None:
    error = refused(text)
    assert says in error.message
    assert error.field == field
    assert len(error.message) < 320


def test_numbers_that_only_code_can_make_are_refused_too() -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        assert refused(Options(prompt="x", guidance_scale=value)).field == "guidance_scale"
    assert refused(Options(prompt="x", steps=10**5000)).field == "steps"
    assert refused(Options(prompt="x", width=-(10**30))).field == "width"


def test_strength_is_checked_with_its_steps() -> None:
    picture = image()
    assert refused("x --strength 0", init_image=picture).field == "strength"
    assert refused("x --strength 1.1", init_image=picture).message.endswith("Try --strength 1.")
    assert "Try --strength 0.05 or more" in refused("x --strength 0.04", init_image=picture).message
    assert made("x --strength 0.05", init_image=picture)[0].strength == 0.05


def test_pictures_are_checked() -> None:
    assert refused("x", mask_image=image()).field == "mask_image"
    assert "512×512, not 64×64" in refused("x", init_image=image(), mask_image=image(64, 64)).message
    assert refused("x", init_image=image(5000, 5000)).field == "init_image"
    assert refused("x", init_image=image(0, 5)).field == "init_image"
    heavy = replace(image(), data=bytes(LIMITS.max_image_bytes + 1))
    assert refused("x", init_image=heavy).field == "init_image"


def test_what_the_backend_would_ignore_is_refused() -> None:
    none: frozenset[str] = frozenset()
    for text, field in (
        ("x --no blur", "negative_prompt"),
        ("x --steps 9", "steps"),
        ("x --cfg 2", "guidance_scale"),
        ("x --seed 1", "seed"),
        ("x --sampler Euler", "scheduler"),
    ):
        error = refused(text, params=none)
        assert error.field == field
        assert "Leave it out" in error.message
    assert refused("x", params=none, init_image=image()).field == "init_image"


def test_defaults_that_the_backend_would_ignore_are_left_to_it() -> None:
    (request,) = made("x --steps 20 --cfg 7.5", params=frozenset({"init_image"}), init_image=image())
    assert (request.scheduler, request.strength) == (None, None)


# --- recipes ----------------------------------------------------------------------------------------------


def test_a_receipt_tells_only_the_differences() -> None:
    assert differences(made("x")[0], DEFAULTS) == ()
    (request,) = made("x --ar 16:9 --steps 40 --cfg 4 -n 2 --sampler Euler --style oil --no blur")
    assert differences(request, DEFAULTS) == (
        "16:9", "40 steps", "guidance 4", "2 pictures", "Euler", "Oil", "no blur",
    )  # fmt: skip
    (request,) = made("x --model acme/large-xl", init_image=image(1024, 1024))
    assert differences(request, DEFAULTS) == (
        "1024×1024", "30 steps", "guidance 5", "Euler", "acme/large-xl", "from a picture, strength 0.6",
    )  # fmt: skip


@given(
    st.text(min_size=1, max_size=60),
    st.sampled_from(["", "blur", "--x", 'a "b"']),
    st.sampled_from([None, "Euler a", "DDIM"]),
    st.integers(0, MAX_SEED),
    st.integers(1, 10),
)
def test_a_recipe_as_text_makes_the_same_request_again(
    prompt: str, negative: str, scheduler: str | None, seed: int, count: int
) -> None:
    options = Options(prompt=prompt, negative_prompt=negative, scheduler=scheduler, seed=seed, count=count)
    requests = outcome(lambda: made(options, literal=True))
    if isinstance(requests, InvalidRequest):
        return
    (request,) = requests
    recipe = as_options(request)
    assert made(recipe) == (request,)
    straight = request.prompt.translate(str.maketrans("“”„‟‘’‚‛", "\"\"\"\"''''"))
    assert made(format_options(recipe)) == (replace(request, prompt=straight),)


# --- upscales and variations ------------------------------------------------------------------------------


def test_an_upscale_has_twice_the_sides_of_its_picture_and_few_of_its_steps() -> None:
    (request,) = made(Options(prompt="x", upscale=True, source="7K2QABCD"), init_image=image(640, 384))
    assert (request.upscale, request.width, request.height, request.strength) == (True, 1280, 768, 0.35)
    assert differences(request, DEFAULTS) == ("upscale of 7K2QABCD", "1280×768")
    assert made(as_options(request), init_image=image(640, 384)) == (request,)
    (request,) = made(Options(prompt="x", upscale=True, strength=0.5), init_image=image())
    assert differences(request, DEFAULTS)[0] == "upscale of a picture, strength 0.5"


def test_what_comes_from_a_result_is_called_a_variation_of_it() -> None:
    (request,) = made(Options(prompt="x", source="7K2QABCD #2"), init_image=image())
    assert request.strength == 0.55
    assert differences(request, DEFAULTS) == ("variation of 7K2QABCD #2",)
    assert made(as_options(request), init_image=image()) == (request,)
    (request,) = made(Options(prompt="x", source="7K2QABCD #2"))  # without its picture it comes from nothing
    assert (request.source, request.strength) == ("", None)


@pytest.mark.parametrize(
    ("options", "changes", "field", "words"),
    [
        (Options("x", upscale=True), {}, "upscale", "larger size needs a picture"),
        (Options("x", upscale=True), {"init_image": image(1032, 64)}, "width", "2064×128.*at most 2048"),
        (Options("x", upscale=True), {"init_image": image(64, 1032)}, "height", "1024×1024"),
        (Options("x", upscale=True), {"init_image": image(30, 64)}, "width", "multiples of 8 from 64"),
        (Options("x", upscale=True), {"init_image": image(510, 510)}, "width", "multiples of 8"),
        (Options("x", upscale=True), {"init_image": image(1024, 32)}, "upscale", "aspect ratio"),
        (
            Options("x", upscale=True, width=512),
            {"init_image": image()},
            "width",
            "1024×1024. Leave the size",
        ),
        (Options("x", upscale=True, aspect=(1, 1)), {"init_image": image()}, "width", "Leave the size out"),
        (
            Options("x", upscale=True, steps=150),
            {"init_image": image(1024, 1024)},
            "steps",
            "52 steps = 218,103,808, is over the limit of 209,715,200",
        ),
        (
            Options("x", upscale=True),
            {"init_image": image(), "mask_image": image()},
            "mask_image",
            "takes no mask",
        ),
        (
            Options("x", upscale=True),
            {"init_image": image(), "params": frozenset({"init_image", "strength"})},
            "upscale",
            "cannot take the larger size into account",
        ),
    ],
)
def test_an_upscale_that_cannot_be_says_why(
    options: Options, changes: dict[str, object], field: str, words: str
) -> None:
    error = refused(options, **changes)
    assert error.field == field
    assert re.search(words, error.message)


# --- anything ---------------------------------------------------------------------------------------------


def outcome(call: Callable[[], T]) -> T | InvalidRequest:
    """What a call returns, or its refusal; any other error is a failure."""
    try:
        return call()
    except InvalidRequest as error:
        return error


NUMBERS = st.none() | st.integers() | st.integers(0, 300) | st.sampled_from([8, 64, 512, 1024, 2048])
REALS = st.none() | st.floats() | st.floats(0, 30)
SIDES = st.none() | st.integers(8, 256).map(lambda n: n * 8) | NUMBERS
OPTIONS = st.builds(
    Options,
    prompt=st.sampled_from(["x", "{a,b} {c,d}", "{a,b,c}"]) | st.text(max_size=30),
    negative_prompt=st.none() | st.text(max_size=20),
    width=SIDES,
    height=SIDES,
    steps=st.none() | st.integers(1, 150) | NUMBERS,
    guidance_scale=REALS,
    seed=st.none() | st.integers(0, MAX_SEED) | st.integers(),
    count=st.none() | st.integers(1, 10) | NUMBERS,
    strength=REALS,
    style=st.sampled_from([None, "oil", "night"]),
) | st.builds(
    Options,
    prompt=st.just("x"),
    aspect=st.tuples(st.integers(-2, 40), st.integers(-2, 40)) | st.tuples(st.integers(), st.integers()),
    steps=st.none() | st.integers(1, 150),
    count=st.none() | st.integers(1, 10),
)
PICTURES = st.none() | st.builds(image, st.integers(1, 5000), st.integers(1, 5000))


@given(OPTIONS, PICTURES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_is_resolved_keeps_every_limit(options: Options, picture: Image | None, upscale: bool) -> None:
    options = replace(options, upscale=upscale)
    requests = outcome(lambda: made(options, init_image=picture))
    if isinstance(requests, InvalidRequest):
        assert requests.field
        assert len(requests.message) < 500
        return
    assert 1 <= len(requests) <= LIMITS.max_prompts
    if upscale:
        assert all(picture and r.width == 2 * picture.width for r in requests)
        assert sum(map(work, requests)) <= LIMITS.max_work * (1 + 1 / requests[0].steps)
    else:
        assert sum(r.width * r.height * r.steps * r.count for r in requests) <= LIMITS.max_work
    for request in requests:
        assert 0 < len(request.prompt) <= LIMITS.max_prompt
        assert len(request.negative_prompt) <= LIMITS.max_prompt
        assert LIMITS.min_steps <= request.steps <= LIMITS.max_steps
        assert LIMITS.min_guidance <= request.guidance_scale <= LIMITS.max_guidance
        assert 0 <= request.seed <= MAX_SEED
        assert 1 <= request.count <= LIMITS.max_count
        for side in (request.width, request.height):
            assert LIMITS.min_side <= side <= LIMITS.max_side
            assert side % LIMITS.side_multiple == 0
        assert max(request.width, request.height) <= 4 * min(request.width, request.height)
        assert (request.strength is not None) == (picture is not None)


@given(st.text(max_size=300) | st.sampled_from([text for text, _, _ in BAD]))
def test_any_typed_text_becomes_requests_or_a_refusal(text: str) -> None:
    found = outcome(lambda: made(text))
    assert isinstance(found, InvalidRequest) or all(request.prompt for request in found)
