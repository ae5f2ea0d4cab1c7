"""What crosses the pipe between the program and its worker: frames, and requests and events as frames.

A frame is a 4-byte big-endian length, that many bytes of JSON, then the blobs whose lengths the JSON gives.
Plain JSON and bytes only, so that neither side can make the other run anything. Imports no engine.
"""

from __future__ import annotations

import json
import struct
from asyncio import IncompleteReadError, StreamReader
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import BinaryIO, TypeAlias, cast

from bot.core import errors
from bot.core.errors import FairbrushError
from bot.core.ports import Done, Event, ImageReady, ImageRejected, Preview, Progress, Queued
from bot.core.request import JSON, Image, ImageRequest

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. kind: what it is; job: the ticket that it is about, or empty."""

    kind: str
    job: str = ""
    data: Mapping[str, JSON] = field(default_factory=dict)
    blobs: tuple[bytes, ...] = ()


Emit: TypeAlias = Callable[[Frame], None]


def pack(frame: Frame) -> bytes:
    """A frame as bytes."""
    sizes = [len(blob) for blob in frame.blobs]
    head = json.dumps({"kind": frame.kind, "job": frame.job, "data": frame.data, "blobs": sizes}).encode()
    return b"".join((_LENGTH.pack(len(head)), head, *frame.blobs))


async def read_frame(reader: StreamReader) -> Frame | None:
    """The next frame, None at the end of the stream."""
    try:
        (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        head = json.loads(await reader.readexactly(size))
        blobs = [await reader.readexactly(count) for count in head["blobs"]]
    except (IncompleteReadError, ConnectionError):
        return None
    return Frame(head["kind"], head["job"], head["data"], tuple(blobs))


def read_frame_blocking(stream: BinaryIO) -> Frame | None:
    """The next frame, None at the end of the stream; for the worker's reader thread."""
    start = stream.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        return None
    head = json.loads(stream.read(_LENGTH.unpack(start)[0]))
    blobs = tuple(stream.read(count) for count in head["blobs"])
    return Frame(head["kind"], head["job"], head["data"], blobs)


# --- requests ---------------------------------------------------------------------------------------------

_PICTURES = ("init_image", "mask_image")


def request_frame(ticket: str, request: ImageRequest, *, alone: bool = False) -> Frame:
    """A job for the worker. alone: let it share no model call (it was there when a worker fell)."""
    pictures = {name: getattr(request, name) for name in _PICTURES if getattr(request, name) is not None}
    plain = asdict(replace(request, init_image=None, mask_image=None))
    plain["pictures"] = {name: [p.mime, p.width, p.height] for name, p in pictures.items()}
    blobs = tuple(picture.data for picture in pictures.values())
    return Frame("job", ticket, {"request": plain, "alone": alone}, blobs)


def request_of(frame: Frame) -> ImageRequest:
    """The request in a job frame."""
    plain = dict(cast(Mapping[str, JSON], frame.data["request"]))
    heads = cast(Mapping[str, tuple[str, int, int]], plain.pop("pictures"))
    pictures = {
        name: Image(data, mime, width, height)
        for (name, (mime, width, height)), data in zip(heads.items(), frame.blobs, strict=True)
    }
    return ImageRequest(**(plain | pictures))  # type: ignore[arg-type]  # made by request_frame


# --- events -----------------------------------------------------------------------------------------------

_EVENTS: Mapping[str, type] = {
    kind.__name__: kind for kind in (Queued, Progress, Preview, ImageReady, ImageRejected, Done)
}


def event_frame(ticket: str, event: Event) -> Frame:
    """An event for the program."""
    data = asdict(event)
    blob = data.pop("data", None)
    return Frame(type(event).__name__, ticket, data, () if blob is None else (blob,))


def event_of(frame: Frame) -> Event | None:
    """The event in a frame, None where the frame is something else."""
    kind = _EVENTS.get(frame.kind)
    if kind is None:
        return None
    data = dict(frame.data)
    if frame.blobs:
        data["data"] = cast(JSON, frame.blobs[0])
    if kind is Done:
        data["notes"] = tuple(cast("list[str]", data["notes"]))
    return cast(Event, kind(**data))


# --- errors -----------------------------------------------------------------------------------------------


def error_frame(kind: str, ticket: str, error: FairbrushError) -> Frame:
    """An error for the program; kind: "failed" (a job) or "fatal" (the worker)."""
    data: dict[str, JSON] = {
        "class": type(error).__name__,
        "message": error.message,
        "detail": error.detail[-4000:],
        "field": error.field,
        "retry_after": error.retry_after,
        "accepted": error.accepted,
    }
    return Frame(kind, ticket, data)


def error_of(frame: Frame) -> FairbrushError:
    """The error in a frame."""
    data = frame.data
    kind: type[FairbrushError] = getattr(errors, str(data["class"]), errors.Unavailable)
    return kind(
        str(data["message"]),
        detail=str(data["detail"]),
        field=cast("str | None", data["field"]),
        retry_after=cast("float | None", data["retry_after"]),
        accepted=cast("bool | None", data["accepted"]),
    )
