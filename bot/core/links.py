"""Links to pictures for whoever holds one: signed, so that nobody makes up his own, and good for a week.

A platform that cannot take a file shows its link instead. Knows neither web server nor store.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable
from typing import Final

from bot.core.settings import Secret, Settings

LASTING: Final = 7 * 24 * 3600  # seconds that a link is good for
_PURPOSE: Final = b"fairbrush picture link"  # one key serves several purposes; none can stand in for another
_EXPIRES: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class Links:
    """key: the program's secret; public: the address that the operator says others reach us by, "" where he
    says none; base: the one that is known else ("https://bot.example"), "" for none; now: Unix seconds."""

    def __init__(self, key: Secret, base: str, now: Callable[[], float], *, public: str = "") -> None:
        derived = hmac.digest(key.reveal().encode(), _PURPOSE, "sha256")
        self._key = hmac.new(derived, digestmod="sha256") if key else None  # copied for each link
        self._public = public
        self._base = base
        self._now = now

    def link(self, name: str, *, base: str | None = None, seconds: int | None = None) -> str | None:
        """The address of a picture file; None where there is no key or nobody outside could open it.

        base: the address by which whoever is given the link has reached us, where the operator says none;
        seconds: that it is good for, at most and by default LASTING.
        """
        base = self._public or base or self._base
        if not base or self._key is None:
            return None
        lasting = LASTING if seconds is None else min(max(1, seconds), LASTING)
        expires = str(int(self._now()) + lasting)
        signature = self._signature(self._key, name, expires)
        return f"{base.rstrip('/')}/pictures/{name}?expires={expires}&signature={signature}"

    def holds(self, name: str, expires: str, signature: str) -> bool:
        """Whether a link is ours and not yet over; takes as long whatever is wrong with the signature."""
        if self._key is None or not _EXPIRES.fullmatch(expires):
            return False
        ours = self._signature(self._key, name, expires)
        same = hmac.compare_digest(ours.encode(), signature.encode("utf-8", "replace"))
        return same and self._now() <= int(expires)

    @staticmethod
    def _signature(key: hmac.HMAC, name: str, expires: str) -> str:
        mac = key.copy()
        mac.update(f"{name}\n{expires}".encode("utf-8", "replace"))
        return mac.hexdigest()


def link_base(settings: Settings) -> str:
    """FAIRBRUSH_PUBLIC_URL, else the address listened on where others can reach it, else ""."""
    if settings.public_url:
        return settings.public_url
    host, port = settings.host, settings.port
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "" if host in ("", "localhost") or not port else f"http://{host}:{port}"
    if address.is_loopback or address.is_unspecified or not port:
        return ""
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"
