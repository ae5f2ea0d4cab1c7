"""Where the program is installed, and with which token. Kept on the adapter's shelf, tokens encrypted.

One token of the operator's own (SLACK_BOT_TOKEN) and any number of installations by OAuth live side by side.
An installation is a workspace's, or an organisation's for all its workspaces.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bot.core.errors import Unavailable
from bot.core.request import JSON
from bot.core.settings import Secret

log = logging.getLogger(__name__)

NOBODY: Final = "-"


class Kept(Protocol):
    """Durable key and value pairs."""

    async def get(self, key: str) -> JSON: ...
    async def put(self, key: str, value: JSON) -> None: ...


@dataclass(frozen=True, slots=True)
class Installation:
    """The program in a workspace, or with an empty `team` in all of an organisation's.

    bot_user: its own user id there; bot_id: what its messages carry.
    """

    team: str
    enterprise: str
    token: Secret
    bot_user: str
    bot_id: str
    app_id: str = ""
    name: str = ""
    scopes: str = ""

    @property
    def key(self) -> str:
        """Where it is kept."""
        return key_of(self.enterprise, self.team)


def key_of(enterprise: str, team: str) -> str:
    """Where an installation is kept."""
    return f"installation:{enterprise or NOBODY}:{team or NOBODY}"


class Installations:
    """own: the token of the operator's own workspace, where one is set; it is asked for after those that came
    by OAuth. open() gives the shelf and the secret key; before that only the own token is known."""

    def __init__(self, own: Secret) -> None:
        self._own_token = own
        self._own: Installation | None = None
        self._shelf: Kept | None = None
        self._box: Fernet | None = None
        self._known: dict[str, Installation | None] = {}
        self._organisations: dict[str, str] = {}

    def open(self, shelf: Kept, secret_key: Secret) -> None:
        """From here on installations can be found and saved."""
        derived = HKDF(SHA256(), 32, salt=None, info=b"fairbrush slack installations").derive(
            secret_key.reveal().encode()
        )
        self._box = Fernet(base64.urlsafe_b64encode(derived))
        self._shelf = shelf

    @property
    def own(self) -> Installation | None:
        """The operator's own, once Slack said whose its token is."""
        return self._own

    def own_is(self, installation: Installation) -> None:
        """What Slack said of the operator's own token."""
        self._own = installation

    def disown(self) -> None:
        """The operator's own token is no good any more."""
        self._own = None
        self._own_token = Secret("")

    async def find(self, team: str, enterprise: str = "") -> Installation | None:
        """The installation that serves a workspace: its own, its organisation's, the operator's; or None."""
        for key in dict.fromkeys((key_of(enterprise, team), key_of("", team), key_of(enterprise, ""))):
            if key != key_of("", "") and (found := await self._kept(key)) is not None:
                return found
        if not enterprise and (found := await self._of_organisation(team)) is not None:
            return found
        own = self._own
        if own is None:
            return None
        serves = own.team == team or (own.enterprise and not own.team and own.enterprise == enterprise)
        return own if serves else None

    async def _of_organisation(self, team: str) -> Installation | None:
        """A workspace's own installation, where what came did not name its organisation."""
        if self._shelf is None or not team:
            return None
        if team not in self._organisations:
            kept = await self._shelf.get(f"organisation:{team}")
            self._organisations[team] = str(kept or "")
        enterprise = self._organisations[team]
        return await self._kept(key_of(enterprise, team)) if enterprise else None

    async def token(self, team: str, enterprise: str = "") -> Secret:
        """The token for a workspace, empty where there is none. Raises Unavailable before open()."""
        found = await self.find(team, enterprise) if self._shelf is not None else None
        if found is not None:
            return found.token
        if self._shelf is None and not self._own_token:
            raise Unavailable("Slack is not connected yet.", retry_after=1.0)
        if self._own is not None and self._own.team not in ("", team):
            return Secret("")
        return self._own_token

    async def _kept(self, key: str) -> Installation | None:
        if self._shelf is None:
            return None
        if key not in self._known:
            kept = await self._shelf.get(key)
            self._known[key] = self._read(key, kept) if isinstance(kept, Mapping) else None
        return self._known[key]

    def _read(self, key: str, kept: Mapping[str, JSON]) -> Installation | None:
        text = {name: str(value) for name, value in kept.items()}
        try:
            token = self._opened.decrypt(text.get("token", "").encode()).decode()
        except InvalidToken:
            log.error("%s cannot be read: FAIRBRUSH_SECRET_KEY has changed. Install the app again.", key)
            return None
        return Installation(
            text.get("team", ""),
            text.get("enterprise", ""),
            Secret(token),
            text.get("bot_user", ""),
            text.get("bot_id", ""),
            text.get("app_id", ""),
            text.get("name", ""),
            text.get("scopes", ""),
        )

    async def save(self, installation: Installation) -> None:
        """Keep an installation, instead of what was kept for the same workspace."""
        token = self._opened.encrypt(installation.token.reveal().encode()).decode()
        await self._kept_on().put(
            installation.key,
            {
                "team": installation.team,
                "enterprise": installation.enterprise,
                "token": token,
                "bot_user": installation.bot_user,
                "bot_id": installation.bot_id,
                "app_id": installation.app_id,
                "name": installation.name,
                "scopes": installation.scopes,
            },
        )
        if installation.team and installation.enterprise:
            await self._kept_on().put(f"organisation:{installation.team}", installation.enterprise)
            self._organisations[installation.team] = installation.enterprise
        self._known[installation.key] = installation

    @property
    def _opened(self) -> Fernet:
        if self._box is None:
            raise Unavailable("Slack is not connected yet.", retry_after=1.0)
        return self._box

    def _kept_on(self) -> Kept:
        if self._shelf is None:
            raise Unavailable("Slack is not connected yet.", retry_after=1.0)
        return self._shelf

    async def forget(self, installation: Installation) -> None:
        """The program was removed there, or its token revoked."""
        log.warning(
            "the app was removed from %s, or its token revoked", installation.name or installation.key
        )
        if self._shelf is not None:
            await self._shelf.put(installation.key, None)
        self._known[installation.key] = None
