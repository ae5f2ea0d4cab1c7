"""Shortcuts: Remix and Recipe on any message with a picture, and a form from anywhere.

A picture of ours is known by the buttons below it, or by the recipe in its file; so is one from another
platform or tool. A modal has to be opened within three seconds, so one is opened at once, and shows what
comes of it when the file is there and read.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from adapters.slack import flow, names
from adapters.slack.blocks import Block, actions, button, context, literal, plain, preformatted
from adapters.slack.commands import GROUP
from adapters.slack.forms import State
from adapters.slack.names import COMMAND
from adapters.slack.pictures import Attached, pictures_on
from adapters.slack.visit import Visit, of_interaction
from bot.core.errors import FairbrushError, Fault, InvalidRequest, NotFound
from bot.core.grammar import format_options
from bot.core.options import Options
from bot.core.pictures import Found
from bot.core.results import shown_pictures

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

Ack = Callable[..., Awaitable[Any]]

LOOKED_AT: Final = 4  # pictures of one message
SHOWN: Final = 10  # recipes of one request
NO_PICTURE: Final = "There is no picture on this message. Choose one that has a PNG, JPEG or WebP."
FROM_PICTURE: Final = "It was made from another picture, which a recipe does not hold."


async def chosen(slack: Slack, ack: Ack, body: dict[str, Any], context: Any) -> None:
    """Any of names.SHORTCUTS. Nothing is made by it, so it is acknowledged at once."""
    visit, message = of_interaction(body, context), body.get("message") or {}
    await ack()
    work: Callable[[], Awaitable[None]]
    match body.get("callback_id"):
        case names.REMIX_SHORTCUT:
            work = partial(remix, slack, visit, message)
        case names.RECIPE_SHORTCUT:
            work = partial(recipe, slack, visit, message)
        case _:
            work = partial(slack.forms.open_imagine, visit)
    slack.later(flow.guarded(slack, visit, work))


async def remix(slack: Slack, visit: Visit, message: Mapping[str, Any]) -> None:
    """A form with what made a picture or, where that is not known, one that starts from it."""
    for group in _groups_on(message):
        try:
            await slack.forms.open_remix(visit, group)
            return
        except NotFound:
            continue  # of another workspace, or deleted since: its files may still say
    await _show(slack, visit, pictures_on(message), partial(_form, slack, visit))


async def remix_file(slack: Slack, visit: Visit, file_id: str) -> None:
    """The same for one file."""
    await _show(slack, visit, [Attached(file_id, "picture")], partial(_form, slack, visit))


async def recipe(slack: Slack, visit: Visit, message: Mapping[str, Any]) -> None:
    """What made a picture."""
    for group in _groups_on(message):
        try:
            view = await _own_recipe(slack, visit, group)
        except NotFound:
            continue
        workspace = await slack.clients.workspace(visit.team, visit.enterprise)
        await workspace.open_view(visit.trigger, view)
        return
    await _show(slack, visit, pictures_on(message), partial(_found_recipe, visit))


def _groups_on(message: Mapping[str, Any]) -> list[str]:
    """The requests that a message's buttons speak of."""
    values = (value.partition(":")[0] for value in _values(message.get("blocks") or ()))
    return list(dict.fromkeys(value for value in values if GROUP.fullmatch(value)))


def _values(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for block in blocks:
        for each in (block.get("accessory") or {}, *(block.get("elements") or ())):
            yield str(each.get("value") or "")


# --- pictures that are read -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """A picture that was looked at. found: its recipe, None where it has none."""

    picture: Attached
    found: Found | None


async def look_at(slack: Slack, visit: Visit, pictures: Sequence[Attached]) -> Look:
    """The first picture with a recipe, else the first that is one. Raises what the last was refused for."""
    refusal: FairbrushError = NotFound(NO_PICTURE)
    first: Look | None = None
    for picture in pictures[:LOOKED_AT]:
        try:
            data = await slack.pictures.fetch(visit, picture)
            return Look(picture, await slack.studio.read_recipe(data))
        except NotFound:
            first = first or Look(picture, None)
        except (InvalidRequest, Fault) as error:
            refusal = error
    if first is None:
        raise refusal
    return first


async def _show(
    slack: Slack, visit: Visit, pictures: Sequence[Attached], view_of: Callable[[Look], Awaitable[Block]]
) -> None:
    """Open a modal, look at the pictures, and show there what comes of it."""
    if not pictures:
        raise NotFound(NO_PICTURE)
    workspace = await slack.clients.workspace(visit.team, visit.enterprise)
    waiting = _plain_view("Reading the picture…")
    view_id = await workspace.open_view(visit.trigger, waiting, push=visit.inside)
    try:
        view = await view_of(await look_at(slack, visit, pictures))
    except FairbrushError as error:
        if error.detail:
            log.info("a picture was not read: %s %s", error.message, error.detail)
        view = _plain_view(error.message)
    try:
        await workspace.update_view(view_id, view)
    except Fault as error:  # closed meanwhile
        log.info("not shown: %s %s", error.message, error.detail)


async def _form(slack: Slack, visit: Visit, look: Look) -> Block:
    if look.found is None:
        return await slack.forms.view_from(visit, look.picture)
    return await slack.forms.view_of(visit, replace(look.found.options, strength=None))


# --- recipes ----------------------------------------------------------------------------------------------


async def _found_recipe(visit: Visit, look: Look) -> Block:
    """Raises NotFound where there is none."""
    if look.found is None:
        raise NotFound(
            "There is no recipe in this picture. Screenshots and previews lose it. Remix makes one that "
            "starts from this one."
        )
    press = button("Remix", names.REMIX_FILE, look.picture.file_id)
    return _recipe_view(visit, [look.found.options], _origin(look.found), press)


async def _own_recipe(slack: Slack, visit: Visit, group: str) -> Block:
    """Of a request of ours, from the store. Raises NotFound."""
    stored = await slack.studio.seen(group, visit.requester)
    count = min(len(shown_pictures(stored)), SHOWN)
    indices: Sequence[int | None] = range(count) if count else (None,)
    found = [await slack.studio.options_of(group, visit.requester, index=index) for index in indices]
    return _recipe_view(visit, found, group, button("Remix", names.REMIX, group))


def _recipe_view(visit: Visit, found: Sequence[Options], origin: str, press: Block) -> Block:
    """origin: where it was made, for people."""
    lines = [f"{COMMAND} {format_options(replace(options, strength=None))}" for options in found]
    note = FROM_PICTURE if any(options.strength is not None for options in found) else ""
    return {
        **_plain_view("", title="Recipe"),
        "callback_id": names.RECIPE_VIEW,
        "private_metadata": State(channel=visit.channel, thread=visit.thread, reply=visit.reply).to_json(),
        "blocks": [
            literal("To be sent here, or on Discord:"),
            *(preformatted(line) for line in lines),
            *context(origin, note),
            *actions(press),
        ],
    }


def _plain_view(text: str, *, title: str = "Picture") -> Block:
    return {
        "type": "modal",
        "title": plain(title),
        "close": plain("Close"),
        "blocks": [literal(text)],
    }


def _origin(found: Found) -> str:
    """ "Fairbrush 0.1.0 · local · 2026-01-02", or that another tool wrote it."""
    if found.source == "parameters":
        return "from another tool's text"
    made = found.recipe
    backend = str(made.get("backend") or "").partition(":")[0]
    said = (str(made.get("software") or ""), backend, str(made.get("created") or "")[:10])
    return " · ".join(filter(None, said))
