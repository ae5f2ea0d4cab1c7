"""Which addresses a link that somebody else wrote may lead to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from bot.core.addresses import is_public, literal


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - looked at, not bound
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001:db8::1",
    ],
)
def test_what_is_inward_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_the_rest_is_public(text: str) -> None:
    assert is_public(ip_address(text))


def test_a_host_is_an_address_or_a_name() -> None:
    assert literal("93.184.216.34") == ip_address("93.184.216.34")
    assert literal("[::1]") == ip_address("::1")
    assert literal("hooks.example") is None


@pytest.mark.parametrize("text", ["0x7f.1", "2130706433", "127.1", "0177.0.0.1", "a b", "", "-x", "ex ample"])
def test_numbers_that_resolvers_take_for_addresses_are_no_hosts(text: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        literal(text)
