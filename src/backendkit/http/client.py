"""Who asks: the client's address, behind the proxies that are trusted and no others.

`X-Forwarded-For` and RFC 7239 `Forwarded` are lists that every proxy appends to, so that they are read from the
right: what a trusted proxy has written is believed, what stands left of it may be anybody's invention. Anything
malformed falls back to the peer, the one address that cannot be forged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal, TypeAlias

from backendkit.core import checks
from backendkit.core.errors import InvalidArgument

Address: TypeAlias = IPv4Address | IPv6Address

MOST_KNOWN = 4096
"""Spellings of addresses whose key is kept ready."""

MOST_HOPS = 64
"""Elements that are read, from the right; what stands left of them is not worth the time."""

LONGEST_LINE = 4096
"""Characters of a `Forwarded` that are worth reading."""

UNKNOWN = "unknown"
"""The key of a peer without any address, as behind a Unix socket."""


class Networks:
    """Networks given as CIDR text; `Networks(["10.0.0.0/8"]).has("10.1.2.3")`.

    Raises:
        InvalidArgument: one is no network.
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str], *, argument: str = "networks") -> None:
        try:
            self._networks = tuple(ip_network(text) for text in networks)
        except ValueError as error:
            raise InvalidArgument(
                argument, "must be networks like '10.0.0.0/8'", str(error)
            ) from error

    def __bool__(self) -> bool:
        return bool(self._networks)

    def has(self, address: Address | None) -> bool:
        """Return whether an address lies in one of them; an IPv4-mapped one counts as the IPv4 address that it is."""
        return address is not None and any(
            address.version == network.version and address in network for network in self._networks
        )


class ClientAddress:
    """Finds a client's address, and the key that limits count it by.

    Args:
        trusted: networks of proxies that are believed, as CIDR text; empty: none is.
        hops: how many proxies there are, each of which appends one address; instead of `trusted`.
        header: which list they write. One only: what a proxy does not write itself it passes on, from anybody.
        ipv6_prefix: bits of an IPv6 address that tell clients apart, 32..128; a customer has a /64 at least.

    Raises:
        InvalidArgument: naming argument, rule and value.
    """

    __slots__ = ("_hops", "_known", "_prefix", "_trusted", "header")

    def __init__(
        self,
        trusted: Iterable[str] = (),
        *,
        hops: int = 0,
        header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for",
        ipv6_prefix: int = 64,
    ) -> None:
        self._trusted = Networks(trusted, argument="trusted")
        self._hops = checks.whole("hops", hops, most=32)
        self._prefix = checks.whole("ipv6_prefix", ipv6_prefix, least=32, most=128)
        if self._trusted and hops:
            raise InvalidArgument("hops", "must not be given beside trusted", hops)
        if header not in ("x-forwarded-for", "forwarded"):
            raise InvalidArgument("header", "must be 'x-forwarded-for' or 'forwarded'", header)
        self.header = header
        self._known: dict[str, str] = {}

    @property
    def trusts(self) -> bool:
        """Whether any proxy is believed."""
        return bool(self._trusted) or self._hops > 0

    def find(self, peer: str | None, lines: Sequence[str] = ()) -> str:
        """Return the client's address as text.

        Args:
            peer: the address at the other end of the connection, or None.
            lines: the values of all headers called `header`, in order.
        """
        if not lines or not self.trusts:
            return peer or UNKNOWN
        chain = self._chain(lines)
        if self._hops:
            found = chain[-self._hops] if len(chain) >= self._hops else None
            return peer or UNKNOWN if found is None else str(found)
        address = parse(peer or "")
        if address is None or not self._trusted.has(address):
            return peer or UNKNOWN
        for hop in reversed(chain):
            if hop is None:
                return peer or UNKNOWN
            address = hop
            if not self._trusted.has(hop):
                break
        return str(address)

    def key(self, peer: str | None, lines: Sequence[str] = ()) -> str:
        """Return what limits count the client by: an IPv4 address, an IPv6 network, or the peer's own text."""
        text = self.find(peer, lines)
        key = self._known.get(text)
        if key is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            key = self._known[text] = self._keyed(text)
        return key

    def _chain(self, lines: Sequence[str]) -> list[Address | None]:
        line = ",".join(lines)
        if self.header == "forwarded":
            return [_node(element) for element in _elements(line)[-MOST_HOPS:]]
        return [parse(element) for element in line.split(",")[-MOST_HOPS:]]

    def _keyed(self, text: str) -> str:
        address = parse(text)
        if address is None:
            return text[:256]
        if isinstance(address, IPv4Address):
            return str(address)
        bits = 128 - self._prefix
        return f"{IPv6Address(int(address) >> bits << bits)}/{self._prefix}"


def parse(text: str) -> Address | None:
    """Return the address in a text like `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`, else None.

    An IPv4 address mapped into IPv6 is the IPv4 address.
    """
    text = text.strip()
    if len(text) > 64:
        return None
    found = _WITH_PORT.fullmatch(text)
    if found is not None:
        text = found[1] or found[2]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _elements(line: str) -> list[str]:
    """Split `Forwarded` at commas that stand outside of quotes; quotes that never end make all of it malformed."""
    if len(line) > LONGEST_LINE:
        return [""]
    found = [match[0] for match in _ELEMENT.finditer(line)]
    return found if sum(map(len, found)) + len(found) - 1 == len(line) else [""]


def _node(element: str) -> Address | None:
    found = _FOR.search(element)
    return None if found is None else parse(found[1] if found[1] is not None else found[2])


_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d{1,5})?|(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}")
_ELEMENT = re.compile(r'(?:(?<=,)|^)(?:[^,"]|"(?:[^"\\]|\\.)*")*(?=,|$)')
_FOR = re.compile(r'(?:^|;)\s*for=(?:"([^"\\]*)"|([^;\s"]*))\s*(?:;|$)', re.IGNORECASE)
