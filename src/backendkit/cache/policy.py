"""How a cache treats its entries, and how far apart its processes may drift: frozen options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.core.operation import Copies

LONGEST_US = 90 * 86_400 * SECOND_US
"""No entry lives longer: 90 days."""

Sharing: TypeAlias = Literal["safe", "shared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """What holds for an entry; durations are a `timedelta` or seconds, an hour at the most where not said.

    Attributes:
        ttl: how long it is fresh, from 1 ms to 90 days. There are no entries without an end.
        l1_ttl: how long at the most in this process; None: as long as `ttl`.
        negative_ttl: how long a None is fresh; None: `ttl`.
        max_stale: how long after `ttl` it may still serve where nothing fresh can be had, to 90 days; 0: never.
        stale_while_revalidate: how long after `ttl` it serves at once while one load runs behind; within `max_stale`.
        fail_safe: whether a loader's error is answered by what is stale, instead of raised.
        fail_safe_throttle: how long it then serves before the loader is tried again.
        soft_timeout: after how long a load goes on behind, if there is something stale to serve; None: never.
        hard_timeout: after how long a load goes on behind, and `LoadTimeout` is raised, unless `fail_safe` has something
            stale to serve; None: never. On the synchronous face loads with a timeout run in threads, 64 of a cache at
            once; beyond that a caller waits for a free one, no longer than its timeout.
        beta: how eagerly entries are refreshed before they expire (XFetch); 1 is the optimum of its authors, 0 off.
        jitter: by up to which share of itself a time to live is shortened, 0..0.5, against mass expiry.
        max_wait: how long a load of another process is waited for before this one loads for itself.
        sharing: `safe`: callers may change what they get; `shared`: they promise not to, and all get one object.
    """

    ttl: Duration = 60.0
    l1_ttl: Duration | None = None
    negative_ttl: Duration | None = None
    max_stale: Duration = 0.0
    stale_while_revalidate: Duration = 0.0
    fail_safe: bool = True
    fail_safe_throttle: Duration = 1.0
    soft_timeout: Duration | None = None
    hard_timeout: Duration | None = None
    beta: float = 1.0
    jitter: float = 0.0
    max_wait: Duration = 30.0
    sharing: Sharing = "safe"
    ttl_us: int = field(init=False, repr=False, default=0)
    l1_ttl_us: int = field(init=False, repr=False, default=0)
    negative_us: int = field(init=False, repr=False, default=0)
    stale_us: int = field(init=False, repr=False, default=0)
    revalidate_us: int = field(init=False, repr=False, default=0)
    throttle_us: int = field(init=False, repr=False, default=0)
    soft_us: int | None = field(init=False, repr=False, default=None)
    hard_us: int | None = field(init=False, repr=False, default=None)
    wait_us: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        put = object.__setattr__  # of a frozen class, in its own making
        put(self, "ttl_us", lifetime_us("ttl", self.ttl))
        for name, own, wanted in (
            ("l1_ttl", "l1_ttl_us", self.l1_ttl),
            ("negative_ttl", "negative_us", self.negative_ttl),
        ):
            put(self, own, self.ttl_us if wanted is None else lifetime_us(name, wanted))
        put(self, "stale_us", _span("max_stale", self.max_stale, LONGEST_US))
        put(
            self,
            "revalidate_us",
            _span("stale_while_revalidate", self.stale_while_revalidate, self.stale_us),
        )
        put(self, "throttle_us", _span("fail_safe_throttle", self.fail_safe_throttle))
        put(self, "wait_us", _span("max_wait", self.max_wait))
        for name, own, given in (
            ("soft_timeout", "soft_us", self.soft_timeout),
            ("hard_timeout", "hard_us", self.hard_timeout),
        ):
            put(self, own, None if given is None else _span(name, given, least=1_000))
        _number("beta", self.beta, 100)
        _number("jitter", self.jitter, 0.5)
        if self.sharing not in ("safe", "shared"):
            raise InvalidArgument("sharing", "must be 'safe' or 'shared'", self.sharing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coherence:
    """How the processes of a fleet keep in step; durations are a `timedelta` or seconds.

    Attributes:
        max_l1_staleness: how long after an invalidation another process may at the most serve what it has, whatever
            happens to the network; 0.05 to 3,600.
        channel: whether processes tell each other; without it every entry counts for `max_l1_staleness` only.
        lease: how long a load's lease holds unless it is renewed, 0.1 to 60.
        replication_window: how far replicas may lag behind while their primary answers: own invalidations since so long before
            its last answered heartbeat are kept, to be repeated after a failover that lost them.
        on_restart: what follows when another server answers than before: `replay` own invalidations, sets too, as
            invalidations of their keys; or `clear` the namespace as well. Of more than 100,000 in the window it is cleared, too.
        on_unreachable: an invalidation that cannot reach the server is raised (`raise`), or kept and sent as soon as
            possible (`queue`): until then this process does not trust the server's entry.
        wait_replicas: how many replicas must have an invalidation before it returns; 0: none. Where they have it not in time, it
            raises `NotReplicated`, whatever `on_unreachable` says: it has been carried out, here as well, and is repeated after a failover.
        wait_timeout: how long they are waited for, 1 ms to 60 s; at the most four fifths of the store's timeout.
        max_queue: invalidations in that queue; beyond it the whole namespace is not trusted.
        fail_safe_when_blind: whether what is stale may serve while nobody tells of invalidations.
        strict: whether reads and loads raise the cache's own failures.
    """

    max_l1_staleness: Duration = 2.0
    channel: bool = True
    lease: Duration = 1.0
    replication_window: Duration = 10.0
    on_restart: Literal["replay", "clear"] = "replay"
    on_unreachable: Literal["raise", "queue"] = "raise"
    wait_replicas: int = 0
    wait_timeout: Duration = 0.1
    max_queue: int = 10_000
    fail_safe_when_blind: bool = True
    strict: bool = False
    staleness_us: int = field(init=False, repr=False, default=0)
    lease_us: int = field(init=False, repr=False, default=0)
    window_us: int = field(init=False, repr=False, default=0)
    copies: Copies | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "staleness_us", _span("max_l1_staleness", self.max_l1_staleness, least=50_000))
        put(self, "lease_us", _span("lease", self.lease, 60 * SECOND_US, least=100_000))
        put(self, "window_us", _span("replication_window", self.replication_window))
        checks.whole("max_queue", self.max_queue, least=0)
        wait_us = _span("wait_timeout", self.wait_timeout, 60 * SECOND_US, least=1_000)
        if checks.whole("wait_replicas", self.wait_replicas, least=0):
            put(self, "copies", Copies(self.wait_replicas, wait_us))
        for name, value, allowed in (
            ("on_restart", self.on_restart, ("replay", "clear")),
            ("on_unreachable", self.on_unreachable, ("raise", "queue")),
        ):
            if value not in allowed:
                raise InvalidArgument(name, f"must be one of {', '.join(allowed)}", value)


def lifetime_us(argument: str, value: Duration) -> int:
    """Return a time to live in microseconds, checked."""
    return checks.duration_us(argument, value, least_us=1_000, most_us=LONGEST_US)


def _span(argument: str, value: Duration, most: int = 3_600 * SECOND_US, *, least: int = 0) -> int:
    return checks.duration_us(argument, value, least_us=least, most_us=most)


def _number(argument: str, value: float, most: float) -> None:
    if not 0 <= value <= most:
        raise InvalidArgument(argument, f"must be in 0..{most:g}", value)
