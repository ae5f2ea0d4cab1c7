"""Pictures fetched from links that a service names, safely.

A link of the service's own origin is fetched as its API is, key and private addresses included. Any other
link must be https and lead to public addresses alone: they are checked after the name was resolved, and the
connection goes to the very address that was checked. Redirects are followed by hand and judged as links of
others; nothing outside the own origin ever sees the key.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from socket import AddressFamily
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from backends._pacing import Backoff, retry_after
from backends._pictures import MAX_BYTES
from bot.core.addresses import IPAddress, is_public, literal
from bot.core.errors import Fault, ProtocolError, TimedOut, Unavailable
from bot.core.ports import Clock

log = logging.getLogger(__name__)

MAX_SECONDS: Final = 30.0
MAX_HOPS: Final = 5
TRIES: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_EXPIRED: Final = frozenset({401, 403, 404, 410})
_HEADERS: Final = {"Accept": "image/png, image/jpeg, image/webp", "Accept-Encoding": "identity"}


class Expired(Unavailable):
    """The link does not work (any more); a fresh one might."""


class _Inward(Exception):
    """A name leads to an address that is not public."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What links of others may reach: the public internet, found by the system's resolver. Tests put local
    servers in its place. resolver: finds addresses of names; tls: trusts certificates; public: judges."""

    resolver: Callable[[], AbstractResolver] = DefaultResolver
    tls: ssl.SSLContext | None = None
    public: Callable[[IPAddress], bool] = is_public


class _Guard(AbstractResolver):
    """Gives an address only if all addresses of the name are public."""

    def __init__(self, inner: AbstractResolver, public: Callable[[IPAddress], bool]) -> None:
        self._inner = inner
        self._public = public

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for result in found:
            if not self._public(ip_address(result["host"])):
                raise _Inward(f"{host} is {result['host']}")
        return found

    async def close(self) -> None:
        await self._inner.close()


class Downloads:
    """Fetches bytes. own: whether a URL is of the service's own origin; keyed: headers with the key, for that
    alone; home: the session for it."""

    def __init__(
        self,
        own: Callable[[URL], bool],
        keyed: Mapping[str, str],
        home: Callable[[], aiohttp.ClientSession],
        reach: Reach,
        clock: Clock,
    ) -> None:
        self._own = own
        self._keyed = keyed
        self._home = home
        self._reach = reach
        self._clock = clock
        self._abroad: aiohttp.ClientSession | None = None

    async def fetch(self, link: str, *, most: int = MAX_BYTES) -> bytes:
        """What a link leads to, up to `most` bytes within MAX_SECONDS, all tries and hops included.

        Raises ProtocolError (a link that is not followed, too large), Expired (401, 403, 404, 410),
        Unavailable or TimedOut; accepted is None, since what it leads to was made.
        """
        backoff = Backoff()
        try:
            async with asyncio.timeout(MAX_SECONDS):
                for _ in range(TRIES - 1):
                    try:
                        return await self._hops(link, most)
                    except Expired:
                        raise
                    except Unavailable as error:
                        log.info("a picture is fetched again: %s", error.detail)
                        await self._clock.sleep(backoff.wait(error.retry_after))
                return await self._hops(link, most)
        except TimeoutError:
            raise TimedOut("The picture took too long to be fetched.", accepted=None) from None

    async def aclose(self) -> None:
        """Close what was opened for links of others."""
        session, self._abroad = self._abroad, None
        if session is not None:
            await session.close()

    async def _hops(self, link: str, most: int) -> bytes:
        url = _parsed(link)
        own = self._own(url)
        for _ in range(MAX_HOPS):
            if not own:
                self._check(url)
            following = await self._one(url, own, most)
            if isinstance(following, bytes):
                return following
            if url.scheme == "https" and following.scheme != "https":
                raise _unfollowed("a redirect from https to " + following.scheme)
            own = own and self._own(following)
            url = following
        raise _unfollowed("too many redirects")

    def _check(self, url: URL) -> None:
        """Raise ProtocolError where a link of others may not be followed, as far as its text shows that."""
        if url.scheme != "https":
            raise _unfollowed(f"a link by {url.scheme}, not https")
        try:
            address = literal(url.raw_host or "")
        except ValueError as error:
            raise _unfollowed(str(error)) from None
        if address is not None and not self._reach.public(address):
            raise _unfollowed(f"{address} is not a public address")

    async def _one(self, url: URL, own: bool, most: int) -> bytes | URL:
        """The body, or where a redirect leads."""
        session = self._home() if own else self._foreign()
        headers = {**_HEADERS, **(self._keyed if own else {})}
        try:
            async with session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    return url.join(_parsed(response.headers.get("Location", ""), relative=True))
                _check_status(response, self._clock.now())
                return await _capped(response, most)
        except _Inward as error:
            raise _unfollowed(str(error)) from None
        except aiohttp.InvalidURL as error:
            raise _unfollowed(type(error).__name__) from None
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise Unavailable(
                "The picture could not be fetched.",
                detail=f"{url.host}: {type(error).__name__}",
                accepted=None,
            ) from None

    def _foreign(self) -> aiohttp.ClientSession:
        if self._abroad is None:
            connector = aiohttp.TCPConnector(
                resolver=_Guard(self._reach.resolver(), self._reach.public),
                use_dns_cache=False,
                force_close=True,
                ssl=self._reach.tls or True,
            )
            self._abroad = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=MAX_SECONDS),
                auto_decompress=False,
                headers={"User-Agent": "Fairbrush"},
            )
        return self._abroad


def _parsed(link: str, *, relative: bool = False) -> URL:
    """A link as it is written: its signature may depend on every character."""
    if (
        not link
        or len(link) > 8192
        or not link.isascii()
        or not link.isprintable()
        or set(link) & set(' "<>\\')
    ):
        raise _unfollowed("a link with characters that none has, or none at all")
    try:
        url = URL(link, encoded=True)
        url.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise _unfollowed("no link") from None
    if (relative and not url.absolute) or (url.scheme in ("http", "https") and url.raw_host):
        if url.raw_user is None and url.raw_password is None:
            return url
        raise _unfollowed("a link with a user's name in it")
    raise _unfollowed(f"a link by {url.scheme or 'nothing'}, not https")


def _check_status(response: aiohttp.ClientResponse, now: float) -> None:
    status = response.status
    if status in _EXPIRED:
        raise Expired("The link to the picture does not work any more.", detail=str(status), accepted=None)
    if status == 429 or status >= 500:
        raise Unavailable(
            "The picture could not be fetched.",
            detail=f"{response.url.host}: {status}",
            retry_after=retry_after(response.headers.get("Retry-After"), now),
            accepted=None,
        )
    if status != 200:
        raise ProtocolError("The picture could not be fetched.", detail=f"status {status}", accepted=None)


async def _capped(response: aiohttp.ClientResponse, most: int) -> bytes:
    if (response.content_length or 0) > most:
        raise _too_large(most)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> Fault:
    return ProtocolError(
        f"The service's picture is larger than {most // 2**20} MB.", detail="download cut", accepted=None
    )


def _unfollowed(why: str) -> Fault:
    return ProtocolError(
        "The service named an address for its picture that is not fetched.", detail=why, accepted=None
    )
