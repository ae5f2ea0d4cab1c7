"""What a request will cost, and how long it will take until it is done: learned from what happened.

Costs are device-seconds on the worker's own clock: pixels x steps x pictures x a rate for each (model,
worker). Waits are the queue's arithmetic, scaled by how much longer recent waits took than it said: a frozen
queue is optimistic, because later arrivals overtake. Pure; knows no clock, no store and no queue.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.core.request import JSON, ImageRequest

PRIOR_RATE: Final = 2e-7
"""Seconds per pixel and step before anything is known: 512 x 512 at 30 steps in 1.6 s, a mid-range GPU."""

CLIP: Final = 3.0  # one observation moves a rate as if it were at most this many times off
LEARNING: Final = 0.1  # weight of a new observation, once there are 1 / LEARNING of them

RECENT: Final = 200  # waits remembered for each bucket
ENOUGH: Final = 20  # waits in a bucket before it speaks for itself
BUCKETS: Final = (10.0, 60.0, 300.0)  # seconds of predicted wait at which the next bucket begins
PRIOR_BAND: Final = (0.8, 2.5)  # actual / predicted waits, 10 and 90 %, before anything is known


def work(request: ImageRequest) -> float:
    """Pixels x steps x pictures of a request; from a picture, only `strength` of the steps are made."""
    steps = float(request.steps)
    if request.init_image is not None and request.strength is not None:
        steps = max(1.0, steps * request.strength)
    return request.width * request.height * steps * request.count


def shown_ahead(before: int | None, ahead: int) -> int:
    """The number of requests ahead to show, where `before` was shown last (None: nothing yet).

    Falls are shown at once. A later arrival may overtake, so that the true number now and then rises a
    little: a rise is shown only past 1.5 x before + 3.
    """
    if before is None or ahead <= before or ahead > 1.5 * before + 3:
        return ahead
    return before


@dataclass(slots=True)
class Rate:
    """Seconds per pixel and step, as learned from `seen` jobs."""

    value: float
    seen: int = 0

    def learn(self, value: float) -> None:
        """Take in one job's rate. The first one counts in full; a later one is clipped to CLIP times."""
        if self.seen:
            value = min(max(value, self.value / CLIP), self.value * CLIP)
        self.seen += 1
        self.value += (value - self.value) * max(LEARNING, 1.0 / self.seen)


class Estimator:
    """Learns rates of models on workers, and how predicted waits turn out."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str], Rate] = {}
        self._ratios: list[deque[float]] = [deque(maxlen=RECENT) for _ in range(len(BUCKETS) + 1)]
        self._bands: dict[int, tuple[float, float]] = {}

    # --- costs ---

    def cost(self, request: ImageRequest, model: str, worker: str) -> float:
        """Estimated device-seconds of a request on a worker, over 0."""
        return work(request) * self._rate(model, worker)

    def observe(self, request: ImageRequest, model: str, worker: str, device_seconds: float) -> None:
        """A request took this many device-seconds. Nothing is learned from one that took none."""
        if not 0.0 < device_seconds < math.inf:
            return
        self._rates.setdefault((model, worker), Rate(PRIOR_RATE)).learn(device_seconds / work(request))

    def _rate(self, model: str, worker: str) -> float:
        """What is known of this pair, else of this model elsewhere, else of this worker, else the prior."""
        known = self._rates.get((model, worker))
        if known is not None:
            return known.value
        return (
            _middle(rate.value for (other, _), rate in self._rates.items() if other == model)
            or _middle(rate.value for (_, other), rate in self._rates.items() if other == worker)
            or PRIOR_RATE
        )

    # --- waits ---

    def predict(self, cost_ahead: float, own_cost: float, slots_speed: float) -> float:
        """Seconds until a job is done if nothing else comes: all device-seconds before it, and its own, over
        the device-seconds that all slots work off in a second. inf where nothing works."""
        return (cost_ahead + own_cost) / slots_speed if slots_speed > 0.0 else math.inf

    def wait(self, cost_ahead: float, own_cost: float, slots_speed: float) -> tuple[float, float]:
        """Seconds until a job is done, the 10 and 90 % ends, as recent waits of about this length went."""
        return self.spread(self.predict(cost_ahead, own_cost, slots_speed))

    def spread(self, predicted: float) -> tuple[float, float]:
        """The 10 and 90 % ends of a wait that the queue's arithmetic says is `predicted` seconds."""
        low, high = self._band(bisect_right(BUCKETS, predicted))
        return predicted * low, predicted * high

    def observe_wait(self, predicted: float, actual: float) -> None:
        """A job for which predict() said `predicted` seconds when it came was done after `actual`."""
        if not (0.0 < predicted < math.inf and 0.0 <= actual < math.inf):
            return
        self._ratios[bisect_right(BUCKETS, predicted)].append(actual / predicted)
        self._bands.clear()

    def _band(self, bucket: int) -> tuple[float, float]:
        band = self._bands.get(bucket)
        if band is None:
            band = self._bands[bucket] = self._measured(bucket)
        return band

    def _measured(self, bucket: int) -> tuple[float, float]:
        """The bucket's own ratios, else all of them, topped up with the prior while they are few."""
        ratios = list(self._ratios[bucket])
        if len(ratios) < ENOUGH:
            ratios = [ratio for each in self._ratios for ratio in each]
        missing = max(0, ENOUGH - len(ratios))
        if missing == ENOUGH:
            return PRIOR_BAND
        low, high = PRIOR_BAND
        ratios += [low + (high - low) * (i + 0.5) / missing for i in range(missing)]
        ratios.sort()
        return _quantile(ratios, 0.1), _quantile(ratios, 0.9)

    # --- keeping ---

    def to_json(self) -> JSON:
        """All that was learned, as plain JSON."""
        return {
            "rates": [
                [model, worker, rate.value, rate.seen] for (model, worker), rate in self._rates.items()
            ],
            "ratios": [list(ratios) for ratios in self._ratios],
        }

    @classmethod
    def from_json(cls, data: JSON) -> Estimator:
        """What to_json() gave; None gives a new one. ValueError, naming what is wrong, for anything else."""
        estimator = cls()
        if data is None:
            return estimator
        if not isinstance(data, Mapping):
            raise ValueError("estimator: not a JSON object")
        for row in _rows(data, "rates"):
            match row:
                case [str(model), str(worker), int() | float() as value, int(seen)] if 0.0 < value < math.inf:
                    estimator._rates[model, worker] = Rate(float(value), seen)
                case _:
                    raise ValueError(f"estimator: rates: not [model, worker, seconds, seen]: {row!r}")
        for bucket, values in zip(estimator._ratios, _rows(data, "ratios"), strict=False):
            if not isinstance(values, Sequence) or not all(
                isinstance(v, int | float) and v >= 0 for v in values
            ):
                raise ValueError(f"estimator: ratios: not a list of numbers of 0 or more: {values!r}")
            bucket.extend(float(value) for value in values)  # type: ignore[arg-type]  # checked just above
        return estimator


def _rows(data: Mapping[str, JSON], name: str) -> Sequence[JSON]:
    rows = data.get(name)
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise ValueError(f"estimator: {name}: not a list")
    return rows


def _middle(values: Iterable[float]) -> float:
    """The median (the upper one of two), 0 for none."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0


def _quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values, between the two nearest."""
    at = q * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)
