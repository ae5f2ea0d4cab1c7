"""What a guild says, as values: merged, written down, checked, and what it means for a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from bot.core.errors import Forbidden, InvalidRequest
from bot.core.guilds import (
    NsfwPolicy,
    Rules,
    ThreadMode,
    admit,
    defaults_of,
    limits_of,
    merge,
    role_weight,
    rules_from_json,
    rules_to_json,
    shows_flagged,
)
from bot.core.options import Options
from bot.core.ports import Model
from bot.core.request import JSON, ImageRequest, Limits, Requester
from bot.core.resolve import as_options, differences, resolve
from bot.core.rulebook import MAX_IDS, checked

STYLES = {"ink": "{prompt}, ink drawing", "oil": "oil painting of {prompt}"}
SMALL = Model("small", "Small One", 512, 512, 20, 7.5, scheduler="DDIM")
TURBO = Model("turbo", "Turbo", 768, 768, 4, 0.0)
MODELS = (SMALL, TURBO)
LIMITS = Limits()
FULL = Rules(
    model="turbo",
    style="ink",
    size=(768, 512),
    steps=8,
    guidance_scale=2.5,
    negative_prompt="blurry",
    count=2,
    max_steps=40,
    max_count=4,
    max_side=1024,
    waiting_per_user=3,
    thread_mode=ThreadMode.BOTH,
    nsfw=NsfwPolicy.SPOILER,
    allowed_roles=("r1", "r2"),
    allowed_channels=("c1",),
    role_weights={"r1": 2.0},
)


def check(rules: Rules, guild: Rules | None = None, limits: Limits = LIMITS) -> Rules:
    return checked(rules, guild, limits=limits, models=MODELS, styles=STYLES)


def made(rules: Rules, options: Options | None = None, **more: object) -> ImageRequest:
    """The request that comes of "a fox" under these rules."""
    options = options or Options(prompt="a fox")
    return resolve(  # type: ignore[arg-type, unused-ignore]
        options,
        defaults=defaults_of(MODELS, options.model, rules, LIMITS, STYLES),
        limits=limits_of(LIMITS, rules),
        models=MODELS,
        seed=lambda: 1,
        **more,  # type: ignore[arg-type]
    )[0]


# --- values -----------------------------------------------------------------------------------------------


def test_rules_come_back_from_their_json() -> None:
    for rules in (Rules(), FULL, Rules(nsfw=NsfwPolicy.WITHHOLD), Rules(guidance_scale=0.0)):
        assert rules_from_json(json.loads(json.dumps(rules_to_json(rules)))) == rules
    assert rules_to_json(Rules(negative_prompt="")) == {}


def test_what_a_newer_program_wrote_is_not_said() -> None:
    assert rules_from_json({"thread_mode": "forum", "nsfw": "blur", "mood": 1, "steps": 9}) == Rules(steps=9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", "9"),
        ("steps", True),
        ("guidance_scale", "x"),
        ("size", [512]),
        ("size", "64"),
        ("model", 3),
        ("allowed_roles", "r1"),
        ("allowed_roles", [1]),
        ("role_weights", ["r1"]),
    ],
)
def test_rules_of_a_wrong_kind_are_refused_by_field(name: str, value: JSON) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rules_from_json({name: value})
    assert caught.value.field == name


def test_a_channel_says_over_its_guild_only_what_it_says() -> None:
    channel = Rules(steps=30, nsfw=NsfwPolicy.WITHHOLD, allowed_roles=("r9",))
    whole = merge(FULL, channel)
    assert whole == replace(FULL, steps=30, nsfw=NsfwPolicy.WITHHOLD, allowed_roles=("r9",))
    assert merge(FULL, Rules()) == FULL
    assert merge(FULL, Rules(guidance_scale=0.0)).guidance_scale == 0.0


def test_the_highest_of_a_members_weights_counts() -> None:
    rules = Rules(role_weights={"low": 0.5, "high": 3.0, "top": 9.0})
    assert role_weight(("low", "high", "none"), rules) == 3.0
    assert role_weight(("low",), rules) == 0.5
    assert role_weight((), rules) == role_weight(("none",), rules) == 1.0


# --- who may ask ------------------------------------------------------------------------------------------


def test_roles_and_channels_that_are_named_are_needed() -> None:
    ann = Requester("discord", "1", "ann", roles=("r2", "r7"))
    admit(ann, "c1", FULL)
    admit(replace(ann, roles=()), "c9", Rules())
    with pytest.raises(Forbidden) as caught:
        admit(replace(ann, roles=("r7",)), "c1", FULL)
    assert caught.value.field == "role"
    for channel in ("c2", ""):
        with pytest.raises(Forbidden) as caught:
            admit(ann, channel, FULL)
        assert caught.value.field == "channel"


def test_a_flagged_picture_is_shown_only_where_both_the_guild_and_the_channel_allow_it() -> None:
    spoiler = Rules(nsfw=NsfwPolicy.SPOILER)
    assert shows_flagged(spoiler, age_restricted=True)
    assert not shows_flagged(spoiler, age_restricted=False)
    assert not shows_flagged(Rules(nsfw=NsfwPolicy.WITHHOLD), age_restricted=True)
    assert not shows_flagged(Rules(), age_restricted=True)


# --- limits and defaults ----------------------------------------------------------------------------------


def test_only_tighter_limits_count() -> None:
    rules = Rules(max_steps=40, max_count=10, max_side=4096, waiting_per_user=2)
    limits = limits_of(LIMITS, rules)
    assert (limits.max_steps, limits.max_count, limits.max_side) == (40, 10, 2048)
    assert limits.tightened == {"max_steps", "waiting_per_user"}
    assert limits_of(LIMITS, Rules()) == LIMITS


@pytest.mark.parametrize(
    ("options", "range_shown"),
    [
        (Options(prompt="x", steps=41), "from 1 to 40 (this server's limit), not 41"),
        (Options(prompt="x", count=5), "from 1 to 4 (this server's limit), not 5"),
        (Options(prompt="x", width=2048), "from 64 to 1024 (this server's limit), not 2048"),
        (Options(prompt="x", guidance_scale=31.0), "from 0 to 30, not 31"),
    ],
)
def test_a_refusal_says_whose_limit_it_is(options: Options, range_shown: str) -> None:
    with pytest.raises(InvalidRequest, match=r".+") as caught:
        made(FULL, options)
    assert range_shown in caught.value.message


def test_a_request_gets_the_guilds_defaults_and_tells_none_of_them() -> None:
    request = made(FULL)
    assert request.prompt == "a fox, ink drawing"
    assert (request.width, request.height, request.steps, request.guidance_scale) == (768, 512, 8, 2.5)
    assert (request.model, request.style, request.negative_prompt, request.count) == (
        "turbo",
        "ink",
        "blurry",
        2,
    )
    assert differences(request, defaults_of(MODELS, None, FULL, LIMITS, STYLES)) == ()


def test_what_is_said_wins_over_the_guilds_defaults_and_is_told() -> None:
    said = Options(prompt="a fox", steps=9, count=1, negative_prompt="red", style="none", aspect=(1, 1))
    request = made(FULL, said)
    assert (request.steps, request.count, request.negative_prompt, request.style) == (9, 1, "red", None)
    assert request.prompt == "a fox"
    told = differences(request, defaults_of(MODELS, None, FULL, LIMITS, STYLES))
    assert told == ("1:1", "9 steps", "1 picture", "no style", "no red")


def test_an_empty_negative_prompt_puts_away_the_guilds() -> None:
    assert made(FULL, Options(prompt="a fox", negative_prompt="")).negative_prompt == ""


def test_another_model_than_the_guilds_keeps_its_own_best() -> None:
    request = made(replace(FULL, model="small", max_side=None), Options(prompt="a fox", model="Turbo"))
    assert (request.model, request.width, request.steps, request.guidance_scale) == ("turbo", 768, 4, 0.0)
    assert (request.count, request.negative_prompt) == (2, "blurry")


def test_a_model_that_is_not_offered_any_more_takes_its_numbers_along() -> None:
    usual = defaults_of(MODELS, None, Rules(model="gone", steps=99, count=3), LIMITS, STYLES)
    assert (usual.model, usual.steps, usual.count) == ("small", 20, 3)


def test_the_models_own_best_stays_within_a_tighter_limit() -> None:
    usual = defaults_of(MODELS, "small", Rules(max_side=256, max_steps=5), LIMITS, STYLES)
    assert (usual.width, usual.height, usual.steps) == (256, 256, 5)
    wide = defaults_of(MODELS, None, Rules(size=(1024, 512), max_side=512), LIMITS, STYLES)
    assert (wide.width, wide.height) == (512, 256)


def test_a_default_that_a_backend_would_not_heed_is_left_out_and_not_refused() -> None:
    request = made(FULL, params=frozenset({"steps", "guidance_scale"}))
    assert request.negative_prompt == ""


def test_a_literal_prompt_is_styled_only_on_request() -> None:
    assert made(FULL, literal=True).prompt == "a fox"
    assert made(FULL, Options(prompt="a fox", style="oil"), literal=True).prompt == "oil painting of a fox"


def test_a_styled_request_made_again_as_it_was_is_not_styled_twice() -> None:
    request = made(FULL)
    again = made(FULL, as_options(request))
    assert replace(again, style=request.style) == request


# --- setting them -----------------------------------------------------------------------------------------


def test_good_rules_come_back_with_names_as_they_are_offered() -> None:
    said = replace(FULL, model="SMALL ONE", style="INK", allowed_roles=("r1", "r1"), negative_prompt="  ")
    assert check(said) == replace(
        said, model="small", style="ink", allowed_roles=("r1",), negative_prompt=None
    )
    assert check(Rules()) == Rules()


WRONG: list[tuple[Mapping[str, object], str]] = [
    ({"steps": 0}, "from 1 to 150, not 0"),
    ({"steps": 151}, "from 1 to 150, not 151"),
    ({"steps": 50, "max_steps": 40}, "from 1 to 40, not 50"),
    ({"count": 11}, "from 1 to 10, not 11"),
    ({"guidance_scale": 30.5}, "from 0 to 30, not 30.5"),
    ({"guidance_scale": float("nan")}, "from 0 to 30, not"),
    ({"size": (513, 512)}, "a multiple of 8 from 64 to 2048, not 513"),
    ({"size": (2048, 256)}, "ratio"),
    ({"size": (512, 1024), "max_side": 768}, "from 64 to 768, not 1024"),
    ({"model": "smal"}, "Did you mean small?"),
    ({"style": "inc"}, "Did you mean ink?"),
    ({"negative_prompt": "x" * 2001}, "at most 2,000"),
    ({"max_steps": 151}, "from 1 to 150, not 151"),
    ({"max_count": 0}, "from 1 to 10, not 0"),
    ({"max_side": 100}, "a multiple of 8 from 64 to 2048, not 100"),
    ({"waiting_per_user": 11}, "from 1 to 10, not 11"),
    ({"role_weights": {"r1": 0.05}}, "from 0.1 to 10, not 0.05"),
    ({"role_weights": {"r1": float("inf")}}, "from 0.1 to 10, not inf"),
    ({"role_weights": {"": 1.0}}, "1 to 64"),
    ({"allowed_roles": tuple(map(str, range(MAX_IDS + 1)))}, f"At most {MAX_IDS}"),
    ({"allowed_channels": ("c" * 65,)}, "1 to 64"),
    ({"steps": 10**30}, "a number of that size"),
]


@pytest.mark.parametrize(("said", "told"), WRONG)
def test_a_wrong_rule_is_refused_with_field_range_and_way_out(said: Mapping[str, object], told: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(Rules(**said))  # type: ignore[arg-type]
    assert caught.value.field == next(iter(said))
    assert told in caught.value.message
    assert "--steps" not in caught.value.message


def test_defaults_that_no_request_may_have_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="over the limit") as caught:
        check(Rules(size=(2048, 2048), steps=150))
    assert caught.value.field == "size"


def test_a_channels_rules_are_checked_against_its_guilds() -> None:
    guild = Rules(max_steps=40)
    assert check(Rules(steps=40), guild) == Rules(steps=40)
    with pytest.raises(InvalidRequest, match="from 1 to 40, not 41"):
        check(Rules(steps=41), guild)
    assert check(Rules(steps=50, max_steps=60), guild).max_steps == 60


@pytest.mark.parametrize("field", ["allowed_channels", "role_weights"])
def test_a_channel_cannot_say_what_is_the_whole_guilds(field: str) -> None:
    with pytest.raises(InvalidRequest, match="whole server") as caught:
        check(Rules(**{field: getattr(FULL, field)}), Rules())
    assert caught.value.field == field
