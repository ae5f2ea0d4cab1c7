"""Private answers that ask for nothing to be made: the queue, one's own requests, recipes, help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from adapters.slack import flow, names, settings
from adapters.slack.blocks import Block, button, context, image, literal, preformatted, section, spoken, words
from adapters.slack.files import files_in
from adapters.slack.names import COMMAND, NOUNS
from adapters.slack.render import Rendered, notice
from adapters.slack.visit import Visit
from bot.core import messages
from bot.core.errors import NotFound
from bot.core.grammar import format_options
from bot.core.ports import JobStatus, StoredGroup
from bot.core.request import ImageResult, State

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

MOST_LINES: Final = 10
MOST_SHOWN: Final = 40  # pictures of one answer
MARKS: Final = {
    State.DONE: "✅",
    State.FAILED: "⚠️",
    State.WITHHELD: "⚠️",
    State.CANCELLED: "🗑️",
    State.RUNNING: "🎨",
}


async def page(slack: Slack, visit: Visit, name: str, group: str) -> Rendered:
    """What one of the words says. group: the request it is about, or the last one. Raises NotFound."""
    match name:
        case "queue":
            return await queue(slack, visit)
        case "history":
            return await history(slack, visit)
        case "cancel":
            return await cancel(slack, visit, group)
        case "show":
            return await show(slack, visit, group)
        case "recipe":
            return await recipe(slack, visit, group)
        case "settings":
            return await settings.page(slack, visit)
    return help_page()


async def tell(slack: Slack, visit: Visit, name: str, group: str) -> None:
    """Say it privately, without pictures where one of them was deleted. Raises as page()."""
    answer = await page(slack, visit, name, group)
    bare = [block for block in answer.blocks if block["type"] != "image"]
    await flow.whisper(
        slack, visit, answer, bare=Rendered(answer.text, bare) if bare != answer.blocks else None
    )


# --- the queue --------------------------------------------------------------------------------------------


async def queue(slack: Slack, visit: Visit) -> Rendered:
    """One's own requests, and why they wait."""
    mine = slack.studio.queue(visit.requester)
    why = await slack.studio.why(visit.requester)
    lines: list[Block] = [_waiting(number, status) for number, status in enumerate(mine[:MOST_LINES], 1)]
    if len(mine) > MOST_LINES:
        lines.append(literal(f"and {len(mine) - MOST_LINES} more"))
    first, *rest = why.text(member=NOUNS.member, guild=NOUNS.guild)
    head = f"{len(mine)} of your requests" if len(mine) != 1 else "1 of your requests"
    said = f"{head} in the queue" if mine else "You have nothing in the queue."
    return Rendered(said, [*(lines or [literal(said)]), section(first), *context(*rest)])


def _waiting(number: int, status: JobStatus) -> Block:
    """ "1 a red fox in snow · 12/30", with its button."""
    stands = messages.status_line(status, guild=NOUNS.guild)
    if status.state is State.QUEUED and status.position is not None:
        stands = messages.place(status.position)
    made = literal(f"{number} {messages.one_line(status.prompt)} · {stands}")
    return {**made, "accessory": button("Cancel", names.CANCEL, status.group_id)}


async def cancel(slack: Slack, visit: Visit, group: str) -> Rendered:
    """Cancel a request, or the only one."""
    mine = slack.studio.queue(visit.requester)
    if not group and len(mine) != 1:
        return await queue(slack, visit)
    status = await slack.studio.cancel(group or mine[0].group_id, visit.requester)
    return notice(f"Cancelled: {messages.one_line(status.prompt)}")


# --- what was made ----------------------------------------------------------------------------------------


async def history(slack: Slack, visit: Visit) -> Rendered:
    """One's own last requests."""
    groups = await slack.studio.history(visit.requester, limit=MOST_LINES)
    if not groups:
        return notice("You have made nothing here yet.", f"Try: {COMMAND} a red fox in snow")
    lines = [literal(f"{_mark(group)} {group.group_id} · {_prompt(group)}") for group in groups]
    hint = f"{COMMAND} show {groups[0].group_id} · {COMMAND} recipe {groups[0].group_id}"
    return Rendered("Your last requests", [*lines, *context(hint)])


async def show(slack: Slack, visit: Visit, group: str) -> Rendered:
    """A request of one's own once more."""
    stored = await _group(slack, visit, group)
    standing = slack.studio.status(stored.group_id)
    if standing is not None and not standing.state.ended:
        return notice(
            f"{messages.one_line(standing.prompt)} · {messages.status_line(standing, guild=NOUNS.guild)}"
        )
    result = await slack.studio.result(stored.group_id)
    head = literal(f"{_mark(stored)} {messages.one_line(result.prompt)}")
    ended = messages.ended(result, guild=NOUNS.guild)
    below = context(messages.finished_line(result) if result.pictures else "", ended)
    return Rendered(
        spoken([words(messages.one_line(result.prompt))]), [head, *_pictures(stored, result), *below]
    )


def _pictures(stored: StoredGroup, result: ImageResult) -> list[Block]:
    files = files_in(stored.address)
    shown = [picture for picture in result.pictures if not picture.withheld]
    if len(files) != len(shown):
        return []
    return [image(file, picture.alt_text) for file, picture in zip(files, shown, strict=True)][:MOST_SHOWN]


async def recipe(slack: Slack, visit: Visit, group: str) -> Rendered:
    """What makes the first picture of a request again, to be sent anywhere."""
    stored = await _group(slack, visit, group)
    made = any(job.pictures for job in stored.jobs)
    options = await slack.studio.options_of(stored.group_id, visit.requester, index=0 if made else None)
    line = f"{COMMAND} {format_options(options)}"
    return Rendered(
        spoken([words(line)]), [literal("The recipe, for here and for Discord:"), preformatted(line)]
    )


async def _group(slack: Slack, visit: Visit, group: str) -> StoredGroup:
    if group:
        return await slack.studio.show(group, visit.requester)
    last = await slack.studio.history(visit.requester, limit=1)
    if not last:
        raise NotFound("You have made nothing here yet.")
    return last[0]


def _mark(group: StoredGroup) -> str:
    states = {job.state for job in group.jobs}
    order = (State.RUNNING, State.QUEUED, State.ACCEPTED, State.DONE, State.WITHHELD, State.FAILED)
    return MARKS.get(next((state for state in order if state in states), State.CANCELLED), "⏳")


def _prompt(group: StoredGroup) -> str:
    return messages.one_line(str(group.jobs[0].request.get("prompt", "")))


# --- about the program ------------------------------------------------------------------------------------


def help_page() -> Rendered:
    """How it is used."""
    lines = (
        f"*{COMMAND} a red fox in snow* makes a picture, in a thread below it. {COMMAND} alone opens a form.",
        "Options: --ar 16:9 · --size 768x512 · --steps 30 · --guidance 7.5 · --seed 42 · --count 4 · "
        "--negative blurry · --style NAME · --model NAME · `{red, blue} fox` for several",
        "In a thread: *@fairbrush a red fox in snow*, with a picture to start from if you like.",
        "On any picture, under its ⋮: *Remix* makes one like it, *Recipe* says what made it.",
        f"{COMMAND} queue · cancel · show · recipe · history · settings · help",
    )
    return Rendered("How to use Fairbrush", [section(line) for line in lines])
