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

from collections.abc import Callable
from urllib.parse import SplitResult, parse_qsl, urlsplit

from backendkit.core.clock import Clock
from backendkit.core.errors import InvalidArgument, MissingExtra
from backendkit.core.events import Hooks
from backendkit.core.store import Store
from backendkit.stores.circuit import FailurePolicy
from backendkit.stores.guarded import Guarded
from backendkit.stores.memory import DEFAULT_MAX_BYTES, DEFAULT_MAX_ENTRIES, MemoryStore
from backendkit.stores.options import HIDDEN, Options


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
        policy: when it counts as down; Redis stores are guarded by it. None: after two reply timeouts within a second, or
            within four times `timeout` where that is longer.
        now: for tests only: what scripts see as now, in microseconds.
        **options: `timeout` and `connect_timeout` (seconds, 0.001..60, default 0.25), `db` (0..), `protocol` (2 or 3),
            `username`, `password`, `tls_ca`, `tls_cert`, `tls_key` (PEM files), `tls_verify`, `tls_check_hostname`
            (yes or no), `sentinel_username`, `sentinel_password`; for memory `max_entries` and `max_bytes`.

    Raises:
        InvalidArgument: naming the option, the rule and the value.
        MissingExtra: a Redis URL without redis-py.
    """
    parts = _split(url)
    given = Options({**dict(parse_qsl(parts.query, keep_blank_values=True)), **options})
    if parts.scheme == "memory":
        return _memory(parts, given, clock)
    try:
        # Here, and not above: who uses the memory store needs no redis-py.
        from backendkit.stores.redis import RedisStore  # noqa: PLC0415
        from backendkit.stores.redis.from_url import topology_of  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra(f"a {parts.scheme} store", "redis-py", "redis") from error
    topology = topology_of(parts, given)
    given.finish()
    if policy is None:
        # Of callers who wait one after the other the second is told a whole timeout after the first.
        policy = FailurePolicy(within=max(1.0, 4 * topology.dial.timeout))
    return Guarded(RedisStore(topology, clock=clock, now=now), policy, hooks=hooks)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may quote a password, and so may its place in a traceback
        parts = None
    if parts is None:
        raise InvalidArgument("url", "must be a URL", HIDDEN, fix=_ESCAPE)
    if parts.scheme not in _SCHEMES:
        rule = f"must begin with one of {', '.join(_SCHEMES)}"
        raise InvalidArgument("url", rule, parts.scheme)
    if parts.fragment:
        raise InvalidArgument("url", "must have no fragment", HIDDEN, fix=_ESCAPE)
    return parts


def _memory(parts: SplitResult, given: Options, clock: Clock | None) -> MemoryStore:
    if parts.netloc or parts.path:
        raise InvalidArgument("url", "must name nothing after memory://", HIDDEN)
    store = MemoryStore(
        max_entries=given.whole("max_entries", DEFAULT_MAX_ENTRIES, least=1),
        max_bytes=given.whole("max_bytes", DEFAULT_MAX_BYTES, least=1024),
        clock=clock,
    )
    given.finish()
    return store


_ESCAPE = "write characters that mean something in a URL as %23 (#), %2F (/), %3F (?), %40 (@), in a password too"
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
