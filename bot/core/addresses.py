"""Which addresses on the network are public, and so may be reached for a link that somebody else wrote.

Pure. Sources: the IANA special-purpose address registries of IPv4 and IPv6; RFC 6052 and 6890.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

_INWARD_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
_GLOBAL_6: Final = IPv6Network("2000::/3")
# Within it: protocol assignments with Teredo, documentation, 6to4 (which reaches any IPv4), documentation.
_INWARD_6: Final = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NUMBER: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\Z", re.IGNORECASE)
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?\Z", re.IGNORECASE)


def is_public(address: IPAddress) -> bool:
    """Whether an address is on the public internet; one that hides an IPv4 address is judged by that."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _INWARD_4)
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_6 and not any(address in network for network in _INWARD_6)


def literal(host: str) -> IPAddress | None:
    """The address that a host is written as; None for a name.

    Raises ValueError for what is neither: other ways of writing a number ("0x7f.1", "2130706433"), which
    resolvers take for addresses, and names of other characters.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return ip_address(bare)
    except ValueError:
        pass
    last = bare.rstrip(".").rpartition(".")[2]
    if _NUMBER.match(last) or not _NAME.match(bare):
        raise ValueError(f"no host name: {host[:60]!r}")
    return None
