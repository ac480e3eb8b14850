"""From a URL to a store.

    memory://?max_entries=100000
    redis://user:password@host:6379/0?timeout=0.1
    rediss://host/0?tls_ca=/etc/ssl/redis-ca.pem            TLS
    unix:///run/redis.sock?db=1
    redis+sentinel://h1:26379,h2,h3/service?db=0            the master of a service; rediss+sentinel:// for TLS
    redis+cluster://h1:7000,h2:7000                         a Cluster; rediss+cluster:// for TLS

Options stand in the query or are passed by keyword, which wins. A wrong one raises at once; no message shows a
password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from backendkit.core import checks
from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import InvalidArgument, MissingExtra
from backendkit.core.events import Hooks
from backendkit.core.store import Store
from backendkit.stores.guarded import FailurePolicy, Guarded
from backendkit.stores.memory import DEFAULT_MAX_BYTES, DEFAULT_MAX_ENTRIES, MemoryStore

if TYPE_CHECKING:
    from backendkit.stores.redis import Address, Dial, Tls, Topology

REDIS_PORT = 6379
SENTINEL_PORT = 26379


def connect(
    url: str,
    *,
    clock: Clock | None = None,
    hooks: Hooks | None = None,
    policy: FailurePolicy | None = None,
    now: Callable[[], int] | None = None,
    **options: str | float | bool,
) -> Store:
    """Return the store that `url` names. Nothing is sent before the first operation.

    Args:
        url: see the module's text.
        clock: the clock of features that share the store.
        hooks: who is told when a Redis goes down and comes back.
        policy: when it counts as down; Redis stores are guarded by it.
        now: for tests only: what scripts see as now, in microseconds.
        **options: `timeout` and `connect_timeout` (seconds, 0.001..60, default 0.25), `db` (0..), `protocol` (2 or 3),
            `username`, `password`, `tls_ca`, `tls_cert`, `tls_key` (PEM files), `tls_verify`, `tls_check_hostname`
            (yes or no), `sentinel_username`, `sentinel_password`; for memory `max_entries` and `max_bytes`.

    Raises:
        InvalidArgument: naming the option, the rule and the value.
        MissingExtra: a Redis URL without redis-py.
    """
    parts = urlsplit(url)
    given = _Options({**dict(parse_qsl(parts.query, keep_blank_values=True)), **options})
    if parts.scheme == "memory":
        store: Store = MemoryStore(
            max_entries=given.whole("max_entries", DEFAULT_MAX_ENTRIES, least=1),
            max_bytes=given.whole("max_bytes", DEFAULT_MAX_BYTES, least=1024),
            clock=clock,
        )
        given.finish()
        return store
    topology = _topology(parts, given)
    given.finish()
    from backendkit.stores.redis import RedisStore

    return Guarded(RedisStore(topology, clock=clock, now=now), policy, hooks=hooks)


def _topology(parts: SplitResult, given: _Options) -> Topology:
    scheme, _, kind = parts.scheme.partition("+")
    if parts.scheme not in _SCHEMES:
        raise InvalidArgument("url", f"must begin with one of {', '.join(_SCHEMES)}", parts.scheme)
    try:
        from backendkit.stores.redis import Address, Cluster, SentinelMaster, Single
    except ModuleNotFoundError as error:
        raise MissingExtra(f"a {parts.scheme} store", "redis-py", "redis") from error
    tls = _tls(given) if scheme == "rediss" else None
    user = _user(parts)
    path = unquote(parts.path)
    if scheme == "unix":
        return Single(_dial(given, user, tls), Address(path, 0))
    if kind == "sentinel":
        if not path.strip("/"):
            raise InvalidArgument("url", "must name the service after the hosts", path)
        sentinel_user = (given.text("sentinel_username"), given.text("sentinel_password"))
        dial = _dial(given, user, tls)
        sentinel_dial = _dial_of(dial, sentinel_user)
        return SentinelMaster(dial, _hosts(parts, SENTINEL_PORT), path.strip("/"), sentinel_dial)
    if kind == "cluster":
        if path.strip("/"):
            raise InvalidArgument("url", "must have no path: a Cluster has one database", path)
        return Cluster(_dial(given, user, tls), _hosts(parts, REDIS_PORT))
    hosts = _hosts(parts, REDIS_PORT)
    if len(hosts) != 1:
        raise InvalidArgument(
            "url", "must name one host; several need +sentinel or +cluster", len(hosts)
        )
    if path.strip("/"):
        given.default("db", path.strip("/"))
    return Single(_dial(given, user, tls), hosts[0])


def _dial(given: _Options, user: tuple[str | None, str | None], tls: Tls | None) -> Dial:
    from backendkit.stores.redis import Dial

    return Dial(
        username=given.text("username") or user[0],
        password=given.text("password") or user[1],
        db=given.whole("db", 0),
        protocol=given.whole("protocol", 2, least=2, most=3),
        tls=tls,
        timeout=given.seconds("timeout", 0.25),
        connect_timeout=given.seconds("connect_timeout", 0.25),
    )


def _dial_of(dial: Dial, user: tuple[str | None, str | None]) -> Dial:
    from dataclasses import replace

    return replace(dial, username=user[0], password=user[1], db=0)


def _tls(given: _Options) -> Tls:
    from backendkit.stores.redis import Tls

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
    listed = parts.netloc.rpartition("@")[2]
    return [_host(each, port) for each in listed.split(",")]


def _host(text: str, port: int) -> Address:
    from backendkit.stores.redis import Address

    host, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]"):  # no port; an IPv6 address stands in brackets
        host, digits = text, str(port)
    host = host.strip("[]")
    if not host or not digits.isdecimal() or not 1 <= int(digits) <= 65535:
        raise InvalidArgument("url", "must list hosts as host or host:port", text)
    return Address(host, int(digits))


class _Options:
    """Options by name, each taken once; what nobody took is an error."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = dict(given)

    def default(self, option: str, value: Any) -> None:
        """Give an option a value unless it has one."""
        self._given.setdefault(option, value)

    def text(self, option: str) -> str | None:
        value = self._given.pop(option, None)
        return None if value in (None, "") else str(value)

    def whole(
        self, option: str, default: int, *, least: int = 0, most: int = checks.LARGEST_INT
    ) -> int:
        value = self._given.pop(option, default)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        return checks.whole(option, value, least=least, most=most)

    def seconds(self, option: str, default: float) -> float:
        value = self._given.pop(option, default)
        try:
            seconds: object = float(value)
        except (TypeError, ValueError):
            seconds = value
        us = checks.duration_us(option, seconds, least_us=1_000, most_us=60 * SECOND_US)
        return us / SECOND_US

    def flag(self, option: str, *, default: bool) -> bool:
        value = self._given.pop(option, default)
        if isinstance(value, bool):
            return value
        if value not in _FLAGS:
            raise InvalidArgument(option, "must be yes or no", value)
        return _FLAGS[value]

    def finish(self) -> None:
        """Refuse what nobody took. Values are not shown: one of them may be a misspelt password."""
        if self._given:
            raise InvalidArgument(
                "url",
                "must have no options but those this kind of store knows",
                sorted(self._given),
            )


_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_SCHEMES = (
    "memory",
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
