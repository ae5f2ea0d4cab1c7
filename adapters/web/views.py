"""The JSON that the page reads: models, a request as it stands, its pictures.

A request is one object with the same keys wherever it comes from (live, from history, at its end), so that
the page only merges what it is given.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.core.desk import group_state
from bot.core.errors import InvalidRequest
from bot.core.grammar import format_options
from bot.core.options import Options, options_from_json, options_to_json
from bot.core.pictures import recipe_options
from bot.core.ports import JobStatus, Model, Position, Preview, Progress, StoredGroup
from bot.core.request import JSON, Defaults, ImageRequest, ImageResult, Limits, Picture, State
from bot.core.schedulers import SCHEDULERS, find_scheduler

if TYPE_CHECKING:
    from bot.core.studio import Ticket


def model_json(model: Model, kinds: Sequence[str] = ()) -> JSON:
    """A model as the card shows it. kinds: of the backends that offer it; price: US dollars of a picture of
    its own size, and of a second of device time."""
    price: JSON = None
    if model.price is not None:
        own = ImageRequest("", model.width, model.height, model.steps, model.guidance_scale, 0)
        price = {"picture": model.price.of(own, 0.0), "second": model.price.per_second}
    return {
        "id": model.id,
        "title": model.title,
        "width": model.width,
        "height": model.height,
        "steps": model.steps,
        "guidance": model.guidance_scale,
        "scheduler": model.scheduler,
        "schedulers": list(model.schedulers),
        "licence": model.licence,
        "commercial": model.commercial,
        "demo": model.demo,
        "native_pixels": model.native_pixels,
        "examples": list(model.examples[:6]),
        "advice": model.advice,
        "price": price,
        "kinds": list(kinds),
    }


def limits_json(limits: Limits) -> JSON:
    """What the form may be filled with."""
    return {
        "steps": [limits.min_steps, limits.max_steps],
        "guidance": [limits.min_guidance, limits.max_guidance],
        "side": [limits.min_side, limits.max_side],
        "side_multiple": limits.side_multiple,
        "count": [1, limits.max_count],
        "prompt": limits.max_prompt,
        "image_bytes": limits.max_image_bytes,
    }


def defaults_json(defaults: Defaults) -> JSON:
    """What a request gets where it does not say."""
    return {
        "width": defaults.width,
        "height": defaults.height,
        "steps": defaults.steps,
        "guidance": defaults.guidance_scale,
        "scheduler": defaults.scheduler,
    }


def status_json(status: JobStatus, line: str, preview: Preview | None) -> dict[str, JSON]:
    """A request that waits or runs. line: the sentence about it; preview: where there is a new one."""
    view: dict[str, JSON] = {
        "id": status.group_id,
        "prompt": status.prompt,
        "state": status.state.value,
        "made": status.made,
        "total": status.total,
        "line": line,
        "position": _position(status.position),
        "by": status.by,
        "progress": _progress(status.progress),
        "message": status.message,
        "reference": status.reference,
        "restarted": status.restarted,
    }
    if preview is not None:
        data = base64.b64encode(preview.data).decode("ascii")
        view["preview"] = f"data:{preview.mime};base64,{data}"
    return view


def _position(position: Position | None) -> JSON:
    if position is None:
        return None
    return {"ahead": position.ahead, "low": position.low, "high": position.high}


def _progress(progress: Progress | None) -> JSON:
    if progress is None:
        return None
    return {
        "fraction": min(max(progress.fraction, 0.0), 1.0),
        "step": progress.step,
        "total": progress.total,
        "phase": progress.phase,
    }


def result_json(result: ImageResult, line: str) -> dict[str, JSON]:
    """A request that has ended."""
    return {
        "id": result.group_id,
        "prompt": result.prompt,
        "state": result.state.value,
        "line": line,
        "message": result.message,
        "reference": result.reference,
        "pictures": [_picture(picture) for picture in result.pictures],
        "notes": list(result.notes),
        "model": result.model,
        "backend": result.backend,
        "seconds": result.device_seconds,
        "money": result.money,
    }


def group_json(group: StoredGroup) -> dict[str, JSON]:
    """A request from the store: what was asked for; its end comes from result_json()."""
    jobs = group.jobs
    state = group_state([job.state for job in jobs])
    return {
        "id": group.group_id,
        "sequence": group.sequence,
        "created_at": group.created_at,
        "prompt": next((str(job.request.get("prompt", "")) for job in jobs), ""),
        "remix": _remix(group),
        "width": jobs[0].request.get("width"),
        "height": jobs[0].request.get("height"),
        "picture_in": any("init_image" in job.request for job in jobs),
        "state": state.value,
        "total": sum(_count(job.request) for job in jobs),
    }


def ticket_json(ticket: Ticket) -> dict[str, JSON]:
    """A request that was just accepted."""
    return {
        "id": ticket.group_id,
        "prompt": ticket.requests[0].prompt,
        "state": State.ACCEPTED.value,
        "total": sum(request.count for request in ticket.requests),
        "remix": remix_json(ticket.options),
        "differences": list(ticket.differences),
        "width": ticket.requests[0].width,
        "height": ticket.requests[0].height,
    }


def request_json(requests: Sequence[ImageRequest], seed: int | None) -> JSON:
    """What would be made, for programs that ask for the same by an API: one request for each prompt. seed:
    the one that was said."""
    first = requests[0]
    return {
        "prompts": [request.prompt for request in requests],
        "negative_prompt": first.negative_prompt,
        "width": first.width,
        "height": first.height,
        "steps": first.steps,
        "guidance_scale": first.guidance_scale,
        "seed": seed,
        "count": first.count,
        "scheduler": first.scheduler,
        "scheduler_class": _class_name(first.scheduler),
        "model": first.model,
    }


def _class_name(scheduler: str | None) -> str | None:
    """The diffusers class that means this scheduler, else its own name, which is understood too."""
    spec = SCHEDULERS.get(scheduler or "")
    return spec.class_name if spec and find_scheduler(spec.class_name) == scheduler else scheduler


def _count(request: Mapping[str, JSON]) -> int:
    count = request.get("count", 1)
    return count if isinstance(count, int) else 1


def _remix(group: StoredGroup) -> JSON:
    try:
        return remix_json(options_from_json(group.options))
    except InvalidRequest:  # written by another version
        return None


def remix_json(options: Options) -> JSON:
    """What fills the form again: `text` for the prompt box, written so that the grammar reads it back."""
    rest = options_to_json(replace(options, prompt=""))
    text = format_options(Options(prompt=options.prompt))
    return {"text": text, "options": rest, "command": command(options)}


def command(options: Options) -> str:
    """The line for a shell that makes the same."""
    return f"fairbrush imagine {shlex.quote(format_options(options))} -o picture.png"


def _picture(picture: Picture) -> JSON:
    shown: dict[str, JSON] = {
        "width": picture.width,
        "height": picture.height,
        "seed": picture.seed,
        "withheld": picture.withheld,
    }
    if not picture.withheld:
        shown |= {"name": picture.name, "alt": picture.alt_text, "recipe": picture.recipe}
        shown["remix"] = _remix_of(picture.recipe)
    return shown


def _remix_of(recipe: Mapping[str, JSON]) -> JSON:
    try:
        return remix_json(recipe_options(recipe))
    except (InvalidRequest, KeyError):
        return None


def file_name(picture: Picture) -> str:
    """What a downloaded picture is called: plain ASCII, from its prompt and seed."""
    words = re.sub(r"[^a-z0-9]+", "-", str(picture.recipe.get("prompt", "")).lower())[:60].strip("-")
    extension = picture.mime.rpartition("/")[2]
    return f"{words or 'fairbrush'}-{picture.seed}.{'jpg' if extension == 'jpeg' else extension}"
