"""The topology that a URL names; the forms stand in `backendkit.stores.connect`."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import SplitResult, unquote

from backendkit.core.errors import InvalidArgument
from backendkit.stores.options import Options
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.dial import Dial, Tls
from backendkit.stores.redis.topology import Cluster, SentinelMaster, Single, Topology

REDIS_PORT = 6379
SENTINEL_PORT = 26379


def topology_of(parts: SplitResult, given: Options) -> Topology:
    """Return how to reach the servers that a URL names.

    Raises:
        InvalidArgument: naming the part of the URL, or the option, and the rule.
    """
    scheme, _, kind = parts.scheme.partition("+")
    dial = _dial(parts, given, _tls(given) if scheme == "rediss" else None)
    path = unquote(parts.path)
    if scheme == "unix":
        return Single(dial, Address(path, 0))
    match kind:
        case "sentinel":
            return _sentinel(parts, given, dial, path.strip("/"))
        case "cluster":
            return _cluster(parts, dial, path.strip("/"))
        case _:
            return _single(parts, dial, path.strip("/"))


def _single(parts: SplitResult, dial: Dial, path: str) -> Single:
    hosts = _hosts(parts, REDIS_PORT)
    if len(hosts) != 1:
        rule = "must name one host; several need +sentinel or +cluster"
        raise InvalidArgument("url", rule, len(hosts))
    if path and not path.isdecimal():
        raise InvalidArgument("url", "must have a database number as its path", path)
    return Single(replace(dial, db=int(path)) if path else dial, hosts[0])


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
        raise InvalidArgument("url", "must name no database: a Cluster has one", path or dial.db)
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
    host, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]"):  # no port; an IPv6 address stands in brackets
        host, digits = text, str(port)
    host = host.strip("[]")
    if not host or not digits.isdecimal() or not 1 <= int(digits) <= 65535:
        raise InvalidArgument("url", "must list hosts as host or host:port", text)
    return Address(host, int(digits))
