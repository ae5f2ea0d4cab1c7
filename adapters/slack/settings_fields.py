"""The inputs of the settings form, and the rules that they come back with. Pure.

What the values may be is for the core to say; here only what is no number or no size at all is refused, each
at its own input. An input's block ends in a number, since clients keep what was entered under a block's name:
a form that was reset has others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from adapters.slack import inputs
from adapters.slack.blocks import Block, header
from adapters.slack.inputs import USUAL
from bot.core.errors import InvalidRequest
from bot.core.guilds import Rules, ThreadMode
from bot.core.ranges import number
from bot.core.request import Defaults, Limits
from bot.core.text import clip
from bot.core.weights import MAX_WEIGHT, MIN_WEIGHT, checked_weight

T = TypeVar("T")

MANAGERS, WEIGHT = "managers", "weight"
CHANNELS: Final = "allowed_channels"

_SIZE: Final = re.compile(r"(\d{1,9})[xX×*](\d{1,9})")
_WHOLE: Final = re.compile(r"\d{1,9}")
_REAL: Final = re.compile(r"\d{1,9}(?:[.,]\d{1,9})?")

_LIMITS: Final = {
    "max_steps": "Most steps",
    "max_count": "Most pictures at once",
    "max_side": "Longest side in pixels",
    "waiting_per_user": "Waiting requests of each person",
}
_NUMBERS: Final = {"steps": "Steps", "guidance_scale": "Guidance", "count": "Pictures at once"}
_MODES: Final = {
    ThreadMode.THREAD: "In the request's thread",
    ThreadMode.BOTH: "In the thread, and in the channel too",
}
_FEW: Final = {"max_steps": "min_steps", "max_side": "min_side"}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a form is opened on. own: what is said at its level; usual: what requests get where nothing is
    said there; limits: those above it; most: the operator's; channel: its id, "" for the workspace; models:
    id -> title; managers: whom admins named, None for readers who may not change them; weight: likewise."""

    own: Rules
    usual: Defaults
    limits: Limits
    most: Limits
    channel: str
    models: Mapping[str, str]
    managers: tuple[str, ...] | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Entered:
    """What a form came back with. managers, weight: None where they were not in it; errors: by field."""

    rules: Rules
    managers: tuple[str, ...] | None
    weight: float | None
    errors: Mapping[str, str]


# --- opening ----------------------------------------------------------------------------------------------


def form(scene: Scene, turn: int) -> list[Block]:
    """All inputs. turn: what their blocks end in."""
    blocks = [header("Defaults"), *_defaults(scene), header("Limits"), *_limits(scene)]
    blocks += [header("Where"), _mode(scene)]
    if not scene.channel:
        blocks.append(_channels(scene.own))
    if scene.managers is not None or scene.weight is not None:
        blocks.append(header("Who"))
    if scene.managers is not None:
        blocks.append(_managers(scene.managers))
    if scene.weight is not None:
        hint = f"{number(MIN_WEIGHT)} to {number(MAX_WEIGHT)}: its share of the machines. Empty: 1"
        blocks.append(inputs.text(WEIGHT, "Weight of this workspace", number(scene.weight), hint=hint))
    return [_turned(block, turn) for block in blocks]


def _turned(block: Block, turn: int) -> Block:
    return {**block, "block_id": f"{block['block_id']}.{turn}"} if "block_id" in block else block


def _defaults(scene: Scene) -> list[Block]:
    own, usual, most = scene.own, scene.usual, scene.limits
    without = clip(usual.negative_prompt, 80) or "none"
    size = f"{own.size[0]}x{own.size[1]}" if own.size else ""
    models = {USUAL: f"As usual: {usual.model or 'the first one offered'}", **scene.models}
    styles = {USUAL: f"As usual: {usual.style or 'none'}", **{name: name for name in usual.styles}}
    sides = f"WIDTHxHEIGHT, {most.min_side} to {most.max_side} in steps of {most.side_multiple}"
    shown = {
        "steps": (most.min_steps, most.max_steps, usual.steps),
        "guidance_scale": (most.min_guidance, most.max_guidance, usual.guidance_scale),
        "count": (1, most.max_count, usual.count),
    }
    return [
        inputs.select("model", "Model", own.model or "", models),
        inputs.select("style", "Style", own.style or "", styles),
        inputs.text("size", "Size", size, hint=f"{sides}. Empty: {usual.width}x{usual.height}"),
        *(_number(name, label, own, *shown[name]) for name, label in _NUMBERS.items()),
        inputs.text(
            "negative_prompt",
            "Negative prompt",
            own.negative_prompt or "",
            multiline=True,
            hint=f"At most {most.max_prompt:,} characters. Empty: {without}",
            most=min(most.max_prompt, inputs.LONGEST),
        ),
    ]


def _limits(scene: Scene) -> list[Block]:
    own, most = scene.own, scene.most
    return [
        _number(name, label, own, *_bounds(name, most), getattr(most, name))
        for name, label in _LIMITS.items()
    ]


def _number(name: str, label: str, own: Rules, low: float, high: float, usual: float) -> Block:
    value = getattr(own, name)
    hint = f"{number(low)} to {number(high)}. Empty: {number(usual)}"
    return inputs.text(name, label, "" if value is None else number(value), hint=hint)


def _bounds(name: str, most: Limits) -> tuple[float, float]:
    return (getattr(most, _FEW[name]) if name in _FEW else 1), getattr(most, name)


def _mode(scene: Scene) -> Block:
    usual = "As the workspace says" if scene.channel else "As usual: in the request's thread"
    return inputs.select(
        "thread_mode",
        "Pictures are shown",
        scene.own.thread_mode or "",
        {USUAL: usual, **{str(mode): title for mode, title in _MODES.items()}},
    )


def _channels(own: Rules) -> Block:
    return inputs.conversations(
        CHANNELS,
        "Channels that it is used in",
        own.allowed_channels,
        placeholder="Every channel that it is invited to",
        hint="Where some are chosen, nobody can ask anywhere else, nor by direct message.",
    )


def _managers(known: tuple[str, ...]) -> Block:
    return inputs.people(
        MANAGERS,
        "Who else may change settings",
        known,
        placeholder="Nobody but admins and owners",
        hint="They cannot change this list.",
    )


# --- coming back ------------------------------------------------------------------------------------------


def entered(view: Mapping[str, Any], own: Rules, limits: Limits, most: Limits, *, channel: str) -> Entered:
    """What a form says; what it does not show stays as it is in `own`. limits, most, channel: as in Scene."""
    values = {_name(block): value for block, value in inputs.values_in(view).items()}
    lists = {_name(block): chosen for block, chosen in inputs.lists_in(view).items()}
    reading = _Reading(values)
    rules = replace(
        own,
        model=values.get("model"),
        style=values.get("style"),
        size=reading.of("size", _size),
        steps=reading.of("steps", lambda text: _whole("Steps", text, limits.min_steps, limits.max_steps)),
        guidance_scale=reading.of(
            "guidance_scale", lambda text: _real("Guidance", text, limits.min_guidance, limits.max_guidance)
        ),
        count=reading.of("count", lambda text: _whole("Pictures at once", text, 1, limits.max_count)),
        negative_prompt=values.get("negative_prompt", "").strip() or None,
        max_steps=reading.limit("max_steps", most),
        max_count=reading.limit("max_count", most),
        max_side=reading.limit("max_side", most),
        waiting_per_user=reading.limit("waiting_per_user", most),
        thread_mode=_mode_in(values),
        allowed_channels=own.allowed_channels if channel else lists.get(CHANNELS, own.allowed_channels),
    )
    return Entered(rules, lists.get(MANAGERS), reading.weight(view), reading.errors)


def block_of(name: str | None, view: Mapping[str, Any]) -> str:
    """The block of a view at which an error about a field is told; its first input's where there is none."""
    there = [str(block["block_id"]) for block in view.get("blocks") or () if block.get("type") == "input"]
    return next((block for block in there if _name(block) == name), there[0])


def _name(block: str) -> str:
    return block.rpartition(".")[0]


class _Reading:
    """Values read one by one; what cannot be read is noted."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.errors: dict[str, str] = {}
        self._values = values

    def of(self, name: str, read: Callable[[str], T]) -> T | None:
        said = "".join(self._values.get(name, "").split())
        try:
            return read(said) if said else None
        except InvalidRequest as error:
            self.errors[name] = error.message
            return None

    def limit(self, name: str, most: Limits) -> int | None:
        low, high = _bounds(name, most)
        return self.of(name, lambda text: _whole(_LIMITS[name], text, low, high))

    def weight(self, view: Mapping[str, Any]) -> float | None:
        """None where it is not in the form."""
        if not any(_name(str(block.get("block_id"))) == WEIGHT for block in view.get("blocks") or ()):
            return None
        found = self.of(
            WEIGHT, lambda text: checked_weight(_real("The weight", text, MIN_WEIGHT, MAX_WEIGHT))
        )
        return 1.0 if found is None else found


def _size(text: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise _wrong("Size", "WIDTHxHEIGHT, such as 768x512", text)
    return int(found[1]), int(found[2])


def _whole(label: str, text: str, low: float, high: float) -> int:
    if not _WHOLE.fullmatch(text):
        raise _wrong(label, f"a whole number from {number(low)} to {number(high)}", text)
    return int(text)


def _real(label: str, text: str, low: float, high: float) -> float:
    if not _REAL.fullmatch(text):
        raise _wrong(label, f"a number from {number(low)} to {number(high)}", text)
    return float(text.replace(",", "."))


def _wrong(label: str, wanted: str, given: str) -> InvalidRequest:
    return InvalidRequest(
        f'{label} must be {wanted}, not "{clip(given, 40)}". Correct it, or leave it empty.'
    )


def _mode_in(values: Mapping[str, str]) -> ThreadMode | None:
    said = values.get("thread_mode", "")
    return ThreadMode(said) if said in list(_MODES) else None
