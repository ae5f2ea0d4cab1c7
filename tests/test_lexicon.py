"""Prompts in words that the embedded model does not know."""

from __future__ import annotations

import pytest

from backends.local.lexicon import Lexicon, edits, map_negative, map_prompt, read_lexicon
from backends.local.sources import embedded_folder


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    found = read_lexicon(embedded_folder())
    assert found is not None
    return found


@pytest.mark.parametrize(
    "prompt",
    [
        "a red circle on a blue background",
        "A red circle on a blue background.",
        "a small green square at the top on an orange background",
        "a red house and a tree under a starry night sky",
        "green hills at sunset with the sun over the sea",
        "a sunny beach with a boat",
        "",
    ],
)
def test_prompts_in_the_grammar_pass_unchanged(lexicon: Lexicon, prompt: str) -> None:
    assert map_prompt(prompt, lexicon) == (prompt, ())


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("a fox", "an orange circle"),
        ("a red fox", "a red circle"),
        ("a crimson cricle on a navy background", "a red circle on a blue background"),
        ("the ocean at midnight with a ship", "a boat on the sea at night"),
        ("2 blue squares on white", "a blue square left of a blue square on a white background"),
        ("foxes and dogs", "an orange circle left of a brown circle"),
        ("a dog next to a cat", "a brown circle left of a gray circle"),
        ("a huge golden star in the centre", "a large yellow star in the middle"),
        ("a big yellow star above a tiny pink heart on black", None),
        ("a forest with a red barn and a lake", "a red house and a tree by the sea"),
        ("a red circle on blue", "a red circle on a blue background"),
        ("stars", "a green field under a starry night sky"),
        ("draw me a red circle, please", "a red circle"),
        ("ships", "a boat on the sea"),
    ],
)
def test_unknown_words_become_the_nearest_known_ones(
    lexicon: Lexicon, prompt: str, caption: str | None
) -> None:
    wanted = caption or "a large yellow star above a small pink heart on a black background"
    assert map_prompt(prompt, lexicon)[0] == wanted


def test_a_note_says_what_was_drawn_instead(lexicon: Lexicon) -> None:
    _, notes = map_prompt("a fox on a navy background", lexicon)
    assert notes == (
        '"fox" is not known to the demonstration model; drew an orange circle instead',
        '"navy" was read as "blue"',
    )


def test_words_without_meaning_are_left_out_with_one_note(lexicon: Lexicon) -> None:
    caption, notes = map_prompt("a red circle with flibber and jabberwock, 4k, highly detailed", lexicon)
    assert caption == "a red circle"
    assert notes == ('Not known to the demonstration model and left out: "flibber", "jabberwock"',)


def test_nothing_known_gives_a_sensible_scene_and_says_so(lexicon: Lexicon) -> None:
    caption, notes = map_prompt("xyzzy plugh", lexicon)
    assert caption in lexicon.fallbacks
    assert caption in notes[0]
    assert map_prompt("xyzzy plugh", lexicon)[0] == caption


def test_a_third_shape_is_left_out(lexicon: Lexicon) -> None:
    caption, notes = map_prompt("a red circle, a blue square and a fox", lexicon)
    assert caption == "a red circle left of a blue square"
    assert notes == ('The demonstration model draws at most two shapes; left out: "fox"',)


def test_many_changes_are_told_in_few_lines(lexicon: Lexicon) -> None:
    _, notes = map_prompt("crimson navy teal ivory ebony golden lilac olive fox", lexicon)
    assert len(notes) <= 5


@pytest.mark.parametrize("prompt", ["🦊🦊", "‮abc", "'", "- -", "a" * 2000, "１２３", "赤い丸", "\n\t"])
def test_odd_prompts_are_mapped_without_an_error(lexicon: Lexicon, prompt: str) -> None:
    caption, notes = map_prompt(prompt, lexicon)
    assert isinstance(caption, str)
    assert all(len(note) < 300 for note in notes)


def test_what_comes_out_is_always_in_known_words(lexicon: Lexicon) -> None:
    for table in (lexicon.colours, lexicon.shapes, lexicon.scenery, lexicon.objects):
        for word in table:
            caption, _ = map_prompt(f"a {word}", lexicon)
            assert map_prompt(caption, lexicon) == (caption, ()), word


def test_every_table_leads_to_known_words(lexicon: Lexicon) -> None:
    for table in (lexicon.colours, lexicon.shapes, lexicon.scenery, lexicon.objects, lexicon.spelling):
        for concept in table.values():
            assert lexicon.known.issuperset(concept.split()), concept
    assert all(map_prompt(caption, lexicon) == (caption, ()) for caption in lexicon.fallbacks)


def test_negative_prompts_keep_only_what_is_known(lexicon: Lexicon) -> None:
    assert map_negative("blurry, watermark, crimson, red, ocean", lexicon) == "red sea"
    assert map_negative("ugly, deformed", lexicon) == ""


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("circle", "circle", 0), ("cricle", "circle", 1), ("sqare", "square", 1), ("tre", "star", 3)],
)
def test_edit_distance(one: str, other: str, distance: int) -> None:
    assert edits(one, other) == distance
