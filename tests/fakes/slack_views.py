"""Modals and App Homes: the views.* methods of the local Slack."""

from __future__ import annotations

from tests.fakes.slack_calls import Context, Method
from tests.fakes.slack_shapes import view_json
from tests.fakes.slack_state import Payload, Refused, Trigger, View

TRIGGER_SECONDS = 3.0
MOST_STACKED = 3


def _trigger(context: Context) -> Trigger:
    """The call's trigger, used up; raises Refused."""
    world = context.world
    found = world.triggers.get(context.need("trigger_id"))
    if found is None or not world.reaches(context.installation, found.team):
        raise Refused("invalid_trigger_id")
    if found.used:
        raise Refused("exchanged_trigger_id")
    if world.clock.monotonic() - found.at > TRIGGER_SECONDS:
        raise Refused("expired_trigger_id")
    found.used = True
    return found


def initial_values(content: Payload) -> dict[str, dict[str, Payload]]:
    """The state of a view or message before anybody enters anything."""
    state: dict[str, dict[str, Payload]] = {}
    for block in content["blocks"]:
        elements = [block.get("element"), block.get("accessory"), *block.get("elements", [])]
        for element in elements:
            if isinstance(element, dict) and (value := _initial(element)) is not None:
                state.setdefault(block["block_id"], {})[element["action_id"]] = value
    return state


def _initial(element: Payload) -> Payload | None:
    kind = element.get("type", "")
    if kind in ("plain_text_input", "number_input", "url_text_input", "email_text_input"):
        return {"type": kind, "value": element.get("initial_value")}
    if kind in ("static_select", "radio_buttons"):
        return {"type": kind, "selected_option": element.get("initial_option")}
    if kind in ("checkboxes", "multi_static_select"):
        return {"type": kind, "selected_options": element.get("initial_options", [])}
    if kind == "file_input":
        return {"type": kind, "files": []}
    for what in ("conversation", "channel", "user"):
        if kind == f"{what}s_select":
            return {"type": kind, f"selected_{what}": element.get(f"initial_{what}")}
        if kind == f"multi_{what}s_select":
            return {"type": kind, f"selected_{what}s": element.get(f"initial_{what}s", [])}
    return None


def make_view(context: Context, content: Payload, team: str, user: str, previous: View | None = None) -> View:
    """A new view."""
    name = context.world.new_id("V")
    root, before = (previous.root, previous.id) if previous else (name, "")
    made = View(name, team, user, content, context.fresh_id(), root, before)
    made.values = initial_values(content)
    return made


def replace_view(context: Context, view: View, content: Payload) -> None:
    """Show other content; what was entered into inputs that stay is kept, as clients do."""
    kept = view.values
    view.content, view.hash, view.errors = content, context.fresh_id(), {}
    view.values = initial_values(content)
    for block, actions in view.values.items():
        for action in actions:
            if action in kept.get(block, {}):
                actions[action] = kept[block][action]
    context.world.touch()


async def open_view(context: Context) -> Payload:
    """views.open: whatever was open is replaced."""
    content = context.view()
    trigger = _trigger(context)
    view = make_view(context, content, trigger.team, trigger.user)
    context.world.modals[trigger.user] = [view]
    context.world.touch()
    return {"view": view_json(context.world, view)}


async def push_view(context: Context) -> Payload:
    """views.push: on top of an open one, three at most."""
    content = context.view()
    trigger = _trigger(context)
    stack = context.world.modals.get(trigger.user, [])
    if not stack:
        raise Refused("not_found")
    view = stack_view(context, content, trigger.user)
    return {"view": view_json(context.world, view)}


def stack_view(context: Context, content: Payload, user: str) -> View:
    """Put a view on top of a user's; raises Refused(push_limit_reached)."""
    stack = context.world.modals[user]
    if len(stack) >= MOST_STACKED:
        raise Refused("push_limit_reached")
    view = make_view(context, content, stack[-1].team, user, stack[-1])
    stack.append(view)
    context.world.touch()
    return view


async def update_view(context: Context) -> Payload:
    """views.update, by view_id or external_id; with a hash only while it is the current one."""
    content = context.view()
    view = _find(context)
    if context.arguments.get("hash") not in (None, view.hash):
        raise Refused("hash_conflict")
    replace_view(context, view, content)
    return {"view": view_json(context.world, view)}


def _find(context: Context) -> View:
    name, external = context.arguments.get("view_id"), context.arguments.get("external_id")
    open_now = [view for stack in context.world.modals.values() for view in stack]
    for view in [*open_now, *context.world.homes.values()]:
        if view.id == name or (external and view.content.get("external_id") == external):
            return view
    raise Refused("not_found")


async def publish_view(context: Context) -> Payload:
    """views.publish."""
    content = context.view()
    account = context.world.accounts.get(context.need("user_id"))
    if account is None or not context.world.reaches(context.installation, account.team):
        raise Refused("user_not_found")
    known = context.world.homes.get(account.id)
    if known is not None and context.arguments.get("hash") not in (None, known.hash):
        raise Refused("hash_conflict")
    view = make_view(context, content, account.team, account.id)
    if known is not None:
        view.id = view.root = known.id
    context.world.homes[account.id] = view
    context.world.touch()
    return {"view": view_json(context.world, view)}


METHODS = {
    "views.open": Method(open_view),
    "views.push": Method(push_view),
    "views.update": Method(update_view),
    "views.publish": Method(publish_view),
}
