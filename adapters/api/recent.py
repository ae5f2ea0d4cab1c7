"""Results of late, remembered: clients ask for them in the seconds after they are there."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from bot.core.request import ImageResult

if TYPE_CHECKING:
    from bot.core.studio import Studio

MOST: Final = 1000


class Recent:
    """The newest results. Any deletion forgets all that were there before it."""

    def __init__(self) -> None:
        self._results: OrderedDict[str, ImageResult] = OrderedDict()
        self._deletions = 0

    def put(self, result: ImageResult, studio: Studio) -> None:
        """A request has ended."""
        self._keep_up(studio)
        self._results[result.group_id] = result
        while len(self._results) > MOST:
            self._results.popitem(last=False)

    async def result(self, group_id: str, studio: Studio) -> ImageResult:
        """What came of a request, from memory or the store; the state may be one that has not ended. Raises
        NotFound."""
        self._keep_up(studio)
        return self._results.get(group_id) or await studio.result(group_id)

    def _keep_up(self, studio: Studio) -> None:
        if studio.deletions != self._deletions:
            self._deletions = studio.deletions
            self._results.clear()
