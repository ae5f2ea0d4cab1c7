"""What ComfyUI says of a prompt: its place in the queue, its end in the history, why it was refused. Pure.

Source: server.py and execution.py of ComfyUI.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from yarl import URL

from backends._answers import plain
from backends._comfyui_workflow import FIELDS, Workflow
from backends._wire import Ended, Finished, Found
from bot.core.errors import FairbrushError, InvalidRequest, ProtocolError, Unavailable
from bot.core.request import JSON

_MEMORY: Final = ("outofmemory", "out of memory", "allocation on device")


def place_of(queue: Mapping[str, JSON], prompt_id: str, client_id: str) -> int | None:
    """Prompts of others before this one, which waits or is being made; None where it is not in the queue. A
    job's pictures wait for each other: those of our own client are not counted."""
    running, pending = _entries(queue.get("queue_running")), _entries(queue.get("queue_pending"))
    if is_running(queue, prompt_id):
        return 0
    own = next((_number(entry) for entry in pending if entry[1] == prompt_id), None)
    if own is None:
        return None
    before = [*running, *(entry for entry in pending if _number(entry) < own)]
    return sum(_client(entry) != client_id for entry in before)


def is_running(queue: Mapping[str, JSON], prompt_id: str) -> bool:
    """Whether it is the one being made."""
    return any(entry[1] == prompt_id for entry in _entries(queue.get("queue_running")))


def graph_of(
    queue: Mapping[str, JSON], history: Mapping[str, JSON], prompt_id: str
) -> Mapping[str, JSON] | None:
    """The graph of a prompt that is in the queue or in the history; None where it is in neither."""
    entries = [*_entries(queue.get("queue_running")), *_entries(queue.get("queue_pending"))]
    ended = history.get(prompt_id)
    entries += _entries([ended.get("prompt")]) if isinstance(ended, Mapping) else []
    own = next((entry for entry in entries if entry[1] == prompt_id and len(entry) > 2), None)
    return own[2] if own is not None and isinstance(own[2], Mapping) else None


def _entries(value: JSON) -> list[Sequence[JSON]]:
    """[number, prompt_id, graph, ...] each."""
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [
        item for item in items if isinstance(item, Sequence) and not isinstance(item, str) and len(item) > 1
    ]


def _client(entry: Sequence[JSON]) -> JSON:
    extra = entry[3] if len(entry) > 3 else None
    return extra.get("client_id") if isinstance(extra, Mapping) else None


def _number(entry: Sequence[JSON]) -> float:
    return entry[0] if isinstance(entry[0], int | float) else math.inf


# --- the end ----------------------------------------------------------------------------------------------


def read_end(
    entry: Mapping[str, JSON], output: str, base: URL, applied: Mapping[str, JSON]
) -> Finished | Ended:
    """How a prompt ended, by its entry in the history. output: the node whose picture is taken; base: the
    server's address."""
    status = entry.get("status")
    status = status if isinstance(status, Mapping) else {}
    messages = _messages(status.get("messages"))
    if "execution_interrupted" in messages:
        return Ended(Unavailable("The picture was stopped at the image server.", accepted=True))
    if "execution_error" in messages or status.get("status_str") == "error":
        return Ended(_failure(messages.get("execution_error", {})))
    picture = _picture(entry.get("outputs"), output)
    if picture is None:
        return Ended(ProtocolError("The image server made no picture.", detail="no output", accepted=True))
    query = {name: str(picture.get(name, "")) for name in ("filename", "subfolder", "type")}
    url = base / "view" % query
    return Finished((Found(0, url=str(url)),), device_seconds=_seconds(messages), applied=applied)


def _messages(value: JSON) -> dict[str, Mapping[str, JSON]]:
    """[[event, data], ...] by event."""
    found: dict[str, Mapping[str, JSON]] = {}
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        if isinstance(item, Sequence) and len(item) == 2 and isinstance(item[1], Mapping):
            found[str(item[0])] = item[1]
    return found


def _failure(data: Mapping[str, JSON]) -> FairbrushError:
    kind, message = str(data.get("exception_type", "")), str(data.get("exception_message", ""))
    detail = plain(f"{data.get('node_type')}: {kind}: {message}")
    if any(sign in f"{kind} {message}".casefold() for sign in _MEMORY):
        return InvalidRequest(
            "The image server has too little memory for this. Ask for a smaller size.",
            field="size",
            detail=detail,
            accepted=True,
        )
    return Unavailable("The image server failed inside.", detail=detail, accepted=True)


def _picture(outputs: JSON, node: str) -> Mapping[str, JSON] | None:
    """The first picture of a node."""
    output = outputs.get(node) if isinstance(outputs, Mapping) else None
    images = output.get("images") if isinstance(output, Mapping) else None
    for image in images if isinstance(images, Sequence) and not isinstance(images, str) else ():
        if isinstance(image, Mapping) and isinstance(image.get("filename"), str):
            return image
    return None


def _seconds(messages: Mapping[str, Mapping[str, JSON]]) -> float | None:
    """Between the start and the end, by the server's clock (milliseconds)."""
    times = [messages.get(name, {}).get("timestamp") for name in ("execution_start", "execution_success")]
    start, end = times
    if isinstance(start, int | float) and isinstance(end, int | float) and 0 <= end - start < 1e12:
        return (end - start) / 1000
    return None


# --- refusals ---------------------------------------------------------------------------------------------


def read_refusal(fields: Mapping[str, JSON], workflow: Workflow, detail: str) -> FairbrushError:
    """What status 400 to a prompt means: a value of ours, or a fault of the workflow."""
    nodes = fields.get("node_errors")
    for node_id, node in nodes.items() if isinstance(nodes, Mapping) else ():
        errors = node.get("errors") if isinstance(node, Mapping) else None
        for error in errors if isinstance(errors, Sequence) and not isinstance(errors, str) else ():
            more = error.get("extra_info") if isinstance(error, Mapping) else None
            name = more.get("input_name") if isinstance(more, Mapping) else None
            word = workflow.placeholder_at(node_id, str(name))
            if word is not None:
                field = FIELDS[word]
                return InvalidRequest(
                    f"The image server does not take this {field.replace('_', ' ')}.",
                    field=field,
                    detail=detail,
                    accepted=False,
                )
    return ProtocolError(
        f"The image server does not take the workflow {workflow.title}.", detail=detail, accepted=False
    )
