"""Webhooks: the end of a job, posted to an address of the client's, signed in the Standard Webhooks form.

Only https, and only to public addresses: what a client names is checked as text when the job comes in, and
again when it is sent, after the name was resolved; the connection goes to the very address that was checked.
No redirect is followed, no answer is read. Trying again is the core's business.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from socket import AddressFamily
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from bot.core.addresses import IPAddress, is_public, literal
from bot.core.errors import Gone, InvalidRequest, Refused, Unavailable
from bot.core.settings import Secret

SECONDS: Final = 15.0
MAX_URL: Final = 2048
_PURPOSE: Final = b"fairbrush webhook secret\n"  # one key serves several purposes
_MOST_WAIT: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Reach:
    """What webhooks may reach: the public internet, found by the system's resolver. Tests put a local server
    in its place. resolver: finds addresses of names; tls: trusts certificates; public: judges addresses."""

    resolver: Callable[[], AbstractResolver] = DefaultResolver
    tls: ssl.SSLContext | None = None
    public: Callable[[IPAddress], bool] = is_public


class _Inward(Exception):
    """A name leads to an address that is not public."""


class _Guard(AbstractResolver):
    """Gives addresses only if all of the name's are public."""

    def __init__(self, reach: Reach) -> None:
        self._inner = reach.resolver()
        self._public = reach.public

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(self._public(ip_address(result["host"])) for result in found):
            raise _Inward(host)
        return found

    async def close(self) -> None:
        await self._inner.close()


class Webhooks:
    """Sends them. now: Unix seconds."""

    def __init__(self, reach: Reach | None = None, now: Callable[[], float] = time.time) -> None:
        self._reach = reach or Reach()
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, secret: str, message_id: str, body: bytes) -> None:
        """Post `body`, JSON, signed. message_id: the same each time it is tried.

        Raises Unavailable where another try may work, Gone where the receiver wants no more (410), Refused
        where the address must not be reached.
        """
        self._check(url)
        stamp = str(int(self._now()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": sign(secret, message_id, stamp, body),
        }
        try:
            async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as answer:
                _check_answer(answer)
        except _Inward:
            raise Refused("The webhook's address is not a public one.") from None
        except TimeoutError:
            raise Unavailable("The webhook's receiver did not answer in time.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(
                "The webhook's receiver cannot be reached.", detail=type(error).__name__
            ) from None

    async def aclose(self) -> None:
        """Close connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _check(self, url: str) -> None:
        try:
            check_url(url, "webhook_url", public=self._reach.public)
        except InvalidRequest as error:
            raise Refused(error.message) from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_Guard(self._reach),
                use_dns_cache=False,
                force_close=True,
                limit=64,
                ssl=self._reach.tls or True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=SECONDS),
                headers={"User-Agent": "Fairbrush"},
                max_line_size=8190,
            )
        return self._session


def check_url(url: str, field: str, *, public: Callable[[IPAddress], bool] = is_public) -> None:
    """Raise InvalidRequest where a webhook's address is none that is ever reached, as its text shows."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port  # ValueError where the port is no number
        address = literal(host)
    except ValueError:
        raise _unreachable(field) from None
    plain = len(url) <= MAX_URL and url.isascii() and url.isprintable() and not set(url) & set(' "<>\\')
    inward = address is not None and not public(address)
    local = host.rstrip(".").endswith(("localhost", ".local", ".internal"))
    if not plain or parts.scheme != "https" or "@" in parts.netloc or inward or local:
        raise _unreachable(field)


def webhook_secret(program: Secret, key_id: str) -> str:
    """The secret that a key's webhooks are signed with, as Standard Webhooks write it."""
    derived = hmac.digest(program.reveal().encode(), _PURPOSE + key_id.encode(), "sha256")
    return "whsec_" + base64.b64encode(derived).decode("ascii")


def sign(secret: str, message_id: str, stamp: str, body: bytes) -> str:
    """The value of webhook-signature (Standard Webhooks 1.0, symmetric)."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def _check_answer(answer: aiohttp.ClientResponse) -> None:
    if 200 <= answer.status < 300:
        return
    if answer.status == 410:
        raise Gone("The webhook's receiver wants no more (410).")
    told = answer.headers.get("Retry-After", "")
    wait = min(float(told), _MOST_WAIT) if told.isascii() and told.isdecimal() and len(told) < 9 else None
    raise Unavailable(f"The webhook's receiver answered {answer.status}.", retry_after=wait)


def _unreachable(field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} must be the address of a public server, such as https://hooks.example.com/done: https, "
        f"without a user's name, at most {MAX_URL:,} characters.",
        field=field,
    )
