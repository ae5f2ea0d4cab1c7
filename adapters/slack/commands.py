"""/imagine: a request, a form, or one of the words that ask for something else. Direct messages and mentions
use the same words."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from adapters.slack import flow, pages, settings
from adapters.slack.names import COMMAND
from adapters.slack.render import Rendered
from adapters.slack.visit import Visit, of_command
from adapters.slack.wording import typed
from bot.core.errors import FairbrushError

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

GROUP: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{8}")
"""What a request is called."""

ALONE: Final = frozenset({"queue", "history", "settings", "help"})
WITH_GROUP: Final = frozenset({"cancel", "show", "recipe"})

Ack = Callable[..., Awaitable[Any]]


def subcommand(text: str) -> tuple[str, str] | None:
    """The word and the request that it is about, or None: it is a prompt. Only what is nothing else is a
    word: "show me a cat" is a prompt, "show 7K2QABCD" is not."""
    name, _, rest = text.strip().partition(" ")
    name, rest = name.lower(), rest.strip().upper()
    if name in ALONE and not rest:
        return name, ""
    if name in WITH_GROUP and (not rest or GROUP.fullmatch(rest)):
        return name, rest
    return None


async def command(slack: Slack, ack: Ack, body: dict[str, Any], context: Any) -> None:
    """The slash command. Its acknowledgement carries what is said at once."""
    visit = of_command(body, context)
    text = typed(str(body.get("text") or ""), bot=visit.bot)
    asked = subcommand(text)
    if asked is not None:
        await _answer(slack, ack, visit, *asked)
        return
    try:
        if text:
            await flow.ask(slack, visit, f"command:{visit.trigger}", slack.studio.submit, text=text)
        else:
            slack.later(flow.guarded(slack, visit, partial(slack.forms.open_imagine, visit)))
        await ack()
    except FairbrushError as error:
        await say(ack, flow.refusal(error, text, command=COMMAND))


async def _answer(slack: Slack, ack: Ack, visit: Visit, name: str, group: str) -> None:
    """One of the words; what Slack has to be asked for comes after the acknowledgement."""
    if name == "settings":
        slack.later(flow.guarded(slack, visit, partial(settings.asked, slack, visit)))
        await ack()
    elif name == "show":  # Slack may not take its pictures any more
        slack.later(flow.guarded(slack, visit, partial(pages.tell, slack, visit, name, group)))
        await ack()
    else:
        try:
            answer = await pages.page(slack, visit, name, group)
        except FairbrushError as error:
            answer = flow.warning(error)
        await say(ack, answer)


async def say(ack: Ack, answer: Rendered) -> None:
    """Acknowledge with a private answer."""
    await ack(text=answer.text, blocks=answer.blocks, response_type="ephemeral")
