"""The modal of one request: opened by /imagine alone, by Edit and by Remix. It carries its whole state, so
that one which was opened before a restart is taken after it."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from adapters.slack import flow
from adapters.slack.blocks import Block, context, image, plain
from adapters.slack.fields import Filled, Offer, filled_from, inputs, options_in, place_of, read
from adapters.slack.flow import Act
from adapters.slack.names import IMAGINE_FORM
from adapters.slack.pictures import Attached
from adapters.slack.visit import Visit, of_interaction
from bot.core.errors import FairbrushError, NotFound
from bot.core.options import Options

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

Ack = Callable[..., Awaitable[Any]]

MOST_STATE: Final = 3000  # characters of private_metadata
MOST_ERROR: Final = 300
AT_ONCE: Final = 1.5  # seconds that a form may wait for its picture


@dataclass(frozen=True, slots=True)
class State:
    """What a form remembers. group: the request that it remixes; file, name: somebody's picture that it
    starts from; channel, thread, reply: where it was opened; picture: it starts from one; full: everything is
    shown."""

    group: str = ""
    file: str = ""
    name: str = ""
    channel: str = ""
    thread: str = ""
    reply: str = ""
    picture: bool = False
    full: bool = False

    def to_json(self) -> str:
        """For private_metadata."""
        found = {name: value for name, value in asdict(self).items() if value}
        text = json.dumps(found, separators=(",", ":"))
        return text if len(text) <= MOST_STATE else json.dumps({**found, "reply": ""})


def state_from(text: str) -> State:
    """The inverse; what is not readable is an empty state."""
    try:
        data = json.loads(text or "{}")
    except ValueError:
        return State()
    known = {name: type(value) for name, value in asdict(State()).items()}
    if not isinstance(data, dict):
        return State()
    return State(**{name: value for name, value in data.items() if type(value) is known.get(name)})


def place_of_view(visit: Visit, view: Mapping[str, Any]) -> Visit:
    """A visit to a modal that was opened somewhere: to there."""
    state = state_from(view.get("private_metadata") or "")
    return replace(visit, channel=state.channel, thread=state.thread, reply=state.reply)


class Forms:
    """The modals of one adapter."""

    def __init__(self, slack: Slack) -> None:
        self._slack = slack

    # --- opening ---

    async def open_imagine(self, visit: Visit, text: str = "") -> None:
        """An empty form, or one with a text in its prompt."""
        state = State(channel=visit.channel, thread=visit.thread, reply=visit.reply)
        await self._open(visit, state, Filled({"prompt": text} if text else {}))

    async def open_remix(self, visit: Visit, group: str) -> None:
        """A form with everything as it was asked for. Raises NotFound."""
        studio = self._slack.studio
        stored = await studio.seen(group, visit.requester)
        single = sum(len(job.pictures) for job in stored.jobs) == 1
        options = await studio.options_of(group, visit.requester, index=0 if single else None)
        state = State(
            group=group,
            channel=visit.channel,
            thread=visit.thread,
            reply=visit.reply,
            picture=bool(stored.jobs[0].request.get("init_image")),
            full=True,
        )
        await self._open(visit, state, filled_from(options))

    async def view_of(self, visit: Visit, options: Options) -> Block:
        """A form with these options, of a recipe that was found."""
        state = State(channel=visit.channel, thread=visit.thread, reply=visit.reply, full=True)
        return self._view(state, filled_from(options), await self._offer(visit, state), title="Remix")

    async def view_from(self, visit: Visit, picture: Attached) -> Block:
        """An empty form that starts from a picture of somebody's."""
        state = State(
            file=picture.file_id,
            name=picture.name[:100],
            channel=visit.channel,
            thread=visit.thread,
            reply=visit.reply,
            picture=True,
            full=True,
        )
        return self._view(state, Filled(), await self._offer(visit, state), title="Remix")

    async def _open(self, visit: Visit, state: State, filled: Filled) -> None:
        view = self._view(state, filled, await self._offer(visit, state))
        workspace = await self._slack.clients.workspace(visit.team, visit.enterprise)
        await workspace.open_view(visit.trigger, view, push=visit.inside)

    async def more(self, visit: Visit, body: Mapping[str, Any]) -> None:
        """More options: the same form with all of them, what was entered kept."""
        view = body["view"]
        state = replace(state_from(view.get("private_metadata", "")), full=True)
        filled = read(view)
        visit = replace(visit, channel=state.channel or filled.channel)
        title = str((view.get("title") or {}).get("text") or "")
        full = self._view(state, filled, await self._offer(visit, state), title=title)
        workspace = await self._slack.clients.workspace(visit.team, visit.enterprise)
        await workspace.update_view(str(view["id"]), full, hash=str(view.get("hash") or ""))

    async def reveal(self, visit: Visit, group: str, index: int) -> None:
        """One picture that is hidden in its message. Raises NotFound."""
        stored = await self._slack.studio.seen(group, visit.requester)
        result = await self._slack.studio.result(group)
        shown = [picture for picture in result.pictures if not picture.withheld]
        files = stored.address.get("files")
        if not isinstance(files, list) or not 0 <= index < min(len(files), len(shown)):
            raise NotFound("That picture is not there any more.")
        view: Block = {
            "type": "modal",
            "title": plain("Picture"),
            "close": plain("Close"),
            "blocks": [image(str(files[index]), shown[index].alt_text)],
        }
        workspace = await self._slack.clients.workspace(visit.team, visit.enterprise)
        await workspace.open_view(visit.trigger, view, push=visit.inside)

    async def _offer(self, visit: Visit, state: State) -> Offer:
        studio = self._slack.studio
        rules = await studio.rules(visit.requester.tenant, visit.channel)
        limits = studio.limits_of(rules, visit.requester.nouns)
        return Offer(
            limits,
            studio.models(),
            studio.settings.styles,
            picture=state.picture,
            where=bool(state.channel),
            count=min(rules.count or 1, limits.max_count),
        )

    def _view(self, state: State, filled: Filled, offer: Offer, *, title: str = "") -> Block:
        start = context(f"Starts from {state.name}") if state.file else []
        return {
            "type": "modal",
            "callback_id": IMAGINE_FORM,
            "title": plain(title or ("Remix" if state.group else "Imagine")),
            "submit": plain("Make it"),
            "close": plain("Cancel"),
            "private_metadata": state.to_json(),
            "blocks": [*start, *inputs(filled, offer, full=state.full)],
        }

    # --- coming back ---

    async def submitted(self, ack: Ack, body: dict[str, Any], context: Any) -> None:
        """A form that was sent: accepted, then closed; or what is wrong at each field."""
        view = body["view"]
        state = state_from(view.get("private_metadata", ""))
        filled = read(view)
        visit = place_of_view(of_interaction(body, context), view)
        visit = replace(visit, channel=state.channel or filled.channel)
        try:
            options, errors = options_in(filled, await self._offer(visit, state))
            if errors:
                await ack(response_action="errors", errors=self._told(errors, view))
                return
            private = filled.private or not visit.channel
            picture = await self._start(visit, state)
            await flow.ask(
                self._slack,
                visit,
                f"view:{view['id']}",
                self._act(state),
                options=options,
                picture=picture,
                private=private,
            )
        except FairbrushError as error:
            place = place_of(error.field, view)
            await ack(response_action="errors", errors={place: flow.explain(error)[:MOST_ERROR]})
            return
        await (ack(response_action="clear") if view.get("previous_view_id") else ack())

    async def _start(self, visit: Visit, state: State) -> Attached | None:
        """The picture that a form starts from, fetched. Raises Fault, while Slack still listens, where it is
        not there in time; then it is for the next try."""
        if not state.file:
            return None
        picture = Attached(state.file, state.name)
        await self._slack.pictures.fetch(visit, picture, within=AT_ONCE)
        return picture

    def _act(self, state: State) -> Act:
        studio = self._slack.studio
        return partial(studio.remake, state.group) if state.group else studio.submit

    def _told(self, errors: Mapping[str, str], view: Mapping[str, Any]) -> dict[str, str]:
        """Errors by input; what has no input in this form is told at the prompt."""
        there = {str(block.get("block_id")) for block in view.get("blocks") or ()}
        told: dict[str, str] = {}
        for name, message in errors.items():
            told.setdefault(name if name in there else "prompt", message[:MOST_ERROR])
        return told
