"""The one server that a backend talks to: where it is, what it may be told, and how it has been lately.

Its key goes to the configured origins alone. POSTs that hand in a job get a connection of their own, since
one that was kept may be closed by the server at that very moment: then nobody knows whether it took the job.
"""

from __future__ import annotations

import base64
import json
import math
import re
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import aiohttp
from yarl import URL

from backends._answers import Answer, for_people, plain
from backends._pacing import REAL_CLOCK
from bot.core.errors import ConfigurationError, FairbrushError, ProtocolError, TimedOut, Unavailable
from bot.core.ports import Clock
from bot.core.request import JSON

_KEEP_ALIVE = 4.0  # seconds; less than most servers keep an idle connection
# Seconds without a byte until the other side is asked, and between questions; questions until it is gone.
_PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}


class Endpoint:
    """One service. base: the configured origin and path prefix; headers: those with the key, sent to the
    configured origin and `origins` alone; auth: "user:password" for Basic; service: its name for people;
    setting: the variable that holds the address, for error texts.

    trouble: why the last call failed to reach it or was not let in; "" where all is well. trouble_at: since
    when (monotonic).
    """

    def __init__(
        self,
        base: str,
        *,
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        origins: Sequence[str] = (),
        auth: str | None = None,
        service: str = "The service",
        setting: str = "FAIRBRUSH_BACKENDS",
    ) -> None:
        self.base = _base(base, setting)
        self.service = service
        self.trouble = ""
        self.trouble_at = -math.inf
        self._clock = clock or REAL_CLOCK
        self._keyed = dict(headers or {})
        if auth:
            self._keyed["Authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        _check_headers(self._keyed)
        self._secrets = _secrets(self._keyed.values(), auth or "")
        self._origins = frozenset(
            {self.base.origin(), *(_base(origin, setting).origin() for origin in origins)}
        )
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.base)!r})"

    async def aclose(self) -> None:
        """Close all connections; calls afterwards are Unavailable."""
        self._closed = True
        while self._sessions:
            await self._sessions.popitem()[1].close()

    # --- for those who read answers -----------------------------------------------------------------------

    def is_own(self, url: URL | str) -> bool:
        """Whether a URL is of a configured origin: calls go there, with the key."""
        try:
            url = URL(url) if isinstance(url, str) else url
            return url.absolute and url.user is url.password is None and url.origin() in self._origins
        except ValueError:
            return False

    def plain(self, text: str, most: int = 300) -> str:
        """A text for the log, without secrets, in one line."""
        return plain(text, self._secrets, most)

    def for_people(self, text: str) -> str:
        """A remote's message if it is fit to be shown, without secrets; else ""."""
        return for_people(text, self._secrets)

    def _target(self, url: str) -> URL:
        if self._closed:
            raise Unavailable(f"The connection to {self.service} is closed.", accepted=False)
        try:
            if url.startswith("/") and not url.startswith("//"):
                return URL(str(self.base).rstrip("/") + url)
            target = URL(url)
        except ValueError:
            target = URL()
        if not self.is_own(target):
            raise ProtocolError(
                f"{self.service} named an address that is not its own.",
                detail=self.plain(url),
                accepted=None,
            )
        return target

    def _headers(self, body: JSON | bytes) -> dict[str, str]:
        return {"Accept": "application/json", **self._keyed} | (
            {"Content-Type": "application/json"} if body is not None else {}
        )

    def _open(self, *, fresh: bool = False) -> aiohttp.ClientSession:
        """The session; fresh: one whose connections are not kept."""
        if self._closed:
            raise Unavailable(f"The connection to {self.service} is closed.", accepted=False)
        if fresh not in self._sessions:
            connector = (
                aiohttp.TCPConnector(force_close=True, socket_factory=_watched)
                if fresh
                else aiohttp.TCPConnector(keepalive_timeout=_KEEP_ALIVE, socket_factory=_watched)
            )
            self._sessions[fresh] = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "Fairbrush"}
            )
        return self._sessions[fresh]

    def _note(self, answer: Answer) -> None:
        """Whether the service can be worked with, by what it answered."""
        if answer.status in (401, 402, 403):
            self._failed(
                f"{self.service} does not let us in ({answer.status}). Check its key and its credit."
            )
        elif 300 <= answer.status < 400:
            self._failed(f"{self.service} redirects to another address. Put that one in its setting.")
        elif answer.status >= 500:
            self._failed(f"{self.service} answers {answer.status}.")
        else:
            self._reached()

    def _reached(self) -> None:
        self.trouble = ""

    def _failed(self, why: str) -> None:
        self.trouble, self.trouble_at = why, self._clock.monotonic()

    def _lost(self, error: Exception, *, post: bool) -> FairbrushError:
        """What a broken connection means. Only where none came about is a job surely not taken."""
        unsent = isinstance(
            error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL
        )
        accepted = False if unsent and post else None
        detail = self.plain(f"{type(error).__name__}: {error}")
        if unsent:
            self._failed(f"{self.service} cannot be reached.")
            return Unavailable(f"{self.service} cannot be reached.", detail=detail, accepted=accepted)
        if isinstance(error, TimeoutError):
            self._failed(f"{self.service} does not answer in time.")
            return TimedOut(f"{self.service} did not answer in time.", detail=detail, accepted=accepted)
        self._failed(f"The connection to {self.service} broke.")
        return Unavailable(f"The connection to {self.service} broke.", detail=detail, accepted=accepted)


def _watched(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices when the other side is gone: a call may wait for minutes without a byte, and a
    server that lost its power, or a router that forgot the connection, says nothing of it."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has them
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def coded(body: JSON | bytes) -> bytes | None:
    """A body as bytes: JSON in ASCII, which no text can break."""
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body, allow_nan=False, default=_plain_value).encode()


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _base(text: str, setting: str) -> URL:
    """An address from the settings. Raises ConfigurationError."""
    if "@" in text:
        raise ConfigurationError(f"{setting}: an address holds no user name, password or @.")
    try:
        url = URL(text.rstrip("/"))
        bare = not url.query_string and not url.fragment and not re.search(r"\s", url.host or "")
        if url.scheme in ("http", "https") and url.host and bare:
            return url
    except ValueError:
        pass
    usual = "http://gpu1:7860" if setting == "FAIRBRUSH_BACKENDS" else "https://api.example.com"
    raise ConfigurationError(f'{setting}: "{text}" is not an address such as {usual}')


def at_home(address: str, *homes: str, setting: str) -> bool:
    """Whether an address is one of a service's own, however it is written: there pictures cost money. Raises
    ConfigurationError where it is none, or would carry the key there for everybody to read."""
    url = _base(address, setting)
    own = (url.host or "").rstrip(".") in {URL(home).host for home in homes}
    if own and url.scheme != "https":
        raise ConfigurationError(f"{setting}: {url.host} is asked by https alone, since a key goes there.")
    return own


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(f"The key for the header {name} holds characters that no key has.")


def _secrets(headers: Collection[str], auth: str) -> tuple[str, ...]:
    """What must be in no text: keys with and without "Bearer", a password alone too; longest first."""
    found = {*headers, auth, auth.partition(":")[2], *(part for value in headers for part in value.split())}
    words = {"bearer", "basic", "application/json"}
    return tuple(
        sorted(
            (text for text in found if len(text) >= 6 and text.lower() not in words), key=len, reverse=True
        )
    )
