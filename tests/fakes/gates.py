"""Stages at which the calls to a local service can be held, so that a test acts exactly there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


class Gates:
    """Named stages. skip: so many passes of held stages are let through first."""

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = tuple(stages)
        self.skip = 0
        self._held: dict[str, asyncio.Event] = {}
        self._reached = {stage: asyncio.Event() for stage in stages}

    # --- for tests ---

    def hold(self, stage: str, *, skip: int = 0) -> None:
        """Let what comes to this stage wait, but for the first `skip`."""
        assert stage in self.stages, stage
        self.skip = skip
        self._held.setdefault(stage, asyncio.Event())
        self._reached[stage].clear()

    def release(self, stage: str) -> None:
        """Let the stage go on."""
        if (gate := self._held.pop(stage, None)) is not None:
            gate.set()

    def release_all(self) -> None:
        """Let everything go on."""
        for stage in self.stages:
            self.release(stage)

    async def reached(self, stage: str, seconds: float = 60.0) -> None:
        """Until something is at a held stage."""
        async with asyncio.timeout(seconds):
            await self._reached[stage].wait()

    # --- for the service ---

    async def through(self, stage: str) -> None:
        """Wait while the stage is held."""
        gate = self._held.get(stage)
        if gate is None:
            return
        if self.skip > 0:
            self.skip -= 1
            return
        self._reached[stage].set()
        await gate.wait()

    def closed(self, stage: str) -> bool:
        """Whether the stage is held now; what asks does not wait, but counts as being there."""
        if stage in self._held:
            self._reached[stage].set()
        return stage in self._held
