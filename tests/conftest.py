"""What all tests share: those that a test class says it has no use for are left out."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line("markers", "needs(what): left out where the class has it among what it `lacks`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a format cannot do at all: the suites check that `lacks` is neither more nor less."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        lacks: frozenset[str] = getattr(getattr(item, "cls", None), "lacks", frozenset())
        needs = {name for mark in item.iter_markers("needs") for name in mark.args}
        (left_out if needs & lacks else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
