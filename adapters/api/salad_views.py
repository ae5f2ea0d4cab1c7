"""A job of Salad's current API as JSON, from what the store keeps of it and from what is in hand.

Pure. The client's input comes back as it was sent, but for large texts in it, which are pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bot.core.desk import group_state
from bot.core.ports import Address, StoredGroup
from bot.core.request import JSON, State

ECHOED: Final = 64 * 1024  # characters of an input up to which it comes back whole
KEPT: Final = 256  # characters of its texts that are kept where it is larger
STATUS: Final = {
    State.ACCEPTED: "pending",
    State.QUEUED: "pending",
    State.RUNNING: "running",
    State.DONE: "succeeded",
    State.WITHHELD: "failed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What is told of a job that does not change, and when it changed. Times are Unix seconds."""

    address: Address
    created_at: float
    state: State
    started_at: float | None = None
    ended_at: float | None = None


def card_of(group: StoredGroup) -> Card:
    """A stored job."""
    state = group_state([job.state for job in group.jobs])
    started = [job.started_at for job in group.jobs if job.started_at is not None]
    ended = [job.ended_at for job in group.jobs if job.ended_at is not None]
    return Card(
        group.address,
        created(group.address) or group.created_at,
        state,
        min(started) if started and state not in (State.ACCEPTED, State.QUEUED) else None,
        max(ended) if ended and state.ended else None,
    )


def job_json(
    public: str, organization: str, endpoint: str, card: Card, output: JSON = None
) -> dict[str, JSON]:
    """A job. output: None for none."""
    kept, status = card.address, STATUS[card.state]
    events: list[dict[str, JSON]] = [{"action": "created", "time": moment(card.created_at)}]
    if card.started_at is not None:
        events.append({"action": "started", "time": moment(card.started_at)})
    if card.state.ended:
        events.append({"action": status, "time": moment(card.ended_at or card.created_at)})
    job: dict[str, JSON] = {
        "id": public,
        "input": kept.get("input"),
        "inference_endpoint_name": endpoint,
        "organization_name": organization,
        "status": status,
        "events": events,
        "create_time": moment(card.created_at),
        "update_time": events[-1]["time"],
    }
    for name in ("metadata", "webhook_url", "webhook", "warnings"):
        if kept.get(name):
            job[name] = kept[name]
    return job if output is None else job | {"output": output}


def created(address: Address) -> float:
    """When the client was told that its job was created; 0 where that is not kept."""
    at = address.get("created")
    return float(at) if isinstance(at, (int, float)) else 0.0


def moment(at: float) -> str:
    """A time as RFC 3339 writes it, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def echo(value: JSON) -> JSON:
    """An input as it comes back."""
    return value if _size(value) <= ECHOED else _clipped(value)


def _size(value: JSON) -> int:
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, Mapping):
        return 2 + sum(len(key) + 4 + _size(each) for key, each in value.items())
    if isinstance(value, Sequence):
        return 2 + sum(1 + _size(each) for each in value)
    return 8


def _clipped(value: JSON) -> JSON:
    if isinstance(value, str):
        more = len(value) - KEPT
        return value if more <= 0 else f"{value[:KEPT]}... ({more:,} more characters)"
    if isinstance(value, Mapping):
        return {key: _clipped(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [_clipped(each) for each in value]
    return value
