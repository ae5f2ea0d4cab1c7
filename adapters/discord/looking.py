"""/queue, [Why?], /cancel and /history: one's own requests, seen by oneself alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import discord
from discord import ui

from adapters.discord import flow, render, showing
from adapters.discord.answers import in_time, show_instead
from adapters.discord.autocomplete import ALL, Known
from adapters.discord.controls import Used, control_id
from adapters.discord.wording import at, clipped, escape, lines, small, title
from bot.core import messages
from bot.core.desk import group_state
from bot.core.errors import NotFound
from bot.core.messages import one_line
from bot.core.ports import JobStatus, StoredGroup
from bot.core.request import Requester, State
from bot.core.text import clean, clip

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

PAGE: Final = 10
"""Requests on a page of /history."""

SHOWN: Final = 15
"""Unfinished requests that /queue lists; more than that are counted."""

LONGEST: Final = 3000  # characters of the list, of the 4,000 that a message may have

IN_A_LIST: Final = 25
EMPTY: Final = "Nothing of yours is waiting. Try `/imagine` a red fox in snow"


# --- the queue --------------------------------------------------------------------------------------------


async def queue(adapter: Discord, interaction: Interaction) -> None:
    """/queue, and the Why? button."""
    by = flow.requester_of(interaction)
    await flow.tell(interaction, await in_time(interaction, queue_view(adapter, by)))


async def queue_view(
    adapter: Discord, by: Requester, *, said: str = "", gone: Sequence[str] = ()
) -> ui.LayoutView:
    """One's own requests, why they wait, and a list to cancel from. said: a line above; gone: groups that
    were just cancelled, which may take a moment to leave."""
    mine = [status for status in adapter.studio.queue(by) if status.group_id not in gone]
    why = await adapter.studio.why(by)
    shown = [queue_line(number, status) for number, status in enumerate(mine[:SHOWN], 1)]
    if len(mine) > SHOWN:
        shown.append(f"and {len(mine) - SHOWN} more")
    first, *rest = why.text(member="member", guild="server")
    told = lines(first if mine else "", *map(small, rest))
    text = render.text(lines(said, clipped(lines(*(shown or [EMPTY])), LONGEST), told))
    return render.sealed(text, *([_cancel_list(mine)] if mine else []))


def queue_line(number: int, status: JobStatus) -> str:
    """ "2 **misty castle** · about 9 ahead · 1-3 min", "1 **a red fox** · ▰▰▰▰▱▱▱▱▱▱ 12/30"."""
    if status.state is State.RUNNING and status.progress:
        stands = escape(messages.progress_bar(status.progress))
    elif status.position:
        stands = messages.place(status.position)
    else:
        stands = escape(messages.status_line(status))
    return f"{number} {title(status.prompt)} · {stands}"


def _cancel_list(mine: Sequence[JobStatus]) -> ui.ActionRow[Any]:
    options = [_option(status.prompt, status.group_id, status.group_id) for status in mine[: IN_A_LIST - 1]]
    if len(mine) > 1:
        options.append(discord.SelectOption(label=f"All {len(mine)} of yours", value=ALL))
    return _list("cancel", "Cancel…", options)


async def cancel_chosen(adapter: Discord, interaction: Interaction, used: Used) -> None:
    """One of the list was chosen: the same message then shows what is left."""
    by = flow.requester_of(interaction)
    said, gone = await in_time(interaction, _cancel(adapter, by, used.values[0] if used.values else ""))
    await show_instead(interaction, await queue_view(adapter, by, said=said, gone=gone))


async def cancel(adapter: Discord, interaction: Interaction, job: str | None = None) -> None:
    """/cancel: the one that is named, all, or the newest."""
    by = flow.requester_of(interaction)
    said, gone = await in_time(interaction, _cancel(adapter, by, job or ""))
    await flow.tell(interaction, await queue_view(adapter, by, said=said, gone=gone))


async def _cancel(adapter: Discord, by: Requester, job: str) -> tuple[str, list[str]]:
    """What to say, and the groups that were cancelled. Raises NotFound or Forbidden."""
    mine = adapter.studio.queue(by)
    if job.strip().casefold() == ALL:
        chosen = [status.group_id for status in mine]
    elif job.strip():
        chosen = [_group_id(job)]
    else:
        chosen = [status.group_id for status in mine[-1:]]
    if not chosen:
        raise NotFound("Nothing of yours is waiting.")
    prompts = {status.group_id: status.prompt for status in mine}
    for group in chosen:
        await adapter.studio.cancel(group, by)
    if len(chosen) > 1:
        return f"🗑️ Cancelled all {len(chosen)}.", chosen
    return f"🗑️ Cancelled {title(prompts.get(chosen[0], chosen[0]))}", chosen


def _group_id(typed: str) -> str:
    """The id in what was typed or pasted: "7k2qabcd", "7K2QABCD · a red fox"."""
    return (typed.split() or [""])[0].upper()[:32]


# --- history ----------------------------------------------------------------------------------------------


async def history(adapter: Discord, interaction: Interaction) -> None:
    """/history: the newest page."""
    await flow.tell(interaction, await in_time(interaction, history_view(adapter, interaction, ())))


async def turn_page(adapter: Discord, interaction: Interaction, used: Used) -> None:
    """Another page; its id names the last request of every page before it."""
    trail = tuple(int(each) for each in used.rest.split(".") if each.isdecimal() and len(each) <= 18)
    await show_instead(interaction, await in_time(interaction, history_view(adapter, interaction, trail)))


async def show_chosen(adapter: Discord, interaction: Interaction, used: Used) -> None:
    """One of the list was chosen: it is shown beside the list."""
    await showing.show(adapter, interaction, used.values[0] if used.values else "", private=True)


async def history_view(adapter: Discord, interaction: Interaction, trail: tuple[int, ...]) -> ui.LayoutView:
    """A page of one's own requests. trail: below which sequences this page and those before it begin."""
    by = flow.requester_of(interaction)
    before = trail[-1] if trail else None
    groups = await adapter.studio.history(by, limit=PAGE + 1, before=before)
    page = groups[:PAGE]
    if not trail:
        adapter.recent.fill(by, (Known(group.group_id, prompt_of(group)) for group in page))
    if not page:
        return render.sealed(render.text("You have asked for nothing here yet. Try `/imagine` a red fox"))
    items = [render.text(lines(*(_history_line(group) for group in page)))]
    options = [_option(prompt_of(group), group.group_id, group.group_id) for group in page]
    items.append(_list("again", "Show…", options))
    turns = _turns(trail, page[-1].sequence if len(groups) > PAGE else None)
    return render.sealed(*items, *render.rows(turns))


def _turns(trail: tuple[int, ...], older: int | None) -> list[ui.Button[Any]]:
    """Buttons to the pages on both sides; a very long way back begins at the front again."""
    found: list[ui.Button[Any]] = []
    if trail:
        found.append(ui.Button(label="Newer", custom_id=control_id("newer", _trail(trail[:-1]))))
    if older is not None:
        found.append(ui.Button(label="Older", custom_id=control_id("older", _trail((*trail, older)))))
    return found


def _trail(sequences: Sequence[int]) -> str:
    """As many of the last ones as an id holds."""
    kept = list(sequences)
    while len(text := ".".join(map(str, kept))) > 64:
        kept.pop(0)
    return text


def _history_line(group: StoredGroup) -> str:
    """ "✅ **a red fox** · 4 pictures · 2 hours ago", and its id below."""
    state = group_state([job.state for job in group.jobs])
    mark = render.MARKS.get(state, render.RUNNING if state is State.RUNNING else render.WAITING)
    pictures = sum(not picture.withheld for job in group.jobs for picture in job.pictures)
    many = f" · {pictures} pictures" if pictures > 1 else ""
    return f"{mark} {title(prompt_of(group))}{many} · {at(group.created_at)} · `{group.group_id}`"


def prompt_of(group: StoredGroup) -> str:
    """A stored group's prompt, for people."""
    return str(group.jobs[0].request.get("prompt", "")) if group.jobs else ""


# --- lists ------------------------------------------------------------------------------------------------


def _option(prompt: str, value: str, hint: str) -> discord.SelectOption:
    label = clip(clean(one_line(prompt)), 100) or hint
    return discord.SelectOption(label=label, value=value, description=hint)


def _list(name: str, placeholder: str, options: list[discord.SelectOption]) -> ui.ActionRow[Any]:
    select: ui.Select[Any] = ui.Select(custom_id=control_id(name), placeholder=placeholder, options=options)
    return ui.ActionRow(select)


CONTROLS = {
    "cancel": cancel_chosen,
    "newer": turn_page,
    "older": turn_page,
    "again": show_chosen,
}
