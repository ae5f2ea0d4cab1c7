"""Workflows of ComfyUI as templates: a graph in API format in which `{{name}}` stands for our values. Pure.

A placeholder is the whole value of an input ("seed": "{{seed}}"), but for the two texts, which may also stand
within a longer one ("masterpiece, {{prompt}}"). The pictures are those of the node titled "{{output}}", or of
the only node that saves or previews pictures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Final, NoReturn, TypeAlias, cast

from bot.core.errors import ConfigurationError
from bot.core.request import JSON

Graph: TypeAlias = dict[str, dict[str, JSON]]
Place: TypeAlias = tuple[str, str]
"""A node's id and the name of an input."""

FIELDS: Final[Mapping[str, str]] = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "seed": "seed",
    "steps": "steps",
    "guidance_scale": "guidance_scale",
    "width": "size",
    "height": "size",
    "model": "model",
    "sampler": "scheduler",
    "scheduler": "scheduler",
    "strength": "strength",
    "init_image": "init_image",
    "mask_image": "mask_image",
}
"""Every placeholder, and the field of a request that it belongs to."""

_TEXTS: Final = ("prompt", "negative_prompt")
_OUTPUT: Final = "{{output}}"
_SAVERS: Final = ("SaveImage", "PreviewImage")
_SLOT: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_SAMPLERS: Final = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
_FIXED_MODEL: Final = ("ckpt_name", "unet_name", "model_name", "gguf_name")


class Kind(StrEnum):
    """What a workflow is for; the values are the options that name a file of one's own."""

    TEXT = "workflow"
    IMAGE = "img2img"
    INPAINT = "inpaint"
    UPSCALE = "upscale"


NEEDED: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.TEXT: ("prompt", "seed", "width", "height"),
    Kind.IMAGE: ("prompt", "seed", "init_image"),
    Kind.INPAINT: ("prompt", "seed", "init_image", "mask_image"),
    Kind.UPSCALE: ("prompt", "seed", "init_image", "width", "height"),
}
"""The placeholders without which a workflow of a kind cannot do what is asked of it."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A template. name: its file, for the operator; places: placeholder -> where it stands; output: the node
    whose pictures are taken; samplers: nodes whose steps are the progress; classes: of all its nodes."""

    name: str
    graph: Mapping[str, Mapping[str, JSON]] = field(repr=False)
    places: Mapping[str, tuple[Place, ...]]
    output: str
    samplers: tuple[str, ...]
    classes: frozenset[str]

    @property
    def title(self) -> str:
        """Its name for people who have no business with the folders of this machine."""
        return PurePath(self.name).name

    def has(self, *placeholders: str) -> bool:
        """Whether all of these stand in it."""
        return all(name in self.places for name in placeholders)

    def placeholder_at(self, node: str, name: str) -> str | None:
        """The placeholder that stands at an input."""
        return next((key for key, places in self.places.items() if (node, name) in places), None)

    def made(self, graph: Mapping[str, JSON]) -> bool:
        """Whether a graph comes of this template: the same nodes of the same classes."""
        classes = {
            key: node.get("class_type") if isinstance(node, Mapping) else None for key, node in graph.items()
        }
        return classes == {key: node["class_type"] for key, node in self.graph.items()}

    def class_at(self, place: Place) -> str:
        """The class of the node that an input belongs to."""
        return str(self.graph[place[0]]["class_type"])

    @property
    def fixed_model(self) -> str:
        """What a workflow without {{model}} uses: the model that it names, else its own name."""
        for node in self.graph.values():
            inputs = cast("Mapping[str, JSON]", node["inputs"])
            for name in _FIXED_MODEL:
                if isinstance(value := inputs.get(name), str):
                    return value
        return PurePath(self.name).stem


def read_workflow(text: str, name: str, kind: Kind) -> Workflow:
    """A template from a file. Raises ConfigurationError, naming the file and the placeholder."""
    graph = _graph(text, name)
    places: dict[str, list[Place]] = {}
    for node_id, node in graph.items():
        for place, word in _slots(node_id, cast("Mapping[str, JSON]", node["inputs"]), name):
            places.setdefault(word, []).append(place)
    missing = [word for word in NEEDED[kind] if word not in places]
    if missing:
        raise _wrong(name, f"there is no {{{{{missing[0]}}}}} in it, which {kind.value}= needs")
    if kind is Kind.TEXT and "init_image" in places:
        raise _wrong(name, "{{init_image}} belongs in the file that img2img= names")
    return Workflow(
        name=name,
        graph=graph,
        places={word: tuple(found) for word, found in places.items()},
        output=_output(graph, name),
        samplers=tuple(node for node in graph if graph[node]["class_type"] in _SAMPLERS),
        classes=frozenset(str(node["class_type"]) for node in graph.values()),
    )


def fill(workflow: Workflow, values: Mapping[str, JSON]) -> Graph:
    """The graph with its placeholders replaced; values: one for each placeholder that stands in it."""
    graph: Graph = {
        node_id: {**node, "inputs": dict(cast("Mapping[str, JSON]", node["inputs"]))}
        for node_id, node in workflow.graph.items()
    }
    for node_id, name in {place for places in workflow.places.values() for place in places}:
        inputs = cast("dict[str, JSON]", graph[node_id]["inputs"])
        inputs[name] = _filled(cast(str, inputs[name]), values)
    return graph


def with_seed(workflow: Workflow, graph: Mapping[str, JSON], seed: int) -> Graph:
    """A graph that comes of a template, for another seed."""
    copy = cast(Graph, json.loads(json.dumps(graph)))
    for node_id, name in workflow.places["seed"]:
        cast("dict[str, JSON]", copy[node_id]["inputs"])[name] = seed
    return copy


def _filled(text: str, values: Mapping[str, JSON]) -> JSON:
    """One pass over the template's own text: what people wrote is never looked at for placeholders."""
    whole = _SLOT.fullmatch(text.strip())
    if whole is not None and whole[1] not in _TEXTS:
        return values[whole[1]]
    return _SLOT.sub(lambda match: str(values[match[1]]), text)


def _graph(text: str, name: str) -> Graph:
    try:
        graph = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _wrong(name, f"it is no JSON ({error})") from None
    if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
        raise _wrong(name, "it is saved for the editor: use Export (API) in ComfyUI's menu")
    if not isinstance(graph, dict) or not graph:
        raise _wrong(name, "it is no workflow in API format")
    for node_id, node in graph.items():
        if not (
            isinstance(node, dict)
            and isinstance(node.get("class_type"), str)
            and isinstance(node.get("inputs"), dict)
        ):
            raise _wrong(name, f"node {node_id!r} has no class_type or no inputs")
    return cast(Graph, graph)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _slots(node_id: str, inputs: Mapping[str, JSON], file: str) -> Iterable[tuple[Place, str]]:
    for name, value in inputs.items():
        if not isinstance(value, str):
            continue
        words = dict.fromkeys(match[1] for match in _SLOT.finditer(value))
        for word in words:
            if word not in FIELDS:
                known = ", ".join(FIELDS)
                raise _wrong(file, f"{{{{{word}}}}} in node {node_id!r} is unknown; there is {known}")
            if word not in _TEXTS and not _SLOT.fullmatch(value.strip()):
                raise _wrong(file, f"{{{{{word}}}}} in node {node_id!r} must be the whole value of {name!r}")
            yield (node_id, name), word


def _output(graph: Graph, name: str) -> str:
    marked = [node_id for node_id, node in graph.items() if _title(node) == _OUTPUT]
    found = marked or [node_id for node_id, node in graph.items() if node["class_type"] in _SAVERS]
    if len(found) == 1:
        return found[0]
    why = "no node" if not found else "more than one node"
    raise _wrong(name, f'{why} gives pictures: title the one that is meant "{_OUTPUT}"')


def _title(node: Mapping[str, JSON]) -> str:
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title.strip() if isinstance(title, str) else ""


def _wrong(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"The workflow {name}: {why}.")
