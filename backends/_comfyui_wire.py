"""ComfyUI as a service that is submitted to, polled and collected from: one prompt a picture.

A prompt's id is made from our ticket, so that one that may have been handed in is looked up in the queue and
the history, and never handed in twice. Nothing is paid.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from backends._checking import check_pictures, checked_scheduler
from backends._comfyui_history import graph_of, is_running, place_of, read_end, read_refusal
from backends._comfyui_offer import Offer, params_of, read_offer, short_name
from backends._comfyui_socket import Socket
from backends._comfyui_workflow import Graph, Kind, Workflow, fill, with_seed
from backends._http import Answer, Http, Missing, raise_for
from backends._wire import Facts, Handle, Look, Waiting, Wire, Working, one_by_one
from bot.core.errors import FairbrushError, Fault, InvalidRequest, ProtocolError, Unavailable
from bot.core.ports import CancelOutcome, Capabilities
from bot.core.request import JSON, Image, ImageRequest

log = logging.getLogger(__name__)

_IDS: Final = uuid.UUID("6f0c1a52-6a0e-5b0e-9a57-3f6d3a1b7c20")
_FOLDER: Final = "fairbrush"
_LISTS: Final = 16 * 2**20  # bytes of the queue or of a history entry, which hold whole graphs
_STRENGTH: Final = 0.75
_UPSCALE_STRENGTH: Final = 0.35
_ABSENT: Final = (404, 405)
_ENDINGS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


def prompt_id_of(ticket: str) -> str:
    """The id that a prompt is handed in with."""
    return str(uuid.uuid5(_IDS, ticket))


class ComfyWire(Wire):
    """See the module. workflows: by what they are for, TEXT always; model: the default one, "" for the first;
    previews: ask the server for them."""

    findable = True

    def __init__(
        self, name: str, workflows: Mapping[Kind, Workflow], socket: Socket, *, model: str, previews: bool
    ) -> None:
        self._name = name
        self._workflows = workflows
        self._socket = socket
        self._first = model
        self._previews = previews
        self._offer = Offer()
        self._missing = False
        self._nodes: dict[str, JSON] = {}
        self.trouble = ""  # why the server cannot be used with these workflows

    # --- what it offers -----------------------------------------------------------------------------------

    async def offered(self, http: Http) -> Capabilities:
        """The choices of the workflows' nodes. Raises Unavailable where the server lacks one of them."""
        try:
            capabilities = await self._read(http)
        except FairbrushError as error:
            if error.message != self.trouble:  # said once, not every minute
                log.warning("%s: %s %s", self._name, error.message, error.detail)
            self.trouble = error.message
            raise
        self.trouble = ""
        return capabilities

    async def _read(self, http: Http) -> Capabilities:
        text = self._workflows[Kind.TEXT]
        chosen = {text.class_at(place) for places in text.places.values() for place in places}
        for workflow in self._workflows.values():
            for name in sorted(workflow.classes):
                if name in chosen or name not in self._nodes:
                    self._nodes[name] = await self._node(http, name, workflow)
        offer = read_offer(text, self._nodes, self._first)
        if not offer.models:
            raise Unavailable("The image server has no model for the workflow.")
        missing = self._first != "" and short_name(self._first) not in offer.models
        if missing and not self._missing:  # said once, not every minute
            log.warning("%s: there is no model %s", self._name, self._first)
        self._offer, self._missing = offer, missing
        return Capabilities(
            models=offer.port_models(),
            params=params_of(self._workflows, offer),
            progress=True,
            previews=self._previews,
            cancel=True,
            resumable=True,
        )

    async def _node(self, http: Http, name: str, workflow: Workflow) -> JSON:
        answer = await http.get(f"/object_info/{name}", deadline=0, most=_LISTS)
        entry = answer.fields().get(name)
        if not isinstance(entry, Mapping):
            raise Unavailable(
                f"The image server lacks the node {name}, which the workflow {workflow.name} is made of."
            )
        return entry

    # --- handing in ---------------------------------------------------------------------------------------

    def check(self, request: ImageRequest) -> None:
        """Raise InvalidRequest for what the workflow for it cannot do."""
        check_pictures(request)
        workflow = self._workflow(request)
        scheduler = checked_scheduler(request, self._offer.samplers)
        needs = {
            "negative_prompt": bool(request.negative_prompt),
            "sampler": scheduler is not None,
            "model": request.model is not None and self._offer.models.get(request.model) is not None,
        }
        for word, wanted in needs.items():
            if wanted and not workflow.has(word):
                field = "scheduler" if word == "sampler" else word
                raise InvalidRequest(
                    f"The workflow {workflow.title} takes no {field.replace('_', ' ')}.", field=field
                )

    def _workflow(self, request: ImageRequest) -> Workflow:
        kind, field = Kind.TEXT, "prompt"
        if request.upscale:
            kind, field = Kind.UPSCALE, "upscale"
        elif request.mask_image is not None:
            kind, field = Kind.INPAINT, "mask_image"
        elif request.init_image is not None:
            kind, field = Kind.IMAGE, "init_image"
        if kind not in self._workflows:
            raise InvalidRequest("The image server has no workflow for this.", field=field)
        return self._workflows[kind]

    def split(self, request: ImageRequest) -> Sequence[ImageRequest]:
        """One prompt a picture: a graph has one seed."""
        return one_by_one(request)

    async def send(self, http: Http, request: ImageRequest, ticket: str) -> Handle:
        """Hand a prompt in, its pictures first. One whose answer was lost is looked up."""
        if not self._offer.models:
            await self.offered(http)
            self.check(request)
        workflow, prompt_id = self._workflow(request), prompt_id_of(ticket)
        values, applied = self._values(request)
        for word, image in (("init_image", request.init_image), ("mask_image", request.mask_image)):
            if image is not None and workflow.has(word):
                values[word] = await _upload(http, f"{prompt_id}-{word}", image)
        handle: dict[str, JSON] = {"id": prompt_id, "output": workflow.output, "applied": applied}
        return await self._hand_in(http, workflow, fill(workflow, values), handle)

    async def _hand_in(self, http: Http, workflow: Workflow, graph: Graph, handle: Handle) -> Handle:
        prompt_id = str(handle["id"])
        await self._socket.watch(prompt_id, workflow.samplers)
        try:
            given = await self._post(http, workflow, graph, prompt_id)
        except BaseException:
            self._socket.forget(prompt_id)
            raise
        if given != prompt_id:
            self._socket.forget(prompt_id)
            await self._socket.watch(given, workflow.samplers)
        return {**handle, "id": given}

    async def _post(self, http: Http, workflow: Workflow, graph: Graph, prompt_id: str) -> str:
        """The id that the server knows the prompt by: ours, unless it is an older one that chooses it."""
        body: dict[str, JSON] = {
            "prompt": graph,
            "prompt_id": prompt_id,
            "client_id": self._socket.client_id,
        }
        if self._previews:
            body["extra_data"] = {"preview_method": "auto"}
        try:
            answer = await http.post("/prompt", body, also=(400,))
            fields = answer.fields()
        except Fault as error:  # where its answer was lost: it is there, or it may be handed in again
            if error.accepted is None and await self._known(http, prompt_id):
                return prompt_id
            error.accepted = False
            raise
        if answer.status == 400:
            raise read_refusal(fields, workflow, answer.text())
        given = fields.get("prompt_id")
        return given if isinstance(given, str) and given else prompt_id

    def _values(self, request: ImageRequest) -> tuple[dict[str, JSON], dict[str, JSON]]:
        """What placeholders stand for, and what is said to have been used."""
        model_id = request.model or next(iter(self._offer.models))
        scheduler = checked_scheduler(request, self._offer.samplers) or self._offer.default_scheduler
        sampler, schedule = self._offer.sampler(scheduler, model_id)
        strength = request.strength
        if strength is None:
            strength = _UPSCALE_STRENGTH if request.upscale else _STRENGTH
        applied: dict[str, JSON] = {"scheduler": scheduler} if scheduler else {}
        if request.init_image is not None and request.strength is None:
            applied["strength"] = strength
        values: dict[str, JSON] = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "seed": request.seed,
            "steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "width": request.width,
            "height": request.height,
            "model": self._offer.models.get(model_id),
            "sampler": sampler,
            "scheduler": schedule,
            "strength": strength,
        }
        return values, applied

    # --- following ----------------------------------------------------------------------------------------

    async def look(self, http: Http, job: Handle, facts: Facts) -> Look:
        """The history, then the queue; how far it is, by the websocket."""
        prompt_id = str(job.get("id"))
        end = await self._end(http, job, prompt_id)
        if end is not None:
            return end
        sight = self._socket.sight(prompt_id)
        if sight is not None and sight.running:
            return Working(sight.fraction, sight.step or None, sight.total or None)
        queue = await _queue(http)
        place = place_of(queue, prompt_id, self._socket.client_id)
        if place is None:  # it may have ended in between
            end = await self._end(http, job, prompt_id)
            if end is None:
                raise Missing("The image server no longer knows the job.", accepted=False)
            return end
        if not is_running(queue, prompt_id):
            return Waiting(place)
        if sight is None:  # from before a restart: its events go to a client that is no more
            return Working(None)
        return Working(sight.fraction)

    async def _end(self, http: Http, job: Handle, prompt_id: str) -> Look | None:
        answer = await http.poll(f"/history/{prompt_id}", most=_LISTS)
        entry = answer.fields().get(prompt_id)
        if not isinstance(entry, Mapping):
            return None
        applied = job.get("applied")
        output = str(job.get("output", ""))
        return read_end(entry, output, http.base, applied if isinstance(applied, Mapping) else {})

    async def find(self, http: Http, ticket: str, facts: Facts) -> Handle | None:
        """A prompt that was handed in, by the id that our ticket gives it."""
        prompt_id = prompt_id_of(ticket)
        _, workflow = await self._of(http, prompt_id)
        return None if workflow is None else {"id": prompt_id, "output": workflow.output}

    async def again(self, http: Http, sibling: Handle, facts: Facts, ticket: str) -> Handle | None:
        """The same graph as another picture's, for the seed of this one."""
        graph, workflow = await self._of(http, str(sibling.get("id")))
        if workflow is None:
            return None
        handle = {**sibling, "id": prompt_id_of(ticket)}
        return await self._hand_in(http, workflow, with_seed(workflow, graph, facts.seed), handle)

    async def _of(self, http: Http, prompt_id: str) -> tuple[Mapping[str, JSON], Workflow | None]:
        """The graph of a prompt that the server knows, and the workflow it was made by: None where it knows
        no such prompt, or the workflows have changed since."""
        queue = await _queue(http, insist=True)
        history = (await http.get(f"/history/{prompt_id}", most=_LISTS)).fields()
        graph = graph_of(queue, history, prompt_id) or {}
        return graph, next((one for one in self._workflows.values() if one.made(graph)), None)

    async def _known(self, http: Http, prompt_id: str) -> bool:
        """Whether it waits, is being made or has ended; asked in the order in which it goes on."""
        if place_of(await _queue(http, insist=True), prompt_id, "") is not None:
            return True
        answer = await http.get(f"/history/{prompt_id}", most=_LISTS)
        return prompt_id in answer.fields()

    # --- stopping -----------------------------------------------------------------------------------------

    async def stop(self, http: Http, job: Handle) -> CancelOutcome:
        """Cancel a prompt by its id; in older versions take it out of the queue, or interrupt it while it is
        the one being made, since their interrupt stops whatever anybody makes."""
        prompt_id = str(job.get("id"))
        self._socket.forget(prompt_id)
        answer = await http.post(f"/api/jobs/{prompt_id}/cancel", {}, idempotent=True, also=_ABSENT)
        if answer.status not in _ABSENT:
            cancelled = _cancelled(answer)
        else:
            await http.post("/queue", {"delete": [prompt_id]}, idempotent=True)
            queue = await _queue(http, insist=True)
            if cancelled := is_running(queue, prompt_id):
                await http.post("/interrupt", {"prompt_id": prompt_id}, idempotent=True)
            else:
                cancelled = not await self._known(http, prompt_id)  # it was taken out, or has ended
        return CancelOutcome.CANCELLED if cancelled else CancelOutcome.TOO_LATE


def _cancelled(answer: Answer) -> bool:
    raise_for(answer)
    return answer.fields().get("cancelled") is not False


async def _queue(http: Http, *, insist: bool = False) -> Mapping[str, JSON]:
    ask = http.get if insist else http.poll
    return (await ask("/queue", most=_LISTS)).fields()


async def _upload(http: Http, name: str, image: Image) -> str:
    """Put a picture into the server's temporary folder; what a LoadImage node calls it."""
    boundary = f"fairbrush{uuid.uuid4().hex}"
    file = f"{name}.{_ENDINGS.get(image.mime, 'png')}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in (("type", "temp"), ("subfolder", _FOLDER), ("overwrite", "true"))
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file}"\r\n'
        f"Content-Type: {image.mime}\r\n\r\n"
    )
    body = "".join(parts).encode() + head.encode() + image.data + f"\r\n--{boundary}--\r\n".encode()
    try:
        answer = await http.post(
            "/upload/image",
            body,
            idempotent=True,
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        fields = answer.fields()
    except FairbrushError as error:
        error.accepted = False  # the job itself was not handed in
        raise
    stored, folder = fields.get("name"), fields.get("subfolder")
    if not isinstance(stored, str) or not stored:
        raise ProtocolError(
            "The image server did not take the picture.", detail=answer.text(), accepted=False
        )
    return f"{folder}/{stored} [temp]" if folder else f"{stored} [temp]"
