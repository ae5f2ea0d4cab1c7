"""Log lines: one record a line whatever a prompt holds, and no secret in any of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from bot.core.settings import Secret

# Tokens that platforms put into addresses: replies to Discord's interactions, and Slack's.
_IN_ADDRESSES = re.compile(r"(/(?:webhooks|interactions)/\d+/|hooks\.slack\.com/)[^\s/'\"][^\s'\"?]*")
# Slack's tokens by their form: those of installed workspaces are in no setting.
_TOKENS = re.compile(r"\bx(?:ox[a-z]|app)[.-][\w.-]{6,}")
_KEYS = re.compile(r"\bfb_[\w-]{16,}", re.ASCII)  # our own API keys, of which only a digest is known
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class OneLine(logging.Formatter):
    """Escapes control characters in the message (line ends too) and hides secrets, in tracebacks as well."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        values = [re.escape(secret.reveal()) for secret in secrets if len(secret.reveal()) >= 8]
        self._hidden = re.compile("|".join(values)) if values else None

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record, escaped."""
        record.message = record.message.replace("\n", "\\n").replace("\t", "\\t")
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """The whole text of a record."""
        text = _CONTROL.sub(lambda match: repr(match[0])[1:-1], super().format(record))
        text = _KEYS.sub("***", _TOKENS.sub("***", _IN_ADDRESSES.sub(r"\1***", text)))
        return self._hidden.sub("***", text) if self._hidden else text


def set_up(level: str, secrets: Iterable[Secret]) -> None:
    """Log to standard error from here on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
