"""Names in the order of a tag that changes often: a heap whose outdated items are dropped when they surface.

Knows nothing of fairness; the queue keeps three of these for each node that has children.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TypeVar

Found = TypeVar("Found")
Item = tuple[float, int, str]
"""(tag, tie, name): the least tag is first, then the least tie."""


class Ranking:
    """Names ordered by (tag, tie). put, drop and first take O(log n), spread over the calls."""

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[Item] = []
        self._live: dict[str, Item] = {}

    def __len__(self) -> int:
        return len(self._live)

    def put(self, name: str, tag: float, tie: int = 0) -> None:
        """Set a name's place; a name is ranked once."""
        live = self._live.get(name)
        if live is not None and live[0] == tag and live[1] == tie:
            return
        self._live[name] = item = (tag, tie, name)
        heappush(self._heap, item)
        if len(self._heap) > 2 * len(self._live) + 64:
            self._compact()

    def drop(self, name: str) -> None:
        """Take a name out; idempotent."""
        if self._live.pop(name, None) is not None and len(self._heap) > 2 * len(self._live) + 64:
            self._compact()

    def clear(self) -> None:
        """Take every name out."""
        self._heap.clear()
        self._live.clear()

    def first(self) -> Item | None:
        """The least item, None where there is none."""
        heap, live = self._heap, self._live
        while heap:
            item = heap[0]
            if live.get(item[2]) is item:
                return item
            heappop(heap)
        return None

    def search(self, look: Callable[[str], Found | None]) -> Found | None:
        """What `look` finds for the first name, in order, for which it finds anything.

        `look` must not change this ranking. O(k log n) where k names are passed over.
        """
        passed: list[Item] = []
        try:
            while (item := self.first()) is not None:
                found = look(item[2])
                if found is not None:
                    return found
                passed.append(heappop(self._heap))
            return None
        finally:
            for item in passed:
                heappush(self._heap, item)

    def _compact(self) -> None:
        self._heap = list(self._live.values())
        heapify(self._heap)
