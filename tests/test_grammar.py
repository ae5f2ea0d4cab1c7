"""The option grammar: what people type, what comes of it, and what they are told."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.core.errors import InvalidRequest
from bot.core.grammar import MAX_TEXT, format_options, parse
from bot.core.options import Options, merge, options_from_json, options_to_json
from bot.core.permutations import plain, unfold
from bot.core.request import Limits
from bot.core.text import MARKS_KEPT, clean, clip

T = TypeVar("T")

WORDS = [
    *[
        "a",
        "red",
        "fox,",
        "cat's",
        '"hat',
        "'x y'",
        '"a b"',
        '"a \\" b"',
        "é",
        "\u3000",
        "\n",
        "=",
        "==",
        "\\",
    ],
    *[
        "-",
        "--",
        "---",
        "–",
        "—",
        "—ar",
        "–seed",
        "—moody",
        "-n",
        "-n4",
        "-nx",
        "\\--steps",
        "\\\\--x",
        "--é",
    ],
    *[
        "--steps",
        "--steps=3",
        "--guidance",
        "--cfg",
        "--seed",
        "--size",
        "--ar",
        "--count",
        "--negative",
        "--no",
    ],
    *["--scheduler", "--sampler", "--model", "--style", "--strength", "--spoiler", "--width", "--height"],
    *["1", "20", "7.5", "-3", "512x768", "16:9", "nan", "1e400", "Euler", "{a,", "b}"],
    *["\x00", "\ud800", "\u202e", "\u200b", "“", "”"],
]
LINES = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=80)


def outcome(call: Callable[[], T]) -> T | InvalidRequest:
    """What a call returns, or its refusal; any other error is a failure."""
    try:
        return call()
    except InvalidRequest as error:
        return error


def refused(text: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(text)
    return caught.value


# --- what is understood -----------------------------------------------------------------------------------


def test_flags_are_found_anywhere_and_the_rest_is_the_prompt() -> None:
    options = parse("--seed 7 a red fox --steps 30 in snow --size 768x512 at dusk --spoiler soft light")
    assert options == Options(
        prompt="a red fox in snow at dusk soft light", seed=7, steps=30, width=768, height=512, spoiler=True
    )


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("x --steps 30", "steps", 30),
        ("x --steps=30", "steps", 30),
        ("x --STEPS 30", "steps", 30),
        ('x --steps "30"', "steps", 30),
        ("x --guidance 7", "guidance_scale", 7.0),
        ("x --cfg .5", "guidance_scale", 0.5),
        ("x --cfg 1e1", "guidance_scale", 10.0),
        ("x --width 512", "width", 512),
        ("x --height 640", "height", 640),
        ("x --ar 16:9", "aspect", (16, 9)),
        ("x --count 3", "count", 3),
        ("x -n 3", "count", 3),
        ("x -n=3", "count", 3),
        ("x -n3", "count", 3),
        ("x --negative blurry, text", "negative_prompt", "blurry, text"),
        ("x --no blurry, text --spoiler", "negative_prompt", "blurry, text"),
        ('x --no ""', "negative_prompt", ""),
        ("x --no 'tis a test", "negative_prompt", "'tis a test"),
        ("x --scheduler Euler a", "scheduler", "Euler a"),
        ('x --sampler "Euler a"', "scheduler", "Euler a"),
        ("x --sampler=Euler a --steps 4", "scheduler", "Euler a"),
        ("x --sampler “Euler a”", "scheduler", "Euler a"),
        ("x --model stabilityai/sd-turbo", "model", "stabilityai/sd-turbo"),
        ('x --style "oil painting"', "style", "oil painting"),
        ("x --strength 0.35", "strength", 0.35),
        ("x --seed -1", "seed", -1),
        ("x --size 512×768", "height", 768),
        ("x —ar 16:9", "aspect", (16, 9)),
        ("x –steps 20", "steps", 20),
        ("—seed=3 x", "seed", 3),
    ],
)
def test_an_option_is_read(text: str, field: str, value: object) -> None:
    options = parse(text)
    assert getattr(options, field) == value
    assert options.prompt == "x"


@pytest.mark.parametrize(
    "text",
    [
        "a cat's \"hat",
        "laps – swimming",
        "a street —moody light",
        "a word—ar 16:9",
        "ends with -- two dashes",
        "--5 degrees",
        "--- a line ---",
        "rock-n-roll",
        "-no such short flag",
        "snake—steps",
        "—Steps taken by a giant",
        "—ars longa",
        r"a backslash \ alone",
        "¯\\_(ツ)_/¯",
        "two\nlines\nNegative prompt: none",
    ],
)
def test_prose_stays_prose(text: str) -> None:
    assert parse(text) == Options(prompt=text)


def test_a_one_word_option_takes_one_word() -> None:
    assert parse("x --model sdxl at night") == Options(prompt="x at night", model="sdxl")
    assert parse('x --no "blurry" at night') == Options(prompt="x at night", negative_prompt="blurry")


def test_a_backslash_makes_a_flag_prose() -> None:
    assert parse(r"how \--steps work --steps 3") == Options(prompt="how --steps work", steps=3)
    assert parse(r"\\--steps") == Options(prompt=r"\--steps")
    assert parse(r"x --no \--text, blur") == Options(prompt="x", negative_prompt="--text, blur")


def test_curly_quotes_become_straight() -> None:
    assert parse("a cat’s “hat”").prompt == 'a cat\'s "hat"'


def test_deceiving_characters_are_taken_out() -> None:
    assert parse("a\x00b\x1b[31m \u202ec\u200bd\ud800e\ufefff").prompt == "ab[31m cdef"
    assert parse("x --no b\u202ea\x00d").negative_prompt == "bad"
    assert parse("x --ste\u200bps 4").steps == 4


def test_at_most_three_marks_stay_on_a_letter() -> None:
    assert parse("z" + "\u0301" * 50 + "a\u0308").prompt == "z" + "\u0301" * 3 + "a\u0308"


# --- what is refused --------------------------------------------------------------------------------------

BAD = [
    ("x --stpes 20", "stpes", "Did you mean --steps?"),
    ("x --negative_prompt y", "negative_prompt", "Did you mean --negative?"),
    ("x --cfg_scale 4", "cfg_scale", "Did you mean --guidance?"),
    ("x --n 4", "n", "Did you mean --count?"),
    ("x --v 5", "v", "Known: --negative, --size"),
    ("x --steps: 5", "steps:", "Did you mean --steps?"),
    ("x --é 5", "é", "Known: "),
    ("x --steps", "steps", "needs a whole number from 1 to 150. Try --steps 30."),
    ("x --steps=", "steps", "needs a whole number from 1 to 150. Try --steps 30."),
    ("x --steps --seed 4", "steps", "needs a whole number from 1 to 150. Try --steps 30."),
    ("x --steps many", "steps", 'a whole number from 1 to 150, not "many". Try --steps 30.'),
    ("x --steps 20.5", "steps", 'from 1 to 150, not "20.5". Try --steps 30.'),
    ("x --steps NaN", "steps", 'from 1 to 150, not "NaN". Try --steps 30.'),
    ("x --steps 1e400", "steps", 'from 1 to 150, not "1e400". Try --steps 30.'),
    ("x --steps ٣", "steps", "from 1 to 150"),
    ("x --steps " + "9" * 5000, "steps", "from 1 to 150"),
    ("x --guidance inf", "guidance_scale", 'a number from 0 to 30, not "inf". Try --guidance 7.5.'),
    ("x --guidance 1e400", "guidance_scale", 'a number from 0 to 30, not "1e400". Try --guidance 7.5.'),
    ("x --cfg nan", "guidance_scale", 'a number from 0 to 30, not "nan". Try --guidance 7.5.'),
    ("x --seed 99999999999999999999", "seed", "from 0 to 4294967295"),
    ("x --count lots", "count", 'from 1 to 10, not "lots". Try --count 4.'),
    ("x -n", "count", "needs a whole number from 1 to 10. Try --count 4."),
    ("x --width 5.5", "width", "a multiple of 8 from 64 to 2048"),
    ("x --size 512", "size", "each side a multiple of 8 from 64 to 2048"),
    ("x --size 512xabc", "size", "Try --size 768x512."),
    ("x --size", "size", "needs a value. Try --size 768x512."),
    ("x --ar wide", "aspect", "from 1:4 to 4:1"),
    ("x --ar 2.35:1", "aspect", "in whole numbers"),
    ("x --ar 16:9 --ar 1:1", "aspect", "given twice (now 1:1). Keep one --ar."),
    ("x --cfg 3 --guidance 4", "guidance_scale", "given twice (now 4). Keep one --guidance."),
    ("x --size 512x512 --width 64", "width", "given twice (now 64). Keep one --width."),
    ("x --no a --negative b", "negative_prompt", "given twice"),
    ("x --spoiler --spoiler", "spoiler", "given twice. Keep one --spoiler."),
    ("x --spoiler=yes", "spoiler", "takes no value. Write it alone."),
    ("x --scheduler", "scheduler", "needs a value. Try --scheduler Euler a."),
    ('x --model ""', "model", "needs a value. Try --model NAME."),
    ("x" * (MAX_TEXT + 1), "prompt", "20,001 characters; at most 2,000 are allowed. Shorten it."),
]


@pytest.mark.parametrize(("text", "field", "says"), BAD)
def test_a_bad_option_gets_one_message_with_field_limit_and_way_out(text: str, field: str, says: str) -> None:
    error = refused(text)
    assert error.field == field
    assert says in error.message
    assert len(error.message) < 320


def test_messages_name_the_operators_own_limits() -> None:
    with pytest.raises(InvalidRequest, match="from 1 to 40, not") as caught:
        parse("x --steps many", limits=Limits(max_steps=40))
    assert "Try --steps 30." in caught.value.message


def test_an_unknown_flag_says_how_to_write_it_as_prose() -> None:
    message = refused("a --sketchy fox").message
    assert r"write \--sketchy" in message
    assert parse(r"a \--sketchy fox").prompt == "a --sketchy fox"


# --- arbitrary text ---------------------------------------------------------------------------------------


@given(LINES)
@example("--negative \\")
@example("\\—ar")
@example('x --no "\\"')
@example("x --model '\\'")
@example("x --cfg -0")
@example("-- --steps 3 steps 4")
def test_any_text_is_options_or_a_clear_refusal_and_options_survive_their_text(text: str) -> None:
    options = outcome(lambda: parse(text))
    if isinstance(options, InvalidRequest):
        assert options.field
        assert options.message.endswith((".", "?")) or "\\--" in options.message
        return
    line = format_options(options)
    assert parse(line) == options
    assert format_options(parse(line)) == line
    assert options_from_json(json.loads(json.dumps(options_to_json(options)))) == options


@given(st.text(st.characters(), max_size=60))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in once if c != "\n")
    once.encode()


def test_marks_are_counted_across_removed_characters() -> None:
    assert clean("a" + "\u0301\u200b" * 9) == "a" + "\u0301" * MARKS_KEPT


# --- permutations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a fox", ("a fox",)),
        ("a {red, blue} fox", ("a red fox", "a blue fox")),
        ("{a,b} {c,d}", ("a c", "a d", "b c", "b d")),
        ("{a} fox", ("{a} fox",)),
        ("{} fox", ("{} fox",)),
        (r"\{a, b\} fox", ("{a, b} fox",)),
        (r"{a\, b, c}", ("a, b", "c")),
        (r"\\{a,b}", (r"\a", r"\b")),
        ("{, red} fox", ("fox", "red fox")),
        ("{a, {b, c}}", ("{a, b}", "{a, c}")),
        ("{a, b", ("{a, b",)),
        ("a, b}", ("a, b}",)),
    ],
)
def test_braces_unfold(prompt: str, prompts: tuple[str, ...]) -> None:
    assert unfold(prompt) == prompts


def test_too_many_permutations_are_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidRequest, match=r"make 32 prompts; at most 16 are allowed") as caught:
        unfold("{a,b}" * 5)
    assert caught.value.field == "prompt"
    with pytest.raises(InvalidRequest, match="over a million"):
        unfold("{a,b}" * 400)


@given(st.text("ab ,{}\\", max_size=40) | st.text(max_size=30))
def test_any_prompt_unfolds_or_is_refused_and_can_be_written_plainly(prompt: str) -> None:
    prompt = prompt.strip()
    assert unfold(plain(prompt)) == (prompt,)
    prompts = outcome(lambda: unfold(prompt))
    if isinstance(prompts, InvalidRequest):
        assert prompts.field == "prompt"
    else:
        assert 1 <= len(prompts) <= Limits().max_prompts


# --- options as values ------------------------------------------------------------------------------------


def test_json_leaves_unsaid_fields_out_and_ignores_unknown_keys() -> None:
    assert options_to_json(parse("x --ar 16:9")) == {"prompt": "x", "aspect": [16, 9]}
    assert options_from_json({"prompt": "x", "later": {"a": 1}, "steps": None}) == Options(prompt="x")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt", 3),
        ("steps", "3"),
        ("steps", True),
        ("steps", 3.0),
        ("guidance_scale", float("nan")),
        ("guidance_scale", 10**400),
        ("strength", False),
        ("aspect", [1]),
        ("aspect", "12"),
        ("aspect", [1.0, 2]),
        ("spoiler", 1),
        ("upscale", "yes"),
        ("source", 7),
        ("source", "@everyone"),
        ("source", "7k2qabcd"),
        ("model", []),
    ],
)
def test_json_of_a_wrong_type_is_refused(key: str, value: float | str | list[float]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        options_from_json({key: value})
    assert caught.value.field == key


def test_later_options_go_over_earlier_ones() -> None:
    base = Options(prompt="x", width=512, height=768, steps=4, spoiler=True)
    assert merge(base, Options(steps=9)) == Options(prompt="x", width=512, height=768, steps=9, spoiler=True)
    assert merge(base, Options(prompt="y", aspect=(1, 2))) == Options(
        prompt="y", aspect=(1, 2), steps=4, spoiler=True
    )
    assert merge(Options(aspect=(1, 2)), Options(width=64)) == Options(width=64)


# --- one line ---------------------------------------------------------------------------------------------


@given(st.text(max_size=200), st.integers(1, 90))
def test_a_clipped_text_is_one_line_within_its_limit(text: str, limit: int) -> None:
    line = clip(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


def test_clipping_does_not_part_a_character() -> None:
    assert clip("abcde\u0301fgh", 6) == "abcd…"
    assert clip("ab🇫🇷🇩🇪🇮🇹", 6) == "ab🇫🇷…"
    assert clip("a👋🏽bcd", 3) == "a…"
