"""JSON bodies: large texts are cheap, and whatever would be dear is refused before it is parsed."""

from __future__ import annotations

import pytest

from adapters._strictjson import MAX_DIGITS, MAX_PARTS, loads


def test_a_large_text_is_read_whole() -> None:
    """Pictures come as such, also where every character is escaped."""
    assert loads(b'{"a":"' + b"\\\\" * 2**20 + b'"}') == {"a": "\\" * 2**20}


@pytest.mark.parametrize("part", [b"[],", b"1,", b'"",', b"    "])
def test_a_body_of_countless_parts_is_not_parsed(part: bytes) -> None:
    """They would hold the program up for seconds, and take many times their size in memory."""
    with pytest.raises(ValueError, match="too many parts"):
        loads(b"[" + part * MAX_PARTS + b"1]")
    assert loads(b"[" + part * 1000 + b"1]")


def test_an_endless_number_is_refused_in_plain_words() -> None:
    """Python's own refusal speaks of its settings."""
    with pytest.raises(ValueError, match=r"^A number has more than 1,000 digits\.$"):
        loads(b'{"seed":' + b"9" * 5000 + b"}")
    assert loads(b"9" * MAX_DIGITS) == int("9" * MAX_DIGITS)
