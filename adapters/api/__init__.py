"""APIs in the formats of Stochastic's model API, Salad's Inference Endpoints and OpenAI's images."""

from __future__ import annotations

from bot.core.ports import Adapter
from bot.core.settings import Settings


def create(settings: Settings) -> Adapter | None:
    """The adapter, or None where there is nothing to serve."""
    return None
