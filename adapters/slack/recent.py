"""A small memory of what was so a moment ago. Lost with the process; nothing durable hangs on it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Recent:
    """Truths by key, for `seconds`, at most `most` of them."""

    def __init__(self, most: int, seconds: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._monotonic = monotonic
        self._known: OrderedDict[Hashable, tuple[float, bool]] = OrderedDict()

    def get(self, key: Hashable) -> bool | None:
        """What was put, None where nothing was or it is over."""
        found = self._known.get(key)
        if found is None or found[0] < self._monotonic() - self._seconds:
            return None
        return found[1]

    def put(self, key: Hashable, value: bool) -> None:
        """Remember."""
        self._known[key] = (self._monotonic(), value)
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
