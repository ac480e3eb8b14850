"""The topology that a URL names; the forms stand in `backendkit.stores.connect`."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import SplitResult, unquote

from backendkit.core.errors import InvalidArgument
from backendkit.stores.options import HIDDEN, Options
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.cluster import Cluster
from backendkit.stores.redis.dial import Dial, Tls
from backendkit.stores.redis.sentinel import SentinelMaster
from backendkit.stores.redis.topology import Single, Topology

REDIS_PORT = 6379
SENTINEL_PORT = 26379


def topology_of(parts: SplitResult, given: Options) -> Topology:
    """Return how to reach the servers that a URL names.

    Raises:
        InvalidArgument: naming the part of the URL, or the option, and the rule.
    """
    scheme, _, kind = parts.scheme.partition("+")
    path = unquote(parts.path)
    if scheme in {"redis", "rediss"} and not kind:
        _default_db(path.strip("/"), given)
    dial = _dial(parts, given, _tls(given) if scheme == "rediss" else None)
    if scheme == "unix":
        return _unix(parts, dial, path)
    match kind:
        case "sentinel":
            return _sentinel(parts, given, dial, path.strip("/"))
        case "cluster":
            return _cluster(parts, dial, path.strip("/"))
        case _:
            return _single(parts, dial)


def _default_db(path: str, given: Options) -> None:
    """Take the database from the path, where no option names one."""
    if path and not (path.isascii() and path.isdecimal()):
        raise InvalidArgument("url", "must have a database number as its path", HIDDEN)
    if path:
        given.default("db", path)


def _unix(parts: SplitResult, dial: Dial, path: str) -> Single:
    if parts.netloc.rpartition("@")[2] or path.strip("/") == "":
        rule = "must name an absolute path: unix:///run/redis.sock"
        raise InvalidArgument("url", rule, HIDDEN)
    return Single(dial, Address(path, 0))


def _single(parts: SplitResult, dial: Dial) -> Single:
    hosts = _hosts(parts, REDIS_PORT)
    if len(hosts) != 1:
        rule = "must name one host; several need +sentinel or +cluster"
        raise InvalidArgument("url", rule, len(hosts))
    return Single(dial, hosts[0])


def _sentinel(parts: SplitResult, given: Options, dial: Dial, service: str) -> SentinelMaster:
    if not service:
        raise InvalidArgument("url", "must name the service after the hosts", service)
    sentinel_dial = replace(
        dial,
        username=given.text("sentinel_username"),
        password=given.text("sentinel_password"),
        db=0,
    )
    return SentinelMaster(dial, _hosts(parts, SENTINEL_PORT), service, sentinel_dial)


def _cluster(parts: SplitResult, dial: Dial, path: str) -> Cluster:
    if path or dial.db:
        raise InvalidArgument("url", "must name no database: a Cluster has one", HIDDEN)
    return Cluster(dial, _hosts(parts, REDIS_PORT))


def _dial(parts: SplitResult, given: Options, tls: Tls | None) -> Dial:
    username, password = _user(parts)
    return Dial(
        username=given.text("username") or username,
        password=given.text("password") or password,
        db=given.whole("db", 0),
        protocol=given.whole("protocol", 2, least=2, most=3),
        tls=tls,
        timeout=given.seconds("timeout", 0.25),
        connect_timeout=given.seconds("connect_timeout", 0.25),
    )


def _tls(given: Options) -> Tls:
    return Tls(
        ca_file=given.text("tls_ca"),
        cert_file=given.text("tls_cert"),
        key_file=given.text("tls_key"),
        verify=given.flag("tls_verify", default=True),
        check_hostname=given.flag("tls_check_hostname", default=True),
    )


def _user(parts: SplitResult) -> tuple[str | None, str | None]:
    info, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None, None
    username, _, password = info.partition(":")
    return unquote(username) or None, unquote(password) or None


def _hosts(parts: SplitResult, port: int) -> list[Address]:
    return [_host(each, port) for each in parts.netloc.rpartition("@")[2].split(",")]


def _host(text: str, port: int) -> Address:
    found = _HOST.fullmatch(text)
    number = int(found["port"] or port) if found else 0
    if found is None or not 1 <= number <= 65535:
        raise InvalidArgument("url", "must list hosts as host, host:port or [IPv6]:port", HIDDEN)
    try:
        (found["name"] or "").encode("idna")
    except UnicodeError:
        # Not `from`: the error holds the text, and a piece of a password may stand in it.
        raise InvalidArgument("url", "must list hosts by names that DNS can hold", HIDDEN) from None
    return Address(found["v6"] or found["name"], number)


_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^\[\]:@/]+))(?::(?P<port>[0-9]{1,5}))?"
)
