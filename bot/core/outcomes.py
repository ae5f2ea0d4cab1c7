"""What came of a job, in words and values that are stored."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from bot.core.desk import LiveJob
from bot.core.errors import Cancelled, ContentRejected, FairbrushError
from bot.core.ports import Done, Outcome, StoredPicture
from bot.core.request import State


def made(job: LiveJob, pictures: Sequence[StoredPicture], done: Done) -> Outcome:
    """A job whose backend finished it: DONE, or WITHHELD where every picture was kept back."""
    message = ""
    if job.rejected:
        reason = next(iter(job.rejected.values()))
        kept_back = len(job.rejected)
        message = (
            f"{kept_back} of {job.request.count} withheld: {reason}" if pictures else f"Withheld: {reason}"
        )
    elif len(pictures) < job.request.count:
        message = f"{len(pictures)} of {job.request.count} pictures came back."
    state = State.DONE if pictures else State.WITHHELD if job.rejected else State.FAILED
    return Outcome(
        state,
        pictures=tuple(pictures),
        message=message,
        device_seconds=done.device_seconds,
        money=done.money,
        model=done.model,
        notes=(*done.notes, *_spoilers(job)),
    )


def _spoilers(job: LiveJob) -> Sequence[str]:
    return [f"Behind a spoiler: {reason}" for reason in dict.fromkeys(job.flagged.values())]


def failed(error: FairbrushError, reference: str) -> Outcome:
    """A job that is not tried again."""
    match error:
        case ContentRejected():
            state = State.WITHHELD
        case Cancelled():
            state = State.CANCELLED
        case _:
            state = State.FAILED
    return Outcome(state, message=error.message, reference=reference, field=error.field or "")


def cancelled(job: LiveJob) -> Outcome:
    """A job that was cancelled by whoever may."""
    return Outcome(State.CANCELLED, message=job.cancel_message)


def unserved(job: LiveJob, reference: str) -> Outcome:
    """A job that no backend can run any more."""
    what = f"the model {job.request.model}" if job.request.model else "requests like this one"
    message = f"No backend here offers {what} any more. Send it again with another model."
    return Outcome(State.FAILED, message=message, reference=reference)


def broken(reference: str) -> Outcome:
    """A job that met a bug."""
    return Outcome(State.FAILED, message="Something broke while making it.", reference=reference)


def used(job: LiveJob) -> float:
    """Device-seconds that an unfinished job is charged: its estimate, by its progress."""
    return job.cost * (job.progress.fraction if job.progress else 0.0)


def new_reference() -> str:
    """A short id that ties what a user saw to a log line."""
    return "".join(secrets.choice("23456789ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(4))
