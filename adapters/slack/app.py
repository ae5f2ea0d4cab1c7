"""The listeners, registered once with Bolt and served by Socket Mode and HTTP alike."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.authorization.async_authorize import AsyncAuthorize
from slack_sdk.web.async_client import AsyncWebClient

from adapters.slack import actions, commands, mentions, names, settings, shortcuts
from adapters.slack.visit import of_event

if TYPE_CHECKING:
    from adapters.slack.adapter import Slack

Handle: TypeAlias = "Callable[[Slack, Any, dict[str, Any], Any], Awaitable[None]]"

BOLT_LOG: Final = logging.getLogger("adapters.slack.bolt")
BOLT_LOG.setLevel(logging.ERROR)  # its warnings are about how it was set up, its infos hold people's words


class Authorize(AsyncAuthorize):
    """Which token serves an event: none of Slack's methods is called for it."""

    def __init__(self, slack: Slack) -> None:
        self._slack = slack

    async def __call__(
        self,
        *,
        context: Any,
        enterprise_id: str | None,
        team_id: str | None,
        user_id: str | None,
        actor_enterprise_id: str | None = None,
        actor_team_id: str | None = None,
        actor_user_id: str | None = None,
    ) -> AuthorizeResult | None:
        found = await self._slack.installations.find(team_id or "", enterprise_id or "")
        if found is None:
            return None
        return AuthorizeResult(
            enterprise_id=enterprise_id,
            team_id=team_id,
            bot_user_id=found.bot_user,
            bot_id=found.bot_id,
            bot_token=found.token.reveal(),
            user_id=user_id,
        )


def build_app(slack: Slack) -> AsyncApp:
    """process_before_response: a listener ends before its acknowledgement is sent, so that what is
    acknowledged is committed; whatever is slow a listener hands on."""
    app = AsyncApp(
        logger=BOLT_LOG,
        name="fairbrush",
        process_before_response=True,
        signing_secret=slack.settings.secret("SLACK_SIGNING_SECRET").reveal() or "unused",
        client=AsyncWebClient(base_url=slack.clients.base_url, retry_handlers=[], logger=BOLT_LOG),
        authorize=Authorize(slack),  # type: ignore[arg-type]  # an AsyncAuthorize is taken as it is
        user_facing_authorize_error_message="Fairbrush is not installed in this workspace. Ask an admin.",
    )
    _listen(slack, app)
    return app


def _listen(slack: Slack, app: AsyncApp) -> None:
    """Bolt gives a listener what its arguments are called."""

    def bound(handle: Handle) -> Callable[..., Awaitable[None]]:
        async def listener(ack: Any, body: dict[str, Any], context: Any) -> None:
            await handle(slack, ack, body, context)

        return listener

    async def on_mention(body: dict[str, Any], context: Any) -> None:
        await mentions.mention(slack, body, context)

    async def on_message(body: dict[str, Any], context: Any) -> None:
        await mentions.direct(slack, body, context)

    async def on_home(body: dict[str, Any], context: Any) -> None:
        if body["event"].get("tab") == "home":
            slack.later(slack.homes.opened(of_event(body, context)))

    async def on_removed(body: dict[str, Any], context: Any) -> None:
        event = body["event"]
        if event["type"] == "app_uninstalled" or (event.get("tokens") or {}).get("bot"):
            slack.later(
                slack.left(str(context.get("team_id") or ""), str(context.get("enterprise_id") or ""))
            )

    async def on_form(ack: Any, body: dict[str, Any], context: Any) -> None:
        await slack.forms.submitted(ack, body, context)

    app.command(names.COMMAND)(bound(commands.command))
    app.event("app_mention")(on_mention)
    app.event("message")(on_message)
    app.event("app_home_opened")(on_home)
    app.event("app_uninstalled")(on_removed)
    app.event("tokens_revoked")(on_removed)
    for shortcut in names.SHORTCUTS:
        app.shortcut(shortcut.callback_id)(bound(shortcuts.chosen))
    app.view(names.IMAGINE_FORM)(on_form)
    app.view(names.SETTINGS_FORM)(bound(settings.submitted))
    app.action(re.compile("settings_.*"))(bound(settings.used))
    app.action(re.compile(".*"))(bound(actions.pressed))
