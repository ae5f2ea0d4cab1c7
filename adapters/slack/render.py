"""The messages that people read, as text for notifications and blocks. Texts: bot/core/messages.py.

Pure; it knows no address but the ids that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adapters.slack import names
from adapters.slack.blocks import (
    MAX_TEXT,
    MAX_VALUE,
    Block,
    actions,
    button,
    confirmed,
    context,
    emoji,
    image,
    literal,
    moment,
    person,
    rich,
    section,
    spoken,
    words,
)
from bot.core import messages
from bot.core.ports import JobStatus
from bot.core.request import ImageResult, Picture, State

ENDS: Final = {
    State.DONE: "white_check_mark",
    State.FAILED: "warning",
    State.WITHHELD: "warning",
    State.CANCELLED: "wastebasket",
}
MOST_PARTS: Final = 8  # sections that a text may take
ROW: Final = 5  # buttons in a row that phones still show well
PER_MESSAGE: Final = 10  # pictures; a message may have 50 blocks, and their texts a length that is not told
MOST_NUMBERED: Final = 40  # pictures with buttons of their own in one message


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message: text is its first line, for notifications."""

    text: str
    blocks: list[Block]


def _message(line: Sequence[Block], *blocks: Block) -> Rendered:
    return Rendered(spoken(line), [rich(line), *blocks])


# --- the receipt ------------------------------------------------------------------------------------------


def receipt(prompt: str, user: str, told: Sequence[str]) -> Rendered:
    """The root message, from when a request is accepted until it ends."""
    line = [emoji("art"), words(" "), words(_prompt(prompt), bold=True), words(" · "), person(user)]
    return _message(line, *context(" · ".join(told)))


def receipt_end(result: ImageResult, user: str, told: Sequence[str], shown: Sequence[Block] = ()) -> Rendered:
    """The root message at the end; shown: the pictures, where they are also sent to the channel."""
    mark = emoji(ENDS.get(result.state, "warning"))
    where = [words(" · in thread")] if result.state is not State.CANCELLED else []
    line = [mark, words(" "), words(_prompt(result.prompt), bold=True), words(" · "), person(user), *where]
    return _message(line, *shown, *context(" · ".join(told)))


def deleted(user: str) -> Rendered:
    """The root message of a request that was deleted, prompt and all."""
    return _message([emoji(ENDS[State.CANCELLED]), words(" Deleted · "), person(user)])


# --- the status -------------------------------------------------------------------------------------------


def accepted(prompt: str, user: str, told: Sequence[str], *, group: str, alone: bool) -> Rendered:
    """The status message at first. group: the request, where that is known; alone: there is no receipt above
    it, so it says what was asked too."""
    line = [emoji("hourglass"), words(" Accepted")]
    if alone:
        line += [words(" · "), words(_prompt(prompt), bold=True), words(" · "), person(user)]
    buttons = [button("Why?", names.WHY, group), button("Cancel", names.CANCEL, group)] if group else []
    return _message(line, *context(" · ".join(told) if alone else ""), *actions(*buttons))


def status(status: JobStatus, *, alone: bool, user: str, preview: str = "") -> Rendered:
    """The status message while a request waits or runs, or where it ended without a result. preview: a
    file."""
    if status.state.ended:
        return _stopped(status)
    line = _queued(status) if status.state is not State.RUNNING else _running(status)
    by = [words(" · by "), moment(status.by)] if status.by is not None else []
    mine = messages.own_place(status.position) if status.position else ""
    said = [rich([words(_prompt(status.prompt), bold=True), words(" · "), person(user)])] if alone else []
    pictured = [image(preview, "What is forming")] if preview else []
    waiting = status.state is not State.RUNNING
    buttons = [button("Why?", names.WHY, status.group_id)] if waiting else []
    buttons.append(button("Cancel", names.CANCEL, status.group_id))
    return _message([*line, *by], *said, *pictured, *context(mine), *actions(*buttons))


def _queued(status: JobStatus) -> list[Block]:
    line = [emoji("hourglass"), words(" ")]
    if status.restarted:
        line.append(words(f"{messages.RESTARTED} · "))
    place = messages.ahead(status.position) if status.position else "Queued"
    _, about, counted = place.rpartition("About ")
    return [*line, words(about), words(counted, bold=True)] if about else [*line, words(place)]


def _running(status: JobStatus) -> list[Block]:
    bar = messages.progress_bar(status.progress) if status.progress else "Starting"
    made = f" · {status.made} of {status.total} made" if status.total > 1 else ""
    return [emoji("art"), words(f" {bar}{made}")]


def _stopped(status: JobStatus) -> Rendered:
    mark = emoji(ENDS.get(status.state, "warning"))
    return _message([mark, words(f" {messages.status_line(status, guild=names.NOUNS.guild)}")])


# --- the result -------------------------------------------------------------------------------------------


def finished(
    result: ImageResult, files: Sequence[tuple[Picture, str]], *, user: str, alone: bool, below: bool = False
) -> Rendered:
    """The status message with its pictures. files: each picture of this message, and its file where it is
    shown in it; below: what has none is shared in the next messages instead."""
    line = [emoji(ENDS[State.DONE]), words(" "), words(_prompt(result.prompt), bold=True)]
    if alone:
        line += [words(" · "), person(user)]
    if below:
        line.append(words(" · below"))
    said = " ".join((messages.ended(result, guild=names.NOUNS.guild), *result.notes)).strip()
    return _message(
        line,
        *pictures(result, files[:MOST_NUMBERED]),
        *context(messages.finished_line(result), said),
        *_result_buttons(result, [picture for picture, _ in files[:MOST_NUMBERED]]),
    )


def further(result: ImageResult, files: Sequence[tuple[Picture, str]]) -> Rendered:
    """A message below the status message, with more of the pictures."""
    first, last = files[0][0].index + 1, files[-1][0].index + 1
    line = [emoji(ENDS[State.DONE]), words(f" {first} to {last} of {len(result.pictures)}")]
    return _message(line, *pictures(result, files), *_numbered_rows(result, [each for each, _ in files]))


def placeholder() -> Rendered:
    """The same before there are pictures in it."""
    return _message([emoji("hourglass"), words(" More pictures")])


def lost(result: ImageResult, channel: str) -> Rendered:
    """Where pictures are, that may not be posted any more in the channel in which they were asked for."""
    line = [
        emoji(ENDS[State.DONE]),
        words(" "),
        words(_prompt(result.prompt), bold=True),
        words(" · I can't post in "),
        {"type": "channel", "channel_id": channel},
        words(f" any more. {names.COMMAND} show {result.group_id}"),
    ]
    return _message(line)


def untaken(result: ImageResult, links: Sequence[str], *, user: str, alone: bool) -> Rendered:
    """The status message where Slack takes pictures in no form. links: where they can be seen instead."""
    line = [emoji("warning"), words(" Slack does not take the files here.")]
    said = [rich([words(_prompt(result.prompt), bold=True), words(" · "), person(user)])] if alone else []
    named = [f"<{link}|Picture {number}>" for number, link in enumerate(links[:MOST_NUMBERED], 1)]
    shown = [section(" · ".join(named[at : at + PER_MESSAGE])) for at in range(0, len(named), PER_MESSAGE)]
    return _message(
        line,
        *said,
        *shown,
        *context(messages.finished_line(result)),
        *_result_buttons(result, list(result.pictures[:MOST_NUMBERED])),
    )


def pictures(result: ImageResult, files: Sequence[tuple[Picture, str]]) -> list[Block]:
    """Image blocks; a picture behind a spoiler is a button, since Slack hides nothing in a message."""
    several = len(result.pictures) > 1
    hidden = [
        button(
            f"Show picture {picture.index + 1}" if several else "Show picture",
            f"{names.REVEAL}:{picture.index + 1}",
            f"{result.group_id}:{picture.index}",
        )
        for picture, _ in files
        if is_hidden(result, picture)
    ]
    shown = [
        image(file, picture.alt_text) for picture, file in files if file and not is_hidden(result, picture)
    ]
    return [*shown, *_rows(hidden)]


def _rows(buttons: Sequence[Block]) -> list[Block]:
    return [block for at in range(0, len(buttons), ROW) for block in actions(*buttons[at : at + ROW])]


def is_hidden(result: ImageResult, picture: Picture) -> bool:
    """Whether a picture is shown on demand alone."""
    return result.spoiler or picture.spoiler


def _result_buttons(result: ImageResult, shown: Sequence[Picture]) -> list[Block]:
    group = result.group_id
    common = [
        button("Again", names.AGAIN, group),
        button("Remix", names.REMIX, group),
        _delete(group),
    ]
    if len(result.pictures) > 1:
        return [*_numbered_rows(result, shown), *actions(*common)]
    single = [
        button(label, f"{action}:0", f"{group}:0")
        for offered, label, action in (
            (result.vary, "Vary", names.VARY),
            (result.upscale, "Upscale", names.UPSCALE),
        )
        if offered
    ]
    return actions(common[0], *single, *common[1:])


def _numbered_rows(result: ImageResult, shown: Sequence[Picture]) -> list[Block]:
    """Buttons for each of several pictures, by the number that the whole request gives it."""
    return [
        row
        for offered, letter, action, verb in (
            (result.upscale, "U", names.UPSCALE, "Upscale"),
            (result.vary, "V", names.VARY, "Variations of"),
        )
        if offered
        for row in _rows([_numbered(letter, action, verb, result.group_id, each.index) for each in shown])
    ]


def _numbered(letter: str, action: str, verb: str, group: str, index: int) -> Block:
    label, described = f"{letter}{index + 1}", f"{verb} picture {index + 1}"
    return button(label, f"{action}:{index}", f"{group}:{index}", described=described)


def _delete(group: str) -> Block:
    question = confirmed(
        "Delete?", "The pictures and the prompt are deleted for everybody.", "Delete", "Keep"
    )
    return button("Delete", names.DELETE, group, style="danger", confirm=question)


def unfinished(result: ImageResult, *, user: str, alone: bool) -> Rendered:
    """The status message of a request that came to nothing: why, and what can be done."""
    mark = emoji(ENDS.get(result.state, "warning"))
    why = (
        messages.ended(result, guild=names.NOUNS.guild)
        .replace(messages.reference_line(result.reference), "")
        .strip()
    )
    said = [rich([words(_prompt(result.prompt), bold=True), words(" · "), person(user)])] if alone else []
    retry = (
        button(f"Retry at {result.remedy_label}", names.RETRY, result.group_id, style="primary")
        if result.remedy
        else button("Retry", names.AGAIN, result.group_id)
    )
    ways = [] if result.state is State.WITHHELD else [retry]
    return _message(
        [mark, words(f" {why}")],
        *said,
        *context(messages.reference_line(result.reference)),
        *actions(*ways, button("Remix", names.REMIX, result.group_id)),
    )


# --- private answers --------------------------------------------------------------------------------------


def refusal(message: str, text: str, *, command: str = "", free_at: float | None = None) -> Rendered:
    """Why a request was not taken, and the whole of it, so that it can be sent again. command: what it was
    sent with; free_at: the Unix time at which there may be room for it."""
    said = messages.not_queued(message)
    blocks: list[Block] = [literal(f"⚠️ {said}")]
    if free_at is not None:
        blocks.append(rich([words("Next free "), moment(free_at)]))
    if text:
        whole = f"{command} {text}" if command else text
        blocks += [literal(whole[at : at + MAX_TEXT]) for at in range(0, len(whole), MAX_TEXT)][:MOST_PARTS]
    fits = text and len(text) <= MAX_VALUE
    return Rendered(
        spoken([words(said)]), [*blocks, *actions(*([button("Edit", names.EDIT, text)] if fits else []))]
    )


def no_access(group_id: str, bot: str) -> Rendered:
    """The program may not post where it was asked to."""
    line = f"I can't post here. `/invite @{bot}` and ask again, or:"
    return Rendered(line, [section(line), *actions(button("Send to my DM", names.TO_DM, group_id))])


def notice(text: str, *more: str) -> Rendered:
    """Lines of ours for one person; nothing in them is parsed."""
    lines = [line for line in (text, *more) if line]
    return Rendered(spoken([words(lines[0])]), [literal(line) for line in lines])


def ready(user: str) -> Rendered:
    """The ping."""
    line = [person(user), words(" ready")]
    return _message(line)


def _prompt(prompt: str) -> str:
    return messages.one_line(prompt) or "a picture"
