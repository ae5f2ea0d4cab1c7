"""What a model of Replicate takes, read from the OpenAPI document that it is published with. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from backends._answers import number
from bot.core.errors import InvalidRequest
from bot.core.request import JSON, Image, ImageRequest

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "steps": ("num_inference_steps", "steps", "num_steps"),
    "guidance_scale": ("guidance_scale", "guidance", "cfg", "cfg_scale"),
    "negative_prompt": ("negative_prompt",),
    "seed": ("seed",),
    "init_image": ("image", "init_image", "input_image", "image_prompt"),
    "mask_image": ("mask", "mask_image"),
    "strength": ("prompt_strength", "strength"),
}
"""Fields of ImageRequest -> what models call them; the first that a model has."""

_SIDE: Final = 1024


@dataclass(frozen=True, slots=True)
class Schema:
    """names: of all inputs; called: our fields -> their names; ranges: lowest and highest of numbers; ratios:
    the shapes that it makes, where it takes no width and height."""

    names: frozenset[str]
    called: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    defaults: Mapping[str, float] = field(default_factory=dict)
    ratios: tuple[str, ...] = ()

    @property
    def params(self) -> frozenset[str]:
        """Fields of ImageRequest that are honoured."""
        found = frozenset(self.called)
        return found if "init_image" in found else found - {"mask_image", "strength"}

    @property
    def side(self) -> int:
        """A good side in pixels."""
        return int(self.defaults.get("width", _SIDE))

    @property
    def steps(self) -> int:
        """The model's own best."""
        return max(1, int(self.defaults.get(self.called.get("steps", ""), 28)))

    @property
    def guidance_scale(self) -> float:
        """The model's own best."""
        return float(self.defaults.get(self.called.get("guidance_scale", ""), 3.5))

    @property
    def sized(self) -> bool:
        """Whether it takes a width and a height."""
        return {"width", "height"} <= self.names

    def check(self, request: ImageRequest, model: str) -> None:
        """Raise InvalidRequest for what is out of its ranges, with the range."""
        for name in ("init_image", "mask_image", "negative_prompt"):
            if getattr(request, name) and name not in self.params:
                raise InvalidRequest(f"{model} takes no {name.replace('_', ' ')}.", field=name)
        numbers: list[tuple[str, str, float]] = [
            (name, self.called[name], getattr(request, name))
            for name in ("steps", "guidance_scale")
            if name in self.called
        ]
        if self.sized:
            numbers += [("width", "width", request.width), ("height", "height", request.height)]
        for name, theirs, value in numbers:
            low, high = self.ranges.get(theirs, (-math.inf, math.inf))
            if not low <= value <= high:
                shown = name.replace("_scale", "")
                raise InvalidRequest(
                    f"{model} takes {shown} from {low:g} to {high:g}, not {value:g}.", field=name
                )

    def inputs(
        self, request: ImageRequest, coded: Callable[[Image], str], *, safety: bool
    ) -> dict[str, JSON]:
        """The prediction's inputs; coded: a picture as a data URL."""
        given: dict[str, JSON] = {"prompt": request.prompt}
        for name in ("steps", "guidance_scale", "seed"):
            if name in self.called:
                given[self.called[name]] = getattr(request, name)
        if self.sized:
            given |= {"width": request.width, "height": request.height}
            if "custom" in self.ratios:
                given["aspect_ratio"] = "custom"
        elif self.ratios:
            given["aspect_ratio"] = nearest_ratio(self.ratios, request.width / request.height)
        if request.negative_prompt:
            given[self.called["negative_prompt"]] = request.negative_prompt
        if request.init_image is not None:
            given[self.called["init_image"]] = coded(request.init_image)
            if "strength" in self.called and request.strength is not None:
                given[self.called["strength"]] = request.strength
        if request.mask_image is not None:
            given[self.called["mask_image"]] = coded(request.mask_image)
        usual: Mapping[str, JSON] = {
            "num_outputs": 1,
            "output_format": "png",
            "disable_safety_checker": not safety,
        }
        return given | {name: value for name, value in usual.items() if name in self.names}


def nearest_ratio(ratios: Sequence[str], wanted: float) -> str:
    """The shape ("16:9") that is nearest to a ratio of width to height."""
    shapes = [ratio for ratio in ratios if _value(ratio) is not None]
    return min(shapes, key=lambda ratio: abs(math.log((_value(ratio) or 1.0) / wanted))) if shapes else "1:1"


def _value(ratio: str) -> float | None:
    across, colon, down = ratio.partition(":")
    if not colon or not across.isdigit() or not down.isdigit() or "0" in (across, down):
        return None
    return int(across) / int(down)


def read_schema(document: JSON) -> Schema:
    """From the OpenAPI document of a version; one without inputs where there is none that can be read."""
    schemas = _at(document, "components", "schemas")
    properties = _at(schemas, "Input", "properties")
    if not isinstance(properties, Mapping):
        return Schema(frozenset(), {})
    names = frozenset(properties)
    called = {
        ours: next(name for name in theirs if name in names)
        for ours, theirs in _NAMES.items()
        if not names.isdisjoint(theirs)
    }
    numbers = {name: value for name, value in properties.items() if isinstance(value, Mapping)}
    return Schema(
        names,
        called,
        {
            name: (_or(number(value.get("minimum")), -math.inf), _or(number(value.get("maximum")), math.inf))
            for name, value in numbers.items()
        },
        {
            name: default
            for name, value in numbers.items()
            if (default := number(value.get("default"))) is not None
        },
        _choices(properties.get("aspect_ratio"), schemas),
    )


def _choices(property_: JSON, schemas: JSON) -> tuple[str, ...]:
    """The values of an enum, written in place or referred to by allOf."""
    if not isinstance(property_, Mapping):
        return ()
    values = property_.get("enum")
    referred = property_.get("allOf")
    if values is None and isinstance(referred, Sequence) and referred and isinstance(referred[0], Mapping):
        values = _at(schemas, str(referred[0].get("$ref", "")).rpartition("/")[2], "enum")
    if not isinstance(values, Sequence) or isinstance(values, str):
        return ()
    return tuple(value for value in values if isinstance(value, str))


def _at(value: JSON, *path: str) -> JSON:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
