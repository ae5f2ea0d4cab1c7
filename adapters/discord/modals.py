"""The form of one request: what Remix and Edit open, and what is read from it when it comes back.

A form carries its whole state in its custom_id and its fields, so that one which was opened before a restart
is taken after it. Every field that is wrong is told, each with its range, and nothing typed is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any, Final, TypeVar

import discord
from discord import ui

from adapters.discord.drafts import Draft
from adapters.discord.uploads import Attached
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
from bot.core.text import clip

PROMPT, NEGATIVE, SIZE, REST, PICTURE = "prompt", "negative", "size", "options", "picture"

T = TypeVar("T")

LONGEST: Final = 4000
"""Characters of a text field."""

ROOM_FOR_FLAGS: Final = 2000
"""Characters that a prompt with flags may have beyond the prompt's own limit."""

_FLAG_STARTS: Final = re.compile(r"(?<!\S)(?=--[^\W\d_]|[—–][^\W\d_]|-n(?=[\s=\d]))")
_RANGED: Final = ("width", "height", "steps", "guidance_scale", "seed", "count", "strength")


def text_length(limits: Limits) -> int:
    """Characters of a prompt with its flags that are taken in: no more than a form holds."""
    return min(LONGEST, limits.max_prompt + ROOM_FOR_FLAGS)


# --- opening ----------------------------------------------------------------------------------------------


def form(draft: Draft, *, title: str, custom_id: str, limits: Limits, picture: bool) -> ui.Modal:
    """The form with a draft's fields in it. picture: whether one to start from can be attached."""
    modal = ui.Modal(title=clip(title, 45), custom_id=custom_id, timeout=None)
    paragraph = discord.TextStyle.paragraph
    modal.add_item(_field(PROMPT, "Prompt", draft.text, paragraph, most=text_length(limits), required=True))
    negative = draft.options.negative_prompt or ""
    modal.add_item(
        _field(NEGATIVE, "Negative prompt", negative, paragraph, "What to keep out", most=limits.max_prompt)
    )
    modal.add_item(_field(SIZE, "Size or aspect ratio", _size_text(draft), hint="768x512, or 16:9"))
    modal.add_item(_field(REST, "Everything else", _rest_text(draft), paragraph, _rest_hint(limits)))
    if picture:
        modal.add_item(_upload(draft))
    modal.stop()  # it is not awaited: on_modal reads it from what comes back
    return modal


def _field(
    custom_id: str,
    label: str,
    value: str,
    style: discord.TextStyle = discord.TextStyle.short,
    hint: str = "",
    *,
    most: int = LONGEST,
    required: bool = False,
) -> ui.Label[Any]:
    most = max(1, min(LONGEST, most))
    text: ui.TextInput[Any] = ui.TextInput(
        custom_id=custom_id,
        style=style,
        default=value[:most] or None,
        required=required,
        max_length=most,
    )
    return ui.Label(text=label, description=hint or None, component=text)


def _upload(draft: Draft) -> ui.Label[Any]:
    says = "Instead of the one that it starts from" if draft.group or draft.picture else "To start from"
    upload: ui.FileUpload[Any] = ui.FileUpload(custom_id=PICTURE, required=False, min_values=0, max_values=1)
    return ui.Label(text="Picture", description=says, component=upload)


def _rest_hint(limits: Limits) -> str:
    return clip(
        f"As flags. --steps {limits.min_steps}-{limits.max_steps}; leave --seed out for a new one", 100
    )


def _size_text(draft: Draft) -> str:
    options = draft.options
    if draft.size is not None:
        return draft.size
    if options.aspect is not None:
        return f"{options.aspect[0]}:{options.aspect[1]}"
    if options.width is not None and options.height is not None:
        return f"{options.width}x{options.height}"
    return ""


def _rest_text(draft: Draft) -> str:
    if draft.rest is not None:
        return draft.rest
    rest = replace(draft.options, prompt="", negative_prompt=None, aspect=None)
    if rest.width is not None and rest.height is not None:
        rest = replace(rest, width=None, height=None)
    return format_options(rest)


# --- coming back ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filled:
    """What a form came back with: its text fields by custom_id, the picture attached to it, and the ids that
    were chosen in a list."""

    values: Mapping[str, str] = field(default_factory=dict)
    upload: Attached | None = None
    chosen: tuple[str, ...] = ()


def read_form(data: Mapping[str, Any]) -> Filled:
    """The fields of a MODAL_SUBMIT's data."""
    values: dict[str, str] = {}
    upload: Attached | None = None
    chosen: list[str] = []
    attachments = data.get("resolved", {}).get("attachments", {})
    for entry in _fields(data.get("components", ())):
        if isinstance(entry.get("value"), str):
            values[str(entry.get("custom_id"))] = entry["value"]
        elif found := [attachments[key] for key in entry.get("values", ()) if key in attachments]:
            upload = Attached.of(found[0])
        else:
            chosen += map(str, entry.get("values", ()))
    return Filled(values, upload, tuple(chosen))


def _fields(components: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The inputs of a form, whether in labels or in rows."""
    for entry in components:
        if "component" in entry:
            yield entry["component"]
        elif "components" in entry:
            yield from entry["components"]
        else:
            yield entry


def draft_of(filled: Filled, before: Draft) -> Draft:
    """What was typed, over what the form was opened with; fields that are read later as they stand."""
    values = filled.values
    negative = values.get(NEGATIVE, "").strip()
    unsaid = not negative and before.options.negative_prompt is None
    draft = replace(
        before,
        text=values.get(PROMPT, before.text),
        options=Options(negative_prompt=None if unsaid else negative),
        size=values.get(SIZE, ""),
        rest=values.get(REST, ""),
    )
    if filled.upload is not None:
        draft = replace(draft, picture=filled.upload.url, file_name=filled.upload.file_name)
    return draft


def options_in(
    draft: Draft, limits: Limits, models: Sequence[Model], styles: Mapping[str, str]
) -> tuple[Options, tuple[InvalidRequest, ...]]:
    """The options that a form says, flags in its prompt over its fields, and everything that is wrong."""
    problems: list[InvalidRequest] = []
    said = draft.options
    for part in (_shape(draft.size or "", limits, problems), _rest(draft.rest or "", limits, problems)):
        said = merge(said, part)
    _check(lambda: parse(draft.text, limits=limits), problems)
    if not problems:
        said = merge(said, parse(draft.text, limits=limits))
    problems += check_all(said, limits, models, styles)
    if not draft.text.strip():
        problems.insert(0, InvalidRequest("The prompt is empty. Say what to draw.", field="prompt"))
    return said, _distinct(problems)


def together(problems: Sequence[InvalidRequest]) -> InvalidRequest:
    """One refusal that tells them all, a line each."""
    lines = [problem.message for problem in problems]
    return InvalidRequest("\n".join(lines), field=problems[0].field if len(problems) == 1 else None)


def check_all(
    options: Options, limits: Limits, models: Sequence[Model], styles: Mapping[str, str]
) -> list[InvalidRequest]:
    """Everything that is wrong with options by themselves, one problem a field at most."""
    problems: list[InvalidRequest] = []
    table = ranges(limits)
    for name in _RANGED:
        value = getattr(options, name)
        if value is not None:
            _check(partial(table[name].check, value), problems)
    if options.aspect is not None:
        across, down = options.aspect
        _check(lambda: check_ratio(across, down, limits, field="aspect"), problems)
    _check(lambda: unfold(checked_text(options.prompt, "prompt", limits), limits=limits), problems)
    _check(lambda: checked_text(options.negative_prompt or "", "negative_prompt", limits), problems)
    _check(lambda: _names(options, models, problems), problems)
    style = options.style or "none"
    if style.casefold() != "none":
        _check(lambda: find_style(style, styles), problems)
    return problems


def _names(options: Options, models: Sequence[Model], problems: list[InvalidRequest]) -> None:
    """The model, and the scheduler as that model takes it."""
    usual = models[0] if models else None
    model = find_model(options.model, models, said=True) if options.model is not None else usual
    _check(lambda: pick_scheduler(options.scheduler, model, default=None), problems)


def _shape(text: str, limits: Limits, problems: list[InvalidRequest]) -> Options:
    """A size or a ratio, in one field."""
    value = "".join(text.split()).removeprefix("--size").removeprefix("--ar").lstrip("=")
    if not value:
        return Options()
    flag = "--ar" if ":" in value else "--size"
    return (
        _check(lambda: parse(f'{flag} "{value.replace(chr(34), "")}"', limits=limits), problems) or Options()
    )


def _rest(text: str, limits: Limits, problems: list[InvalidRequest]) -> Options:
    """Flags alone; each of them is looked at, also where another one is wrong."""
    before = len(problems)
    said = _check(lambda: _flags(text, limits), problems)
    if said is not None:
        return said
    single: list[InvalidRequest] = []
    pieces = filter(str.strip, _FLAG_STARTS.split(text))
    found = [_check(partial(_flags, piece, limits), single) for piece in pieces]
    problems[before:] = single or problems[before:]
    return reduce(merge, filter(None, found), Options())


def _flags(text: str, limits: Limits) -> Options:
    said = parse(text, limits=limits)
    if said.prompt:
        raise InvalidRequest(
            f'"{clip(said.prompt, 40)}" is no option. Write options as flags, such as --steps 30.',
            field="options",
        )
    return said


def _check(what: Callable[[], T], problems: list[InvalidRequest]) -> T | None:
    """What comes of it, or None where it is refused; then the refusal is noted."""
    try:
        return what()
    except InvalidRequest as problem:
        problems.append(problem)
        return None


def _distinct(problems: Sequence[InvalidRequest]) -> tuple[InvalidRequest, ...]:
    return tuple({problem.message: problem for problem in problems}.values())
