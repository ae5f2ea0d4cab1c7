"""Who may reach the page at all: hosts, origins and headers.

Without a key the Playground works only on the machine itself: bound to loopback, under a loopback name, not
through a proxy. A page elsewhere can make a browser send requests here (DNS rebinding, cross-site forms),
so the Host must be one of ours and whatever changes something must come from our own Origin.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from adapters._incoming import Problem
from bot.core.settings import Settings

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address means this machine alone."""
    if not host:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Gate:
    """The rules for one way of being served. They are read from the settings once."""

    def __init__(self, settings: Settings) -> None:
        self._bound_to_loopback = is_loopback(settings.host)
        self._public = urlsplit(settings.public_url)
        self._is_public = bool(self._public.hostname) and not is_loopback(self._public.hostname)
        self.secure = self._public.scheme == "https"

    def keyless(self, request: web.Request) -> bool:
        """Whether this visitor needs no key. A proxy in front means that anybody may be asking."""
        forwarded = any(name in request.headers for name in _FORWARDED)
        return self._bound_to_loopback and not self._is_public and not forwarded

    def check(self, request: web.Request) -> None:
        """Raise Problem(403): a foreign Host, a foreign Origin on a change, or a foreign page that reads."""
        if not self._host_is_ours(request.host):
            raise Problem(403, "This server does not answer under that host name (FAIRBRUSH_PUBLIC_URL).")
        if (
            request.headers.get("Sec-Fetch-Site", "none") in ("cross-site", "same-site")
            and request.path != "/"
        ):
            raise Problem(403, "Requests from other sites are refused.")
        if request.method not in ("GET", "HEAD") and not self._origin_is_ours(request):
            raise Problem(403, "Changes are accepted from the Playground's own page alone.")

    def _host_is_ours(self, host: str) -> bool:
        name = _hostname(host)
        if name is None:
            return False
        if self._bound_to_loopback and is_loopback(name):
            return True
        if self._is_public:
            return name == (self._public.hostname or "").lower()
        return not self._bound_to_loopback

    def _origin_is_ours(self, request: web.Request) -> bool:
        origin = request.headers.get("Origin", "")
        public = f"{self._public.scheme}://{self._public.netloc}"
        return origin in (f"http://{request.host}", f"https://{request.host}") or (
            self._is_public and origin == public
        )


def _hostname(host: str) -> str | None:
    """The name in a Host header without its port, None where the header is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and "@" not in host else None
