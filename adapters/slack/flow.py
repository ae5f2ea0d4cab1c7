"""From something that somebody did to an accepted request, or to a private answer why not.

Every listener goes the same way: commit, then acknowledge. What is acknowledged is durable; what is slow
happens afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from adapters.slack import render
from adapters.slack.conversation import Receipt
from adapters.slack.pictures import Attached
from adapters.slack.problems import Closed
from adapters.slack.render import Rendered
from adapters.slack.visit import Visit
from bot.core.errors import FairbrushError, Fault, Forbidden, QueueFull, QuotaExceeded
from bot.core.grammar import parse
from bot.core.guilds import ThreadMode
from bot.core.intake import Acknowledge, Submission, Ticket
from bot.core.messages import one_line
from bot.core.options import Options

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)


class Act(Protocol):
    """What is asked of the core: Studio.submit, or one of its ways to make something again."""

    async def __call__(self, submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket: ...


async def ask(
    slack: Slack,
    visit: Visit,
    key: str,
    act: Act,
    *,
    text: str = "",
    options: Options | None = None,
    picture: Attached | None = None,
    private: bool = False,
    again: str = "",
) -> Ticket:
    """Have a request accepted. key: of the event, unique; picture: to start from; private: answered by direct
    message; again: the request that is made again. Raises a Refusal or a Fault, and then nothing is queued.
    """
    requester = visit.requester
    address = visit.address(key, private=private)
    address["prompt"] = await _prompt(slack, visit, text, options, again)
    if not private and await _also_to_channel(slack, visit):
        address["both"] = True
    data = await slack.pictures.fetch(visit, picture) if picture else None

    async def remember(ticket: Ticket) -> None:
        spoiler = any(request.spoiler for request in ticket.requests)
        slack.remember(key, Receipt(ticket.group_id, prompt_of(ticket), ticket.differences, spoiler))

    submission = Submission(
        requester,
        key,
        address,
        text=text,
        options=options,
        init_image=data,
        file_names=(picture.name,) if picture else (),
        channel=visit.channel,
    )
    return await act(submission, acknowledge=remember)


async def _prompt(slack: Slack, visit: Visit, text: str, options: Options | None, again: str) -> str:
    """What the receipt says, as far as it is known before the request is accepted: after a crash between the
    two it is all that is known. Raises InvalidRequest or NotFound, as the request itself would."""
    said = parse(text, limits=slack.studio.limits).prompt if text else ""
    if not said and again:
        said = str((await slack.studio.seen(again, visit.requester)).jobs[0].request.get("prompt", ""))
    return one_line(said or (options.prompt if options else ""))


async def _also_to_channel(slack: Slack, visit: Visit) -> bool:
    rules = await slack.studio.rules(visit.requester.tenant, visit.channel)
    return rules.thread_mode is ThreadMode.BOTH


def prompt_of(ticket: Ticket) -> str:
    """What was asked for: the prompt as made, or what several were unfolded from."""
    return ticket.requests[0].prompt if len(ticket.requests) == 1 else ticket.options.prompt


def explain(error: FairbrushError) -> str:
    """Why something is refused, in Slack's words."""
    if isinstance(error, Forbidden) and error.field == "channel":
        return "Fairbrush is not used in this channel. The workspace's admins say where: /imagine settings."
    return error.message


def refusal(error: FairbrushError, text: str, *, command: str = "") -> Rendered:
    """What somebody reads whose request was not taken; text: the whole of it; command: what it came with."""
    free_in = error.retry_after if isinstance(error, QueueFull | QuotaExceeded) else None
    free_at = time.time() + free_in if free_in else None
    return render.refusal(explain(error), text, command=command, free_at=free_at)


def warning(error: FairbrushError) -> Rendered:
    """What somebody reads who asked for nothing to be made."""
    return render.notice(f"⚠️ {explain(error)}")


async def whisper(slack: Slack, visit: Visit, answer: Rendered, *, bare: Rendered | None = None) -> None:
    """Say something to one person alone: where they are, or by direct message where that cannot be. bare:
    the same without what Slack may not take."""
    try:
        await _whisper(slack, visit, answer)
    except Fault as error:
        log.info("a private answer was not said: %s %s", error.message, error.detail)
        if bare is not None:
            await whisper(slack, visit, bare)


async def _whisper(slack: Slack, visit: Visit, answer: Rendered) -> None:
    workspace = await slack.clients.workspace(visit.team, visit.enterprise)
    if visit.reply:
        try:
            await workspace.respond(visit.reply, answer.text, answer.blocks)
            return
        except Fault as error:  # it is good for half an hour
            log.info("not answered where it was asked: %s %s", error.message, error.detail)
    if visit.channel and visit.kind != "im":
        try:
            await workspace.whisper(
                visit.channel, visit.user, answer.text, answer.blocks, thread=visit.thread or None
            )
            return
        except Closed as error:
            log.info("not said in the channel: %s", error.detail)
    where, thread = (visit.channel, visit.thread) if visit.kind == "im" else (visit.user, "")
    await workspace.post(where, answer.text, answer.blocks, thread=thread or None)


async def refused(slack: Slack, visit: Visit, error: FairbrushError, text: str = "") -> None:
    """Say why something was not done; text: what was asked, so that it can be sent again."""
    if error.detail:
        log.info("refused: %s %s", error.message, error.detail)
    await whisper(slack, visit, refusal(error, text))


async def guarded(slack: Slack, visit: Visit, work: Callable[[], Awaitable[None]]) -> None:
    """Do something that makes nothing, and say so where it is refused."""
    try:
        await work()
    except FairbrushError as error:
        if error.detail:
            log.info("refused: %s %s", error.message, error.detail)
        slack.later(whisper(slack, visit, warning(error)))
