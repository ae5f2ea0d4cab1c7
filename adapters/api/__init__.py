"""APIs in the formats of Stochastic's model API, Salad's Inference Endpoints and OpenAI's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.core.ports import Adapter
    from bot.core.settings import Settings


def create(settings: Settings) -> Adapter | None:
    """The adapter; always on, since nobody comes in without a key."""
    from adapters.api.adapter import Api

    return Api(settings)
