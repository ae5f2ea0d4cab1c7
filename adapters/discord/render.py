"""What people see: every message of a request as components, from plain values.

Knows Discord's components and the core's texts; sends nothing. Views come stopped: the library keeps no
stopped view in memory, and every button says by itself what it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import discord
from discord import ui

from adapters.discord.actions import Action, custom_id
from adapters.discord.address import Place
from adapters.discord.wording import clipped, escape, lines, mention, small, soon, title
from bot.core import messages
from bot.core.ports import JobStatus, Position
from bot.core.request import ImageResult, State

Item: TypeAlias = "ui.Item[ui.LayoutView]"
Button: TypeAlias = "ui.Button[ui.LayoutView]"

IN_A_ROW: Final = 5
NOTES_MOST: Final = 1500  # characters of a result's notes, of the 4,000 that a message may have

MARKS: Final = {State.DONE: "✅", State.FAILED: "⚠️", State.WITHHELD: "⚠️", State.CANCELLED: "🗑️"}
WAITING, RUNNING, DELETED = "⏳", "🎨", "🗑️"

_STYLES: Final = {
    Action.AGAIN: discord.ButtonStyle.primary,
    Action.RETRY: discord.ButtonStyle.primary,
    Action.EDIT: discord.ButtonStyle.primary,
    Action.SHOW: discord.ButtonStyle.primary,
}


# --- parts ------------------------------------------------------------------------------------------------


def sealed(*items: Item) -> ui.LayoutView:
    """A message of these items."""
    view = ui.LayoutView(timeout=None)
    for item in items:
        view.add_item(item)
    view.stop()
    return view


def text(content: str) -> Item:
    """A text in Discord's markdown."""
    return ui.TextDisplay(content)


def button(action: Action, group: str, label: str, index: int | None = None) -> Button:
    """A button that means the same after a restart."""
    style = _STYLES.get(action, discord.ButtonStyle.secondary)
    if action is Action.DELETE:
        return ui.Button(style=style, emoji="🗑️", custom_id=custom_id(action, group, index))
    return ui.Button(style=style, label=label, custom_id=custom_id(action, group, index))


def rows(buttons: Iterable[Button]) -> list[Item]:
    """Action rows of at most five buttons; none of none."""
    left = list(buttons)
    return [ui.ActionRow(*left[at : at + IN_A_ROW]) for at in range(0, len(left), IN_A_ROW)]


def picture(name: str, *, alt: str = "", spoiler: bool = False) -> discord.MediaGalleryItem:
    """An attached picture, by its file's name."""
    return discord.MediaGalleryItem(f"attachment://{name}", description=alt or None, spoiler=spoiler)


# --- the receipt ------------------------------------------------------------------------------------------


def receipt_text(place: Place) -> str:
    """ "🖌️ **a red fox in snow** · @mention", and what differs from the defaults."""
    told = small(escape(" · ".join(place.told)))
    return lines(f"🖌️ {title(place.prompt)} · {mention(place.user)}", told)


def receipt(place: Place) -> ui.LayoutView:
    """The answer that says "heard"."""
    return sealed(text(receipt_text(place)), *_reach(place))


def ended_receipt(
    place: Place, state: State, *, link: str = "", sheet: discord.MediaGalleryItem | None = None
) -> ui.LayoutView:
    """ "✅ **a red fox in snow** · @mention · [open](thread)", and one small sheet of the pictures."""
    opened = f" · [open]({link})" if link else ""
    line = f"{MARKS[state]} {title(place.prompt)} · {mention(place.user)}{opened}"
    return sealed(text(line), *([ui.MediaGallery(sheet)] if sheet else []))


def _reach(place: Place) -> list[Item]:
    """Where the bot itself cannot come: a button whose press lets it answer again."""
    if place.reachable or not place.group:
        return []
    return rows([button(Action.CANCEL, place.group, "Cancel"), button(Action.SHOW, place.group, "Show")])


# --- the status -------------------------------------------------------------------------------------------


def status(place: Place, now: JobStatus, preview: discord.MediaGalleryItem | None = None) -> ui.LayoutView:
    """How a request stands; in place of the receipt, below the receipt's own words."""
    head = receipt_text(place) if place.in_place else ""
    if now.state.ended:
        return _ended_status(place, now)
    shown = _running(now) if now.state is State.RUNNING else _queued(now)
    buttons = [button(Action.CANCEL, now.group_id, "Cancel")]
    if now.state is not State.RUNNING:
        buttons.insert(0, button(Action.WHY, now.group_id, "Why?"))
    if not place.reachable:
        buttons.append(button(Action.SHOW, now.group_id, "Show"))
    gallery: list[Item] = [ui.MediaGallery(preview)] if preview else []
    return sealed(text(lines(head, shown)), *gallery, *rows(buttons))


def waiting(place: Place) -> ui.LayoutView:
    """The status message before anything is known."""
    buttons = [button(Action.WHY, place.group, "Why?"), button(Action.CANCEL, place.group, "Cancel")]
    return sealed(text(f"{WAITING} Queued"), *(rows(buttons) if place.group else []))


def _queued(now: JobStatus) -> str:
    kept = messages.RESTARTED if now.restarted else ""
    ahead = _ahead(now.position, plain=now.restarted) if now.position else "Queued"
    by = f"by {soon(now.by)}" if now.by is not None else ""
    own = messages.own_place(now.position) if now.position else ""
    return lines(f"{WAITING} {_dotted(kept, ahead, by)}", small(own))


def _ahead(position: Position, *, plain: bool) -> str:
    """ "About **9 requests ahead**"."""
    said = messages.ahead(position)
    if plain or position.ahead <= 0:
        return said
    about, _, what = said.partition(" ")
    return f"{about} **{what}**"


def _running(now: JobStatus) -> str:
    bar = messages.progress_bar(now.progress) if now.progress else "Starting"
    made = f"{now.made} of {now.total} made" if now.total > 1 else ""
    by = f"by {soon(now.by)}" if now.by is not None else ""
    return f"{RUNNING} {_dotted(escape(bar), made, by)}"


def _ended_status(place: Place, now: JobStatus) -> ui.LayoutView:
    """An end without its result: it failed to load, or was deleted."""
    said = messages.status_line(now)
    return sealed(text(f"{MARKS[now.state]} {title(place.prompt or now.prompt)}\n{escape(said)}"))


# --- the result -------------------------------------------------------------------------------------------


def pictures(
    place: Place,
    result: ImageResult,
    gallery: Sequence[discord.MediaGalleryItem],
    *,
    first: int,
    last: bool,
    channel: bool,
    extra: Sequence[str] = (),
) -> ui.LayoutView:
    """One message of a result. first: the place of its first picture in the result (0-based); last: it is
    the last message; channel: it is the receipt's, where others speak too; extra: lines of Discord's
    markdown, as of links."""
    total = len(result.pictures)
    parts: list[Item] = []
    who = f" · {mention(place.user)}" if channel else ""
    if first == 0:
        parts.append(text(f"{MARKS[State.DONE]} {title(place.prompt or result.prompt)}{who}"))
    else:
        numbers = f"{first + 1}-{first + len(gallery)}" if len(gallery) > 1 else f"{first + 1}"
        parts.append(text(small(f"{numbers} of {total}")))
    if gallery:
        parts.append(ui.MediaGallery(*gallery))
    if last and (below := _below(result, extra)):
        parts.append(text(below))
    return sealed(*parts, *_result_rows(result, range(first, first + len(gallery)), last=last))


def _below(result: ImageResult, extra: Sequence[str]) -> str:
    """ "seed 812734 · SDXL · 18 s · local", and whatever else is to be said, each line in small print."""
    said = [messages.finished_line(result), messages.ended(result), *result.notes]
    printed = clipped("\n".join(small(escape(line)) for line in said if line), NOTES_MOST)
    return lines(printed, *map(small, extra))


def _result_rows(result: ImageResult, shown: range, *, last: bool) -> list[Item]:
    group, several = result.group_id, len(result.pictures) > 1
    if not several:
        return rows(_single(result))
    found: list[Item] = []
    if result.upscale:
        found += rows(button(Action.UPSCALE, group, f"U{index + 1}", index) for index in shown)
    if result.vary:
        found += rows(button(Action.VARY, group, f"V{index + 1}", index) for index in shown)
    return found + (rows(_whole(group)) if last else [])


def _whole(group: str) -> list[Button]:
    return [
        button(Action.AGAIN, group, "Again"),
        button(Action.REMIX, group, "Remix"),
        button(Action.DELETE, group, "Delete"),
    ]


def _single(result: ImageResult) -> list[Button]:
    again, remix, delete = _whole(result.group_id)
    vary = [button(Action.VARY, result.group_id, "Vary", 0)] if result.vary else []
    upscale = [button(Action.UPSCALE, result.group_id, "Upscale", 0)] if result.upscale else []
    return [again, *vary, *upscale, remix, delete]


def no_pictures(place: Place, result: ImageResult, *, channel: bool) -> ui.LayoutView:
    """A result without pictures: why, and what can be done; in the channel also whose and of what."""
    said = clipped(escape(_why(result)), NOTES_MOST)
    reference = small(messages.reference_line(escape(result.reference)))
    if result.state is State.CANCELLED:
        reference = ""
    prompt = title(place.prompt or result.prompt)
    head = (
        f"{MARKS[result.state]} {prompt} · {mention(place.user)}\n" if channel else f"{MARKS[result.state]} "
    )
    group = result.group_id
    buttons = [button(Action.AGAIN, group, "Again")] if result.state is State.CANCELLED else []
    if result.remedy:
        buttons.append(button(Action.RETRY, group, clipped(f"Retry at {result.remedy_label}", 80)))
    buttons.append(button(Action.REMIX, group, "Remix"))
    return sealed(text(lines(f"{head}{said}", reference)), *rows(buttons))


def _why(result: ImageResult) -> str:
    """ended(), without the reference: that has a line of its own."""
    if result.state is State.FAILED:
        return messages.not_made(result.message, charged=bool(result.money))
    return messages.ended(result)


def elsewhere(place: Place, result: ImageResult, link: str) -> ui.LayoutView:
    """The thread's last word where the pictures are in the receipt's message."""
    return sealed(text(f"{MARKS[result.state]} {title(place.prompt or result.prompt)} · [pictures]({link})"))


def more() -> ui.LayoutView:
    """A message that will hold more pictures of a large result."""
    return sealed(text(f"{WAITING} More pictures"))


def deleted(place: Place) -> ui.LayoutView:
    """What is left of a deleted request."""
    return sealed(text(f"{DELETED} {title(place.prompt)} · deleted"))


def ping(place: Place, state: State) -> ui.LayoutView:
    """ "@mention ready"."""
    return sealed(text(f"{mention(place.user)} {'ready' if state is State.DONE else 'not made'}"))


def _dotted(*parts: str) -> str:
    return " · ".join(filter(None, parts))
