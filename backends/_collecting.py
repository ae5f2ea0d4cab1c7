"""What a finished remote job comes to: its pictures as events, and the whole request's Done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from backends._http import Expired, Http, checked_picture, decoded_picture
from backends._jobs import Job, Part
from backends._wire import Finished, Found, Look, Working
from bot.core.errors import FairbrushError, Unavailable
from bot.core.pictures import exact_size, size_of
from bot.core.ports import Done, ImageReady, ImageRejected, Price
from bot.core.request import JSON, ImageRequest


async def collect(
    http: Http, part: Part, found: Found, look_again: Callable[[], Awaitable[Look]]
) -> ImageReady | ImageRejected:
    """One picture, checked and at the size asked for; a link that has expired is asked for once more.

    Raises ProtocolError, Unavailable or TimedOut, with accepted None: it was made, and may be charged.
    """
    index = part.offset + found.index
    seed = part.facts.seed_of(found.index) if found.seed is None else found.seed
    if found.rejected and not (found.url or found.base64 or found.data):
        return ImageRejected(index, found.rejected, seed=seed)
    data, mime = await _bytes(http, found, look_again)
    if size_of(data) != (part.facts.width, part.facts.height):
        data = await asyncio.to_thread(exact_size, data, part.facts.width, part.facts.height)
        mime = "image/png"
    if found.rejected:
        return ImageRejected(index, found.rejected, data, mime, seed)
    return ImageReady(index, data, mime, seed)


async def _bytes(http: Http, found: Found, look_again: Callable[[], Awaitable[Look]]) -> tuple[bytes, str]:
    if found.data is not None:
        return found.data, await asyncio.to_thread(checked_picture, found.data)
    if found.base64:
        return await asyncio.to_thread(decoded_picture, found.base64)
    try:
        return await http.picture(found.url)
    except Expired:
        try:
            look = await look_again()
        except FairbrushError as error:  # whatever is said now, the picture was made
            why = f"{error.message} {error.detail}"
            raise Unavailable(
                "The picture could not be fetched.", detail=why, retry_after=error.retry_after, accepted=None
            ) from None
        fresh = look.pictures if isinstance(look, Working | Finished) else ()
        again = next((one for one in fresh if one.index == found.index), None)
        if again is None or not again.url:
            raise
        return await http.picture(again.url)


def done_of(job: Job, finished: Sequence[Finished], made: int, wall: float, price: Price | None) -> Done:
    """The end of a request. made: pictures given out; wall: seconds that it took, for services that do not
    say how long they worked; price: where they do not say what it cost."""
    facts = job.facts
    seconds = [look.device_seconds for look in finished if look.device_seconds is not None]
    device = sum(seconds) if seconds and len(seconds) == len(finished) else wall
    applied: dict[str, JSON] = {}
    for look in finished:
        applied.update(look.applied)
    notes = [note for look in finished for note in look.notes]
    if made < facts.count:
        why = f" {job.shortfall[0].message}" if job.shortfall else ""
        notes.append(f"{made} of {facts.count} pictures were made.{why}")
    model = next((look.model for look in finished if look.model), facts.model)
    return Done(device, _money(job, finished, device, price), model, tuple(dict.fromkeys(notes)), applied)


def _money(job: Job, finished: Sequence[Finished], device: float, price: Price | None) -> float | None:
    """US dollars: what the service reports, else by its price for all that it took."""
    reported = [look.money for look in finished if look.money is not None]
    if reported and len(reported) == len(finished):
        return sum(reported)
    if price is None:
        return None
    facts = job.facts
    count = sum(part.facts.count for part in job.taken)
    return price.of(ImageRequest("", facts.width, facts.height, 1, 0.0, facts.seed, count), device)
