"""Buttons. A value names a request and a picture of it; nothing in it is trusted: whoever acts on it checks
who pressed and what there is."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from adapters.slack import flow, names, pages, removal, settings, shortcuts
from adapters.slack.commands import GROUP
from adapters.slack.flow import Act
from adapters.slack.forms import place_of_view
from adapters.slack.render import notice
from adapters.slack.visit import Visit, of_interaction
from bot.core.errors import FairbrushError, NotFound
from bot.core.intake import Acknowledge, Submission, Ticket
from bot.core.options import options_from_json

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

_VALUE: Final = re.compile(rf"({GROUP.pattern})(?::([0-9]{{1,3}}))?")

Ack = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Press:
    """A button that somebody pressed. name: its action; value: as it came; ts: of the message it is on."""

    name: str
    value: str
    visit: Visit
    ts: str = ""

    @property
    def group(self) -> str:
        """The request that it is about. Raises NotFound where it names none."""
        return self._read()[0]

    @property
    def index(self) -> int:
        """The picture, 0-based."""
        return self._read()[1]

    def _read(self) -> tuple[str, int]:
        found = _VALUE.fullmatch(self.value)
        if found is None:
            raise NotFound("This button is not one of ours any more.")
        return found[1], int(found[2] or 0)


async def pressed(slack: Slack, ack: Ack, body: dict[str, Any], context: Any) -> None:
    """Any button. What makes something new is accepted before the press is acknowledged; the rest is done
    after it."""
    action = body["actions"][0]
    visit = of_interaction(body, context)
    if visit.inside:
        visit = place_of_view(visit, body["view"])
    elif (body.get("view") or {}).get("type") == "home":
        slack.homes.used(visit)
    name = str(action.get("action_id") or "").partition(":")[0]
    message = body.get("message") or body.get("container") or {}
    press = Press(
        name, str(action.get("value") or ""), visit, str(message.get("ts") or message.get("message_ts") or "")
    )
    try:
        if (act := _making(slack, press)) is not None:
            key = f"action:{visit.trigger}"
            await flow.ask(slack, visit, key, act, private=name == names.TO_DM, again=press.group)
        elif name == names.MORE and visit.inside:
            slack.later(flow.guarded(slack, visit, partial(slack.forms.more, visit, body)))
        elif (doing := DOING.get(name)) is not None:
            slack.later(flow.guarded(slack, visit, partial(doing, slack, press)))
    except FairbrushError as error:
        slack.later(flow.refused(slack, visit, error))
    await ack()


def _making(slack: Slack, press: Press) -> Act | None:
    """What makes something new; whoever pressed is its author."""
    studio = slack.studio
    match press.name:
        case names.AGAIN:
            return partial(studio.redo, press.group)
        case names.VARY:
            return partial(studio.vary, press.group, press.index)
        case names.UPSCALE:
            return partial(studio.upscale, press.group, press.index)
        case names.RETRY:
            return partial(_retry, slack, press.group)
        case names.TO_DM:
            return partial(_same, slack, press.group)
    return None


async def _retry(
    slack: Slack, group: str, submission: Submission, *, acknowledge: Acknowledge | None = None
) -> Ticket:
    """A failed request with the changes that would make it work."""
    result = await slack.studio.result(group)
    changed = replace(submission, options=options_from_json(result.remedy))
    return await slack.studio.redo(group, changed, acknowledge=acknowledge)


async def _same(
    slack: Slack, group: str, submission: Submission, *, acknowledge: Acknowledge | None = None
) -> Ticket:
    """The very same request, answered elsewhere."""
    options = await slack.studio.options_of(group, submission.requester)
    return await slack.studio.remake(group, replace(submission, options=options), acknowledge=acknowledge)


# --- what makes nothing -----------------------------------------------------------------------------------


async def _cancel(slack: Slack, press: Press) -> None:
    await slack.studio.cancel(press.group, press.visit.requester)


async def _why(slack: Slack, press: Press) -> None:
    await flow.whisper(slack, press.visit, await pages.queue(slack, press.visit))


async def _remix(slack: Slack, press: Press) -> None:
    await slack.forms.open_remix(press.visit, press.group)


async def _remix_file(slack: Slack, press: Press) -> None:
    await shortcuts.remix_file(slack, press.visit, press.value)


async def _edit(slack: Slack, press: Press) -> None:
    await slack.forms.open_imagine(press.visit, text=press.value)


async def _form(slack: Slack, press: Press) -> None:
    await slack.forms.open_imagine(press.visit)


async def _refresh(slack: Slack, press: Press) -> None:
    await slack.homes.opened(press.visit)


async def _settings(slack: Slack, press: Press) -> None:
    await settings.open_form(slack, press.visit)


async def _reveal(slack: Slack, press: Press) -> None:
    await slack.forms.reveal(press.visit, press.group, press.index)


async def _delete(slack: Slack, press: Press) -> None:
    await removal.delete(slack, press.visit, press.group)
    await flow.whisper(slack, press.visit, notice("Deleted."))


DOING: Final[dict[str, Callable[[Any, Press], Awaitable[None]]]] = {
    names.CANCEL: _cancel,
    names.WHY: _why,
    names.REMIX: _remix,
    names.REMIX_FILE: _remix_file,
    names.EDIT: _edit,
    names.FORM: _form,
    names.REFRESH: _refresh,
    names.REVEAL: _reveal,
    names.SETTINGS: _settings,
    names.DELETE: _delete,
}
