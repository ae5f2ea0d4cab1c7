"""Content rules: what is refused however it is disguised, and what must not be."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.errors import ContentRejected
from bot.core.moderation import BLOCKED_WORDS, MINORS, Moderation, previews_allowed
from bot.core.ports import Capabilities
from bot.core.request import ImageRequest
from bot.core.wordforms import normal, word_forms

RULES = Moderation(blocked_words=["grotesque", "evil clown", "Зло", "cunt", "fall", "ass"])


def rule_of(*texts: str) -> str | None:
    """The rule that refuses the texts, None where none does."""
    try:
        RULES.check(texts)
    except ContentRejected as refused:
        return refused.field
    return None


# --- the operator's words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a grotesque mask",
        "GROTESQUE",
        "grotesque, detailed",
        "(grotesque:1.4)",
        "gr0tesque",
        "gr0t3squ3",
        "gr0t35que!",
        "ｇｒｏｔｅｓｑｕｅ",
        "𝓰𝓻𝓸𝓽𝓮𝓼𝓺𝓾𝓮",
        "ⓖⓡⓞⓣⓔⓢⓠⓤⓔ",
        "🅶🆁🅾🆃🅴🆂🆀🆄🅴",
        "grоtеsque",  # Cyrillic o and e
        "GRΟΤESQUE",  # Greek capitals
        "grøtésquê",
        "g\u0301r\u0302o\u0303tesque",
        "gro\u200btes\u200dque",
        "gro\u202etesque",
        "gro\u00adtesque",
        "gro\ufe0ftesque",
        "g r o t e s q u e",
        "g.r.o.t.e.s.q.u.e",
        "g - r - o - t - e - s - q - u - e",
        "a big g r o t e s q u e  face",
        "gro-tesque",
        "gro.tes.que",
        "grooootesque",
        "gRoTeSqUe",
        "evil clown",
        "evil   clown",
        "evil\nclown",
        "evil-clown",
        "evil_clown.png",
        "EvilClown.png",
        "3v1l cl0wn",
        "зло",
        "ЗЛО",
    ],
)
def test_blocked_words_are_found_in_disguise(text: str) -> None:
    assert rule_of(text) == BLOCKED_WORDS


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe at dawn",
        "a classic glass of Assam, assassin's bass",
        "grotesquely",
        "an evil king and a clown",
        "a fail, a ball and a full moon",
        "1girl, 4k, 8k, f/1.4, 35mm, 50 mm, 16:9, s05",
        "a b c d e f g",
        "A S S E M B L Y hall",
        "добро",
        "",
        " \n ",
        "!!! ??? ...",
    ],
)
def test_harmless_texts_with_a_blocked_word_inside_a_word_pass(text: str) -> None:
    assert rule_of(text) is None


def test_each_of_several_texts_is_checked() -> None:
    assert rule_of("a mask", "", "grotesque") == BLOCKED_WORDS


def test_without_words_of_the_operator_nothing_is_blocked() -> None:
    Moderation().check(["a grotesque evil clown"])


# --- the rule that is always on ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a nude child",
        "naked kids at the lake",
        "sexy schoolgirl",
        "sexy school-girl",
        "loli, nsfw",
        "nude 15 year old",
        "nude, 15-year-old",
        "topless 14yo",
        "topless 14 y/o",
        "topless 14 y.o. girl",
        "sexy girl, aged 12",
        "sexy girl, age: 12",
        "at the age of nine, naked",
        "a naked fifteen-year-old",
        "seventeen years old, lingerie",
        "under 18, erotic",
        "younger than eighteen, erotic",
        "naked 8 months old",
        "underage nudity",
        "sexy 15 year old cat girl",
        "15 year old girl with whisky, nude",
        "n4k3d k1d",
        "nudé chіld",
        "ｎｕｄｅ ｌｏｌｉ",
        "n u d e child",
        "n u d e c h i l d",
        "n.u.d.e. c.h.i.l.d",
        "nu\u200bde ch\u200dild",
        "naaaaked teeeens",
        "NudeChild.png",
        "nude_child_02.jpeg",
        "nackte 15-jährige",
        "enfants nus, fille nue de 14 ans",
        "школьница, секс",
        "16 лет, голая",
        "裸の幼女",
        "小学生ヌード",
        "15歳 裸",
        "미성년자 누드",
        "a child, nude lipstick, nude",
    ],
)
def test_minors_and_sexual_content_together_are_refused(text: str) -> None:
    assert rule_of(text) == MINORS


@pytest.mark.parametrize(
    "text",
    [
        "a child on a swing",
        "a nude statue in a museum",
        "a nude woman, oil on canvas",
        "1girl, nude, adult",
        "a sexy 25 year old woman",
        "sexy woman aged 31",
        "nude, over 18",
        "18 years old, lingerie",
        "kid goat",
        "a naked farmer with a kid goat",
        "a 15 year old whisky bottle and a nude wall colour",
        "15 year old car, nude model",
        "a comet seen by children with the naked eye",
        "kids in a nude lipstick advert",
        "a sexy model in a baby blue dress",
        "Essex children and Sussex teenagers",
        "a sextant for kids",
        "children eating chicken breasts",
        "teenage mutant turtles",
        "a 5 month old puppy",
        "analysis of cumulus clouds for children",
        "1.15 yo-yo, sexy",
    ],
)
def test_harmless_texts_pass_the_rule(text: str) -> None:
    assert rule_of(text) is None


def test_the_rule_cannot_be_turned_off() -> None:
    with pytest.raises(ContentRejected):
        Moderation(blocked_words=[]).check(["a nude child"])


def request(prompt: str, negative: str = "", guidance: float = 7.5) -> ImageRequest:
    return ImageRequest(prompt, 512, 512, 20, guidance, 1, negative_prompt=negative)


def refused(asked: ImageRequest, *names: str) -> bool:
    try:
        RULES.check_request(asked, names=names)
    except ContentRejected:
        return True
    return False


def test_a_negative_prompt_that_keeps_nudity_out_of_a_childs_picture_is_welcome() -> None:
    assert not refused(request("a child on a swing", "nsfw, nude, blurry"))


def test_a_negative_prompt_is_held_to_the_rules_by_itself() -> None:
    assert refused(request("a swing", "nude child"))
    assert refused(request("a swing", "grotesque"))


def test_low_guidance_turns_the_negative_prompt_into_a_wish() -> None:
    assert refused(request("a child on a swing", "nsfw, nude", guidance=0.5))


def test_a_files_name_is_read_together_with_the_prompt() -> None:
    assert refused(request("make her naked"), "schoolgirl_03.png")
    assert not refused(request("make her smile"), "schoolgirl_03.png")


# --- what is told and kept --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a grotesque mask", "a nude child"])
def test_refusal_echoes_nothing_and_keeps_a_hash_alone(text: str) -> None:
    with pytest.raises(ContentRejected) as refused:
        RULES.check([text])
    error = refused.value
    assert error.detail == f"{error.field} sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    assert len(error.message) < 160
    assert "other words" in error.message
    for word in ("grotesque", "nude", "child"):
        assert word not in f"{error} {error.message} {error.detail} {error!r}".lower()


def test_previews_are_hidden_where_results_are_checked() -> None:
    assert previews_allowed(Capabilities((), previews=True))
    assert not previews_allowed(Capabilities((), previews=True, checks_content=True))
    assert not previews_allowed(Capabilities(()))


# --- reading ----------------------------------------------------------------------------------------------


@given(st.text(max_size=120))
def test_any_text_can_be_checked(text: str) -> None:
    assert rule_of(text) in (None, BLOCKED_WORDS, MINORS)


@given(st.text(max_size=60))
def test_normal_text_is_normal(text: str) -> None:
    assert normal(normal(text)) == normal(text)


@given(st.lists(st.sampled_from(["red", "fox", "snow", "Über", "狐"]), min_size=1))
def test_plain_words_are_the_first_reading(words: list[str]) -> None:
    assert list(word_forms(" ".join(words)).readings[0]) == [normal(word) for word in words]


@pytest.mark.parametrize(
    "unit",
    [
        "a fox at 4k, ",
        "тhе f0x, ",
        "a,b;c ",
        "a b c ",
        "x1",
        "!",
        ".a",
        "n4-",
        "aaa ",
        "é",
        "15 ",
        "kid nude wall ",
    ],
)
def test_checking_takes_time_in_proportion_to_the_length(unit: str) -> None:
    def seconds(length: int) -> float:
        text = (unit * length)[:length]
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            rule_of(text)
            best = min(best, time.process_time() - start)
        return best

    seconds(100)  # loads tables
    assert seconds(2_000) < 0.02  # about 1 ms on an idle core; a hundred times that where it were quadratic
    assert seconds(20_000) < 0.2
