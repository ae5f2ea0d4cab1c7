"""What came of a job or a group, in words and values that are stored and shown."""

from __future__ import annotations

from collections.abc import Sequence

from bot.core.desk import LiveJob, group_state
from bot.core.errors import Cancelled, ContentRejected, FairbrushError
from bot.core.gallery import Gallery
from bot.core.ports import Done, Outcome, StoredGroup, StoredPicture
from bot.core.request import ImageResult, State


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


def result_of(group: StoredGroup, gallery: Gallery) -> ImageResult:
    """All that came of an ended group."""
    jobs = group.jobs
    pictures = tuple(
        gallery.picture(picture) for job in jobs for picture in sorted(job.pictures, key=lambda p: p.index)
    )
    moneys = [job.money for job in jobs if job.money is not None]
    return ImageResult(
        group_id=group.group_id,
        requester=group.requester,
        prompt=str(jobs[0].request["prompt"]),
        state=group_state([job.state for job in jobs]),
        pictures=pictures,
        notes=tuple(dict.fromkeys(note for job in jobs for note in job.notes)),
        message=" ".join(dict.fromkeys(job.message for job in jobs if job.message)),
        reference=next((job.reference for job in jobs if job.reference), ""),
        spoiler=any(bool(job.request.get("spoiler")) for job in jobs),
        backend=next((job.backend for job in jobs if job.backend), ""),
        model=next((job.model for job in jobs if job.model), ""),
        device_seconds=sum(job.device_seconds for job in jobs),
        money=sum(moneys) if moneys else None,
        waited=max((job.ended_at or group.created_at for job in jobs), default=group.created_at)
        - group.created_at,
    )
