"""What people write: @fairbrush in a channel or a thread, and direct messages. Answers stay in the thread, or
begin one below it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from adapters.slack import flow, pages
from adapters.slack.commands import subcommand
from adapters.slack.pictures import pictures_on
from adapters.slack.visit import Visit, of_event
from adapters.slack.wording import typed
from bot.core.errors import FairbrushError

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

WRITTEN: Final = frozenset({"", "file_share"})  # subtypes of what a person wrote just now


async def mention(slack: Slack, body: dict[str, Any], context: Any) -> None:
    """app_mention."""
    if not body["event"].get("bot_id"):
        await _written(slack, body, of_event(body, context))


async def direct(slack: Slack, body: dict[str, Any], context: Any) -> None:
    """A message; only direct ones, as people wrote them, count."""
    event = body["event"]
    fresh = event.get("channel_type") == "im" and str(event.get("subtype") or "") in WRITTEN
    if fresh and event.get("user") and not event.get("bot_id"):
        await _written(slack, body, of_event(body, context))


async def _written(slack: Slack, body: dict[str, Any], visit: Visit) -> None:
    """Accepted before it is acknowledged. A message is one request, however often Slack sends its event, and
    whether it is edited later: an edit is a new event, which counts where nothing was accepted before."""
    event = body["event"]
    key = f"message:{visit.team or visit.enterprise}:{visit.channel}:{event.get('ts')}"
    text = typed(str(event.get("text") or ""), bot=visit.bot)
    asked = ("help", "") if not text else subcommand(text)
    if asked is not None:
        if slack.is_first(key):
            slack.later(flow.guarded(slack, visit, partial(pages.tell, slack, visit, *asked)))
        return
    try:
        picture = next(iter(pictures_on(event)), None)
        await flow.ask(slack, visit, key, slack.studio.submit, text=text, picture=picture)
    except FairbrushError as error:
        if slack.is_first(f"event:{body.get('event_id') or key}"):
            slack.later(flow.refused(slack, visit, error, text))
