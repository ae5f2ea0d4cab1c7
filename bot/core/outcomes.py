"""What came of a job, in words and values that are stored."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from bot.core.desk import LiveJob
from bot.core.errors import Cancelled, ContentRejected, FairbrushError
from bot.core.ports import Done, Model, Outcome, StoredPicture
from bot.core.request import State

MAYBE_CHARGED = "It may have been made and charged, so it is not sent again by itself."


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


def licensed(done: Done, model: Model | None) -> Done:
    """What was made, with a note where its model's licence forbids commercial use."""
    if model is None or model.commercial:
        return done
    note = f"{model.licence or model.title}: not for commercial use."
    return done if note in done.notes else replace(done, notes=(*done.notes, note))


def failed(error: FairbrushError, reference: str, money: float | None = None) -> Outcome:
    """A job that is not tried again; money: what it cost, or may have cost."""
    match error:
        case ContentRejected():
            state = State.WITHHELD
        case Cancelled():
            state = State.CANCELLED
        case _:
            state = State.FAILED
    message = error.message if error.money is not None else _with_doubt(error.message, money)
    return Outcome(state, message=message, reference=reference, money=money, field=error.field or "")


def _with_doubt(message: str, money: float | None) -> str:
    """A message that says that money may be gone."""
    return message if not money or "charged" in message else f"{message} {MAYBE_CHARGED}"


def cancelled(job: LiveJob, money: float | None = None) -> Outcome:
    """A job that was cancelled by whoever may; money: what it may have cost all the same."""
    return Outcome(State.CANCELLED, message=job.cancel_message, money=money)


def unserved(job: LiveJob, reference: str) -> Outcome:
    """A job that no backend can run any more."""
    what = f"the model {job.request.model}" if job.request.model else "requests like this one"
    message = f"No backend here offers {what} any more. Send it again with another model."
    return Outcome(State.FAILED, message=message, reference=reference)


def abandoned(job: LiveJob, reference: str) -> Outcome:
    """A job that a backend had which is not there any more, where nobody can be asked about it."""
    message = _with_doubt(f"{job.backend} is not among the backends any more.", job.held)
    return Outcome(State.FAILED, message=message, reference=reference, money=job.held)


def broken(reference: str, money: float | None = None) -> Outcome:
    """A job that met a bug; money: what it may have cost."""
    message = _with_doubt("Something broke while making it.", money)
    return Outcome(State.FAILED, message=message, reference=reference, money=money)


def used(job: LiveJob) -> float:
    """Device-seconds that an unfinished job is charged: its estimate, by its progress."""
    return job.cost * (job.progress.fraction if job.progress else 0.0)


def new_reference() -> str:
    """A short id that ties what a user saw to a log line."""
    return "".join(secrets.choice("23456789ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(4))
