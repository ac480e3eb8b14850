"""The client's address: behind trusted proxies and no others, and what limits count it by."""

from __future__ import annotations

from typing import Any

import pytest

from backendkit.http import ClientAddress
from backendkit.http.client import Networks, parse
from backendkit.http.limit_headers import text
from backendkit.ratelimit import Limit

TRUSTED = ("10.0.0.0/8", "2001:db8:ffff::/48")


@pytest.mark.parametrize(
    ("peer", "lines", "found"),
    [
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("198.51.100.9", ["6.6.6.6"], "198.51.100.9"),  # the peer is no proxy of ours
        ("10.0.0.1", ["6.6.6.6, rubbish"], "10.0.0.1"),
        ("10.0.0.1", ["rubbish, 198.51.100.7"], "198.51.100.7"),  # what stands left is not read
        ("10.0.0.1", ["198.51.100.7, "], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("2001:db8:ffff::1", ["[2001:db8:1:2::9]:443"], "2001:db8:1:2::9"),
        (None, ["198.51.100.7"], "unknown"),
    ],
)
def test_forwarded_for_is_read_from_the_right(
    peer: str | None, lines: list[str], found: str
) -> None:
    """What a trusted proxy wrote is believed; what stands left of it may be anybody's invention."""
    assert ClientAddress(TRUSTED).find(peer, lines) == found


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["for=198.51.100.7"], "198.51.100.7"),
        (['for=6.6.6.6;proto=http, For="198.51.100.7:80";by=10.0.0.1'], "198.51.100.7"),
        (['for="[2001:db8:1:2::9]:443"'], "2001:db8:1:2::9"),
        (['for="_hidden"'], "10.0.0.1"),
        (["for=unknown"], "10.0.0.1"),
        (["proto=https"], "10.0.0.1"),
        (['for="6.6.6.6, for=198.51.100.7'], "10.0.0.1"),
        (["for=6.6.6.6,,"], "10.0.0.1"),
    ],
)
def test_forwarded_is_read_from_the_right(lines: list[str], found: str) -> None:
    """RFC 7239; obfuscated and malformed elements fall back to the peer."""
    assert ClientAddress(TRUSTED, header="forwarded").find("10.0.0.1", lines) == found


@pytest.mark.parametrize(
    ("hops", "lines", "found"),
    [
        (1, ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        (2, ["6.6.6.6, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        (2, ["198.51.100.7"], "192.0.2.1"),
        (1, ["rubbish"], "192.0.2.1"),
    ],
)
def test_hops_count_from_the_right(hops: int, lines: list[str], found: str) -> None:
    """Each of so many proxies has appended one address; fewer than that is malformed."""
    assert ClientAddress(hops=hops).find("192.0.2.1", lines) == found


def test_invented_addresses_are_one_key_without_trust() -> None:
    """10**5 values of a header that nobody of ours has written."""
    client = ClientAddress()
    keys = {
        client.key("192.0.2.1", [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"]) for n in range(10**5)
    }
    assert keys == {"192.0.2.1"}


def test_keys_fold_what_is_one_client() -> None:
    """An IPv4 address mapped into IPv6 is itself; two addresses of a /64 are one customer."""
    client = ClientAddress()
    assert client.key("::ffff:1.2.3.4") == client.key("1.2.3.4") == "1.2.3.4"
    assert client.key("::FFFF:0102:0304") == "1.2.3.4"
    assert (
        client.key("2001:db8:1:2::1") == client.key("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    )
    assert client.key("2001:db8:1:3::1") != client.key("2001:db8:1:2::1")
    assert ClientAddress(ipv6_prefix=48).key("2001:db8:1:2::1") == "2001:db8:1::/48"
    assert client.key("fe80::1%eth0") == "fe80::/64"
    assert client.key("testclient") == "testclient"
    assert client.key(None) == "unknown"


@pytest.mark.parametrize("wrong", ["", "1.2.3", "1.2.3.4.5", "999.1.1.1", "[::1", "x" * 100, "::g"])
def test_what_is_no_address_is_none(wrong: str) -> None:
    """It never becomes a key of its own making."""
    assert parse(wrong) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trusted": ["10.0.0.1/8"]}, "trusted must be networks"),
        ({"trusted": ["10.0.0.0/8"], "hops": 1}, "hops must not be given beside trusted"),
        ({"hops": -1}, "hops must be in 0..32"),
        ({"ipv6_prefix": 16}, "ipv6_prefix must be in 32..128"),
        ({"header": "x-real-ip"}, "header must be"),
    ],
)
def test_what_is_wrong_is_said(options: Any, said: str) -> None:
    """At start, not at the first request."""
    with pytest.raises(ValueError, match=said):
        ClientAddress(**options)


def test_networks_hold_both_families() -> None:
    """A mapped address lies in the IPv4 network that it belongs to."""
    networks = Networks(["192.0.2.0/24", "2001:db8::/32"])
    assert networks.has(parse("::ffff:192.0.2.9"))
    assert networks.has(parse("2001:db8::1"))
    assert not networks.has(parse("192.0.3.1"))
    assert not networks.has(None)


def test_names_are_quoted_as_structured_fields_want() -> None:
    """RFC 9651 section 4.1.6; names are printable ASCII, so that this is always possible."""
    assert text(Limit('a"b\\c', "1/s").name) == '"a\\"b\\\\c"'
