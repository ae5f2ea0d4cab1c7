"""The Slack adapter; named in pyproject.toml. Nothing of Slack is imported where no token is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.core.errors import ConfigurationError

if TYPE_CHECKING:
    from bot.core.ports import Adapter
    from bot.core.settings import Settings


def create(settings: Settings) -> Adapter | None:
    """The adapter where SLACK_BOT_TOKEN, or SLACK_CLIENT_ID with its secret, is set, else None.

    Raises ConfigurationError where something is missing beside it.
    """
    token, app_token = settings.secret("SLACK_BOT_TOKEN"), settings.secret("SLACK_APP_TOKEN")
    client, client_secret = settings.secret("SLACK_CLIENT_ID"), settings.secret("SLACK_CLIENT_SECRET")
    if bool(client) != bool(client_secret):
        missing = "SLACK_CLIENT_SECRET" if client else "SLACK_CLIENT_ID"
        raise ConfigurationError(f"{missing} is missing: installing by OAuth needs both. Set it, or neither.")
    if not token and not client:
        if app_token:
            raise ConfigurationError(
                "SLACK_APP_TOKEN is set without SLACK_BOT_TOKEN. Set that too: the Bot User OAuth Token "
                "(xoxb-...) on the app's page, OAuth & Permissions."
            )
        return None
    if not app_token and not settings.secret("SLACK_SIGNING_SECRET"):
        raise ConfigurationError(
            "Slack is set up without a way in. Set SLACK_APP_TOKEN (xapp-..., Socket Mode), or "
            "SLACK_SIGNING_SECRET (HTTP mode: Slack reaches this server at /slack/events)."
        )
    from adapters.slack.adapter import Slack

    return Slack(settings)
