"""The names that Slack and the program call things by: one list for the listeners and for the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bot.core.request import Nouns

COMMAND: Final = "/imagine"

NOUNS: Final = Nouns("person", "workspace")

# What the program may do in a workspace, and what each is for.
SCOPES: Final = {
    "commands": "/imagine and the shortcuts",
    "chat:write": "the messages that requests are answered in",
    "files:write": "pictures",
    "files:read": "whether Slack has finished with a picture; pictures to start from; recipes",
    "app_mentions:read": "@fairbrush in channels and threads",
    "im:history": "what people write to the app itself",
    "users:read": "who is an admin of the workspace, for settings and for deleting others' pictures",
}

# Buttons, by action_id. Those of single pictures end in a number: `vary:0`.
AGAIN: Final = "again"
CANCEL: Final = "cancel"
DELETE: Final = "delete"
EDIT: Final = "edit"
FORM: Final = "form"
MORE: Final = "more"
OPEN: Final = "open"
REFRESH: Final = "refresh"
REMIX: Final = "remix"
REMIX_FILE: Final = "remix_file"
RETRY: Final = "retry"
REVEAL: Final = "reveal"
SETTINGS: Final = "settings"
SETTINGS_CHANNEL: Final = "settings_channel"
SETTINGS_RESET: Final = "settings_reset"
TO_DM: Final = "to_dm"
UPSCALE: Final = "upscale"
VARY: Final = "vary"
WHY: Final = "why"

# Modals, by callback_id.
IMAGINE_FORM: Final = "imagine"
RECIPE_VIEW: Final = "recipe"
SETTINGS_FORM: Final = "settings"

EVENTS: Final = ("app_mention", "app_home_opened", "message.im", "app_uninstalled", "tokens_revoked")


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A shortcut. kind: message or global."""

    name: str
    kind: str
    callback_id: str
    description: str


REMIX_SHORTCUT: Final = "remix_message"
RECIPE_SHORTCUT: Final = "recipe_message"
IMAGINE_SHORTCUT: Final = "imagine_anywhere"
SHORTCUTS: Final = (
    Shortcut("Remix", "message", REMIX_SHORTCUT, "Make a picture like this one, or from it"),
    Shortcut("Recipe", "message", RECIPE_SHORTCUT, "What made this picture, on any platform"),
    Shortcut("Make a picture", "global", IMAGINE_SHORTCUT, "A form, and where to show what comes of it"),
)

BOT_NAME: Final = "fairbrush"
