"""What an operator may say of a backend after its name, and what is refused at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.core.errors import ConfigurationError
from bot.core.settings import BackendEntry
from bot.core.terms import Terms
from tests.fakes.paid import flux, hosted


def test_terms_are_read_from_an_entry() -> None:
    entry = BackendEntry("fal", "flux", {"slots": "3", "after": "90s", "cap": "2.50"})
    assert Terms.of(entry) == Terms(3, 90.0, 2.5)
    assert Terms.of(BackendEntry("fal", "flux")) == Terms(None, 600.0, 1.0)
    assert Terms.of(BackendEntry("fal", "flux", {"after": "1.5h"})).after == 5400.0
    assert Terms.of(BackendEntry("fal", "flux", {"as": "a/b + c+a/b"})).stands_for == ("a/b", "c")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("slots", "0"),
        ("slots", "1001"),
        ("slots", "two"),
        ("slots", "²"),
        ("after", "10"),
        ("after", "-5m"),
        ("after", "10 m"),
        ("cap", "-1"),
        ("cap", "nan"),
        ("cap", "a dollar"),
        ("as", ""),
        ("as", "other+"),
    ],
)
def test_wrong_terms_are_refused_with_the_entry_and_what_is_allowed(option: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Terms.of(BackendEntry("fal", "flux", {option: value}))
    message = refused.value.message
    assert f"fal:flux;{option}={value}" in message
    assert "is not" in message


def test_no_model_stands_in_for_itself() -> None:
    with pytest.raises(ConfigurationError, match=r'fal:flux;as=flux: "flux" is not the id of another model'):
        Terms.of(BackendEntry("fal", "flux", {"as": "flux"}))


async def test_wrong_terms_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="fal:flux;cap=much"):
        async with hosted(tmp_path, flux(), options={"fal:flux": {"cap": "much"}}):
            pass


def test_an_option_that_nobody_heeds_is_refused() -> None:
    entry = BackendEntry("fal", "flux", {"slots": "2", "price": "0.04", "colour": "red"})
    with pytest.raises(
        ConfigurationError, match='no option "colour"; it knows slots, after, cap, as and price'
    ):
        entry.expect("price")
    BackendEntry("fal", "flux", {"after": "5m", "price": "0"}).expect("price")
