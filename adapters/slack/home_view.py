"""The App Home as blocks: what somebody waits for and why, their last pictures, the way to settings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from adapters.slack import names
from adapters.slack.blocks import (
    Block,
    actions,
    button,
    confirmed,
    context,
    header,
    image,
    literal,
    moment,
    section,
    spoken,
)
from adapters.slack.names import BOT_NAME, COMMAND, NOUNS
from bot.core import messages
from bot.core.ports import JobStatus
from bot.core.request import State
from bot.core.text import clip

MOST_WAITING: Final = 10
MOST_THUMBNAILS: Final = 10  # elements of a context block
MOST_ALT: Final = 200  # characters: a whole view may have 250 kB


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One picture. file: Slack's id of it; hidden: behind a spoiler."""

    file: str
    alt: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """A request that was made. line: its seed and so on; link: to its message, "" where there is none."""

    group_id: str
    prompt: str
    line: str
    pictures: tuple[Thumbnail, ...] = ()
    link: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """All that a Home shows. why: lines; manages: there is a way to the settings."""

    waiting: Sequence[JobStatus]
    why: Sequence[str]
    results: Sequence[Result] = field(default=())
    manages: bool = False


def blocks(content: Content, *, pictured: bool = True) -> list[Block]:
    """Everything but when it was so. pictured: with the pictures themselves."""
    found = [*_head(content), header("Your requests"), *_waiting(content), header("Your last pictures")]
    if not content.results:
        found.append(literal("They will be here once there are some."))
    for number, result in enumerate(content.results):
        found += _result(result, number, pictured=pictured)
    return found


def view(shown: Sequence[Block], at: float) -> Block:
    """The Home. at: the Unix time at which it was so."""
    line = {"type": "mrkdwn", "text": f"As of {spoken([moment(at)])}"}
    return {"type": "home", "blocks": [*shown, {"type": "context", "elements": [line]}]}


def _head(content: Content) -> list[Block]:
    ways = [
        button("Make a picture", names.FORM, names.FORM, style="primary"),
        button("Refresh", names.REFRESH, names.REFRESH),
        *([button("Settings", names.SETTINGS, names.SETTINGS)] if content.manages else []),
    ]
    how = f"`{COMMAND} a red fox in snow` in a channel that I am in (`/invite @{BOT_NAME}`), or:"
    return [section(how), *actions(*ways)]


# --- what waits -------------------------------------------------------------------------------------------


def _waiting(content: Content) -> list[Block]:
    mine = content.waiting
    lines = [_line(number, status) for number, status in enumerate(mine[:MOST_WAITING], 1)]
    if len(mine) > MOST_WAITING:
        lines.append(literal(f"and {len(mine) - MOST_WAITING} more"))
    return [*(lines or [literal("You have nothing in the queue.")]), *context(*content.why)]


def _line(number: int, status: JobStatus) -> Block:
    stands = messages.status_line(status, guild=NOUNS.guild)
    if status.state is State.QUEUED and status.position is not None:
        stands = messages.place(status.position)
    prompt = messages.one_line(status.prompt)
    stop = button("Cancel", f"{names.CANCEL}:{number}", status.group_id, described=f"Cancel: {prompt}")
    return {**literal(f"{number} {prompt} · {stands}"), "accessory": stop}


# --- what was made ----------------------------------------------------------------------------------------


def _result(result: Result, number: int, *, pictured: bool) -> list[Block]:
    shown = [each for each in result.pictures if each.file and not each.hidden] if pictured else []
    text = literal("\n".join(filter(None, (messages.one_line(result.prompt), result.line))))
    if shown:
        text["accessory"] = _image(shown[0])
    more = [_image(each) for each in shown[1 : 1 + MOST_THUMBNAILS]]
    row: list[Block] = [{"type": "context", "elements": more}] if more else []
    return [text, *row, *actions(*_buttons(result, number))]


def _image(picture: Thumbnail) -> Block:
    return image(picture.file, clip(picture.alt, MOST_ALT))


def _buttons(result: Result, number: int) -> list[Block]:
    group, prompt = result.group_id, messages.one_line(result.prompt)
    question = confirmed(
        "Delete?", "The pictures and the prompt are deleted for everybody.", "Delete", "Keep"
    )
    hidden = [index for index, each in enumerate(result.pictures) if each.hidden and each.file]
    found = [
        button(label, f"{action}:{number}", group, described=f"{label}: {prompt}")
        for label, action in (("Again", names.AGAIN), ("Remix", names.REMIX))
    ]
    found += [
        button("Show picture", f"{names.REVEAL}:{number}-{index}", f"{group}:{index}")
        for index in hidden[:MOST_THUMBNAILS]
    ]
    gone = button("Delete", f"{names.DELETE}:{number}", group, style="danger", confirm=question)
    if not result.link:
        return [*found, gone]
    opened = button("Open", f"{names.OPEN}:{number}", group, described=f"Open: {prompt}")
    return [{**opened, "url": result.link}, *found, gone]
