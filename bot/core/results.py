"""What came of a group, for people: its pictures, how it ended, and what can be done about it now.

What is offered depends on the backends of this moment, so it is worked out each time and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bot.core.checks import check_work, doubled
from bot.core.codec import request_from_json
from bot.core.desk import group_state
from bot.core.errors import InvalidRequest, ProtocolError
from bot.core.gallery import Gallery
from bot.core.lanes import Lane
from bot.core.options import Options
from bot.core.ports import StoredGroup, StoredJob, StoredPicture
from bot.core.request import JSON, Image, ImageRequest, ImageResult, Limits, State
from bot.core.resolve import UPSCALE_STRENGTH
from bot.core.sizes import nearest_size

_NOTHING = Image(b"", "", 0, 0)


def result_of(group: StoredGroup, gallery: Gallery, lanes: Sequence[Lane], limits: Limits) -> ImageResult:
    """All that came of an ended group; pictures that were withheld are left out, and the rest is counted
    anew. lanes, limits: what the buttons under it may promise."""
    jobs = group.jobs
    shown = shown_pictures(group)
    moneys = [job.money for job in jobs if job.money is not None]
    remedy = _remedy(group, lanes, limits)
    return ImageResult(
        group_id=group.group_id,
        requester=group.requester,
        prompt=str(jobs[0].request["prompt"]),
        state=group_state([job.state for job in jobs]),
        pictures=tuple(
            replace(gallery.picture(picture), index=index) for index, (_, picture) in enumerate(shown)
        ),
        notes=tuple(dict.fromkeys(note for job in jobs for note in job.notes)),
        message=" ".join(dict.fromkeys(job.message for job in jobs if job.message)),
        reference=next((job.reference for job in jobs if job.reference), ""),
        spoiler=any(bool(job.request.get("spoiler")) for job in jobs),
        backend=", ".join(dict.fromkeys(job.backend for job in jobs if job.backend)),
        model=next((job.model for job in jobs if job.model), ""),
        device_seconds=sum(job.device_seconds for job in jobs),
        money=sum(moneys) if moneys else None,
        waited=max((job.ended_at or group.created_at for job in jobs), default=group.created_at)
        - group.created_at,
        vary=any(_can_vary(job, picture, lanes) for job, picture in shown),
        upscale=any(_can_upscale(job, picture, lanes, limits) for job, picture in shown),
        remedy=remedy,
        remedy_label=f"{remedy['width']}×{remedy['height']}" if remedy else "",
    )


def shown_pictures(group: StoredGroup) -> list[tuple[StoredJob, StoredPicture]]:
    """A group's pictures in the order that people see and count them, without what was withheld."""
    return [
        (job, picture)
        for job in group.jobs
        for picture in sorted(job.pictures, key=lambda picture: picture.index)
        if not picture.withheld
    ]


def request_of(job: StoredJob) -> ImageRequest:
    """A stored job's request, its input pictures without their bytes. Raises ProtocolError where it is
    damaged."""
    return request_from_json(job.request, load=lambda name: _NOTHING)


def _from(job: StoredJob, picture: StoredPicture) -> ImageRequest | None:
    """The job's request from this picture; None where the job is damaged."""
    try:
        request = request_of(job)
    except ProtocolError:
        return None
    start = replace(request, count=1, init_image=_NOTHING, mask_image=None, upscale=False)
    return replace(start, width=picture.width, height=picture.height)


def _can_vary(job: StoredJob, picture: StoredPicture, lanes: Sequence[Lane]) -> bool:
    """Whether some backend takes a picture of this model to start from."""
    request = _from(job, picture)
    return request is not None and any(_makes(lane, request) for lane in lanes)


def _can_upscale(job: StoredJob, picture: StoredPicture, lanes: Sequence[Lane], limits: Limits) -> bool:
    """Whether some backend makes a second pass with this model, and twice the size is within the limits."""
    request = _from(job, picture)
    if request is None:
        return False
    larger = replace(request, upscale=True, strength=UPSCALE_STRENGTH)
    try:
        width, height = doubled(Image(b"", "", picture.width, picture.height), Options(), limits)
        larger = replace(larger, width=width, height=height)
        check_work(larger, limits, 1)
    except InvalidRequest:
        return False
    return any(_makes(lane, larger) for lane in lanes)


def _makes(lane: Lane, request: ImageRequest) -> bool:
    """Whether a new request such as this one may be promised: what stands in for a model is not offered."""
    return lane.own(request.model) is not None and lane.can_run(request)


def _remedy(group: StoredGroup, lanes: Sequence[Lane], limits: Limits) -> Mapping[str, JSON]:
    """A size that will do where what was asked for did not fit into memory: the model's own area, or a
    quarter of the area, in the same ratio. An upscale has no other size, nor has a model that makes all
    pictures at its native area."""
    failed = next((job for job in group.jobs if job.state is State.FAILED and job.field == "size"), None)
    if failed is None or group_state([job.state for job in group.jobs]) is not State.FAILED:
        return {}
    try:
        request = request_of(failed)
    except ProtocolError:
        return {}
    models = (lane.model(request.model) for lane in lanes if _makes(lane, request))
    model = next((model for model in models if model is not None and model.native_pixels is None), None)
    if model is None or request.upscale:
        return {}
    area, own = request.width * request.height, model.width * model.height
    wanted = own if own < 0.9 * area else area / 4
    width, height = nearest_size(request.width / request.height, wanted, limits, at_most=wanted)
    return {"width": width, "height": height} if width * height < 0.9 * area else {}
