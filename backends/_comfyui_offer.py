"""What a ComfyUI offers for our workflows, read from /object_info: models and samplers. Pure.

Source: nodes.py and comfy/samplers.py of ComfyUI; a list of choices is [[...], {...}] in older versions and
for older nodes, ["COMBO", {"options": [...]}] for newer ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from backends._checkpoints import checkpoint, habit_of
from backends._comfyui_workflow import Kind, Workflow
from bot.core.ports import Model
from bot.core.request import JSON
from bot.core.schedulers import SCHEDULERS, find_scheduler

_SCHEDULES: Final = {"Karras": "karras", "Exponential": "exponential", "Beta": "beta"}
_PLAIN: Final = ("normal", "simple")
_FLOW: Final = ("simple", "normal")
_DEFAULTS: Final = ("Euler", "Euler a", "DPM++ 2M", "UniPC", "DDIM")
_WEIGHTS: Final = (".safetensors", ".ckpt", ".sft", ".pt", ".gguf")


@dataclass(frozen=True, slots=True)
class Offer:
    """models: id -> the server's name of the file, None for one that the workflow has fixed; samplers: our
    name -> its sampler and schedule ("" where the workflow fixes that); schedules: names of all of them."""

    models: Mapping[str, str | None] = field(default_factory=dict)
    samplers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    schedules: tuple[str, ...] = ()

    @property
    def default_scheduler(self) -> str | None:
        """What is used where nothing is asked for."""
        return next((name for name in _DEFAULTS if name in self.samplers), next(iter(self.samplers), None))

    def sampler(self, scheduler: str | None, model_id: str) -> tuple[str, str]:
        """The server's sampler and schedule for a scheduler of ours, the default one for None."""
        plain = next((one for one in (*_PLAIN, *self.schedules) if one in self.schedules), _PLAIN[0])
        name = scheduler or self.default_scheduler or ""
        sampler, schedule = self.samplers.get(name, ("euler", plain))
        if schedule in _PLAIN and habit_of(model_id).flow:
            schedule = next((one for one in _FLOW if one in self.schedules), schedule)
        return sampler, schedule

    def port_models(self) -> tuple[Model, ...]:
        """The models as our port knows them."""
        return tuple(checkpoint(model_id, self.default_scheduler, self.samplers) for model_id in self.models)


def read_offer(workflow: Workflow, nodes: Mapping[str, JSON], first: str = "") -> Offer:
    """What can be asked of a workflow. nodes: class -> its entry in /object_info; first: default model."""
    samplers = _choices(workflow, nodes, "sampler")
    schedules = _choices(workflow, nodes, "scheduler")
    models: dict[str, str | None]
    if workflow.has("model"):
        models = _model_ids(_choices(workflow, nodes, "model"))
    else:
        models = {short_name(workflow.fixed_model): None}
    ordered = sorted(models, key=lambda one: one != short_name(first)) if first else list(models)
    return Offer({one: models[one] for one in ordered}, _pairs(samplers, schedules), tuple(schedules))


def params_of(workflows: Mapping[Kind, Workflow], offer: Offer) -> frozenset[str]:
    """The fields of a request that are honoured."""
    text = workflows[Kind.TEXT]
    params = {"seed"} | {name for name in ("steps", "guidance_scale", "negative_prompt") if text.has(name)}
    if offer.samplers:
        params.add("scheduler")
    if Kind.IMAGE in workflows:
        params |= {"init_image"} | ({"strength"} if workflows[Kind.IMAGE].has("strength") else set())
    if Kind.INPAINT in workflows:
        params.add("mask_image")
    if Kind.UPSCALE in workflows:  # made from a picture, which an adapter need not offer by itself
        params |= {"upscale", "init_image"}
    return frozenset(params)


def choices_at(nodes: Mapping[str, JSON], class_type: str, name: str) -> list[str] | None:
    """The values that an input of a node takes; None where it is no list of choices."""
    entry = nodes.get(class_type)
    inputs = entry.get("input") if isinstance(entry, Mapping) else None
    if not isinstance(inputs, Mapping):
        return None
    for group in ("required", "optional"):
        known = inputs.get(group)
        spec = known.get(name) if isinstance(known, Mapping) else None
        if isinstance(spec, Sequence) and not isinstance(spec, str) and spec:
            return _listed(spec)
    return None


def _listed(spec: Sequence[JSON]) -> list[str] | None:
    kind, more = spec[0], spec[1] if len(spec) > 1 else None
    if kind == "COMBO" and isinstance(more, Mapping):
        kind = more.get("options")
    if isinstance(kind, str) or not isinstance(kind, Sequence):
        return None
    return [value for value in kind if isinstance(value, str)]


def _choices(workflow: Workflow, nodes: Mapping[str, JSON], word: str) -> list[str]:
    """What every place of a placeholder takes."""
    lists = [
        choices_at(nodes, workflow.class_at(place), place[1]) or [] for place in workflow.places.get(word, ())
    ]
    return [value for value in lists[0] if all(value in other for other in lists)] if lists else []


def _pairs(samplers: Sequence[str], schedules: Sequence[str]) -> dict[str, tuple[str, str]]:
    plain = next((name for name in _PLAIN if name in schedules), "")
    found: dict[str, tuple[str, str]] = {}
    for sampler in samplers:
        ours = find_scheduler(sampler)
        if ours is None:
            continue
        if plain or not schedules:
            found.setdefault(ours, (sampler, plain))
        for suffix, schedule in _SCHEDULES.items():
            if schedule in schedules and (full := f"{ours} {suffix}") in SCHEDULERS:
                found.setdefault(full, (sampler, schedule))
    return found


def _model_ids(files: Sequence[str]) -> dict[str, str | None]:
    """Names without their endings, where that tells them apart."""
    shorts = [short_name(file) for file in files]
    return {
        (file.replace("\\", "/") if shorts.count(short) > 1 else short): file
        for file, short in zip(files, shorts, strict=True)
    }


def short_name(file: str) -> str:
    """A model's file without its ending."""
    name = file.replace("\\", "/")
    ending = next((ending for ending in _WEIGHTS if name.casefold().endswith(ending)), "")
    return name[: len(name) - len(ending)] if ending else name
