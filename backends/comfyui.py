"""Pictures made by ComfyUI, by workflows that are files.

    comfyui:http://gpu2:8188
    comfyui:http://gpu2:8188;workflow=/etc/fairbrush/mine.json;img2img=/etc/fairbrush/mine-image.json

The target is the server's address. workflow, img2img, inpaint, upscale: files with graphs in API format (see
_comfyui_workflow.py for what stands in them); where none is named those that come along are used, and where
`workflow` is named only what else is named is offered. model: the default model. Nothing is paid.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from importlib import resources
from pathlib import Path
from typing import Final, cast

from backends._comfyui_socket import Socket
from backends._comfyui_wire import ComfyWire
from backends._comfyui_workflow import Kind, Workflow, read_workflow
from backends._fitting import small
from backends._http import REAL_CLOCK, Http, poll_delays
from backends._remote import Remote
from bot.core.errors import ConfigurationError, FairbrushError, TimedOut, Unavailable
from bot.core.ports import Backend, Clock, Done, Event, Health, Preview, Progress, RemoteRef, Taken
from bot.core.settings import BackendEntry, Settings

_OWN: Final[Mapping[Kind, str]] = {
    Kind.TEXT: "text.json",
    Kind.IMAGE: "image.json",
    Kind.INPAINT: "inpaint.json",
    Kind.UPSCALE: "image.json",
}
_MOST: Final = 4 * 2**20  # bytes of a workflow


def create(target: str, settings: Settings) -> Backend:
    """The backend of `comfyui:ADDRESS`. Raises ConfigurationError."""
    entry = settings.entry("comfyui", target)
    entry.expect(*(kind.value for kind in Kind), "model")
    if not target:
        raise ConfigurationError(
            "FAIRBRUSH_BACKENDS: comfyui needs an address: comfyui:http://127.0.0.1:8188"
        )
    return build(entry, previews=settings.previews)


def build(entry: BackendEntry, *, previews: bool = True, clock: Clock = REAL_CLOCK) -> ComfyUI:
    """The backend of an entry, by a clock."""
    http = Http(entry.target, clock=clock, service="The image server", per_minute=6000)
    socket = Socket(http, f"fairbrush-{uuid.uuid4().hex}", clock)
    wire = ComfyWire(
        entry.name,
        read_workflows(entry),
        socket,
        model=entry.options.get("model", ""),
        previews=previews,
    )
    return ComfyUI(entry.name, wire, socket, http, clock)


def read_workflows(entry: BackendEntry) -> dict[Kind, Workflow]:
    """The workflows of an entry. Raises ConfigurationError."""
    named = {kind: Path(entry.options[kind.value]) for kind in Kind if kind.value in entry.options}
    if Kind.TEXT not in named:
        if named:
            raise ConfigurationError(
                f"FAIRBRUSH_BACKENDS: {entry.name}: {next(iter(named)).value}= goes with workflow= alone."
            )
        folder = resources.files("backends") / "_workflows"
        return {kind: read_workflow((folder / file).read_text(), file, kind) for kind, file in _OWN.items()}
    if Kind.INPAINT in named and Kind.IMAGE not in named:
        raise ConfigurationError(f"FAIRBRUSH_BACKENDS: {entry.name}: inpaint= goes with img2img= alone.")
    return {kind: read_workflow(_text(entry, kind, path), str(path), kind) for kind, path in named.items()}


def _text(entry: BackendEntry, kind: Kind, path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
        if len(data) <= _MOST:
            return data.decode("utf-8-sig")  # Windows puts a mark before it
        why = f"it is over {_MOST // 2**20} MB"
    except OSError as error:
        why = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        why = "it is no text in UTF-8"
    raise ConfigurationError(f"FAIRBRUSH_BACKENDS: {entry.name}: {kind.value}={path} cannot be read: {why}.")


class ComfyUI(Remote):
    """A ComfyUI, with the previews of our own prompts among the events."""

    def __init__(self, name: str, wire: ComfyWire, socket: Socket, http: Http, clock: Clock) -> None:
        super().__init__(name, wire, http, clock=clock, delays=lambda: poll_delays(0.25, 1.0))
        self._socket = socket
        self._comfy = wire

    async def health(self) -> Health:
        """Whether it can be reached, and has what the workflows need."""
        health = await super().health()
        return Health(False, detail=self._comfy.trouble) if self._comfy.trouble else health

    async def events(self, ref: RemoteRef) -> AsyncIterator[Event]:
        """What happens to a job. Nothing is paid: one whose end cannot be learnt may be made again."""
        prompts = _prompts(ref)
        try:
            async with aclosing(cast("AsyncGenerator[Event, None]", super().events(ref))) as events:
                async for event in events:
                    if isinstance(event, Taken):
                        prompts = _prompts(event.ref)
                    if isinstance(event, Done):
                        yield Progress(1.0)
                    yield event
                    if isinstance(event, Progress):
                        for preview in await self._previews(prompts):
                            yield preview
        except FairbrushError as error:
            if error.accepted is None and isinstance(error, Unavailable | TimedOut):
                raise Unavailable(
                    "The image server does not answer.",
                    detail=f"{error.message} {error.detail}",
                    accepted=False,
                ) from None
            raise
        finally:
            for prompt_id in prompts:
                self._socket.forget(prompt_id)

    async def aclose(self) -> None:
        """Let go of everything; the server goes on."""
        await super().aclose()
        await self._socket.aclose()

    async def _previews(self, prompts: Sequence[str]) -> list[Preview]:
        """What is new since the last time."""
        found = []
        for index, prompt_id in enumerate(prompts):
            if (data := self._socket.take_preview(prompt_id)) and (picture := await small(data)):
                found.append(Preview(picture, "image/jpeg", index))
        return found


def _prompts(ref: RemoteRef) -> list[str]:
    """The ids of a job's prompts, one a picture; "" for one that was not handed in."""
    handles = ref.data.get("remote")
    items = handles if isinstance(handles, Sequence) and not isinstance(handles, str) else ()
    return [str(item.get("id", "")) if isinstance(item, Mapping) else "" for item in items]
