"""From something that somebody did to an accepted request, or to a private answer why not.

Every listener goes the same way: commit, then acknowledge. What is acknowledged is durable; what is slow
happens afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from adapters.slack import render
from adapters.slack.conversation import Receipt
from adapters.slack.problems import Closed
from adapters.slack.render import Rendered
from adapters.slack.visit import Visit
from bot.core.errors import FairbrushError, Fault, Forbidden, InvalidRequest
from bot.core.guilds import ThreadMode
from bot.core.intake import Acknowledge, Submission, Ticket
from bot.core.options import Options

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that came along. url: needs our token; empty where Slack has to be asked for it."""

    file_id: str
    name: str
    url: str = ""


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
) -> Ticket:
    """Have a request accepted. key: of the event, unique; picture: to start from; private: answered by direct
    message. Raises a Refusal or a Fault, and then nothing is queued."""
    requester = visit.requester
    address = visit.address(key, private=private)
    if not private and await _also_to_channel(slack, visit):
        address["both"] = True
    data = await _fetched(slack, visit, picture) if picture else None

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


async def _also_to_channel(slack: Slack, visit: Visit) -> bool:
    rules = await slack.studio.rules(visit.requester.tenant, visit.channel)
    return rules.thread_mode is ThreadMode.BOTH


async def _fetched(slack: Slack, visit: Visit, picture: Attached) -> bytes:
    """A picture's bytes. Only Slack's own addresses are asked, for the token goes with the question."""
    workspace = await slack.clients.workspace(visit.team, visit.enterprise)
    url = picture.url or url_of(await workspace.file(picture.file_id))
    if not slack.clients.is_slacks(url):
        raise InvalidRequest(
            "That picture is not kept by Slack. Upload the file itself.", field="image", detail="foreign host"
        )
    return await workspace.download(url, most=slack.studio.limits.max_image_bytes)


def url_of(file: Mapping[str, Any]) -> str:
    """Where a file's bytes are."""
    return str(file.get("url_private_download") or file.get("url_private") or "")


def prompt_of(ticket: Ticket) -> str:
    """What was asked for: the prompt as made, or what several were unfolded from."""
    return ticket.requests[0].prompt if len(ticket.requests) == 1 else ticket.options.prompt


def explain(error: FairbrushError) -> str:
    """Why something is refused, in Slack's words."""
    if isinstance(error, Forbidden) and error.field == "channel":
        return "Fairbrush is not used in this channel. The workspace's admins say where: /imagine settings."
    return error.message


async def whisper(slack: Slack, visit: Visit, answer: Rendered) -> None:
    """Say something to one person alone: where they are, or by direct message where that cannot be."""
    try:
        workspace = await slack.clients.workspace(visit.team, visit.enterprise)
        if visit.reply:
            await workspace.respond(visit.reply, answer.text, answer.blocks)
            return
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
    except Fault as error:  # there is no other way to tell them
        log.info("a private answer was not said: %s %s", error.message, error.detail)


async def refused(slack: Slack, visit: Visit, error: FairbrushError, text: str = "") -> None:
    """Say why something was not done; text: what was asked, so that it can be sent again."""
    if error.detail:
        log.info("refused: %s %s", error.message, error.detail)
    await whisper(slack, visit, render.refusal(explain(error), text))


async def guarded(slack: Slack, visit: Visit, work: Callable[[], Awaitable[None]]) -> None:
    """Do something that makes nothing, and say so where it is refused."""
    try:
        await work()
    except FairbrushError as error:
        if error.detail:
            log.info("refused: %s %s", error.message, error.detail)
        slack.later(whisper(slack, visit, render.notice(f"⚠️ {explain(error)}")))
