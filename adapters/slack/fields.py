"""The form of one request: its inputs, and what is read from them when they come back. Pure.

Every field that is wrong is told at that field, with its range; what is typed in the prompt as a flag wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from adapters.slack import inputs as entries
from adapters.slack.blocks import Block, actions, button
from adapters.slack.inputs import LONGEST, USUAL
from adapters.slack.names import MORE
from bot.core.checks import checked_text
from bot.core.errors import InvalidRequest
from bot.core.grammar import format_options, parse
from bot.core.names import find_model, find_style, pick_scheduler
from bot.core.options import Options, merge
from bot.core.permutations import unfold
from bot.core.ports import Model
from bot.core.ranges import ranges
from bot.core.request import Limits
from bot.core.sizes import check_ratio

PROMPT, SHAPE, STYLE, COUNT, WHERE = "prompt", "shape", "style", "count", "where"
CHANNEL = "channel"
NEGATIVE, SIZE, STEPS, GUIDANCE, SEED = "negative", "size", "steps", "guidance", "seed"
SCHEDULER, MODEL, STRENGTH = "scheduler", "model", "strength"

HERE, PRIVATE = "here", "private"
SHAPES: Final = {"1:1": "Square", "4:5": "Post 4:5", "9:16": "Story 9:16", "16:9": "Banner 16:9"}

# Field of a request -> the input that it is told at.
PLACES: Final = {
    "prompt": PROMPT,
    "aspect": SHAPE,
    "style": STYLE,
    "count": COUNT,
    "negative_prompt": NEGATIVE,
    "size": SIZE,
    "width": SIZE,
    "height": SIZE,
    "steps": STEPS,
    "guidance_scale": GUIDANCE,
    "seed": SEED,
    "scheduler": SCHEDULER,
    "model": MODEL,
    "strength": STRENGTH,
    "channel": CHANNEL,
}
_NUMBERS: Final = {
    STEPS: ("steps", "steps"),
    GUIDANCE: ("guidance", "guidance_scale"),
    SEED: ("seed", "seed"),
    STRENGTH: ("strength", "strength"),
    COUNT: ("count", "count"),
}


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be asked for here. picture: there is one to start from, so its strength counts; where:
    whether it is known in which channel it would be answered; else that is asked; count: the usual one."""

    limits: Limits
    models: Sequence[Model]
    styles: Mapping[str, str]
    picture: bool = False
    where: bool = True
    count: int = 1


@dataclass(frozen=True, slots=True)
class Filled:
    """What the inputs say, by their block; what is empty is left out."""

    values: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """One input, "" where it says nothing."""
        return self.values.get(name, "")

    @property
    def private(self) -> bool:
        """Whether it is to be answered by direct message."""
        return self.get(WHERE) == PRIVATE

    @property
    def channel(self) -> str:
        """The channel that was chosen, where one was."""
        return self.get(CHANNEL)


# --- opening ----------------------------------------------------------------------------------------------


def filled_from(options: Options) -> Filled:
    """The inputs that say these options."""
    aspect = f"{options.aspect[0]}:{options.aspect[1]}" if options.aspect else ""
    size = f"{options.width}x{options.height}" if options.width and options.height else ""
    found = {
        PROMPT: format_options(Options(prompt=options.prompt)),
        SHAPE: aspect if aspect in SHAPES else "",
        SIZE: size or ("" if aspect in SHAPES else aspect),
        STYLE: options.style or "",
        NEGATIVE: options.negative_prompt or "",
        SCHEDULER: options.scheduler or "",
        MODEL: options.model or "",
    }
    for name, (_, said) in _NUMBERS.items():
        value = getattr(options, said)
        found[name] = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return Filled({name: value for name, value in found.items() if value})


def inputs(filled: Filled, offer: Offer, *, full: bool) -> list[Block]:
    """The form. full: with everything that is under More options."""
    counts = {str(n): str(n) for n in range(1, offer.limits.max_count + 1)}
    blocks = [
        _text(PROMPT, "Prompt", filled, multiline=True, needed=True, most=LONGEST),
        _select(SHAPE, "Shape", filled, {USUAL: "The usual one", **SHAPES}),
        _select(STYLE, "Style", filled, {USUAL: "None", **{name: name for name in offer.styles}}),
        entries.select(COUNT, "How many", filled.get(COUNT) or str(offer.count), counts),
    ]
    if full:
        blocks += _more(filled, offer)
    blocks.append(_where(filled) if offer.where else _channel(filled))
    if not full:
        blocks += actions(button("More options", MORE, "more"))
    return blocks


def _more(filled: Filled, offer: Offer) -> list[Block]:
    table = ranges(offer.limits)
    models = {USUAL: "The usual one", **{model.id: model.title for model in offer.models}}
    blocks = [
        _text(NEGATIVE, "Keep out", filled, multiline=True, hint="blurry, text", most=LONGEST),
        _text(SIZE, "Size or ratio", filled, hint="768x512, or 3:2; instead of the shape"),
        _text(STEPS, "Steps", filled, hint=table["steps"].wanted()),
        _text(GUIDANCE, "Guidance", filled, hint=table["guidance_scale"].wanted()),
        _text(SEED, "Seed", filled, hint="Leave it empty for a new one"),
        _text(SCHEDULER, "Scheduler", filled, hint="Euler a"),
    ]
    if len(offer.models) > 1:
        blocks.append(_select(MODEL, "Model", filled, models))
    if offer.picture:
        blocks.append(_text(STRENGTH, "Strength", filled, hint=table["strength"].wanted()))
    return blocks


def _text(
    name: str,
    label: str,
    filled: Filled,
    *,
    multiline: bool = False,
    needed: bool = False,
    hint: str = "",
    most: int = 100,
) -> Block:
    value = filled.get(name)
    return entries.text(name, label, value, multiline=multiline, needed=needed, placeholder=hint, most=most)


def _select(name: str, label: str, filled: Filled, offered: Mapping[str, str]) -> Block:
    return entries.select(name, label, filled.get(name), offered)


def _where(filled: Filled) -> Block:
    offered = {HERE: "Here", PRIVATE: "Only me, by direct message"}
    return entries.radio(WHERE, "Where", filled.get(WHERE), offered)


def _channel(filled: Filled) -> Block:
    return entries.conversation(
        CHANNEL,
        "Where",
        filled.channel,
        placeholder="Only me, by direct message",
        hint="A channel that Fairbrush was invited to; empty: only you see it, by direct message.",
    )


# --- coming back ------------------------------------------------------------------------------------------


def read(view: Mapping[str, Any]) -> Filled:
    """What a view's inputs say."""
    return Filled(entries.values_in(view))


def options_in(filled: Filled, offer: Offer) -> tuple[Options, dict[str, str]]:
    """The options that a form says, and what is wrong, by input."""
    errors: dict[str, str] = {}
    said = Options()
    for name in (SHAPE, SIZE, COUNT, STEPS, GUIDANCE, SEED, STRENGTH):
        if value := filled.get(name):
            said = merge(said, _attempt(name, errors, lambda: _read_one(name, value, offer)))  # noqa: B023
    for name, check in _checks(filled, offer).items():
        if value := filled.get(name):
            said = merge(said, _attempt(name, errors, lambda: check(value)))  # noqa: B023
    text = filled.get(PROMPT)
    typed = _attempt(PROMPT, errors, lambda: _prompt(text, offer))
    return merge(said, typed), errors


def _attempt(name: str, errors: dict[str, str], work: Callable[[], Options]) -> Options:
    """What comes of it, nothing where it is refused; then the refusal is noted."""
    try:
        return work()
    except InvalidRequest as error:
        errors.setdefault(name, error.message)
        return Options()


def _read_one(name: str, text: str, offer: Offer) -> Options:
    """A number, a shape or a size, within its range."""
    value = "".join(text.split()).replace('"', "")
    if name in (SHAPE, SIZE):
        said = parse(f'--{"ar" if ":" in value else "size"} "{value}"', limits=offer.limits)
    else:
        said = parse(f'--{_NUMBERS[name][0]} "{value}"', limits=offer.limits)
    table = ranges(offer.limits)
    for each in said.said() & table.keys():
        table[each].check(getattr(said, each))
    if said.aspect is not None:
        check_ratio(*said.aspect, offer.limits, field="aspect")
    return said


def _checks(filled: Filled, offer: Offer) -> Mapping[str, Callable[[str], Options]]:
    return {
        STYLE: lambda text: Options(style=find_style(text, offer.styles)),
        NEGATIVE: lambda text: Options(negative_prompt=checked_text(text, "negative_prompt", offer.limits)),
        MODEL: lambda text: Options(model=_model(text, offer).id),
        SCHEDULER: lambda text: _scheduler(text, filled.get(MODEL), offer),
    }


def _model(name: str, offer: Offer) -> Model:
    found = find_model(name, offer.models, said=True)
    if found is None:  # a name that was said is found or refused
        raise InvalidRequest(f"There is no model {name}.", field="model")
    return found


def _scheduler(text: str, model: str, offer: Offer) -> Options:
    usual = offer.models[0] if offer.models else None
    found = _model(model, offer) if model and offer.models else usual
    pick_scheduler(text, found, default=None)
    return Options(scheduler=text)


def _prompt(text: str, offer: Offer) -> Options:
    """The prompt with its flags."""
    said = parse(text, limits=offer.limits)
    if not said.prompt:
        raise InvalidRequest(
            "The prompt is empty. Say what to draw, such as: a red fox in snow", field="prompt"
        )
    unfold(checked_text(said.prompt, "prompt", offer.limits), limits=offer.limits)
    table = ranges(offer.limits)
    for each in said.said() & table.keys():
        table[each].check(getattr(said, each))
    return said


def place_of(name: str | None, view: Mapping[str, Any]) -> str:
    """The input of a view at which an error about a field is told; the prompt's where there is none."""
    there = {str(block.get("block_id")) for block in view.get("blocks") or ()}
    place = PLACES.get(name or "", PROMPT)
    instead = {SIZE: SHAPE, CHANNEL: WHERE}
    if place not in there:
        place = instead.get(place, place)
    return place if place in there else PROMPT
