"""Which addresses are public, however they are written."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from bot.core.addresses import is_public, literal

INWARD = [
    "127.0.0.1",
    "0.0.0.0",  # noqa: S104 - it is refused
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.8",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12::1",
    "fec0::1",
    "ff02::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "100::1",
    "5f00::1",
]
OUTWARD = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "172.32.0.1",
    "2606:4700::1111",
    "64:ff9b::101:101",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("address", INWARD)
def test_an_inward_address_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", OUTWARD)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "0x7f.1",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f000001",
        "a.0x1",
        "1.2.3.4.5",
        "a b",
        "",
        "-",
        "ex%61mple.com",
    ],
)
def test_an_odd_way_of_writing_an_address_is_no_host(host: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        literal(host)


def test_a_host_is_a_name_or_an_address() -> None:
    assert literal("cdn.example.com") is None
    assert literal("xn--bcher-kva.example.") is None
    assert literal("[::1]") == ip_address("::1")
    assert literal("8.8.8.8") == ip_address("8.8.8.8")
