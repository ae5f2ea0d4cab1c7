"""Who came, and from where: what every payload of Slack's says in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from adapters.slack.names import NOUNS
from bot.core.request import JSON, Requester

Payload: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Visit:
    """One thing that somebody did. channel, thread: where, empty where there is none (an App Home); reply: a
    response_url, where there is one; trigger: opens a modal within 3 s; bot: the program's own user there;
    kind: of channel, as far as the payload says ("im"); inside: an open modal."""

    team: str
    enterprise: str
    user: str
    name: str = ""
    channel: str = ""
    thread: str = ""
    reply: str = ""
    trigger: str = ""
    bot: str = ""
    kind: str = ""
    inside: bool = False

    @property
    def requester(self) -> Requester:
        """The member of the workspace, which is the tenant; in an organisation too."""
        return Requester("slack", self.team or self.enterprise, self.user, name=self.name, nouns=NOUNS)

    def address(self, key: str, *, private: bool = False) -> dict[str, JSON]:
        """Where a request is answered. private: in the direct messages instead."""
        found: dict[str, JSON] = {
            "team": self.team,
            "enterprise": self.enterprise,
            "channel": self.user if private else self.channel or self.user,
            "user": self.user,
            "key": key,
            "thread": "" if private else self.thread,
            "reply": self.reply,
        }
        return {name: value for name, value in found.items() if value}


def of_command(body: Payload, context: Payload) -> Visit:
    """A slash command; there is no thread, for Slack allows none there."""
    return Visit(
        *_home(context),
        user=str(body["user_id"]),
        name=str(body.get("user_name") or ""),
        channel=str(body.get("channel_id") or ""),
        reply=str(body.get("response_url") or ""),
        trigger=str(body.get("trigger_id") or ""),
        bot=str(context.get("bot_user_id") or ""),
    )


def of_event(body: Payload, context: Payload) -> Visit:
    """An event; its answer goes into the thread that it is in or begins."""
    event = body["event"]
    return Visit(
        *_home(context),
        user=str(event.get("user") or ""),
        channel=str(event.get("channel") or ""),
        thread=str(event.get("thread_ts") or event.get("ts") or ""),
        bot=str(context.get("bot_user_id") or ""),
        kind=str(event.get("channel_type") or ""),
    )


def of_interaction(body: Payload, context: Payload) -> Visit:
    """A button, a shortcut or a form; what comes of a button in a thread stays in the thread."""
    user, container = body.get("user") or {}, body.get("container") or {}
    message, channel = body.get("message") or {}, body.get("channel") or {}
    view = body.get("view") or {}
    team, enterprise = _home(context)
    if team.startswith("E"):  # where a view says whose installation it is, that may be an organisation's
        team, enterprise = str(view.get("team_id") or user.get("team_id") or ""), enterprise or team
    return Visit(
        team,
        enterprise,
        user=str(user["id"]),
        name=str(user.get("username") or user.get("name") or ""),
        channel=str(channel.get("id") or container.get("channel_id") or ""),
        thread=str(container.get("thread_ts") or message.get("thread_ts") or ""),
        reply=str(body.get("response_url") or ""),
        trigger=str(body.get("trigger_id") or ""),
        bot=str(context.get("bot_user_id") or ""),
        inside=view.get("type") == "modal",
    )


def _home(context: Payload) -> tuple[str, str]:
    return str(context.get("team_id") or ""), str(context.get("enterprise_id") or "")
