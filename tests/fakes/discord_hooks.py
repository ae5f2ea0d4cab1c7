"""Answering interactions: the callback, and the webhook that lives as long as the interaction's token."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.fakes.discord_bodies import Body, create, edit, loading
from tests.fakes.discord_components import walk
from tests.fakes.discord_errors import Refused, invalid
from tests.fakes.discord_message_json import message_json
from tests.fakes.discord_places import drop_message, file_limit, must_hide, revive, tell_message
from tests.fakes.discord_rest import Answer, Call, Handler
from tests.fakes.discord_state import EPHEMERAL, FIRST_RESPONSE, TOKEN_LIFE, Interaction, Json, Message, World

MESSAGE, DEFER, DEFER_UPDATE, UPDATE, CHOICES, MODAL = 4, 5, 6, 7, 8, 9
COMMAND, COMPONENT, AUTOCOMPLETE, SUBMIT = 2, 3, 4, 5
ALLOWED = {
    COMMAND: {MESSAGE, DEFER, MODAL},
    COMPONENT: {MESSAGE, DEFER, DEFER_UPDATE, UPDATE, MODAL},
    AUTOCOMPLETE: {CHOICES},
    SUBMIT: {MESSAGE, DEFER, DEFER_UPDATE, UPDATE},
}
MOST_FOLLOWUPS = 5  # where the application is installed to the user alone


def routes() -> Mapping[str, Handler]:
    """Handlers, by operation."""
    hook = "/webhooks/{webhook_id}/{webhook_token}"
    return {
        "POST /interactions/{interaction_id}/{interaction_token}/callback": callback,
        f"POST {hook}": follow_up,
        f"GET {hook}/messages/@original": get,
        f"PATCH {hook}/messages/@original": patch,
        f"DELETE {hook}/messages/@original": delete,
        f"GET {hook}/messages/{{message_id}}": get,
        f"PATCH {hook}/messages/{{message_id}}": patch,
        f"DELETE {hook}/messages/{{message_id}}": delete,
    }


# --- the first response -----------------------------------------------------------------------------------


def callback(call: Call) -> Answer:
    """The first response: once, within 3 seconds."""
    world = call.world
    interaction = world.interactions.get(int(call.ids["interaction_id"]))
    if interaction is None or interaction.token != call.ids["interaction_token"]:
        raise Refused(10062)
    if interaction.answer is not None:
        raise Refused(40060)
    if world.now() - interaction.at > FIRST_RESPONSE:
        raise Refused(10062)
    kind = call.body.json["type"]
    allowed = ALLOWED[interaction.kind]
    if kind not in allowed or (kind in (DEFER_UPDATE, UPDATE) and interaction.message is None):
        raise invalid("type", "BASE_TYPE_CHOICES", f"Value must be one of {allowed}.")
    message = _respond(world, interaction, kind, Body(call.body.json.get("data") or {}, call.body.files))
    interaction.answer, interaction.answered_at = kind, time.monotonic()
    if call.query.get("with_response") not in ("1", "true", "True"):
        return Answer(204)
    return Answer(200, _told(world, interaction, kind, message))


def _respond(world: World, interaction: Interaction, kind: int, body: Body) -> Message | None:
    if kind == MESSAGE:
        interaction.original = _create(world, interaction, body)
    elif kind == DEFER:
        flags = body.json.get("flags") or 0
        if flags & ~EPHEMERAL:
            raise invalid("data.flags", "BASE_TYPE_CHOICES", "A deferral takes EPHEMERAL alone.")
        ephemeral = bool(flags) or must_hide(world, interaction)
        interaction.original = loading(world, interaction, ephemeral=ephemeral)
        tell_message(world, "MESSAGE_CREATE", interaction.original)
    elif kind == MODAL:
        check_modal(body.json)
        interaction.modal = body.json
    elif kind == CHOICES:
        interaction.choices = _choices(body.json)
    else:
        interaction.original = interaction.message
        if kind == UPDATE and interaction.message is not None:
            _edited(world, interaction.message, body)
    return interaction.original


def check_modal(modal: Json) -> None:
    """Raise where a modal breaks the rules."""
    if not 1 <= len(modal["title"]) <= 45:
        raise invalid("data.title", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 45 in length.")
    if not 1 <= len(modal["custom_id"]) <= 100:
        raise invalid("data.custom_id", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
    if not 1 <= len(modal["components"]) <= 5:
        raise invalid("data.components", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 5 in length.")
    for each in walk(modal["components"]):
        if each["type"] == 18 and not 1 <= len(each["label"]) <= 45:
            raise invalid("data.components.label", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 45.")
        if each["type"] == 4 and len(each.get("value") or "") > (each.get("max_length") or 4000):
            raise invalid("data.components.value", "BASE_TYPE_MAX_LENGTH", "The value is too long.")
    names = [each["custom_id"] for each in walk(modal["components"]) if each.get("custom_id")]
    if len(set(names)) < len(names):
        raise invalid("data.components", "COMPONENT_CUSTOM_ID_DUPLICATED", "Custom ids cannot be duplicated")


def _choices(data: Json) -> list[Json]:
    choices: list[Json] = data.get("choices") or []
    if len(choices) > 25:
        raise invalid("data.choices", "BASE_TYPE_MAX_LENGTH", "Must be 25 or fewer in length.")
    for each in choices:
        if not 1 <= len(each["name"]) <= 100 or len(str(each["value"])) > 100:
            raise invalid("data.choices.name", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
    return choices


def _told(world: World, interaction: Interaction, kind: int, message: Message | None) -> Json:
    made: Json = {
        "id": str(interaction.id),
        "type": interaction.kind,
        "channel_id": str(interaction.channel.id),
    }
    if interaction.guild is not None:
        made["guild_id"] = str(interaction.guild.id)
    if message is None:
        return {"interaction": made}
    made["response_message_id"] = str(message.id)
    made["response_message_loading"] = message.loading
    made["response_message_ephemeral"] = message.ephemeral
    if kind == DEFER_UPDATE:
        return {"interaction": made}
    resource = {"type": UPDATE if kind == UPDATE else MESSAGE, "message": message_json(world, message)}
    return {"interaction": made, "resource": resource}


# --- the webhook ------------------------------------------------------------------------------------------


def _interaction(call: Call) -> Interaction:
    world = call.world
    if call.ids["webhook_id"] != str(world.me.id):
        raise Refused(10015)
    interaction = world.by_token.get(call.ids["webhook_token"])
    if interaction is None or world.now() - interaction.at > TOKEN_LIFE:
        raise Refused(50027)
    if interaction.answer is None:
        raise Refused(10015)
    return interaction


def _message(call: Call, interaction: Interaction) -> Message:
    named = call.ids.get("message_id", "@original")
    if named == "@original":
        message = interaction.original
    else:
        own = [*interaction.followups, *([interaction.original] if interaction.original else [])]
        message = next((each for each in own if str(each.id) == named), None)
    if message is None or message.deleted:
        raise Refused(10008)
    return message


def follow_up(call: Call) -> Answer:
    """Another message; directly after a deferral it edits the deferred one, as it did of old."""
    world, interaction = call.world, _interaction(call)
    original = interaction.original
    if interaction.answer == DEFER and original is not None and original.loading and not original.deleted:
        return _edited(world, original, call.body)
    if interaction.only_user_install and len(interaction.followups) >= MOST_FOLLOWUPS:
        raise Refused(40094)
    if interaction.channel.deleted:
        raise Refused(10003)
    if interaction.channel.archived:
        revive(world, interaction.channel)
    made = _create(world, interaction, call.body)
    interaction.followups.append(made)
    return Answer(200, message_json(world, made))


def _create(world: World, interaction: Interaction, body: Body) -> Message:
    channel = interaction.channel
    if must_hide(world, interaction):
        body = Body(body.json | {"flags": (body.json.get("flags") or 0) | EPHEMERAL}, body.files)
    made = create(world, channel, body, interaction=interaction, limit=file_limit(channel))
    tell_message(world, "MESSAGE_CREATE", made)
    return made


def get(call: Call) -> Answer:
    """A message of this interaction."""
    return Answer(200, message_json(call.world, _message(call, _interaction(call))))


def patch(call: Call) -> Answer:
    """An edit of a message of this interaction."""
    return _edited(call.world, _message(call, _interaction(call)), call.body)


def _edited(world: World, message: Message, body: Body) -> Answer:
    channel = world.channels.get(message.channel_id)
    if channel is None:
        raise Refused(10003)
    if channel.archived:
        raise Refused(50083)
    edit(world, message, body, by="token", limit=file_limit(channel))
    tell_message(world, "MESSAGE_UPDATE", message)
    return Answer(200, message_json(world, message))


def delete(call: Call) -> Answer:
    """A message of this interaction goes."""
    drop_message(call.world, _message(call, _interaction(call)))
    return Answer(204)
