"""What a workspace, or one of its channels, says for itself: looked at by everybody, changed by its admins
and whom they name.

Who may is asked again whenever something is opened, sent or reset, and the core asks once more. A form knows
its level and nothing else: {"channel": "C...", "turn": 2}.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from adapters.slack import flow, names, people
from adapters.slack.blocks import Block, actions, button, confirmed, plain
from adapters.slack.inputs import CHANNELS
from adapters.slack.people import Rights
from adapters.slack.render import Rendered
from adapters.slack.settings_fields import Entered, Scene, block_of, entered, form
from adapters.slack.settings_text import in_force, says
from adapters.slack.visit import Visit, of_interaction
from bot.core.errors import FairbrushError, Forbidden
from bot.core.guilds import Rules

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

log = logging.getLogger(__name__)

Ack = Callable[..., Awaitable[Any]]

MOST_ERROR: Final = 300
_CHANNEL: Final = re.compile(r"[CG][A-Z0-9]{2,40}")


# --- looking ----------------------------------------------------------------------------------------------


async def page(slack: Slack, visit: Visit) -> Rendered:
    """What is in force in the workspace, for anybody; with a button for those who may change it."""
    told = await _told(slack, visit, "")
    may = (await people.rights(slack, visit)).manages
    row = actions(button("Change…", names.SETTINGS, names.SETTINGS)) if may else []
    return Rendered("This workspace's settings", [*told, *row])


async def asked(slack: Slack, visit: Visit) -> None:
    """`/imagine settings`: the form for those who may change it, else what is in force."""
    if (await people.rights(slack, visit)).manages:
        await open_form(slack, visit)
    else:
        await flow.whisper(slack, visit, await page(slack, visit))


async def _told(slack: Slack, visit: Visit, channel: str) -> list[Block]:
    studio, by = slack.studio, visit.requester
    own = await studio.own_rules(by.tenant, channel)
    rules = await studio.rules(by.tenant, channel)
    return in_force(
        own,
        rules,
        studio.defaults(rules=rules),
        studio.limits_of(rules, by.nouns),
        studio.limits,
        channel=channel,
        managers=await people.managers(slack, visit),
    )


# --- the form ---------------------------------------------------------------------------------------------


async def open_form(slack: Slack, visit: Visit, channel: str = "") -> None:
    """The form of the workspace or, on top of it, of a channel. Raises Forbidden."""
    view = await _view(slack, visit, await _rights(slack, visit), channel, 0)
    workspace = await slack.clients.workspace(visit.team, visit.enterprise)
    await workspace.open_view(visit.trigger, view, push=bool(channel))


async def _rights(slack: Slack, visit: Visit) -> Rights:
    """Raises Forbidden for those who may not change settings."""
    found = await people.rights(slack, visit)
    if not found.manages:
        log.warning(
            "member %s was refused the settings of %s", visit.requester.member, visit.requester.tenant
        )
        raise Forbidden(
            "Only admins and owners of this workspace, and those whom they name, can change its settings."
        )
    return found


async def _view(slack: Slack, visit: Visit, rights: Rights, channel: str, turn: int) -> Block:
    scene = await _scene(slack, visit, rights, channel)
    return {
        "type": "modal",
        "callback_id": names.SETTINGS_FORM,
        "title": plain("Settings of a channel" if channel else "Settings"),
        "submit": plain("Save"),
        "close": plain("Back" if channel else "Close"),
        "private_metadata": json.dumps({"channel": channel, "turn": turn}),
        "blocks": [*await _told(slack, visit, channel), *_controls(scene), *form(scene, turn)],
    }


async def _scene(slack: Slack, visit: Visit, rights: Rights, channel: str) -> Scene:
    studio, by = slack.studio, visit.requester
    below = await studio.rules(by.tenant) if channel else Rules()
    whole = not channel
    return Scene(
        own=await studio.own_rules(by.tenant, channel),
        usual=studio.defaults(rules=below),
        limits=studio.limits_of(below, by.nouns),
        most=studio.limits,
        channel=channel,
        models={model.id: model.title for model in studio.models()},
        managers=await people.managers(slack, visit) if whole and rights.admin else None,
        weight=studio.weight(by.tenant) if whole and rights.operator else None,
    )


def _controls(scene: Scene) -> list[Block]:
    found: list[Block] = []
    if not scene.channel:
        found.append(
            {
                "type": "conversations_select",
                "action_id": names.SETTINGS_CHANNEL,
                "filter": CHANNELS,
                "placeholder": plain("Settings of one channel…"),
            }
        )
    if says(scene.own):
        where = "this channel" if scene.channel else "this workspace"
        question = confirmed(
            "Reset?", f"All that is set for {where} here is forgotten at once.", "Reset", "Keep"
        )
        found.append(button("Reset", names.SETTINGS_RESET, "reset", style="danger", confirm=question))
    return actions(*found)


# --- controls ---------------------------------------------------------------------------------------------


async def used(slack: Slack, ack: Ack, body: dict[str, Any], context: Any) -> None:
    """The controls in the form: another level, or nothing set any more."""
    action, visit = body["actions"][0], of_interaction(body, context)
    await ack()

    async def work() -> None:
        if action.get("action_id") == names.SETTINGS_RESET:
            await _reset(slack, visit, body["view"])
        elif channel := _channel(action.get("selected_conversation")):
            await open_form(slack, visit, channel)

    slack.later(flow.guarded(slack, visit, work))


async def _reset(slack: Slack, visit: Visit, view: Mapping[str, Any]) -> None:
    channel, turn = _level(view)
    rights = await _rights(slack, visit)
    await slack.studio.set_rules(visit.requester, Rules(), channel=channel, admin=True)
    log.info("%s: rules of %s reset by %s", visit.requester.tenant, channel or "all", visit.requester.member)
    workspace = await slack.clients.workspace(visit.team, visit.enterprise)
    await workspace.update_view(str(view["id"]), await _view(slack, visit, rights, channel, turn + 1))


def _level(view: Mapping[str, Any]) -> tuple[str, int]:
    """The channel that a form is of, and its turn."""
    try:
        data = json.loads(view.get("private_metadata") or "{}")
    except ValueError:
        data = {}
    turn = data.get("turn")
    return _channel(data.get("channel")), turn if isinstance(turn, int) else 0


def _channel(said: object) -> str:
    return said if isinstance(said, str) and _CHANNEL.fullmatch(said) else ""


# --- coming back ------------------------------------------------------------------------------------------


async def submitted(slack: Slack, ack: Ack, body: dict[str, Any], context: Any) -> None:
    """A form that was sent: all of it holds, then it is closed; or what is wrong at each field, and nothing
    was changed."""
    view, visit = body["view"], of_interaction(body, context)
    try:
        errors = await _save(slack, visit, view)
    except FairbrushError as error:
        errors = {error.field or "": error.message}
    if errors:
        told = {block_of(name, view): message[:MOST_ERROR] for name, message in reversed(errors.items())}
        await ack(response_action="errors", errors=told)
    else:
        await ack()


async def _save(slack: Slack, visit: Visit, view: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong, by field; where nothing is, it is saved. Raises FairbrushError."""
    rights, (channel, _) = await _rights(slack, visit), _level(view)
    studio, by = slack.studio, visit.requester
    own = await studio.own_rules(by.tenant, channel)
    above = await studio.rules(by.tenant) if channel else Rules()
    found = entered(view, own, studio.limits_of(above, by.nouns), studio.limits, channel=channel)
    problems = await studio.rule_problems(by, found.rules, channel=channel)
    if errors := {**problems, **found.errors}:
        return errors
    await studio.set_rules(by, found.rules, channel=channel, admin=True)
    log.info("%s: rules of %s set by %s", by.tenant, channel or "all", by.member)
    if not channel:
        await _save_the_rest(slack, visit, rights, found)
    return {}


async def _save_the_rest(slack: Slack, visit: Visit, rights: Rights, found: Entered) -> None:
    """What is beside the rules, each for those alone who may change it."""
    by = visit.requester
    if rights.admin and found.managers is not None:
        await people.set_managers(slack, visit, found.managers)
    weight = found.weight
    if rights.operator and weight is not None and weight != slack.studio.weight(by.tenant):
        await slack.studio.set_weight(by, by.tenant, weight)
